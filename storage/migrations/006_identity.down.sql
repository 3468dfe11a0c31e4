DROP TABLE audit_log, revoked_tokens, api_keys;
DROP FUNCTION audit_log_refuse();
DROP TRIGGER users_truncated ON users;
DROP TRIGGER users_identity ON users;
ALTER TABLE users DROP COLUMN tokens_valid_from;
ALTER TABLE users DROP COLUMN team_id;
DROP TABLE teams;
DROP FUNCTION identity_version_bump();
DROP TABLE identity_version;

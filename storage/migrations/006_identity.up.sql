-- Teams, API keys, what is revoked, who did what, and one number that tells every process when to look
-- again.
CREATE TABLE teams (
    id                   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name                 text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    models               text[] NOT NULL DEFAULT '{}',  -- patterns; empty: all
    requests_per_minute  integer CHECK (requests_per_minute > 0),
    tokens_per_minute    bigint CHECK (tokens_per_minute > 0),
    budget_nano_usd      bigint CHECK (budget_nano_usd >= 0),
    budget_period        text NOT NULL DEFAULT 'total'
                         CHECK (budget_period IN ('total', 'day', 'week', 'month')),
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE users ADD COLUMN team_id uuid REFERENCES teams ON DELETE SET NULL;
ALTER TABLE users ADD COLUMN tokens_valid_from timestamptz;  -- tokens issued before are void

CREATE TABLE api_keys (
    id                   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id             uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    team_id              uuid REFERENCES teams ON DELETE RESTRICT,  -- a key does not lose its limits
    name                 text NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    prefix               text NOT NULL,                  -- its first characters, to recognise it by
    key_sha256           bytea NOT NULL UNIQUE CHECK (octet_length(key_sha256) = 32),
    scopes               text[] NOT NULL DEFAULT '{}',   -- empty: what the owner's role allows
    models               text[] NOT NULL DEFAULT '{}',   -- patterns; empty: all
    requests_per_minute  integer CHECK (requests_per_minute > 0),
    tokens_per_minute    bigint CHECK (tokens_per_minute > 0),
    budget_nano_usd      bigint CHECK (budget_nano_usd >= 0),
    budget_period        text NOT NULL DEFAULT 'total'
                         CHECK (budget_period IN ('total', 'day', 'week', 'month')),
    expires_at           timestamptz,
    last_used_at         timestamptz,
    revoked_at           timestamptz,
    created_at           timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX api_keys_owner_name ON api_keys (owner_id, name) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_team ON api_keys (team_id) WHERE team_id IS NOT NULL;
CREATE INDEX users_team ON users (team_id) WHERE team_id IS NOT NULL;

-- The durable copy; Redis tells it faster. Rows may go once the token has expired by itself.
CREATE TABLE revoked_tokens (
    jti         text PRIMARY KEY CHECK (length(jti) BETWEEN 1 AND 128),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX revoked_tokens_expiry ON revoked_tokens (expires_at);

CREATE TABLE audit_log (
    id          bigserial PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    actor       text NOT NULL,
    actor_ip    inet,
    action      text NOT NULL,
    target      text,
    outcome     text NOT NULL,
    request_id  text,
    detail      jsonb
);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_actor ON audit_log (actor, id DESC);
CREATE INDEX audit_log_action ON audit_log (action, id DESC);

CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_refuse();

-- Moves when anything changes that decides who may do what. Every process reads it twice a second and
-- verifies again what it remembers when it has moved. The row's lock makes such changes happen one
-- after the other, so whoever sees a number also sees all that led to it.
CREATE TABLE identity_version (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version   bigint NOT NULL
);
INSERT INTO identity_version (version) VALUES (1);

CREATE FUNCTION identity_version_bump() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE identity_version SET version = version + 1;
    RETURN NULL;
END $$;

-- Not failed_logins, locked_until, password_hash, email: they decide about the next login only.
CREATE TRIGGER users_identity AFTER INSERT OR DELETE
    OR UPDATE OF user_id, role, disabled, team_id, tokens_valid_from ON users
    FOR EACH STATEMENT EXECUTE FUNCTION identity_version_bump();
CREATE TRIGGER teams_identity AFTER INSERT OR DELETE
    OR UPDATE OF name, models, requests_per_minute, tokens_per_minute, budget_nano_usd, budget_period
    ON teams
    FOR EACH STATEMENT EXECUTE FUNCTION identity_version_bump();
-- Not last_used_at.
CREATE TRIGGER api_keys_identity AFTER INSERT OR DELETE
    OR UPDATE OF owner_id, team_id, name, prefix, key_sha256, scopes, models, requests_per_minute,
    tokens_per_minute, budget_nano_usd, budget_period, expires_at, revoked_at ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION identity_version_bump();
CREATE TRIGGER revoked_tokens_identity AFTER INSERT ON revoked_tokens
    FOR EACH STATEMENT EXECUTE FUNCTION identity_version_bump();
CREATE TRIGGER users_truncated AFTER TRUNCATE ON users
    FOR EACH STATEMENT EXECUTE FUNCTION identity_version_bump();
CREATE TRIGGER api_keys_truncated AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION identity_version_bump();

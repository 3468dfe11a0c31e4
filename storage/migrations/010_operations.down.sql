DROP TABLE backup_runs;
DROP TABLE prompt_versions;
DROP TABLE idempotency_keys;

-- Replay protection, prompt provenance, backups.
CREATE TABLE idempotency_keys (
    owner_id        text NOT NULL,  -- a principal's subject: also those without a row in users
    key             text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    route           text NOT NULL,
    request_sha256  bytea NOT NULL CHECK (octet_length(request_sha256) = 32),
    status          integer,        -- NULL while the first request runs
    response        jsonb,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (owner_id, key, route)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

CREATE TABLE prompt_versions (
    name        text NOT NULL,
    version     text NOT NULL,
    sha256      bytea NOT NULL CHECK (octet_length(sha256) = 32),
    first_seen  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version, sha256)
);

CREATE TABLE backup_runs (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind         text NOT NULL CHECK (kind IN ('backup', 'verify', 'restore')),
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    file         text,
    bytes        bigint,
    sha256       bytea CHECK (octet_length(sha256) = 32),
    ok           boolean
);

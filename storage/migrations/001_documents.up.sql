-- Uploaded documents and what was read from them. Ids are made by the gateway; owner_id gets its foreign
-- key in 005, when there are users.
CREATE TABLE documents (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id      uuid,
    filename      text NOT NULL,
    storage_name  text NOT NULL UNIQUE,
    sha256        bytea NOT NULL CHECK (octet_length(sha256) = 32),
    size          bigint NOT NULL CHECK (size >= 0),
    mime          text NOT NULL,
    status        text NOT NULL DEFAULT 'stored'
                  CHECK (status IN ('stored', 'queued', 'processing', 'done', 'failed')),
    metadata      jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz
);
-- Deduplication per owner; what was deleted may come again.
CREATE UNIQUE INDEX documents_owner_sha256 ON documents (owner_id, sha256) NULLS NOT DISTINCT
    WHERE deleted_at IS NULL;

CREATE TABLE document_extractions (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    document_id     uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    fields          jsonb NOT NULL,
    raw_text        text,
    confidence      real CHECK (confidence BETWEEN 0 AND 1),
    provider        text,
    model           text,
    prompt_name     text,
    prompt_version  text,
    detail_level    text,
    cost_nano_usd   bigint,
    duration_ms     bigint,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX document_extractions_document ON document_extractions (document_id, created_at DESC);

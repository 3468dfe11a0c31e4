-- Ingested knowledge and the jobs that ingest it.
CREATE TABLE knowledge_sources (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id       uuid REFERENCES users ON DELETE CASCADE,
    type           text NOT NULL CHECK (type IN ('text', 'markdown', 'html', 'pdf', 'openapi', 'url')),
    title          text NOT NULL,
    uri            text,
    sha256         bytea CHECK (octet_length(sha256) = 32),
    chunk_size     integer NOT NULL CHECK (chunk_size BETWEEN 100 AND 8000),
    chunk_overlap  integer NOT NULL CHECK (chunk_overlap >= 0 AND chunk_overlap < chunk_size),
    status         text NOT NULL DEFAULT 'queued'
                   CHECK (status IN ('queued', 'processing', 'done', 'failed')),
    error          text,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE knowledge_chunks (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    source_id        uuid NOT NULL REFERENCES knowledge_sources ON DELETE CASCADE,
    seq              integer NOT NULL,
    text             text NOT NULL,
    token_count      integer,
    tsv              tsvector GENERATED ALWAYS AS (to_tsvector('simple', text)) STORED,
    embedding        real[],
    embedding_model  text,
    embedding_dim    integer CHECK (embedding_dim BETWEEN 1 AND 4096),
    UNIQUE (source_id, seq),
    CHECK (embedding IS NULL OR array_length(embedding, 1) = embedding_dim)
);

CREATE TABLE jobs (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id      uuid REFERENCES users ON DELETE CASCADE,
    kind          text NOT NULL,
    status        text NOT NULL DEFAULT 'queued'
                  CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    progress      real NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    payload       jsonb NOT NULL DEFAULT '{}',
    result        jsonb,
    error         jsonb,
    attempts      integer NOT NULL DEFAULT 0,
    locked_by     text,
    locked_until  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz
);

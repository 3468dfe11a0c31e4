-- What every call cost. Rows come in batches by COPY, together with the spool position behind them, so
-- that a replay doubles nothing. No foreign keys and as good as no checks: the ledger must never refuse
-- a row that was paid for. Partitioned by month of `at` in UTC; what no partition takes is in the default
-- one.
CREATE TABLE provider_calls (
    at                timestamptz NOT NULL,
    spool_id          uuid NOT NULL,
    spool_pos         bigint NOT NULL,
    request_id        text,
    idempotency_key   text,
    owner_id          uuid,
    key_id            uuid,
    team_id           uuid,
    subject           text,
    provider          text,
    model             text,
    asked_model       text,
    surface           text,
    purpose           text,
    status            text,
    cache             text,
    stream            boolean,
    attempts          integer,
    fallback_index    integer,
    usage_known       boolean,
    tokens_in         bigint,
    cache_read        bigint,
    cache_write       bigint,
    tokens_out        bigint,
    reasoning         bigint,
    cost_nano_usd     bigint,  -- NULL: unknown
    avoided_nano_usd  bigint,
    duration_us       bigint,
    first_token_us    bigint,
    price_version     text,
    raw_usage         jsonb,
    PRIMARY KEY (at, spool_id, spool_pos)
) PARTITION BY RANGE (at);
CREATE INDEX provider_calls_key ON provider_calls (key_id, at) WHERE key_id IS NOT NULL;
CREATE INDEX provider_calls_owner ON provider_calls (owner_id, at) WHERE owner_id IS NOT NULL;
CREATE INDEX provider_calls_team ON provider_calls (team_id, at) WHERE team_id IS NOT NULL;
CREATE INDEX provider_calls_request ON provider_calls (request_id) WHERE request_id IS NOT NULL;
CREATE TABLE provider_calls_default PARTITION OF provider_calls DEFAULT;

-- How far each spool file is in the table; written in the transaction of the batch.
CREATE TABLE ledger_progress (
    spool_id    uuid PRIMARY KEY,
    pos         bigint NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Rolled up by the writer of a batch, in the same transaction.
CREATE TABLE usage_daily (
    day                 date NOT NULL,
    owner_id            uuid,
    key_id              uuid,
    team_id             uuid,
    provider            text,
    model               text,
    purpose             text,
    calls               bigint NOT NULL DEFAULT 0,
    cached              bigint NOT NULL DEFAULT 0,
    tokens_in           bigint NOT NULL DEFAULT 0,
    tokens_out          bigint NOT NULL DEFAULT 0,
    cache_read          bigint NOT NULL DEFAULT 0,
    cost_nano_usd       bigint NOT NULL DEFAULT 0,  -- of the calls whose cost is known
    unknown_cost_calls  bigint NOT NULL DEFAULT 0,
    avoided_nano_usd    bigint NOT NULL DEFAULT 0,
    UNIQUE NULLS NOT DISTINCT (day, owner_id, key_id, team_id, provider, model, purpose)
);

CREATE TABLE circuit_events (
    id          bigserial PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    name        text NOT NULL,
    from_state  text NOT NULL,
    to_state    text NOT NULL,
    reason      text,
    instance    text
);
CREATE INDEX circuit_events_name ON circuit_events (name, at);

-- Makes the partitions of this month and of `ahead` months after it that are missing, and gives their
-- number. Rows that had gone to the default partition move. A partition is made beside the table and
-- attached, which lets reads and writes of the other partitions go on. It locks only when one is
-- missing, waits for that at most three seconds, and may be called by all processes at once.
CREATE FUNCTION ledger_partitions(ahead integer) RETURNS integer LANGUAGE plpgsql
    SET lock_timeout = '3s' SET timezone = 'UTC' AS $$
DECLARE
    lower_end timestamptz;
    upper_end timestamptz;
    part text;
    made integer := 0;
BEGIN
    FOR i IN 0..ahead LOOP
        lower_end := date_trunc('month', now()) + make_interval(months => i);
        upper_end := lower_end + interval '1 month';
        part := 'provider_calls_' || to_char(lower_end, 'YYYY_MM');
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        LOCK TABLE provider_calls_default IN ACCESS EXCLUSIVE MODE;
        CONTINUE WHEN to_regclass(part) IS NOT NULL;  -- another process was faster
        EXECUTE format('CREATE TABLE %I (LIKE provider_calls INCLUDING DEFAULTS INCLUDING INDEXES)', part);
        EXECUTE format('WITH moved AS (DELETE FROM provider_calls_default WHERE at >= %L AND at < %L '
            'RETURNING *) INSERT INTO %I SELECT * FROM moved', lower_end, upper_end, part);
        EXECUTE format('ALTER TABLE provider_calls ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            part, lower_end, upper_end);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Drops the partitions that hold nothing from `limit_at` on, and such rows of the default partition.
-- Gives the number of partitions dropped.
CREATE FUNCTION ledger_drop_before(limit_at timestamptz) RETURNS integer LANGUAGE plpgsql
    SET lock_timeout = '3s' SET timezone = 'UTC' AS $$
DECLARE
    part record;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'provider_calls'::regclass AND c.relname ~ '^provider_calls_\d{4}_\d\d$'
        ORDER BY c.relname
    LOOP
        CONTINUE WHEN to_timestamp(right(part.relname, 7), 'YYYY_MM') + interval '1 month' > limit_at;
        EXECUTE format('DROP TABLE %I', part.relname);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM provider_calls_default WHERE at < limit_at;
    RETURN dropped;
END $$;

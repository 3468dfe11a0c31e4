DROP FUNCTION ledger_drop_before(timestamptz);
DROP FUNCTION ledger_partitions(integer);
DROP TABLE circuit_events;
DROP TABLE usage_daily;
DROP TABLE ledger_progress;
DROP TABLE provider_calls;

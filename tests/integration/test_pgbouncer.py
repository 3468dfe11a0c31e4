"""The whole gateway through PgBouncer in transaction mode: nothing it does may live in a session."""
import concurrent.futures
import secrets
import time

import pytest

from pgbouncer import PgBouncer


@pytest.fixture
def bouncer(postgres):
    """Two server connections for all of the gateway's: each transaction gets another one."""
    with PgBouncer(postgres, default_pool_size=2) as b:
        yield b


def wait_for(what, timeout=30):
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_gateway_with_workers_runs_through_pgbouncer(bouncer, postgres, redis, make_gateway):
    gw = make_gateway(pg=bouncer, redis=redis, env={"API_WORKERS": "2"})
    wait_for(lambda: gw.get("/api/v1/health").json["checks"]["schema"] == "current")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: gw.chat(text="call %d" % n), range(100)))
    assert [a.status for a in answers] == [200] * 100
    health = gw.get("/api/v1/health").json
    assert health["status"] == "healthy", health
    assert not [line for line in gw.log_lines() if line["level"] == "error"], gw.log()


def add_key(db, name, budget="NULL"):
    """A user of that name with one key; the key's text."""
    key = "pk-" + secrets.token_urlsafe(32)
    db.psql("WITH u AS (INSERT INTO users (user_id) VALUES ('%s') RETURNING id) INSERT INTO api_keys "
            "(owner_id, name, prefix, key_sha256, budget_nano_usd) "
            "SELECT id, '%s', '%s', sha256('%s'), %s FROM u" % (name, name, key[:11], key, budget))
    return key


def bearer(key):
    return {"Authorization": "Bearer " + key}


def test_keys_budgets_and_the_ledger_run_through_pgbouncer(bouncer, postgres, redis, make_gateway):
    gw = make_gateway(pg=bouncer, redis=redis, env={"API_WORKERS": "2"})
    keys = [add_key(postgres, "user%d" % i, budget=1000000000) for i in range(8)]

    def call(n):
        return gw.chat(text="call %d" % n, headers=bearer(keys[n % 8])).status

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, range(200))) == [200] * 200
    wait_for(lambda: postgres.one("SELECT count(*) FROM provider_calls") == "200")
    assert postgres.psql("SELECT count(*) FROM provider_calls GROUP BY key_id") == [["25"]] * 8
    assert postgres.one("SELECT sum(calls) FROM usage_daily") == "200"

    postgres.psql("UPDATE api_keys SET revoked_at = now() WHERE name = 'user3'")
    wait_for(lambda: {gw.chat(headers=bearer(keys[3])).status for _ in range(8)} == {401})
    assert gw.chat(headers=bearer(keys[4])).status == 200
    assert not [line for line in gw.log_lines() if line["level"] == "error"], gw.log()


def test_nothing_of_the_gateways_stays_in_the_servers_sessions(bouncer, postgres, redis, make_gateway):
    """Other clients share the sessions: they find no setting, statement, lock or transaction in them."""
    gw = make_gateway(pg=bouncer, redis=redis)
    key = add_key(postgres, "ada")
    assert gw.chat(headers=bearer(key)).status == 200
    wait_for(lambda: postgres.one("SELECT count(*) FROM provider_calls") == "1")
    for _ in range(4):
        assert bouncer.one("SELECT count(*) FROM pg_prepared_statements") == "0"
        assert bouncer.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"
        assert bouncer.one("SELECT count(*) FROM pg_settings WHERE source = 'session' AND name NOT IN "
                           "('application_name', 'client_encoding', 'DateStyle', 'TimeZone', "
                           "'standard_conforming_strings')") == "0"
    assert postgres.one("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND state LIKE 'idle in transaction%' "
                        "AND state_change < now() - interval '5 seconds'") == "0"

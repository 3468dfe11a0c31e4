"""The whole gateway through PgBouncer in transaction mode: nothing it does may live in a session."""
import concurrent.futures
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

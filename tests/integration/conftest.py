"""Fixtures: the stand-in provider, Postgres, Redis and the gateway, as real processes on private ports.

`postgres` and `redis` belong to all tests: look and write, but break only what `make_postgres` and
`make_redis` start.

tests/run.sh has several workers (pytest-xdist), each with servers of its own and one file at a time
(`--dist loadfile`): what is of a file is never used by two."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from gateway import Gateway  # noqa: E402
from postgres import MIGRATED, Postgres  # noqa: E402
from redisd import Redis  # noqa: E402
from standin.client import Standin  # noqa: E402

# Files that take longest, longest first: begun last, one would keep a single worker busy at the end.
LONG = ["quickstart", "redis_faults", "pg_pool", "pg_faults", "migrate", "provider_faults", "identity", "ledger",
        "http_limits", "accounts", "circuit_probes", "generate", "cache", "idempotency", "budgets"]


def pytest_collection_modifyitems(items):
    order = {"test_%s" % name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def standin_process():
    with Standin() as standin:
        yield standin


@pytest.fixture
def standin(standin_process):
    """The stand-in with nothing remembered."""
    standin_process.reset()
    return standin_process


@pytest.fixture(scope="module")
def shared_gateway(standin_process):
    """One gateway for a whole test file. Faults of one test may open its circuits: see `gateway`."""
    with Gateway(env=standin_process.env()) as gw:
        yield gw


@pytest.fixture
def gateway(shared_gateway, standin):
    """The file's gateway with all circuits closed, and a fresh stand-in behind it."""
    for name in ("openai", "anthropic", "google", "groq", "ollama"):
        shared_gateway.post("/api/v1/admin/circuits/%s/reset" % name, "")
    yield shared_gateway
    shared_gateway.alive()


@pytest.fixture(scope="session")
def postgres_server():
    """The server of all tests."""
    with Postgres() as server:
        server.current = None
        yield server


@pytest.fixture
def postgres(postgres_server):
    """A database of the program's schema, empty. The last test's is dropped only now, after its
    gateways have ended."""
    if postgres_server.current:
        postgres_server.current.drop()
    postgres_server.current = postgres_server.create_database(template=MIGRATED)
    return postgres_server.current


@pytest.fixture(scope="session")
def redis_server():
    with Redis() as server:
        yield server


@pytest.fixture
def redis(redis_server):
    """The Redis of all tests, empty."""
    redis_server.flush()
    return redis_server


def maker(kind):
    made = []

    def make(*args, **options):
        made.append(kind(*args, **options))
        return made[-1].start()

    yield make
    for server in made:
        server.remove()


@pytest.fixture
def make_postgres():
    """Starts servers a test may break; settings of postgresql.conf as arguments. Not migrated: say
    make_postgres().migrate()."""
    yield from maker(Postgres)


@pytest.fixture
def make_redis():
    """Starts Redis servers a test may break; settings of redis.conf as arguments."""
    yield from maker(Redis)


@pytest.fixture
def make_gateway(standin, make_postgres, make_redis):
    """Starts gateways with settings of their own; ends them with the test, before its servers. `pg`
    and `redis` are anything with a .url."""
    made = []

    def make(env=None, with_standin=True, pg=None, redis=None, **kw):
        base = standin.env() if with_standin else {}
        base.update({"DATABASE_URL": pg.url} if pg else {})
        base.update({"REDIS_URL": redis.url} if redis else {})
        gw = Gateway(env={**base, **(env or {})}, **kw)
        made.append(gw)
        return gw.start()

    yield make
    for gw in made:
        gw.__exit__(None, None, None)

"""DATABASE_READ_URL: lists and searches go to a replica, and whatever becomes of that, they are answered."""
import threading

import pytest
from postgres import REPLICATED, Database, Postgres, Replica
from test_ledger import patient
from test_pg_faults import Load, add_name

USERS = "/api/v1/users"


@pytest.fixture(scope="module")
def primary():
    with Postgres(**REPLICATED) as server:
        yield server.migrate()


@pytest.fixture(scope="module")
def one_replica(primary):
    with Replica(primary, max_standby_streaming_delay="100ms") as server:
        yield server


@pytest.fixture
def replica(one_replica):
    """The same for all tests, mended after each."""
    yield one_replica
    if one_replica.alive:
        one_replica.thaw()
        one_replica.resume()
    else:
        one_replica.start()


def users(gw):
    """How many the list says there are."""
    answer = gw.get(USERS)
    assert answer.status == 200, answer.text
    return answer.json["total"]


def has_read(gw, replica):
    """Lists come from the replica: what it does not know yet is not in them."""
    replica.pause()
    before = users(gw)
    assert add_name(gw).status == 201
    behind = users(gw) == before
    replica.resume()
    return behind


def assert_reads_the_primary(gw):
    for _ in range(10):
        before = users(gw)
        assert add_name(gw).status == 201
        assert users(gw) == before + 1


def start(make_gateway, primary, replica):
    gw = make_gateway(pg=primary, env={"DATABASE_READ_URL": replica.url}, conf={
        "storage_config.yaml": {"database.connect_timeout_ms": 500},
        "gateway.yaml": {"deadlines.default_s": 4}})
    patient(lambda: has_read(gw, replica), "the replica is not used")
    return gw


def lists(gw):
    return Load(lambda: gw.get(USERS).status)


def test_lists_come_from_the_replica_and_from_the_primary_while_that_is_away(primary, replica, make_gateway):
    gw = start(make_gateway, primary, replica)
    with lists(gw) as load:
        load.more(20)
        replica.kill()
        load.more(50)
        replica.start()
        patient(lambda: has_read(gw, replica), "the replica is not used again")
        load.more(20)
        replica.restart()
        load.more(50)
    assert set(load.seen) == {200}
    gw.alive()


def test_a_replica_that_is_away_at_the_start_is_used_when_it_comes(primary, replica, make_gateway):
    replica.stop()
    gw = make_gateway(pg=primary, env={"DATABASE_READ_URL": replica.url})
    assert_reads_the_primary(gw)
    replica.start()
    patient(lambda: has_read(gw, replica), "the replica is not used")


def test_check_087_a_frozen_replica_fails_no_list(primary, replica, make_gateway):
    gw = start(make_gateway, primary, replica)
    with lists(gw) as load:
        load.more(20)
        replica.freeze()
        load.more(50)
        replica.thaw()
        load.more(20)
    assert set(load.seen) == {200}
    gw.alive()


def test_sessions_of_the_replica_ended_at_random_fail_no_list(primary, replica, make_gateway):
    gw = start(make_gateway, primary, replica)
    with lists(gw) as load:
        for _ in range(20):
            replica.end_sessions("assistant")
            load.more(10)
    assert set(load.seen) == {200}
    gw.alive()


def test_a_replica_whose_schema_is_behind_fails_no_list(primary, replica, make_gateway):
    database = primary.create_database()
    there = Database(replica, database.name)
    patient(lambda: replica.admin("SELECT 1 FROM pg_database WHERE datname = '%s'" % database.name), "not replayed")
    replica.pause()
    database.migrate()
    gw = make_gateway(pg=database, env={"DATABASE_READ_URL": there.url})
    assert_reads_the_primary(gw)
    replica.resume()
    patient(lambda: has_read(gw, replica), "the replica is not used")


def test_a_read_that_what_is_replayed_does_not_allow_goes_to_the_primary(primary, replica, make_gateway):
    """The table is locked at the primary again and again: the replica cancels who reads it."""
    gw = start(make_gateway, primary, replica)
    ending = threading.Event()

    def disturb():
        while not ending.is_set():
            primary.psql("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE; COMMIT")

    thread = threading.Thread(target=disturb)
    thread.start()
    with lists(gw) as load:
        load.more(300)
    ending.set()
    thread.join()
    assert set(load.seen) == {200}

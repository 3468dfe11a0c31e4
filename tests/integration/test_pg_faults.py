"""CHECKS 82-88: Postgres down, killed in mid-statement, restarted, out of connections, slow, frozen and
refusing, while the gateway serves. What needs no database goes on; what needs it is told so."""

import contextlib
import os
import secrets
import subprocess
import threading
import time
import uuid

import pytest
from front import sanitized, wait_until
from load import Load
from test_identity import add_key, add_user, bearer
from test_pg_pool import is_up, ready, wait_for

MODELS, USERS = "/api/v1/models", "/api/v1/users"
SECRET = "a-secret-of-the-tests-0123456789-abcdefgh"
ENV = {"JWT_SECRET_KEY": SECRET}
PASSWORD = "correct horse battery"


def stranger():
    """Headers of a key nobody has: each has to be looked up."""
    return bearer("pk-" + secrets.token_urlsafe(32))


def look_up(gw):
    return gw.get(MODELS, headers=stranger())


def add_name(gw, name=None):
    return gw.post(USERS, {"user_id": name or "u-" + uuid.uuid4().hex, "password": PASSWORD})


def database_routes(gw):
    """One answer of each kind of route that asks the database."""
    return {
        "an unknown key": look_up(gw),
        "login": gw.post("/api/v1/auth/token", {"user_id": "ada", "password": PASSWORD}, headers={}),
        "users": gw.get(USERS),
        "a new user": add_name(gw),
        "costs": gw.get("/api/v1/admin/costs"),
    }


def assert_unavailable(answer, *also):
    assert answer.status in (503, *also), answer.text
    if answer.status == 503:
        assert int(answer.headers["retry-after"]) >= 1


def assert_all_unavailable(gw):
    for name, answer in database_routes(gw).items():
        assert answer.status == 503, (name, answer.text)
        assert_unavailable(answer)


def answers_again(gw):
    """Everything the faults took away is back."""
    wait_for(gw, is_up)
    wait_until(lambda: look_up(gw).status == 401, "keys to be looked up again")
    assert add_name(gw).status == 201
    assert ready(gw) == (200, "ready")
    gw.alive()


def backends(pg):
    return int(pg.admin("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                        "AND usename = 'assistant'")[0][0])


def locked(pg, table):
    """Holds a table against everybody."""
    return pg.session("BEGIN; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE" % table, "postgres")


def long_turns(gw, bound=0.25):
    """Turns of the loop longer than the bound, from the histogram's buckets."""
    m = gw.metrics()
    under = [v for k, v in m.items() if k.startswith("loop_lag_seconds_bucket{") and
             'le="+Inf"' not in k and float(k.split('le="')[1].split('"')[0]) <= bound]
    return m["loop_lag_seconds_count"] - max(under)


# --- there or not ---------------------------------------------------------------------------------

def test_check_082_routes_of_the_database_say_so_until_it_is_there(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    pg.stop()
    gw = make_gateway(env=ENV, pg=pg)
    assert gw.chat().status == 200
    assert_all_unavailable(gw)
    assert ready(gw) == (200, "degraded")
    assert gw.get("/api/v1/health").json["status"] == "degraded"
    pg.start()
    answers_again(gw)
    assert database_routes(gw)["login"].status == 401


def test_check_083_a_backend_killed_at_work_leaves_nothing_half_written(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    add_user(pg)
    gw = make_gateway(env=ENV, pg=pg)
    wait_for(gw, is_up)

    def ask():
        name = uuid.uuid4().hex
        return name, gw.post("/api/v1/auth/api-keys", {"name": name, "owner": "ada"})

    with Load(ask) as load:
        for _ in range(25):
            load.more(8)
            pg.end_sessions("assistant")
        load.more(8)
    assert not [x for x in load.seen if isinstance(x, Exception)]
    made = {}
    for name, answer in load.seen:
        if answer.status == 201:
            made[name] = answer.json["key"]
        else:
            assert_unavailable(answer)
    stored = {row[0] for row in pg.psql("SELECT name FROM api_keys")}
    assert made and set(made) <= stored <= {name for name, _ in load.seen}
    answers_again(gw)
    for key in list(made.values())[-20:]:
        assert gw.get(MODELS, headers=bearer(key)).status == 200


def test_check_084_a_restart_under_load_fails_no_chat(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    gw = make_gateway(env={**ENV, "DATABASE_POOL_SIZE": "3"}, pg=pg)
    known = bearer(add_key(pg, add_user(pg)))
    assert gw.chat(headers=known).status == 200
    with Load(lambda: gw.chat(headers=known).status) as chats, \
            Load(lambda: look_up(gw).status, 2) as keys:
        chats.more(10)
        pg.restart()
        chats.more(10)
        pg.kill()
        chats.more(10)
        pg.start()
        wait_for(gw, is_up)
        chats.more(10)
        keys.more(4)
    assert set(chats.seen) == {200}
    assert set(keys.seen) <= {401, 503}
    answers_again(gw)
    wait_until(lambda: gw.metrics()["database_connections"] == 3, "the pool to have its size again")
    assert backends(pg) == 3


# --- there, and slow ------------------------------------------------------------------------------

SMALL = {"storage_config.yaml": {"database.queue_limit": 4, "database.wait_ms": 1000,
                                 "database.statement_timeout_ms": 4000}}
TWO = {**ENV, "DATABASE_POOL_SIZE": "2", "DATABASE_MAX_OVERFLOW": "0"}


def test_check_085_with_all_connections_taken_few_wait_and_none_for_long(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    gw = make_gateway(env=TWO, pg=pg, conf=SMALL)
    wait_for(gw, is_up)
    deepest = 0
    with locked(pg, "api_keys"):
        with Load(lambda: look_up(gw), 16) as load:
            end = time.monotonic() + 2.5
            while time.monotonic() < end or len(load.seen) < 40:
                deepest = max(deepest, gw.metrics()["database_waiting"])
                assert gw.get("/api/v1/health").status == 200
                assert gw.get("/api/v1/health/live").status == 200
                assert time.monotonic() < end + 20
        assert gw.chat().status == 200
    assert not [x for x in load.seen if isinstance(x, Exception)]
    for answer in load.seen:
        assert_unavailable(answer, 504)
    assert 503 in {a.status for a in load.seen}
    assert 0 < deepest <= 4
    wait_until(lambda: gw.metrics()["database_waiting"] == 0, "the queue to be empty")
    answers_again(gw)


def test_check_086_a_statement_that_waits_too_long_costs_no_connection(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    gw = make_gateway(env=TWO, pg=pg, conf={"storage_config.yaml": {"database.statement_timeout_ms": 300}})
    wait_for(gw, is_up)
    before = {row[0] for row in pg.admin("SELECT pid FROM pg_stat_activity WHERE usename = 'assistant'")}
    with locked(pg, "api_keys"):
        for _ in range(3):
            assert_unavailable(look_up(gw), 504)
    with locked(pg, "users"):
        assert_unavailable(add_name(gw, "waited"), 504)
        assert_unavailable(gw.get(USERS), 504)
    wait_until(lambda: look_up(gw).status == 401, "keys to be looked up again")
    assert pg.one("SELECT count(*) FROM users WHERE user_id = 'waited'") == "0"
    after = {row[0] for row in pg.admin("SELECT pid FROM pg_stat_activity WHERE usename = 'assistant'")}
    assert before & after
    answers_again(gw)


def test_check_087_a_frozen_server_is_noticed_and_its_late_answers_are_nobodys(
        make_postgres, make_gateway):
    pg = make_postgres().migrate()
    conf = {"storage_config.yaml": {"database.statement_timeout_ms": 700, "database.wait_ms": 500,
                                    "database.connect_timeout_ms": 700}}
    gw = make_gateway(env=TWO, pg=pg, conf=conf)
    names = ["frozen-%d" % i for i in range(12)]
    ids = {name: add_name(gw, name).json["id"] for name in names}
    lock, turn = threading.Lock(), iter(range(10 ** 9))

    def ask():
        with lock:
            name = names[next(turn) % len(names)]
        return name, gw.get("%s/%s" % (USERS, ids[name]))

    with Load(ask, 6) as load:
        load.more(24)
        pg.freeze()
        try:
            wait_until(lambda: sum(a.status != 200 for _, a in load.seen[-6:]) == 6, "no answers")
            assert gw.chat().status == 200
            assert gw.get("/api/v1/health/live").status == 200
            assert_unavailable(look_up(gw), 504)
        finally:
            pg.thaw()
        wait_until(lambda: all(a.status == 200 for _, a in load.seen[-6:]), "answers again")
        load.more(24)
    for name, answer in load.seen:
        if answer.status == 200:
            assert answer.json["user_id"] == name
        else:
            assert_unavailable(answer, 504)
    assert long_turns(gw, 1.0 if sanitized() else 0.25) == 0
    answers_again(gw)


# --- there, and refusing --------------------------------------------------------------------------

def told(gw, words):
    """The log's one line a fault, which shows no password; the lines that say so."""
    def lines():
        return [x for x in gw.log_lines() if words in str(x) and x["level"] in ("error", "warning", "warn")]

    wait_until(lines, "a line about: " + words)
    return lines()


def test_check_088_no_connection_left_is_told_and_tried_again_slowly(make_postgres, make_gateway):
    pg = make_postgres(max_connections=10, superuser_reserved_connections=3).migrate()
    refusals = lambda: pg.log().count("remaining connection slots are reserved")
    with contextlib.ExitStack() as sessions:
        for _ in range(7):
            sessions.enter_context(pg.session())
        gw = make_gateway(env=ENV, pg=pg)
        told(gw, "max_connections")
        assert_all_unavailable(gw)
        assert gw.chat().status == 200
        before = refusals()
        with Load(lambda: look_up(gw).status) as load:
            load.more(200)
        assert set(load.seen) == {503}
        assert before >= 1 and refusals() - before < 50  # not once a request
    answers_again(gw)


def test_check_088_a_wrong_password_recovers_when_it_is_set_right(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    pg.admin("ALTER ROLE assistant PASSWORD 'changed-by-somebody'")
    gw = make_gateway(env=ENV, pg=pg)
    told(gw, "refused user or password")
    assert_all_unavailable(gw)
    pg.admin("ALTER ROLE assistant PASSWORD 'assistant'")
    answers_again(gw)
    assert "assistant:assistant" not in gw.log()


def test_check_088_a_missing_database_is_used_when_it_is_made(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    pg.admin("ALTER DATABASE assistant RENAME TO elsewhere")
    gw = make_gateway(env=ENV, pg=pg)
    told(gw, "does not exist")
    assert_all_unavailable(gw)
    pg.admin("ALTER DATABASE elsewhere RENAME TO assistant")
    answers_again(gw)


def test_check_088_a_read_only_database_is_read(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    gw = make_gateway(env=ENV, pg=pg)
    wait_for(gw, is_up)
    pg.configure(default_transaction_read_only="on")
    pg.reload()
    wait_until(lambda: add_name(gw).status != 201, "the server to refuse writing")
    answer = add_name(gw, "never")
    assert_unavailable(answer)
    told(gw, "read-only")
    assert gw.get(USERS).status == 200
    assert look_up(gw).status == 401
    pg.configure(default_transaction_read_only="off")
    pg.reload()
    wait_until(lambda: add_name(gw).status == 201, "writing again")
    assert pg.one("SELECT count(*) FROM users WHERE user_id = 'never'") == "0"
    answers_again(gw)


@contextlib.contextmanager
def small_disk(pg):
    """A directory of the server's with a file system of 2 MiB, which fills up."""
    path = os.path.join(pg.dir, "disk")
    os.mkdir(path)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", path],
                          capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no mount here: " + done.stderr.strip())
    try:
        os.mkdir(path + "/space")
        pg.own(path)
        pg.own(path + "/space")
        yield path
    finally:
        pg.kill()
        subprocess.run(["umount", path], check=True)


def fill(path):
    """Takes what is left of a file system; returns the file to remove."""
    name = os.path.join(path, "filler")
    with contextlib.suppress(OSError), open(name, "wb", buffering=0) as f:
        while True:
            f.write(bytes(4096))
    return name


def test_check_088_a_full_disk_is_told_and_reading_goes_on(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    with small_disk(pg) as disk:
        pg.admin("CREATE TABLESPACE small LOCATION '%s/space'" % disk)
        pg.psql("ALTER TABLE users SET TABLESPACE small", user="postgres")
        gw = make_gateway(env=ENV, pg=pg)
        wait_for(gw, is_up)
        filler = fill(disk)
        wait_until(lambda: add_name(gw).status != 201, "the disk to be full")
        assert_unavailable(add_name(gw, "never"))
        told(gw, "disk is full")
        assert gw.get(USERS).status == 200
        assert gw.chat().status == 200
        os.unlink(filler)
        answers_again(gw)
        assert pg.one("SELECT count(*) FROM users WHERE user_id = 'never'") == "0"
        assert gw.stop() == 0

"""postern migrate: the schema's steps up and down, twice at once, failing, changed, and beside a serving
gateway (CHECK 89)."""
import glob
import os
import re
import subprocess
import sys
import time

import pytest

from front import wait_until
from gateway import ROOT, binary
from pgbouncer import PgBouncer
from ports import free_port
from postgres import PASSWORD, programs

STEPS = sorted(os.path.basename(p)[:-len(".up.sql")]
               for p in glob.glob(os.path.join(ROOT, "storage/migrations/*.up.sql")))
HEAD = len(STEPS)
EMBED = os.path.join(ROOT, "storage/migrations/embed.py")


@pytest.fixture
def db(postgres_server):
    """An empty database."""
    made = postgres_server.create_database()
    yield made
    made.drop()


def begin(url, *args, **env):
    keep = {k: v for k, v in os.environ.items() if k == "PATH" or k.endswith("SAN_OPTIONS")}
    if url is not None:
        keep["DATABASE_URL"] = url
    return subprocess.Popen([binary(), "migrate", *args], env={**keep, **env}, cwd="/",
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, timeout=120):
    out, err = process.communicate(timeout=timeout)
    assert PASSWORD + "@" not in out + err
    return process.returncode, out, err


def migrate(url, *args, **env):
    return finish(begin(url, *args, **env))


def applied(db):
    if db.one("SELECT to_regclass('schema_migrations') IS NULL") == "t":
        return []
    return [int(v) for v, in db.psql("SELECT version FROM schema_migrations ORDER BY version")]


def dump(db):
    """The schema, without the lines that differ from dump to dump."""
    done = subprocess.run([os.path.join(programs(), "pg_dump"), "-s", "-h", db.server.dir, "-p",
                           str(db.port), "-U", "postgres", db.name], capture_output=True, text=True,
                          check=True, env=db.server.environment())
    return [line for line in done.stdout.split("\n") if not line.startswith(("\\restrict", "\\unrestrict"))]


def wait_for_lock(db, n=1):
    """Waits until n sessions of the database wait for a lock."""
    end = time.monotonic() + 30
    while db.one("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                 "AND wait_event_type = 'Lock'") != str(n):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def session(db):
    with db.session(user="postgres") as s:
        yield s


# --- the way up and down --------------------------------------------------------------------------

def test_check_089_down_and_up_again_gives_the_same_schema(db):
    rc, out, err = migrate(db.url, "up")
    assert (rc, err) == (0, "") and out.endswith("the database is at %03d\n" % HEAD)
    assert applied(db) == list(range(1, HEAD + 1))
    assert db.psql("SELECT DISTINCT length(checksum), duration_ms >= 0, applied_at <= now() "
                   "FROM schema_migrations") == [["64", "t", "t"]]
    first = dump(db)
    assert sum("CREATE TABLE" in line for line in first) > 25
    rc, out, err = migrate(db.url, "down", str(HEAD))
    assert (rc, err) == (0, "") and out.endswith("the database is at 000\n")
    # of all there was, the table of steps alone is left
    assert db.psql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                   "AND relkind IN ('r', 'p', 'S', 'v')") == [["schema_migrations"]]
    assert db.psql("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == []
    assert migrate(db.url, "up")[0] == 0
    assert dump(db) == first


def test_check_089_each_step_down_and_up_gives_the_same_schema(db):
    for version in range(1, HEAD + 1):
        before = dump(db)
        assert migrate(db.url, "up", "--to", str(version))[0] == 0
        after = dump(db)
        if version > 1:  # the first also makes schema_migrations
            assert migrate(db.url, "down", "1")[0] == 0
            assert dump(db) == before
            assert migrate(db.url, "up", "--to", str(version))[0] == 0
            assert dump(db) == after


def test_check_089_down_and_up_with_data_in_keeps_what_is_below_and_serves(db, make_gateway):
    """Audit rows that refuse to be deleted, partitions with rows, foreign keys: none holds a step up."""
    assert migrate(db.url, "up")[0] == 0
    schema = dump(db)
    gw = make_gateway(pg=db, conf={"gateway.yaml": {"ledger.flush_ms": 20}})
    for name in ("ada", "bob"):
        made = gw.post("/api/v1/users", {"user_id": name, "password": "correct horse battery"})
        assert made.status == 201, made.text
    assert gw.post("/api/v1/admin/teams", {"name": "team"}).status == 201
    assert gw.chat().status == 200
    wait_until(lambda: db.one("SELECT count(*) FROM provider_calls") == "1", "the call in the ledger")
    assert gw.stop() == 0
    db.psql("INSERT INTO provider_calls (at, spool_id, spool_pos) VALUES ('2020-01-01', gen_random_uuid(), 1)")
    for version in range(HEAD, 5, -1):
        rc, _, err = migrate(db.url, "down", "1")
        assert (rc, err) == (0, ""), version
    assert db.psql("SELECT user_id FROM users ORDER BY 1") == [["ada"], ["bob"]]
    assert migrate(db.url, "up")[0] == 0
    assert [line for line in dump(db) if "provider_calls_2" not in line] == \
        [line for line in schema if "provider_calls_2" not in line]
    gw = make_gateway(pg=db, conf={"gateway.yaml": {"ledger.flush_ms": 20}})
    assert {u["user_id"] for u in gw.get("/api/v1/users").json["items"]} == {"ada", "bob"}
    answer = gw.chat()
    assert answer.status == 200
    wait_until(lambda: db.psql("SELECT request_id FROM provider_calls") == [[answer.headers["x-request-id"]]],
               "the call in the ledger")


def test_status_lists_the_steps_and_tells_pending_by_its_exit_status(db):
    rc, out, _ = migrate(db.url, "status")
    assert rc == 3 and out.count("pending") == HEAD
    assert applied(db) == []  # looking makes nothing
    assert migrate(db.url, "up", "--to", "5")[0] == 0
    rc, out, _ = migrate(db.url, "status")
    lines = out.split("\n")
    assert rc == 3 and "applied" in lines[4] and lines[4].startswith("005  users ")
    assert "pending" in lines[5]
    assert migrate(db.url, "up")[0] == 0
    assert migrate(db.url, "status")[0] == 0


def test_up_twice_finds_nothing_to_do(db):
    assert migrate(db.url, "up")[0] == 0
    rc, out, err = migrate(db.url, "up")
    assert (rc, err) == (0, "") and "nothing to do" in out


def test_version_005_is_the_users_table(db):
    assert migrate(db.url, "up", "--to", "5")[0] == 0
    assert db.one("SELECT to_regclass('users') IS NOT NULL AND to_regclass('api_keys') IS NULL") == "t"


# --- two at once ----------------------------------------------------------------------------------

def test_check_089_two_at_once_one_runs_and_the_other_finds_nothing_to_do(db):
    done = [finish(p) for p in [begin(db.url, "up") for _ in range(4)]]
    assert [rc for rc, _, _ in done] == [0] * 4
    ran = [out.count(" applied (") for _, out, _ in done]
    assert sorted(ran) == [0, 0, 0, HEAD]
    assert sum("nothing to do" in out for _, out, _ in done) == 3


def test_the_second_waits_for_the_guard_only_so_long(db, session):
    session.do("BEGIN; SELECT pg_advisory_xact_lock(1886352244, 1)")
    rc, out, err = migrate(db.url, "up", "--wait", "0")
    assert rc == 1 and "another instance" in err
    assert applied(db) == []
    waiting = begin(db.url, "up")
    assert "another instance is migrating, waiting" in waiting.stdout.readline()
    session.do("COMMIT")
    assert finish(waiting)[0] == 0
    assert applied(db) == list(range(1, HEAD + 1))


def test_a_step_looks_again_when_the_guard_was_lost(db, session):
    """The guard's session is ended while a step waits: a second instance begins, no step runs twice."""
    session.do("BEGIN; SELECT pg_advisory_xact_lock(1886352244, 2)")
    first = begin(db.url, "up")
    wait_for_lock(db)
    db.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND state = 'idle in transaction' AND query LIKE '%try_advisory%'", user="postgres")
    second = begin(db.url, "up")
    wait_for_lock(db, 2)
    session.do("COMMIT")
    done = [finish(first), finish(second)]
    assert [rc for rc, _, _ in done] == [0, 0]
    assert sum(out.count(" applied (") for _, out, _ in done) == HEAD
    assert applied(db) == list(range(1, HEAD + 1))


# --- what goes wrong ------------------------------------------------------------------------------

def test_check_089_a_failure_in_the_middle_is_rolled_back_and_told(db):
    db.psql("CREATE TABLE memories (mine int)")  # in the way of 008
    rc, out, err = migrate(db.url, "up")
    assert rc == 1
    assert "008_memories: SQLSTATE 42P07" in err and "memories" in err and "was rolled back" in err
    assert applied(db) == list(range(1, 8))
    assert db.psql("SELECT column_name FROM information_schema.columns WHERE table_name = 'memories'") \
        == [["mine"]]
    db.psql("DROP TABLE memories")
    assert migrate(db.url, "up")[0] == 0
    assert applied(db) == list(range(1, HEAD + 1))


def test_check_089_a_step_fails_halfway_and_leaves_nothing_of_itself(db):
    db.psql("CREATE TABLE api_keys (x int)")  # 006 makes teams before it
    rc, _, err = migrate(db.url, "up")
    assert rc == 1 and "006_identity: SQLSTATE 42P07" in err
    assert db.one("SELECT to_regclass('teams') IS NULL") == "t"


def test_a_changed_step_is_refused(db):
    assert migrate(db.url, "up", "--to", "3")[0] == 0
    db.psql("UPDATE schema_migrations SET checksum = repeat('0', 64) WHERE version = 2")
    for args in (("up",), ("down", "1")):
        rc, _, err = migrate(db.url, *args)
        assert rc == 1 and "002_entities was changed" in err
    rc, out, err = migrate(db.url, "status")
    assert rc == 1 and "CHANGED" in out
    assert applied(db) == [1, 2, 3]


def test_a_missing_step_is_refused(db):
    assert migrate(db.url, "up", "--to", "4")[0] == 0
    db.psql("DELETE FROM schema_migrations WHERE version = 2")
    rc, _, err = migrate(db.url, "up")
    assert rc == 1 and "003_commitments is applied, but 002 is not" in err


def test_a_database_of_a_newer_program_is_left_alone(db):
    assert migrate(db.url, "up")[0] == 0
    db.psql("INSERT INTO schema_migrations VALUES (%d, 'later', 'x', now(), 1)" % (HEAD + 1))
    rc, out, _ = migrate(db.url, "up")
    assert rc == 0 and "newer program" in out
    rc, _, err = migrate(db.url, "down", "1")
    assert rc == 1 and "newer program" in err
    rc, out, _ = migrate(db.url, "status")
    assert rc == 0 and "newer" in out
    assert applied(db)[-1] == HEAD + 1


def test_a_locked_table_is_waited_for_in_short_tries(db, session):
    assert migrate(db.url, "up", "--to", "10")[0] == 0
    session.do("BEGIN; LOCK TABLE documents IN ROW EXCLUSIVE MODE")
    rc, _, err = migrate(db.url, "up", "--wait", "0")
    assert rc == 1 and "SQLSTATE 55P03" in err
    assert applied(db) == list(range(1, 11))
    trying = begin(db.url, "up", "--wait", "20")
    assert "trying again" in trying.stdout.readline()
    session.do("COMMIT")
    assert finish(trying)[0] == 0


def test_killed_in_the_middle_it_goes_on_where_it_was(db, session):
    assert migrate(db.url, "up", "--to", "10")[0] == 0
    session.do("BEGIN; LOCK TABLE documents IN ROW EXCLUSIVE MODE")
    stuck = begin(db.url, "up")
    wait_for_lock(db)
    stuck.kill()
    stuck.communicate()
    session.do("COMMIT")
    assert migrate(db.url, "up")[0] == 0
    assert applied(db) == list(range(1, HEAD + 1))


def test_a_server_killed_in_the_middle_is_an_error(make_postgres):
    pg = make_postgres()
    assert migrate(pg.url, "up", "--to", "10")[0] == 0
    holder = pg.session(user="postgres")
    holder.do("BEGIN; LOCK TABLE documents IN ROW EXCLUSIVE MODE")
    stuck = begin(pg.url, "up")
    wait_for_lock(pg.database)
    pg.kill()
    rc, _, err = finish(stuck)
    assert rc == 1 and "connection lost" in err
    holder.end()
    pg.start()
    assert migrate(pg.url, "up")[0] == 0


@pytest.mark.parametrize("url, words", [
    (None, "DATABASE_URL is not set"),
    ("", "DATABASE_URL is not set"),
    ("nonsense", "neither a URL"),
    ("postgresql://u:se/cret@127.0.0.1/d", "%2F"),
    ("postgresql://u:se@cret@127.0.0.1/d", "%40"),
    ("postgresql://u:1/secret@127.0.0.1/d", "%2F"),
    ("postgresql://u:secret%zz@127.0.0.1/d", "hex digits"),
    ("postgresql://u:secret@127.0.0.1/d?nonsense=1", "a keyword or value"),
])
def test_a_missing_or_bad_url_is_78_and_shows_no_password(url, words):
    rc, out, err = migrate(url, "up")
    assert rc == 78 and words in err and "cret" not in out + err


def test_an_unreachable_database_is_1_and_shows_no_password():
    rc, out, err = migrate("postgresql://me:secret@127.0.0.1:%d/d" % free_port(), "up")
    assert rc == 1 and "cannot connect" in err and "secret" not in out + err


def test_a_wrong_password_is_1_and_is_not_shown(db):
    rc, out, err = migrate(db.url.replace(":assistant@", ":geheim@"), "up")
    assert rc == 1 and "authentication failed" in err and "geheim" not in out + err


@pytest.mark.parametrize("args", [(), ("sideways",), ("down",), ("down", "0"), ("down", "x"), ("up", "3"),
                                  ("up", "--to"), ("up", "--to", "999"), ("down", "1", "--to", "2"),
                                  ("status", "--to", "1"), ("up", "--wait", "-1")])
def test_wrong_usage_is_2(args):
    rc, _, err = migrate("postgresql://127.0.0.1/x", *args)
    assert rc == 2 and "usage: postern migrate" in err


def test_the_url_may_come_from_an_env_file(db, tmp_path):
    (tmp_path / "env").write_text("DATABASE_URL=%s\n" % db.url)
    rc, out, _ = migrate(None, "status", "--env-file", str(tmp_path / "env"))
    assert rc == 3 and "pending" in out


# --- beside a serving gateway, and through PgBouncer -----------------------------------------------

def test_check_089_an_older_gateway_serves_on_while_migrations_run(db, make_gateway):
    """The instance in service finds the schema of step 5, then the newest, then a failed attempt."""
    assert migrate(db.url, "up", "--to", "5")[0] == 0
    gw = make_gateway(pg=db)
    db.psql("CREATE TABLE circuit_events (x int)")  # in the way of 009
    running = begin(db.url, "up")
    while running.poll() is None:
        assert gw.chat().status == 200
    assert finish(running)[0] == 1
    assert gw.chat().status == 200
    db.psql("DROP TABLE circuit_events")
    running = begin(db.url, "up")
    while running.poll() is None:
        assert gw.chat().status == 200
    assert finish(running)[0] == 0
    assert gw.chat().status == 200
    gw.alive()


def test_check_089_calls_made_before_the_ledger_has_its_tables_are_in_it_afterwards(db, make_gateway):
    assert migrate(db.url, "up", "--to", "5")[0] == 0
    gw = make_gateway(pg=db, env={"API_WORKERS": "2"})
    calls, running = 0, None
    while running is None or running.poll() is None or calls < 30:
        assert gw.chat().status == 200
        calls += 1
        if calls == 10:
            running = begin(db.url, "up")
    assert finish(running)[0] == 0
    end = time.monotonic() + 60
    while db.one("SELECT count(*) FROM provider_calls") != str(calls):
        assert time.monotonic() < end, gw.log()[-3000:]
        time.sleep(0.1)


def test_check_089_migrations_run_through_pgbouncer_in_transaction_mode(db):
    with PgBouncer(db, default_pool_size=3) as bouncer:
        done = [finish(p) for p in [begin(bouncer.url, "up") for _ in range(3)]]
        assert [rc for rc, _, _ in done] == [0] * 3
        assert sorted(out.count(" applied (") for _, out, _ in done) == [0, 0, HEAD]
        first = dump(db)
        assert migrate(bouncer.url, "down", str(HEAD))[0] == 0
        assert migrate(bouncer.url, "up")[0] == 0
        assert dump(db) == first
        db.server.end_sessions(db.name)  # leave none of its sessions behind
    assert db.psql("SELECT * FROM pg_locks WHERE locktype = 'advisory'") == []


def wait_health(gw, status, schema):
    end = time.monotonic() + 30
    while True:
        told = gw.get("/api/v1/health").json
        if (told["status"], told["checks"]["schema"]) == (status, schema):
            return told
        assert time.monotonic() < end, told
        time.sleep(0.05)


def events(gw, name):
    return [line for line in gw.log_lines() if line["message"] == name]


@pytest.mark.parametrize("there", [0, 5])
def test_a_gateway_on_an_older_schema_says_so_until_it_is_migrated(db, make_gateway, there):
    if there:
        assert migrate(db.url, "up", "--to", str(there))[0] == 0
    gw = make_gateway(pg=db)
    wait_health(gw, "degraded", "behind")
    assert gw.get("/api/v1/health/ready").status == 200
    assert migrate(db.url, "up")[0] == 0
    assert wait_health(gw, "healthy", "current")["checks"]["postgres"] == "healthy"
    gw.alive()  # its log is written up to here
    (behind,), (current,) = events(gw, "schema_behind"), events(gw, "schema_current")
    assert (behind["level"], behind["database"], behind["program"]) == ("warn", there, HEAD)
    assert (current["database"], current["program"]) == (HEAD, HEAD)


def test_a_gateway_on_a_newer_schema_serves_and_is_healthy(postgres, make_gateway):
    postgres.psql("INSERT INTO schema_migrations VALUES (%d, 'later', 'x', now(), 1)" % (HEAD + 1))
    gw = make_gateway(pg=postgres)
    wait_health(gw, "healthy", "ahead")
    assert gw.chat().status == 200


def test_a_gateway_whose_database_comes_late_learns_of_its_schema(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    pg.stop()
    gw = make_gateway(pg=pg)
    wait_health(gw, "degraded", "unknown")
    pg.start()
    wait_health(gw, "healthy", "current")


def test_a_gateway_without_a_database_has_no_schema(gateway):
    checks = gateway.get("/api/v1/health").json["checks"]
    assert (checks["postgres"], checks["schema"]) == ("disabled", "disabled")


# --- what the tables promise -------------------------------------------------------------------------

def version(db):
    return int(db.one("SELECT version FROM identity_version"))


def test_identity_version_moves_with_what_decides_and_only_with_that(postgres):
    postgres.psql("INSERT INTO users (user_id) VALUES ('ada'); INSERT INTO teams (name) VALUES ('t');"
                  "INSERT INTO api_keys (owner_id, name, prefix, key_sha256) "
                  "SELECT id, 'k', 'pk', sha256('k') FROM users")
    for moves, sql in [
            (True, "INSERT INTO users (user_id) VALUES ('bob')"),
            (True, "UPDATE users SET disabled = true WHERE user_id = 'bob'"),
            (True, "UPDATE users SET tokens_valid_from = now() WHERE user_id = 'bob'"),
            (True, "UPDATE users SET role = 'admin' WHERE user_id = 'bob'"),
            (True, "UPDATE users SET team_id = (SELECT id FROM teams) WHERE user_id = 'bob'"),
            (False, "UPDATE users SET failed_logins = 3, locked_until = now() WHERE user_id = 'bob'"),
            (True, "DELETE FROM users WHERE user_id = 'bob'"),
            (True, "UPDATE teams SET budget_nano_usd = 5"),
            (True, "UPDATE teams SET models = '{openai/*}'"),
            (False, "UPDATE teams SET updated_at = now()"),
            (False, "UPDATE api_keys SET last_used_at = now()"),
            (True, "UPDATE api_keys SET scopes = '{chat}'"),
            (True, "UPDATE api_keys SET revoked_at = now()"),
            (True, "INSERT INTO revoked_tokens VALUES ('j', now())"),
            (False, "DELETE FROM revoked_tokens"),
            (True, "DELETE FROM api_keys"),
            (True, "DELETE FROM teams")]:
        before = version(postgres)
        postgres.psql(sql)
        assert (version(postgres) > before) == moves, sql


def test_a_users_keys_go_with_the_user_and_names_are_free_after_revocation(postgres):
    key = "INSERT INTO api_keys (owner_id, name, prefix, key_sha256) SELECT id, 'k', 'p', sha256('%s') FROM users"
    postgres.psql("INSERT INTO users (user_id) VALUES ('ada');" + key % "one")
    with pytest.raises(RuntimeError, match="api_keys_owner_name"):
        postgres.psql(key % "two")
    postgres.psql("UPDATE api_keys SET revoked_at = now();" + key % "two")
    postgres.psql("DELETE FROM users")
    assert postgres.one("SELECT count(*) FROM api_keys") == "0"


def test_the_audit_log_is_append_only(postgres):
    postgres.psql("INSERT INTO audit_log (actor, action, outcome) VALUES ('a', 'b', 'c')")
    for sql in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
        with pytest.raises(RuntimeError, match="append-only"):
            postgres.psql(sql)
    assert postgres.one("SELECT count(*) FROM audit_log") == "1"


CALL = "INSERT INTO provider_calls (at, spool_id, spool_pos) SELECT %s, gen_random_uuid(), 1"


def partitions(db):
    return [name for name, in db.psql(
        "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'provider_calls'::regclass "
        "AND inhrelid <> 'provider_calls_default'::regclass ORDER BY 1")]


def test_ledger_partitions_are_made_ahead_and_take_over_the_default_ones_rows(postgres):
    postgres.psql(CALL % "now()" + ";" + CALL % "now() - interval '10 years'")
    assert postgres.one("SELECT ledger_partitions(2)") == "3"
    assert postgres.one("SELECT ledger_partitions(2)") == "0"
    assert len(partitions(postgres)) == 3
    assert postgres.one("SELECT count(*) FROM provider_calls") == "2"
    assert postgres.one("SELECT count(*) FROM provider_calls_default") == "1"
    postgres.psql(CALL % "now() + interval '1 month'")
    assert postgres.one("SELECT count(*) FROM provider_calls_default") == "1"
    # each has the indexes of the table, and no second ones
    counts = postgres.psql("SELECT count(*) FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indrelid "
                           "WHERE h.inhparent = 'provider_calls'::regclass GROUP BY i.indrelid")
    assert counts == [["5"]] * 4


def test_ledger_partitions_may_be_asked_for_by_all_at_once(postgres):
    ask = [os.path.join(programs(), "psql"), "-XqAt", postgres.url, "-c", "SELECT ledger_partitions(6)"]
    all_of_them = [subprocess.Popen(ask, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    assert sorted(int(p.communicate(timeout=60)[0]) for p in all_of_them) == [0, 0, 0, 0, 7]


def test_ledger_drop_before_drops_whole_partitions_only(postgres):
    postgres.psql("SELECT ledger_partitions(3);" + CALL % "now()" + ";"
                  + CALL % "now() - interval '10 years'")
    assert postgres.one("SELECT ledger_drop_before(now())") == "0"
    assert postgres.one("SELECT count(*) FROM provider_calls") == "1"  # the old one was in no month
    limit = "date_trunc('month', now(), 'UTC') + interval '2 months 1 hour'"
    assert postgres.one("SELECT ledger_drop_before(%s)" % limit) == "2"
    assert len(partitions(postgres)) == 2
    assert postgres.one("SELECT count(*) FROM provider_calls") == "0"


def test_every_index_is_explained_and_every_one_explained_exists(postgres):
    with open(os.path.join(ROOT, "storage/migrations/INDEX_RECOMMENDATIONS.md"), encoding="utf-8") as f:
        told = re.findall(r"^\| `(\w+)` \| (\w+) \|", f.read(), re.M)
    there = postgres.psql("SELECT indexname, tablename FROM pg_indexes WHERE schemaname = 'public' "
                          "AND tablename NOT IN ('schema_migrations', 'provider_calls_default')")
    assert sorted(told) == sorted((name, table) for name, table in there)


# --- embedding ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("files, words", [
    ({"001_a.up.sql": "SELECT 1;"}, "has no down"),
    ({"001_a.up.sql": "SELECT 1;", "001_b.down.sql": "SELECT 1;"}, "used twice"),
    ({"002_a.up.sql": "SELECT 1;", "002_a.down.sql": "SELECT 1;"}, "numbers are not"),
    ({"1_a.up.sql": "SELECT 1;", "1_a.down.sql": "SELECT 1;"}, "not named"),
    ({"001_a.up.sql": "SELECT 1;\nCOMMIT;", "001_a.down.sql": "SELECT 1;"}, "COMMIT"),
    ({"001_a.up.sql": "CREATE INDEX CONCURRENTLY i ON t (x);", "001_a.down.sql": "SELECT 1;"},
     "CONCURRENTLY"),
    ({"001_a.up.sql": "-- nothing\n", "001_a.down.sql": "SELECT 1;"}, "empty"),
])
def test_embed_refuses_what_is_no_chain_of_pairs(tmp_path, files, words):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run([sys.executable, EMBED, str(tmp_path / "out.c"),
                           *[str(tmp_path / n) for n in files]], capture_output=True, text=True)
    assert done.returncode == 1 and words in done.stderr
    assert not (tmp_path / "out.c").exists()


def test_every_migration_of_the_tree_is_embedded():
    done = subprocess.run([binary(), "migrate", "status"], capture_output=True, text=True)
    assert done.returncode == 78
    with open(os.path.join(ROOT, "meson.build"), encoding="utf-8") as f:
        build = f.read()
    for step in STEPS:
        for way in ("up", "down"):
            assert "'storage/migrations/%s.%s.sql'" % (step, way) in build

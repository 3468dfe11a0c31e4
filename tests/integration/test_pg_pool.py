"""The Postgres pool: its C tests run here, against a server of their own, by socket and by TCP with a
name to look up."""

import os
import re
import subprocess
import time

import pytest

from gateway import Gateway, binary
from pgbouncer import PgBouncer


def program(name):
    return os.path.join(os.path.dirname(os.path.abspath(binary())), name)


def run_live(name, conninfo):
    """Runs a program of tests and sees that it ran all it has, and that all passed."""
    env = {**os.environ, "POSTERN_TEST_PG": conninfo, "ASAN_OPTIONS": "detect_leaks=1",
           "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
    done = subprocess.run([program(name)], env=env, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    ran = re.search(r"(\d+) test\(s\) run", said)
    passed = re.search(r"PASSED  \] (\d+) test", said)
    assert ran and passed and int(ran.group(1)) == int(passed.group(1)) > 5, said
    return said


@pytest.mark.parametrize("name", ["live_pg", "live_pg_tx"])
def test_the_pool_works_through_a_socket(make_postgres, name):
    pg = make_postgres()
    run_live(name, "host=%s port=%d user=postgres dbname=assistant" % (pg.dir, pg.port))


@pytest.mark.parametrize("name", ["live_pg", "live_pg_tx"])
def test_the_pool_works_over_tcp(make_postgres, name):
    pg = make_postgres()
    pg.admin("ALTER ROLE assistant SUPERUSER")
    run_live(name, "host=localhost port=%d user=assistant password=assistant dbname=assistant" % pg.port)


def test_transactions_work_through_pgbouncer(make_postgres):
    with PgBouncer(make_postgres()) as bouncer:
        run_live("live_pg_tx", bouncer.url)


def test_a_bouncer_that_ignores_options_works_too(make_postgres):
    with PgBouncer(make_postgres(), ignore_startup_parameters="options") as bouncer:
        run_live("live_pg_tx", bouncer.url)


# --- the gateway -----------------------------------------------------------------------------------


def wait_for(gw, condition):
    """Polls health until the condition holds of it."""
    end = time.monotonic() + 30
    while True:
        told = gw.get("/api/v1/health").json
        if condition(told):
            return told
        assert time.monotonic() < end, told
        time.sleep(0.02)


def is_up(told):
    return told["checks"]["postgres"] == "healthy" and told["checks"]["schema"] == "current"


def ready(gw):
    answer = gw.get("/api/v1/health/ready")
    return answer.status, answer.json["status"]


def events(gw, name):
    return [line for line in gw.log_lines() if line["message"] == name]


def wait_event(gw, name):
    end = time.monotonic() + 30
    while not events(gw, name):
        assert time.monotonic() < end, gw.log()
        time.sleep(0.02)
    return events(gw, name)


def wait_connections(gw, n):
    end = time.monotonic() + 30
    while gw.metrics().get("database_connections") != n:
        assert time.monotonic() < end, gw.metrics()
        time.sleep(0.05)


def test_check_082_postgres_away_at_the_start_degrades_and_is_used_when_it_comes(
        make_postgres, make_gateway):
    pg = make_postgres().migrate()
    pg.stop()
    gw = make_gateway(pg=pg)
    wait_event(gw, "postgres_unavailable")
    told = gw.get("/api/v1/health").json
    assert (told["status"], told["checks"]["postgres"]) == ("degraded", "unhealthy")
    assert ready(gw) == (200, "degraded")
    assert gw.chat().status == 200
    pg.start()
    wait_for(gw, is_up)
    assert ready(gw) == (200, "ready")
    away, *starting = events(gw, "postgres_unavailable")
    (back,) = events(gw, "postgres_available")
    assert all("starting" in line["reason"] for line in starting)  # it may have been seen at that
    assert (away["level"], away["server"], back["level"]) == ("error", "primary", "info")
    gw.alive()


def test_check_084_the_pool_is_back_to_its_size_after_a_restart(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    gw = make_gateway(pg=pg, env={"DATABASE_POOL_SIZE": "3"})
    wait_connections(gw, 3)
    assert gw.metrics()["database_connections_max"] == 13
    pg.kill()
    wait_for(gw, lambda t: t["checks"]["postgres"] == "unhealthy")
    assert gw.chat().status == 200
    pg.start()
    wait_for(gw, is_up)
    wait_connections(gw, 3)
    gw.alive()


@pytest.mark.parametrize("user, name, reason", [
    ("assistant:not-the-pa55word", "assistant", "refused user or password"),
    ("assistant:assistant", "nowhere", "does not exist")])
def test_check_088_a_refusal_is_one_clear_line_without_the_password(
        make_postgres, make_gateway, user, name, reason):
    url = "postgresql://%s@127.0.0.1:%d/%s" % (user, make_postgres().port, name)
    gw = make_gateway(env={"DATABASE_URL": url})
    (line,) = wait_event(gw, "postgres_unavailable")
    assert reason in line["reason"]
    assert "pa55word" not in gw.log() and "pa55word" not in gw.stderr()
    assert ready(gw) == (200, "degraded")


def test_check_088_too_many_connections_serve_with_those_there_are(make_postgres, make_gateway):
    pg = make_postgres().migrate()
    pg.admin("ALTER ROLE assistant CONNECTION LIMIT 2")
    gw = make_gateway(pg=pg)
    wait_for(gw, is_up)
    wait_connections(gw, 2)
    assert "max_connections" in wait_event(gw, "postgres_unavailable")[0]["reason"]
    pg.admin("ALTER ROLE assistant CONNECTION LIMIT -1")
    wait_connections(gw, 5)
    gw.alive()


def test_a_gateway_works_through_pgbouncer(make_postgres, make_gateway):
    with PgBouncer(make_postgres().migrate()) as bouncer:
        gw = make_gateway(pg=bouncer)
        wait_for(gw, is_up)
        assert len(wait_event(gw, "postgres_without_options")) == 1
        assert not events(gw, "postgres_unavailable")


def test_workers_share_the_connections_of_an_instance(make_postgres, make_gateway):
    gw = make_gateway(pg=make_postgres().migrate(), env={"API_WORKERS": "4"})
    wait_connections(gw, 20)
    assert gw.metrics()["database_connections_max"] == 48


@pytest.mark.parametrize("url", ["mysql://u:pa55@h/d", "postgresql://u:pa55@h/d?nonsense=1",
                                 "host=h pa55word", "postgresql://u:pa55@h:99999/d"])
def test_an_address_that_is_none_is_refused_without_showing_it(url):
    gw = Gateway(env={"DATABASE_URL": url, "OPENAI_API_KEY": "sk-x"})
    done = subprocess.run(gw.command("check"), env=gw.environment(), capture_output=True, text=True,
                          timeout=30, cwd=gw.dir)
    said = done.stdout + done.stderr
    assert done.returncode == 78 and "DATABASE_URL: " in said and "pa55" not in said, said

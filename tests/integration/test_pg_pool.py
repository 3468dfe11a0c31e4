"""The Postgres pool: its C tests run here, against a server of their own, by socket and by TCP with a
name to look up."""

import os
import re
import subprocess

import pytest

from gateway import binary


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

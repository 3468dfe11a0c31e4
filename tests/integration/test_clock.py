"""CHECK 99: the wall clock jumps by an hour, either way, while the gateway runs. Limits, breakers, timeouts
and what is remembered go by a clock that does not jump; only what carries a date follows the wall."""

import glob
import os
import time

import pytest
from front import wait_until
from test_identity import add_key, add_user, secret_env, status, token


class Clock:
    """The wall clock of a gateway, moved by libfaketime through a file."""

    def __init__(self, directory):
        found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        assert found, "install the package faketime"
        self.path = os.path.join(directory, "offset")
        self.set(0)
        self.env = {"LD_PRELOAD": found[0], "FAKETIME_TIMESTAMP_FILE": self.path, "FAKETIME_NO_CACHE": "1",
                    "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                    "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}

    def set(self, seconds):
        with open(self.path + ".new", "w", encoding="ascii") as f:
            f.write("%+d" % seconds)
        os.rename(self.path + ".new", self.path)


@pytest.fixture
def clock(tmp_path):
    return Clock(str(tmp_path))


def test_check_099_a_jump_of_the_wall_clock_changes_no_limit_and_no_breaker(make_gateway, clock):
    gw = make_gateway(env=clock.env, conf={"gateway.yaml": {"retry.attempts": 1}})
    for _ in range(5):
        gw.chat("groq/x~status=500")
    for offset in (3600, -3600):
        clock.set(offset)
        assert gw.chat("groq/x").json["error"]["code"] == "circuit-open"
        assert gw.chat().status == 200
        assert gw.chat("openai/gpt-4o-mini~gap_ms=50,chunks=5", stream=True).events()[-1][1] == "[DONE]"


def test_check_099_known_keys_and_limits_outlive_a_jump_and_tokens_follow_it(
        make_gateway, make_postgres, clock):
    pg = make_postgres().migrate()
    known, limited = (add_key(pg, add_user(pg, name)) for name in ("ada", "bob"))
    gw = make_gateway(env=secret_env(**clock.env), pg=pg, limits=True, conf={"rate_limits.yaml": {
        "classes.default.requests_per_minute": 1, "classes.default.burst": 12}})
    wait_until(lambda: status(gw, limited) == 429, "the limit")
    wait_until(lambda: status(gw, known) == 200, "the key to be known")
    fresh, ending = token(), token(exp=int(time.time()) + 1200)
    assert [status(gw, fresh), status(gw, ending)] == [200, 200]
    pg.stop()  # nothing is looked up again
    clock.set(3500)
    assert [status(gw, known), status(gw, ending)] == [200, 401]
    assert [status(gw, fresh), status(gw, limited)] == [200, 429]
    clock.set(-3600)
    assert status(gw, fresh) == 401  # it will be made in an hour
    assert [status(gw, known), status(gw, limited)] == [200, 429]
    clock.set(0)
    assert [status(gw, known), status(gw, fresh)] == [200, 200]
    gw.alive()

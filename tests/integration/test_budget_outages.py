"""Reserved before something went away or was put back, settled after it: each call counts once, in its own period."""

import datetime
import threading

import pytest

from budget_fixtures import USD, Caller, booked, make, meter, rows, wait_until  # noqa: F401
from test_clock import Clock

QUICK = {"storage_config.yaml": {"redis.timeout_ms": 1000}, "gateway.yaml": {"ledger.flush_ms": 20}}


class Held:
    """A call that is with the provider when something happens."""

    def __init__(self, gw, meter, caller):
        self.meter, before = meter, meter.taken
        meter.hold()
        self.answers = []
        self.thread = threading.Thread(target=lambda: self.answers.append(caller.ask(gw)))
        self.thread.start()
        wait_until(lambda: meter.taken == before + 1)

    def end(self):
        self.meter.release()
        self.thread.join()
        (answer,) = self.answers
        return answer


def connected(gw):
    wait_until(lambda: gw.metrics()["redis_up"] == 1)


@pytest.mark.parametrize("how", ["killed", "frozen", "flushed"])
def test_a_call_that_outlives_its_redis_counts_once(make, meter, postgres, make_redis, how):
    redis = make_redis()
    gw, caller = make(redis=redis, conf=QUICK), Caller(postgres, budget=USD)
    connected(gw)
    assert caller.ask(gw).status == 200
    caller.expect(redis, (meter.cost, 0))
    held = Held(gw, meter, caller)
    {"killed": redis.kill, "frozen": redis.freeze, "flushed": redis.flush}[how]()
    assert held.end().status == 200
    booked(postgres, [caller], 2)
    {"killed": redis.start, "frozen": redis.thaw, "flushed": lambda: None}[how]()
    connected(gw)
    assert caller.ask(gw).status == 200
    caller.expect(redis, (3 * meter.cost, 0))
    assert booked(postgres, [caller], 3) == 3 * meter.cost


def test_a_client_that_leaves_before_its_reservation_is_answered_holds_nothing(make, meter, postgres, make_redis):
    redis = make_redis()
    gw, caller = make(redis=redis, conf={**QUICK, "storage_config.yaml": {"redis.timeout_ms": 10000}}), \
        Caller(postgres, budget=USD)
    connected(gw)
    assert caller.ask(gw).status == 200
    caller.expect(redis, (meter.cost, 0))
    redis.freeze()
    body = b'{"model": "openai/metered", "messages": [{"role": "user", "content": "hello"}]}'
    s = gw.connect()
    s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: "
              b"application/json\r\nContent-Length: %d\r\n\r\n%s" % (caller.text.encode(), len(body), body))
    wait_until(lambda: gw.metrics()["http_requests_in_progress"] > 1)
    s.close()
    wait_until(lambda: gw.metrics()["http_requests_in_progress"] <= 1)
    redis.thaw()
    connected(gw)
    assert caller.ask(gw).status == 200
    caller.expect(redis, (2 * meter.cost, 0))
    assert meter.taken == 2


def spend_past_a_snapshot(make, meter, postgres, redis):
    """Four calls, of which the snapshot has one."""
    gw, caller = make(redis=redis, conf=QUICK), Caller(postgres, budget=USD)
    connected(gw)
    assert caller.ask(gw).status == 200
    caller.expect(redis, (meter.cost, 0))
    redis.call("SAVE")
    for _ in range(3):
        assert caller.ask(gw).status == 200
    caller.expect(redis, (4 * meter.cost, 0))
    return gw, caller


def test_a_redis_that_is_put_back_to_an_older_state_is_told_what_was_spent(make, meter, postgres, make_redis):
    redis = make_redis()
    gw, caller = spend_past_a_snapshot(make, meter, postgres, redis)
    redis.kill()
    redis.start()
    assert caller.sums(redis) == (meter.cost, 0)
    connected(gw)
    assert caller.ask(gw).status == 200
    caller.expect(redis, (5 * meter.cost, 0))


def test_a_new_process_over_an_older_redis_learns_from_the_ledger(make, meter, postgres, make_redis):
    redis = make_redis()
    gw, caller = spend_past_a_snapshot(make, meter, postgres, redis)
    assert booked(postgres, [caller], 4) == 4 * meter.cost
    assert gw.stop() == 0
    redis.kill()
    redis.start()
    gw = make(redis=redis, conf=QUICK)
    connected(gw)
    n = 4

    def is_right():
        nonlocal n
        n += caller.ask(gw).status == 200
        return caller.sums(redis)[0] >= n * meter.cost - meter.cost  # the last one may be on its way
    wait_until(is_right)
    caller.expect(redis, (n * meter.cost, 0))
    assert booked(postgres, [caller], n) == n * meter.cost
    assert caller.ask(gw).status == 200  # asked once: what is counted since is not counted again
    caller.expect(redis, ((n + 1) * meter.cost, 0))


def test_a_call_is_settled_in_the_period_in_which_it_was_reserved(make, meter, postgres, redis, tmp_path):
    clock = Clock(str(tmp_path))
    gw, caller = make(env=clock.env, conf=QUICK), Caller(postgres, budget=USD, period="day")
    connected(gw)
    held = Held(gw, meter, caller)
    (today,) = redis.keys("budget:*:sum")
    clock.set(86400)
    assert held.end().status == 200
    caller.expect(redis, (meter.cost, 0))
    assert redis.keys("budget:*:sum") == [today]
    assert caller.ask(gw).status == 200

    def sums():
        return sorted((k == today, int(redis.call("HGET", k, "spent")), int(redis.call("HGET", k, "held") or 0))
                      for k in redis.keys("budget:*:sum"))
    wait_until(lambda: sums() == [(False, meter.cost, 0), (True, meter.cost, 0)])
    booked(postgres, [caller], 2)
    days = [r[0] for r in postgres.psql("SELECT day FROM usage_daily WHERE key_id = '%s' ORDER BY 1" % caller.id)]
    first, second = (datetime.date.fromisoformat(d) for d in days)
    assert (second - first).days == 1
    assert str(int(datetime.datetime(first.year, first.month, first.day, tzinfo=datetime.timezone.utc)
                   .timestamp())) in today

"""Budgets: money and tokens of keys and teams, counted in a real Redis over a real Postgres. Amounts are
nano-USD; support/meter.py is the provider, so that each test knows what a call costs."""

import glob
import os
import subprocess
import threading
import time

import pytest

import meter as metering
from budget_fixtures import (FAST, USD, Caller, Crowd, add_team, booked, make, meter,  # noqa: F401
                             open_stream, read_some, request_bytes, rows, set_budget, wait_until, worst_case)
from gateway import binary


def live(name, redis):
    return subprocess.run([os.path.join(os.path.dirname(os.path.abspath(binary())), name)], capture_output=True,
                          text=True, timeout=120, env={**os.environ, "REDIS_URL": redis.url})


def test_reservations_settlements_outages_and_flushes_against_a_real_redis(redis):
    """tests/unit/live_budget.c: CHECKS 78 and 81 among others."""
    run = live("live_budget", redis)
    assert run.returncode == 0, run.stdout + run.stderr


# --- many at once ---------------------------------------------------------------------------------------------

def gateways_of(make, n=2):
    return [make(env={"API_WORKERS": "2"}) for _ in range(n)]


def test_a_thousand_requests_at_once_get_through_as_far_as_the_money_goes(make, meter, postgres, redis):
    gateways = gateways_of(make)
    caller = Caller(postgres, budget=USD)
    each = worst_case(gateways[0], meter, caller, redis)
    caller = Caller(postgres, budget=10 * each)
    taken = meter.taken
    meter.hold()
    crowd = Crowd(gateways, [caller], 1000)
    crowd.read_until(990)
    assert set(crowd.answers) == {402}
    caller.expect(redis, (0, 10 * each))
    meter.release()
    crowd.read_until(1000)
    assert crowd.answers.count(200) == 10 and meter.taken - taken == 10
    caller.expect(redis, (10 * meter.cost, 0))
    assert booked(postgres, [caller], 10) == 10 * meter.cost <= 10 * each


def test_two_keys_of_a_team_share_its_money(make, meter, postgres, redis):
    gateways = gateways_of(make)
    each = worst_case(gateways[0], meter, Caller(postgres, budget=USD, team=None), redis)
    team = add_team(postgres, budget=10 * each)
    callers = [Caller(postgres, team=team, budget=8 * each) for _ in range(2)]
    meter.hold()
    crowd = Crowd(gateways, callers, 1000)
    crowd.read_until(990)
    assert set(crowd.answers) == {402}
    callers[0].expect(redis, (0, 10 * each), "team")
    held = [c.sums(redis)[1] for c in callers]
    assert sum(held) == 10 * each and max(held) <= 8 * each
    meter.release()
    crowd.read_until(1000)
    assert crowd.answers.count(200) == 10
    callers[0].expect(redis, (10 * meter.cost, 0), "team")
    assert booked(postgres, callers, 10) == 10 * meter.cost


def test_check_078_flushall_in_mid_load_overspends_by_no_more_than_what_was_unsettled(make, meter, postgres,
                                                                                      redis):
    """At a flush at most `clients` reservations are lost. What was settled is known to the process that was
    told last, and each reservation brings what its process knows; so every flush lets through at most what
    was held then."""
    gateways = gateways_of(make)
    clients, flushes = 8, 3
    each = worst_case(gateways[0], meter, Caller(postgres, budget=USD), redis)
    caller = Caller(postgres, budget=150 * meter.cost + each)
    passed, stop = [], threading.Event()

    def load(gw):
        while not stop.is_set():
            a = caller.ask(gw)
            assert a.status in (200, 402), a.text
            if a.status == 402:
                return
            passed.append(1)

    threads = [threading.Thread(target=load, args=(gateways[i % 2],)) for i in range(clients)]
    for t in threads:
        t.start()
    for i in range(flushes):
        wait_until(lambda: len(passed) > 30 * (i + 1) or not any(t.is_alive() for t in threads))
        redis.call("FLUSHALL")
    for t in threads:
        t.join(60)
    stop.set()
    assert not any(t.is_alive() for t in threads)
    spent = booked(postgres, [caller], len(passed))
    assert spent == len(passed) * meter.cost
    assert spent <= 150 * meter.cost + each + flushes * clients * each
    assert spent >= 150 * meter.cost - clients * each  # and it was not stopped early
    assert caller.ask(gateways[0]).status == 402


# --- how a call ends ------------------------------------------------------------------------------------------

def test_a_good_answer_costs_what_the_provider_says_and_tells_what_is_left(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=USD)
    a = caller.ask(gw)
    assert a.status == 200
    assert a.headers["x-postern-budget-left-usd"] == "%.9f" % ((USD - meter.cost) / USD)
    caller.expect(redis, (meter.cost, 0))
    booked(postgres, [caller], 1)
    row = rows(postgres, caller, "status, cost_nano_usd, usage_known, tokens_in, tokens_out, provider, model, "
                                 "asked_model, surface, purpose, stream, attempts")
    assert row == [["ok", str(meter.cost), "t", "5", "5", "openai", "metered", "openai/metered", "openai", "chat",
                    "f", "1"]]


def test_a_failed_call_gives_its_reservation_back(make, meter, postgres, redis):
    gw = make(conf={"gateway.yaml": {**FAST["gateway.yaml"], "retry.attempts": 1}})
    caller = Caller(postgres, budget=USD)
    meter.failures = [500]
    assert caller.ask(gw).status == 502
    caller.expect(redis, (0, 0))
    booked(postgres, [caller], 1)
    assert rows(postgres, caller) == [["provider-failed", "0", "t"]]


def test_a_call_that_is_sent_again_is_one_call(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=USD)
    meter.failures = [500]
    a = caller.ask(gw)
    assert a.status == 200 and a.headers["x-postern-attempts"] == "2"
    caller.expect(redis, (meter.cost, 0))
    booked(postgres, [caller], 1)
    assert rows(postgres, caller, "cost_nano_usd, attempts") == [[str(meter.cost), "2"]]


def test_check_070_a_connection_that_closes_as_the_post_arrives_is_one_execution_at_most(make_gateway, standin,
                                                                                         postgres, redis):
    gw = make_gateway(pg=postgres, redis=redis, conf=FAST)
    caller = Caller(postgres, budget=USD)
    standin.control({"close_on_next": "fin"}, match={"dialect": "openai"}, repeat=1)
    answers = [gw.chat(headers={**caller.headers, "Idempotency-Key": "once-%d" % i}, max_tokens=5) for i in range(2)]
    assert answers[0].status == 200 and answers[1].status in (200, 502)
    booked(postgres, [caller], 2)
    found = dict((k, (cost, status)) for k, cost, status in
                 rows(postgres, caller, "idempotency_key, cost_nano_usd, status"))
    assert sorted(found) == ["once-0", "once-1"]
    assert (int(found["once-1"][0]) > 0) == (answers[1].status == 200)
    caller.expect(redis, (sum(int(c) for c, _ in found.values()), 0))
    # the same key again: told from memory, not bought again
    assert gw.chat(headers={**caller.headers, "Idempotency-Key": "once-0"}, max_tokens=5).status == 200
    caller.expect(redis, (sum(int(c) for c, _ in found.values()), 0))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_the_client_leaves_costs_what_it_has_produced(make, meter, postgres, redis, path):
    gw, caller = make(), Caller(postgres, budget=USD)
    meter.pieces = ["x" * 400] * 9 + ["theend__"]
    meter.hold()
    s = open_stream(gw, caller, path)
    read_some(s, b"theend__")
    s.close()
    cost = booked(postgres, [caller], 1)
    status, known, out = rows(postgres, caller, "status, usage_known, tokens_out")[0]
    assert (status, known) == ("client-gone", "f")
    assert int(out) == (9 * 400 + 8) // 4
    assert cost >= int(out) * metering.OUTPUT
    caller.expect(redis, (cost, 0))


def test_a_stream_the_provider_cuts_costs_what_it_has_produced(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=USD)
    meter.pieces, meter.cut = ["x" * 400, "theend__"], True
    s = open_stream(gw, caller)
    read_some(s, b"error")
    cost = booked(postgres, [caller], 1)
    assert rows(postgres, caller, "status, usage_known, tokens_out") == [["provider-failed", "f", "102"]]
    caller.expect(redis, (cost, 0))
    s.close()


def test_a_client_that_leaves_while_it_waits_has_been_read(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=USD)
    meter.hold()
    s = gw.connect()
    s.sendall(request_bytes(caller))
    wait_until(lambda: meter.taken == 1)
    s.close()
    cost = booked(postgres, [caller], 1)
    status, known, tokens_in, out = rows(postgres, caller, "status, usage_known, tokens_in, tokens_out")[0]
    assert (status, known, out) == ("client-gone", "f", "0")
    assert cost == int(tokens_in) * metering.INPUT > 0
    caller.expect(redis, (cost, 0))


def test_a_stream_without_usage_is_estimated_and_one_with_it_is_not(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=USD)
    for tells in (True, False):
        meter.tells_usage = tells
        s = open_stream(gw, caller)
        assert b"usage" not in read_some(s, b"\r\n0\r\n\r\n")  # nobody asked for it
        s.close()
    booked(postgres, [caller], 2)
    assert rows(postgres, caller, "status, usage_known, tokens_out") == [["ok", "t", "5"], ["ok", "f", "2"]]


def test_embeddings_are_paid_for(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=USD)
    meter.tokens = (70, 0)
    a = gw.post("/v1/embeddings", {"model": "openai/vectors", "input": "hello"}, headers=caller.headers)
    assert a.status == 200
    caller.expect(redis, (70 * metering.INPUT, 0))
    booked(postgres, [caller], 1)
    assert rows(postgres, caller, "purpose, tokens_in, tokens_out, cache") == [["embeddings", "70", "0", "miss"]]
    again = gw.post("/v1/embeddings", {"model": "openai/vectors", "input": "hello"}, headers=caller.headers)
    assert again.json["data"] == a.json["data"] and meter.taken == 1
    assert booked(postgres, [caller], 2) == 70 * metering.INPUT


# --- refusals -------------------------------------------------------------------------------------------------

def test_a_refusal_says_whose_budget_how_much_is_left_and_until_when(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=100 * metering.INPUT, period="day")
    a = caller.ask(gw, max_tokens=50)
    assert a.status == 402
    error = a.json["error"]
    assert error["code"] == "budget-exceeded" and error["type"] == "insufficient_quota"
    assert "daily budget of this key is $0.0001, of which $0.0001 is left" in error["message"]
    assert "T00:00:00Z" in error["message"]
    assert "retry-after" not in a.headers  # the call is dearer than the whole budget
    assert meter.taken == 0
    assert gw.metrics()['budget_rejections_total{scope="key"}'] == 1


def test_what_comes_with_the_next_period_may_be_waited_for(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=2 * metering.OUTPUT * 8)
    meter.tokens = (1, 15)
    assert caller.ask(gw).status == 200
    a = caller.ask(gw)
    assert a.status == 402 and 0 < int(a.headers["retry-after"]) <= 86400
    assert gw.post("/v1/messages", {"model": "openai/metered", "max_tokens": 5,
                                    "messages": [{"role": "user", "content": "x"}]},
                   headers=caller.headers).status == 402


def test_no_budget_is_no_limit(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres)
    a = caller.ask(gw, max_tokens=None)
    assert a.status == 200 and "x-postern-budget-left-usd" not in a.headers
    assert caller.ask(gw, model="openai/nobody-knows-its-price").status == 200
    assert redis.call("KEYS", "budget:*") == []


def test_without_a_limit_of_its_own_a_call_is_refused_not_changed(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=1000 * metering.OUTPUT)
    a = caller.ask(gw, max_tokens=None)  # the model's own is 2,000
    assert a.status == 402 and "limit on its output tokens" in a.json["error"]["message"]
    assert caller.ask(gw, max_tokens=900).status == 200


def test_an_unknown_price_is_refused_unless_conf_allows_it(make, meter, postgres, redis):
    caller = Caller(postgres, budget=USD)
    a = caller.ask(make(), model="openai/nobody-knows-its-price")
    assert a.status == 400 and a.json["error"]["code"] == "price-unknown"
    assert "openai/nobody-knows-its-price" in a.json["error"]["message"]
    gw = make(conf={"gateway.yaml": {**FAST["gateway.yaml"], "budgets.unknown_price": "allow"}})
    assert caller.ask(gw, model="openai/nobody-knows-its-price").status == 200


def test_models_that_are_not_on_the_list_are_refused(make, meter, postgres, redis):
    gw = make()
    caller = Caller(postgres, models=["openai/metered"])
    assert caller.ask(gw).status == 200
    a = caller.ask(gw, model="openai/other")
    assert a.status == 403 and a.json["error"]["code"] == "model-not-allowed"
    assert caller.ask(gw, fallbacks=["openai/other"]).headers["x-postern-model"] == "openai/metered"
    by_alias = Caller(postgres, models=["fast"])
    assert by_alias.ask(gw, model="fast").status == 200
    assert by_alias.ask(gw, model="openai/metered").status == 403
    meter.failures = [500] * 20
    a = by_alias.ask(gw, model="fast", fallbacks=["openai/other"])
    assert a.status == 502 and a.headers["x-postern-model"] == "openai/metered"
    prefix = Caller(postgres, models=["openai/o*"])
    assert prefix.ask(gw, model="openai/metered").status == 403
    meter.failures = []
    assert prefix.ask(gw, model="openai/other").status == 200


def test_tokens_per_minute_are_limited(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, tpm=6000)
    meter.tokens = (100, 5000)
    a = caller.ask(gw, max_tokens=5000)
    assert a.status == 200
    assert a.headers["x-ratelimit-limit-tokens"] == "6000"
    assert int(a.headers["x-ratelimit-remaining-tokens"]) < 1000
    a = caller.ask(gw, max_tokens=5000)
    assert a.status == 429 and a.json["error"]["code"] == "rate-limited"
    assert a.headers["x-ratelimit-limit-tokens"] == "6000"
    assert 800 <= int(a.headers["x-ratelimit-remaining-tokens"]) < 2000
    assert 30 <= int(a.headers["retry-after"]) <= 60
    assert "6000 tokens a minute" in a.json["error"]["message"]
    assert caller.ask(gw, max_tokens=100).status == 200


def test_shares_are_told_once(make, meter, postgres, redis):
    gw = make()
    meter.tokens = (5, 5)
    each = worst_case(gw, meter, Caller(postgres, budget=USD), redis)
    caller = Caller(postgres, budget=10 * meter.cost + each - meter.cost)
    while caller.ask(gw).status == 200:
        pass

    def told():
        return [(x["percent"], x["scope"]) for x in gw.log_lines() if x["message"] == "budget_share_passed"]
    wait_until(told)
    assert told() == [(80, "key:" + caller.id)]
    assert gw.metrics()['budget_alerts_total{scope="key",percent="80"}'] == 1


# --- what is forgotten, and what is away ----------------------------------------------------------------------

def test_a_new_process_over_an_empty_redis_counts_from_the_ledger(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=USD)
    for _ in range(3):
        assert caller.ask(gw).status == 200
    booked(postgres, [caller], 3)
    assert gw.stop() == 0
    redis.call("FLUSHALL")
    gw = make()
    assert caller.ask(gw).status == 200
    caller.expect(redis, (4 * meter.cost, 0))


def test_without_redis_one_process_counts_and_begins_with_the_ledger(make, meter, postgres):
    class Nothing:
        url = ""
    gw, caller = make(redis=Nothing), Caller(postgres, budget=USD)
    assert caller.ask(gw).status == 200
    booked(postgres, [caller], 1)
    assert gw.stop() == 0
    gw = make(redis=Nothing)
    set_budget(postgres, caller, meter.cost + 1)
    assert caller.ask(gw).status == 402
    set_budget(postgres, caller, USD)
    answers = []
    wait_until(lambda: answers.append(caller.ask(gw)) or answers[-1].status == 200)  # when it has heard of the change
    a = answers[-1]
    assert a.headers["x-postern-budget-left-usd"] == "%.9f" % ((USD - 2 * meter.cost) / USD)


@pytest.mark.parametrize("policy", ["local", "refuse"])
def test_while_redis_is_away_conf_decides(make, meter, postgres, make_redis, policy):
    redis = make_redis()
    gw = make(redis=redis, conf={"gateway.yaml": {**FAST["gateway.yaml"], "budgets.on_outage": policy},
                                 "storage_config.yaml": {"redis.timeout_ms": 500}})
    caller, free = Caller(postgres, budget=USD), Caller(postgres)
    assert caller.ask(gw).status == 200
    redis.freeze()
    answers = [caller.ask(gw).status for _ in range(5)]
    assert answers == ([200] * 5 if policy == "local" else [503] * 5)
    assert free.ask(gw).status == 200
    redis.thaw()
    wait_until(lambda: gw.metrics()["redis_up"] == 1)
    n = 6 if policy == "local" else 1
    caller.expect(redis, (n * meter.cost, 0))
    assert caller.ask(gw).status == 200
    assert booked(postgres, [caller], n + 1) == (n + 1) * meter.cost


def test_while_postgres_is_away_what_is_known_counts(make, meter, make_postgres, redis):
    pg = make_postgres()
    pg.migrate()
    gw, caller = make(pg=pg), Caller(pg, budget=USD)
    assert caller.ask(gw).status == 200
    pg.kill()
    assert [caller.ask(gw).status for _ in range(3)] == [200] * 3
    caller.expect(redis, (4 * meter.cost, 0))
    redis.call("FLUSHALL")
    assert caller.ask(gw).status == 200
    caller.expect(redis, (5 * meter.cost, 0))
    pg.start()
    assert booked(pg, [caller], 5) == 5 * meter.cost


def test_holds_of_a_process_that_was_killed_are_given_back(make, meter, postgres, redis):
    gw, other = make(), make()
    each = worst_case(other, meter, Caller(postgres, budget=USD), redis)
    caller = Caller(postgres, budget=10 * each)
    meter.hold()
    before = meter.taken
    crowd = Crowd([gw], [caller], 10)
    wait_until(lambda: meter.taken == before + 10)
    gw.kill()
    gw.process = None
    meter.release()
    assert caller.ask(other).status == 402
    caller.expect(redis, (0, 10 * each))
    due = redis.call("KEYS", "budget:{%s}:key:*:due" % caller.id)[0]
    now = int(redis.call("TIME")[0]) * 1000
    for hold in redis.call("ZRANGE", due, 0, -1):
        assert now < float(redis.call("ZSCORE", due, hold)) <= now + 121000
        redis.call("ZADD", due, "XX", now - 1000, hold)  # two minutes later
    assert caller.ask(other).status == 200
    caller.expect(redis, (meter.cost, 0))
    assert crowd.open == 10


def faked(days):
    """A clock that is some days ahead; timers keep the real one."""
    library = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    assert library, "install the package faketime"
    return {"env": {"LD_PRELOAD": library[0], "FAKETIME": "+%dd" % days, "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                    "DONT_FAKE_MONOTONIC": "1", "ASAN_OPTIONS": "verify_asan_link_order=0"}}


@pytest.mark.parametrize("period,days", [("day", 1), ("week", 7), ("month", 31)])
def test_a_new_period_begins_with_all_the_money(make, meter, postgres, redis, period, days):
    gw, caller = make(), Caller(postgres, budget=2 * metering.OUTPUT * 8, period=period)
    meter.tokens = (1, 15)
    assert caller.ask(gw).status == 200
    assert caller.ask(gw).status == 402
    later = make(**faked(days))
    assert caller.ask(later).status == 200
    assert caller.ask(later).status == 402
    assert caller.ask(gw).status == 402


def test_a_total_budget_has_no_periods(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=2 * metering.OUTPUT * 8, period="total")
    meter.tokens = (1, 15)
    assert caller.ask(gw).status == 200
    a = caller.ask(make(**faked(40)))
    assert a.status == 402 and "does not reset" in a.json["error"]["message"]
    assert "retry-after" not in a.headers

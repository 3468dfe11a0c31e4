"""Budgets and what is there already: a kept answer costs nothing, the vector of a question costs what it costs."""

import json

import pytest

import meter as metering
from budget_fixtures import FAST, USD, Caller, booked, make, meter, request_bytes, rows, set_budget, wait_until  # noqa: F401
from gateway import AUTH

KEEP = {**FAST, "cache.yaml": {"response.mode": "all"}}
SEMANTIC = {**FAST, "cache.yaml": {"response.mode": "all", "semantic.enabled": "true",
                                   "semantic.model": "openai/vectors", "semantic.min_similarity_percent": 99}}


def spend_all(redis, pg, caller):
    """As if everything the key may spend had been spent."""
    key = redis.call("KEYS", "budget:*key:%s:*:sum" % caller.id)[0]
    redis.call("HSET", key, "spent", USD)


def test_a_key_whose_budget_is_used_up_gets_what_is_kept_and_402_for_what_is_not(make, meter, postgres, redis):
    gw, caller = make(conf=KEEP), Caller(postgres, budget=USD)
    texts = {"model": "openai/vectors", "input": ["one", "two"]}
    assert caller.ask(gw, text="kept").headers["x-cache"] == "MISS"
    assert caller.ask(gw, text="kept", stream=True).headers["x-cache"] == "MISS"
    for one in texts["input"]:  # the meter makes one vector a call
        assert gw.post("/v1/embeddings", {**texts, "input": one}, headers=caller.headers).status == 200
    wait_until(lambda: caller.sums(redis)[1] == 0)
    spend_all(redis, postgres, caller)
    taken = meter.taken

    hit = caller.ask(gw, text="kept")
    assert (hit.status, hit.headers["x-cache"], hit.headers["x-postern-cost-usd"]) == (200, "HIT", "0.000000000")
    assert caller.ask(gw, text="kept", stream=True).headers["x-cache"] == "HIT"
    assert gw.post("/v1/embeddings", texts, headers=caller.headers).headers["x-cache"] == "HIT"
    refused = caller.ask(gw, text="new")
    assert refused.status == 402 and refused.json["error"]["code"] == "budget-exceeded"
    assert caller.ask(gw, text="new", stream=True).status == 402
    assert gw.post("/v1/embeddings", {**texts, "input": ["one", "three"]}, headers=caller.headers).status == 402
    assert meter.taken == taken
    caller.expect(redis, (USD, 0))  # nothing was booked, and nothing is held
    booked(postgres, [caller], 7)
    assert [r for r in rows(postgres, caller, "cache, cost_nano_usd") if r[0] == "hit"] == [["hit", "0"]] * 3


def test_the_vector_of_a_question_is_paid_for_like_any_other(make, meter, postgres, redis):
    gw, caller = make(conf=SEMANTIC), Caller(postgres, budget=USD, tpm=100000)
    vector = meter.tokens[0] * metering.INPUT
    a = caller.ask(gw, text="What does it cost?")
    assert a.headers["x-cache"] == "MISS" and meter.taken == 2
    caller.expect(redis, (meter.cost + vector, 0))
    # the vectors of the meter are all the same
    again = caller.ask(gw, text="How much is it?")
    assert again.headers["x-cache"] == "SEMANTIC" and meter.taken == 3
    caller.expect(redis, (meter.cost + 2 * vector, 0))
    assert caller.ask(gw, text="How much is it?").headers["x-cache"] == "SEMANTIC" and meter.taken == 3
    assert booked(postgres, [caller], 5) == meter.cost + 2 * vector
    assert sorted(rows(postgres, caller, "purpose, cache, cost_nano_usd, usage_known")) == sorted(
        [["chat", "miss", str(meter.cost), "t"], ["chat", "semantic", "0", "t"], ["chat", "semantic", "0", "t"],
         ["embeddings", "miss", str(vector), "t"], ["embeddings", "miss", str(vector), "t"]])


def test_the_vector_of_a_question_is_reserved_while_it_is_made(make, meter, postgres, redis):
    gw, caller = make(conf=SEMANTIC), Caller(postgres, budget=USD)
    meter.hold()
    s = gw.connect()
    s.sendall(request_bytes(caller))
    wait_until(lambda: meter.taken == 1)
    spent, held = caller.sums(redis)
    assert spent == 0 and meter.tokens[0] // 5 * metering.INPUT < held < 10 * metering.INPUT
    meter.release()
    wait_until(lambda: caller.sums(redis) == (meter.cost + meter.tokens[0] * metering.INPUT, 0))
    s.close()


def test_the_vector_a_client_has_not_waited_for_is_booked_all_the_same(make, meter, postgres, redis):
    gw, caller = make(conf=SEMANTIC), Caller(postgres, budget=USD)
    meter.hold()
    s = gw.connect()
    s.sendall(request_bytes(caller))
    wait_until(lambda: meter.taken == 1)
    s.close()
    cost = booked(postgres, [caller], 1)
    status, purpose, known, tokens_in, out = rows(postgres, caller, "status, purpose, usage_known, tokens_in, "
                                                                    "tokens_out")[0]
    assert (status, purpose, known, out) == ("client-gone", "embeddings", "f", "0")
    assert cost == int(tokens_in) * metering.INPUT > 0
    caller.expect(redis, (cost, 0))
    meter.release()
    assert caller.ask(gw).status == 200
    assert len(rows(postgres, caller)) >= 1 and meter.taken == 3
    gw.alive()


def test_without_money_for_its_vector_no_question_is_looked_for(make, meter, postgres, redis):
    gw, caller = make(conf=SEMANTIC), Caller(postgres, budget=USD)
    assert caller.ask(gw, text="kept").status == 200
    wait_until(lambda: caller.sums(redis)[1] == 0)
    spend_all(redis, postgres, caller)
    taken = meter.taken
    assert caller.ask(gw, text="kept").headers["x-cache"] == "HIT"
    refused = caller.ask(gw, text="and what is new?")
    assert refused.status == 402 and "of this key is $1" in refused.json["error"]["message"]
    assert meter.taken == taken
    assert gw.metrics()['budget_rejections_total{scope="key"}'] == 1  # the client was refused one thing


def test_a_vector_without_a_price_refuses_nobody(make, meter, postgres, redis):
    conf = {**SEMANTIC, "cache.yaml": {**SEMANTIC["cache.yaml"], "semantic.model": "openai/nobody-knows"}}
    gw, caller = make(conf=conf), Caller(postgres, budget=USD)
    assert caller.ask(gw).headers["x-cache"] == "MISS"
    assert meter.taken == 1  # the chat's: nobody knows what the vector would cost


@pytest.mark.parametrize("caller_of", [lambda pg: Caller(pg, budget=USD).headers, lambda pg: AUTH])
def test_a_client_that_wants_no_call_gets_none_for_a_vector(make, meter, postgres, redis, caller_of):
    gw, headers = make(conf=SEMANTIC), caller_of(postgres)
    body = {"model": "openai/metered", "messages": [{"role": "user", "content": "What does it cost?"}]}
    a = gw.post("/v1/chat/completions", body, headers={**headers, "Cache-Control": "only-if-cached"})
    assert a.status == 504 and json.loads(a.body)["error"]["code"] == "miss"
    assert meter.taken == 0

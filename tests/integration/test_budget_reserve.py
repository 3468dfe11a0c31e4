"""What is reserved for a call is what it may cost at most, whatever its body says, and who answers in the end."""

import json
import threading

import pytest

import meter as metering
from budget_fixtures import FAST, USD, Caller, add_team, booked, make, meter, rows, wait_until  # noqa: F401
from gateway import AUTH

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
NEWER = [{"role": "user", "content": [{"type": "hologram", "hologram": {"id": "h1"}}]}]  # nobody here can read it
ABLE = metering.MODELS.replace("[tools]", "[tools, reasoning, pdf]")
TWO_PRICES = metering.MODELS.replace("aliases:", """  - id: openai/dear
    context_tokens: 1000000
    max_output_tokens: 2000
    prices: {input: 10, output: 100, cache_read: 0.5, cache_write: 10}
aliases:
  - name: cheap-then-dear
    strategy: priority
    targets: [{model: openai/metered}, {model: openai/dear}]""")
OUTPUT, INPUT = metering.OUTPUT, metering.INPUT


class Ask:
    """A call that is held by the provider; gives what is reserved meanwhile and its answer."""

    def __init__(self, gw, meter, caller, redis, body, path=CHAT):
        before = meter.taken
        meter.hold()
        self.answer = None
        t = threading.Thread(target=self.send, args=(gw, caller, body, path))
        t.start()
        wait_until(lambda: meter.taken > before or self.answer)
        self.held = caller.sums(redis)[1] if not self.answer else 0
        meter.release()
        t.join()

    def send(self, gw, caller, body, path):
        body = body if isinstance(body, (str, bytes)) else json.dumps(body)
        self.answer = gw.post(path, body, headers={**caller.headers, "Content-Type": "application/json"})


def chat(**more):
    return {"model": "openai/metered", "messages": HELLO, **more}


# --- limits of every kind -------------------------------------------------------------------------------------

@pytest.mark.parametrize("more,tokens", [
    ({}, 2000), ({"max_tokens": None}, 2000), ({"max_tokens": 7}, 7), ({"max_completion_tokens": 7}, 7),
    ({"max_tokens": 7, "n": 3}, 21), ({"n": 3}, 6000), ({"max_tokens": 100000}, 100000),
    ({"max_tokens": 7, "stream": True}, 7),
    ({"max_tokens": 7, "reasoning_effort": "low"}, 7 + 1024),
    ({"max_tokens": 7, "prediction": {"type": "content", "content": "x" * 3000}}, 1007)])
@pytest.mark.parametrize("messages", [HELLO, NEWER], ids=["read", "unread"])
def test_the_output_a_call_may_have_is_reserved(make, meter, postgres, redis, more, tokens, messages):
    gw, caller = make(models_text=ABLE), Caller(postgres, budget=100 * USD)
    if messages is NEWER and "prediction" in more or messages is NEWER and "reasoning_effort" in more:
        tokens = more["max_tokens"]  # it goes through as it is; what it may write is all that is known
    if more.get("stream"):
        meter.pieces = ["x"]
    ask = Ask(gw, meter, caller, redis, {**chat(**more), "messages": messages})
    assert ask.answer.status == 200, ask.answer.text
    assert tokens * OUTPUT < ask.held < tokens * OUTPUT + 1500 * INPUT
    wait_until(lambda: caller.sums(redis) == (meter.cost, 0))


@pytest.mark.parametrize("limits,status", [
    ('"max_tokens": 1000000000', 402), ('"max_tokens": 9223372036854775807', 402),
    ('"max_tokens": 1000000000, "n": 128', 402), ('"max_tokens": 9223372036854775807, "n": 9223372036854775807', 402),
    ('"max_tokens": -1', 400), ('"max_tokens": 0', 400), ('"n": -1', 400), ('"max_tokens": 1e99', 400),
    ('"max_tokens": "5"', 400), ('"n": 1.5', 400), ('"n": [1]', 400),
    ('"max_tokens": 5, "max_tokens": 100000', 400), ('"n": 1, "n": 128', 400), ('"max_completion_tokens": {}', 400)])
@pytest.mark.parametrize("messages", [HELLO, NEWER], ids=["read", "unread"])
def test_a_limit_that_nobody_can_rely_on_is_refused(make, meter, postgres, redis, limits, status, messages):
    gw, caller = make(), Caller(postgres, budget=USD)
    body = '{"model": "openai/metered", "messages": %s, %s}' % (json.dumps(messages), limits)
    a = gw.post(CHAT, body, headers={**caller.headers, "Content-Type": "application/json"})
    assert a.status == status, a.text
    assert meter.taken == 0


def test_of_two_limits_in_a_body_nobody_can_read_the_larger_one_is_reserved(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=USD)
    ask = Ask(gw, meter, caller, redis, {**chat(max_tokens=5, max_completion_tokens=900), "messages": NEWER})
    assert 900 * OUTPUT < ask.held < 1000 * OUTPUT


def test_members_nobody_here_knows_are_input_too(make, meter, postgres, redis):
    gw, caller = make(), Caller(postgres, budget=USD)
    functions = [{"name": "f", "description": "x" * 30000, "parameters": {"type": "object"}}]
    ask = Ask(gw, meter, caller, redis, chat(max_tokens=5, functions=functions))
    assert ask.answer.status == 200
    assert 10000 * INPUT < ask.held < 11000 * INPUT + 5 * OUTPUT


def test_a_document_whose_size_nobody_here_knows_is_reserved_for(make, meter, postgres, redis):
    gw, caller = make(models_text=ABLE), Caller(postgres, budget=USD)
    part = {"type": "file", "file": {"file_id": "file-1"}}
    ask = Ask(gw, meter, caller, redis, {**chat(max_tokens=5), "messages": [{"role": "user", "content": [part]}]})
    assert ask.answer.status == 200, ask.answer.text
    assert ask.held >= 100000 * INPUT


def test_thoughts_above_the_limit_are_booked_in_full_and_bar_the_next_call(make, meter, postgres, redis):
    gw = make()
    caller = Caller(postgres, budget=100 * OUTPUT)
    meter.tokens = (5, 95)  # the client asked for five
    assert caller.ask(gw, max_tokens=5).status == 200
    caller.expect(redis, (5 * INPUT + 95 * OUTPUT, 0))
    assert caller.ask(gw, max_tokens=5).status == 402
    assert booked(postgres, [caller], 1) == meter.cost


# --- who answers ----------------------------------------------------------------------------------------------

def test_a_fallback_that_costs_more_is_reserved_for_and_booked_at_its_price(make, meter, postgres, redis):
    conf = {"gateway.yaml": {**FAST["gateway.yaml"], "retry.attempts": 1}}
    gw = make(conf=conf, models_text=TWO_PRICES)
    caller = Caller(postgres, budget=USD)
    body = chat(model="cheap-then-dear", max_tokens=50)
    ask = Ask(gw, meter, caller, redis, body)
    assert ask.held > 50 * 10 * OUTPUT  # at the price of the dearer one
    assert ask.answer.headers["x-postern-model"] == "openai/metered"
    wait_until(lambda: caller.sums(redis) == (meter.cost, 0))
    meter.failures = [500]
    a = gw.post(CHAT, body, headers=caller.headers)
    assert a.headers["x-postern-model"] == "openai/dear"
    wait_until(lambda: caller.sums(redis) == (11 * meter.cost, 0))
    assert booked(postgres, [caller], 2) == 11 * meter.cost
    poor = Caller(postgres, budget=100 * OUTPUT)  # enough for the first target alone
    assert gw.post(CHAT, body, headers=poor.headers).status == 402
    assert gw.post(CHAT, {**body, "model": "openai/metered"}, headers=poor.headers).status == 200
    assert gw.post(CHAT, {**body, "model": "openai/metered", "fallbacks": ["openai/dear"]},
                   headers=poor.headers).status == 402


def test_cached_tokens_cost_their_own_price(make, meter, postgres, redis):
    gw, caller = make(models_text=TWO_PRICES), Caller(postgres, budget=USD)
    meter.tokens, meter.cached = (1000, 10), 800
    a = gw.post(CHAT, chat(model="openai/dear", max_tokens=10), headers=caller.headers)
    assert a.status == 200
    cost = 200 * 10000 + 800 * 500 + 10 * 100000
    wait_until(lambda: caller.sums(redis) == (cost, 0))
    assert booked(postgres, [caller], 1) == cost
    assert rows(postgres, caller, "tokens_in, cache_read, tokens_out") == [["1000", "800", "10"]]


# --- embeddings -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("inputs,least", [
    (["abc" * 100] * 2048, 2048 * 100), ([[7] * 500] * 100, 50000), (list(range(1000, 3000)), 2000)])
def test_large_arrays_of_texts_and_tokens_are_reserved_for(make, meter, postgres, redis, inputs, least):
    gw, caller = make(), Caller(postgres, budget=USD)
    meter.tokens = (least, 0)
    ask = Ask(gw, meter, caller, redis, {"model": "openai/vectors", "input": inputs}, "/v1/embeddings")
    assert ask.held >= least * INPUT
    poor = Caller(postgres, budget=least * INPUT - 1)
    assert gw.post("/v1/embeddings", {"model": "openai/vectors", "input": inputs}, headers=poor.headers).status == 402


# --- a key's and its team's -----------------------------------------------------------------------------------

def test_a_key_and_a_team_of_different_periods_are_both_charged_and_each_may_refuse(make, meter, postgres, redis):
    gw = make()
    team = add_team(postgres, budget=USD, period="month")
    a, b = Caller(postgres, team=team, budget=20 * OUTPUT, period="day"), Caller(postgres, team=team)
    meter.tokens = (1, 14)
    assert a.ask(gw).status == 200
    a.expect(redis, (meter.cost, 0))
    a.expect(redis, (meter.cost, 0), "team")
    (day,), (month,) = (redis.keys("budget:*%s:*:sum" % who) for who in ("key:" + a.id, "team:" + team))
    assert ":day" in day and ":month" in month and redis.call("PTTL", month) >= redis.call("PTTL", day)
    refused = a.ask(gw)
    assert refused.status == 402 and "daily budget of this key" in refused.json["error"]["message"]
    assert b.ask(gw).status == 200
    b.expect(redis, (2 * meter.cost, 0), "team")
    redis.call("HSET", month, "spent", USD)
    for who in (a, b):
        assert who.ask(gw).status == 402
    assert "monthly budget of this team" in b.ask(gw).json["error"]["message"]
    b.expect(redis, (USD, 0), "team")
    assert gw.chat("openai/metered", headers=AUTH).status == 200


# --- other surfaces -------------------------------------------------------------------------------------------

NO_LIMIT = {"contents": [{"parts": [{"hologram": {"id": "h1"}}]}]}
CLAUDE, GEMINI = "/v1/messages", "/v1beta/models/google/gemini-2.5-flash:generateContent"


def claude(**more):
    return {"model": "anthropic/claude-haiku-4-5", "messages": NEWER, **more}


def gemini(**config):
    return {**NO_LIMIT, "generationConfig": config}


@pytest.mark.parametrize("path,body,status", [
    (CLAUDE, claude(max_tokens=10), 0), (CLAUDE, claude(max_tokens=10 ** 9), 402), (CLAUDE, claude(max_tokens="9"), 400),
    (CLAUDE, claude(max_tokens=-1), 400),
    (GEMINI, gemini(maxOutputTokens=10), 0), (GEMINI, gemini(maxOutputTokens=10 ** 9), 402),
    (GEMINI, gemini(candidateCount=10 ** 9), 402), (GEMINI, gemini(maxOutputTokens=5, max_output_tokens=10 ** 9), 400),
    (GEMINI, gemini(max_output_tokens=10 ** 9), 402), (GEMINI, gemini(maxOutputTokens=5, candidate_count="8"), 400),
    (GEMINI, {**gemini(maxOutputTokens=5), "generation_config": {"maxOutputTokens": 10 ** 9}}, 400)])
def test_what_only_the_vendor_can_read_has_a_limit_on_every_surface(make_gateway, standin, postgres, redis, path,
                                                                    body, status):
    gw, caller = make_gateway(pg=postgres, redis=redis), Caller(postgres, budget=USD)
    a = gw.post(path, body, headers=caller.headers)
    calls = standin.calls(body=False)
    if status:
        assert a.status == status and not calls, a.text
    else:
        assert len(calls) == 1  # it went through; what the vendor says is its own matter

"""Idempotency-Key through the real program: one run for each key, in process and over Redis."""
import concurrent.futures
import random
import threading

import pytest
from front import wait_until
from gateway import AUTH, MASTER_KEY
from rawhttp import Raw, post_json

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]
MODEL = "openai/gpt-4o-mini"


def ask(gw, key, text="hello", model=MODEL, timeout=60, **more):
    return gw.chat(model, text, headers={**AUTH, "Idempotency-Key": key}, timeout=timeout, **more)


def runs(standin):
    return len([c for c in standin.calls(body=False) if c["method"] == "POST"])


def outcomes(gw):
    """Counts by outcome, without those that are 0."""
    return {k.split('"')[1]: v for k, v in gw.metrics().items()
            if k.startswith("idempotency_total") and v}


def replayed(answer):
    return answer.headers.get("idempotency-replayed") == "true"


def raw_chat(key, model=MODEL, **more):
    return post_json(CHAT, {"model": model, "messages": MESSAGES, **more},
                     "Authorization: Bearer " + MASTER_KEY, "Idempotency-Key: " + key)


def wait_kept(redis, n=1):
    """Waits until Redis holds n outcomes (the mark of a request at work has a short life)."""
    wait_until(lambda: sum(redis.call("PTTL", k) > 60000 for k in redis.keys("idem:*")) == n, "kept")


@pytest.fixture
def make_shared(make_gateway):
    """Starts gateways that use a Redis, and wait for it however busy the machine is."""
    def start(redis, workers=1, **keys):
        conf = {"storage_config.yaml": {"redis.timeout_ms": 20000, "redis.connect_timeout_ms": 20000}}
        if keys:
            conf["gateway.yaml"] = {"idempotency." + k: v for k, v in keys.items()}
        gw = make_gateway(redis=redis, env={"API_WORKERS": str(workers)}, conf=conf)
        wait_until(lambda: gw.metrics()["redis_up"] == workers, "Redis to be in use")
        return gw
    return start


@pytest.fixture(params=["in process", "redis"])
def gw(request, make_gateway):
    """A gateway without and with Redis."""
    if request.param == "redis":
        return request.getfixturevalue("make_shared")(request.getfixturevalue("redis"))
    return make_gateway()


# --- the same again --------------------------------------------------------------------------------

def test_a_repetition_gets_the_first_answer_again_without_a_second_run(gw, standin):
    first = ask(gw, "k-1")
    second = ask(gw, "k-1")
    assert first.status == second.status == 200
    assert first.body == second.body
    assert not replayed(first) and replayed(second)
    for name in ("content-type", "x-postern-provider", "x-postern-model", "x-postern-cost-usd"):
        assert first.headers.get(name) == second.headers.get(name), name
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert runs(standin) == 1
    assert outcomes(gw) == {"first": 1, "replayed": 1}


def test_another_body_path_or_query_under_the_same_key_is_refused(gw, standin):
    headers = {**AUTH, "Idempotency-Key": "k-2"}
    assert ask(gw, "k-2").status == 200
    for answer in (ask(gw, "k-2", text="something else"),
                   gw.post("/v1/messages", {"model": MODEL, "max_tokens": 9, "messages": MESSAGES},
                           headers=headers),
                   gw.post(CHAT + "?x=1", {"model": MODEL, "messages": MESSAGES}, headers=headers)):
        assert answer.status == 422, answer.text
        assert "Idempotency-Key" in answer.text
    assert runs(standin) == 1
    assert outcomes(gw) == {"first": 1, "reused": 3}


def test_a_stream_is_replayed_as_a_stream(gw, standin):
    first = ask(gw, "k-3", stream=True)
    second = ask(gw, "k-3", stream=True)
    assert first.status == second.status == 200
    assert first.headers["content-type"] == second.headers["content-type"]
    assert second.headers["transfer-encoding"] == "chunked" and replayed(second)
    assert first.events()[-1][1] == "[DONE]" and first.events() == second.events()
    assert runs(standin) == 1


@pytest.mark.parametrize("path,body", [
    ("/v1/messages", {"model": MODEL, "max_tokens": 50, "messages": MESSAGES}),
    ("/v1beta/models/%s:generateContent" % MODEL, {"contents": [{"parts": [{"text": "hi"}]}]}),
    ("/v1/responses", {"model": MODEL, "input": "hi"}),
    ("/v1/embeddings", {"model": "openai/text-embedding-3-small", "input": "hi"}),
    ("/api/v1/chat", {"model": MODEL, "message": "hi"}),
])
def test_every_surface_that_posts_takes_a_key(gateway, standin, path, body):
    headers = {**AUTH, "Idempotency-Key": "surface-" + path}
    first, second = (gateway.post(path, body, headers=headers) for _ in range(2))
    assert first.status == 200, first.text
    assert replayed(second) and second.body == first.body
    assert runs(standin) == 1


def test_a_large_body_is_told_apart_by_its_last_byte(gw, standin):
    text = "x" * 300000  # hashed off the loop
    assert ask(gw, "k-large", text=text).status == 200
    assert replayed(ask(gw, "k-large", text=text))
    assert ask(gw, "k-large", text=text[:-1] + "y").status == 422
    assert runs(standin) == 1


@pytest.mark.parametrize("key,ok", [
    ("x", True), ("x" * 255, True), ("~!'{}\"", True), ("}{", True),
    ("", False), ("x" * 256, False), ("a b", False), ("a\tb", False), ("\xe9", False)])
def test_a_key_is_1_to_255_visible_characters(gateway, key, ok):
    answer = ask(gateway, key, text="key " + repr(key))
    assert answer.status == (200 if ok else 400), answer.text


def test_two_keys_in_one_request_are_refused(gateway):
    with Raw(gateway.port) as raw:
        raw.send(raw_chat("a\r\nIdempotency-Key: b"))
        assert raw.answer("POST").status == 400


def test_a_key_on_a_get_is_nothing_to_us(gateway):
    for _ in range(2):
        answer = gateway.get("/v1/models", headers={**AUTH, "Idempotency-Key": "k"})
        assert answer.status == 200 and not replayed(answer)


def test_callers_do_not_meet_under_the_same_key(make_gateway, standin):
    gw = make_gateway(auth=False, conf={"gateway.yaml": {"server.trusted_proxies": "[127.0.0.1]"}})
    answers = [gw.chat(MODEL, "hello", headers={"Idempotency-Key": "same", "X-Forwarded-For": ip})
               for ip in ("198.51.100.1", "198.51.100.2", "198.51.100.1")]
    assert [replayed(a) for a in answers] == [False, False, True]
    assert runs(standin) == 2


# --- which outcomes are kept -----------------------------------------------------------------------

def test_a_refusal_that_would_come_again_is_kept(gw, standin):
    first, second = (ask(gw, "k-bad", model="openai/no-such-model") for _ in range(2))
    assert first.status == second.status == 404
    assert replayed(second)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failure_releases_the_key(gw, standin, status):
    standin.control({"status": status}, repeat=-1)
    first = ask(gw, "k-fail")
    assert first.status >= 429 and not replayed(first)
    standin.reset()
    gw.post("/api/v1/admin/circuits/openai/reset", "")
    second = ask(gw, "k-fail")
    assert second.status == 200 and not replayed(second)
    assert replayed(ask(gw, "k-fail"))


def test_a_stream_that_fails_in_the_middle_releases_the_key(gw, standin):
    standin.control({"cut": "stream", "after": 2})
    assert "[DONE]" not in ask(gw, "k-mid", stream=True).text
    again = ask(gw, "k-mid", stream=True)
    assert not replayed(again) and again.events()[-1][1] == "[DONE]"


def test_an_answer_too_large_to_be_kept_is_not_run_again(make_shared, redis, standin):
    gw = make_shared(redis, max_body_kb=1)
    model = MODEL + "~chunks=40,size=100"
    assert len(ask(gw, "k-big", model=model).body) > 4000
    again = ask(gw, "k-big", model=model)
    assert again.status == 409 and "too large" in again.text
    assert "retry-after" not in again.headers
    assert len(ask(gw, "k-big-s", model=model, stream=True).body) > 4000
    assert ask(gw, "k-big-s", model=model, stream=True).status == 409
    assert runs(standin) == 2


def test_an_outcome_is_kept_for_the_configured_time(make_shared, redis):
    gw = make_shared(redis, ttl_h=2)
    ask(gw, "k-ttl")
    wait_kept(redis)
    name, = redis.keys("idem:*")
    assert name.endswith(":k-ttl")
    assert 7000000 < redis.call("PTTL", name) <= 7200000


def test_no_secret_and_no_prompt_stands_in_the_names(make_shared, redis):
    gw = make_shared(redis)
    ask(gw, "k-secret", text="the prompt")
    for name in redis.keys("idem:*"):
        assert MASTER_KEY not in name and "the prompt" not in name


# --- at the same time ------------------------------------------------------------------------------

def at_once(n, call):
    """Calls n times at once; the answers."""
    barrier = threading.Barrier(n)

    def one(i):
        barrier.wait()
        return call(i)

    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(one, range(n)))


def test_a_hundred_duplicates_at_once_are_one_run(gw, standin):
    answers = at_once(100, lambda i: ask(gw, "k-100", model=MODEL + "~delay_ms=300"))
    assert {a.status for a in answers} == {200}
    assert len({a.body for a in answers}) == 1
    assert sum(not replayed(a) for a in answers) == 1
    assert runs(standin) == 1


def test_a_hundred_duplicates_over_two_workers_and_redis_are_one_run(make_shared, redis, standin):
    gw = make_shared(redis, workers=2)
    answers = at_once(100, lambda i: ask(gw, "k-w", model=MODEL + "~delay_ms=500"))
    assert {a.status for a in answers} <= {200, 409}
    busy = [a for a in answers if a.status == 409]
    assert all(a.headers["retry-after"] == "1" and "being worked on" in a.text for a in busy)
    assert runs(standin) == 1
    wait_kept(redis)
    assert len({ask(gw, "k-w", model=MODEL + "~delay_ms=500").body for _ in range(10)}) == 1
    assert runs(standin) == 1


def test_two_gateways_share_outcomes(make_shared, redis, standin):
    blue, green = make_shared(redis), make_shared(redis)
    first = ask(blue, "k-2gw")
    wait_kept(redis)
    second = ask(green, "k-2gw")
    assert replayed(second) and first.body == second.body
    assert ask(green, "k-2gw", text="other").status == 422
    assert runs(standin) == 1


def test_a_duplicate_in_another_process_is_told_to_come_again(make_shared, redis, standin):
    blue, green = make_shared(redis), make_shared(redis)
    with Raw(blue.port) as raw:
        raw.send(raw_chat("k-busy", MODEL + "~delay_ms=3000"))
        standin.wait_for(lambda calls: len(calls) == 1)
        answer = ask(green, "k-busy", text="hello", model=MODEL + "~delay_ms=3000")
        assert answer.status == 409 and answer.headers["retry-after"] == "1", answer.text
        assert ask(green, "k-busy", text="other").status == 422
        assert raw.answer("POST").status == 200
    wait_kept(redis)
    assert replayed(ask(green, "k-busy", model=MODEL + "~delay_ms=3000"))
    assert runs(standin) == 1


def test_those_who_wait_get_a_stream_whole(gw, standin):
    model = MODEL + "~chunks=5,gap_ms=100"
    answers = at_once(5, lambda i: ask(gw, "k-sw", model=model, stream=True))
    assert {a.status for a in answers} == {200}
    assert len({a.text for a in answers}) == 1 and answers[0].events()[-1][1] == "[DONE]"
    assert runs(standin) == 1


def test_those_who_wait_for_a_failure_get_it_and_do_not_multiply_it(gw, standin):
    standin.control({"status": 400, "delay_ms": 400}, repeat=-1)
    answers = at_once(20, lambda i: ask(gw, "k-wf"))
    assert {a.status for a in answers} == {400}
    assert runs(standin) == 1


# --- clients that leave ----------------------------------------------------------------------------

def leave(gw, data, standin):
    """Sends a request and leaves once the provider has been asked."""
    with gw.connect() as s:
        s.sendall(data)
        standin.wait_for(lambda calls: len(calls) == 1)


def test_check_070_a_client_that_leaves_early_finds_the_outcome_of_the_one_run(gw, standin):
    model = MODEL + "~delay_ms=600"
    leave(gw, raw_chat("k-gone", model), standin)
    answer = ask(gw, "k-gone", model=model)
    assert answer.status == 200 and replayed(answer)
    assert runs(standin) == 1
    gw.wait_idle()


def test_check_070_without_a_key_a_client_that_leaves_ends_the_call(gw, standin):
    data = post_json(CHAT, {"model": MODEL + "~delay_ms=20000", "messages": MESSAGES},
                     "Authorization: Bearer " + MASTER_KEY)
    leave(gw, data, standin)
    standin.wait_for(lambda calls: calls[0]["ended"] is not None)
    gw.wait_idle()


def test_check_070_a_stream_that_was_cut_by_its_client_is_stopped_and_not_run_again(gw, standin):
    model = MODEL + "~chunks=1000,gap_ms=50"
    with Raw(gw.port) as raw:
        raw.send(raw_chat("k-cut", model, stream=True))
        raw.until(b"data: ")
    gw.wait_idle()
    again = ask(gw, "k-cut", model=model, stream=True)
    assert again.status == 409 and "cut" in again.text and "retry-after" not in again.headers
    assert runs(standin) == 1


def test_one_that_waits_may_leave(gw, standin):
    model = MODEL + "~delay_ms=1500"
    with Raw(gw.port) as first:
        first.send(raw_chat("k-leave", model))
        standin.wait_for(lambda calls: len(calls) == 1)
        with Raw(gw.port) as second:
            second.send(raw_chat("k-leave", model))
            wait_until(lambda: outcomes(gw).get("waited") == 1, "the second waits")
        assert first.answer("POST").status == 200
    gw.wait_idle()
    assert replayed(ask(gw, "k-leave", model=model))
    assert runs(standin) == 1


def test_the_first_may_leave_while_others_wait(gw, standin):
    model = MODEL + "~delay_ms=1500"
    with Raw(gw.port) as second:
        with Raw(gw.port) as first:
            first.send(raw_chat("k-first", model))
            standin.wait_for(lambda calls: len(calls) == 1)
            second.send(raw_chat("k-first", model))
            wait_until(lambda: outcomes(gw).get("waited") == 1, "the second waits")
        assert second.answer("POST").status == 200
    assert runs(standin) == 1


def leave_at_random(gw, rng, key, stream):
    """Asks, and leaves after a random number of bytes of the answer, or before the first."""
    with gw.connect() as s:
        s.settimeout(rng.choice([0.001, 0.01, 0.05, 0.2, 5]))
        s.sendall(raw_chat(key, MODEL + "~delay_ms=30,gap_ms=10", stream=stream))
        try:
            for _ in range(rng.randrange(4)):
                s.recv(100)
        except TimeoutError:
            pass


def test_check_070_however_clients_come_and_go_a_key_is_run_once(make_shared, redis, standin):
    gw = make_shared(redis, workers=2)
    keys = ["random-%d" % i for i in range(24)]

    def client(i):
        rng = random.Random(i)
        for key in rng.sample(keys, len(keys)):
            leave_at_random(gw, rng, key, stream=keys.index(key) % 2 == 1)

    at_once(12, client)
    gw.wait_idle()
    wait_until(lambda: redis.keys("idem:*") == [] or
               all(redis.call("PTTL", k) > 60000 for k in redis.keys("idem:*")), "all to be over")
    assert 0 < runs(standin) <= len(keys)
    before = runs(standin)
    kept = {name.rsplit(":", 1)[1] for name in redis.keys("idem:*")}
    assert len(kept) == before
    for key in kept:
        answer = ask(gw, key, model=MODEL + "~delay_ms=30,gap_ms=10", stream=keys.index(key) % 2 == 1)
        assert replayed(answer) or answer.status == 409, answer.text
    assert runs(standin) == before


# --- restarts and a Redis that fails ---------------------------------------------------------------

def test_an_outcome_survives_a_restart(make_shared, redis, standin):
    first = ask(make_shared(redis), "k-restart")
    wait_kept(redis)
    gw = make_shared(redis)
    second = ask(gw, "k-restart")
    assert replayed(second) and second.body == first.body
    assert runs(standin) == 1


def test_stopping_waits_for_what_outlived_its_client(make_shared, redis, standin):
    model = MODEL + "~delay_ms=1000"
    gw = make_shared(redis)
    leave(gw, raw_chat("k-stop", model), standin)
    wait_until(lambda: gw.metrics()["http_connections"] == 1, "the client is gone")
    assert gw.stop() == 0
    answer = ask(make_shared(redis), "k-stop", model=model)
    assert replayed(answer)
    assert runs(standin) == 1


def test_a_process_that_died_leaves_a_mark_that_ends_by_itself(make_shared, redis, standin):
    model = MODEL + "~delay_ms=20000"
    gw = make_shared(redis)
    leave(gw, raw_chat("k-died", model), standin)
    gw.kill()
    gw.process = None
    name, = redis.keys("idem:*")
    assert 0 < redis.call("PTTL", name) <= 20000
    other = make_shared(redis)
    assert ask(other, "k-died", model=model).status == 409
    redis.call("PEXPIRE", name, 1)
    wait_until(lambda: not redis.keys("idem:*"), "the mark is gone")
    assert ask(other, "k-died", text="new").status == 200


def test_a_mark_is_renewed_as_long_as_the_request_runs(make_shared, redis, standin):
    gw = make_shared(redis)
    with Raw(gw.port) as raw:
        raw.send(raw_chat("k-long", MODEL + "~chunks=10000,gap_ms=100", stream=True))
        raw.until(b"data: ")
        name, = redis.keys("idem:*")
        redis.call("PEXPIRE", name, 15000)
        wait_until(lambda: redis.call("PTTL", name) > 15000, "the mark is renewed")


def test_without_redis_the_process_keeps_outcomes_itself(make_gateway, make_redis, standin):
    own = make_redis()
    gw = make_gateway(redis=own)
    assert ask(gw, "k-before").status == 200
    own.kill()
    assert replayed(ask(gw, "k-before"))
    assert ask(gw, "k-during").status == 200
    assert replayed(ask(gw, "k-during"))
    answers = at_once(20, lambda i: ask(gw, "k-many", model=MODEL + "~delay_ms=200"))
    assert {a.status for a in answers} == {200}
    assert runs(standin) == 3


@pytest.mark.parametrize("value", ["", "x", "D" + "x" * 80, "R" + "x" * 10])
def test_garbage_in_redis_is_nobodys_use(make_shared, redis, standin, value):
    gw = make_shared(redis)
    ask(gw, "k-garbage")
    wait_kept(redis)
    name, = redis.keys("idem:*")
    redis.call("SET", name, value)
    other = make_shared(redis)
    answer = ask(other, "k-garbage")
    assert answer.status == 200 and not replayed(answer)


def test_a_key_of_another_type_in_redis_is_no_failure(make_shared, redis, standin):
    gw = make_shared(redis)
    ask(gw, "k-type")
    wait_kept(redis)
    name, = redis.keys("idem:*")
    redis.call("DEL", name)
    redis.call("LPUSH", name, "x")
    other = make_shared(redis)
    assert ask(other, "k-type").status == 200

"""Answers that are there already: kept, replayed, shared, apart by tenant, and gone when cleared."""
import json
import socket
import threading
import time

import pytest

from gateway import AUTH, MASTER_KEY
from redisd import PATIENT

ALL = {"cache.yaml": {"response.mode": "all"}, "storage_config.yaml": PATIENT}


def ask(gw, text="hello", headers=None, path="/v1/chat/completions", **more):
    body = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": text}], **more}
    return gw.post(path, body, headers={**AUTH, **(headers or {})})


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def calls(standin):
    return len(standin.calls(body=False))


@pytest.fixture
def keeping(make_gateway):
    return make_gateway(conf=ALL)


def test_the_second_of_two_identical_requests_is_answered_from_the_cache(keeping, standin):
    first, second = ask(keeping), ask(keeping)
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("MISS", "HIT")
    assert first.body == second.body and calls(standin) == 1
    assert second.headers["age"].isdigit() and second.headers["x-postern-cost-usd"] == "0.000000000"
    assert second.headers["x-postern-model"] == first.headers["x-postern-model"]


def test_members_in_another_order_and_other_spaces_make_no_difference(keeping, standin):
    ask(keeping, temperature=0.5, max_tokens=50)
    body = json.dumps({"max_tokens": 50, "messages": [{"content": "hello", "role": "user"}],
                       "temperature": 0.5, "model": "openai/gpt-4o-mini"}, indent=3)
    assert keeping.post("/v1/chat/completions", body).headers["x-cache"] == "HIT"
    assert calls(standin) == 1


@pytest.mark.parametrize("other", [{"temperature": 0.7}, {"max_tokens": 5}, {"seed": 1},
                                   {"text": "hello "}, {"model": "openai/gpt-4o"}, {"stream": True}])
def test_another_question_is_another_entry(keeping, standin, other):
    ask(keeping)
    assert ask(keeping, **other).headers["x-cache"] == "MISS"
    assert calls(standin) == 2


def test_by_default_only_deterministic_requests_and_those_that_ask_are_kept(gateway, standin):
    assert [ask(gateway, "a").headers["x-cache"] for _ in range(2)] == ["BYPASS", "BYPASS"]
    assert [ask(gateway, "b", temperature=0).headers["x-cache"] for _ in range(2)] == ["MISS", "HIT"]
    control = {"Cache-Control": "max-age=60"}
    assert [ask(gateway, "c", control).headers["x-cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert calls(standin) == 4


def test_cache_control_is_obeyed(keeping, standin):
    ask(keeping)
    assert ask(keeping, headers={"Cache-Control": "no-store"}).headers["x-cache"] == "BYPASS"
    assert ask(keeping, headers={"Cache-Control": "no-cache"}).headers["x-cache"] == "MISS"
    assert ask(keeping, headers={"Cache-Control": "only-if-cached"}).headers["x-cache"] == "HIT"
    refused = ask(keeping, "new", headers={"Cache-Control": "only-if-cached"})
    assert refused.status == 504 and refused.json["error"]["code"] == "miss"
    assert calls(standin) == 3


def test_a_stream_is_replayed_as_the_stream_it_was(keeping, standin):
    first, second = ask(keeping, stream=True), ask(keeping, stream=True)
    assert second.headers["x-cache"] == "HIT" and calls(standin) == 1
    assert second.headers["content-type"].startswith("text/event-stream")
    assert first.body == second.body and second.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("path,body", [
    ("/v1/messages", {"model": "openai/gpt-4o-mini", "max_tokens": 50,
                      "messages": [{"role": "user", "content": "hi"}]}),
    ("/v1/responses", {"model": "anthropic/claude-haiku-4-5", "input": "hi"}),
    ("/v1beta/models/openai%2Fgpt-4o-mini:generateContent",
     {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
    ("/v1beta/models/openai%2Fgpt-4o-mini:streamGenerateContent",
     {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
])
def test_every_surface_has_its_own_entries(keeping, standin, path, body):
    first, second = keeping.post(path, body), keeping.post(path, body)
    assert (first.status, first.headers["x-cache"], second.headers["x-cache"]) == (200, "MISS", "HIT")
    assert first.body == second.body and calls(standin) == 1
    ask(keeping, "hi")
    assert calls(standin) == 2


def test_the_native_chat_tells_that_it_is_cached_and_keeps_its_own_conversation(keeping, standin):
    first = keeping.post("/api/v1/chat", {"message": "hi", "conversation_id": "one"}).json
    second = keeping.post("/api/v1/chat", {"message": "hi", "conversation_id": "two"}).json
    assert (first["cached"], second["cached"]) == (False, True)
    assert (first["conversation_id"], second["conversation_id"]) == ("one", "two")
    assert first["reply"] == second["reply"] and second["cost_dollars"] == 0 and calls(standin) == 1


def test_errors_are_not_kept(keeping, standin):
    standin.control({"status": 400}, repeat=1)
    assert ask(keeping).status == 400
    assert ask(keeping).headers["x-cache"] == "MISS" and ask(keeping).headers["x-cache"] == "HIT"


def test_a_stream_that_broke_is_not_kept(keeping, standin):
    standin.control({"cut": "stream", "after": 2}, repeat=1)
    ask(keeping, stream=True)
    assert ask(keeping, stream=True).headers["x-cache"] == "MISS"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model,reason", [("openai/gpt-4o-mini", "content_filter"), ("openai/gpt-4o-mini", "error"),
                                          ("anthropic/claude-haiku-4-5", "refusal"),
                                          ("google/gemini-2.5-flash", "SAFETY")])
def test_an_answer_that_ended_for_no_ordinary_reason_is_not_kept(keeping, standin, model, reason, stream):
    standin.control({"finish": reason}, repeat=1)
    assert keeping.chat(model, "odd", stream=stream).status == 200
    again = keeping.chat(model, "odd", stream=stream)
    assert again.headers["x-cache"] == "MISS"
    assert keeping.chat(model, "odd", stream=stream).headers["x-cache"] == "HIT"


def test_an_answer_over_the_limit_is_not_kept(make_gateway, standin):
    gw = make_gateway(conf={"cache.yaml": {"response.mode": "all", "response.max_entry_kb": 1}})
    text = "long " * 1000
    assert ask(gw, text).headers["x-cache"] == "MISS"
    assert ask(gw, text).headers["x-cache"] == "MISS"


# --- identical requests in flight ------------------------------------------------------------------


def together(n, run):
    answers = [None] * n

    def one(i):
        answers[i] = run(i)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers


@pytest.mark.parametrize("stream", [False, True])
def test_identical_requests_in_flight_share_one_call(keeping, standin, stream):
    standin.control({"delay_ms": 1500}, repeat=1)
    answers = together(30, lambda i: ask(keeping, "shared", stream=stream))
    assert calls(standin) == 1 and {a.status for a in answers} == {200}
    assert len({a.body for a in answers}) == 1
    assert sum("x-postern-coalesced" in a.headers for a in answers) == 29
    assert keeping.metrics()["coalesced_requests_total"] == 29


@pytest.mark.parametrize("stream", [False, True])
def test_the_leader_may_leave_without_its_followers(keeping, standin, stream):
    standin.control({"delay_ms": 1500}, repeat=1)
    body = json.dumps({"model": "openai/gpt-4o-mini", "stream": stream,
                       "messages": [{"role": "user", "content": "left"}]}).encode()
    leader = socket.create_connection(("127.0.0.1", keeping.port))
    leader.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                   b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
                   % (MASTER_KEY.encode(), len(body), body))
    standin.wait_for(lambda c: len(c) == 1)
    follower = []
    thread = threading.Thread(target=lambda: follower.append(ask(keeping, "left", stream=stream)))
    thread.start()
    wait_until(lambda: keeping.metrics().get("coalesced_requests_total") == 1)
    leader.close()
    thread.join()
    assert follower[0].status == 200 and calls(standin) == 1
    assert ask(keeping, "left", stream=stream).headers["x-cache"] == "HIT"


def test_followers_share_the_leaders_failure(keeping, standin):
    standin.control({"status": 400, "delay_ms": 700}, repeat=1)
    answers = together(5, lambda i: ask(keeping, "bad"))
    assert {a.status for a in answers} == {400} and calls(standin) == 1
    assert ask(keeping, "bad").status == 200


def test_followers_are_told_when_to_come_again_as_their_leader_is(make_gateway, standin):
    gw = make_gateway(conf={**ALL, "gateway.yaml": {"retry.attempts": 1}})
    standin.control({"status": 429, "retry_after": 7, "delay_ms": 700}, repeat=-1)
    answers = together(5, lambda i: ask(gw, "later"))
    assert {a.status for a in answers} == {429} and len({a.body for a in answers}) == 1
    assert {(a.headers["retry-after"], a.headers["x-postern-error-source"]) for a in answers} == {("7", "provider")}


def test_followers_get_all_of_an_answer_that_is_larger_than_the_providers_was(make_gateway, standin):
    gw = make_gateway(conf={**ALL, "gateway.yaml": {"providers.max_response_mb": 1}})
    answer = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
              "content": [{"type": "text", "text": ""}], "usage": {"input_tokens": 1, "output_tokens": 1}}
    answer["content"][0]["text"] = "x" * ((1 << 20) - len(json.dumps(answer)) - 8)  # ours has more around it
    standin.control({"body_raw": json.dumps(answer), "delay_ms": 700}, repeat=-1)
    answers = together(5, lambda i: ask(gw, "large", model="anthropic/claude-sonnet-4-5"))
    assert len(answer["content"][0]["text"]) > 1 << 19 and calls(standin) == 1
    assert {a.status for a in answers} == {200} and len({a.body for a in answers}) == 1
    assert len(answers[0].body) > 1 << 20
    assert answers[0].json["choices"][0]["message"]["content"] == answer["content"][0]["text"]


def send_chat(gw, text):
    body = json.dumps({"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": text}]}).encode()
    s = gw.connect()
    s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close"
              b"\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s" % (MASTER_KEY.encode(), len(body), body))
    return s


def read_all(s):
    got = b""
    while part := s.recv(65536):
        got += part
    s.close()
    return got


def test_followers_of_more_leaders_than_may_outlive_their_clients_are_told_to_come_again(keeping, standin):
    limit, more = 64, 5  # REQUEST_MAX_DETACHED
    standin.control({"delay_ms": 3000}, repeat=-1)
    leaders = [send_chat(keeping, "many %d" % i) for i in range(limit + more)]
    standin.wait_for(lambda c: len(c) == limit + more)
    followers = [send_chat(keeping, "many %d" % i) for i in range(limit + more)]
    wait_until(lambda: keeping.metrics().get("coalesced_requests_total") == limit + more)
    for s in leaders:
        s.close()
    answers = [read_all(s) for s in followers]
    assert sorted(a[9:12] for a in answers) == [b"200"] * limit + [b"503"] * more
    assert all(b"Retry-After: 1" in a for a in answers if a[9:12] == b"503")
    keeping.wait_idle()
    keeping.alive()


def test_coalescing_can_be_switched_off(make_gateway, standin):
    gw = make_gateway(conf={"cache.yaml": {"response.mode": "all", "response.coalesce": "false"}})
    standin.control({"delay_ms": 500}, repeat=-1)
    together(3, lambda i: ask(gw, "apart"))
    assert calls(standin) == 3


# --- Redis -----------------------------------------------------------------------------------------


def test_processes_share_through_redis_and_clearing_reaches_all(make_gateway, standin, redis):
    one, two = (make_gateway(conf=ALL, redis=redis) for _ in range(2))
    for gw in (one, two):
        wait_until(lambda gw=gw: gw.metrics().get("redis_up") == 1)
    ask(one, "far")
    wait_until(lambda: redis.cli("KEYS", "llm:*").strip())
    assert ask(two, "far").headers["x-cache"] == "HIT" and calls(standin) == 1
    assert two.metrics()['cache_hits_total{cache="response",layer="l2"}'] == 1
    assert ask(two, "far").headers["x-cache"] == "HIT"
    assert two.metrics()['cache_hits_total{cache="response",layer="l1"}'] == 1
    cleared = one.request("DELETE", "/api/v1/admin/cache/response")
    assert cleared.status == 200 and cleared.json["removed"] == 2
    assert redis.cli("KEYS", "llm:*").strip() == ""
    wait_until(lambda: two.metrics()['cache_entries{cache="response"}'] == 0)
    assert ask(two, "far").headers["x-cache"] == "MISS"


@pytest.mark.parametrize("value", ["garbage", "", "PC1", "PC1\\0" + "A" * 40])
def test_check_081_what_is_not_ours_under_our_keys_is_a_miss(make_gateway, standin, redis, value):
    gw = make_gateway(conf=ALL, redis=redis)
    wait_until(lambda: gw.metrics().get("redis_up") == 1)
    ask(gw, "odd")
    wait_until(lambda: redis.cli("KEYS", "llm:*").strip())
    key = redis.cli("KEYS", "llm:*").strip()
    redis.cli("SET", key, value)
    other = make_gateway(conf=ALL, redis=redis)
    wait_until(lambda: other.metrics().get("redis_up") == 1)
    assert ask(other, "odd").headers["x-cache"] == "MISS"
    redis.cli("DEL", key)
    redis.cli("RPUSH", key, "a")
    third = make_gateway(conf=ALL, redis=redis)
    wait_until(lambda: third.metrics().get("redis_up") == 1)
    assert ask(third, "odd").headers["x-cache"] == "MISS"


# --- administration --------------------------------------------------------------------------------


def test_the_caches_can_be_looked_at_and_cleared(keeping, standin):
    ask(keeping)
    ask(keeping)
    found = {c["name"]: c for c in keeping.get("/api/v1/admin/cache").json["caches"]}
    assert set(found) == {"response", "extraction", "entity", "embedding"}
    assert (found["response"]["entries"], found["response"]["hits_l1"], found["response"]["misses"]) \
        == (1, 1, 1)
    assert found["response"]["hit_rate"] == 0.5 and found["entity"]["hit_rate"] is None
    assert keeping.request("DELETE", "/api/v1/admin/cache/response").json == {"removed": 1}
    assert keeping.request("DELETE", "/api/v1/admin/cache/nothing").status == 404
    assert ask(keeping).headers["x-cache"] == "MISS"


def test_thousands_of_entries_are_cleared(make_gateway, standin, redis):
    gw = make_gateway(conf=ALL, redis=redis)
    wait_until(lambda: gw.metrics().get("redis_up") == 1)
    redis.cli("EVAL", "for i = 1, 3000 do redis.call('SET', 'llm:' .. i, 'x') end", "0")
    redis.cli("SET", "emb:1", "x")
    assert gw.request("DELETE", "/api/v1/admin/cache/response").json == {"removed": 3000}
    assert redis.cli("KEYS", "llm:*").strip() == "" and redis.cli("KEYS", "emb:*").strip() == "emb:1"


# --- vectors ---------------------------------------------------------------------------------------


def embed(gw, texts, **more):
    return gw.post("/v1/embeddings", {"model": "openai/text-embedding-3-small", "input": texts, **more})


def test_vectors_are_kept_text_by_text(gateway, standin):
    first = embed(gateway, ["a1", "b1"]).json["data"]
    again = embed(gateway, ["b1", "c1", "a1"])
    assert again.status == 200 and again.headers["x-cache"] == "MISS"
    data = again.json["data"]
    assert (data[0]["embedding"], data[2]["embedding"]) == (first[1]["embedding"], first[0]["embedding"])
    assert [d["index"] for d in data] == [0, 1, 2]
    asked = standin.calls()
    assert len(asked) == 2 and json.loads(json.dumps(asked[1]["body"]))["input"] == ["c1"]
    third = embed(gateway, ["a1", "b1", "c1"])
    assert third.headers["x-cache"] == "HIT" and calls(standin) == 2


def test_the_native_route_tells_which_vectors_were_cached(gateway, standin):
    gateway.post("/api/v1/embeddings", {"model": "openai/text-embedding-3-small", "input": ["n1"]})
    body = {"model": "openai/text-embedding-3-small", "input": ["n1", "n2"]}
    assert gateway.post("/api/v1/embeddings", body).json["cached"] == [True, False]


def test_vectors_of_other_shape_are_others(gateway, standin):
    embed(gateway, "s1")
    for more in ({"dimensions": 8}, {"encoding_format": "base64"}):
        assert embed(gateway, "s1", **more).headers["x-cache"] == "MISS"
    assert calls(standin) == 3


def test_a_vector_may_be_asked_for_anew(gateway, standin):
    embed(gateway, "t1")
    body = {"model": "openai/text-embedding-3-small", "input": "t1"}
    for control in ("no-cache", "no-store"):
        answer = gateway.post("/v1/embeddings", body, headers={**AUTH, "Cache-Control": control})
        assert answer.headers["x-cache"] != "HIT"
    assert calls(standin) == 3


def only_cached(gateway, path, body):
    return gateway.post(path, body, headers={**AUTH, "Cache-Control": "only-if-cached"})


GOOGLE_EMBED = "/v1beta/models/openai/text-embedding-3-small"


@pytest.mark.parametrize("path,body,one", [
    ("/v1/embeddings", {"model": "openai/text-embedding-3-small", "input": ["u1", "u2"]},
     {"model": "openai/text-embedding-3-small", "input": ["u1"]}),
    ("/api/v1/embeddings", {"model": "openai/text-embedding-3-small", "input": ["v1", "v2"]},
     {"model": "openai/text-embedding-3-small", "input": ["v1"]}),
    (GOOGLE_EMBED + ":batchEmbedContents", {"requests": [{"content": {"parts": [{"text": t}]}} for t in ("w1", "w2")]},
     {"requests": [{"content": {"parts": [{"text": "w1"}]}}]}),
])
def test_vectors_that_are_not_all_cached_are_504_for_who_wants_no_others(gateway, standin, path, body, one):
    refused = only_cached(gateway, path, body)
    assert refused.status == 504 and calls(standin) == 0
    assert gateway.post(path, one).status == 200
    assert only_cached(gateway, path, body).status == 504  # one of the two is there
    assert calls(standin) == 1
    assert gateway.post(path, body).status == 200
    kept = only_cached(gateway, path, body)
    assert (kept.status, kept.headers["x-cache"]) == (200, "HIT") and calls(standin) == 2


def test_only_cached_vectors_say_why_not(gateway, standin):
    body = {"model": "openai/text-embedding-3-small", "input": "nobody has asked for this"}
    error = only_cached(gateway, "/v1/embeddings", body).json["error"]
    assert error["code"] == "miss" and "cached" in error["message"]
    for control in ("only-if-cached, no-store", "only-if-cached, no-cache", "only-if-cached, max-age=0"):
        assert gateway.post("/v1/embeddings", body, headers={**AUTH, "Cache-Control": control}).status == 504
    assert only_cached(gateway, "/v1/embeddings", {**body, "input": [1, 2, 3]}).status == 504  # tokens are not kept
    assert calls(standin) == 0


# --- questions that mean the same ------------------------------------------------------------------

SEMANTIC = {"cache.yaml": {"response.mode": "all", "semantic.enabled": "true",
                           "semantic.model": "openai/text-embedding-3-small",
                           "semantic.min_similarity_percent": 90}}


def vectors(standin, *pairs):
    """The stand-in's vectors of the next questions."""
    for x, y in pairs:
        standin.control({"body_raw": json.dumps({
            "object": "list", "model": "text-embedding-3-small",
            "data": [{"object": "embedding", "index": 0, "embedding": [x, y]}],
            "usage": {"prompt_tokens": 3, "total_tokens": 3}})},
            match={"path": "/openai/v1/embeddings"})


def test_a_question_that_means_the_same_is_answered_from_the_cache(make_gateway, standin):
    gw = make_gateway(conf=SEMANTIC)
    vectors(standin, (1.0, 0.0), (0.99, 0.1), (0.0, 1.0))
    first = ask(gw, "What does it cost?")
    again = ask(gw, "How much is it?")
    other = ask(gw, "Who are you?")
    assert [a.headers["x-cache"] for a in (first, again, other)] == ["MISS", "SEMANTIC", "MISS"]
    assert again.body == first.body and 0.9 < float(again.headers["x-cache-similarity"]) < 1
    assert gw.metrics()['cache_hits_total{cache="semantic",layer="l1"}'] == 1
    assert ask(gw, "How much is it?").headers["x-cache"] == "SEMANTIC"  # its vector is kept
    assert sum("embeddings" in c["path"] for c in standin.calls()) == 3


@pytest.mark.parametrize("more", [{"temperature": 0.1}, {"model": "openai/gpt-4o"}, {"max_tokens": 9},
                                  {"stream": True}])
def test_only_the_question_may_differ(make_gateway, standin, more):
    gw = make_gateway(conf=SEMANTIC)
    vectors(standin, (1.0, 0.0), (1.0, 0.0))
    ask(gw, "What does it cost?")
    assert ask(gw, "How much is it?", **more).headers["x-cache"] == "MISS"


def test_without_vectors_there_is_no_likeness_and_no_harm(make_gateway, standin):
    gw = make_gateway(conf=SEMANTIC)
    standin.control({"status": 500}, match={"path": "/openai/v1/embeddings"}, repeat=-1)
    assert [ask(gw, t).headers["x-cache"] for t in ("a", "b")] == ["MISS", "MISS"]
    assert ask(gw, "a").headers["x-cache"] == "HIT"


def test_clearing_the_answers_clears_what_leads_to_them(make_gateway, standin):
    gw = make_gateway(conf=SEMANTIC)
    vectors(standin, (1.0, 0.0), (1.0, 0.0))
    ask(gw, "What does it cost?")
    gw.request("DELETE", "/api/v1/admin/cache/response")
    assert ask(gw, "How much is it?").headers["x-cache"] == "MISS"

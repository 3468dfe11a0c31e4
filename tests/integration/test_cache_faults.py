"""The caches and what is done to them: damaged and misplaced entries, clearing while they fill, tenants that ask
the same, leaders that fail or leave, followers that read slowly."""
import json
import socket
import threading
import time

import pytest
from gateway import AUTH
from test_cache import ALL, ask, calls, wait_until
from test_identity import add_key, add_user, bearer


def pair(make_gateway, redis, **kw):
    """Two gateways over one Redis."""
    gws = [make_gateway(conf=ALL, redis=redis, **kw) for _ in range(2)]
    for gw in gws:
        wait_until(lambda gw=gw: gw.metrics().get("redis_up") == 1)
    return gws


def entry(redis):
    """The only answer in Redis: its key and its bytes."""
    wait_until(lambda: redis.keys("llm:*"))
    (key,) = redis.keys("llm:*")
    return key, redis.call("GET", key).encode("utf-8", "surrogateescape")


# --- what is in Redis ---------------------------------------------------------------------------------


def flipped(value, place):
    changed = bytearray(value)
    changed[place] ^= 1
    return bytes(changed)


def test_a_damaged_entry_is_a_miss(make_gateway, standin, redis):
    """A byte changed anywhere, a part missing, something behind it."""
    one, two = pair(make_gateway, redis)
    harms = [lambda v, at=at: flipped(v, at)
             for at in (0, 3, 5, 9, 17, 25, 33, 40, 60, 100, 140, -200, -100, -20, -1)]
    harms += [lambda v, n=n: v[:n] for n in (0, 1, 4, 31, 32, 100, -1)] + [lambda v: v + b"x"]
    for n, harm in enumerate(harms):
        text = "to be damaged %d" % n
        first = ask(one, text)
        key, value = entry(redis)
        redis.call("SET", key, harm(value))
        again = ask(two, text)
        assert (again.status, again.headers["x-cache"]) == (200, "MISS"), n
        assert again.json["choices"] == first.json["choices"] and calls(standin) == 2 * (n + 1)
        third = ask(two, text)
        assert third.headers["x-cache"] == "HIT" and third.body == again.body
        redis.call("DEL", key)


def test_an_entry_under_anothers_key_is_a_miss(make_gateway, standin, redis):
    one, two = pair(make_gateway, redis)
    ask(one, "the first")
    key, value = entry(redis)
    redis.call("DEL", key)
    ask(one, "the second")
    other, _ = entry(redis)
    redis.call("SET", other, value)
    answer = ask(two, "the second")
    assert answer.headers["x-cache"] == "MISS" and calls(standin) == 3


def test_what_was_on_its_way_while_the_cache_was_cleared_is_a_miss(make_gateway, standin, redis):
    one, two = pair(make_gateway, redis)
    ask(one, "from before")
    key, value = entry(redis)
    assert one.request("DELETE", "/api/v1/admin/cache/response").status == 200
    redis.call("SET", key, value)  # as somebody does who had made it before
    assert ask(one, "from before").headers["x-cache"] == "MISS"
    key, value = entry(redis)
    wait_until(lambda: ask(two, "from before").headers["x-cache"] == "HIT")
    assert calls(standin) == 2


@pytest.mark.parametrize("kind", ["SET", "RPUSH"])
def test_check_081_clearing_reaches_all_whatever_stands_where_generations_should(make_gateway, standin, redis, kind):
    one, two = pair(make_gateway, redis)
    ask(two, "everywhere")
    redis.call("DEL", "cache:generation")
    redis.call(kind, "cache:generation", "x")
    assert one.request("DELETE", "/api/v1/admin/cache/response").status == 200
    wait_until(lambda: two.metrics()['cache_entries{cache="response"}'] == 0)
    assert ask(two, "everywhere").headers["x-cache"] == "MISS"


def test_clearing_under_load_fails_nothing(make_gateway, standin, redis):
    one, two = pair(make_gateway, redis)
    ending, bad = threading.Event(), []

    def load(gw, n):
        i = 0
        while not ending.is_set():
            answer = ask(gw, "under load %d" % (i % 7), stream=bool(n % 2))
            if answer.status != 200 or (n % 2 and b"[DONE]" not in answer.body):
                bad.append(answer.text)
            i += 1

    threads = [threading.Thread(target=load, args=((one, two)[n % 2], n // 2)) for n in range(4)]
    for t in threads:
        t.start()
    for i in range(20):
        assert (one, two)[i % 2].request("DELETE", "/api/v1/admin/cache/response").status == 200
        time.sleep(0.05)
    ending.set()
    for t in threads:
        t.join()
    assert bad == []


# --- tenants -------------------------------------------------------------------------------------------


def test_tenants_that_ask_the_same_at_once_and_later_get_answers_of_their_own(make_gateway, standin, postgres, redis):
    """Keys of one user share; other users, teams and the master key do not, neither in flight nor kept."""
    users = [add_user(postgres, "u%d@example.com" % i) for i in range(2)]
    team = postgres.one("INSERT INTO teams (name) VALUES ('t') RETURNING id")
    keys = [add_key(postgres, users[0]), add_key(postgres, users[0]), add_key(postgres, users[1]),
            add_key(postgres, users[0], team_id=team)]
    one, two = pair(make_gateway, redis, pg=postgres)
    standin.control({"delay_ms": 400})
    callers = [bearer(k) for k in keys] + [AUTH]
    got = {}

    def run(gw, i):
        got[gw is one, i] = ask(gw, "the same question", headers=callers[i])

    for gw in (one, two):
        threads = [threading.Thread(target=run, args=(gw, i)) for i in range(5)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert {a.status for a in got.values()} == {200}
    assert calls(standin) == 4  # user 0 (twice), user 1, the team, the master key
    assert [got[False, i].headers["x-cache"] for i in range(5)] == ["HIT"] * 5
    ids = [got[False, i].json["id"] for i in range(5)]
    assert ids[0] == ids[1] and len(set(ids)) == 4


# --- leaders and followers ------------------------------------------------------------------------------


def lead_and_read_nothing(gw, text):
    """A stream whose client takes what the kernel takes for it, and no more."""
    body = json.dumps({"model": "openai/gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": text}]})
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", gw.port))
    s.sendall(("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: "
               "%s\r\nContent-Length: %d\r\n\r\n%s" % (AUTH["Authorization"], len(body), body)).encode())
    return s


@pytest.mark.parametrize("late", [False, True])
def test_a_leader_that_does_not_read_does_not_hold_up_its_followers(make_gateway, standin, late):
    """Longer than what the kernel buffers. The follower comes before the first byte, or when the leader's
    client has already brought the answer to a stop."""
    gw = make_gateway(conf={"cache.yaml": {"response.mode": "all", "response.max_entry_kb": 16384},
                            "gateway.yaml": {"server.write_timeout_s": 3600}})
    standin.control({"chunks": 100, "size": 60000, "delay_ms": 0 if late else 700})
    with lead_and_read_nothing(gw, "long"):
        standin.wait_for(lambda c: len(c) == 1)
        if late:
            wait_until(lambda: gw.metrics().get("http_requests_in_progress") == 2)
            time.sleep(0.5)  # it has stopped by now
        follower = ask(gw, "long", stream=True)
        assert follower.headers.get("x-postern-coalesced") == "true" and calls(standin) == 1
        assert len(follower.body) > 6000000 and follower.body.endswith(b"data: [DONE]\n\n")
    gw.wait_idle()
    gw.alive()

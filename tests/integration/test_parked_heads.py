"""Requests whose head waits for Redis: the rate limit is asked for before the body is read, and a Redis
that stands still keeps the head parked for as long as a test wants."""
import signal
import socket

import pytest
from front import CHAT, KEY, LIVE, assert_names, ask_unknown, unknown_model, wait_until
from rawhttp import Raw, chunked, head, post_json

PATIENT = {"redis.timeout_ms": 60000, "redis.connect_timeout_ms": 60000}


@pytest.fixture
def own_redis(make_redis):
    redis = make_redis()
    yield redis
    redis.thaw()


@pytest.fixture
def patient(make_gateway, own_redis):
    """Starts a gateway that waits for its Redis however long it takes, and stops that Redis."""
    def start(limits=None, **keys):
        gw = make_gateway(redis=own_redis, conf={
            "storage_config.yaml": PATIENT, "rate_limits.yaml": limits or {},
            "gateway.yaml": {k.replace("__", "."): v for k, v in keys.items()}})
        wait_until(lambda: gw.metrics()["redis_up"] == 1, "Redis to be in use")
        return gw
    return start


def in_progress(gw):
    return gw.metrics()["http_requests_in_progress"] - 1


def park(gw, redis, raw, data):
    """Sends what then waits for Redis."""
    redis.freeze()
    raw.send(data)
    wait_until(lambda: in_progress(gw) == 1, "the request to be parked")


def nothing_came(raw):
    raw.sock.setblocking(False)
    try:
        raw.sock.recv(1, socket.MSG_PEEK)
        return False
    except BlockingIOError:
        return True
    finally:
        raw.sock.settimeout(30)


def test_a_body_that_comes_while_the_head_waits_is_read_afterwards(patient, own_redis):
    gw = patient()
    data = ask_unknown("in-pieces")
    with Raw(gw.port) as raw:
        park(gw, own_redis, raw, data[:-20])
        raw.send(data[-20:-10])
        assert nothing_came(raw)
        own_redis.thaw()
        raw.send(data[-10:] + head("GET", LIVE))
        assert_names(raw.answer("POST"), "in-pieces")
        assert raw.answer("GET").json == {"status": "alive"}


def test_requests_behind_a_parked_one_are_answered_in_order(patient, own_redis):
    gw = patient()
    names = ["first", "second", "third"]
    with Raw(gw.port) as raw:
        park(gw, own_redis, raw, b"".join(ask_unknown(n) for n in names))
        own_redis.thaw()
        for name in names:
            assert_names(raw.answer("POST"), name)


def test_100_continue_waits_for_the_limits(patient, own_redis):
    gw = patient()
    data = ask_unknown("after-100", "Expect: 100-continue")
    at = data.index(b"\r\n\r\n") + 4
    with Raw(gw.port) as raw:
        park(gw, own_redis, raw, data[:at])
        assert nothing_came(raw)
        own_redis.thaw()
        assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        raw.send(data[at:])
        assert_names(raw.answer("POST"), "after-100")


def test_a_large_body_sent_ahead_arrives_whole(patient, own_redis):
    gw = patient()
    body = unknown_model("n" * 40)
    body["messages"][0]["content"] = "x" * 3000000
    with Raw(gw.port) as raw:
        own_redis.freeze()
        raw.sock.settimeout(1)
        data = post_json(CHAT, body, KEY)
        sent = 0
        try:
            while sent < len(data):
                sent += raw.sock.send(data[sent:sent + 65536])
        except TimeoutError:
            pass  # it is not read from
        raw.sock.settimeout(30)
        own_redis.thaw()
        raw.send(data[sent:])
        assert_names(raw.answer("POST"), "n" * 40)


def test_a_chunked_body_behind_a_parked_head(patient, own_redis):
    gw = patient()
    plain = ask_unknown("in-chunks")
    at = plain.index(b"\r\n\r\n") + 4
    lines = [x for x in plain[:at].split(b"\r\n") if not x.lower().startswith(b"content-length")]
    top = b"\r\n".join(lines).replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = chunked(plain[at:], 7)
    with Raw(gw.port) as raw:
        park(gw, own_redis, raw, top + body[:30])
        own_redis.thaw()
        raw.send(body[30:])
        assert_names(raw.answer("POST"), "in-chunks")


def test_a_request_refused_while_parked_leaves_the_next_one_in_order(patient, own_redis):
    limits = {"classes.ai.burst": 1, "classes.ai.requests_per_minute": 1}
    gw = patient(limits)
    with Raw(gw.port) as raw:
        park(gw, own_redis, raw, ask_unknown("passes") + ask_unknown("is-over") + head("GET", LIVE))
        own_redis.thaw()
        assert raw.answer("POST").status == 404
        refused = raw.answer("POST")
        assert refused.status == 429 and not refused.closes
        assert raw.answer("GET").json == {"status": "alive"}


def test_half_a_request_refused_while_parked_closes_the_connection(patient, own_redis):
    gw = patient({"classes.ai.burst": 1, "classes.ai.requests_per_minute": 1})
    data = ask_unknown("x")
    with Raw(gw.port) as raw:
        raw.send(data)
        assert raw.answer("POST").status == 404
        park(gw, own_redis, raw, data[:-5])
        own_redis.thaw()
        refused = raw.final_answer("POST")
        assert refused.status == 429 and refused.closes


def test_a_client_that_leaves_while_its_head_waits_leaves_nothing_behind(patient, own_redis):
    gw = patient()
    fds = gw.descriptors()
    own_redis.freeze()
    for data in (ask_unknown("x"), ask_unknown("x")[:-5]):
        with Raw(gw.port) as raw:
            raw.send(data)
            wait_until(lambda: in_progress(gw) == 1, "the request to be parked")
        wait_until(lambda: in_progress(gw) == 0, "the request to be gone")
    own_redis.thaw()
    wait_until(lambda: gw.descriptors() <= fds, "descriptors to be closed")
    assert gw.get("/api/v1/models").status == 200


def test_the_deadline_ends_a_parked_head(patient, own_redis):
    gw = patient(deadlines__default_s=1)
    with Raw(gw.port) as raw:
        park(gw, own_redis, raw, head("GET", "/api/v1/models", KEY) + head("GET", LIVE))
        assert raw.answer("GET").status == 504
        assert raw.answer("GET").json == {"status": "alive"}
    own_redis.thaw()
    assert gw.get("/api/v1/models").status == 200


def test_draining_waits_for_a_parked_head(patient, own_redis):
    gw = patient()
    with Raw(gw.port) as raw:
        park(gw, own_redis, raw, ask_unknown("last"))
        gw.process.send_signal(signal.SIGTERM)
        own_redis.thaw()
        answer = raw.final_answer("POST")
        assert_names(answer, "last")
    assert gw.process.wait(30) == 0


@pytest.mark.parametrize("signals,drain_timeout_s", [(2, 30), (1, 0)])
def test_stopping_at_once_with_parked_heads_is_clean(patient, own_redis, signals, drain_timeout_s):
    gw = patient(server__drain_timeout_s=drain_timeout_s)
    own_redis.freeze()
    raws = [Raw(gw.port) for _ in range(5)]
    for i, raw in enumerate(raws):
        raw.send(ask_unknown("x")[:-i or None])
    wait_until(lambda: in_progress(gw) == 5, "the requests to be parked")
    gw.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "draining" in gw.log(), "it to drain")
    if signals == 2:
        gw.process.send_signal(signal.SIGTERM)
    assert gw.process.wait(30) == 0
    for raw in raws:
        raw.close()

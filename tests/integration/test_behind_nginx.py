"""The real gateway behind the shipped nginx site: streams as they come, the client's own address, drain."""
import json
import threading
import time

import pytest
from front import wait_until
from gateway import AUTH
from test_nginx import Site

BODY = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "through the proxy"}]}


@pytest.fixture(name="pair")
def fixture_pair(make_gateway, tmp_path):
    """A gateway that trusts its proxy, and the proxy."""
    made = []

    def make(**kw):
        gw = make_gateway(env={"TRUSTED_PROXIES": "127.0.0.1"}, **kw)
        made.append(Site(tmp_path, gw.port).start())
        return gw, made[0]

    yield make
    for site in made:
        site.stop()


def test_a_chat_and_its_errors_pass_through_nginx(pair):
    _, site = pair()
    status, headers, body = site.ask("POST", "/v1/chat/completions", json.dumps(BODY),
                                     {**AUTH, "Content-Type": "application/json"})
    assert status == 200 and "through the proxy" in json.loads(body)["choices"][0]["message"]["content"]
    assert headers["X-Postern-Provider"] == "openai"
    status, _, body = site.ask("POST", "/v1/chat/completions", "{", {**AUTH, "Content-Type": "application/json"})
    assert status == 400 and json.loads(body)["error"]["code"] == "malformed-json"


def test_events_arrive_through_nginx_one_by_one(pair):
    _, site = pair()
    body = {**BODY, "model": "anthropic/claude-sonnet-4-5~gap_ms=300,chunks=6", "stream": True}
    conn = site.connect()
    conn.request("POST", "/v1/chat/completions", json.dumps(body), {**AUTH, "Content-Type": "application/json"})
    response = conn.getresponse()
    moments = []
    while line := response.readline():
        if line.startswith(b"data: "):
            moments.append(time.monotonic())
    spread = moments[-1] - moments[0]
    assert spread > 0.9, "the events came in one piece: %s" % moments
    conn.close()


def test_check_040_the_limit_is_per_client_behind_a_trusted_proxy(pair):
    gw, site = pair(limits=True, auth=False, conf={"rate_limits.yaml": {
        "classes.default.burst": 3, "classes.default.requests_per_minute": 1}})
    seen = [site.ask("GET", "/v1/models", headers={"X-Forwarded-For": "203.0.113.%d" % i})[0] for i in range(6)]
    # nginx appends the real peer, 127.0.0.1, which is a proxy itself: the next to the left counts
    assert seen == [200] * 6, seen
    seen = [site.ask("GET", "/v1/models", headers={"X-Forwarded-For": "203.0.113.77"})[0] for i in range(6)]
    assert seen.count(429) == 3
    stranger = gw.get("/metrics", headers={"X-Forwarded-For": "203.0.113.7"})
    assert stranger.status == 200, "without authentication everybody is an operator"


def test_check_096_a_drain_loses_no_request_through_nginx(pair):
    gw, site = pair()
    results, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            body = {**BODY, "model": "openai/gpt-4o-mini~chunks=5,gap_ms=40", "stream": True}
            status, _, text = site.ask("POST", "/v1/chat/completions", json.dumps(body),
                                       {**AUTH, "Content-Type": "application/json"})
            results.append((status, text.endswith(b"data: [DONE]\n\n")))
            if status != 200:
                return

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for t in threads:
        t.start()
    wait_until(lambda: len(results) > 10, "the first answers")
    begun = len(results)
    gw.process.terminate()
    assert gw.process.wait(30) == 0
    stop.set()
    for t in threads:
        t.join()
    assert begun > 0
    # after the drain there is nobody behind nginx: 502 is then the truth, but never half an answer
    assert all(done for status, done in results if status == 200)
    assert {status for status, _ in results} <= {200, 502, 503}

"""CHECKS 39, 95, 96, 99, 100 and the supervisor: signals, drain, workers, clocks, secrets."""
import concurrent.futures
import ctypes
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest
from front import wait_until
from gateway import AUTH, MASTER_KEY


def test_check_095_storms_of_signals_have_no_effect(make_gateway):
    gw = make_gateway()
    rng = random.Random(95)
    stop = threading.Event()
    seen = []

    def ask():
        while not stop.is_set():
            seen.append(gw.chat().status)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    for _ in range(400):
        gw.process.send_signal(rng.choice([signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
                                           signal.SIGCHLD]))
        time.sleep(0.002)
    stop.set()
    for t in threads:
        t.join()
    assert set(seen) == {200}
    gw.alive()


def drain(gw):
    gw.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "draining" in gw.log(), "it to drain")


def test_check_096_sigterm_lets_streams_finish_and_exits_0(make_gateway, standin):
    gw = make_gateway()
    results = []

    def stream():
        results.append(gw.chat("openai/gpt-4o-mini~gap_ms=150,chunks=10", stream=True))

    threads = [threading.Thread(target=stream) for _ in range(10)]
    for t in threads:
        t.start()
    standin.wait_for(lambda calls: len(calls) == 10)
    keep = gw.connect()
    keep.sendall(b"GET /api/v1/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" in keep.recv(4096)
    drain(gw)
    keep.sendall(b"GET /api/v1/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = keep.recv(4096)
    assert b" 503 " in answer and b"draining" in answer and b"Connection: close" in answer
    with pytest.raises(OSError):
        gw.connect(timeout=2)
    for t in threads:
        t.join()
    assert len(results) == 10
    assert all(r.events()[-1][1] == "[DONE]" for r in results)
    assert gw.process.wait(20) == 0


def test_check_096_a_second_sigterm_ends_it_at_once(make_gateway, standin):
    gw = make_gateway()
    threads = [threading.Thread(target=lambda: pytest.raises(Exception, gw.chat, "openai/gpt-4o-mini~hang=before"))
               for _ in range(3)]
    for t in threads:
        t.start()
    standin.wait_for(lambda calls: len(calls) == 3)
    drain(gw)
    assert gw.process.poll() is None, "it waits for its requests"
    gw.process.send_signal(signal.SIGTERM)
    assert gw.process.wait(10) == 0
    for t in threads:
        t.join()


def test_check_096_the_drain_ends_at_its_limit(make_gateway, standin):
    gw = make_gateway(conf={"gateway.yaml": {"server.drain_timeout_s": 1}})
    t = threading.Thread(target=lambda: pytest.raises(Exception, gw.chat, "openai/gpt-4o-mini~hang=before"))
    t.start()
    standin.wait_for(lambda calls: calls)
    gw.process.send_signal(signal.SIGTERM)
    assert gw.process.wait(15) == 0
    t.join()


def workers_of(gw):
    out = subprocess.run(["pgrep", "-P", str(gw.process.pid)], capture_output=True, text=True)
    return [int(x) for x in out.stdout.split()]


def test_metrics_are_summed_over_workers_and_survive_a_restart(make_gateway):
    gw = make_gateway(env={"API_WORKERS": "3"})
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert {f.result().status for f in [pool.submit(gw.chat) for _ in range(120)]} == {200}
    name = 'http_requests_total{method="POST",endpoint="/v1/chat/completions",status="200"}'
    wait_until(lambda: gw.metrics()[name] == 120, "the last answers to be counted")
    assert [gw.metrics()[name] for _ in range(6)] == [120] * 6
    before = workers_of(gw)
    assert len(before) == 3
    os.kill(before[0], signal.SIGKILL)
    end = time.monotonic() + 20
    while len(set(workers_of(gw)) - set(before)) < 1 or len(workers_of(gw)) < 3:
        assert time.monotonic() < end
        time.sleep(0.05)
    for _ in range(6):
        m = gw.metrics()
        assert m[name] == 120
    assert m["worker_restarts_total"] == 1
    assert gw.chat().status == 200
    assert gw.stop() == 0


def test_promtool_finds_nothing_wrong_with_the_metrics(gateway):
    gateway.chat()
    gateway.chat("openai/x~status=500")
    text = gateway.get("/metrics").body
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert done.returncode == 0 and not done.stderr.strip(), done.stdout + done.stderr


def test_check_039_no_secret_is_ever_logged_or_shown(make_gateway, standin):
    gw = make_gateway(env={"LOG_LEVEL": "debug", "JWT_SECRET_KEY": "jwt-secret-jwt-secret-jwt-secret-1"})
    prompt = "my-very-private-prompt-3141592653"
    gw.chat(text=prompt)
    gw.chat(text=prompt, stream=True)
    gw.chat("anthropic/claude-sonnet-4-5~status=500", text=prompt)
    gw.get("/v1/models?key=" + MASTER_KEY, headers={})
    gw.get("/v1/models", headers={"Authorization": "Bearer wrong-key-wrong-key-2718281828"})
    gw.post("/v1/chat/completions", '{"broken": "' + prompt)
    shown = gw.log() + gw.get("/metrics").text + gw.get("/api/v1/providers").text
    shown += gw.get("/api/v1/health").text + gw.get("/api/v1/models").text
    with open("/proc/%d/cmdline" % gw.process.pid, encoding="utf-8") as f:
        shown += f.read()
    for secret in [MASTER_KEY, prompt, "wrong-key-wrong-key-2718281828", "jwt-secret-jwt", *standin.keys.values()]:
        assert secret not in shown, secret


def test_the_log_says_what_was_asked_and_how_it_ended(make_gateway):
    gw = make_gateway()
    a = gw.chat()
    gw.chat("nobody/nothing")
    gw.stop()
    lines = {x.get("request_id"): x for x in gw.log_lines() if x["message"].startswith("Request completed")}
    line = lines[a.headers["x-request-id"]]
    assert line["message"].startswith("Request completed: POST /v1/chat/completions status=200 duration=")
    assert {"timestamp", "level", "service", "version", "request_id", "message"} <= set(line)
    assert line["status"] == 200 and line["provider"] == "openai"
    assert any(x.get("error") == "model-not-found" for x in lines.values())


PTRACE_ATTACH, PTRACE_DETACH = 16, 17


class Held:
    """Stops the main thread of a process, and only that one, as a page fault or a slow disk would."""

    def __init__(self, pid):
        self.pid = pid
        self.libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self):
        assert self.libc.ptrace(PTRACE_ATTACH, self.pid, None, None) == 0, os.strerror(ctypes.get_errno())
        os.waitpid(self.pid, 0x40000000)  # __WALL

    def __exit__(self, *exc):
        if self.libc.ptrace(PTRACE_DETACH, self.pid, None, None) != 0:
            os.waitpid(self.pid, 0x40000000)  # it has ended: only now its real parent hears of it


def test_check_100_a_long_turn_is_logged_and_past_the_limit_the_worker_is_replaced(make_gateway):
    gw = make_gateway(env={"API_WORKERS": "2"}, conf={"gateway.yaml": {"watchdog.warn_ms": 100,
                                                                        "watchdog.abort_ms": 1500}})
    stop = threading.Event()

    def load():
        while not stop.is_set():
            try:
                gw.chat(timeout=10)
            except OSError:
                pass

    threads = [threading.Thread(target=load) for _ in range(8)]
    for t in threads:
        t.start()
    victim = workers_of(gw)[0]
    try:
        for _ in range(200):  # until a hold falls into a turn and not into the wait between two
            with Held(victim):
                time.sleep(0.25)
                if "loop_stalled" in gw.stderr():
                    time.sleep(3)
                    break
            time.sleep(0.003)
    finally:
        stop.set()
    for t in threads:
        t.join()
    assert "loop_stalled" in gw.stderr() and "place=" in gw.stderr()
    end = time.monotonic() + 20
    while victim in workers_of(gw) or len(workers_of(gw)) < 2:
        assert time.monotonic() < end, "the stalled worker was not replaced"
        time.sleep(0.05)
    assert gw.chat().status == 200


def test_check_036_two_credentials_in_one_request_are_refused(gateway):
    for path, headers in [("/v1/models", {**AUTH, "x-api-key": "other"}),
                          ("/v1/models?key=other", AUTH),
                          ("/v1/models?key=" + MASTER_KEY, {"x-goog-api-key": "other"})]:
        assert gateway.get(path, headers=headers).status in (400, 401), path
    assert gateway.get("/v1/models", headers={"x-api-key": MASTER_KEY, **AUTH}).status == 200


def test_every_place_for_a_key_is_accepted_and_a_wrong_one_refused(gateway):
    for path, headers in [("/v1/models", AUTH), ("/v1/models", {"x-api-key": MASTER_KEY}),
                          ("/v1/models", {"x-goog-api-key": MASTER_KEY}), ("/v1/models?key=" + MASTER_KEY, {})]:
        assert gateway.get(path, headers=headers).status == 200, (path, headers)
    for path, headers in [("/v1/models", {}), ("/v1/models", {"Authorization": "Bearer " + MASTER_KEY[:-1]}),
                          ("/v1/models", {"x-api-key": MASTER_KEY + "x"}), ("/v1/models?key=", {})]:
        a = gateway.get(path, headers=headers)
        assert a.status == 401 and a.json["error"]["code"] == "unauthorized", (path, headers)
        assert a.headers["www-authenticate"].startswith("Bearer")


def test_check_040_forwarded_headers_of_strangers_do_not_change_the_limit_key(make_gateway):
    gw = make_gateway(limits=True, auth=False, conf={"rate_limits.yaml": {
        "classes.default.burst": 5, "classes.default.requests_per_minute": 1}})
    seen = [gw.get("/v1/models", headers={"X-Forwarded-For": "10.0.0.%d" % i}).status for i in range(12)]
    assert seen.count(200) == 5 and seen.count(429) == 7
    a = gw.get("/v1/models", headers={})
    assert int(a.headers["retry-after"]) >= 1 and a.headers["x-ratelimit-limit"] == "1"
    for bad in ("x" * 7000, "a b", "<script>"):
        sent = gw.get("/api/v1/health/live", headers={"X-Request-ID": bad}).headers["x-request-id"]
        assert sent != bad and len(sent) == 32


def test_forwarded_headers_of_trusted_proxies_are_the_limit_key(make_gateway):
    gw = make_gateway(limits=True, auth=False, env={"TRUSTED_PROXIES": "127.0.0.0/8"},
                      conf={"rate_limits.yaml": {
                          "classes.default.burst": 2, "classes.default.requests_per_minute": 1}})
    for client in ("10.0.0.1", "10.0.0.2"):
        seen = [gw.get("/v1/models", headers={"X-Forwarded-For": "1.2.3.4, " + client}).status
                for _ in range(4)]
        assert seen.count(429) == 2, seen


def test_check_043_cors_knows_its_origins(gateway):
    a = gateway.get("/v1/models", headers={**AUTH, "Origin": "http://localhost:5173"})
    assert a.headers["access-control-allow-origin"] == "http://localhost:5173"
    for origin in ("http://evil.example", "null", "http://localhost:5173.evil.example"):
        a = gateway.get("/v1/models", headers={**AUTH, "Origin": origin})
        assert a.status == 200 and "access-control-allow-origin" not in a.headers
    pre = gateway.request("OPTIONS", "/v1/chat/completions", headers={
        "Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization"})
    assert pre.status == 204
    assert "POST" in pre.headers["access-control-allow-methods"]
    a = gateway.get("/v1/models", headers={"Origin": "http://localhost:5173"})
    assert a.status == 401 and a.headers["access-control-allow-origin"]


def test_health_words_are_for_everybody_and_metrics_are_not(gateway):
    a = gateway.get("/api/v1/health", headers={})
    assert a.status == 200 and a.json["status"] == "healthy"
    for path in ("/health", "/api/health", "/api/v1/health/live", "/api/v1/health/ready"):
        assert gateway.get(path, headers={}).status == 200
    assert gateway.get("/metrics", headers={}).status == 200, "from the same host"
    assert gateway.get("/api/v1/admin/circuits", headers={}).status == 401


def test_json_that_is_not_strict_json_is_400(gateway):
    for bad in ['{"model": "a", "model": "b", "messages": []}', "{'a': 1}", '{"a": 01}', '{"a": 1,}',
                '[1, 2', '{"a": "\\ud800"}', '{"a": "\\u0000"}', "[" * 100000, '\ufeff{}', '{"a": NaN}',
                '{"model":"openai/x","stream":true,"stream":false,"messages":[]}', '{} x', '"text"']:
        a = gateway.post("/v1/chat/completions", bad.encode("utf-8", "surrogatepass"))
        assert a.status == 400, (bad[:60], a.status, a.text[:200])
        assert a.json["error"]["type"] == "invalid_request_error"
    assert gateway.post("/v1/chat/completions", b'{"model": "\xff"}').status == 400


def test_check_045_depth_64_is_fine_and_65_is_not(gateway):
    def nested(n):
        return json.dumps({"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]})[:-1] + \
            ', "metadata": ' + "[" * (n - 1) + "]" * (n - 1) + "}"
    assert gateway.post("/v1/chat/completions", nested(65)).status in (200, 400)
    a = gateway.post("/v1/chat/completions", nested(66))
    assert a.status == 400 and "malformed" in a.json["error"]["code"]

#!/usr/bin/env python3
"""Mixed load with random client aborts and provider faults, for as long as asked:

    tests/bench/soak.py [--minutes 10] [--seed 1]        POSTERN_BIN=build-asan/postern for a sanitizer build

Ends with one line `soak: ... ok` and exit 0 when nothing is stuck, no sanitizer reported, no descriptor
leaked, and resident memory stayed flat after the first quarter; else says what is wrong and exits 1.
"""
import argparse
import concurrent.futures
import json
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from gateway import AUTH, Gateway  # noqa: E402
from standin.client import Standin  # noqa: E402

MODELS = ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5", "google/gemini-2.5-flash",
          "groq/llama-3.1-8b-instant", "ollama/llama3.2"]
FAULTS = ["", "", "", "", "status=500", "status=429,retry_after=1", "status=400", "status=401",
          "cut=headers", "cut=body", "cut=stream,after=2", "reset=stream,after=3", "error_event=1,after=2",
          "body=garbage", "no_final=1", "garbage_event=1,after=1", "bytewise=1", "eol=crlf", "gap_ms=20",
          "chunks=300,size=50", "hang=before", "hang=stream,after=2", "trickle=2000", "close_on_next=fin"]
CONF = {"gateway.yaml": {"deadlines.ai_s": 4, "streams.gap_s": 2, "retry.base_ms": 20, "retry.max_ms": 200},
        "circuit_breaker.yaml": {"recovery_timeout_s": 1}}


class Soak:
    def __init__(self, gw, seed):
        self.gw, self.seed = gw, seed
        self.stop = threading.Event()
        self.counts = {}
        self.lock = threading.Lock()

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def chat(self, rng):
        """Path and body of a chat through one of the four surfaces."""
        fault = rng.choice(FAULTS)
        model = rng.choice(MODELS) + ("~" + fault if fault else "")
        stream, text = rng.random() < 0.6, "soak " * rng.randrange(1, 200)
        turns = [{"role": "user", "content": text}]
        body = {"fallbacks": [rng.choice(MODELS)]} if rng.random() < 0.4 else {}
        surface = rng.randrange(5)
        if surface == 0:
            return "/v1/messages", {"model": model, "max_tokens": 500, "stream": stream, "messages": turns, **body}
        if surface == 1:
            return "/v1/responses", {"model": model, "stream": stream, "input": text, **body}
        if surface == 2:
            method = ":streamGenerateContent?alt=sse" if stream else ":generateContent"
            return "/v1beta/models/" + model + method, {
                "contents": [{"role": "user", "parts": [{"text": text}]}], **body}
        return "/v1/chat/completions", {"model": model, "stream": stream, "messages": turns, **body}

    def one(self, rng):
        kind = rng.random()
        if kind < 0.05:
            self.count(self.gw.get(rng.choice(["/v1/models", "/metrics", "/api/v1/health", "/nope"])).status)
            return
        if kind < 0.10:
            self.count(self.gw.post("/v1/chat/completions", "{" * rng.randrange(1, 100)).status)
            return
        path, body = self.chat(rng)
        data = json.dumps(body).encode()
        s = self.gw.connect(timeout=20)
        try:
            head = "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nConnection: close\r\n" \
                   "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
                       path, AUTH["Authorization"], len(data))
            sent = head.encode() + data
            if kind < 0.15:  # leaves before the request is complete
                s.sendall(sent[:rng.randrange(1, len(sent))])
                self.count("left early")
                return
            s.sendall(sent)
            if kind < 0.45:  # leaves at some moment
                s.settimeout(rng.random() * 0.3 + 0.001)
                try:
                    s.recv(rng.randrange(1, 3000))
                except OSError:
                    pass
                self.count("left")
                return
            got = b""
            while part := s.recv(65536):
                got = got or part[:200]
            self.count("answered " + got[9:12].decode("latin-1") if got else "empty")
        except TimeoutError:
            self.count("stuck")
        finally:
            s.close()

    def run(self, number):
        rng = random.Random(self.seed * 1000 + number)
        while not self.stop.is_set():
            try:
                self.one(rng)
            except (ConnectionError, OSError) as error:
                self.count(type(error).__name__)


def sample(gw, minutes, soak):
    """Resident memory every two seconds; returns the list."""
    out, end = [], time.monotonic() + minutes * 60
    while time.monotonic() < end:
        time.sleep(2)
        out.append(gw.rss_kb())
        if len(out) % 15 == 0:
            print("%5.1f min  rss %d KiB  fds %d  %s" % (len(out) * 2 / 60, out[-1], gw.descriptors(),
                                                         dict(sorted(soak.counts.items(), key=str))), flush=True)
    return out


def verdict(gw, rss, soak, fds_before):
    wrong = []
    try:
        gw.wait_idle(60)
    except TimeoutError as error:
        wrong.append("stuck requests: %s" % error)
    if soak.counts.get("stuck") or soak.counts.get("empty"):
        wrong.append("%s stuck, %s without an answer" % (soak.counts.get("stuck"), soak.counts.get("empty")))
    quarter = max(len(rss) // 4, 1)
    early, late = max(rss[:2 * quarter]), max(rss[-quarter:])
    if late > early * 1.05 + 2048:
        wrong.append("resident memory grew from %d to %d KiB" % (early, late))
    if gw.descriptors() > fds_before + 300:
        wrong.append("%d descriptors" % gw.descriptors())
    if gw.stop() != 0:
        wrong.append("exit status was not 0")
    if gw.sanitizer_report():
        wrong.append(gw.sanitizer_report())
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=24)
    args = parser.parse_args()
    with Standin() as standin:
        gw = Gateway(env={**standin.env(), "LOG_LEVEL": "error"}, conf=CONF).start()
        fds = gw.descriptors()
        soak = Soak(gw, args.seed)
        with concurrent.futures.ThreadPoolExecutor(args.threads) as pool:
            for i in range(args.threads):
                pool.submit(soak.run, i)
            rss = sample(gw, args.minutes, soak)
            soak.stop.set()
        wrong = verdict(gw, rss, soak, fds)
    total = sum(soak.counts.values())
    print("soak: %.1f min, %d exchanges, rss %d..%d KiB: %s" % (
        args.minutes, total, min(rss), max(rss), "ok" if not wrong else "; ".join(wrong)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

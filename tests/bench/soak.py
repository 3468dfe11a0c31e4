#!/usr/bin/env python3
"""Mixed load with random client aborts and provider faults, for as long as asked:

    tests/bench/soak.py [--minutes 10] [--seed 1] [--stores] [--workers 1]
                                                 POSTERN_BIN=build-asan/postern for a sanitizer build

With --stores there are a Postgres and a Redis, which are killed and frozen at random while everything is
cached (`response.mode: all`), asked by an API key with a budget, in part with idempotency keys, and the
configuration is reloaded now and then.

Ends with one line `soak: ... ok` and exit 0 when nothing is stuck, no sanitizer reported, no descriptor
leaked, and resident memory stayed flat after the first quarter (with --stores also: every answer has
one row in the ledger, and none has two); else says what is wrong and exits 1.
"""
import argparse
import concurrent.futures
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TESTS, "support"))
os.environ.setdefault("POSTERN_BIN", os.path.join(os.path.dirname(TESTS), "build", "postern"))

from daemons import family  # noqa: E402
from gateway import AUTH, Gateway  # noqa: E402
from postgres import Postgres  # noqa: E402
from redisd import Redis  # noqa: E402
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
    def __init__(self, gw, seed, stores=None):
        self.gw, self.seed = gw, seed
        self.stop = threading.Event()
        self.counts = {}
        self.stores = stores
        self.auth = "Bearer " + stores.make_key(gw) if stores else AUTH["Authorization"]
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
            path = rng.choice(["/v1/models", "/metrics", "/api/v1/health", "/nope"])
            method, coding = rng.choice(["GET", "HEAD", "OPTIONS"]), rng.choice(["gzip", "identity", "*;q=0"])
            self.count(self.gw.request(method, path, headers={
                **AUTH, "Accept-Encoding": coding, "If-None-Match": rng.choice(["*", '"x"'])}).status)
            return
        if kind < 0.10:
            self.count(self.gw.post("/v1/chat/completions", "{" * rng.randrange(1, 100)).status)
            return
        asker = self.stores.asker(rng) if self.stores else rng
        path, body = self.chat(asker)
        data = json.dumps(body).encode()
        s = self.gw.connect(timeout=20)
        try:
            head = "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nConnection: close\r\n" \
                   "Content-Type: application/json\r\nContent-Length: %d\r\n%s\r\n" % (
                       path, self.auth, len(data), self.stores.more_headers(rng, path, data, asker is not rng) if self.stores else "")
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
                got = (got + part)[:4000] if len(got) < 4000 else got
            self.count("answered " + got[9:12].decode("latin-1") if got else "empty")
            if self.stores:
                self.stores.answered(self, got)
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


class Stores:
    """Postgres and Redis of the run, what they suffer, and what must be in them in the end."""

    def __init__(self, postgres, redis):
        self.postgres, self.redis = postgres, redis
        self.database = postgres.create_database(name="soak")
        self.database.migrate()
        self.idents = set()
        self.actions = {}
        self.since = time.monotonic()

    def env(self):
        return {"DATABASE_URL": self.database.url, "REDIS_URL": self.redis.url}

    def make_key(self, gw):
        """An API key with a budget, made by the program's own commands."""
        def command(*args):
            return subprocess.run([os.environ["POSTERN_BIN"], *args, "--conf", gw.conf_dir], text=True, check=True,
                                  env={**os.environ, **self.env()}, capture_output=True).stdout.strip()
        command("user", "add", "soak")
        return command("apikey", "create", "--owner", "soak", "--name", "soak", "--budget", "100000")

    def asker(self, rng):
        """Often one that asks what others ask at this moment, to the last byte, so that answers are shared."""
        if rng.random() < 0.4:
            return rng
        return random.Random("%d of %d" % (rng.randrange(8), (time.monotonic() - self.since) // 5))

    def more_headers(self, rng, path, data, common):
        out = "Accept-Encoding: gzip\r\n" if rng.random() < 0.2 else ""
        if rng.random() < 0.15:
            out += "Cache-Control: %s\r\n" % rng.choice(["no-cache", "no-store", "only-if-cached", "max-age=2"])
        if common and rng.random() < 0.2:  # the same request again, by its own key
            out += "Idempotency-Key: %x-%d\r\n" % (
                hash((path, data)) & (1 << 64) - 1, (time.monotonic() - self.since) // 10)
        return out

    def answered(self, soak, got):
        head = got.partition(b"\r\n\r\n")[0].decode("latin-1").lower()
        cache = re.search(r"\r\nx-cache: (\w+)", head)
        if not head.startswith("http/1.1 200") or not cache:
            return
        shared = "coalesced" if "x-postern-coalesced" in head else cache[1]
        if "idempotency-replayed" in head:
            shared = "replayed"
        else:
            with soak.lock:
                self.idents.add(re.search(r"\r\nx-request-id: (\S+)", head)[1])
        soak.count("x " + shared)

    def hurt(self, soak, seed):
        """Until the end of the soak: something happens to a store every few seconds, and is over soon."""
        rng = random.Random(seed)
        while not soak.stop.wait(rng.random() * 6 + 1):
            store, what = rng.choice([self.redis, self.postgres]), rng.choice(["kill", "freeze", "reload", "clear"])
            name = what if what in ("reload", "clear") else "%s %s" % (what, store.name)
            self.actions[name] = self.actions.get(name, 0) + 1
            if what == "reload":
                soak.gw.process.send_signal(signal.SIGHUP)
            elif what == "clear":
                soak.count("clear %d" % soak.gw.request("DELETE", "/api/v1/admin/cache/response").status)
            elif what == "kill":
                store.kill()
                soak.stop.wait(rng.random() * 4)
                store.start()
            else:
                store.freeze()
                soak.stop.wait(rng.random() * 4)
                store.thaw()

    def wrong(self, gw):
        """What the ledger lacks or has twice, once it has had time."""
        end = time.monotonic() + 60
        while True:
            rows = [r[0] for r in self.database.psql("SELECT request_id FROM provider_calls")]
            missing, doubled = self.idents - set(rows), len(rows) - len(set(rows))
            if not missing or time.monotonic() > end:
                break
            time.sleep(0.5)
        print("stores: %s; %d answers, %d rows" % (self.actions, len(self.idents), len(rows)))
        out = []
        if missing or doubled:
            out.append("ledger: %d rows missing, %d doubled %s" % (len(missing), doubled, sorted(missing)[:3]))
        return out


def rss_kb(gw):
    """Resident memory of the gateway and its workers, without the pages of files (the ledger's spool)."""
    total = 0
    for pid in family(gw.process.pid):
        with open("/proc/%d/status" % pid, encoding="ascii") as f:
            total += int(re.search(r"RssAnon:\s+(\d+)", f.read())[1])
    return total


def sample(gw, minutes, soak):
    """Resident memory every two seconds; returns the list."""
    out, end = [], time.monotonic() + minutes * 60
    while time.monotonic() < end:
        time.sleep(2)
        out.append(rss_kb(gw))
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
    if soak.stores:
        wrong += soak.stores.wrong(gw)
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
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--stores", action="store_true")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        env = {**stack.enter_context(Standin()).env(), "LOG_LEVEL": "error", "API_WORKERS": str(args.workers)}
        conf, stores = CONF, None
        if args.stores:
            stores = Stores(stack.enter_context(Postgres()), stack.enter_context(Redis()))
            env.update(stores.env())
            # small, so that what is kept is all there after the first quarter
            conf = {**CONF, "cache.yaml": {"response.mode": "all", "response.entries": 200, "response.memory_mb": 2},
                    "gateway.yaml": {**CONF["gateway.yaml"], "budgets.unknown_price": "allow",
                                     "idempotency.max_body_kb": 4}}
        wrong, rss, soak = run(Gateway(env=env, conf=conf).start(), stores, args)
    total = sum(soak.counts.values())
    print("soak: %.1f min, %d exchanges, rss %d..%d KiB: %s" % (
        args.minutes, total, min(rss), max(rss), "ok" if not wrong else "; ".join(wrong)))
    return 1 if wrong else 0


def run(gw, stores, args):
    """(what is wrong, samples of resident memory, the soak)"""
    soak, fds = Soak(gw, args.seed, stores), gw.descriptors()
    with concurrent.futures.ThreadPoolExecutor(args.threads + 1) as pool:
        for i in range(args.threads):
            pool.submit(soak.run, i)
        if stores:
            hurting = pool.submit(stores.hurt, soak, args.seed)
        rss = sample(gw, args.minutes, soak)
        soak.stop.set()
        if stores:
            hurting.result()
    return verdict(gw, rss, soak, fds), rss, soak


if __name__ == "__main__":
    sys.exit(main())

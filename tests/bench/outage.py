#!/usr/bin/env python3
"""Chat under load while Redis, and then Postgres, are stopped: what rate is kept, what fails, and whether
the ledger has one row for each answer afterwards.

    outage.py [--seconds 60] [--threads 8] [--workers 1]      POSTERN_BIN chooses the build (build/postern)

Exit 0 when every answer was a 200 and every one has exactly one row.
"""
import argparse
import collections
import http.client
import json
import os
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
os.environ.setdefault("POSTERN_BIN", os.path.join(ROOT, "build", "postern"))

from gateway import Gateway  # noqa: E402
from postgres import Postgres  # noqa: E402
from redisd import Redis  # noqa: E402
from standin.client import Standin  # noqa: E402

BODY = json.dumps({"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]})
SETTLE_S = 60


class Load:
    """Threads that ask without a pause; what came back, by phase."""

    def __init__(self, port, key, threads):
        self.port, self.key = port, key
        self.phase, self.over = "warm-up", False
        self.statuses = collections.defaultdict(collections.Counter)
        self.slowest = collections.defaultdict(float)
        self.answered = set()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def ask(self, conn):
        conn.request("POST", "/v1/chat/completions", BODY, {
            "Content-Type": "application/json", "Authorization": "Bearer " + self.key})
        response = conn.getresponse()
        response.read()
        return response.status, response.getheader("X-Request-ID")

    def run(self):
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        while not self.over:
            phase, began = self.phase, time.monotonic()
            try:
                status, ident = self.ask(conn)
            except (OSError, http.client.HTTPException) as error:
                conn.close()
                status, ident = type(error).__name__, None
            with self.lock:
                self.statuses[phase][status] += 1
                self.slowest[phase] = max(self.slowest[phase], time.monotonic() - began)
                if status == 200:
                    self.answered.add(ident)

    def during(self, phase, seconds):
        self.phase = phase
        time.sleep(seconds)
        with self.lock:
            counts = dict(self.statuses[phase])
        print("%-28s %7.0f answers/s, slowest %6.1f ms, %s" % (
            phase, counts.get(200, 0) / seconds, self.slowest[phase] * 1000, counts), flush=True)

    def end(self):
        self.over = True
        for thread in self.threads:
            thread.join()


def stored(database, wanted):
    """Rows of the ledger, once they are as many as the answers, or time is up."""
    end = time.monotonic() + SETTLE_S
    while True:
        rows = [r[0] for r in database.psql("SELECT request_id FROM provider_calls")]
        if len(rows) >= wanted or time.monotonic() > end:
            return rows
        time.sleep(0.5)


def scenario(load, redis, postgres, seconds):
    load.during("warm-up", 3)
    load.during("all is well", min(seconds, 20))
    redis.kill()
    load.during("Redis is gone", seconds)
    redis.start()
    load.during("Redis is back", min(seconds, 20))
    postgres.kill()
    load.during("Postgres is gone", seconds)
    postgres.start()
    load.during("Postgres is back", min(seconds, 20))
    load.end()


def verdict(load, database):
    rows = stored(database, len(load.answered))
    missing = load.answered - set(rows)
    doubled = len(rows) - len(set(rows))
    failed = sum(n for counts in load.statuses.values() for s, n in counts.items() if s != 200)
    print("%d answers, %d rows, %d missing, %d doubled, %d failed" % (
        len(load.answered), len(rows), len(missing), doubled, failed))
    return 0 if not missing and not doubled and not failed else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    with Standin() as standin, Redis() as redis, Postgres() as postgres:
        database = postgres.create_database(name="outage")
        database.migrate()
        env = {**standin.env(), "DATABASE_URL": database.url, "REDIS_URL": redis.url,
               "API_WORKERS": str(args.workers)}
        with Gateway(env=env) as gateway:
            key = make_key(gateway, env)
            load = Load(gateway.port, key, args.threads)
            try:
                scenario(load, redis, postgres, args.seconds)
            finally:
                load.end()
            return verdict(load, database)


def make_key(gateway, env):
    """An API key with a budget, made by the program's own commands."""
    run = {**os.environ, **env}
    base = [os.environ["POSTERN_BIN"]]
    tail = ["--conf", gateway.conf_dir]
    subprocess.run(base + ["user", "add", "outage"] + tail, env=run, check=True, capture_output=True)
    done = subprocess.run(base + ["apikey", "create", "--owner", "outage", "--name", "outage", "--budget",
                                  "1000"] + tail, env=run, check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())

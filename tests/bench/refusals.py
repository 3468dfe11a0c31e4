#!/usr/bin/env python3
"""CHECKS 35 and 45, measured: does the time of a refusal tell how much of a key was right, and does a flood
of refusals, or of JSON that is all structure, hold the loop up?

    refusals.py [--tries 100000] [--rounds 5]      POSTERN_BIN chooses the build (build/postern)

Prints statistics and asserts nothing about time. Exit 1 only when an answer was not the one expected.
"""
import argparse
import http.client
import json
import os
import random
import socket
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
os.environ.setdefault("POSTERN_BIN", os.path.join(ROOT, "build", "postern"))

from gateway import MASTER_KEY, Gateway  # noqa: E402
from outage import make_key  # noqa: E402
from postgres import Postgres  # noqa: E402
from standin.client import Standin  # noqa: E402

PATH = "/api/v1/models"
OPEN = {"rate_limits.yaml": {"enabled": "false"}}


class Client:
    """One connection with Nagle off; a request is written in one piece and timed to the answer's last byte."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, head):
        began = time.perf_counter_ns()
        self.sock.sendall(head)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.sock.recv(65536)
        head_end = data.index(b"\r\n\r\n") + 4
        length = int(data[:head_end].lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(data) < head_end + length:
            data += self.sock.recv(65536)
        return time.perf_counter_ns() - began, int(data.split(b" ", 2)[1])


def request_with(key):
    return ("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (PATH, key)).encode()


def flipped(key, at):
    other = "A" if key[at] != "A" else "B"
    return key[:at] + other + key[at + 1:]


def variants(key, prefix):
    """Keys that are wrong at their first secret byte, in the middle and at their last but one (the last one's
    spare bits would make it no key at all), and one that is nothing like it."""
    stranger = "".join(random.choice("abcdefghijkmnpqrstuvwxyz") for _ in key[prefix:])
    return {"first": flipped(key, prefix), "middle": flipped(key, (prefix + len(key)) // 2),
            "last": flipped(key, len(key) - 2), "none": key[:prefix] + stranger[:-1] + "A"}


def measure(port, keys, tries):
    """Nanoseconds of each kind, asked in an order that is new for every round of all kinds."""
    client, times = Client(port), {name: [] for name in keys}
    heads = {name: request_with(key) for name, key in keys.items()}
    names = list(keys)
    for i in range(tries + 200):
        random.shuffle(names)
        for name in names:
            ns, status = client.ask(heads[name])
            if status != 401:
                raise SystemExit("a wrong key got %d" % status)
            if i >= 200:
                times[name].append(ns)
    return times


def trimmed(values):
    """Without the slowest tenth: interrupts and other processes."""
    return sorted(values)[:len(values) * 9 // 10]


def show(title, times):
    base = trimmed(times["first"])
    print("%s: %d tries of each kind" % (title, len(times["first"])))
    print("  %-8s %10s %10s %12s %10s" % ("wrong at", "median us", "mean us", "difference", "std. error"))
    for name, values in times.items():
        kept = trimmed(values)
        diff = statistics.fmean(kept) - statistics.fmean(base)
        error = (statistics.variance(kept) / len(kept) + statistics.variance(base) / len(base)) ** 0.5
        print("  %-8s %10.2f %10.2f %+9.2f %% %8.2f %%" % (
            name, statistics.median(values) / 1e3, statistics.fmean(kept) / 1e3,
            100 * diff / statistics.fmean(base), 100 * error / statistics.fmean(base)), flush=True)


def check_35(gw, pg_key, tries):
    show("check 35, an API key", measure(gw.port, variants(pg_key, len("pk-")), tries))
    show("check 35, the master key", measure(gw.port, variants(MASTER_KEY, 0), tries))


# --- check 45 ---------------------------------------------------------------------------------------


def lag(gw):
    """Turns of the loop so far: {upper bound in seconds: count}, not cumulative."""
    out, before = {}, 0
    for name, value in gw.metrics().items():
        if name.startswith("loop_lag_seconds_bucket"):
            bound = float(name.split('le="')[1].split('"')[0].replace("+Inf", "inf"))
            out[bound] = value - before
            before = value
    return out


def show_lag(title, before, after):
    turns = {b: after[b] - before[b] for b in after}
    total, seen, p99, longest = sum(turns.values()), 0, None, 0
    for bound in sorted(turns):
        seen += turns[bound]
        if p99 is None and seen >= 0.99 * total:
            p99 = bound
        if turns[bound]:
            longest = bound
    print("%-44s %7d turns, p99 <= %g ms, longest <= %g ms" % (title, total, p99 * 1e3, longest * 1e3), flush=True)


def post(gw, body):
    conn = http.client.HTTPConnection("127.0.0.1", gw.port, timeout=60)
    conn.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json",
                                                        "Authorization": "Bearer " + MASTER_KEY})
    status = conn.getresponse().status
    conn.close()
    return status


def chat(text):
    return json.dumps({"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": text}]})


BODIES = {
    "a million members": ('{"model":"m",%s}' % ",".join('"k%d":0' % i for i in range(1000000)), (400, 413, 422)),
    "100,000 open brackets": ("[" * 100000, (400,)),
    "depth 64 of lists, 100,000 times": ("[" + ",".join(["[" * 63 + "]" * 63] * 100000) + "]", (400, 413, 422)),
    "6 MB of text that is all quotes": (chat("'\"`;" * 1000000), (200, 400, 413)),
    "10 MB of prose": (chat("It was so; and then, said Anna, we went. " * 250000), (200, 400, 413)),
}


def check_45(gw, pg_key, rounds):
    before = lag(gw)
    time.sleep(1)
    show_lag("check 45, idle", before, lag(gw))
    before = lag(gw)
    threads = [threading.Thread(target=measure, args=(gw.port, variants(pg_key, 3), 2000)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    show_lag("check 45, four clients with wrong keys", before, lag(gw))
    for name, (body, statuses) in BODIES.items():
        before = lag(gw)
        for _ in range(rounds):
            status = post(gw, body)
            if status not in statuses:
                raise SystemExit("%s: %d" % (name, status))
        show_lag("check 45, " + name, before, lag(gw))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=100000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with Postgres() as server, Standin() as standin:
        database = server.create_database(name="refusals")
        database.migrate()
        env = {**standin.env(), "DATABASE_URL": database.url}
        with Gateway(env=env, conf=OPEN) as gw:
            key = make_key(gw, env)
            check_35(gw, key, args.tries)
            check_45(gw, key, args.rounds)


if __name__ == "__main__":
    main()

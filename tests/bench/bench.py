#!/usr/bin/env python3
"""Measures the rows of SPEC 8 and prints them beside nginx, taken in the same run. Run by run.sh."""
import argparse
import http.client
import json
import re
import socket
import statistics
import subprocess
import sys
import time

from rig import KEY, BenchError, Rig, chat_body, get, post_chat, raw_request

CHAT = "/v1/chat/completions"
MODEL, CLAUDE = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"
LOAD_CONNECTIONS = 64
STREAMS, STREAM_EVENTS, STREAM_MS = 200, 300, 10
IDLE_CONNECTIONS, OPEN_STREAMS = 2000, 500


class Row:
    """A line of the table. `judged` is what the goal is about; None when it was not measured."""

    def __init__(self, name, postern, nginx, judged, goal, unit, note=""):
        self.name, self.postern, self.nginx = name, postern, nginx
        self.judged, self.goal, self.unit, self.note = judged, goal, unit, note

    def ok(self):
        return self.judged is not None and self.judged <= self.goal


class Bench:
    def __init__(self, rig, rounds, seconds, nginx_only):
        self.rig, self.rounds, self.seconds, self.nginx_only = rig, rounds, seconds, nginx_only
        self.rows = []

    def add(self, *args):
        row = Row(*args)
        self.rows.append(row)
        print(format_row(row), flush=True)

    def alternate(self, measure):
        """Medians of measure("nginx") and measure("postern"), taken in turns."""
        taken = {"nginx": [], "postern": []}
        for _ in range(self.rounds):
            for which in taken:
                if which == "nginx" or not self.nginx_only:
                    taken[which].append(measure(which))
        return (statistics.median(taken["postern"]) if taken["postern"] else None,
                statistics.median(taken["nginx"]))

    # --- rows -------------------------------------------------------------------------------------

    def start_both(self, core, stores=False):
        env = self.rig.start_stores(1 if core is not None else None) if stores else None
        self.rig.start_upstream(core=1 if core is not None else None)
        servers = {"nginx": (self.rig.start_nginx(core), self.rig.nginx_port)}
        if not self.nginx_only:
            servers["postern"] = self.rig.start_postern(core, env)
        for _, port in servers.values():  # warm up: pools, caches, lazily made objects
            self.rig.wrk(port, MODEL, 8, 1)
        return servers

    def pass_through(self):
        """Everything on: a key with a budget, limits in Redis, a cache look-up that finds nothing (the
        answer is then kept), the ledger."""
        servers = self.start_both(core=0, stores=not self.nginx_only)
        before = None if self.nginx_only else loop_turns(servers["postern"][1])
        rates = {"nginx": [], "postern": []}

        def measure(which):
            process, port = servers[which]
            cpu = process.cpu_us()
            result = self.rig.wrk(port, MODEL, LOAD_CONNECTIONS, self.seconds, cache="miss")
            rates[which].append(result["requests"] / (result["us"] / 1e6))
            return (process.cpu_us() - cpu) / result["requests"]

        postern, nginx = self.alternate(measure)
        note = ", ".join("%s %d/s" % (w, statistics.median(r)) for w, r in rates.items() if r)
        self.add("pass-through chat, CPU us per request", postern, nginx, ratio(postern, nginx), 4.0,
                 "x", note)
        if not self.nginx_only:
            turns = delta(before, loop_turns(servers["postern"][1]))
            p99 = quantile(turns, 0.99)
            self.add("loop turn under that load, p99 ms", p99 * 1000, None, p99 * 1000, 5.0, "ms",
                     "longest below %.1f ms" % (quantile(turns, 1) * 1000))
        self.cached(servers)
        self.rig.stop_all()

    def cached(self, servers):
        if self.nginx_only:
            return
        process, port = servers["postern"]
        self.rig.wrk(port, MODEL, 1, 1, cache="hit")

        def measure(which):
            target, target_port = servers[which]
            cpu = target.cpu_us()
            result = self.rig.wrk(target_port, MODEL, LOAD_CONNECTIONS, self.seconds, cache="hit")
            return (target.cpu_us() - cpu) / result["requests"]

        postern, nginx = self.alternate(measure)
        self.add("cached answer, CPU us per request", postern, nginx, ratio(postern, nginx), 1.5, "x")

    def added(self):
        """What each part adds to a request, one after the other; no goals."""
        if self.nginx_only:
            return
        env, before = self.rig.start_stores(), None
        self.rig.start_upstream()
        postgres = {k: v for k, v in env.items() if k != "REDIS_URL"}
        key = self.rig.key
        for what, stores, bearer, cache in (
                ("master key, limits of its own", {}, KEY, None),
                ("and the ledger", postgres, KEY, None),
                ("and a key with a budget", postgres, key, None),
                ("and limits and budget in Redis", env, key, None),
                ("and a cache look-up, kept", env, key, "miss"),
                ("the same, found in the cache", env, key, "hit")):
            self.rig.key = bearer
            process, port = self.rig.start_postern(0, stores)
            self.rig.wrk(port, MODEL, 8, 1, cache=cache)
            cpu = process.cpu_us()
            result = self.rig.wrk(port, MODEL, LOAD_CONNECTIONS, self.seconds, cache=cache)
            took = (process.cpu_us() - cpu) / result["requests"]
            print("   %-38s %6.1f us a request%s" % (
                what, took, "" if before is None else " (%+.1f)" % (took - before)), flush=True)
            before = took
            self.rig.stop(process)
        self.rig.stop_all()

    def latency(self):
        servers = self.start_both(core=None)
        tails = {"nginx": [], "postern": []}

        def measure(which):
            result = self.rig.wrk(servers[which][1], MODEL, 10, self.seconds, core=None)
            tails[which].append(result["p99"])
            return result["p50"]

        postern, nginx = self.alternate(measure)
        note = "p99 " + ", ".join("%s %d" % (w, statistics.median(t)) for w, t in tails.items() if t)
        self.add("concurrency 10, both cores, p50 us", postern, nginx, ratio(postern, nginx), 1.5, "x",
                 note)
        self.rig.stop_all()

    def streams(self):
        servers = self.start_both(core=0)
        for name, model, nginx_path, goal in (
                ("stream relayed, CPU us per event", MODEL, CHAT, 2.5),
                ("stream translated, CPU us per event", CLAUDE, "/anthropic/v1/messages", 5.0)):
            paced = "%s-s%d-%d" % (model, STREAM_EVENTS, STREAM_MS)

            def measure(which, model=paced, path=nginx_path):
                process, port = servers[which]
                if which == "nginx":
                    port = self.rig.nginx_stream_port
                request = raw_request(path if which == "nginx" else CHAT, chat_body(model, True))
                cpu = process.cpu_us()
                result = self.rig.client(port, request, conns=STREAMS, spread_ms=500)
                if result["events"] < STREAMS * STREAM_EVENTS:
                    raise BenchError("%s: only %d events" % (which, result["events"]))
                return (process.cpu_us() - cpu) / result["events"]

            postern, nginx = self.alternate(measure)
            self.add(name, postern, nginx, ratio(postern, nginx), goal, "x",
                     "%d streams, an event every %d ms" % (STREAMS, STREAM_MS))
        self.rig.stop_all()

    def first_token(self):
        servers = self.start_both(core=None)
        request = raw_request(CHAT, chat_body(MODEL + "-s3-0", True))
        ports = {"direct": self.rig.upstream_port, "nginx": self.rig.nginx_stream_port}
        if not self.nginx_only:
            ports["postern"] = servers["postern"][1]
        taken = {which: [] for which in ports}
        for _ in range(self.rounds):
            for which, port in ports.items():
                result = self.rig.client(port, request, core=None, requests=500)
                taken[which].append(result["first"]["p50"])
        p50 = {which: statistics.median(values) for which, values in taken.items()}
        added = {w: (p50[w] - p50["direct"]) / 1000 for w in p50}
        self.add("time to first token, added ms", added.get("postern"), added["nginx"],
                 added.get("postern"), 1.0, "ms", "direct %.3f ms" % (p50["direct"] / 1000))
        self.rig.stop_all()

    def open_circuit(self):
        if self.nginx_only:
            return
        self.rig.start_upstream()
        _, port = self.rig.start_postern()
        for _ in range(30):
            status, _, body = post_chat(port, "groq/llama-3.1-8b-instant")
            if status == 503 and "circuit-open" in body:
                break
        else:
            raise BenchError("the circuit does not open: %d %s" % (status, body[:200]))
        request = raw_request(CHAT, chat_body("groq/llama-3.1-8b-instant"))
        result = self.rig.client(port, request, requests=1000, status=503)
        p99 = result["whole"]["p99"] / 1000
        self.add("open circuit, answer ms, p99", p99, None, p99, 5.0, "ms",
                 "longest %.3f ms" % (result["whole"]["max"] / 1000))
        self.rig.stop_all()

    def memory(self):
        def fresh(which):
            self.rig.start_upstream()
            if which == "nginx":
                return self.rig.start_nginx(), self.rig.nginx_stream_port
            return self.rig.start_postern()

        def idle(process, _port):
            return process.rss_kb() / 1024

        def per_connection(process, port):
            path = CHAT if port == self.rig.nginx_stream_port else "/api/v1/health/live"
            self.rig.client(port, raw_request(path), conns=10)
            before = process.rss_kb()
            held = self.rig.open_clients(port, raw_request(path), conns=IDLE_CONNECTIONS, hold=1)
            time.sleep(0.5)
            after = process.rss_kb()
            held.communicate()
            return (after - before) / IDLE_CONNECTIONS

        def per_stream(process, port):
            quick = raw_request(CHAT, chat_body(MODEL + "-s3-0", True))
            slow = raw_request(CHAT, chat_body(MODEL + "-s600-100", True))
            self.rig.client(port, quick, conns=2)
            before = process.rss_kb()
            held = self.rig.open_clients(port, slow, conns=OPEN_STREAMS, spread_ms=500)
            time.sleep(3)
            after = process.rss_kb()
            held.kill()
            held.communicate()
            return (after - before) / OPEN_STREAMS

        for name, measure, goal, unit in (
                ("resident memory idle, MB", idle, 20, "MB"),
                ("resident per idle connection, KB", per_connection, 12, "KB"),
                ("resident per open stream, KB", per_stream, 40, "KB")):
            found = {}
            for which in ("nginx",) if self.nginx_only else ("nginx", "postern"):
                found[which] = measure(*fresh(which))
                self.rig.stop_all()
            self.add(name, found.get("postern"), found["nginx"], found.get("postern"), goal, unit)

    def start_up(self):
        if self.nginx_only:
            return
        taken = []
        for _ in range(max(self.rounds, 5)):
            began = time.monotonic()
            process, port = self.rig.spawn_postern(core=None)
            until_200(process, port, began + 10)
            taken.append((time.monotonic() - began) * 1000)
            self.rig.stop_all()
        median = statistics.median(taken)
        self.add("start to first 200, ms", median, None, median, 100, "ms",
                 "%.0f to %.0f" % (min(taken), max(taken)))

    def run(self, wanted):
        print(HEADING, flush=True)
        for part in (self.pass_through, self.added, self.latency, self.streams, self.first_token,
                     self.open_circuit, self.memory, self.start_up):
            if wanted in part.__name__:
                part()


def until_200(process, port, deadline):
    while time.monotonic() < deadline and process.alive():
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            if get(port, "/api/v1/health/live")[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.001)
    raise BenchError("postern did not start")


# --- loop_lag_seconds -------------------------------------------------------------------------------

def loop_turns(port):
    """Upper bound -> cumulative count of the histogram loop_lag_seconds."""
    status, text = get(port, "/metrics")
    found = re.findall(r'^loop_lag_seconds_bucket\{le="([^"]+)"\} (\d+)', text, re.M)
    if status != 200 or not found:
        raise BenchError("/metrics has no loop_lag_seconds (%d)" % status)
    return {float(le.replace("+Inf", "inf")): int(count) for le, count in found}


def delta(before, after):
    return {le: after[le] - before.get(le, 0) for le in after}


def quantile(buckets, q):
    """The upper bound of the bucket that holds the quantile."""
    total = max(buckets.values())
    for le in sorted(buckets):
        if total and buckets[le] >= q * total:
            return le
    raise BenchError("the loop has not turned")


# --- the table --------------------------------------------------------------------------------------

def ratio(a, b):
    return a / b if a is not None and b else None


def number(value, width):
    return ("-" if value is None else "%.3f" % value if value < 1 else "%.1f" % value).rjust(width)


HEADING = "%-40s %9s %9s %9s %9s  %s" % ("row", "postern", "nginx", "judged", "goal", "ok")


def format_row(row):
    judged = "-" if row.judged is None else "%.2f %s" % (row.judged, row.unit)
    verdict = "-" if row.judged is None else "yes" if row.ok() else "NO"
    return "%-40s %s %s %9s %9s  %-3s %s" % (
        row.name, number(row.postern, 9), number(row.nginx, 9), judged, "%g %s" % (row.goal, row.unit),
        verdict, "(%s)" % row.note if row.note else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True)
    parser.add_argument("--postern", required=True)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, rougher figures")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    parser.add_argument("--nginx-only", action="store_true", help="only nginx, to try the rig")
    parser.add_argument("--rows", default="", help="only the parts (functions of Bench) whose name contains this word")
    args = parser.parse_args()
    rig = Rig(args.work, args.postern)
    bench = Bench(rig, 3 if args.quick else 5, 2 if args.quick else 4, args.nginx_only)
    try:
        bench.run(args.rows)
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        print("bench: %s" % error, file=sys.stderr)
        return 2
    finally:
        rig.stop_all()
    with open(rig.path("bench.json"), "w", encoding="utf-8") as f:
        json.dump([{**vars(r), "ok": r.ok()} for r in bench.rows], f, indent=1)
    missed = [r.name for r in bench.rows if not r.ok()]
    return 1 if args.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())

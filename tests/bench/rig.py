"""The rig of the bench: processes pinned to cores, the kernel's accounting of them, and the three
servers: the upstream, nginx with one worker, and Postern with everything on."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
KEY = "b9d1c3e7f05a4826913c7de2406f8ab5d27e6130c4f98b5a"
CORES = sorted(os.sched_getaffinity(0))


class BenchError(Exception):
    """The rig does not work; no figure can be trusted."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def pin_to(core):
    """A preexec function that keeps a process on one core; with a single core, on that."""
    if core is None:
        return None
    return lambda: os.sched_setaffinity(0, {CORES[core % len(CORES)]})


def family(pid):
    """A process and all below it."""
    pids, todo = [], [pid]
    while todo:
        pid = todo.pop()
        pids.append(pid)
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task), encoding="ascii") as f:
                todo += [int(p) for p in f.read().split()]
    return pids


def pin(pid, core):
    if core is not None:
        os.sched_setaffinity(pid, {CORES[core % len(CORES)]})


class Process:
    """A server under measurement, with its children."""

    def __init__(self, command, core=None, env=None, stdout=None):
        self.popen = subprocess.Popen(command, preexec_fn=pin_to(core), stdout=stdout,
                                      stderr=subprocess.STDOUT if stdout is not None else None,
                                      stdin=subprocess.DEVNULL,
                                      env=None if env is None else {**os.environ, **env})
        self.pid = self.popen.pid

    def tree(self):
        return family(self.pid)

    def cpu_us(self):
        """CPU time, user and system, of all threads so far, from the scheduler's accounting."""
        total = 0
        for pid in self.tree():
            for task in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/schedstat" % (pid, task), encoding="ascii") as f:
                    total += int(f.read().split()[0])
        return total / 1000

    def rss_kb(self):
        total = 0
        for pid in self.tree():
            with open("/proc/%d/status" % pid, encoding="ascii") as f:
                total += int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))
        return total

    def alive(self):
        return self.popen.poll() is None

    def stop(self):
        if self.alive():
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait()


def get(port, path, headers=None, timeout=5):
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        conn.request("GET", path, headers=headers or {})
        response = conn.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        conn.close()


def post_chat(port, model, timeout=30):
    """(status, headers, body) of one chat."""
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        conn.request("POST", "/v1/chat/completions", chat_body(model),
                     {"Content-Type": "application/json", "Authorization": "Bearer " + KEY})
        response = conn.getresponse()
        return response.status, response.headers, response.read().decode("utf-8", "replace")
    finally:
        conn.close()


def chat_body(model, stream=False):
    """A chat of ordinary size, about 600 bytes."""
    body = {"model": model, "temperature": 0.7, "max_tokens": 256, "messages": [
        {"role": "system", "content": "You are the assistant of a small company. Answer in plain words,"
                                      " briefly, and say so when you do not know."},
        {"role": "user", "content": "What does an AI gateway do for us?"},
        {"role": "assistant", "content": "It stands between your programs and the models they use."},
        {"role": "user", "content": "And why would we want one, when each vendor has a library of its own"
                                    " that our people know already? Name the two reasons that matter"
                                    " most, and one that speaks against it."}]}
    if stream:
        body["stream"] = True
    return json.dumps(body)


def raw_request(path, body=None):
    """The bytes of a request for client.c."""
    head = ["%s %s HTTP/1.1" % ("POST" if body else "GET", path), "Host: 127.0.0.1",
            "User-Agent: bench", "Accept: */*", "Authorization: Bearer " + KEY]
    if body:
        head += ["Content-Type: application/json", "Content-Length: %d" % len(body)]
    return "\r\n".join(head) + "\r\n\r\n" + (body or "")


class Rig:
    """Starts what a row needs and stops it again."""

    def __init__(self, work, postern):
        self.work = work
        self.postern_bin = postern
        self.running = []
        self.stores = []
        self.key = KEY
        self.upstream_port = self.nginx_port = self.nginx_stream_port = None

    def path(self, name, text=None):
        full = os.path.join(self.work, name)
        if text is not None:
            with open(full, "w", encoding="utf-8") as f:
                f.write(text)
        return full

    def start(self, *args, **kwargs):
        process = Process(*args, **kwargs)
        self.running.append(process)
        return process

    def stop(self, process):
        process.stop()
        if process in self.running:
            self.running.remove(process)

    def stop_all(self):
        for process in list(reversed(self.running)):
            self.stop(process)
        for store in self.stores:
            store.__exit__(None, None, None)
        self.stores = []
        self.key = KEY

    def start_stores(self, core=1):
        """Environment of a Postgres and a Redis of our own, with a key that has a budget: what "everything
        on" means. The key is self.key until stop_all()."""
        os.environ["POSTERN_BIN"] = self.postern_bin
        from postgres import Postgres  # pylint: disable=import-outside-toplevel
        from redisd import Redis  # pylint: disable=import-outside-toplevel
        postgres, redis = Postgres().__enter__(), Redis().__enter__()
        self.stores += [postgres, redis]
        for store in self.stores:
            for pid in family(store.process.pid):
                pin(pid, core)
        database = postgres.create_database(name="bench")
        database.migrate()
        env = {"DATABASE_URL": database.url, "REDIS_URL": redis.url, "LEDGER_DIR": self.path("spool")}
        shutil.rmtree(self.path("spool"), ignore_errors=True)
        self.command(env, "user", "add", "bench")
        self.key = self.command(env, "apikey", "create", "--owner", "bench", "--name", "bench", "--budget",
                                "1000000", "--period", "month", "--rpm", "1000000000")
        return env

    def command(self, env, *args):
        """The last line a sub-command prints."""
        done = subprocess.run([self.postern_bin, *args, "--conf", self.conf_dir(), "--env-file",
                               self.path("none.env", "")], env={**os.environ, **env}, text=True,
                              capture_output=True, timeout=30, check=False)
        if done.returncode:
            raise BenchError("postern %s: %s" % (" ".join(args), done.stderr))
        return done.stdout.strip().split("\n")[-1]

    def wait_port(self, process, port, what):
        for _ in range(400):
            if not process.alive():
                break
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return
            except OSError:
                time.sleep(0.025)
        raise BenchError("%s does not listen on port %d" % (what, port))

    def start_upstream(self, core=1):
        self.upstream_port = free_port()
        upstream = self.start([self.path("upstream"), str(self.upstream_port)], core,
                              stdout=subprocess.DEVNULL)
        self.wait_port(upstream, self.upstream_port, "the upstream")
        return upstream

    def start_nginx(self, core=0):
        self.nginx_port, self.nginx_stream_port = free_port(), free_port()
        with open(os.path.join(HERE, "nginx.conf.in"), encoding="utf-8") as f:
            text = f.read()
        for name, value in (("WORK", self.work), ("UPSTREAM", self.upstream_port),
                            ("PORT", self.nginx_port), ("STREAM_PORT", self.nginx_stream_port),
                            ("USER", "user root;" if os.geteuid() == 0 else "")):
            text = text.replace("@%s@" % name, str(value))
        os.makedirs(self.path("nginx"), exist_ok=True)
        conf = self.path("nginx.conf", text)
        binary = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
        log = open(self.path("nginx.log"), "wb")  # pylint: disable=consider-using-with
        nginx = self.start([binary, "-p", self.work, "-c", conf], core, stdout=log)
        self.wait_port(nginx, self.nginx_port, "nginx")
        return nginx

    def conf_dir(self):
        """The shipped configuration, with every limiter at work but out of the way."""
        target = self.path("conf")
        shutil.rmtree(target, ignore_errors=True)
        if os.path.isdir(os.path.join(ROOT, "conf")):
            shutil.copytree(os.path.join(ROOT, "conf"), target)
        else:
            os.makedirs(target)
        limits = os.path.join(target, "rate_limits.yaml")
        if os.path.exists(limits):
            with open(limits, encoding="utf-8") as f:
                text = f.read()
            with open(limits, "w", encoding="utf-8") as f:
                f.write(re.sub(r"\b(requests_per_minute|burst):\s*\d+", r"\1: 1000000000", text))
        return target

    def postern_env(self, port):
        base = "http://127.0.0.1:%d" % (self.upstream_port or 1)
        return {"API_HOST": "127.0.0.1", "API_PORT": str(port), "API_WORKERS": "1",
                "ENVIRONMENT": "production", "LOG_FORMAT": "json", "LOG_LEVEL": "info",
                "POSTERN_MASTER_KEY": KEY, "JWT_SECRET_KEY": KEY[::-1],
                "CORS_ORIGINS": "https://app.example",
                "OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": base + "/openai/v1",
                "ANTHROPIC_API_KEY": "sk-ant-bench", "ANTHROPIC_BASE_URL": base + "/anthropic",
                # nothing listens there: the provider whose circuit opens
                "GROQ_API_KEY": "gsk-bench", "GROQ_BASE_URL": "http://127.0.0.1:1"}

    def spawn_postern(self, core=0, env=None):
        """(process, port), not waited for."""
        port = free_port()
        log = open(self.path("postern.log"), "wb")  # pylint: disable=consider-using-with
        process = self.start([self.postern_bin, "serve", "--conf", self.conf_dir(), "--env-file",
                              self.path("none.env", "")], core,
                             {**self.postern_env(port), **(env or {})}, log)
        log.close()
        return process, port

    def start_postern(self, core=0, env=None):
        process, port = self.spawn_postern(core, env)
        self.wait_port(process, port, "postern (its log: %s)" % self.path("postern.log"))
        return process, port

    # --- load -------------------------------------------------------------------------------------

    def wrk(self, port, model, connections, seconds, core=1, cache=None):
        """What chat.lua prints at the end of a run."""
        body = self.path("chat.json", chat_body(model))
        done = subprocess.run(
            ["wrk", "-t1", "-c%d" % connections, "-d%ds" % seconds, "-s",
             os.path.join(HERE, "chat.lua"), "http://127.0.0.1:%d/v1/chat/completions" % port],
            env={**os.environ, "BENCH_BODY": body, "BENCH_KEY": self.key,
                 **({"BENCH_CACHE": cache} if cache else {})}, capture_output=True, text=True,
            preexec_fn=pin_to(core), timeout=seconds + 60, check=False)
        lines = [line for line in done.stdout.split("\n") if line.startswith("{")]
        if done.returncode or not lines:
            raise BenchError("wrk: %s%s" % (done.stdout, done.stderr))
        result = json.loads(lines[-1])
        if result["errors"] or not result["requests"]:
            raise BenchError("wrk on port %d: %s" % (port, lines[-1]))
        return result

    def client_command(self, port, request, **options):
        path = self.path("request", request)
        return [self.path("client"), "127.0.0.1", str(port), path] + [
            "%s=%d" % item for item in options.items()]

    def client(self, port, request, core=1, **options):
        """What client.c prints at the end of a run."""
        done = subprocess.run(self.client_command(port, request, **options), capture_output=True,
                              text=True, preexec_fn=pin_to(core), timeout=120, check=False)
        if done.returncode:
            raise BenchError("client on port %d: %s%s" % (port, done.stdout, done.stderr))
        return json.loads(done.stdout.split("\n")[1])

    def open_clients(self, port, request, **options):
        """A client that holds its connections; returns once all are open. Ended by .stop()."""
        process = subprocess.Popen(self.client_command(port, request, **options), text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, preexec_fn=pin_to(1))
        if process.stdout.readline().strip() != "open":
            process.kill()
            raise BenchError("client on port %d: %s" % (port, process.communicate()[1]))
        return process

"""Gateway: starts the real program on a free port with a configuration of its own, and talks to it.

    with Gateway(env=standin.env(), conf={"gateway.yaml": {"server.header_timeout_s": 1}}) as gw:
        answer = gw.post("/v1/chat/completions", {...})

The configuration is a copy of the shipped conf/ with single keys replaced. Rate limits are raised far out
of the way unless a test sets them. Standard error and output are kept for assertions.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from ports import free_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MASTER_KEY = "test-master-key-0123456789-abcdefghij"
AUTH = {"Authorization": "Bearer " + MASTER_KEY}
UNLIMITED = {"classes.%s.%s" % (c, k): 1000000
             for c in ("default", "ai", "auth", "upload", "global")
             for k in ("requests_per_minute", "burst")}


def binary():
    """The program under test: POSTERN_BIN, or the first build found."""
    for path in (os.environ.get("POSTERN_BIN"), "build-asan/postern", "build/postern"):
        if path and os.path.exists(os.path.join(ROOT, path)):
            return os.path.join(ROOT, path)
    raise RuntimeError("no build: set POSTERN_BIN or run tests/run.sh")


def set_yaml(path, values):
    """Replaces the values of dotted keys in a YAML file of nested maps, keeping the rest as it is."""
    with open(path, encoding="utf-8") as f:
        lines = f.read().split("\n")
    left = dict(values)
    stack = []
    for i, line in enumerate(lines):
        text = line.strip()
        if not text or text.startswith("#") or ":" not in text or text.startswith("- "):
            continue
        indent = len(line) - len(line.lstrip())
        while stack and stack[-1][0] >= indent:
            stack.pop()
        key = text.split(":", 1)[0]
        dotted = ".".join([k for _, k in stack] + [key])
        stack.append((indent, key))
        if dotted in left:
            lines[i] = "%s%s: %s" % (" " * indent, key, left.pop(dotted))
    if left:
        raise KeyError("%s has no %s" % (path, ", ".join(left)))
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(lines))


class Answer:
    """A whole answer: status, headers (lower-case names; the last of a name), body."""

    def __init__(self, response, body):
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.header_list = response.getheaders()
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode("utf-8")

    def events(self):
        """Server-sent events as (type, data) pairs, comments left out."""
        return parse_events(self.text)


def parse_events(text):
    out = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        kind, data = "message", []
        for line in block.split("\n"):
            if line.startswith("event:"):
                kind = line[6:].strip()
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
        if data:
            out.append((kind, "\n".join(data)))
    return out


class Gateway:
    def __init__(self, env=None, conf=None, models=None, args=(), auth=True, wrapper=(), limits=False,
                 preexec=None):
        self.env = {"POSTERN_MASTER_KEY": MASTER_KEY} if auth else {}
        self.env.update(env or {})
        if self.env.get("API_WORKERS", "1") != "1":
            self.env.setdefault("API_PORT", str(free_port()))  # a port all of them can share
        self.conf = dict(conf or {})
        if not limits:
            self.conf["rate_limits.yaml"] = {**UNLIMITED, **self.conf.get("rate_limits.yaml", {})}
        self.models = models  # text of models_registry.yaml instead of the shipped one
        self.args = list(args)
        self.wrapper = list(wrapper)
        self.preexec = preexec
        self.process = None
        self.port = None
        self.dir = tempfile.mkdtemp(prefix="postern-test-")
        self.conf_dir = os.path.join(self.dir, "conf")
        self.write_conf()

    def write_conf(self):
        shutil.rmtree(self.conf_dir, ignore_errors=True)
        shutil.copytree(os.path.join(ROOT, "conf"), self.conf_dir)
        for name, values in self.conf.items():
            set_yaml(os.path.join(self.conf_dir, name), values)
        if self.models is not None:
            with open(os.path.join(self.conf_dir, "models_registry.yaml"), "w", encoding="utf-8") as f:
                f.write(self.models)

    def environment(self):
        keep = {k: v for k, v in os.environ.items()
                if k in ("PATH", "HOME", "LANG", "TMPDIR") or k.endswith("SAN_OPTIONS")}
        keep.update({"API_PORT": "0", "LOG_FORMAT": "json", **self.env})
        # freed memory is kept back by the sanitizer, up to this much: resident memory shall mean something
        keep["ASAN_OPTIONS"] = keep.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=2:thread_local_quarantine_size_kb=64"
        return {k: v for k, v in keep.items() if v is not None}

    def command(self, name="serve"):
        return self.wrapper + [binary(), name, "--conf", self.conf_dir] + self.args

    def start(self, timeout=30):
        self.out_path = os.path.join(self.dir, "stdout")
        self.err_path = os.path.join(self.dir, "stderr")
        with open(self.out_path, "ab") as out, open(self.err_path, "ab") as err:
            self.process = subprocess.Popen(self.command(), env=self.environment(), stdout=out,
                                            stderr=err, cwd=self.dir, preexec_fn=self.preexec)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError("postern ended with %d: %s" % (self.process.returncode, self.log()))
            self.port = self.find_port()
            if self.port and self.is_ready():
                return self
            time.sleep(0.02)
        self.kill()
        raise RuntimeError("postern did not get ready: " + self.log())

    def find_port(self):
        if self.env.get("API_PORT", "0") != "0":
            return int(self.env["API_PORT"])
        for line in self.stdout().split("\n"):
            if line.startswith("listening "):
                return int(line.split()[1])
        return None

    def is_ready(self):
        try:
            return self.get("/api/v1/health/ready", headers={}).status == 200
        except OSError:
            return False

    def stop(self, timeout=40):
        """SIGTERM, waits, and returns the exit status; cleans up."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            rc = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.process = None
        return rc

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        rc = None
        try:
            rc = self.stop()
            bad = self.sanitizer_report()
            if kind is None:
                assert not bad, bad
                assert rc in (0, None), "postern exited with %s: %s" % (rc, self.log()[-4000:])
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def sanitizer_report(self):
        text = self.stderr()
        for word in ("AddressSanitizer", "LeakSanitizer", "runtime error:", "Assertion"):
            if word in text:
                return text[max(0, text.index(word) - 200):][:6000]
        return ""

    # --- what it said ------------------------------------------------------------------------

    def stdout(self):
        with open(self.out_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stderr(self):
        with open(self.err_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def log(self):
        return self.stdout() + self.stderr()

    def log_lines(self):
        """JSON log lines."""
        return [json.loads(line) for line in self.stdout().split("\n") if line.startswith("{")]

    # --- talking to it -----------------------------------------------------------------------

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port

    def connect(self, timeout=30):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=60):
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        send = dict(AUTH if headers is None else headers)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            send.setdefault("Content-Type", "application/json")
        try:
            conn.request(method, path, body, send)
            response = conn.getresponse()
            return Answer(response, response.read())
        finally:
            conn.close()

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body, **kw):
        return self.request("POST", path, body, **kw)

    def chat(self, model="openai/gpt-4o-mini", text="hello", headers=None, timeout=60, **more):
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return self.post("/v1/chat/completions", body, headers=headers, timeout=timeout)

    def metrics(self):
        """Samples of /metrics: {'name{labels}': value}."""
        out = {}
        for line in self.get("/metrics").text.split("\n"):
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                out[name] = float(value)
        return out

    def alive(self):
        """The check every check ends with: answers, and is the same process."""
        assert self.process.poll() is None, self.log()[-4000:]
        assert self.get("/api/v1/health/live", headers={}).status == 200

    def rss_kb(self):
        with open("/proc/%d/status" % self.process.pid, encoding="ascii") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def wait_idle(self, timeout=20):
        """Waits until no request and no provider call is open."""
        end = time.monotonic() + timeout
        while True:
            m = self.metrics()
            busy = m.get("http_requests_in_progress", 0) - 1 + sum(
                v for k, v in m.items() if k.startswith("provider_requests_in_flight"))
            if busy <= 0:
                return m
            if time.monotonic() > end:
                raise TimeoutError("still %d at work" % busy)
            time.sleep(0.05)

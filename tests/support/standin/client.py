"""Standin: starts the stand-in provider as a process of its own, and talks to its control side.

    with Standin() as standin:
        standin.control({"status": 503}, match={"dialect": "openai"}, repeat=3)
        env = standin.env()              # provider keys and base URLs for the gateway
        ...
        calls = standin.calls()
"""

import http.client
import json
import os
import subprocess
import sys
import time

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fake_provider.py")
KEYS = {"openai": "sk-standin-openai", "anthropic": "sk-ant-standin", "google": "AIzaStandin",
        "groq": "gsk-standin-groq"}


class Standin:
    """A running stand-in. Also a context manager; start() and stop() may be called repeatedly."""

    def __init__(self, port=0, tls=None, log=None):
        self.wanted_port = port
        self.tls = tls  # (certificate file, key file) or None
        self.log = log  # file for its stderr, else it is shared
        self.keys = dict(KEYS)
        self.process = None
        self.port = None

    def start(self, timeout=20):
        """Starts it and waits until it listens; returns self."""
        command = [sys.executable, SCRIPT, "--port", str(self.wanted_port)]
        if self.tls:
            command += ["--tls", *self.tls]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening "):
            self.stop()
            raise RuntimeError(f"the stand-in did not start: {line!r}")
        self.port = int(line.split()[1])
        return self

    def stop(self):
        """Ends it (SIGTERM, then SIGKILL); the port is free afterwards."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process = None

    def restart(self):
        """Stops it and starts it on the same port, with nothing remembered."""
        self.wanted_port = self.port
        self.stop()
        return self.start()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def base_url(self, dialect):
        """What goes into the gateway's <PROVIDER>_BASE_URL."""
        return self.url + {"openai": "/openai/v1", "groq": "/groq/openai/v1", "ollama": "/ollama/v1",
                           "anthropic": "/anthropic", "google": "/google"}[dialect]

    def env(self):
        """Environment variables that point the gateway at this stand-in."""
        out = {f"{name.upper()}_BASE_URL": self.base_url(name)
               for name in ("openai", "anthropic", "google", "groq", "ollama")}
        out.update({f"{name.upper()}_API_KEY": key for name, key in self.keys.items()})
        return out

    def request(self, method, path, body=None, headers=None, timeout=30):
        """One plain request; returns (status, headers as dict with lower-case names, bytes)."""
        if self.tls:
            import ssl
            conn = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout,
                                               context=ssl._create_unverified_context())
        else:
            conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            conn.request(method, path, body, headers or {})
            answer = conn.getresponse()
            data = answer.read()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data
        finally:
            conn.close()

    def _json(self, method, path, body=None):
        status, _, data = self.request(method, path, body)
        out = json.loads(data)
        if status != 200:
            raise ValueError(f"{method} {path}: {out.get('error')}")
        return out

    def control(self, behaviour, match=None, repeat=1):
        """Queues a behaviour (an object or a list of them, one for each call); -1 repeats for ever."""
        return self._json("POST", "/_control",
                          {"match": match or {}, "behaviour": behaviour, "repeat": repeat})

    def calls(self, since=0, body=True, only_open=False):
        """Calls received so far, oldest first; see control.Call.as_json."""
        path = f"/_calls?since={since}&body={int(body)}&open={int(only_open)}"
        return self._json("GET", path)["calls"]

    def health(self):
        return self._json("GET", "/_health")

    def reset(self):
        """Forgets scripts and calls."""
        self._json("DELETE", "/_control")
        self._json("DELETE", "/_calls")

    def wait_for(self, condition, timeout=10):
        """Waits until condition(calls) is true and returns what it gave; raises TimeoutError."""
        end = time.monotonic() + timeout
        while True:
            found = condition(self.calls())
            if found:
                return found
            if time.monotonic() > end:
                raise TimeoutError("the stand-in never saw it")
            time.sleep(0.01)

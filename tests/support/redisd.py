"""Redis: a throw-away redis-server on a private port that keeps nothing on disk.

    with Redis() as redis:
        gw = make_gateway(redis=redis)           # or env={"REDIS_URL": redis.url}
        redis.cli("DEL", "circuit:anthropic")    # what an operator types; gives the text
        redis.call("ZCARD", "rl:x")              # the same by a socket of our own; gives Python values
        redis.freeze(); redis.thaw(); redis.kill(); redis.start(); redis.restart()

Options are lines of redis.conf: Redis(requirepass="secret", maxmemory="4mb").
"""

import os
import socket
import subprocess

from daemons import Daemon
from ports import free_port

SETTINGS = {"bind": "127.0.0.1", "save": '""', "appendonly": "no", "daemonize": "no",
            "databases": 16, "tcp-keepalive": 0}
# Of storage_config.yaml, for tests that want every command answered, however busy the machine is: by default
# a gateway waits 50 ms for Redis and then goes on without.
PATIENT = {"redis.timeout_ms": 5000, "redis.connect_timeout_ms": 5000}


class RedisError(Exception):
    """An error reply."""


def read_reply(f):
    line = f.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server hung up")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        raise RedisError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else f.read(int(rest) + 2)[:-2].decode("utf-8", "surrogateescape")
    return None if rest == b"-1" else [read_reply(f) for _ in range(int(rest))]


class Redis(Daemon):
    name = "redis"

    def __init__(self, port=None, **options):
        super().__init__()
        self.port = port or free_port()
        self.options = {k.replace("_", "-"): v for k, v in options.items()}
        self.socket_path = os.path.join(self.dir, "redis.sock")

    @property
    def password(self):
        return self.options.get("requirepass")

    @property
    def url(self):
        secret = ":%s@" % self.password if self.password else ""
        return "redis://%s127.0.0.1:%d/0" % (secret, self.port)

    def command(self):
        settings = {**SETTINGS, "port": self.port, "dir": self.dir, "unixsocket": self.socket_path,
                    **self.options}
        path = self.write("redis.conf", "".join("%s %s\n" % kv for kv in settings.items()))
        return ["redis-server", path]

    def is_ready(self):
        try:
            return self.call("PING", timeout=1) == "PONG"
        except (OSError, RedisError):
            return False  # not yet listening, or still loading

    def cli(self, *args, timeout=20):
        """redis-cli with these arguments; its standard output without the last newline."""
        command = ["redis-cli", "-h", "127.0.0.1", "-p", str(self.port), "--raw"]
        command += ["-a", self.password, "--no-auth-warning"] if self.password else []
        done = subprocess.run(command + [str(a) for a in args], capture_output=True, text=True,
                              timeout=timeout)
        if done.returncode:
            raise RuntimeError("redis-cli: " + done.stdout + done.stderr)
        return done.stdout.removesuffix("\n")

    def call(self, *args, timeout=20):
        """One command: an int, a string, None, or a list of these; an error reply raises RedisError."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s, \
                s.makefile("rwb") as f:
            if self.password:
                self.send(f, "AUTH", self.password)
            return self.send(f, *args)

    @staticmethod
    def send(f, *args):
        items = [a if isinstance(a, bytes) else str(a).encode() for a in args]
        f.write(b"*%d\r\n" % len(items) + b"".join(b"$%d\r\n%s\r\n" % (len(i), i) for i in items))
        f.flush()
        return read_reply(f)

    def flush(self):
        self.call("FLUSHALL")

    def keys(self, pattern="*"):
        return sorted(self.call("KEYS", pattern))

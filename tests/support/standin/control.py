"""Scripts set by tests, and the log of what was asked of the server.

    POST   /_control  {"match": {...}, "behaviour": [{...}, ...], "repeat": n}   queue a script
    DELETE /_control  forget all scripts            GET /_control  those still waiting
    GET    /_calls    calls received, oldest first (?since=ID, ?body=0, ?open=1)
    DELETE /_calls    forget them
    GET    /_health   {"status": "ok", "open": calls being answered, "connections": n, ...}
"""

import time
from collections import deque

from . import behaviour
from .delivery import Answer

MATCH_KEYS = ("dialect", "model", "path", "method", "stream")
SECRET_HEADERS = ("authorization", "x-api-key", "x-goog-api-key", "cookie")
MAX_CALLS = 20000
MAX_LOGGED_BODY = 4 * 1024 * 1024
MAX_LOGGED_BODIES = 32 * 1024 * 1024  # of all calls together; the oldest are let go first


class Call:
    """One request that was received, and what became of it."""

    def __init__(self, number, conn, req):
        self.number = number
        self.connection = conn.number
        self.on_connection = conn.requests  # 1 for the first request on its connection
        self.method = req.method
        self.path = req.path
        self.query = {k: "***" if k == "key" else v for k, v in req.query.items()}
        self.headers = {
            name.lower(): "***" if name.lower() in SECRET_HEADERS else value
            for name, value in req.headers
        }
        self.body_bytes = len(req.body)
        self.body = None
        self.dialect = None
        self.model = None  # without directives
        self.stream = False
        self.behaviour = {}
        self.status = None  # that was meant to be sent
        self.sent = 0
        self.aborted = False  # the client left before the end
        self.hurt = False  # the behaviour ended the connection
        self.time = time.time()
        self.started = time.monotonic()
        self.ended = None

    def as_json(self, with_body=True):
        out = {
            "id": self.number, "connection": self.connection, "on_connection": self.on_connection,
            "method": self.method, "path": self.path, "query": self.query, "headers": self.headers,
            "body_bytes": self.body_bytes, "dialect": self.dialect, "model": self.model,
            "stream": self.stream, "behaviour": self.behaviour, "status": self.status,
            "sent": self.sent, "aborted": self.aborted, "hurt": self.hurt, "time": self.time,
            "done": self.ended is not None,
            "ms": None if self.ended is None else round((self.ended - self.started) * 1000, 3),
            "ended": None if self.ended is None else self.time + self.ended - self.started,
        }
        if with_body:
            out["body"] = self.body
        return out


class Script:
    def __init__(self, match, behaviours, repeat):
        self.match = match
        self.behaviours = behaviours
        self.left = -1 if repeat < 0 else repeat * len(behaviours)
        self.next = 0

    def fits(self, call):
        for key, wanted in self.match.items():
            have = getattr(call, key)
            if isinstance(wanted, str) and wanted.endswith("*"):
                if not str(have or "").startswith(wanted[:-1]):
                    return False
            elif have != wanted:
                return False
        return True

    def take(self):
        chosen = self.behaviours[self.next % len(self.behaviours)]
        self.next += 1
        if self.left > 0:
            self.left -= 1
        return dict(chosen)


class Control:
    """The state behind the control endpoints."""

    def __init__(self):
        self.scripts = []
        self.calls = deque(maxlen=MAX_CALLS)
        self.with_body = deque()
        self.body_bytes = 0  # of the requests in with_body
        self.total = 0
        self.open = 0
        self.connections = 0
        self.accepted = 0
        self.bugs = 0  # requests that the stand-in itself failed at
        self.started = time.time()

    def begin(self, conn, req):
        self.total += 1
        self.open += 1
        call = Call(self.total, conn, req)
        self.calls.append(call)
        return call

    def log_body(self, call, data):
        """Keeps a call's parsed body while there is room for it."""
        if call.body_bytes > MAX_LOGGED_BODY:
            return
        call.body = data
        self.with_body.append(call)
        self.body_bytes += call.body_bytes
        while self.body_bytes > MAX_LOGGED_BODIES:
            oldest = self.with_body.popleft()
            self.body_bytes -= oldest.body_bytes
            oldest.body = None

    def end(self, call):
        call.ended = time.monotonic()
        self.open -= 1

    def behaviour_for(self, call):
        """The next behaviour scripted for a call, {} if there is none."""
        for script in self.scripts:
            if script.left != 0 and script.fits(call):
                return script.take()
        return {}

    def handle(self, req, data):
        """The Answer to a request under /_...; `data` is its parsed JSON body or None."""
        route = (req.method, req.path)
        if route == ("POST", "/_control"):
            return self._add(data)
        if route == ("DELETE", "/_control"):
            self.scripts.clear()
            return Answer.json({"ok": True})
        if route == ("GET", "/_control"):
            return Answer.json({"scripts": [
                {"match": s.match, "behaviour": s.behaviours, "left": s.left}
                for s in self.scripts if s.left != 0]})
        if route == ("GET", "/_calls"):
            since = int(req.query.get("since", "0"))
            with_body = req.query.get("body", "1") != "0"
            calls = [c for c in list(self.calls) if c.number > since]
            if req.query.get("open") == "1":
                calls = [c for c in calls if c.ended is None]
            return Answer.json({"calls": [c.as_json(with_body) for c in calls]})
        if route == ("DELETE", "/_calls"):
            self.calls.clear()
            self.with_body.clear()
            self.body_bytes = 0
            return Answer.json({"ok": True})
        if route == ("GET", "/_health"):
            return Answer.json({
                "status": "ok", "open": self.open, "connections": self.connections,
                "accepted": self.accepted, "total": self.total, "bugs": self.bugs, "started": self.started})
        return Answer.json({"error": "no such control endpoint"}, 404)

    def _add(self, data):
        try:
            if not isinstance(data, dict):
                raise ValueError("a JSON object is needed")
            extra = set(data) - {"match", "behaviour", "repeat"}
            if extra:
                raise ValueError(f"unknown field {sorted(extra)[0]!r}")
            match = data.get("match") or {}
            for key in match:
                if key not in MATCH_KEYS:
                    raise ValueError(f"cannot match on {key!r}")
            behaviours = data.get("behaviour")
            if isinstance(behaviours, dict):
                behaviours = [behaviours]
            if not behaviours:
                raise ValueError("behaviour is empty")
            script = Script(match, [behaviour.parse(b) for b in behaviours],
                            int(data.get("repeat", 1)))
        except (ValueError, TypeError, AttributeError) as error:
            return Answer.json({"error": str(error)}, 400)
        self.scripts.append(script)
        return Answer.json({"ok": True, "scripts": len(self.scripts)})

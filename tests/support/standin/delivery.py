"""Bringing an answer to the client, whole or hurt in the way a behaviour asks for."""

import json
import zlib

from . import brain

REASONS = {
    100: "Continue", 101: "Switching Protocols", 102: "Processing", 103: "Early Hints", 200: "OK",
    307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict",
    413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content",
    429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout", 529: "Overloaded",
}
BLOCK = 64 * 1024


class Answer:
    """What a dialect wants to say. `events` (an iterable of Event) makes it a stream."""

    def __init__(self, status=200, body=b"", headers=(), content_type="application/json",
                 events=None, error_event=None, eol="lf"):
        self.status = status
        self.body = body
        self.headers = list(headers)
        self.content_type = content_type
        self.events = events
        self.error_event = error_event  # function(type) -> Event, for streams
        self.eol = eol  # the vendor's own line ends in streams

    @classmethod
    def json(cls, value, status=200, headers=()):
        return cls(status, to_bytes(value), headers)


class Event:
    """One event of a stream: a JSON value or ready text, and what it is for."""

    def __init__(self, data, name=None, role="data"):
        self.data = data
        self.name = name
        self.role = role  # data, finish (tells the finish reason), final (ends the stream)


class Ended(Exception):
    """The behaviour wants the connection to end here: `how` is cut or reset."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


def to_bytes(value):
    """Compact JSON as UTF-8 (with invalid bytes where a behaviour put the mark for them)."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _utf8(text)


def _utf8(text):
    raw = text.encode("utf-8", "surrogatepass")
    return raw.replace(brain.BAD_UTF8_MARK.encode(), b"\xff\xfe")


class Delivery:
    """One answer on its way. run() returns True when the connection may be used again."""

    def __init__(self, conn, req, answer, behaviour):
        self.conn = conn
        self.req = req
        self.answer = answer
        self.b = behaviour
        self.place = None  # the fault's place, and what to do there
        self.action = None
        for action in ("hang", "cut", "reset"):
            if action in behaviour:
                self.action, self.place = action, behaviour[action]
        self.keep_alive = req.keep_alive and not behaviour.get("close")
        self.deflate = None
        self.chunked = False
        self.gaps = 0  # of the stream so far

    async def run(self):
        b = self.b
        if "delay_ms" in b:
            await self.conn.sleep(b["delay_ms"] / 1000)
        await self._fault("before")
        if "info" in b:
            code = b["info"]
            link = "Link: </hint>; rel=preload\r\n" if code == 103 else ""
            await self._raw(f"HTTP/1.1 {code} {REASONS.get(code, 'Info')}\r\n{link}\r\n".encode())
        if "redirect" in b:
            url = self.req.target if b["redirect"] == "self" else b["redirect"]
            self.answer = Answer(307, b"", [("Location", url)], "text/plain")
        self._replace_body()
        if self.answer.events is not None and self.answer.status == 200:
            await self._stream()
        else:
            await self._whole()
        return self.keep_alive

    async def _fault(self, place):
        if self.place != place:
            return
        if self.action == "hang":
            await self.conn.hang()
        raise Ended(self.action)

    def _replace_body(self):
        """The behaviours that put another body (and no stream) in the answer's place."""
        b, answer = self.b, self.answer
        kind = b.get("body")
        if "body_raw" in b:
            raw = b["body_raw"]
            body = raw.encode() if isinstance(raw, str) else to_bytes(raw)
            self.answer = Answer(answer.status, body, answer.headers)
        elif kind == "html":
            page = b"<html><head><title>Hello</title></head><body><h1>It works</h1></body></html>"
            self.answer = Answer(200, page, content_type="text/html; charset=utf-8")
        elif kind == "truncated":
            if answer.events is not None:
                answer = Answer(200, b'{"id":"x","object":"chat.completion","choices":[{"index":0,')
            self.answer = Answer(200, answer.body[: max(1, len(answer.body) // 2)])
        elif kind is not None:
            bodies = {
                "garbage": bytes(range(256)) * 4, "empty": b"", "text": b"ok", "array": b"[1,2,3]",
                "null": b"null", "deep": b"[" * 100000 + b"]" * 100000,
            }
            self.answer = Answer(200, bodies[kind])

    def _head(self, framing):
        """The head's bytes; `framing` is the header lines that tell the body's length."""
        answer, b = self.answer, self.b
        kind = answer.content_type
        if b.get("wrong_type"):
            kind = "text/plain; charset=utf-8" if answer.events is None else "application/json"
        lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Unknown')}",
                 f"Content-Type: {kind}", *framing]
        if self.deflate is not None:
            lines.append("Content-Encoding: gzip")
        headers = [(name, value) for name, value in answer.headers]
        if "retry_after" in b:
            headers = [h for h in headers if h[0].lower() != "retry-after"]
            headers.append(("Retry-After", b["retry_after"]))
        headers += list((b.get("headers") or {}).items())
        lines += [f"{name}: {value}" for name, value in headers]
        if not self.keep_alive:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    async def _send_head(self, framing):
        head = self._head(framing)
        if self.place == "head":
            await self._raw(head[: len(head) // 2])
            await self._fault("head")
        await self._raw(head)
        await self._fault("headers")

    async def _raw(self, data):
        """Writes bytes at the pace the behaviour asks for."""
        b = self.b
        if "trickle" in b:
            step = max(1, int(b["trickle"] / 20))
            for at in range(0, len(data), step):
                await self.conn.write(data[at : at + step])
                await self.conn.sleep(step / b["trickle"])
        elif b.get("bytewise"):
            for at in range(len(data)):
                await self.conn.write(data[at : at + 1])
        else:
            await self.conn.write(data)

    # bodies that are there as a whole

    async def _whole(self):
        b = self.b
        if "huge_mb" in b or "bomb_mb" in b:
            await self._big()
            return
        body = self.answer.body
        if b.get("gzip"):
            self.deflate = zlib.compressobj(wbits=31)
            body = self.deflate.compress(body) + self.deflate.flush()
        framing = b.get("framing", "length")
        length = len(body)
        if "length" in b:
            length = length + 10 if b["length"] == "long" else max(0, length - 10)
            self.keep_alive = False
        if framing == "close":
            self.keep_alive = False
        lines = {"length": [f"Content-Length: {length}"], "close": [],
                 "chunked": ["Transfer-Encoding: chunked"]}[framing]
        await self._send_head(lines)
        if self.req.method == "HEAD":
            return
        self.chunked = framing == "chunked"
        if self.place in ("body", "stream"):
            await self._payload(body[: len(body) // 2])
            await self._fault(self.place)
        await self._payload(body)
        if self.chunked:
            await self._raw(b"0\r\n\r\n")

    async def _big(self):
        """A body too large to make at once: JSON padding, or the same compressed."""
        bomb = "bomb_mb" in self.b
        total = int(self.b["bomb_mb" if bomb else "huge_mb"] * 1024 * 1024)
        start, end = b'{"padding":"', b'"}'
        if bomb:
            self.deflate = zlib.compressobj(9, wbits=31)
            await self._send_head(["Transfer-Encoding: chunked"])
            self.chunked = True
        else:
            await self._send_head([f"Content-Length: {total}"])
        filler = b"A" * BLOCK
        await self._payload(start)
        left = total - len(start) - len(end)
        while left > 0:
            await self._payload(filler[: min(left, BLOCK)])
            left -= BLOCK
            await self.conn.sleep(0)
        await self._payload(end)
        await self._finish_body()

    # streams

    async def _stream(self):
        b = self.b
        framing = b.get("framing", "chunked")
        if b.get("gzip"):
            self.deflate = zlib.compressobj(wbits=31)
        if framing != "chunked":
            self.keep_alive = False
        self.chunked = framing == "chunked"
        await self._send_head(["Transfer-Encoding: chunked"] if self.chunked else [])
        if b.get("bom"):
            await self._payload(b"\xef\xbb\xbf", flush=True)
        sent = 0
        faults_at = b.get("after", 1)
        events = list_last(self._selected())
        for event, last in events:
            if sent:
                await self._gap()
            if sent == faults_at:
                await self._event_faults()
            await self._payload(self._encode(event, last), flush=True)
            sent += 1
        if sent <= faults_at:
            await self._event_faults()
        await self._finish_body()

    def _selected(self):
        """The answer's events without those the behaviour leaves out."""
        skip = set()
        if self.b.get("no_final"):
            skip = {"final"}
        if self.b.get("no_finish"):
            skip = {"final", "finish"}
        return (event for event in self.answer.events if event.role not in skip)

    async def _gap(self):
        gap = self.b.get("gap_ms")
        self.gaps += 1
        if gap and self.gaps == self.b.get("gap_at", self.gaps):
            await self.conn.sleep(gap / 1000)
        elif self.conn.gone.is_set():
            await self.conn.sleep(0)

    async def _event_faults(self):
        """What happens after `after` events."""
        b = self.b
        if self.place in ("stream", "body"):
            await self._fault(self.place)
        if b.get("garbage_event"):
            b.pop("garbage_event")
            await self._payload(self._encode(Event('{"broken": ["json')), flush=True)
        if "error_event" in b:
            kind = b.pop("error_event")
            event = self.answer.error_event(None if kind in ("", "1") else kind)
            await self._payload(self._encode(event), flush=True)
            await self._finish_body()
            raise Ended("cut")

    def _encode(self, event, last=False):
        b = self.b
        data = event.data
        if not isinstance(data, str):
            if b.get("multi_data"):
                data = json.dumps(data, ensure_ascii=False, indent=1)
            else:
                data = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        space = "" if b.get("no_space") else " "
        lines = []
        if b.get("comments"):
            lines += [": a comment", "retry: 3000", "id: 7", "unknownfield: x", ":"]
        if event.name:
            lines.append(f"event:{space}{event.name}")
        lines += [f"data:{space}{part}" for part in data.split("\n")]
        lines += [""] if last and b.get("no_blank") else ["", ""]
        ends = {"lf": ["\n"], "cr": ["\r"], "crlf": ["\r\n"], "mixed": ["\n", "\r\n", "\r"]}
        ends = ends[b.get("eol", self.answer.eol)]
        text = ""
        for number, line in enumerate(lines[:-1]):
            # a blank line after CR must not start with LF: that would end the line before it
            text += line + (ends[number % len(ends)] if line or len(ends) == 1 else "\r\n")
        return _utf8(text + lines[-1])

    # both

    async def _payload(self, data, flush=False):
        """Writes body bytes in the chosen coding and framing."""
        if self.deflate is not None and ("bomb_mb" in self.b or self.answer.events is not None):
            data = self.deflate.compress(data) + (
                self.deflate.flush(zlib.Z_SYNC_FLUSH) if flush else b"")
        if not data:
            return
        if not self.chunked:
            await self._raw(data)
            return
        step = self.b.get("split", len(data))
        for at in range(0, len(data), step):
            part = data[at : at + step]
            await self._raw(b"%x\r\n%b\r\n" % (len(part), part))

    async def _finish_body(self):
        if self.deflate is not None:
            tail, self.deflate = self.deflate.flush(), None
            await self._payload(tail)
        if self.chunked:
            await self._raw(b"0\r\n\r\n")


def list_last(items):
    """(item, True for the last one) of any iterable, one item ahead."""
    items = iter(items)
    try:
        held = next(items)
    except StopIteration:
        return
    for item in items:
        yield held, False
        held = item
    yield held, True

"""Raw HTTP/1.1 over a socket: sends exactly the bytes given and reads answers one by one.

    with Raw(gateway.port) as raw:
        raw.send(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        answer = raw.answer()
        assert raw.at_end()

Nothing is repaired or retried; what is wrong on the wire raises Malformed.
"""

import json
import re
import socket
import ssl
import time

TIMEOUT = 20  # upper safety bound of a test, not an expectation


class Malformed(Exception):
    """The bytes are no HTTP answer."""


class Closed(Exception):
    """The connection ended where an answer was wanted."""


class Answer:
    def __init__(self, status, reason, header_list, body, head):
        self.status = status
        self.reason = reason
        self.header_list = header_list
        self.headers = {k.lower(): v for k, v in header_list}
        self.body = body
        self.head = head  # raw bytes, with the empty line

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def closes(self):
        return self.headers.get("connection", "").lower() == "close"

    def same_but_for_time(self):
        """Status line, headers and body without what differs from request to request."""
        gone = ("date", "x-request-id", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit")
        return (self.status, [(k, v) for k, v in self.header_list if k.lower() not in gone],
                re.sub(rb'"request_id":"[^"]*"', b"", self.body))


class Raw:
    def __init__(self, port, timeout=TIMEOUT, tls=None, receive_buffer=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)
        return self

    def send_what_goes(self, data):
        """Sends until done or until the other side has had enough."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            return False

    def send_in_parts(self, parts, pause=0.002):
        """Each part in a segment of its own, as far as that can be had."""
        for part in parts:
            self.sock.sendall(part)
            time.sleep(pause)
        return self

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def fill(self):
        """Reads once; False at the end."""
        try:
            data = self.sock.recv(65536)
        except ssl.SSLEOFError:
            data = b""
        self.buffer += data
        return bool(data)

    def until(self, mark):
        while mark not in self.buffer:
            if not self.fill():
                raise Closed(self.buffer[:200])
        cut = self.buffer.index(mark) + len(mark)
        out, self.buffer = self.buffer[:cut], self.buffer[cut:]
        return out

    def exactly(self, n):
        while len(self.buffer) < n:
            if not self.fill():
                raise Closed("%d of %d bytes" % (len(self.buffer), n))
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def rest(self):
        """All up to the end of the connection. A reset raises."""
        while self.fill():
            pass
        out, self.buffer = self.buffer, b""
        return out

    def at_end(self):
        """True when the connection ends here, with nothing more sent."""
        return self.rest() == b""

    def chunks(self):
        body = b""
        while True:
            size = self.until(b"\r\n")
            if not re.fullmatch(rb"[0-9a-fA-F]+\r\n", size):
                raise Malformed("chunk size %r" % size)
            n = int(size, 16)
            data = self.exactly(n + 2)
            if data[-2:] != b"\r\n":
                raise Malformed("chunk end %r" % data[-2:])
            body += data[:-2]
            if n == 0:
                return body

    def head(self):
        head = self.until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[:-2]
        m = re.fullmatch(r"HTTP/1\.[01] ([0-9]{3}) ([^\r\n]*)", lines[0])
        if not m:
            raise Malformed(lines[0])
        fields = []
        for line in lines[1:]:
            m2 = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([^\x00-\x08\x0a-\x1f\x7f]*)", line)
            if not m2:
                raise Malformed(line)
            fields.append(m2.groups())
        return int(m.group(1)), m.group(2), fields, head

    def answer(self, method="GET"):
        status, reason, fields, head = self.head()
        headers = {k.lower(): v for k, v in fields}
        if len([k for k, _ in fields if k.lower() in ("content-length", "transfer-encoding")]) > 1:
            raise Malformed("two framings: %r" % head)
        if method == "HEAD" or status in (204, 304) or status < 200:
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = self.chunks()
        elif "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        else:
            body = self.rest()
        return Answer(status, reason, fields, body, head)

    def final_answer(self, method="GET"):
        """An answer after which the connection must end; returns it."""
        answer = self.answer(method)
        extra = self.rest()
        assert extra == b"", "sent after the last answer: %r" % extra[:200]
        return answer


def head(method, target, *fields, version="1.1", host="a.example"):
    """A request head; `fields` are whole lines without CRLF, `host` None leaves the Host header out."""
    lines = ["%s %s HTTP/%s" % (method, target, version)]
    if host is not None:
        lines.append("Host: " + host)
    return ("\r\n".join(lines + list(fields)) + "\r\n\r\n").encode("latin-1")


def post_json(target, body, *fields, **kw):
    """A whole POST of a JSON body with its Content-Length."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return head("POST", target, "Content-Type: application/json", "Content-Length: %d" % len(body),
                *fields, **kw) + body


def chunked(body, size):
    """The body in chunks of `size` bytes, with the last chunk."""
    out = b""
    for i in range(0, len(body), size):
        piece = body[i:i + size]
        out += b"%x\r\n%s\r\n" % (len(piece), piece)
    return out + b"0\r\n\r\n"

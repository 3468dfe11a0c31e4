"""HTTP/1.1 on raw asyncio streams: one Conn for each client connection.

A pump task reads all the time, also while an answer is being made, so that a client that leaves is
noticed at once: `gone` is set, and every sleep or write that is going on ends with ClientGone. What
arrives early (pipelining) waits in `buf`.
"""

import asyncio
import socket
import struct
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_HEAD = 128 * 1024
MAX_BODY = 256 * 1024 * 1024
READ_SIZE = 256 * 1024


class ClientGone(Exception):
    """The client closed or reset the connection before the answer was complete."""


class BadMessage(Exception):
    """The request is no HTTP that this server accepts; the text says why."""


class Request:
    """One request as it came: headers keep their order and spelling, the body is whole."""

    def __init__(self, method, target, version, headers):
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.body = b""
        parts = urlsplit(target)
        self.raw_path = parts.path
        self.path = unquote(parts.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))

    def header(self, name, default=None):
        """The first header of that name (any case), or `default`."""
        name = name.lower()
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return default

    @property
    def keep_alive(self):
        connection = (self.header("connection") or "").lower()
        if self.version == "HTTP/1.0":
            return "keep-alive" in connection
        return "close" not in connection


def parse_head(raw):
    """The Request of a head without its final blank line; raises BadMessage."""
    lines = raw.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadMessage(f"bad request line {lines[0][:80]!r}")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or line[0] in " \t":
            raise BadMessage(f"bad header line {line[:80]!r}")
        headers.append((name, value.strip(" \t")))
    req = Request(words[0], words[1], words[2], headers)
    names = [name.lower() for name, _ in headers]
    if names.count("host") != 1:
        raise BadMessage("exactly one Host header is required")
    if names.count("content-length") + names.count("transfer-encoding") > 1:
        raise BadMessage("conflicting message framing")
    return req


class Conn:
    """A client connection. All its methods belong to the task that serves it."""

    def __init__(self, reader, writer, number):
        self.reader = reader
        self.writer = writer
        self.number = number  # for the call log
        self.requests = 0  # read on this connection
        self.sent = 0  # bytes handed to the kernel or its queue
        self.buf = bytearray()
        self.gone = asyncio.Event()
        self._data = asyncio.Event()
        sock = writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # drain() returns only when the kernel has taken everything, so cuts are exact
        writer.transport.set_write_buffer_limits(high=0)
        self._pump_task = asyncio.ensure_future(self._pump())

    async def _pump(self):
        try:
            while True:
                data = await self.reader.read(READ_SIZE)
                if not data:
                    break
                self.buf += data
                self._data.set()
                if len(self.buf) > MAX_BODY + MAX_HEAD:
                    break
        except (ConnectionError, OSError):
            pass
        self.gone.set()
        self._data.set()

    async def _more(self):
        """Waits for further bytes; False when there will be none."""
        if self.gone.is_set():
            return False
        self._data.clear()
        await self._data.wait()
        return True

    async def read_request(self):
        """The next request with its body, or None when the client has closed."""
        scanned = 0
        while True:
            end = self.buf.find(b"\r\n\r\n", max(0, scanned - 3))
            if end >= 0:
                break
            scanned = len(self.buf)
            if scanned > MAX_HEAD:
                raise BadMessage("head too large")
            if not await self._more():
                return None
        req = parse_head(bytes(self.buf[:end]))
        del self.buf[: end + 4]
        self.requests += 1
        if (req.header("expect") or "").lower() == "100-continue":
            await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        encoding = req.header("transfer-encoding")
        if encoding is not None:
            if encoding.lower() != "chunked":
                raise BadMessage("unsupported Transfer-Encoding")
            req.body = await self._read_chunked()
        else:
            length = req.header("content-length", "0")
            if not length.isdigit() or int(length) > MAX_BODY:
                raise BadMessage("bad Content-Length")
            req.body = await self._read_exactly(int(length))
        return req

    async def _read_exactly(self, length):
        while len(self.buf) < length:
            if not await self._more():
                raise ClientGone()
        data = bytes(self.buf[:length])
        del self.buf[:length]
        return data

    async def _read_line(self):
        while True:
            end = self.buf.find(b"\r\n")
            if end >= 0:
                return await self._read_exactly(end + 2)
            if len(self.buf) > MAX_HEAD:
                raise BadMessage("line too long")
            if not await self._more():
                raise ClientGone()

    async def _read_chunked(self):
        body = bytearray()
        while True:
            line = (await self._read_line()).strip().split(b";")[0]
            try:
                size = int(line, 16)
            except ValueError:
                raise BadMessage("bad chunk size") from None
            if size == 0:
                while await self._read_line() != b"\r\n":
                    pass
                return bytes(body)
            if len(body) + size > MAX_BODY:
                raise BadMessage("body too large")
            body += await self._read_exactly(size)
            if await self._read_exactly(2) != b"\r\n":
                raise BadMessage("bad chunk end")

    async def _or_gone(self, awaitable):
        """Waits for `awaitable`, but ends with ClientGone as soon as the client leaves."""
        work = asyncio.ensure_future(awaitable)
        gone = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise ClientGone()
        finally:
            work.cancel()
            gone.cancel()

    async def write(self, data):
        """Sends all of `data`; raises ClientGone when nobody is there to take it."""
        if self.gone.is_set():
            raise ClientGone()
        self.writer.write(data)
        self.sent += len(data)
        if self.writer.transport.get_write_buffer_size() == 0:
            return
        try:
            await self._or_gone(self.writer.drain())
        except (ConnectionError, OSError):
            raise ClientGone() from None
        finally:
            self.sent -= self.writer.transport.get_write_buffer_size()

    async def sleep(self, seconds):
        """Sleeps; raises ClientGone when the client leaves meanwhile."""
        try:
            await asyncio.wait_for(self.gone.wait(), seconds)
        except asyncio.TimeoutError:
            return
        raise ClientGone()

    async def hang(self):
        """Says nothing more until the client leaves; always raises ClientGone."""
        await self.gone.wait()
        raise ClientGone()

    async def reset(self):
        """Ends the connection with a TCP reset; what was written before has left already."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None:
            await asyncio.sleep(0.02)  # the peer should see the bytes before the reset
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self):
        """Closes in the ordinary way (FIN) and forgets the connection."""
        self._pump_task.cancel()
        try:
            self.writer.close()
            await self.writer.wait_closed()
        except (ConnectionError, OSError, asyncio.CancelledError):
            pass

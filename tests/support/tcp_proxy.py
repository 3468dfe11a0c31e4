"""TcpProxy: stands between the gateway and a server, and hurts the connections.

    with TcpProxy(pg.port) as proxy:
        url = pg.url.replace(":%d/" % pg.port, ":%d/" % proxy.port)
        proxy.delay(0.2)            # every piece is held this long, in both directions
        proxy.blackhole()           # connections stay, bytes vanish; new ones are accepted
        proxy.refuse()              # new connections are closed at once, those that are open stay
        proxy.garble(lambda b: b[::-1])  # what the server says is changed on its way
        proxy.answer(b"HTTP/1.1 400 Bad Request\\r\\n\\r\\n")  # it answers by itself, once for each piece
        proxy.cut(after=100)        # cut when the server has sent so many more bytes; 0: at once
        proxy.heal()                # what comes from now on passes again; open connections go on
        proxy.accepted, proxy.open, proxy.to_server, proxy.to_client   # counters

One thread for each direction of each connection. The modes change for open connections too.
"""

import socket
import struct
import threading
import time

PIECE = 65536
RST = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class Pair:
    """One connection: the client's socket and the server's (None while the proxy answers itself)."""

    def __init__(self, client, server):
        self.sockets = [s for s in (client, server) if s]
        self.client, self.server = client, server
        self.ends = 0
        self.was_reset = False

    def close(self, reset=False):
        """Wakes the threads that read, which then close; a reset goes out at once, without a FIN."""
        self.was_reset = reset
        for s in self.sockets:
            try:
                if reset:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                s.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            except OSError:
                pass
            if reset:
                s.close()


class TcpProxy:
    def __init__(self, target, host="127.0.0.1"):
        self.target = target if isinstance(target, tuple) else ("127.0.0.1", target)
        self.lock = threading.Lock()
        self.pairs = set()
        self.accepted = self.to_server = self.to_client = 0
        self.heal()
        self.listener = socket.create_server((host, 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    # --- modes ---------------------------------------------------------------------------------

    def heal(self):
        self.delay_s, self.hole, self.refusing = 0.0, False, False
        self.change = self.reply = self.cut_at = None

    def delay(self, seconds):
        self.delay_s = seconds

    def blackhole(self):
        self.hole = True

    def refuse(self):
        self.refusing = True

    def garble(self, change):
        self.change = change

    def answer(self, data):
        """From now on nothing reaches the server; `data` may be a function of the piece received."""
        self.reply = data

    def cut(self, after=0, reset=True):
        """Closes all open connections, now or once the server has sent `after` more bytes (all
        connections together). New ones pass: refuse() also for these."""
        if after:
            self.cut_at = self.to_client + after
            return
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            pair.close(reset)

    @property
    def open(self):
        with self.lock:
            return len(self.pairs)

    # --- work ----------------------------------------------------------------------------------

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.refusing:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                client.close()
                continue
            threading.Thread(target=self.begin, args=(client,), daemon=True).start()

    def begin(self, client):
        server = None
        if self.reply is None:
            try:
                server = socket.create_connection(self.target, timeout=10)
                server.settimeout(None)
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                client.close()
                return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = Pair(client, server)
        with self.lock:
            self.pairs.add(pair)
        if server:
            threading.Thread(target=self.carry, args=(pair, server, client), daemon=True).start()
        self.carry(pair, client, server)

    def carry(self, pair, source, sink):
        """One direction, until either side ends; the last of both closes the sockets."""
        try:
            while True:
                data = source.recv(PIECE)
                if not data:
                    break
                self.pass_on(pair, data, sink, source is pair.server)
        except OSError:
            pass
        with self.lock:
            pair.ends += 1
            last = pair.ends == len(pair.sockets)
        if not last and sink and not pair.was_reset:
            try:
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        if last:
            with self.lock:
                self.pairs.discard(pair)
            for s in pair.sockets:
                s.close()

    def pass_on(self, pair, data, sink, from_server):
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.hole:
            return
        if from_server:
            data = self.change(data) if self.change else data
            room = None if self.cut_at is None else self.cut_at - self.to_client
            if room is not None and len(data) >= room:
                sink.sendall(data[:max(room, 0)])
                self.to_client += max(room, 0)
                self.cut_at = None
                self.cut()
                return
            self.to_client += len(data)
            sink.sendall(data)
        elif self.reply is not None:
            said = self.reply(data) if callable(self.reply) else self.reply
            if said:
                pair.client.sendall(said)
        elif sink:
            self.to_server += len(data)
            sink.sendall(data)

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.thread.join(5)
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

"""The throw-away servers of the tests do what the tests of faults rely on."""
import socket
import struct

import pytest

from pgbouncer import PgBouncer
from postgres import Postgres
from redisd import Redis, RedisError
from tcp_proxy import TcpProxy


@pytest.fixture(scope="module")
def pg():
    with Postgres(max_connections=17) as server:
        yield server


@pytest.fixture(scope="module")
def rd():
    with Redis(maxmemory="8mb") as server:
        yield server


def asks_for_a_password(port):
    """Whether a login over TCP is answered with the request for SCRAM (AuthenticationSASL, 10)."""
    body = struct.pack("!I", 196608) + b"user\0assistant\0database\0assistant\0\0"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        s.sendall(struct.pack("!I", len(body) + 4) + body)
        head = s.recv(9)
    return head[:1] == b"R" and struct.unpack("!I", head[5:9])[0] == 10


def test_postgres_takes_options_and_asks_for_scram(pg):
    assert pg.one("SHOW max_connections") == "17"
    assert pg.psql("SELECT 'a', NULL, E'two\\nlines'; SELECT 1") == [["a", None, "two\nlines"], ["1"]]
    assert asks_for_a_password(pg.port)
    with pytest.raises(RuntimeError, match="no_such_table"):
        pg.psql("SELECT * FROM no_such_table")


def test_postgres_databases_are_copies_of_a_template(pg):
    first = pg.create_database()
    first.psql("CREATE TABLE t AS SELECT 7 AS seven")
    copy = pg.create_database(template=first.name)
    assert copy.one("SELECT seven FROM t") == "7"
    first.drop()
    copy.drop()


def test_postgres_freezes_and_thaws(pg):
    pg.freeze()
    with pytest.raises(Exception, match="timed out"):
        pg.psql("SELECT 1", timeout=1)
    pg.thaw()
    assert pg.one("SELECT 1") == "1"


def test_postgres_comes_back_after_kill_and_restart(pg):
    pg.psql("CREATE TABLE kept (x int); INSERT INTO kept VALUES (3)")
    pg.kill()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", pg.port), timeout=1)
    pg.start()
    assert pg.one("SELECT x FROM kept") == "3"
    pg.restart()
    assert pg.one("SELECT x FROM kept") == "3"


def test_redis_speaks_and_breaks(rd):
    assert rd.cli("SET", "circuit:x", "open") == "OK"
    assert rd.call("GET", "circuit:x") == "open"
    assert rd.call("CONFIG", "GET", "maxmemory") == ["maxmemory", str(8 << 20)]
    with pytest.raises(RedisError, match="ERR"):
        rd.call("SET", "x")
    rd.freeze()
    with pytest.raises(OSError):
        rd.call("PING", timeout=0.5)
    rd.thaw()
    assert rd.keys() == ["circuit:x"]
    rd.kill()
    rd.start()
    assert rd.keys() == []


def test_redis_takes_a_password():
    with Redis(requirepass="secret") as server:
        assert server.url == "redis://:secret@127.0.0.1:%d/0" % server.port
        assert server.cli("PING") == "PONG"


def test_pgbouncer_stands_in_front_and_asks_for_scram(pg):
    with PgBouncer(pg) as bouncer:
        assert str(bouncer.port) in bouncer.url
        assert asks_for_a_password(bouncer.port)


def echo(proxy):
    s = socket.create_connection(("127.0.0.1", proxy.port), timeout=1)
    return s, s.makefile("rb")


def test_tcp_proxy_passes_garbles_swallows_and_answers(rd):
    with TcpProxy(rd.port) as proxy:
        s, f = echo(proxy)
        s.sendall(b"PING\r\n")
        assert f.readline() == b"+PONG\r\n"
        proxy.garble(bytes.lower)
        s.sendall(b"PING\r\n")
        assert f.readline() == b"+pong\r\n"
        proxy.heal()
        proxy.answer(b"-ERR me\r\n")
        s.sendall(b"PING\r\n")
        assert f.readline() == b"-ERR me\r\n"
        proxy.heal()
        proxy.blackhole()
        s.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            s.recv(1)
        assert proxy.open == 1
        s.close()


def test_tcp_proxy_cuts_and_refuses(rd):
    with TcpProxy(rd.port) as proxy:
        s, f = echo(proxy)
        proxy.cut(after=3)
        s.sendall(b"PING\r\n")
        with pytest.raises(ConnectionResetError):
            while f.read(1):
                pass
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=5).recv(1)
        proxy.heal()
        u, g = echo(proxy)
        u.sendall(b"PING\r\n")
        assert g.readline() == b"+PONG\r\n"

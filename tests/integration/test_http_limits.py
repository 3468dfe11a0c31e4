"""The HTTP front where time and resources run out: CHECKS 23-25, 91, 93, the limits of SPEC 7, clients
that leave, the drain, and TLS."""
import os
import resource
import signal
import ssl
import subprocess
import threading
import time

import pytest

from front import (ALIVE, CHAT, KEY, LIVE, SMUGGLED, ask_unknown, assert_names, chat, front, sanitized,
                   slow_chat, wait_until)
from gateway import Gateway
from rawhttp import Closed, Raw, head, post_json


# --- 23-25: slow clients ----------------------------------------------------------------------------

def test_check_023_a_body_shorter_than_declared_is_never_processed(make_gateway, standin):
    gw = front(make_gateway, server__body_idle_timeout_s=1)
    data = slow_chat(0)
    with Raw(gw.port) as raw:
        raw.send(data[:-1])
        assert raw.final_answer().status == 408
    with Raw(gw.port) as raw:
        raw.send(data[:-1])
        raw.half_close()
        assert raw.rest() == b""
    gw.wait_idle()
    assert standin.calls() == []
    gw.alive()


def test_check_024_slow_heads_get_408_while_others_are_served(make_gateway):
    gw = front(make_gateway, server__header_timeout_s=2)
    clients = [Raw(gw.port) for _ in range(300)]
    start = [raw.send(b"GET / HTTP/1.1\r\nHo") for raw in clients]
    assert len(start) == 300
    stop = threading.Event()

    def trickle():
        while not stop.wait(0.3):
            for raw in clients:
                raw.send_what_goes(b"s")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        for _ in range(200):
            gw.alive()
        for raw in clients:
            assert raw.answer().status == 408
    finally:
        stop.set()
        thread.join()
        for raw in clients:
            raw.close()
    gw.alive()


def test_check_024_a_connection_that_says_nothing_is_closed(make_gateway):
    gw = front(make_gateway, server__header_timeout_s=1, server__keepalive_timeout_s=1)
    with Raw(gw.port) as raw:
        assert raw.at_end()
    with Raw(gw.port) as raw:
        assert raw.send(head("GET", LIVE)).answer().status == 200
        assert raw.at_end()


@pytest.mark.parametrize("key", ["body_idle_timeout_s", "body_timeout_s"])
def test_check_025_a_slow_body_gets_408(make_gateway, standin, key):
    gw = front(make_gateway, **{"server__" + key: 2})
    data = slow_chat(0)
    cut = data.index(b"\r\n\r\n") + 4
    with Raw(gw.port) as raw:
        raw.send(data[:cut])
        if key == "body_timeout_s":  # one byte now and then: only the whole time limit can end this
            raw.sock.settimeout(0.2)
            for i in range(40):
                raw.send_what_goes(data[cut + i:cut + i + 1])
                try:
                    if not raw.fill() or b"\r\n\r\n" in raw.buffer:
                        break
                except TimeoutError:
                    pass
            raw.sock.settimeout(20)
        assert raw.final_answer().status == 408
    assert standin.calls() == []


def test_check_025_a_reader_that_stops_is_cut_and_holds_little_memory(make_gateway, standin):
    gw = front(make_gateway, server__write_timeout_s=2)
    gw.chat()
    before = gw.rss_kb()
    with Raw(gw.port, receive_buffer=4096) as raw:
        raw.send(chat("chunks=200000,size=2000", stream=True))
        raw.head()
        wait_until(lambda: gw.metrics().get("http_streams_open", 0) == 0, "the stream is still open")
        # of 400 MB; a sanitizer's quarantine keeps what was freed
        assert gw.rss_kb() - before < (64 if sanitized() else 4) * 1024
        with pytest.raises((Closed, OSError)):
            raw.chunks()
    standin.wait_for(lambda calls: all(c["ended"] != "" for c in calls))
    gw.wait_idle()
    assert gw.metrics()['http_refused_total{reason="slow_reader"}'] == 1


# --- limits of SPEC 7 ------------------------------------------------------------------------------

def test_keep_alive_requests_are_limited_and_the_last_answer_says_so(make_gateway):
    gw = front(make_gateway, server__keepalive_requests=3)
    with Raw(gw.port) as raw:
        assert not raw.send(head("GET", LIVE)).answer().closes
        assert not raw.send(head("GET", LIVE)).answer().closes
        assert raw.send(head("GET", LIVE)).final_answer().closes


def test_connections_over_the_limit_get_503(make_gateway):
    gw = front(make_gateway, server__max_connections=20)
    held, over = [], 0
    for _ in range(50):
        raw = Raw(gw.port)
        raw.send_what_goes(head("GET", LIVE))
        answer = raw.answer()
        if answer.status == 200:
            held.append(raw)
            continue
        over += 1
        assert answer.status == 503 and answer.closes
        assert answer.headers["retry-after"]
        assert answer.json["status"] == 503
        assert raw.at_end()
        raw.close()
    assert len(held) <= 20 and over >= 30
    for raw in held:
        assert raw.send(head("GET", LIVE)).answer().status == 200
        raw.close()
    wait_until(lambda: gw.descriptors() < 30, "connections are not let go")
    gw.alive()


def test_requests_in_flight_over_the_limit_get_503(make_gateway, standin):
    gw = front(make_gateway, server__max_requests_in_flight=3)
    slow = [Raw(gw.port) for _ in range(3)]
    for raw in slow:
        raw.send(slow_chat(3000))
    standin.wait_for(lambda calls: len(calls) == 3)
    with Raw(gw.port) as raw:
        answer = raw.send(head("GET", "/v1/models", KEY)).answer()
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert answer.json["error"]["code"] == "overloaded"
    for raw in slow:
        assert raw.answer().status == 200
        raw.close()
    gw.alive()


def test_a_request_past_its_deadline_gets_504(make_gateway, standin):
    gw = front(make_gateway, deadlines__ai_s=1)
    with Raw(gw.port) as raw:
        answer = raw.send(chat("hang=before")).answer()
    assert answer.status == 504
    gw.wait_idle()


def test_the_body_limit_of_plain_routes_is_one_mebibyte(shared_gateway):
    port = shared_gateway.port
    with Raw(port) as raw:
        raw.send(head("GET", LIVE, "Content-Length: 5") + b"hello" + SMUGGLED)
        assert ALIVE in raw.answer().body
        assert ALIVE in raw.answer().body
    with Raw(port) as raw:
        raw.send(head("GET", LIVE, "Content-Length: %d" % ((1 << 20) + 1)))
        assert raw.final_answer().status == 413


# --- leaving ----------------------------------------------------------------------------------------

def test_clients_that_leave_at_any_byte_leave_nothing_behind(make_gateway, standin):
    gw = front(make_gateway)
    data = slow_chat(5000)
    for i in list(range(1, len(data), 3)) + [len(data)] * 100:
        with Raw(gw.port) as raw:
            raw.send(data[:i])
    gw.wait_idle()
    standin.wait_for(lambda calls: all(c["ended"] != "" for c in calls))
    wait_until(lambda: gw.metrics()["http_connections"] == 1, "connections are left")
    assert gw.metrics()["http_body_bytes_held"] == 0


def test_clients_that_leave_in_the_middle_of_a_stream_leave_nothing_behind(make_gateway, standin):
    gw = front(make_gateway)
    for i in range(100):
        with Raw(gw.port) as raw:
            raw.send(chat("chunks=2000,size=100", stream=True))
            raw.exactly(1 + i * 97)
    m = gw.wait_idle()
    assert m.get("http_streams_open", 0) == 0
    standin.wait_for(lambda calls: all(c["ended"] != "" for c in calls))


# --- drain ------------------------------------------------------------------------------------------

def test_a_drain_finishes_what_is_open_and_closes_what_is_idle(make_gateway, standin):
    gw = front(make_gateway)
    idle, busy = Raw(gw.port), Raw(gw.port)
    assert idle.send(head("GET", LIVE)).answer().status == 200
    busy.send(slow_chat(2000))
    standin.wait_for(lambda calls: calls)
    gw.process.send_signal(signal.SIGTERM)
    with pytest.raises(OSError):
        while True:
            Raw(gw.port).close()
    answer = idle.send(head("GET", "/api/v1/health/ready")).final_answer()
    assert answer.status == 503 and answer.closes
    answer = busy.final_answer()
    assert answer.status == 200 and answer.closes
    assert gw.stop() == 0


def test_a_drain_closes_idle_connections(make_gateway):
    gw = front(make_gateway)
    with Raw(gw.port) as idle:
        assert idle.send(head("GET", LIVE)).answer().status == 200
        gw.process.send_signal(signal.SIGTERM)
        assert idle.at_end()
    assert gw.stop() == 0


def test_a_drain_cuts_what_does_not_end_in_time(make_gateway, standin):
    gw = front(make_gateway, server__drain_timeout_s=1)
    with Raw(gw.port) as raw:
        raw.send(slow_chat(60000))
        standin.wait_for(lambda calls: calls)
        assert gw.stop() == 0
        assert raw.at_end()


def test_a_second_signal_ends_a_drain_at_once(make_gateway, standin):
    gw = front(make_gateway)
    with Raw(gw.port) as waiting, Raw(gw.port) as streaming, Raw(gw.port) as half:
        waiting.send(slow_chat(60000))
        streaming.send(chat("gap_ms=60000", stream=True)).head()
        half.send(head("GET", LIVE)[:-2])
        standin.wait_for(lambda calls: len(calls) == 2)
        gw.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining" in gw.log(), "it does not drain")
        assert gw.stop() == 0
        assert waiting.at_end()


# --- 91, 93: resources ------------------------------------------------------------------------------

def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_check_091_at_the_descriptor_limit_the_gateway_waits_and_recovers(make_gateway):
    gw = make_gateway(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    held = []
    for _ in range(150):
        held.append(Raw(gw.port))
    wait_until(lambda: "accept_failed" in gw.log(), "the limit was not met")
    before, began = cpu_seconds(gw.process.pid), time.monotonic()
    time.sleep(2)
    took = time.monotonic() - began
    assert cpu_seconds(gw.process.pid) - before < took / 4  # spinning would be all of it
    assert len([line for line in gw.log_lines() if "accept_failed" in str(line)]) <= 6
    for raw in held:
        raw.close()
    wait_until(lambda: try_alive(gw), "no recovery")
    wait_until(lambda: gw.descriptors() < 40, "descriptors are kept")


def test_a_lack_of_descriptors_is_503_and_no_failure_of_the_provider(make_gateway, standin):
    gw = make_gateway(env=standin.env(),
                      preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    held = []
    while True:  # until one more connection of a client would not be taken
        held.append(Raw(gw.port))
        held[-1].send(head("GET", LIVE))
        if held[-1].answer().status == 503:
            break
    held[0].send(post_json(CHAT, {"model": "openai/gpt-4o-mini",
                                  "messages": [{"role": "user", "content": "hi"}]}, KEY))
    answer = held[0].answer()
    assert answer.status == 503
    assert answer.json["error"]["code"] == "overloaded"
    for raw in held:
        raw.close()
    wait_until(lambda: try_alive(gw), "no recovery")
    circuits = gw.get("/api/v1/admin/circuits").json["circuits"]
    assert [c["failures"] for c in circuits if c["name"] == "openai"] == [0]
    assert gw.chat().status == 200


def try_alive(gw):
    try:
        return gw.get(LIVE, headers={}).status == 200
    except (OSError, ValueError):
        return False


def test_check_093_bodies_share_a_memory_budget(make_gateway):
    gw = front(make_gateway, server__body_memory_mb=8)
    before = gw.rss_kb()
    clients = [Raw(gw.port) for _ in range(20)]
    for raw in clients:
        raw.send(head("POST", CHAT, KEY, "Content-Type: application/json",
                      "Content-Length: %d" % (4 << 20)))
    for raw in clients:
        raw.send_what_goes(b" " * (3 << 20))
    wait_until(lambda: gw.metrics().get('http_refused_total{reason="overloaded"}', 0) > 0, "none refused")
    assert gw.metrics()["http_body_bytes_held"] <= 12 << 20
    statuses = []
    for raw in clients:
        raw.sock.settimeout(1)
        try:
            statuses.append(raw.answer().status)
        except TimeoutError:
            statuses.append(None)
    assert set(statuses) <= {503, None} and 503 in statuses and None in statuses
    if not sanitized():
        assert gw.rss_kb() - before < 64 * 1024
    for raw in clients:
        raw.close()
    wait_until(lambda: gw.metrics()["http_body_bytes_held"] == 0, "body memory is kept")
    gw.alive()


def test_check_093_a_lying_length_costs_nothing(make_gateway):
    gw = front(make_gateway, server__body_memory_mb=8)
    clients = [Raw(gw.port) for _ in range(100)]
    for raw in clients:
        raw.send(head("POST", CHAT, KEY, "Content-Type: application/json",
                      "Content-Length: %d" % (7 << 20)) + b"{")
    assert gw.metrics()["http_body_bytes_held"] <= 1 << 20
    for raw in clients:
        raw.close()
    gw.alive()


def test_thousands_of_requests_leave_no_descriptor_and_no_connection(make_gateway):
    gw = front(make_gateway)
    before = gw.descriptors()
    for _ in range(300):
        with Raw(gw.port) as raw:
            raw.send(head("GET", LIVE) * 5)
            for _ in range(5):
                assert raw.answer().status == 200
    wait_until(lambda: gw.descriptors() <= before, "descriptors are kept")
    assert gw.metrics()["http_connections"] == 1


# --- TLS --------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls")
    pem, key = str(path / "cert.pem"), str(path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-keyout", key, "-out", pem, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return pem, key


class TlsGateway(Gateway):
    """Serves TLS; the certificate is its own authority."""

    def __init__(self, certificate, **kw):
        conf = {"gateway.yaml": {"server.tls_certificate": certificate[0], "server.tls_key": certificate[1]}}
        super().__init__(conf=conf, **kw)
        self.tls = ssl.create_default_context(cafile=certificate[0])

    def raw(self):
        return Raw(self.port, tls=self.tls)

    def is_ready(self):
        try:
            with self.raw() as raw:
                return raw.send(head("GET", "/api/v1/health/ready")).answer().status == 200
        except OSError:
            return False


@pytest.fixture
def tls_gateway(standin, certificate):
    with TlsGateway(certificate, env=standin.env()) as gw:
        yield gw


def test_tls_serves_requests_pipelined_split_and_streamed(tls_gateway):
    with tls_gateway.raw() as raw:
        raw.send(SMUGGLED + ask_unknown("second") + SMUGGLED)
        assert ALIVE in raw.answer().body
        assert_names(raw.answer(), "second")
        assert ALIVE in raw.answer().body
        data = ask_unknown("in-parts")
        raw.send_in_parts([data[i:i + 7] for i in range(0, len(data), 7)], pause=0.0005)
        assert_names(raw.answer(), "in-parts")
        answer = raw.send(chat("chunks=500,size=2000", stream=True)).answer()
        assert answer.status == 200 and answer.body.endswith(b"data: [DONE]\n\n")
        assert ALIVE in raw.send(SMUGGLED).answer().body


def test_tls_refuses_smuggling_and_early_large_bodies(tls_gateway):
    with tls_gateway.raw() as raw:
        raw.send(head("POST", CHAT, "Content-Length: 5", "Transfer-Encoding: chunked") + SMUGGLED)
        assert raw.final_answer().status == 400
    for _ in range(10):
        with tls_gateway.raw() as raw:
            raw.send(head("POST", CHAT, KEY, "Content-Type: application/json",
                          "Content-Length: %d" % (40 << 20)))
            for _ in range(100):
                if not raw.send_what_goes(b"x" * 65536):
                    break
            assert raw.final_answer().status == 413


def test_tls_survives_plain_bytes_old_versions_and_clients_that_leave(tls_gateway):
    with Raw(tls_gateway.port) as raw:
        raw.send(head("GET", LIVE))
        try:
            assert b"200" not in raw.rest()
        except ConnectionResetError:
            pass
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("DEFAULT@SECLEVEL=0")  # or this side would refuse first
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="protocol version"):
        Raw(tls_gateway.port, tls=old)
    for i in range(60):
        with tls_gateway.raw() as raw:
            raw.send(chat("chunks=1000,size=500", stream=True)[:30 + i * 10])
    with tls_gateway.raw() as raw:
        assert ALIVE in raw.send(SMUGGLED).answer().body


def test_a_certificate_that_cannot_be_used_refuses_the_start(tmp_path):
    pem = tmp_path / "cert.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    gw = Gateway(conf={"gateway.yaml": {"server.tls_certificate": pem, "server.tls_key": pem}})
    with pytest.raises(RuntimeError, match="ended with 78.*TLS certificate or key cannot be used"):
        gw.start()
    assert not gw.sanitizer_report()

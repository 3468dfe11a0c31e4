"""The shipped nginx site (deploy/nginx) on a real nginx, in front of a small recording server."""
import http.client
import os
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import threading
import time

import pytest
from ports import free_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SITE = os.path.join(ROOT, "deploy", "nginx")
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")

WRAPPER = """
%(user)s
worker_processes 1;
pid %(dir)s/pid;
error_log stderr warn;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path %(dir)s/body;
    proxy_temp_path %(dir)s/proxy;
    fastcgi_temp_path %(dir)s/fastcgi;
    uwsgi_temp_path %(dir)s/uwsgi;
    scgi_temp_path %(dir)s/scgi;
    include postern.conf;
}
"""


def read(*parts):
    with open(os.path.join(*parts), encoding="utf-8") as f:
        return f.read()


def default_of(field):
    """A number's default in the gateway's key table."""
    row = re.search(r'^X\(%s,.*?"[^"]*",\s*"[^"]*",\s*"[^"]*",\s*"(\d+)"' % field,
                    read(ROOT, "gateway", "core", "conf.def"), re.M)
    return int(row.group(1))


class Recorder(socketserver.ThreadingTCPServer):
    """Counts and keeps what reaches it. Paths: .../drop ends the connection after reading the request;
    .../events sends one event, waits for `release`, and sends the end."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self):
        self.seen, self.connections, self.release = [], 0, threading.Event()
        super().__init__(("127.0.0.1", 0), Visit)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class Visit(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.connections += 1
        while self.one_request():
            pass

    def one_request(self):
        line = self.rfile.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        headers = http.client.parse_headers(self.rfile)
        body = self.rfile.read(int(headers.get("Content-Length", 0)))
        self.server.seen.append((line[0], line[1], headers, len(body)))
        if line[1].endswith("/drop"):
            return False
        if line[1].endswith("/events"):
            self.events()
        else:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
                             b"Strict-Transport-Security: max-age=1\r\n\r\nok")
        return True

    def events(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                         b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")
        self.server.release.wait(20)
        self.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


class Site:
    def __init__(self, directory, upstream):
        self.dir = str(directory)
        self.http, self.https, self.process = free_port(), free_port(), None
        self.upstream(upstream)

    def upstream(self, port):
        """Copies the site as shipped; only the listening ports and the upstream's port are ours."""
        shutil.copytree(SITE, self.dir, dirs_exist_ok=True)
        site = read(self.dir, "postern.conf")
        site = re.sub(r"^ *listen \[::\].*\n", "", site, flags=re.M)
        site, plain = re.subn(r"listen 80;", "listen 127.0.0.1:%d;" % self.http, site)
        site, tls = re.subn(r"listen 443 ", "listen 127.0.0.1:%d " % self.https, site)
        active, servers = re.subn(r"127\.0\.0\.1:8765", "127.0.0.1:%d" % port,
                                  read(self.dir, "postern", "active_upstream.conf"))
        assert (plain, tls, servers) == (1, 1, 1)
        site = site.replace("/var/www/", self.dir + "/www/")
        user = "user root;" if os.geteuid() == 0 else ""
        for name, text in (("postern.conf", site), ("postern/active_upstream.conf", active),
                           ("nginx.conf", WRAPPER % {"dir": self.dir, "user": user})):
            with open(os.path.join(self.dir, name), "w", encoding="utf-8") as f:
                f.write(text)
        os.makedirs(os.path.join(self.dir, "www", "postern", "assets"), exist_ok=True)
        for name in ("index.html", "assets/app.123.js"):
            with open(os.path.join(self.dir, "www", "postern", name), "w", encoding="utf-8") as f:
                f.write(name)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=postern",
                        "-keyout", self.dir + "/postern/certificate.key",
                        "-out", self.dir + "/postern/certificate.pem"], check=True, capture_output=True)

    def command(self, *more):
        return [NGINX, "-p", self.dir, "-c", self.dir + "/nginx.conf", *more]

    def start(self):
        self.process = subprocess.Popen(self.command("-g", "daemon off;"))
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", self.https), 1).close()
                return self
            except OSError:
                assert self.process.poll() is None, "nginx ended"
                time.sleep(0.025)
        raise AssertionError("nginx does not listen")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)

    def connect(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.https, timeout=20, context=context)

    def ask(self, method, path, body=None, headers=None):
        conn = self.connect()
        try:
            conn.request(method, path, body, headers or {})
            response = conn.getresponse()
            return response.status, response.headers, response.read()
        finally:
            conn.close()


@pytest.fixture(name="recorder")
def fixture_recorder():
    recorder = Recorder()
    yield recorder
    recorder.release.set()
    recorder.shutdown()
    recorder.server_close()


@pytest.fixture(name="site")
def fixture_site(tmp_path, recorder):
    site = Site(tmp_path, recorder.port).start()
    yield site
    site.stop()


def test_check_106_nginx_takes_the_site_without_a_warning(tmp_path):
    done = subprocess.run(Site(tmp_path, 1).command("-t"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.strip().split("\n") if "[" in line]
    assert not lines, done.stderr


def test_check_106_the_limits_fit_those_of_the_gateway(tmp_path):
    whole = subprocess.run(Site(tmp_path, 1).command("-T"), capture_output=True, text=True,
                           check=True).stdout
    body_mb = int(re.search(r"^\s*client_max_body_size (\d+)m;", whole, re.M).group(1))
    assert body_mb >= default_of("chat_body_mb")
    idle = int(re.search(r"upstream postern \{[^}]*?\n\s*keepalive_timeout (\d+)s;", whole).group(1))
    assert idle < default_of("keepalive_timeout_s")
    patience = int(re.search(r"^\s*proxy_read_timeout (\d+)s;", whole, re.M).group(1))
    assert patience > default_of("deadline_ai_s") and patience > default_of("stream_gap_s")
    directives = re.sub(r"#.*", "", whole)
    assert "non_idempotent" not in directives
    assert re.findall(r"proxy_buffering (\w+);", directives) == ["off"]
    assert set(re.findall(r"underscores_in_headers (\w+);", directives)) == {"off"}


@pytest.mark.parametrize("path", ["/v1/drop", "/api/v1/documents/drop"])
def test_check_106_a_post_whose_connection_dies_is_not_repeated(site, recorder, path):
    status, _, _ = site.ask("POST", path, b"{}")
    assert status == 502
    assert len(recorder.seen) == 1


@pytest.mark.parametrize("path", ["/v1/drop", "/api/v1/documents/drop"])
def test_check_106_a_post_on_a_reused_connection_that_dies_is_not_repeated(site, recorder, path):
    assert site.ask("GET", "/v1/models")[0] == 200
    status, _, _ = site.ask("POST", path, b"{}")
    assert status == 502
    assert [path for _, path, _, _ in recorder.seen] == ["/v1/models", path]
    assert recorder.connections == 1, "the second request was to go over the first one's connection"


def test_check_106_events_pass_unbuffered(site, recorder):
    conn = site.connect()
    conn.request("POST", "/v1/chat/completions/events", b"{}")
    response = conn.getresponse()
    assert response.readline() == b"data: 1\n", "the first event waits for the end of the stream"
    assert not recorder.release.is_set()
    recorder.release.set()
    assert response.read().endswith(b"data: [DONE]\n\n")
    conn.close()


def test_check_106_header_names_with_an_underscore_are_dropped(site, recorder):
    site.ask("GET", "/v1/models", headers={"X_Real_IP": "203.0.113.9", "Transfer_Encoding": "chunked"})
    headers = recorder.seen[0][2]
    assert "X_Real_IP" not in headers and "Transfer_Encoding" not in headers
    assert headers["X-Real-IP"] == "127.0.0.1"


def test_the_client_address_and_the_trace_are_forwarded(site, recorder):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    site.ask("GET", "/v1/models", headers={"X-Forwarded-For": "203.0.113.9", "traceparent": trace,
                                           "X-Request-ID": "from-the-client"})
    site.ask("GET", "/v1/models")
    given, made = recorder.seen[0][2], recorder.seen[1][2]
    assert given["X-Forwarded-For"] == "203.0.113.9, 127.0.0.1", "ours is the last one"
    assert given["X-Request-ID"] == "from-the-client" and given["traceparent"] == trace
    assert given["X-Forwarded-Proto"] == "https"
    assert re.fullmatch(r"[0-9a-f]{32}", made["X-Request-ID"]) and "traceparent" not in made


def test_a_body_of_the_gateways_limit_passes_and_a_larger_one_is_refused(site, recorder):
    assert site.ask("POST", "/v1/chat/completions", b"x" * (20 << 20))[0] == 200
    assert recorder.seen[0][3] == 20 << 20
    try:
        status = site.ask("POST", "/v1/chat/completions", b"x" * (22 << 20))[0]
    except OSError:  # refused while the body was still being sent
        status = 413
    assert status == 413 and len(recorder.seen) == 1


@pytest.mark.parametrize("path", ["/v1/models", "/v1beta/models/gemini-2.5-flash:generateContent", "/chat",
                                  "/api/v1/chat", "/api/health", "/api/v1/health/ready", "/health",
                                  "/auth/login", "/docs", "/openapi.json"])
def test_the_gateways_routes_reach_it(site, recorder, path):
    assert site.ask("POST", path, b"{}")[2] == b"ok"
    assert recorder.seen[0][1] == path


def test_metrics_are_not_shown_to_the_world(site, recorder):
    assert site.ask("GET", "/metrics")[0] == 404
    assert not recorder.seen


def test_the_front_app_is_served_with_its_headers(site, recorder):
    for path, text, cache in (("/", b"index.html", "no-cache"), ("/some/page", b"index.html", "no-cache"),
                              ("/assets/app.123.js", b"assets/app.123.js", "immutable")):
        status, headers, body = site.ask("GET", path)
        assert (status, body) == (200, text)
        assert headers["X-Content-Type-Options"] == "nosniff" and cache in headers["Cache-Control"]
        assert headers.get_all("Strict-Transport-Security") == ["max-age=31536000; includeSubDomains"]
    assert site.ask("GET", "/assets/missing.js")[0] == 404
    assert not recorder.seen


def test_transport_security_is_announced_once_over_the_gateways_answers(site):
    headers = site.ask("GET", "/v1/models")[1]
    assert headers.get_all("Strict-Transport-Security") == ["max-age=31536000; includeSubDomains"]


def test_plain_http_leads_to_https_but_for_the_probe(site):
    for path, status in (("/v1/models", 301), ("/api/health", 200)):
        conn = http.client.HTTPConnection("127.0.0.1", site.http, timeout=20)
        conn.request("GET", path)
        response = conn.getresponse()
        assert response.status == status
        if status == 301:
            assert response.headers["Location"] == "https://127.0.0.1/v1/models"
        conn.close()


def test_writing_the_upstream_file_and_a_reload_switch_the_colour(site, recorder):
    green = Recorder()
    try:
        assert site.ask("GET", "/v1/blue")[0] == 200
        site.upstream(green.port)
        site.process.send_signal(signal.SIGHUP)
        for _ in range(400):
            assert site.ask("GET", "/v1/any")[0] == 200
            if green.seen:
                break
            time.sleep(0.025)
        assert green.seen and recorder.seen[0][1] == "/v1/blue"
    finally:
        green.shutdown()
        green.server_close()

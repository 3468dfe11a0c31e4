"""The HTTP front on a raw socket: CHECKS 1-22, 26, 27 and the shapes of refusals. The rest, where
time and resources run out, is in test_http_limits.py."""
import os
import re
import threading

import pytest

from front import (ALIVE, CHAT, KEY, LIVE, SMUGGLED, ask_unknown, assert_names, chat, front, refused,
                   slow_chat, unknown_model)
from gateway import AUTH, ROOT
from rawhttp import Raw, chunked, head, post_json


@pytest.fixture(autouse=True)
def ends_alive(shared_gateway):
    yield
    shared_gateway.alive()


@pytest.fixture
def port(shared_gateway):
    return shared_gateway.port


# --- 1-6: framing ----------------------------------------------------------------------------------

@pytest.mark.parametrize("fields", [
    ("Content-Length: 6", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Content-Length: 6"),
    ("Transfer-Encoding: chunked", "X: y", "content-length: 0"),
])
def test_check_001_length_and_transfer_encoding_together_are_refused(port, fields):
    refused(port, head("POST", CHAT, *fields) + b"0\r\n\r\n" + SMUGGLED, 400)


@pytest.mark.parametrize("lengths", [("5", "5"), ("5", "6"), ("0", "44"), ("44", "0")])
def test_check_002_two_lengths_are_refused(port, lengths):
    fields = ["Content-Length: " + n for n in lengths]
    refused(port, head("POST", CHAT, *fields) + b"hello" + SMUGGLED, 400)


@pytest.mark.parametrize("length", ["+3", "-1", "0x3", "3,3", "", "3 3", "3;", "1e1", "\xb2"])
def test_check_003_a_length_that_is_no_number_is_refused(port, length):
    refused(port, head("POST", CHAT, "Content-Length: " + length) + b"abc" + SMUGGLED, 400)


@pytest.mark.parametrize("length", ["18446744073709551616", "50000000000000000000",
                                    "999999999999999999"])
def test_check_003_a_huge_length_is_too_large(port, length):
    refused(port, head("POST", CHAT, KEY, "Content-Type: application/json",
                       "Content-Length: " + length) + b"abc" + SMUGGLED, 413)


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "chunked, chunked", "identity",
                                    "xchunked", "", "chunked;q=1"])
def test_check_004_other_transfer_codings_are_refused(port, coding):
    refused(port, head("POST", CHAT, "Transfer-Encoding: " + coding) + b"0\r\n\r\n" + SMUGGLED,
            400, 501)


def test_check_004_two_codings_and_http_1_0_with_one_are_refused(port):
    two = ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked")
    refused(port, head("POST", CHAT, *two) + b"0\r\n\r\n" + SMUGGLED, 400, 501)
    old = head("POST", CHAT, "Transfer-Encoding: chunked", version="1.0")
    refused(port, old + b"0\r\n\r\n" + SMUGGLED, 400)


@pytest.mark.parametrize("field", ["Content-Length : 5", "Content-Length\t: 5", "X : y", "Host : a"])
def test_check_005_space_before_a_colon_is_refused(port, field):
    refused(port, head("POST", CHAT, field) + b"hello" + SMUGGLED, 400)


DISGUISES = [
    "transfer-encoding: CHUNKED ", "Transfer-Encoding:\tchunked", "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding: \x00chunked", "Transfer-Encoding: chunked\x00", "Transfer-Encoding: \xffchunked",
    "Transfer-Encoding : chunked", " Transfer-Encoding: chunked", "\x0bTransfer-Encoding: chunked",
    "Transfer-Encoding\x0b: chunked", "Transfer_Encoding: chunked", "transfer_encoding: chunked",
    "Transfer-Encoding: ,chunked", "Transfer-Encoding: chunked,", "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chu\tnked", "X: y\rTransfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked", "Transfer-Encoding:\r\n chunked", "Transfer-Encoding: x\r\n\tchunked",
    "Transfer-Encoding: chunked\r\nTransfer-encoding: cow", "Content-Encoding: x\r\nTransfer-Encoding: xchunked",
    "TE: chunked", "Transfer-Encodin: chunked", "Transfer-Encoding:: chunked",
]


@pytest.mark.parametrize("field", DISGUISES)
def test_check_006_no_disguise_of_transfer_encoding_serves_a_smuggled_request(port, field):
    """With the body read by length the smuggled request is body, with the body read as chunked it is the
    next request; with both told it must be neither."""
    body = b"0\r\n\r\n" + SMUGGLED
    with Raw(port) as raw:
        raw.send_what_goes(head("POST", CHAT, field, "Content-Length: %d" % len(body)) + body)
        raw.half_close()
        got = raw.rest()
    assert got.count(b"HTTP/1.1 ") == 1
    assert ALIVE not in got


# --- 7-8: chunks -----------------------------------------------------------------------------------

def in_chunks(body, *fields):
    return head("POST", CHAT, KEY, "Content-Type: application/json", "Transfer-Encoding: chunked",
                *fields) + body


@pytest.mark.parametrize("body", [
    b"12345678901234567\r\nx", b"00000005\r\nhello\r\n", b"\x80\r\n", b"5\nhello\r\n", b"5\r\nhelloX\r\n",
    b"5\r\nhello\n0\r\n\r\n", b"5\r\nhell\r\n0\r\n\r\n", b"5_0\r\nhello", b"_5\r\nhello", b"0x5\r\nhello",
    b"+5\r\nhello", b"-1\r\nhello", b" 5\r\nhello", b"5 \r\nhello", b"\r\nhello", b"5;\x01\r\nhello",
    b"5;" + b"x" * 1000000 + b"\r\nhello\r\n0\r\n\r\n",
])
def test_check_007_faults_in_chunks_are_refused(port, body):
    refused(port, in_chunks(body + SMUGGLED), 400, 413)


def test_check_007_a_chunked_body_over_the_limit_is_too_large(port):
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    refused(port, in_chunks(piece * 21), 413)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_check_007_a_valid_chunked_body_is_read_exactly(port, size):
    name = "chunked-%d-%s" % (size, "n" * 60)
    body = post_json(CHAT, unknown_model(name)).split(b"\r\n\r\n", 1)[1]
    with Raw(port) as raw:
        raw.send(in_chunks(chunked(body, size)) + SMUGGLED)
        assert_names(raw.answer(), name)
        assert ALIVE in raw.answer().body


def test_check_007_chunk_extensions_are_ignored(port):
    body = post_json(CHAT, unknown_model("extended")).split(b"\r\n\r\n", 1)[1]
    data = b"".join(b"1;a=b;c=\"d e\"\r\n%c\r\n" % c for c in body) + b"0;last\r\n\r\n"
    with Raw(port) as raw:
        raw.send(in_chunks(data) + SMUGGLED)
        assert_names(raw.answer(), "extended")
        assert ALIVE in raw.answer().body


@pytest.mark.parametrize("trailer", [b"X: y\r\n\r\n", b"X: y\r\nZ: w\r\n\r\n", SMUGGLED,
                                     b"Content-Length: 5\r\n\r\nhello"])
def test_check_008_trailers_are_refused_and_never_served(port, trailer):
    refused(port, in_chunks(b"2\r\n{}\r\n0\r\n" + trailer), 400)


# --- 9-13: heads -----------------------------------------------------------------------------------

@pytest.mark.parametrize("field", [
    "X: a\x00b", "X\x00: a", "X: a\x01", "X: a\x7f", "X: a\rb", "X: a\nY: b", "X: a\r\n folded",
    "X: a\r\n\tfolded", ": no name", "no colon", "X(y): z", "X y: z", "\xc4: z",
])
def test_check_009_malformed_header_lines_are_refused(port, field):
    refused(port, head("GET", LIVE, field), 400)


@pytest.mark.parametrize("data", [
    b"GET %s HTTP/1.1\nHost: a\n\n" % LIVE.encode(), b"GET %s HTTP/1.1\r\nHost: a\n\r\n" % LIVE.encode(),
    b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", b"\n",
    b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
])
def test_check_009_malformed_lines_are_refused(port, data):
    refused(port, data, 400)


@pytest.mark.parametrize("data", [
    head("GET", LIVE, host=None), head("GET", LIVE, "Host: b"), head("GET", LIVE, host=""),
    head("GET", LIVE, host="a b"), head("GET", LIVE, host="a@b"), head("GET", LIVE, host="a:b"),
    head("GET", LIVE, host="a/b"), head("GET", LIVE, host="[::1"), head("GET", LIVE, host="a,b"),
    head("GET", "http://a.example" + LIVE), head("GET", "*"), head("GET", LIVE + "#x"), head("GET", "x"),
])
def test_check_010_bad_hosts_and_target_forms_are_refused(port, data):
    refused(port, data, 400)


def test_check_010_connect_is_refused(port):
    refused(port, head("CONNECT", "a.example:443"), 400, 405)


@pytest.mark.parametrize("data", [
    b"GET /x\r\n", b"GET /x\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n", head("GET", LIVE, version="1.2"),
    head("GET", LIVE, version="2.0"), head("GET", LIVE, version="1.257"), head("GET", LIVE, version="1"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / http/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
])
def test_check_011_other_versions_are_refused_at_once(port, data):
    refused(port, data, 400, 505)


def test_check_012_unknown_methods_are_told_what_is_allowed(port):
    for method in ("BREW", "get", "M" * 5120):
        answer = refused(port, head(method, LIVE), 405, 501)
        assert "GET" in answer.headers["allow"]
    assert "GET" in refused(port, head("TRACE", LIVE), 405).headers["allow"]
    refused(port, head("G(T", LIVE), 400)


def test_check_012_a_known_method_on_the_wrong_route_is_405_with_allow(port):
    with Raw(port) as raw:
        answer = raw.send(head("DELETE", CHAT)).answer()
        assert answer.status == 405
        assert answer.headers["allow"] == "POST, OPTIONS"
        answer = raw.send(head("PUT", LIVE)).answer()
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("target", [
    LIVE + "%00", LIVE + "%", LIVE + "%4", LIVE + "%zz", "/api/v1/health/../health/live", LIVE + "/..",
    LIVE + "/.", "/api/v1/%2e%2e/v1/health/live", "/api/v1/health/%2E/live", "/" + LIVE, "/api//v1/health/live",
    "/api/v1/health\\live", "/api/v1/health%5clive", LIVE + ";x", LIVE + "%3Bx", LIVE + "/", LIVE + "x",
    "/api/v1/health%2flive", "/api%2Fv1%2Fhealth%2Flive", LIVE + "%20", LIVE + "%0a", "/API/v1/health/live",
    "/api/v1/health/live%2f..", "/api/v1/health/..%2fhealth/live", "/%c3%28",
])
def test_check_013_odd_targets_never_reach_another_route(port, target):
    with Raw(port) as raw:
        answer = raw.send(head("GET", target, "Connection: close")).final_answer()
    assert answer.status in (400, 404)
    assert ALIVE not in answer.body


def test_check_013_an_escaped_path_is_the_same_path(port):
    with Raw(port) as raw:
        assert ALIVE in raw.send(head("GET", "/api/v1/h%65alth/liv%65")).answer().body


# --- 14-19: bytes and connections ------------------------------------------------------------------

SPLIT = [
    ("GET", head("GET", LIVE + "?a=b%20c", "X-Pad: x", "Connection: close")),
    ("POST", b"\r\n" + ask_unknown("split-model", "Connection: close")),
    ("POST", in_chunks(chunked(post_json(CHAT, unknown_model("split")).split(b"\r\n\r\n", 1)[1], 9),
                       "Connection: close")),
]


@pytest.mark.parametrize("method,data", SPLIT)
def test_check_014_a_request_split_in_two_anywhere_gives_the_same_answer(port, method, data):
    with Raw(port) as raw:
        whole = raw.send(data).final_answer().same_but_for_time()
    for i in range(1, len(data)):
        with Raw(port) as raw:
            raw.send_in_parts([data[:i], data[i:]])
            assert raw.final_answer().same_but_for_time() == whole, i


@pytest.mark.parametrize("method,data", SPLIT)
def test_check_014_a_request_byte_by_byte_gives_the_same_answer(port, method, data):
    with Raw(port) as raw:
        whole = raw.send(data).final_answer().same_but_for_time()
    with Raw(port) as raw:
        raw.send_in_parts([data[i:i + 1] for i in range(len(data))], pause=0.0005)
        assert raw.final_answer().same_but_for_time() == whole


@pytest.mark.parametrize("n", [4000, 4091, 4096, 5000, 8000])
def test_check_015_long_paths_arrive_intact(port, n):
    path = "/" + "".join(chr(97 + i % 26) for i in range(n - 1))
    with Raw(port) as raw:
        answer = raw.send_in_parts([head("GET", path)[:n // 2], head("GET", path)[n // 2:]]).answer()
    assert answer.status == 404
    assert answer.json["instance"] == path


@pytest.mark.parametrize("n", [4000, 5000, 8000])
def test_check_015_long_queries_arrive_intact(port, n):
    key = AUTH["Authorization"].split()[1]
    query = "pad=" + "p" * (n - len(key) - 9) + "&key=" + key
    data = head("GET", "/v1/models?" + query)
    with Raw(port) as raw:
        assert raw.send_in_parts([data[:n // 3], data[n // 3:]]).answer().status == 200
        assert raw.send(head("GET", "/v1/models?" + query[:-1])).answer().status == 401


def test_check_015_a_target_over_8_kib_is_414(port):
    refused(port, head("GET", "/" + "a" * 8192), 414)
    refused(port, head("GET", LIVE + "?" + "a" * 100000), 414)


def test_check_016_too_many_headers_are_431(port):
    fields = ["X-%d: y" % i for i in range(100)]
    refused(port, head("GET", LIVE, *fields), 431)
    with Raw(port) as raw:
        assert raw.send(head("GET", LIVE, *fields[:99])).answer().status == 200


def test_check_016_large_headers_are_431(port):
    refused(port, head("GET", LIVE, *["X-%d: %s" % (i, "y" * 4000) for i in range(9)]), 431)
    refused(port, head("GET", LIVE, "X: " + "y" * 9000), 431)


def test_check_016_an_endless_header_is_refused_before_64_kib(port):
    with Raw(port) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        sent = 0
        while sent < 65536 and raw.send_what_goes(b"y" * 1024):
            sent += 1024
        assert raw.final_answer().status == 431


@pytest.mark.parametrize("n", [2, 3, 50])
def test_check_017_pipelined_requests_are_answered_in_order(port, n):
    data = b"".join(head("GET", "/nope/%d" % i) if i % 2 else ask_unknown("m-%d" % i) for i in range(n))
    with Raw(port) as raw:
        raw.send(data)
        for i in range(n):
            answer = raw.answer()
            if i % 2:
                assert answer.json["instance"] == "/nope/%d" % i
            else:
                assert_names(answer, "m-%d" % i)


def test_check_017_more_than_a_client_may_send_ahead_is_still_answered(port):
    n = 2000
    data = head("GET", LIVE, "X-Pad: " + "p" * 100)
    with Raw(port) as raw:
        sender = threading.Thread(target=raw.send_what_goes, args=(data * n,))
        sender.start()
        for _ in range(n):
            assert raw.answer().status == 200
        sender.join()


def test_check_018_a_second_request_behind_a_slow_one_is_answered_after_it(port, standin):
    with Raw(port) as raw:
        raw.send(slow_chat(400))
        standin.wait_for(lambda calls: calls)
        raw.send(head("GET", LIVE) + ask_unknown("third"))
        assert raw.answer().json["object"] == "chat.completion"
        assert ALIVE in raw.answer().body
        assert_names(raw.answer(), "third")


@pytest.mark.parametrize("value", ["close", "CLOSE", "te, close", "keep-alive, Close"])
def test_check_019_connection_close_closes(port, value):
    with Raw(port) as raw:
        answer = raw.send(head("GET", LIVE, "Connection: " + value)).final_answer()
    assert answer.status == 200 and answer.closes


def test_check_019_http_1_0_closes_unless_asked_to_keep(port):
    with Raw(port) as raw:
        answer = raw.send(head("GET", LIVE, version="1.0", host=None)).final_answer()
        assert answer.closes
    with Raw(port) as raw:
        for _ in range(3):
            raw.send(head("GET", LIVE, "Connection: keep-alive", version="1.0", host=None))
            assert raw.answer().headers["connection"] == "keep-alive"


def test_check_019_http_1_0_is_never_sent_chunks(port, standin):
    data = chat(stream=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with Raw(port) as raw:
        answer = raw.send(data).final_answer()
    assert answer.status == 200 and answer.closes
    assert "transfer-encoding" not in answer.headers
    assert answer.body.endswith(b"data: [DONE]\n\n")


# --- 20-22 ------------------------------------------------------------------------------------------

def test_check_020_expect_gets_100_then_the_answer(port):
    data = ask_unknown("expected", "Expect: 100-continue")
    cut = data.index(b"\r\n\r\n") + 4
    with Raw(port) as raw:
        assert raw.send(data[:cut]).answer().status == 100
        assert_names(raw.send(data[cut:]).answer(), "expected")
        assert ALIVE in raw.send(SMUGGLED).answer().body


@pytest.mark.parametrize("status,target,fields", [
    (413, CHAT, (KEY, "Content-Type: application/json", "Content-Length: 99999999")),
    (415, CHAT, (KEY, "Content-Type: text/plain", "Content-Length: 5")),
    (401, CHAT, ("Content-Type: application/json", "Content-Length: 5")),
    (404, "/v1/nope", (KEY, "Content-Type: application/json", "Content-Length: 5")),
])
def test_check_020_a_body_that_will_be_refused_is_not_asked_for(port, status, target, fields):
    answer = refused(port, head("POST", target, "Expect: 100-continue", *fields), status)
    assert answer.status == status


def test_check_020_other_expectations_fail(port):
    refused(port, head("POST", CHAT, "Expect: x", "Content-Length: 5"), 417)


@pytest.mark.parametrize("target", [LIVE, "/nope", "/v1/models", "/api/v1/health", "/metrics"])
def test_check_021_head_is_get_without_the_body(port, target):
    with Raw(port) as raw:
        get = raw.send(head("GET", target, KEY)).answer()
        only_head = raw.send(head("HEAD", target, KEY)).answer("HEAD")
        assert ALIVE in raw.send(SMUGGLED).answer().body
    assert only_head.status == get.status
    changing = ("date", "x-request-id", "content-length")
    assert ([h for h in only_head.header_list if h[0].lower() not in changing and "imit" not in h[0]]
            == [h for h in get.header_list if h[0].lower() not in changing and "imit" not in h[0]])
    assert "content-length" in only_head.headers


def test_check_021_options_tells_the_methods_and_204_has_no_body(port):
    with Raw(port) as raw:
        for target, allow in ((CHAT, "POST, OPTIONS"), (LIVE, "GET, HEAD, OPTIONS")):
            answer = raw.send(head("OPTIONS", target)).answer()
            assert answer.status == 204
            assert answer.headers["allow"] == allow
            assert "content-length" not in answer.headers
            assert "content-type" not in answer.headers
            assert "transfer-encoding" not in answer.headers
        assert raw.send(head("OPTIONS", "*")).answer().status == 204
        assert raw.send(head("OPTIONS", "/nope")).answer().status == 404
        assert ALIVE in raw.send(SMUGGLED).answer().body


def test_check_022_413_reaches_a_client_that_is_still_sending(port):
    piece = b"x" * 65536
    for attempt in range(40):
        with Raw(port) as raw:
            raw.send(head("POST", CHAT, KEY, "Content-Type: application/json",
                          "Content-Length: %d" % (40 << 20)))
            for _ in range((20 << 20) // len(piece)):
                if not raw.send_what_goes(piece):
                    break
            answer = raw.final_answer()
        assert answer.status == 413, attempt
        assert answer.json["error"]["code"] == "content-too-large"


# --- 26-27 ------------------------------------------------------------------------------------------

def routes():
    with open(os.path.join(ROOT, "handlers", "routes.c"), encoding="utf-8") as f:
        found = re.findall(r'\{HTTP_([A-Z]+),\s*"([^"]+)"', f.read())
    assert len(found) > 10
    return [(m, re.sub(r"\{[^}]*\}", "x", p)) for m, p in found]


@pytest.mark.parametrize("method,path", routes())
def test_check_026_a_large_form_is_refused_on_every_route(port, method, path):
    form = b"a=" + b"b" * (6 << 20)
    with Raw(port) as raw:
        raw.send_what_goes(head(method, path, KEY, "Content-Type: application/x-www-form-urlencoded",
                                "Content-Length: %d" % len(form)) + form)
        assert raw.final_answer().status in (413, 415)


@pytest.mark.parametrize("type_", ["text/plain", "application/jsonx", "application/x-www-form-urlencoded",
                                   "multipart/form-data; boundary=x", "multipart", ""])
def test_check_026_a_body_of_another_type_is_415(port, type_):
    body = b"{}"
    fields = ["Content-Type: " + type_] if type_ else []
    with Raw(port) as raw:
        raw.send(head("POST", CHAT, KEY, "Content-Length: 2", *fields) + body + SMUGGLED)
        assert raw.answer().status == 415
        assert ALIVE in raw.answer().body


@pytest.mark.parametrize("type_", ["application/json", "APPLICATION/JSON; charset=utf-8",
                                   "application/vnd.x+json"])
def test_json_types_are_taken(port, type_):
    body = post_json(CHAT, unknown_model("typed")).split(b"\r\n\r\n", 1)[1]
    with Raw(port) as raw:
        raw.send(head("POST", CHAT, KEY, "Content-Type: " + type_, "Content-Length: %d" % len(body)) + body)
        assert_names(raw.answer(), "typed")


@pytest.mark.parametrize("data", [
    head("GET", LIVE, "X-Request-ID: a\rX-Evil: b"),
    head("GET", LIVE, "X-Request-ID: a\x0bX-Evil: b"),
    head("GET", "/v1/models/a%0d%0aX-Evil:%20b", KEY),
    head("GET", "/%0d%0aX-Evil:%20b"),
    head("GET", LIVE, "Origin: http://a\r\n X-Evil: b"),
    head("OPTIONS", LIVE, "Origin: http://localhost:5173", "Access-Control-Request-Method: GET",
         "Access-Control-Request-Headers: a\x0aX-Evil: b"),
    ask_unknown("a\r\nX-Evil: b"),
    post_json(CHAT, {"model": "openai/gpt\r\nX-Evil: b", "messages": [{"role": "user", "content": "x"}]}, KEY),
])
def test_check_027_nothing_reflected_can_split_an_answer(port, data):
    with Raw(port) as raw:
        raw.send(data)
        answer = raw.answer("GET")
    assert "x-evil" not in answer.headers
    assert b"\nX-Evil" not in answer.head


# --- shapes of refusals ----------------------------------------------------------------------------

@pytest.mark.parametrize("target,shape", [
    ("/v1/nope", lambda j: j["error"]["code"] == "not-found"),
    ("/v1/messages/nope", lambda j: j["type"] == "error" and j["error"]["type"] == "not_found_error"),
    ("/v1beta/nope", lambda j: j["error"]["status"] == "NOT_FOUND"),
    ("/api/v1/nope", lambda j: j["type"] == "urn:postern:problem:not-found"),
    ("/nope", lambda j: j["status"] == 404),
])
def test_unknown_paths_answer_in_the_shape_of_their_surface(port, target, shape):
    with Raw(port) as raw:
        answer = raw.send(head("GET", target)).answer()
    assert answer.status == 404
    assert shape(answer.json), answer.body


def test_a_refused_head_answers_in_the_shape_of_its_path(port):
    answer = refused(port, head("POST", "/v1/messages", "bad line"), 400)
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.json["request_id"] == answer.headers["x-request-id"]


def test_refused_heads_are_logged_and_counted(make_gateway):
    gw = front(make_gateway)
    answer = refused(gw.port, head("GET", "/x", "bad line"), 400)
    m = gw.metrics()
    assert m['http_refused_total{reason="bad-request"}'] == 1
    gw.stop()
    lines = [line for line in gw.log_lines() if line.get("request_id") == answer.headers["x-request-id"]]
    assert [line["status"] for line in lines if "status" in line] == [400]


def test_answers_have_a_date_and_no_server_header(port):
    with Raw(port) as raw:
        answer = raw.send(head("GET", LIVE)).answer()
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
                        answer.headers["date"])
    assert "server" not in answer.headers
    names = [k.lower() for k, _ in answer.header_list]
    assert names[0] == "date"
    assert len(names) == len(set(names))


def test_a_refusal_before_the_body_keeps_the_connection_when_all_of_it_is_there(port):
    with Raw(port) as raw:
        raw.send(post_json(CHAT, unknown_model("x")) + SMUGGLED)
        answer = raw.answer()
        assert answer.status == 401 and not answer.closes
        assert ALIVE in raw.answer().body

"""The stand-in hurts its answers exactly as told, by control and by directive, and notices everything."""

import gzip
import http.client
import json
import subprocess
import threading
import zlib

import pytest

from standin_fixtures import (HEADERS, MODELS, Raw, chat, chat_body, chat_path, events, post,
                              raw_request)
from standin import behaviour
from standin.brain import asked_calls
from standin.client import Standin

DIALECTS = ("openai", "anthropic", "google")


# scripts

def test_scripts_run_in_order_and_only_as_often_as_told(standin):
    standin.control([{"status": 500}, {"status": 503}], repeat=2)
    assert [chat(standin, "openai")[0] for _ in range(5)] == [500, 503, 500, 503, 200]


def test_a_script_without_end_holds_until_reset(standin):
    standin.control({"status": 429}, repeat=-1)
    assert {chat(standin, "google")[0] for _ in range(5)} == {429}
    standin.reset()
    assert chat(standin, "google")[0] == 200


def test_scripts_match_dialect_model_and_stream(standin):
    standin.control({"status": 500}, match={"dialect": "anthropic"}, repeat=-1)
    standin.control({"status": 502}, match={"model": "gpt-4*", "stream": True}, repeat=-1)
    assert chat(standin, "anthropic")[0] == 500
    assert chat(standin, "google")[0] == 200
    assert chat(standin, "openai")[0] == 200
    assert chat(standin, "openai", stream=True)[0] == 502


@pytest.mark.parametrize("script", [
    {"behaviour": []}, {"behaviour": {"stauts": 500}}, {"behaviour": {"status": "many"}},
    {"behaviour": {"hang": "sometimes"}}, {"behaviour": {"status": 500}, "match": {"colour": 1}},
    {"behaviour": {"status": 500}, "times": 3}, [], "x"])
def test_a_script_with_a_mistake_is_refused(standin, script):
    status, _, data = standin.request("POST", "/_control", json.dumps(script))
    assert status == 400 and json.loads(data)["error"]


def test_a_mistaken_directive_is_told_in_the_vendors_shape(standin):
    for dialect in DIALECTS:
        status, _, data = chat(standin, dialect, "stauts=500")
        assert status == 400 and "unknown directive 'stauts'" in json.loads(data)["error"]["message"]


def test_directives_parse_values_and_percent_escapes():
    assert behaviour.split_model("m~status=503,retry_after=a%2Cb,no_final") == (
        "m", {"status": 503, "retry_after": "a,b", "no_final": True})
    assert behaviour.split_model("plain/model") == ("plain/model", {})
    with pytest.raises(behaviour.BadDirective):
        behaviour.split_model("m~usage=1")


def test_prompts_name_tools_and_arguments():
    assert asked_calls('please call tool a.b with {"x": {"y": 1}}, then call tool c.') == [
        ("a.b", {"x": {"y": 1}}), ("c", None)]
    assert asked_calls("nothing to do") == []


def test_a_bad_request_is_refused_even_when_a_fault_is_scripted(standin):
    standin.control({"hang": "before"}, repeat=-1)
    status, answer = post(standin, "openai", "/openai/v1/chat/completions", {"model": "gpt-4o"})
    assert status == 400 and answer["error"]["code"] == "missing_required_parameter"


def test_the_log_tells_what_was_received(standin):
    chat(standin, "anthropic", "status=529", stream=True)
    call = standin.calls()[0]
    assert (call["dialect"], call["model"], call["status"]) == ("anthropic", "claude-haiku-4-5", 529)
    assert call["stream"] and call["done"] and not call["aborted"] and call["sent"] > 100
    assert call["behaviour"] == {"status": 529}
    assert call["body"]["messages"] == [{"role": "user", "content": "hello there"}]
    assert standin.calls(since=call["id"]) == []


# statuses

@pytest.mark.parametrize("dialect,status,kind", [
    ("openai", 429, "rate_limit_exceeded"), ("openai", 503, "server_error"),
    ("anthropic", 429, "rate_limit_error"), ("anthropic", 529, "overloaded_error"),
    ("anthropic", 500, "api_error"), ("google", 429, "RESOURCE_EXHAUSTED"),
    ("google", 503, "UNAVAILABLE")])
def test_error_statuses_have_the_vendors_body(standin, dialect, status, kind):
    got, headers, data = chat(standin, dialect, f"status={status},retry_after=7")
    error = json.loads(data)["error"]
    assert got == status and headers["retry-after"] == "7"
    assert kind in (error.get("type"), error.get("status"))


def test_error_type_and_message_can_be_chosen(standin):
    standin.control({"status": 400, "error_type": "odd_error", "message": "too odd"})
    error = json.loads(chat(standin, "anthropic")[2])["error"]
    assert error == {"type": "odd_error", "message": "too odd"}


# where it breaks

@pytest.mark.parametrize("action", ["cut", "reset"])
@pytest.mark.parametrize("place", ["before", "head", "headers", "body"])
def test_the_line_breaks_at_the_place_named(standin, action, place):
    with Raw(standin) as raw:
        data = raw.send(raw_request("openai", f"{action}={place}")).all()
    assert raw.how == {"cut": "fin", "reset": "reset"}[action]
    if place == "before":
        assert data == b""
    elif place == "head":
        assert data.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\n\r\n" not in data
    elif place == "headers":
        assert data.endswith(b"\r\n\r\n")
    else:
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert 0 < len(body) < length
    assert standin.calls()[0]["hurt"] and not standin.calls()[0]["aborted"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("action", ["cut", "reset"])
def test_a_stream_breaks_after_so_many_events(standin, dialect, action):
    with Raw(standin) as raw:
        data = raw.send(raw_request(dialect, f"{action}=stream,after=3", stream=True)).all()
    assert raw.how == {"cut": "fin", "reset": "reset"}[action]
    assert data.count(b"data: ") == 3 and not data.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("place,got", [("before", 0), ("head", 1), ("headers", 1), ("body", 1)])
def test_it_hangs_at_the_place_named_and_notices_that_the_client_leaves(standin, place, got):
    with Raw(standin, timeout=0.3) as raw:
        raw.send(raw_request("openai", f"hang={place}"))
        data = b""
        with pytest.raises(TimeoutError):
            while True:
                part = raw.sock.recv(65536)
                assert part
                data += part
        assert bool(data) == bool(got)
        assert [c["done"] for c in standin.calls()] == [False]
    call = standin.wait_for(lambda calls: calls[0]["done"] and calls[0])
    assert call["aborted"] and not call["hurt"]


def test_a_stream_that_hangs_sends_its_events_first(standin):
    with Raw(standin) as raw:
        data = raw.send(raw_request("anthropic", "hang=stream,after=2", stream=True)).until(
            b"content_block_start")
    assert data.count(b"data: ") == 2
    assert standin.wait_for(lambda calls: calls[0]["done"] and calls[0])["aborted"]


def test_a_client_that_leaves_in_mid_stream_is_noticed(standin):
    with Raw(standin) as raw:
        raw.send(raw_request("openai", "chunks=100000,gap_ms=5", stream=True)).until(b"lorem")
    call = standin.wait_for(lambda calls: calls[0]["done"] and calls[0])
    assert call["aborted"] and call["sent"] < 10**6


def test_hundreds_of_hanging_clients_are_all_noticed(standin):
    raws = [Raw(standin).send(raw_request("openai", "hang=before")) for _ in range(400)]
    standin.wait_for(lambda calls: len(calls) == 400)
    assert standin.health()["open"] == 400
    for raw in raws:
        raw.sock.close()
    standin.wait_for(lambda calls: all(c["aborted"] for c in calls))
    assert standin.health()["open"] == 0


# wrong bodies

@pytest.mark.parametrize("kind,check", [
    ("garbage", lambda b: len(b) == 1024), ("empty", lambda b: b == b""),
    ("html", lambda b: b.startswith(b"<html>")), ("text", lambda b: b == b"ok"),
    ("array", lambda b: b == b"[1,2,3]"), ("null", lambda b: b == b"null"),
    ("deep", lambda b: b.startswith(b"[[[[") and len(b) == 200000),
    ("truncated", lambda b: b.startswith(b'{"') and not b.endswith(b"}"))])
@pytest.mark.parametrize("stream", [False, True])
def test_other_bodies_come_with_status_200(standin, kind, check, stream):
    status, headers, data = chat(standin, "openai", f"body={kind}", stream=stream)
    assert status == 200 and check(data)
    assert ("html" in headers["content-type"]) == (kind == "html")


def test_the_content_type_can_be_wrong(standin):
    assert chat(standin, "openai", "wrong_type")[1]["content-type"].startswith("text/plain")
    assert "json" in chat(standin, "openai", "wrong_type", stream=True)[1]["content-type"]


def test_the_content_length_can_be_wrong(standin):
    with pytest.raises(http.client.IncompleteRead):
        chat(standin, "openai", "length=long")
    with Raw(standin) as raw:
        data = raw.send(raw_request("openai", "length=short")).all()
    head, _, body = data.partition(b"\r\n\r\n")
    assert int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) == len(body) - 10


def test_huge_bodies_are_valid_json_of_the_size_asked_for(standin):
    _, _, data = chat(standin, "openai", "huge_mb=3")
    assert len(data) == 3 * 1024 * 1024
    assert set(json.loads(data)) == {"padding"}


def test_gzip_answers_are_gzip(standin):
    _, headers, data = chat(standin, "openai", "gzip")
    assert headers["content-encoding"] == "gzip"
    assert "You said" in gzip.decompress(data).decode()
    _, headers, data = chat(standin, "openai", "gzip", stream=True)
    assert headers["content-encoding"] == "gzip"
    assert events(zlib.decompressobj(wbits=31).decompress(data))[-1] == (None, "[DONE]")


def test_a_gzip_bomb_grows_a_thousandfold(standin):
    _, headers, data = chat(standin, "openai", "bomb_mb=8")
    assert headers["content-encoding"] == "gzip" and len(data) < 20000
    assert len(gzip.decompress(data)) == 8 * 1024 * 1024


def test_bodies_may_be_chunked_or_end_with_the_connection(standin):
    for framing in ("chunked", "close"):
        _, headers, data = chat(standin, "openai", f"framing={framing}")
        assert "content-length" not in headers
        assert (headers.get("transfer-encoding") == "chunked") == (framing == "chunked")
        assert json.loads(data)["object"] == "chat.completion"


def test_redirects_and_informational_answers(standin):
    status, headers, _ = chat(standin, "openai", "redirect=http%3A%2F%2F127.0.0.1%3A9%2Fx")
    assert status == 307 and headers["location"] == "http://127.0.0.1:9/x"
    with Raw(standin) as raw:
        data = raw.send(raw_request("openai", "info=103,close")).all()
    assert data.startswith(b"HTTP/1.1 103 Early Hints\r\n") and b"HTTP/1.1 200 OK" in data


def test_a_kept_connection_closes_when_the_next_request_arrives(standin):
    for way, how in (("1", "fin"), ("reset", "reset")):
        standin.reset()
        with Raw(standin) as raw:
            first = raw.send(raw_request("openai", f"close_on_next={way}")).until(b"fp_standin\"}")
            assert b"connection: close" not in first.lower()
            assert raw.send(raw_request("openai", "text=x")).all() == b""
        assert raw.how == how
        calls = standin.calls()
        assert [(c["on_connection"], c["hurt"], c["sent"] > 0) for c in calls] == [
            (1, False, True), (2, True, False)]


# pace

def test_a_trickle_is_slow_and_complete(standin):
    with Raw(standin) as raw:
        raw.send(raw_request("google", "trickle=2000,close"))
        pieces = []
        while part := raw.sock.recv(65536):
            pieces.append(part)
    assert len(pieces[0]) <= 100 and len(pieces) > 3
    assert json.loads(b"".join(pieces).split(b"\r\n\r\n")[1])["candidates"]


@pytest.mark.parametrize("directives", ["bytewise", "split=7", "bytewise,split=3"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_small_writes_change_nothing_in_the_stream(standin, dialect, directives):
    def shapes(raw):
        return [(name, d if isinstance(d, str) else sorted(d)) for name, d in events(raw)]
    plain = chat(standin, dialect, stream=True)[2]
    assert shapes(chat(standin, dialect, directives, stream=True)[2]) == shapes(plain)


def test_long_streams_have_the_pieces_and_sizes_asked_for(standin):
    _, _, raw = chat(standin, "openai", "chunks=500,size=100", stream=True)
    texts = [d["choices"][0]["delta"].get("content") for _, d in events(raw)[:-1]]
    assert [len(t) for t in texts if t] == [100] * 500
    _, _, whole = chat(standin, "anthropic", "chunks=500,size=100")
    assert len(json.loads(whole)["content"][0]["text"]) == 50000


# odd streams

def test_line_ends_comments_and_other_freedoms_of_event_streams(standin):
    plain = chat(standin, "anthropic", stream=True)[2]
    for eol in ("cr", "crlf", "lf"):
        raw = chat(standin, "anthropic", f"eol={eol}", stream=True)[2]
        end = {"cr": b"\r", "crlf": b"\r\n", "lf": b"\n"}[eol]
        assert raw.count(end) == plain.count(b"\n")
        assert raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n\n") == plain.count(b"\n\n")
    raw = chat(standin, "openai", "bom,comments,multi_data,no_space,no_blank", stream=True)[2]
    assert raw.startswith(b"\xef\xbb\xbf: a comment\n") and raw.endswith(b"data:[DONE]\n")
    first = raw.split(b"\n\n")[0].decode("utf-8-sig").split("\n")
    data = [line[5:] for line in first if line.startswith("data:")]
    assert len(data) > 5 and json.loads("\n".join(data))["object"] == "chat.completion.chunk"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_mixed_line_ends_keep_the_events_apart(standin, dialect):
    plain, mixed = (chat(standin, dialect, d, stream=True)[2] for d in ("", "eol=mixed,comments"))
    text = mixed.decode().replace("\r\n", "\n").replace("\r", "\n")
    assert len([b for b in text.split("\n\n") if "data:" in b]) == len(events(plain))


def test_one_line_of_a_mebibyte(standin):
    raw = chat(standin, "openai", "line_kb=1024", stream=True)[2]
    assert max(len(line) for line in raw.split(b"\n")) > 1024 * 1024


@pytest.mark.parametrize("dialect", DIALECTS)
def test_invalid_utf8_is_in_the_text(standin, dialect):
    for stream in (False, True):
        raw = chat(standin, dialect, "bad_utf8", stream=stream)[2]
        assert b"\xff\xfe" in raw
        with pytest.raises(UnicodeDecodeError):
            raw.decode()


@pytest.mark.parametrize("dialect,kind", [("openai", "server_error"), ("anthropic", "overloaded_error"),
                                          ("google", "UNAVAILABLE")])
def test_an_error_event_ends_the_stream(standin, dialect, kind):
    found = events(chat(standin, dialect, "error_event,after=2", stream=True)[2])
    assert len(found) == 3
    name, last = found[-1]
    assert kind in (last["error"].get("type"), last["error"].get("status"))
    assert name == ("error" if dialect == "anthropic" else None)


def test_a_stream_may_lack_its_final_event_or_its_finish_reason(standin):
    raw = chat(standin, "openai", "no_final", stream=True)[2]
    assert b"[DONE]" not in raw and b'"finish_reason":"stop"' in raw
    assert b'"finish_reason":"stop"' not in chat(standin, "openai", "no_finish", stream=True)[2]
    raw = chat(standin, "anthropic", "no_final", stream=True)[2]
    assert b"message_stop" not in raw and b"message_delta" in raw
    assert b"finishReason" not in chat(standin, "google", "no_finish", stream=True)[2]


def test_a_garbage_event_stands_between_good_ones(standin):
    raw = chat(standin, "openai", "garbage_event,after=2", stream=True)[2]
    blocks = raw.decode().split("\n\n")
    assert blocks[2] == 'data: {"broken": ["json' and blocks[-2] == "data: [DONE]"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_unknown_things_appear_beside_the_known(standin, dialect):
    for stream in (False, True):
        raw = chat(standin, dialect, "unknown", stream=stream)[2].decode()
        assert "ever" in raw and "eard" in raw and ("hello" in raw)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_finish_reason_can_be_anything(standin, dialect):
    for stream in (False, True):
        assert b'"odd_reason"' in chat(standin, dialect, "finish=odd_reason", stream=stream)[2]


def test_refusals_are_worded_by_vendor(standin):
    message = json.loads(chat(standin, "openai", "refuse")[2])["choices"][0]["message"]
    assert message["content"] is None and message["refusal"]
    assert json.loads(chat(standin, "anthropic", "refuse")[2])["stop_reason"] == "refusal"
    assert json.loads(chat(standin, "google", "refuse")[2])["candidates"][0]["finishReason"] == "SAFETY"
    blocked = json.loads(chat(standin, "google", "block")[2])
    assert "candidates" not in blocked and blocked["promptFeedback"]["blockReason"]


def test_usage_can_be_missing_or_changed(standin):
    assert "usage" not in json.loads(chat(standin, "openai", "no_usage")[2])
    assert b'"usage"' not in chat(standin, "anthropic", "no_usage", stream=True)[2]
    standin.control({"usage": {"prompt_tokens": 12345}})
    assert json.loads(chat(standin, "openai")[2])["usage"]["prompt_tokens"] == 12345
    usage = json.loads(chat(standin, "openai", "cached=500")[2])["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 500 <= usage["prompt_tokens"]


def test_thoughts_come_in_the_field_asked_for(standin):
    message = json.loads(chat(standin, "openai", "reasoning")[2])["choices"][0]["message"]
    assert message["reasoning_content"].startswith("Let me think")
    message = json.loads(chat(standin, "openai", "reasoning=reasoning")[2])["choices"][0]["message"]
    assert message["reasoning"].startswith("Let me think")
    kinds = [b["type"] for b in json.loads(chat(standin, "anthropic", "reasoning,redacted")[2])["content"]]
    assert kinds == ["thinking", "redacted_thinking", "text"]


# the wire

def test_requests_on_one_connection_are_answered_in_order(standin):
    with Raw(standin) as raw:
        raw.send(b"".join(raw_request("openai", f"text=answer{n}") for n in range(5))
                 + raw_request("openai", "text=last,close"))
        data = raw.all()
    places = [data.index(word.encode()) for word in [f"answer{n}" for n in range(5)] + ["last"]]
    assert places == sorted(places)
    assert [c["on_connection"] for c in standin.calls()] == [1, 2, 3, 4, 5, 6]


def test_chunked_requests_and_expect_are_understood(standin):
    body = json.dumps(chat_body("openai", "gpt-4o")).encode()
    head = "".join(f"{n}: {v}\r\n" for n, v in HEADERS["openai"].items())
    start = f"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\n{head}Connection: close\r\n"
    with Raw(standin) as raw:
        raw.send(f"{start}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        assert raw.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        for byte in body:
            raw.send(b"1\r\n%c\r\n" % byte)
        assert b"You said: hello there" in raw.send(b"0\r\n\r\n").all()


@pytest.mark.parametrize("head", [
    b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"])
def test_what_is_not_http_is_refused_and_the_connection_closed(standin, head):
    with Raw(standin) as raw:
        assert raw.send(head).all().startswith(b"HTTP/1.1 400 ")


def test_hundreds_of_streams_at_once_all_end_well(standin):
    good = []

    def run():
        raw = chat(standin, "openai", "chunks=20,gap_ms=5", stream=True, timeout=60)[2]
        good.append(raw.endswith(b"data: [DONE]\n\n"))

    threads = [threading.Thread(target=run) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [True] * 200


def test_it_restarts_on_the_same_port():
    with Standin() as standin:
        port = standin.port
        standin.control({"status": 500}, repeat=-1)
        standin.restart()
        assert standin.port == port and chat(standin, "openai")[0] == 200


def test_it_speaks_tls(tmp_path):
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
                    cert, "-days", "1", "-subj", "/CN=localhost"], check=True, capture_output=True)
    with Standin(tls=(cert, key)) as standin:
        assert standin.url.startswith("https://")
        assert events(chat(standin, "openai", stream=True)[2])[-1] == (None, "[DONE]")
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            chat(standin, "openai", "reset=headers")


def test_the_log_keeps_the_latest_bodies_and_lets_old_ones_go(standin):
    for n in range(12):
        chat(standin, "openai", text=str(n) + "x" * 3 * 1024 * 1024)
    kept = [call["body"] is not None for call in standin.calls()]
    assert kept == [False] * 2 + [True] * 10
    assert len(standin.calls(body=False)) == 12

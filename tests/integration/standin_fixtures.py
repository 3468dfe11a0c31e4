"""What the tests of the stand-in share: small helpers for its three dialects."""

import copy
import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from standin.client import KEYS  # noqa: E402

PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg"
       "==")
PNG_BYTES = 70
PDF = "JVBERi0xLjEKJSVFT0YK"
PDF_BYTES = 15
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
GONE = object()  # for edit(): take the field out

JSON = {"content-type": "application/json"}
HEADERS = {
    "openai": {**JSON, "authorization": f"Bearer {KEYS['openai']}"},
    "groq": {**JSON, "authorization": f"Bearer {KEYS['groq']}"},
    "ollama": JSON,
    "anthropic": {**JSON, "x-api-key": KEYS["anthropic"], "anthropic-version": "2023-06-01"},
    "google": {**JSON, "x-goog-api-key": KEYS["google"]},
}
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5", "google": "gemini-2.5-flash"}


def chat_path(dialect, model, stream=False):
    if dialect == "google":
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"/google/v1beta/models/{model}:{method}"
    return "/anthropic/v1/messages" if dialect == "anthropic" else "/openai/v1/chat/completions"


def chat_body(dialect, model, text="hello there", stream=False):
    if dialect == "google":
        return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    if dialect == "anthropic":
        body["max_tokens"] = 1000
    if stream:
        body["stream"] = True
    return body


def chat(standin, dialect, directives="", text="hello there", stream=False, **request):
    """(status, headers, raw body) of the simplest chat in that dialect under some directives."""
    model = MODELS[dialect] + ("~" + directives if directives else "")
    return standin.request("POST", chat_path(dialect, model, stream),
                           chat_body(dialect, model, text, stream), HEADERS[dialect], **request)


def post(standin, dialect, path, body, headers=None):
    """(status, parsed body) of a POST."""
    status, _, data = standin.request("POST", path, body, {**HEADERS[dialect], **(headers or {})})
    return status, json.loads(data)


def edit(value, path, new):
    """A deep copy of `value` with the place at `path` set to `new` (or removed, with GONE)."""
    value = copy.deepcopy(value)
    place = value
    for step in path[:-1]:
        place = place[step]
    if new is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return value


def events(raw):
    """[(event name or None, parsed data or text)] of an event stream with LF or CRLF."""
    out = []
    for block in raw.decode().replace("\r\n", "\n").split("\n\n"):
        name, data = None, []
        for line in block.split("\n"):
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data.append(line[6:])
        if data:
            text = "\n".join(data)
            out.append((name, text if text == "[DONE]" else json.loads(text)))
    return out


def text_of(dialect, body):
    if dialect == "openai":
        return body["choices"][0]["message"]["content"]
    if dialect == "anthropic":
        return "".join(b["text"] for b in body["content"] if b["type"] == "text")
    return "".join(p.get("text", "") for p in body["candidates"][0]["content"]["parts"]
                   if not p.get("thought"))


def with_tools(dialect, body, *names):
    if dialect == "openai":
        return {**body, "tools": [{"type": "function", "function": {"name": n, "parameters": WEATHER}}
                                  for n in names]}
    if dialect == "anthropic":
        return {**body, "tools": [{"name": n, "input_schema": WEATHER} for n in names]}
    return {**body, "tools": [{"functionDeclarations": [
        {"name": n, "parametersJsonSchema": WEATHER} for n in names]}]}


def anthropic_tool_turn():
    return {"model": "claude-haiku-4-5", "max_tokens": 3000, "system": "be brief", "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "12 degrees"}]}],
        "tools": [{"name": "weather", "input_schema": WEATHER}]}


def google_tool_turn():
    return {"systemInstruction": {"parts": [{"text": "be brief"}]}, "contents": [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {
            "name": "weather", "response": {"output": "12 degrees"}}}]}],
        "tools": [{"functionDeclarations": [{"name": "weather", "parameters": {
            "type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}]}],
        "generationConfig": {"temperature": 0.5}}


def raw_request(dialect, directives, stream=False, text="hello there"):
    """The bytes of a chat request, for tests on a bare socket."""
    model = MODELS[dialect] + "~" + directives
    body = json.dumps(chat_body(dialect, model, text, stream)).encode()
    head = f"POST {chat_path(dialect, model, stream)} HTTP/1.1\r\nHost: x\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS[dialect].items())
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Raw:
    """A bare socket to the stand-in."""

    def __init__(self, standin, timeout=20):
        self.sock = socket.create_connection(("127.0.0.1", standin.port), timeout)
        self.how = None  # after all(): "fin" or "reset"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)
        return self

    def all(self):
        """Everything until the other side ends the connection."""
        data = b""
        try:
            while True:
                part = self.sock.recv(65536)
                if not part:
                    self.how = "fin"
                    return data
                data += part
        except ConnectionResetError:
            self.how = "reset"
            return data

    def until(self, mark):
        """Everything up to and with the first occurrence of `mark`."""
        data = b""
        while mark not in data:
            part = self.sock.recv(65536)
            if not part:
                raise AssertionError(f"{mark!r} never came, but {data!r}")
            data += part
        return data

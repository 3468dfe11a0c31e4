"""The Anthropic dialect: messages, count_tokens, models; API versions 2023-06-01 and 2026-10-21."""

import json
import re

from . import brain, fields
from .anthropic_fields import COUNT, CREATE
from .anthropic_rules import bad, blocks_of, check_messages, check_parameters, traits
from .delivery import Answer, Event
from .dialect import ApiError, Dialect
from .fields import Violation

CATALOGUE = {
    "claude-haiku-4-5": "Claude Haiku 4.5", "claude-sonnet-4-5": "Claude Sonnet 4.5",
    "claude-sonnet-4-6": "Claude Sonnet 4.6", "claude-opus-4-8": "Claude Opus 4.8",
    "claude-sonnet-5": "Claude Sonnet 5", "claude-opus-5-5": "Claude Opus 5.5",
}
ERROR_TYPES = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
               403: "permission_error", 404: "not_found_error", 405: "invalid_request_error",
               413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
               504: "timeout_error", 529: "overloaded_error"}
MESSAGES = {429: "This request would exceed your organization's rate limit.", 529: "Overloaded",
            500: "Internal server error", 403: "Your API key does not have permission to use the "
            "specified resource.", 404: "Not Found"}
VERSIONS = tuple(CREATE)


def wording(violation):
    """The ApiError in which Anthropic tells a Violation."""
    v, where = violation, fields.dotted(violation.path)
    limit = v.info.get("limit")
    text = {
        "unknown": lambda: "Extra inputs are not permitted",
        "missing": lambda: "Field required",
        "type": lambda: f"Input should be a valid {_expected(v)}",
        "enum": lambda: "Input should be " + _or_list(v.info["allowed"]),
        "min": lambda: f"Input should be greater than or equal to {limit}",
        "max": lambda: f"Input should be less than or equal to {limit}",
        "short": lambda: f"{_unit(v)} should have at least {limit} item after validation",
        "long": lambda: f"{_unit(v)} should have at most {limit} items after validation",
        "pattern": lambda: f"String should match pattern '{v.info['pattern']}'",
    }[v.kind]()
    if v.kind == "short" and v.path == ("messages",):
        text = "at least one message is required"
    if v.kind == "enum" and v.info.get("tag") and v.path[-1] == "type":
        text = (f"Input tag '{v.value}' found using 'type' does not match any of the expected tags: "
                + ", ".join(f"'{a}'" for a in v.info["allowed"]))
    return bad(f"{where}: {text}")


def _expected(violation):
    spec = violation.info["expected"]
    words = {"object": "dictionary", "array": "list"}
    specs = getattr(spec, "specs", [spec])
    return " or ".join(words.get(s.json_type, s.json_type) for s in specs)


def _or_list(allowed):
    quoted = [f"'{a}'" for a in allowed]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]


def _unit(violation):
    return {list: "List", dict: "Dictionary"}.get(type(violation.value), "String")


class Anthropic(Dialect):
    # errors

    def error_body(self, fault, ctx):
        kind = fault.kind or ERROR_TYPES.get(
            fault.status, "api_error" if fault.status >= 500 else "invalid_request_error")
        message = fault.message or MESSAGES.get(fault.status, f"The request failed ({fault.status}).")
        return {"type": "error", "error": {"type": kind, "message": message},
                "request_id": ctx.brain.new_id("req_")}

    def error_headers(self, ctx):
        return [("request-id", ctx.brain.new_id("req_"))]

    @staticmethod
    def error_event(kind):
        return Event({"type": "error", "error": {"type": kind or "overloaded_error",
                                                 "message": "Overloaded"}}, name="error")

    # requests

    def handle(self, ctx):
        version = self._authenticate(ctx)
        path, method = ctx.path, ctx.req.method
        if path == "/models" and method == "GET":
            return self._models(ctx)
        if path.startswith("/models/") and method == "GET":
            name = path[len("/models/"):]
            self._known_model(name)
            return Answer.json(self._model_object(name))
        if path not in ("/messages", "/messages/count_tokens"):
            raise ApiError(404, "Not Found")
        if method != "POST":
            raise ApiError(405, "Method Not Allowed")
        if path == "/messages":
            return self._create(ctx, version)
        data = self._checked(ctx, COUNT, version)
        ask = to_ask(data, ctx.model)
        return Answer.json({"input_tokens": brain.tokens(ask.prompt_text_chars) + 3
                            + 85 * len(ask.media)}, 200, self.error_headers(ctx))

    def _authenticate(self, ctx):
        """The API version; x-api-key goes before Authorization, as with the vendor."""
        given = ctx.req.header("x-api-key")
        bearer = ctx.req.header("authorization") or ""
        if given is None and bearer.startswith("Bearer "):
            given = bearer[7:]
        if not given:
            raise ApiError(401, "x-api-key header is required")
        if given != self.key:
            raise ApiError(401, "invalid x-api-key")
        version = ctx.req.header("anthropic-version")
        if not version:
            raise bad("anthropic-version: header is required")
        if version not in VERSIONS:
            raise bad(f'anthropic-version: "{version}" is not a valid version')
        return version

    def _checked(self, ctx, spec, version):
        if not ctx.is_json_type():
            raise ApiError(415, "Unsupported Media Type: content-type must be application/json")
        if ctx.body_error or not isinstance(ctx.data, dict):
            raise bad(f"The request body is not valid JSON: {ctx.body_error or 'not an object'}")
        try:
            fields.check(spec, ctx.data)
        except Violation as violation:
            raise wording(violation) from None
        self._known_model(ctx.model)
        check_parameters(ctx.data, ctx.model, version)
        check_messages(ctx.data, ctx.model, version)
        return ctx.data

    @staticmethod
    def _known_model(model):
        if not model.startswith(("claude-", "standin")):
            raise ApiError(404, f"model: {model}")

    def _create(self, ctx, version):
        data = self._checked(ctx, CREATE[version], version)
        ask = to_ask(data, ctx.model)
        reply = ctx.brain.think(ask, ctx.behaviour, "toolu_")
        writer = Writer(ctx, data, reply)
        headers = self.error_headers(ctx)
        if data.get("stream"):
            return Answer(200, events=writer.events(), error_event=self.error_event,
                          content_type="text/event-stream; charset=utf-8",
                          headers=[*headers, ("Cache-Control", "no-cache")])
        return Answer.json(writer.whole(), 200, headers)

    def _models(self, ctx):
        data = [self._model_object(name) for name in CATALOGUE]
        return Answer.json({"data": data, "has_more": False, "first_id": data[0]["id"],
                            "last_id": data[-1]["id"]})

    @staticmethod
    def _model_object(name):
        t = traits(name)
        return {"type": "model", "id": name, "display_name": CATALOGUE.get(name, name),
                "created_at": "2026-01-01T00:00:00Z", "lifecycle": "active", "line": None,
                "deprecated_at": None, "retires_at": None, "capabilities": None,
                "max_input_tokens": 200000, "max_tokens": t.max_output}


def to_ask(data, model):
    """The Ask of a checked request."""
    ask = brain.Ask(dialect="anthropic", model=model, stream=bool(data.get("stream")))
    system = data.get("system") or ""
    if isinstance(system, list):
        ask.cache_marked = any(block.get("cache_control") for block in system)
        system = "".join(block["text"] for block in system)
    ask.cache_marked = ask.cache_marked or data.get("cache_control") is not None
    ask.system = system
    ask.prompt_text_chars = len(system)
    names = {}
    for message in data["messages"]:
        turn = _Turn()
        for index, block in enumerate(blocks_of(message)):
            turn.add(block, names)
        ask.prompt_text_chars += turn.chars
        if message["role"] == "user":
            ask.last_user, ask.media, ask.results = turn.text, turn.media, turn.results
        else:
            ask.results = []
    for tool in data.get("tools") or []:
        ask.prompt_text_chars += len(json.dumps(tool))
        if "input_schema" in tool:
            ask.tools[tool["name"]] = tool["input_schema"]
    choice = data.get("tool_choice") or {"type": "auto"}
    ask.tool_mode = {"auto": "auto", "any": "any", "tool": "named", "none": "none"}[choice["type"]]
    ask.tool_name = choice.get("name")
    ask.parallel = not choice.get("disable_parallel_tool_use", False)
    form = (data.get("output_config") or {}).get("format")
    ask.schema = form["schema"] if form else None
    ask.thinking = (data.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    ask.max_tokens = data.get("max_tokens")
    ask.stops = data.get("stop_sequences") or []
    return ask


class _Turn:
    """What one message holds."""

    def __init__(self):
        self.text, self.media, self.results, self.chars = "", [], [], 0

    def add(self, block, names):
        kind = block["type"]
        if kind == "text":
            self.text += block["text"]
            self.chars += len(block["text"])
        elif kind in ("image", "document"):
            self.media.append(self._source(kind, block["source"]))
        elif kind == "tool_use":
            names[block["id"]] = block["name"]
            self.chars += len(json.dumps(block["input"]))
        elif kind == "tool_result":
            inner = _Turn()
            content = block.get("content") or ""
            for part in blocks_of({"content": content}):
                if part["type"] in ("text", "image", "document"):
                    inner.add(part, names)
            self.media += inner.media
            self.chars += inner.chars
            text = ("error: " if block.get("is_error") else "") + inner.text
            self.results.append((names.get(block["tool_use_id"], "?"), block["tool_use_id"], text))
        elif kind == "thinking":
            self.chars += len(block["thinking"])

    @staticmethod
    def _source(kind, source):
        if source["type"] == "base64":
            try:
                return source["media_type"], brain.media_size(source["data"]), None
            except ValueError:
                raise bad(f"messages: {kind}.source.base64.data: Invalid base64 data") from None
        if source["type"] == "url":
            if not source["url"].startswith(("http://", "https://")):
                raise bad("messages: Only HTTP and HTTPS URLs are supported")
            return "image/*" if kind == "image" else "application/pdf", None, source["url"]
        if source["type"] == "text":
            return source["media_type"], len(source["data"].encode()), None
        return kind, None, source.get("file_id") or "inline content"


class Writer:
    """Words a Reply as a message, whole or as events."""

    FINISH = {"stop": "end_turn", "stop_string": "stop_sequence", "length": "max_tokens",
              "tools": "tool_use", "refused": "refusal"}

    def __init__(self, ctx, data, reply):
        self.ctx, self.b, self.reply = ctx, ctx.behaviour, reply
        self.id = ctx.brain.new_id("msg_")
        self.finish = self.b.get("finish", self.FINISH[reply.finish])
        shown = (data.get("thinking") or {}).get("display")
        hidden = shown == "omitted" or (shown is None and traits(ctx.model).hides_thoughts)
        self.thoughts = "" if hidden else reply.thoughts

    def _usage(self, output, start=False):
        r = self.reply
        fresh = r.prompt_tokens - r.cached_tokens - r.cache_write_tokens
        zero = start and self.b.get("zero_start")
        out = {
            "input_tokens": 0 if zero else fresh,
            "cache_creation_input_tokens": 0 if zero else r.cache_write_tokens,
            "cache_read_input_tokens": 0 if zero else r.cached_tokens,
            "output_tokens": output,
        }
        if not start:
            out["output_tokens_details"] = {"thinking_tokens": r.thought_tokens}
            out["server_tool_use"] = None
        return out

    def _message_usage(self, output, start=False):
        out = self._usage(output, start)
        out.update(cache_creation={"ephemeral_5m_input_tokens": out["cache_creation_input_tokens"],
                                   "ephemeral_1h_input_tokens": 0},
                   inference_geo="not_available", service_tier="standard", server_tool_use=None,
                   speed=None, output_tokens_details={"thinking_tokens": self.reply.thought_tokens})
        return out

    def _output_tokens(self):
        return self.reply.output_tokens + self.reply.thought_tokens

    def _delta(self):
        details = None
        if self.finish == "refusal":
            details = {"type": "refusal", "category": None, "explanation": None}
        return {"stop_reason": self.finish, "stop_sequence": self.reply.stop_string,
                "stop_details": details, "container": None}

    def _message(self, content, usage):
        out = {"id": self.id, "type": "message", "role": "assistant", "model": self.ctx.model,
               "content": content, "stop_reason": None, "stop_sequence": None, "stop_details": None,
               "container": None, "diagnostics": None, "usage": usage}
        if self.b.get("unknown"):
            out["never_heard_of"] = {"a": 1}
        return out

    def whole(self):
        content = []
        if self.reply.thoughts is not None:
            content.append({"type": "thinking", "thinking": self.thoughts,
                            "signature": brain.sign("thinking", self.thoughts)})
        if self.b.get("redacted"):
            content.append({"type": "redacted_thinking", "data": brain.sign("redacted")})
        text = brain.full_text(self.reply)
        if text:
            content.append({"type": "text", "text": text, "citations": None})
        for call in self.reply.calls:
            content.append({"type": "tool_use", "id": call.id, "name": call.name,
                            "input": call.arguments, "caller": {"type": "direct"}})
        if self.b.get("unknown"):
            content.append({"type": "something_new", "value": 1})
        usage = {**self._message_usage(self._output_tokens()), **(self.b.get("usage") or {})}
        out = {**self._message(content, usage), **self._delta()}
        if self.b.get("no_usage"):
            del out["usage"]
        return out

    @staticmethod
    def _event(kind, role="data", **rest):
        return Event({"type": kind, **rest}, name=kind, role=role)

    def events(self):
        start = self._message([], self._message_usage(1, start=True))
        if self.b.get("no_usage"):
            del start["usage"]
        yield self._event("message_start", message=start)
        for index, block in enumerate(self._blocks()):
            head, deltas = block
            yield self._event("content_block_start", index=index, content_block=head)
            if index == 0:
                yield self._event("ping")
                if self.b.get("unknown"):
                    yield self._event("something_new", index=0, value=[1, 2])
            for delta in deltas:
                yield self._event("content_block_delta", index=index, delta=delta)
            yield self._event("content_block_stop", index=index)
        usage = {**self._usage(self._output_tokens()), **(self.b.get("usage") or {})}
        rest = {"delta": self._delta(), "usage": usage}
        if self.b.get("no_usage"):
            del rest["usage"]
        yield self._event("message_delta", role="finish", **rest)
        yield self._event("message_stop", role="final")

    def _blocks(self):
        """(content_block of the start event, its deltas) for each block."""
        if self.reply.thoughts is not None:
            yield {"type": "thinking", "thinking": "", "signature": ""}, self._thinking_deltas()
        if self.b.get("redacted"):
            yield {"type": "redacted_thinking", "data": brain.sign("redacted")}, []
        if self.reply.finish != "tools":
            yield {"type": "text", "text": "", "citations": None}, self._text_deltas()
        for call in self.reply.calls:
            head = {"type": "tool_use", "id": call.id, "name": call.name, "input": {},
                    "caller": {"type": "direct"}}
            yield head, self._json_deltas(call)
        if self.b.get("unknown"):
            yield {"type": "something_new", "value": 1}, [{"type": "new_delta", "value": 2}]

    def _thinking_deltas(self):
        for piece in re.findall(r"\S+\s*|\s+", self.thoughts):
            yield {"type": "thinking_delta", "thinking": piece}
        yield {"type": "signature_delta", "signature": brain.sign("thinking", self.thoughts)}

    def _text_deltas(self):
        for piece in self.reply.pieces:
            yield {"type": "text_delta", "text": piece}

    def _json_deltas(self, call):
        yield {"type": "input_json_delta", "partial_json": ""}
        step = self.b.get("split_args", 8)
        for at in range(0, len(call.raw), step):
            yield {"type": "input_json_delta", "partial_json": call.raw[at : at + step]}

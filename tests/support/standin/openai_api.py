"""The OpenAI dialect: chat completions, embeddings, models; also as spoken by Groq and Ollama."""

import base64
import json
import re
import struct
import time

from . import brain, fields, schema
from .delivery import Answer, Event
from .dialect import ApiError, Dialect
from .fields import Obj, Violation
from .openai_fields import CHAT, EMBEDDINGS, GROQ_EXTRA, GROQ_REFUSED

CATALOGUE = {
    "openai": ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-5", "gpt-5-mini", "o3",
               "o4-mini", "text-embedding-3-small", "text-embedding-3-large"],
    "groq": ["llama-3.3-70b-versatile", "llama-3.1-8b-instant", "openai/gpt-oss-120b",
             "qwen/qwen3-32b"],
    "ollama": ["llama3.2", "qwen3", "nomic-embed-text"],
}
KNOWN = re.compile(r"^(gpt-|o\d|chatgpt-|text-embedding-|standin)")
THINKERS = re.compile(r"^(o\d|gpt-5|qwen|openai/gpt-oss|deepseek)")
STRICT_THINKERS = re.compile(r"^(o\d|gpt-5)")
DIMENSIONS = {"text-embedding-3-large": 3072, "nomic-embed-text": 768}
CREATED = 1700000000
TYPE_NAMES = {"string": "a string", "integer": "an integer", "number": "a decimal",
              "boolean": "a boolean", "array": "an array", "object": "an object", "null": "null"}
ERROR_TYPES = {400: "invalid_request_error", 401: "invalid_request_error", 403: "invalid_request_error",
               404: "invalid_request_error", 405: "invalid_request_error",
               413: "invalid_request_error", 429: "rate_limit_exceeded", 500: "server_error",
               503: "server_error"}
ERROR_CODES = {401: "invalid_api_key", 403: "unsupported_country_region_territory",
               429: "rate_limit_exceeded"}
MESSAGES = {429: "Rate limit reached for requests. Please try again later.",
            500: "The server had an error while processing your request. Sorry about that!",
            503: "The engine is currently overloaded, please try again later."}


def wording(violation):
    """The ApiError in which OpenAI tells a Violation."""
    v, where = violation, fields.bracketed(violation.path)
    got = TYPE_NAMES[fields.json_type_of(v.value)] if v.kind == "type" else ""
    unit = "decimal" if isinstance(v.value, float) else "integer"
    word = "array" if isinstance(v.value, list) else "object" if isinstance(v.value, dict) else "string"
    limit = v.info.get("limit")
    text, code = {
        "unknown": lambda: (f"Unknown parameter: '{where}'.", "unknown_parameter"),
        "missing": lambda: (f"Missing required parameter: '{where}'.", "missing_required_parameter"),
        "type": lambda: (f"Invalid type for '{where}': expected {_expected(v)}, but got {got} "
                         "instead.", "invalid_type"),
        "enum": lambda: (f"Invalid value: '{v.value}'. Supported values are: "
                         + ", ".join(f"'{a}'" for a in v.info["allowed"]) + ".", "invalid_value"),
        "min": lambda: (f"Invalid '{where}': {unit} below minimum value. Expected a value >= {limit}, "
                        f"but got {v.value} instead.", f"{unit}_below_min_value"),
        "max": lambda: (f"Invalid '{where}': {unit} above maximum value. Expected a value <= {limit}, "
                        f"but got {v.value} instead.", f"{unit}_above_max_value"),
        "short": lambda: (f"Invalid '{where}': empty {word}. Expected {TYPE_NAMES[word]} with minimum "
                          f"length {limit}, but got an empty {word} instead.", f"empty_{word}"),
        "long": lambda: (f"Invalid '{where}': {word} too long. Expected {TYPE_NAMES[word]} with maximum "
                         f"length {limit}, but got length {len(v.value)} instead.",
                         f"{word}_above_max_length"),
        "pattern": lambda: (f"Invalid '{where}': string does not match pattern. Expected a string that "
                            f"matches the pattern '{v.info['pattern']}'.", "invalid_value"),
    }[v.kind]()
    return ApiError(400, text, param=where, code=code)


def _expected(violation):
    spec = violation.info["expected"]
    if isinstance(spec, fields.Either):
        return "one of " + " or ".join(TYPE_NAMES[s.json_type] for s in spec.specs)
    return TYPE_NAMES.get(spec.json_type, "something else")


class OpenAI(Dialect):
    def __init__(self, name, prefix, key):
        super().__init__(name, prefix, key)
        self.chat = CHAT
        if name == "groq":
            known = {n: s for n, s in CHAT.fields.items() if n not in GROQ_REFUSED}
            known = {f"{n}!" if n in CHAT.required else n: s for n, s in known.items()}
            self.chat = Obj({**known, **GROQ_EXTRA})
        elif name == "ollama":
            known = {f"{n}!" if n in CHAT.required else n: s for n, s in CHAT.fields.items()}
            self.chat = Obj(known, open_ended=True)

    # errors

    def error_body(self, fault, ctx):
        kind = fault.kind or ERROR_TYPES.get(
            fault.status, "server_error" if fault.status >= 500 else "invalid_request_error")
        code = fault.code if fault.code is not None else ERROR_CODES.get(fault.status)
        message = fault.message or MESSAGES.get(fault.status, f"The request failed ({fault.status}).")
        return {"error": {"message": message, "type": kind, "param": fault.param, "code": code}}

    def error_headers(self, ctx):
        return [("x-request-id", ctx.brain.new_id("req_"))]

    def error_event(self, kind):
        return Event({"error": {
            "message": MESSAGES[500], "type": kind or "server_error", "param": None, "code": None}})

    # requests

    def handle(self, ctx):
        self._authenticate(ctx)
        routes = {"/chat/completions": ("POST", self._chat), "/embeddings": ("POST", self._embed),
                  "/models": ("GET", self._models)}
        path = ctx.path
        if path.startswith("/models/") and ctx.req.method == "GET":
            return self._model(ctx, path[len("/models/"):])
        if path not in routes:
            raise ApiError(404, f"Invalid URL ({ctx.req.method} /v1{path})")
        method, handler = routes[path]
        if ctx.req.method != method:
            raise ApiError(405, f"Not allowed to {ctx.req.method} on /v1{path}. "
                                f"(HINT: Perhaps you meant to {method}?)", code="method_not_supported")
        return handler(ctx)

    def _authenticate(self, ctx):
        if self.key is None:
            return
        given = ctx.req.header("authorization") or ""
        if not given.startswith("Bearer ") or not given[7:]:
            raise ApiError(401, "You didn't provide an API key. You need to provide your API key in an "
                                "Authorization header using Bearer auth (i.e. Authorization: Bearer "
                                "YOUR_KEY).")
        if given[7:] != self.key:
            hidden = given[7:10] + "***" + given[-4:]
            raise ApiError(401, f"Incorrect API key provided: {hidden}.", code="invalid_api_key")

    def _checked(self, ctx, spec):
        if not ctx.is_json_type():
            kind = ctx.req.header("content-type")
            raise ApiError(400, f"Unsupported content type: '{kind}'. This API method only accepts "
                                "'application/json' requests.", code="unsupported_content_type")
        if ctx.body_error or not isinstance(ctx.data, dict):
            raise ApiError(400, "We could not parse the JSON body of your request. (HINT: This likely "
                                f"means you aren't using your HTTP library correctly. {ctx.body_error})")
        try:
            fields.check(spec, ctx.data)
        except Violation as violation:
            raise wording(violation) from None
        self._known_model(ctx.model)
        return ctx.data

    def _known_model(self, model):
        known = KNOWN.match(model) if self.name == "openai" else not model.startswith("no-such")
        if not known:
            raise ApiError(404, f"The model `{model}` does not exist or you do not have access to it.",
                           code="model_not_found")

    def _chat(self, ctx):
        data = self._checked(ctx, self.chat)
        check_rules(data, ctx.model, self.name)
        ask = to_ask(data, ctx.model, self.name)
        reply = ctx.brain.think(ask, ctx.behaviour)
        writer = Writer(ctx, data, reply)
        if data.get("stream"):
            return Answer(200, events=writer.events(), error_event=self.error_event,
                          content_type="text/event-stream; charset=utf-8",
                          headers=[*self.error_headers(ctx), ("Cache-Control", "no-cache")])
        return Answer.json(writer.whole(), 200, self.error_headers(ctx))

    def _embed(self, ctx):
        data = self._checked(ctx, EMBEDDINGS)
        given = data["input"]
        if isinstance(given, str) or isinstance(given[0], int):
            given = [given]
        if len({type(text) for text in given}) != 1:
            raise ApiError(400, "Invalid type for 'input': expected strings or token arrays, not both.",
                           param="input", code="invalid_type")
        texts = [text if isinstance(text, str) else " ".join(map(str, text)) for text in given]
        size = DIMENSIONS.get(ctx.model, 1536)
        if "dimensions" in data:
            if ctx.model == "text-embedding-ada-002":
                raise ApiError(400, "This model does not support specifying dimensions.")
            if data["dimensions"] > size:
                raise ApiError(400, f"Invalid value for 'dimensions' = {data['dimensions']}. Must be "
                                    f"less than or equal to {size}.", param="dimensions")
            size = data["dimensions"]
        out = []
        for index, text in enumerate(texts):
            vector = brain.embedding(text, size)
            if data.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
            out.append({"object": "embedding", "index": index, "embedding": vector})
        used = sum(brain.tokens(len(text)) for text in texts)
        return Answer.json({"object": "list", "data": out, "model": ctx.model,
                            "usage": {"prompt_tokens": used, "total_tokens": used}})

    def _models(self, ctx):
        return Answer.json({"object": "list",
                            "data": [self._model_object(m) for m in CATALOGUE[self.name]]})

    def _model(self, ctx, name):
        self._known_model(name)
        return Answer.json(self._model_object(name))

    def _model_object(self, name):
        return {"id": name, "object": "model", "created": CREATED, "owned_by": self.name}


def check_rules(data, model, dialect):
    """What no type definition says: the order of messages, and what a model cannot do."""
    _check_order(data["messages"])
    tools = data.get("tools")
    if "tool_choice" in data and not tools and data["tool_choice"] != "none":
        raise ApiError(400, "'tool_choice' is only allowed when 'tools' are specified.",
                       param="tool_choice")
    if "parallel_tool_calls" in data and not tools:
        raise ApiError(400, "'parallel_tool_calls' is only allowed when 'tools' are specified.",
                       param="parallel_tool_calls")
    choice = data.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] == "function":
        names = [t["function"]["name"] for t in tools if t["type"] == "function"]
        if choice["function"]["name"] not in names:
            raise ApiError(400, f"Tool choice 'function' not found in 'tools' parameter.",
                           param="tool_choice")
    if data.get("stream_options") is not None and not data.get("stream"):
        raise ApiError(400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                       param="stream_options")
    if data.get("top_logprobs") is not None and not data.get("logprobs"):
        raise ApiError(400, "'top_logprobs' requires 'logprobs' to be true.", param="top_logprobs")
    _check_schemas(data)
    if dialect == "openai":
        _check_model(data, model)


def _check_order(messages):
    open_ids = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if not open_ids:
                raise ApiError(400, "Invalid parameter: messages with role 'tool' must be a response to "
                                    "a preceeding message with 'tool_calls'.",
                               param=f"messages.[{index}].role")
            if message["tool_call_id"] not in open_ids:
                raise ApiError(400, f"Invalid parameter: 'tool_call_id' of '{message['tool_call_id']}' "
                                    "not found in 'tool_calls' of previous message.",
                               param=f"messages.[{index}].tool_call_id")
            open_ids.remove(message["tool_call_id"])
            continue
        _all_answered(open_ids, index)
        if message["role"] == "assistant":
            calls = message.get("tool_calls") or []
            open_ids = [call["id"] for call in calls]
            if len(set(open_ids)) != len(open_ids):
                raise ApiError(400, "Duplicate value for 'tool_call_id'.", param="messages")
            has_content = message.get("content") is not None or message.get("refusal") is not None
            if not calls and not has_content and not message.get("function_call"):
                raise ApiError(400, f"Invalid value for 'content': expected a string, got null.",
                               param=f"messages.[{index}].content", code=None)
    _all_answered(open_ids, len(messages))


def _all_answered(open_ids, index):
    if open_ids:
        raise ApiError(400, "An assistant message with 'tool_calls' must be followed by tool messages "
                            "responding to each 'tool_call_id'. The following tool_call_ids did not "
                            f"have response messages: {', '.join(open_ids)}",
                       param=f"messages.[{index}].role")


def _check_schemas(data):
    wanted = data.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        inner = wanted["json_schema"]
        _valid(inner.get("schema") or {}, f"response_format '{inner['name']}'", "response_format")
        if inner.get("strict"):
            _strict(inner.get("schema") or {}, f"response_format '{inner['name']}'", "response_format")
    elif wanted.get("type") == "json_object" and "json" not in json.dumps(data["messages"]).lower():
        raise ApiError(400, "'messages' must contain the word 'json' in some form, to use "
                            "'response_format' of type 'json_object'.", param="messages")
    for index, tool in enumerate(data.get("tools") or []):
        if tool["type"] == "function":
            function = tool["function"]
            where = f"tools[{index}].function.parameters"
            given = function.get("parameters")
            if given and given.get("type") != "object":
                raise ApiError(400, f"Invalid schema for function '{function['name']}': schema must be a "
                                    f"JSON Schema of 'type: \"object\"', got 'type: "
                                    f"\"{given.get('type')}\"'.",
                               param=where, code="invalid_function_parameters")
            _valid(given or {}, f"function '{function['name']}'", where)
            if function.get("strict"):
                _strict(given or {}, f"function '{function['name']}'", where)


def _valid(given, what, param):
    problem = schema.problem(given)
    if problem:
        raise ApiError(400, f"Invalid schema for {what}: {problem}.", param=param,
                       code="invalid_function_parameters" if param != "response_format" else None)


def _strict(given, what, param):
    fault = schema.strict_fault(given)
    if fault is None:
        return
    path, word = fault
    says = ("'additionalProperties' is required to be supplied and to be false."
            if word == "additionalProperties" else
            "'required' is required to be supplied and to be an array including every key in properties.")
    raise ApiError(400, f"Invalid schema for {what}: In context={tuple(path)}, {says}", param=param)


def _check_model(data, model):
    if THINKERS.match(model):
        if data.get("max_tokens") is not None:
            raise ApiError(400, "Unsupported parameter: 'max_tokens' is not supported with this model. "
                                "Use 'max_completion_tokens' instead.", param="max_tokens",
                           code="unsupported_parameter")
        if data.get("reasoning_effort") != "none" and STRICT_THINKERS.match(model):
            for name, default in (("temperature", 1), ("top_p", 1), ("presence_penalty", 0),
                                  ("frequency_penalty", 0)):
                if data.get(name) not in (None, default):
                    raise ApiError(400, f"Unsupported value: '{name}' does not support {data[name]} with "
                                        f"this model. Only the default ({default}) value is supported.",
                                   param=name, code="unsupported_value")
    elif data.get("reasoning_effort") is not None and not model.startswith("standin"):
        raise ApiError(400, "Unrecognized request argument supplied: reasoning_effort")
    if data.get("max_tokens") is not None and data.get("max_completion_tokens") is not None:
        raise ApiError(400, "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not "
                            "supported.", code="invalid_parameter_combination")


def to_ask(data, model, dialect):
    """The Ask of a checked chat request."""
    ask = brain.Ask(dialect=dialect, model=model, stream=bool(data.get("stream")))
    names = {}  # tool call id -> tool name
    for index, message in enumerate(data["messages"]):
        text, media = _content(message.get("content"), f"messages[{index}].content")
        ask.prompt_text_chars += len(text)
        if message["role"] in ("system", "developer"):
            ask.system += text
        elif message["role"] == "user":
            ask.last_user, ask.media, ask.results = text, media, []
        elif message["role"] == "assistant":
            ask.results = []
            for call in message.get("tool_calls") or []:
                inner = call.get("function") or call["custom"]
                names[call["id"]] = inner["name"]
                ask.prompt_text_chars += len(inner.get("arguments") or inner.get("input") or "")
        elif message["role"] == "tool":
            call_id = message["tool_call_id"]
            ask.results.append((names.get(call_id, "?"), call_id, text))
    for tool in data.get("tools") or []:
        if tool["type"] == "function":
            ask.tools[tool["function"]["name"]] = tool["function"].get("parameters") or {"type": "object"}
            ask.prompt_text_chars += len(json.dumps(tool))
    choice = data.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] == "function":
        ask.tool_mode, ask.tool_name = "named", choice["function"]["name"]
    elif isinstance(choice, str):
        ask.tool_mode = {"none": "none", "auto": "auto", "required": "any"}[choice]
    ask.parallel = data.get("parallel_tool_calls", True)
    wanted = data.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        ask.schema = wanted["json_schema"].get("schema") or {}
    ask.json_mode = wanted.get("type") == "json_object"
    ask.max_tokens = data.get("max_completion_tokens") or data.get("max_tokens")
    stop = data.get("stop") or []
    ask.stops = [stop] if isinstance(stop, str) else stop
    if THINKERS.match(model) or model.startswith("standin"):
        ask.thinking = data.get("reasoning_effort", None) not in (None, "none")
    return ask


def _content(content, where):
    """(text, media) of a message's content; media as brain.Ask has them."""
    if content is None or isinstance(content, str):
        return content or "", []
    text, media = "", []
    for index, part in enumerate(content):
        here = f"{where}[{index}]"
        if part["type"] in ("text", "refusal"):
            text += part.get("text") or part.get("refusal") or ""
        elif part["type"] == "image_url":
            media.append(_media(part["image_url"]["url"], f"{here}.image_url.url", "image/"))
        elif part["type"] == "input_audio":
            media.append(("audio/" + part["input_audio"]["format"],
                          _size(part["input_audio"]["data"], here), None))
        elif part["type"] == "file":
            file = part["file"]
            if "file_id" in file:
                media.append(("application/octet-stream", None, file["file_id"]))
            elif "file_data" in file and "filename" in file:
                media.append(_media(file["file_data"], f"{here}.file.file_data", "application/pdf"))
            else:
                raise ApiError(400, f"Missing required parameter: '{here}.file.file_id'.",
                               param=f"{here}.file.file_id", code="missing_required_parameter")
    return text, media


def _media(url, where, kind):
    if url.startswith(("http://", "https://")):
        return kind + "*", None, url
    match = re.match(r"data:([\w.+/-]+);base64,", url)
    if not match or not match.group(1).startswith(kind):
        raise ApiError(400, f"Invalid '{where}'. Expected a base64-encoded data URL with a {kind} MIME "
                            "type (e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got a value "
                            "that is not one.", param=where, code="invalid_value")
    if kind == "image/" and match.group(1)[6:] not in ("png", "jpeg", "gif", "webp"):
        raise ApiError(400, "You uploaded an unsupported image. Please make sure your image has of one "
                            "the following formats: ['png', 'jpeg', 'gif', 'webp'].",
                       param=where, code="invalid_image_format")
    return match.group(1), _size(url[match.end():], where), None


def _size(encoded, where):
    try:
        return brain.media_size(encoded)
    except ValueError:
        raise ApiError(400, f"Invalid '{where}': the base64 data cannot be decoded.", param=where,
                       code="invalid_base64") from None


class Writer:
    """Words a Reply as a chat completion, whole or as chunks."""

    FINISH = {"stop": "stop", "stop_string": "stop", "length": "length", "tools": "tool_calls",
              "refused": "stop"}

    def __init__(self, ctx, data, reply):
        self.ctx = ctx
        self.b = ctx.behaviour
        self.reply = reply
        self.count = data.get("n") or 1
        self.include_usage = bool((data.get("stream_options") or {}).get("include_usage"))
        self.head = {"id": ctx.brain.new_id("chatcmpl-"), "object": "chat.completion",
                     "created": int(time.time()), "model": ctx.model}
        self.finish = self.b.get("finish", self.FINISH[reply.finish])
        field = self.b.get("reasoning")
        self.thoughts_field = None
        if field is not None:
            self.thoughts_field = "reasoning_content" if field in ("", "1") else field
        elif ctx.call.dialect != "openai" and reply.thoughts:
            self.thoughts_field = "reasoning"
        self.refused = bool(self.b.get("refuse"))

    def usage(self):
        r = self.reply
        if self.b.get("no_usage"):
            return None
        out = {
            "prompt_tokens": r.prompt_tokens,
            "completion_tokens": (r.output_tokens + r.thought_tokens) * self.count,
            "total_tokens": r.prompt_tokens + (r.output_tokens + r.thought_tokens) * self.count,
            "prompt_tokens_details": {"cached_tokens": r.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": r.thought_tokens * self.count, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        }
        out.update(self.b.get("usage") or {})
        return out

    def _tool_calls(self):
        return [{"id": call.id, "type": "function",
                 "function": {"name": call.name, "arguments": call.raw}} for call in self.reply.calls]

    def whole(self):
        text = brain.full_text(self.reply)
        message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        if self.refused:
            message["content"], message["refusal"] = None, text
        if self.thoughts_field:
            message[self.thoughts_field] = self.reply.thoughts
        if self.reply.calls:
            message["content"], message["tool_calls"] = None, self._tool_calls()
        if self.b.get("unknown"):
            message["never_heard_of"] = {"a": [1, 2, 3]}
        choices = [{"index": i, "message": message, "logprobs": None, "finish_reason": self.finish}
                   for i in range(self.count)]
        out = {**self.head, "choices": choices, "usage": self.usage(),
               "service_tier": "default", "system_fingerprint": "fp_standin"}
        if out["usage"] is None:
            del out["usage"]
        if self.b.get("unknown"):
            out["never_heard_of"] = True
        return out

    def _chunk(self, choices):
        out = {**self.head, "object": "chat.completion.chunk", "service_tier": "default",
               "system_fingerprint": "fp_standin", "choices": choices}
        if self.include_usage:
            out["usage"] = None
        return out

    def _delta(self, delta, finish=None, index=0, role="data"):
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        if self.b.get("unknown"):
            choice["never_heard_of"] = {"x": 1}
        return Event(self._chunk([choice]), role=role)

    def events(self):
        for index in range(self.count):
            start = {"role": "assistant", "content": "", "refusal": None}
            if self.reply.calls:
                start["content"] = None
            yield self._delta(start, index=index)
        if self.b.get("unknown"):
            yield Event({"object": "something.new", "id": self.head["id"], "choices": []})
        if self.thoughts_field:
            for piece in re.findall(r"\S+\s*", self.reply.thoughts):
                yield self._delta({self.thoughts_field: piece})
        key = "refusal" if self.refused else "content"
        for piece in self.reply.pieces:
            for index in range(self.count):
                yield self._delta({key: piece}, index=index)
        yield from self._call_events()
        for index in range(self.count):
            yield self._delta({}, self.finish, index, role="finish")
        usage = self.usage()
        if self.include_usage and usage is not None:
            yield Event({**self._chunk([]), "usage": usage})
        yield Event("[DONE]", role="final")

    def _call_events(self):
        for number, call in enumerate(self.reply.calls):
            yield self._delta({"tool_calls": [{
                "index": number, "id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": ""}}]})
            step = self.b.get("split_args", 8)
            for at in range(0, len(call.raw), step):
                yield self._delta({"tool_calls": [{
                    "index": number, "function": {"arguments": call.raw[at : at + step]}}]})

"""The Google dialect: generateContent, streamGenerateContent, countTokens, embeddings, models."""

import copy
import re

from . import brain, fields
from .delivery import Answer, Event, to_bytes
from .dialect import ApiError, Dialect
from .fields import Violation, snake
from .google_fields import BATCH_EMBED, COUNT, EMBED, GENERATE
from .google_rules import (bad, call_signature, check_config, check_contents, check_signatures,
                           text_signature, version_of)

CATALOGUE = ["gemini-2.0-flash", "gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-pro-preview",
             "gemini-3.5-flash", "gemini-embedding-001"]
STATUS_NAMES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED",
                404: "NOT_FOUND", 409: "ABORTED", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED",
                500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
MESSAGES = {429: "You exceeded your current quota, please check your plan and billing details.",
            500: "An internal error has occurred. Please retry or report.",
            503: "The model is overloaded. Please try again later."}
TYPE_NAMES = {"string": "TYPE_STRING", "integer": "TYPE_INT32", "number": "TYPE_DOUBLE",
              "boolean": "TYPE_BOOL"}
METHODS = ("generateContent", "streamGenerateContent", "countTokens", "embedContent",
           "batchEmbedContents")


def wording(violation):
    """The ApiError in which Google tells a Violation."""
    v = violation
    steps = tuple(snake(s) if isinstance(s, str) and i < len(v.path) - 1 else s
                  for i, s in enumerate(v.path))
    where = fields.bracketed(tuple(snake(s) if isinstance(s, str) else s for s in v.path))
    if v.kind == "unknown":
        parent = fields.bracketed(steps[:-1])
        at = f" at '{parent}'" if parent else ""
        text = f"Invalid JSON payload received. Unknown name \"{v.path[-1]}\"{at}: Cannot find field."
    elif v.kind == "type" and isinstance(v.value, list):
        text = (f"Invalid JSON payload received. Unknown name \"{v.path[-1]}\" at "
                f"'{fields.bracketed(steps[:-1])}': Proto field is not repeating, cannot start list.")
    elif v.kind == "type":
        kind = TYPE_NAMES.get(v.info["expected"].json_type, "Map")
        shown = f'"{v.value}"' if isinstance(v.value, str) else v.value
        text = f"Invalid value at '{where}' ({kind}), {shown}"
    elif v.kind == "enum":
        text = f"Invalid value at '{where}' (TYPE_ENUM), \"{v.value}\""
    else:
        text = f"Invalid value at '{where}': {v.kind} {v.info.get('limit', '')}".rstrip()
    return ApiError(400, text, details=[{
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": fields.bracketed(steps[:-1]), "description": text}]}])


class Google(Dialect):
    def __init__(self, name, prefix, key):
        super().__init__(name, prefix, key)
        self.issued = set()  # signatures of calls that were made

    # errors

    def error_body(self, fault, ctx):
        status = fault.kind or STATUS_NAMES.get(
            fault.status, "INTERNAL" if fault.status >= 500 else "INVALID_ARGUMENT")
        message = fault.message or MESSAGES.get(fault.status, f"The request failed ({fault.status}).")
        error = {"code": fault.status, "message": message, "status": status}
        if fault.details:
            error["details"] = fault.details
        body = {"error": error}
        return [body] if self._is_array(ctx) else body

    @staticmethod
    def _is_array(ctx):
        """streamGenerateContent without alt=sse answers with an array, also for errors."""
        return ctx.path.endswith(":streamGenerateContent") and ctx.req.query.get("alt") != "sse"

    @staticmethod
    def error_event(kind):
        return Event({"error": {"code": 503, "message": MESSAGES[503], "status": kind or "UNAVAILABLE"}})

    # requests

    def _route(self, ctx):
        """(model, method) of a path like /models/gemini-2.5-flash:generateContent."""
        match = re.fullmatch(r"/models/(.+):(\w+)", ctx.path)
        return match.groups() if match else (None, None)

    def model_of(self, ctx):
        return self._route(ctx)[0]

    def is_stream(self, ctx):
        return ctx.path.endswith(":streamGenerateContent")

    def handle(self, ctx):
        self._authenticate(ctx)
        model, method = self._route(ctx)
        if ctx.req.method == "GET" and ctx.path == "/models":
            return Answer.json({"models": [self._model_object(name) for name in CATALOGUE]})
        if ctx.req.method == "GET" and ctx.path.startswith("/models/"):
            name = ctx.path[len("/models/"):]
            self._known_model(name, "GetModel")
            return Answer.json(self._model_object(name))
        if method not in METHODS or ctx.req.method != "POST":
            raise ApiError(404, "Requested entity was not found.")
        if not ctx.is_json_type():
            raise bad("Invalid content type: the request must be application/json")
        if ctx.body_error or not isinstance(ctx.data, dict):
            raise bad(f"Invalid JSON payload received. {ctx.body_error or 'Expected an object.'}")
        self._known_model(ctx.model, method)
        ctx.data = copy.deepcopy(ctx.data)  # the checks fill in; the log keeps what was sent
        return {"generateContent": self._generate, "streamGenerateContent": self._generate,
                "countTokens": self._count, "embedContent": self._embed,
                "batchEmbedContents": self._batch_embed}[method](ctx)

    def _authenticate(self, ctx):
        given = ctx.req.header("x-goog-api-key") or ctx.req.query.get("key")
        if not given:
            raise ApiError(403, "Method doesn't allow unregistered callers (callers without established "
                                "identity). Please use API Key or other form of API consumer identity to "
                                "call this API.")
        if given != self.key:
            raise ApiError(400, "API key not valid. Please pass a valid API key.", details=[{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"}}])

    @staticmethod
    def _known_model(model, method):
        if not re.match(r"(gemini-|gemma-|text-embedding-|embedding-|standin)", model):
            raise ApiError(404, f"models/{model} is not found for API version v1beta, or is not supported "
                                f"for {method}. Call ListModels to see the list of available models and "
                                "their supported methods.")

    @staticmethod
    def _model_object(name):
        embeds = "embedding" in name
        return {"name": f"models/{name}", "version": "001", "displayName": name,
                "description": "A stand-in.", "inputTokenLimit": 2048 if embeds else 1048576,
                "outputTokenLimit": 1 if embeds else 65536,
                "supportedGenerationMethods": ["embedContent", "countTextTokens"] if embeds else
                ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"],
                **({} if embeds else {"temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2,
                                      "thinking": version_of(name) >= (2, 5)})}

    @staticmethod
    def _checked(data, spec):
        try:
            fields.check(spec, data)
        except Violation as violation:
            raise wording(violation) from None

    def _check_generate(self, data, model):
        check_contents(data.get("contents") or [], "GenerateContentRequest.contents")
        system = data.get("systemInstruction")
        if system is not None and any("text" not in part for part in system.get("parts") or [{}]):
            raise bad("System instruction must contain text parts.")
        if data.get("model") not in (None, f"models/{model}", model):
            raise bad("The model of the body is not the model of the URL.")
        check_config(data, model)
        check_signatures(data["contents"], model, self.issued)

    def _generate(self, ctx):
        data = ctx.data
        self._checked(data, GENERATE)
        self._check_generate(data, ctx.model)
        ask = to_ask(data, ctx.model, self.is_stream(ctx))
        reply = ctx.brain.think(ask, ctx.behaviour, "fc-")
        writer = Writer(ctx, data, reply, self.issued)
        if not self.is_stream(ctx):
            return Answer.json(writer.whole())
        frames = writer.events()
        if ctx.req.query.get("alt") == "sse":
            return Answer(200, events=frames, error_event=self.error_event, eol="crlf",
                          content_type="text/event-stream")
        return Answer(200, b"[" + b",\r\n".join(to_bytes(f.data) for f in frames) + b"]",
                      content_type="application/json; charset=UTF-8")

    def _count(self, ctx):
        self._checked(ctx.data, COUNT)
        data = ctx.data.get("generateContentRequest") or ctx.data
        if ("generateContentRequest" in ctx.data) == ("contents" in ctx.data):
            raise bad("Exactly one of contents and generateContentRequest is needed.")
        self._check_generate(data, ctx.model)
        ask = to_ask(data, ctx.model, False)
        total = brain.tokens(ask.prompt_text_chars) + 258 * len(ask.media)
        return Answer.json({"totalTokens": total, "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": total}]})

    def _embed(self, ctx):
        self._checked(ctx.data, EMBED)
        return Answer.json({"embedding": {"values": self._vector(ctx.data, ctx.model)}})

    def _batch_embed(self, ctx):
        self._checked(ctx.data, BATCH_EMBED)
        if not ctx.data.get("requests"):
            raise bad("* BatchEmbedContentsRequest.requests: empty list\n")
        out = []
        for index, request in enumerate(ctx.data["requests"]):
            named = (request.get("model") or "").partition("~")[0]
            if named != f"models/{ctx.model}":
                raise bad(f"* BatchEmbedContentsRequest.requests[{index}].model: unexpected model name "
                          "format or mismatch with the URL\n")
            out.append({"values": self._vector(request, ctx.model)})
        return Answer.json({"embeddings": out})

    @staticmethod
    def _vector(data, model):
        parts = (data.get("content") or {}).get("parts") or []
        if not parts or any("text" not in part for part in parts):
            raise bad("* EmbedContentRequest.content: contents is not specified\n")
        size = data.get("outputDimensionality", 3072 if "gemini" in model else 768)
        if size > 3072:
            raise bad("output_dimensionality must be at most 3072.")
        return brain.embedding(" ".join(part["text"] for part in parts), size)


def to_ask(data, model, stream):
    """The Ask of a checked request."""
    ask = brain.Ask(dialect="google", model=model, stream=stream)
    system = data.get("systemInstruction") or {}
    ask.system = "".join(part.get("text", "") for part in system.get("parts") or [])
    ask.prompt_text_chars = len(ask.system)
    for content in data["contents"]:
        text, media, results = "", [], []
        for part in content["parts"]:
            if "text" in part and not part.get("thought"):
                text += part["text"]
            elif "inlineData" in part:
                blob = part["inlineData"]
                media.append((blob["mimeType"], brain.media_size(blob.get("data", "")), None))
            elif "fileData" in part:
                file = part["fileData"]
                media.append((file.get("mimeType", "?"), None, file["fileUri"]))
            elif "functionCall" in part:
                ask.prompt_text_chars += len(brain.canonical(part["functionCall"]))
            elif "functionResponse" in part:
                response = part["functionResponse"]
                results.append((response["name"], response.get("id"), _told(response["response"])))
                ask.prompt_text_chars += len(results[-1][2])
        ask.prompt_text_chars += len(text)
        if content["role"] != "model":
            ask.last_user, ask.media, ask.results = text, media, results
    _tools(ask, data)
    config = data.get("generationConfig") or {}
    ask.max_tokens = config.get("maxOutputTokens")
    ask.stops = config.get("stopSequences") or []
    if config.get("responseMimeType") == "application/json":
        ask.schema = config.get("responseJsonSchema") or config.get("responseSchema")
        ask.json_mode = ask.schema is None
    ask.thinking = bool(config.get("thinkingConfig")) and (
        (config["thinkingConfig"].get("thinkingBudget", 1) != 0))
    return ask


def _told(response):
    """The text of a function's response: its only member's, or the JSON of it all."""
    if len(response) == 1 and isinstance(next(iter(response.values())), str):
        return next(iter(response.values()))
    return brain.canonical(response)


def _tools(ask, data):
    for tool in data.get("tools") or []:
        for function in tool.get("functionDeclarations") or []:
            schema = function.get("parametersJsonSchema") or function.get("parameters")
            ask.tools[function["name"]] = schema or {"type": "object"}
            ask.prompt_text_chars += len(brain.canonical(function))
    calling = (data.get("toolConfig") or {}).get("functionCallingConfig") or {}
    allowed = calling.get("allowedFunctionNames") or []
    mode = calling.get("mode", "AUTO")
    ask.tool_mode = {"ANY": "any", "NONE": "none"}.get(mode, "auto")
    if mode == "ANY" and len(allowed) == 1:
        ask.tool_mode, ask.tool_name = "named", allowed[0]
    elif allowed:
        ask.tools = {name: ask.tools[name] for name in allowed}


class Writer:
    """Words a Reply as a GenerateContentResponse, whole or as frames."""

    FINISH = {"stop": "STOP", "stop_string": "STOP", "length": "MAX_TOKENS", "tools": "STOP",
              "refused": "SAFETY"}

    def __init__(self, ctx, data, reply, issued):
        self.ctx, self.b, self.reply, self.issued = ctx, ctx.behaviour, reply, issued
        self.id = ctx.brain.new_id("", 22)
        self.finish = self.b.get("finish", self.FINISH[reply.finish])
        thinking = (data.get("generationConfig") or {}).get("thinkingConfig") or {}
        self.show_thoughts = bool(thinking.get("includeThoughts")) or "reasoning" in self.b
        self.signs = version_of(ctx.model) >= (3, 0) or reply.thoughts is not None

    def _usage(self, candidates):
        r = self.reply
        out = {"promptTokenCount": r.prompt_tokens, "candidatesTokenCount": candidates,
               "totalTokenCount": r.prompt_tokens + candidates + r.thought_tokens,
               "promptTokensDetails": [{"modality": "TEXT", "tokenCount": r.prompt_tokens}]}
        if r.thought_tokens:
            out["thoughtsTokenCount"] = r.thought_tokens
        if r.cached_tokens:
            out["cachedContentTokenCount"] = r.cached_tokens
            out["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": r.cached_tokens}]
        out.update(self.b.get("usage") or {})
        return out

    def _frame(self, parts, finish=None, tokens=0):
        candidate = {"index": 0}
        if parts is not None:
            candidate["content"] = {"role": "model", "parts": parts}
        if finish:
            candidate["finishReason"] = finish
        out = {"candidates": [candidate], "usageMetadata": self._usage(tokens),
               "modelVersion": self.ctx.model, "responseId": self.id}
        if self.b.get("no_usage"):
            del out["usageMetadata"]
        if self.b.get("unknown"):
            out["neverHeardOf"] = {"a": 1}
            candidate["neverHeardOf"] = [1]
        return out

    def _blocked(self):
        out = self._frame(None)
        del out["candidates"]
        out["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
        return out

    def _call_parts(self):
        for number, call in enumerate(self.reply.calls):
            inner = {"name": call.name, "args": call.arguments}
            if version_of(self.ctx.model) >= (3, 0):
                inner["id"] = call.id
            part = {"functionCall": inner}
            if number == 0 and self.signs:
                part["thoughtSignature"] = call_signature(call.name, call.arguments)
                self.issued.add(part["thoughtSignature"])
            yield part

    def _thought_parts(self):
        if self.reply.thoughts is not None and self.show_thoughts:
            yield {"text": self.reply.thoughts, "thought": True}
        if self.b.get("unknown"):
            yield {"somethingNew": {"value": 1}}

    def whole(self):
        if self.b.get("block"):
            return self._blocked()
        parts = list(self._thought_parts())
        text = brain.full_text(self.reply)
        if text:
            parts.append({"text": text})
        parts += self._call_parts()
        if self.b.get("refuse"):
            parts = None
        return self._frame(parts, self.finish, self.reply.output_tokens)

    def events(self):
        if self.b.get("block"):
            yield Event(self._blocked(), role="finish")
            return
        chars = 0
        for part in self._thought_parts():
            yield Event(self._frame([part]))
        if not self.b.get("refuse"):
            for piece in self.reply.pieces:
                chars += len(piece)
                yield Event(self._frame([{"text": piece}], tokens=brain.tokens(chars)))
        for part in self._call_parts():
            yield Event(self._frame([part], tokens=self.reply.output_tokens))
        last = [{"text": ""}]
        if self.signs and not self.reply.calls:
            last[0]["thoughtSignature"] = text_signature(brain.canonical(self.id))
        if self.b.get("refuse"):
            last = None
        yield Event(self._frame(last, self.finish, self.reply.output_tokens), role="finish")

"""The stand-in refuses what the vendors refuse, and knows the fields that they know."""

import http.client
import json
import os

import pytest

from standin_fixtures import (GONE, HEADERS, MODELS, PNG, WEATHER, anthropic_tool_turn, chat_body,
                              chat_path, edit, google_tool_turn, post, text_of,
                              with_tools)
from standin import anthropic_fields, behaviour, google_fields, openai_fields

DIALECTS = ("openai", "anthropic", "google")


def openai_base():
    return {"model": "gpt-4o", "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
            {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}],
        "temperature": 0.5, "stream": False}


STRICT = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": WEATHER}}
OPENAI_FAULTS = [
    (("colour",), "red", "unknown_parameter"),
    (("messages", 1, "colour"), "red", "unknown_parameter"),
    (("messages", 1, "content", 0, "colour"), "red", "unknown_parameter"),
    (("tools", 0, "function", "colour"), "red", "unknown_parameter"),
    (("messages",), GONE, "missing_required_parameter"),
    (("model",), GONE, "missing_required_parameter"),
    (("messages",), [], "empty_array"),
    (("messages", 0, "role"), "bot", "invalid_value"),
    (("messages", 1, "content", 0, "type"), "tool_result", "invalid_value"),
    (("messages", 1, "content"), 7, "invalid_type"),
    (("messages", 1, "content"), None, "invalid_type"),
    (("temperature",), 3, "integer_above_max_value"),
    (("temperature",), "warm", "invalid_type"),
    (("max_tokens",), 0, "integer_below_min_value"),
    (("max_tokens",), 1.5, "invalid_type"),
    (("stop",), ["a", "b", "c", "d", "e"], "array_above_max_length"),
    (("tools", 0, "function", "name"), "my tool", "invalid_value"),
    (("tools", 0, "function", "parameters"), {"type": "string"}, "invalid_function_parameters"),
    (("messages", 4, "tool_call_id"), "c9", "not found in 'tool_calls'"),
    (("messages", 4), GONE, "did not have response messages: c2"),
    (("messages", 2), {"role": "assistant", "content": "x"}, "must be a response to a preceeding"),
    (("messages", 2, "tool_calls"), GONE, "expected a string, got null"),
    (("tool_choice",), {"type": "function", "function": {"name": "other"}}, "not found in 'tools'"),
    (("tools",), GONE, None),  # tools may be left out with calls in the history
    (("stream_options",), {"include_usage": True}, "only allowed when 'stream'"),
    (("response_format",), STRICT, "additionalProperties"),
    (("response_format",), {"type": "json_object"}, "must contain the word 'json'"),
    (("reasoning_effort",), "low", "Unrecognized request argument"),
    (("messages", 1, "content", 0), {"type": "image_url", "image_url": {"url": "data:image/bmp;base64,"}},
     "invalid_image_format"),
    (("messages", 1, "content", 0), {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
     "invalid_value"),
    (("messages", 1, "content", 0), {"type": "image_url", "image_url": {
        "url": "data:image/png;base64,not base64!"}}, "invalid_base64"),
]


@pytest.mark.parametrize("path,new,words", OPENAI_FAULTS)
def test_openai_refuses(standin, path, new, words):
    status, answer = post(standin, "openai", "/openai/v1/chat/completions",
                          edit(openai_base(), path, new))
    if words is None:
        assert status == 200, answer
        return
    assert status == 400
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert words == answer["error"]["code"] or words in answer["error"]["message"]


def test_openai_accepts_what_the_faults_start_from(standin):
    assert post(standin, "openai", "/openai/v1/chat/completions", openai_base())[0] == 200


@pytest.mark.parametrize("field,value,code", [
    ("max_tokens", 10, "unsupported_parameter"), ("temperature", 0.5, "unsupported_value")])
def test_openai_reasoning_models_refuse_the_older_parameters(standin, field, value, code):
    body = {**chat_body("openai", "o3"), "reasoning_effort": "low"}
    status, answer = post(standin, "openai", "/openai/v1/chat/completions", body)
    assert status == 200
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    status, answer = post(standin, "openai", "/openai/v1/chat/completions", {**body, field: value})
    assert status == 400 and answer["error"]["code"] == code


def test_unknown_models_are_404(standin):
    for dialect in DIALECTS:
        status, answer = post(standin, dialect, chat_path(dialect, "llm-9000"),
                              chat_body(dialect, "llm-9000"))
        assert status == 404, (dialect, answer)


def test_unparsable_bodies_and_other_content_types_are_refused(standin):
    for dialect in DIALECTS:
        path = chat_path(dialect, MODELS[dialect])
        for body in ("{", "[]", '{"a":1,"a":2}', '{"a":NaN}', ""):
            status, _, data = standin.request("POST", path, body, HEADERS[dialect])
            assert status == 400 and "error" in json.loads(data)
        headers = {**HEADERS[dialect], "content-type": "text/plain"}
        assert standin.request("POST", path, chat_body(dialect, MODELS[dialect]), headers)[0] in (400, 415)


THINK = {"type": "enabled", "budget_tokens": 1024}
ANTHROPIC_FAULTS = [
    (("colour",), "red", "colour: Extra inputs are not permitted"),
    (("messages", 2, "content", 0, "colour"), 1, "messages.2.content.0.colour: Extra inputs"),
    (("max_tokens",), GONE, "max_tokens: Field required"),
    (("max_tokens",), 10**6, "which is the maximum allowed number of output tokens"),
    (("messages",), [], "at least one message is required"),
    (("messages", 0, "role"), "assistant", 'first message must use the "user" role'),
    (("messages", 0, "role"), "system", 'first message must use the "user" role'),
    (("messages", 0, "content"), "", "non-empty content"),
    (("messages", 0, "content"), [{"type": "text", "text": ""}], "must be non-empty"),
    (("messages", 0, "content"), [{"type": "image_url", "url": "x"}], "does not match any of the expected"),
    (("messages", 0, "content"), [{"type": "image", "source": {
        "type": "base64", "media_type": "image/bmp", "data": PNG}}], "Input should be 'image/jpeg'"),
    (("messages", 1, "content", 0, "id"), "t 1", "String should match pattern"),
    (("messages", 1, "content", 0, "input"), "{}", "Input should be a valid dictionary"),
    (("messages", 2, "content", 0, "tool_use_id"), "t9", "without `tool_result` blocks immediately after: t1"),
    (("messages", 2, "content"), [{"type": "text", "text": "x"}, {
        "type": "tool_result", "tool_use_id": "t1"}], "without `tool_result` blocks immediately after"),
    (("messages", 2, "content"), "no results here", "without `tool_result` blocks immediately after"),
    (("messages", 1, "content"), "no call here", "unexpected `tool_use_id`"),
    (("tools",), GONE, "must define tools"),
    (("tools", 0, "name"), "my tool", "String should match pattern"),
    (("tools", 0, "input_schema", "type"), "string", "Input should be 'object'"),
    (("tool_choice",), {"type": "tool", "name": "other"}, "not found in provided tools"),
    (("tool_choice",), {"type": "required"}, "does not match any of the expected tags"),
    (("temperature",), 1.5, "less than or equal to 1"),
    (("stop_sequences",), ["  "], "non-whitespace"),
    (("output_config",), {"format": {"type": "json_schema", "schema": WEATHER}}, "additionalProperties"),
    (("thinking",), {"type": "enabled", "budget_tokens": 100}, "greater than or equal to 1024"),
    (("thinking",), {"type": "enabled", "budget_tokens": 3000}, "must be greater than"),
    (("thinking",), THINK, "Expected `thinking` or `redacted_thinking`, but found `tool_use`"),
    (("thinking",), {"type": "adaptive"}, "adaptive thinking is not supported"),
    (("messages", 1, "content", 0), {"type": "thinking", "thinking": "hm", "signature": "forged"},
     "Invalid `signature` in `thinking` block"),
]


@pytest.mark.parametrize("path,new,words", ANTHROPIC_FAULTS)
def test_anthropic_refuses(standin, path, new, words):
    status, answer = post(standin, "anthropic", "/anthropic/v1/messages",
                          edit(anthropic_tool_turn(), path, new))
    assert status == 400
    assert answer["type"] == "error" and answer["error"]["type"] == "invalid_request_error"
    assert words in answer["error"]["message"]


def test_anthropic_accepts_its_own_thinking_back_and_nothing_else(standin):
    body = {**anthropic_tool_turn(), "thinking": THINK}
    body["messages"] = [{"role": "user", "content": 'call tool weather with {"city": "Oslo"}'}]
    _, answer = post(standin, "anthropic", "/anthropic/v1/messages", body)
    kinds = [block["type"] for block in answer["content"]]
    assert kinds == ["thinking", "tool_use"]
    result = {"type": "tool_result", "tool_use_id": answer["content"][1]["id"], "content": "12"}
    body["messages"] += [{"role": "assistant", "content": answer["content"]},
                         {"role": "user", "content": [result]}]
    status, final = post(standin, "anthropic", "/anthropic/v1/messages", body)
    assert status == 200 and text_of("anthropic", final) == "The tools said: weather = 12"
    changed = edit(body, ("messages", 1, "content", 0, "thinking"), "something else")
    assert post(standin, "anthropic", "/anthropic/v1/messages", changed)[0] == 400


@pytest.mark.parametrize("extra,words", [
    ({"temperature": 0.5}, "may only be set to 1"), ({"top_k": 5}, "must be unset"),
    ({"tool_choice": {"type": "any"}}, "forces tool use")])
def test_anthropic_thinking_excludes(standin, extra, words):
    body = {**anthropic_tool_turn(), "thinking": THINK, **extra}
    body["messages"] = body["messages"][:1]
    status, answer = post(standin, "anthropic", "/anthropic/v1/messages", body)
    assert status == 400 and words in answer["error"]["message"]


@pytest.mark.parametrize("model,extra,words", [
    ("claude-opus-4-8", {"temperature": 0.5}, "`temperature` is deprecated for this model."),
    ("claude-opus-4-8", {"thinking": THINK}, '"thinking.type.enabled" is not supported'),
    ("claude-opus-5-5", {"thinking": {"type": "disabled"}}, "not supported"),
    ("claude-opus-5-5", {"tool_choice": {"type": "any"}}, "forced tool use is not supported"),
    ("claude-3-5-haiku-20241022", {"thinking": THINK}, "not supported"),
    ("claude-opus-4-8", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, None),
    ("claude-opus-4-8", {"temperature": 1}, None),
    ("claude-sonnet-4-6", {"thinking": THINK}, None),
])
def test_anthropic_models_differ_in_what_they_take(standin, model, extra, words):
    body = {**anthropic_tool_turn(), "model": model, **extra}
    body["messages"] = body["messages"][:1]
    status, answer = post(standin, "anthropic", "/anthropic/v1/messages", body)
    if words is None:
        assert status == 200, answer
    else:
        assert status == 400 and words in answer["error"]["message"]


@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k"])
def test_anthropic_version_2026_has_no_sampling_parameters(standin, field):
    body = {**chat_body("anthropic", "claude-haiku-4-5"), field: 1}
    assert post(standin, "anthropic", "/anthropic/v1/messages", body)[0] == 200
    status, answer = post(standin, "anthropic", "/anthropic/v1/messages", body,
                          {"anthropic-version": "2026-10-21"})
    assert status == 400
    assert answer["error"]["message"] == f"{field}: Extra inputs are not permitted"


GOOGLE_FAULTS = [
    (("colour",), "red", 'Unknown name "colour": Cannot find field.'),
    (("contents", 0, "parts", 0, "colour"), 1, "Unknown name \"colour\" at 'contents[0].parts[0]'"),
    (("generationConfig", "max_tokens"), 5, "Unknown name \"max_tokens\" at 'generation_config'"),
    (("contents", 0, "parts", 0, "text"), 5, "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING)"),
    (("contents",), [], "contents is not specified"),
    (("contents", 0, "parts"), [], "must not be empty"),
    (("contents", 0, "role"), "assistant", "Please use a valid role: user, model."),
    (("contents", 0, "parts", 0, "inlineData"), {"mimeType": "image/png", "data": PNG}, "oneof field 'data'"),
    (("contents", 0, "parts", 0), {"inlineData": {"mimeType": "image/png", "data": "*"}}, "Base64"),
    (("contents", 0, "parts", 0), {"inlineData": {"data": PNG}}, "mime_type must not be empty"),
    (("contents", 0, "parts", 0), {"fileData": {"mimeType": "image/png"}}, "file_uri must not be empty"),
    (("contents", 2, "parts", 0, "functionResponse", "name"), "news", "does not match any function call"),
    (("contents", 2, "parts"), [{"functionResponse": {"name": "weather", "response": {}}}] * 2,
     "number of function response parts"),
    (("contents", 2, "parts"), [{"text": "x"}], "number of function response parts"),
    (("contents", 1, "parts"), [{"text": "x"}], "immediately after a function call turn"),
    (("contents", 2, "parts", 0, "functionResponse", "response"), "12", "Invalid value"),
    (("contents", 2), GONE, "end with a user role"),
    (("contents", 1, "parts", 0, "thoughtSignature"), "forged", "Corrupted thought signature."),
    (("tools", 0, "functionDeclarations", 0, "parameters", "additionalProperties"), False,
     "Unknown name \"additionalProperties\" at 'tools[0].function_declarations[0].parameters'"),
    (("tools", 0, "functionDeclarations", 0, "parameters", "type"), ["string", "null"], "cannot start list"),
    (("tools", 0, "functionDeclarations", 0, "parametersJsonSchema"), WEATHER, "must not both be set"),
    (("tools", 0, "functionDeclarations", 0, "name"), "my tool", "Invalid function name"),
    (("generationConfig", "temperature"), 3, "must be in the range"),
    (("generationConfig", "responseSchema"), {"type": "STRING"}, "application/json"),
    (("generationConfig", "responseMimeType"), "application/json", "Function calling with a response mime"),
    (("generationConfig", "thinkingConfig"), {"thinkingLevel": "LOW"}, "Thinking level is not supported"),
    (("generationConfig", "thinkingConfig"), {"thinkingBudget": 99999}, "is invalid"),
    (("toolConfig",), {"functionCallingConfig": {"mode": "REQUIRED"}}, "Invalid value"),
    (("toolConfig",), {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["weather"]}},
     "mode set to ANY"),
]


@pytest.mark.parametrize("path,new,words", GOOGLE_FAULTS)
def test_google_refuses(standin, path, new, words):
    status, answer = post(standin, "google", chat_path("google", "gemini-2.5-flash"),
                          edit(google_tool_turn(), path, new))
    assert status == 400
    assert answer["error"]["status"] == "INVALID_ARGUMENT" and answer["error"]["code"] == 400
    assert words in answer["error"]["message"]


def test_google_accepts_snake_case_as_well(standin):
    body = {"contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": PNG}}]}],
            "generation_config": {"max_output_tokens": 100}}
    assert post(standin, "google", chat_path("google", "gemini-2.5-flash"), body)[0] == 200


def test_google_3_wants_its_signature_back_or_the_bypass(standin):
    path = chat_path("google", "gemini-3-pro-preview")
    body = with_tools("google", chat_body("google", "", 'call tool a with {"city": "x"} and call tool b'),
                      "a", "b")
    _, answer = post(standin, "google", path, body)
    content = answer["candidates"][0]["content"]
    assert ["thoughtSignature" in part for part in content["parts"]] == [True, False]
    replies = [{"functionResponse": {"name": part["functionCall"]["name"],
                                     "id": part["functionCall"]["id"], "response": {"output": "ok"}}}
               for part in content["parts"]]
    body["contents"] += [content, {"role": "user", "parts": replies}]
    assert post(standin, "google", path, body)[0] == 200
    place = ("contents", 1, "parts", 0, "thoughtSignature")
    status, error = post(standin, "google", path, edit(body, place, GONE))
    assert status == 400 and "missing a thought_signature" in error["error"]["message"]
    assert post(standin, "google", path, edit(body, place, "skip_thought_signature_validator"))[0] == 200
    assert post(standin, "google", path, edit(body, place, "forged"))[0] == 400


def test_google_shows_thoughts_only_when_asked(standin):
    body = chat_body("google", "")
    path = chat_path("google", "gemini-2.5-flash")
    body["generationConfig"] = {"thinkingConfig": {"thinkingBudget": 1024}}
    _, hidden = post(standin, "google", path, body)
    body["generationConfig"]["thinkingConfig"]["includeThoughts"] = True
    _, shown = post(standin, "google", path, body)
    assert hidden["usageMetadata"]["thoughtsTokenCount"] > 0
    assert [p.get("thought", False) for p in hidden["candidates"][0]["content"]["parts"]] == [False]
    assert [p.get("thought", False) for p in shown["candidates"][0]["content"]["parts"]] == [True, False]


def places(value, path=()):
    """The paths of everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for step, part in inside:
        yield path + (step,)
        if isinstance(part, (dict, list)):
            yield from places(part, path + (step,))


ODD_VALUES = [None, True, -1, 1.5, 10**20, "", "odd", [], {}, [None], [[]], {"type": "odd"}, {"odd": {}},
              {"type": ["string", "null"]}, {"$ref": "#/nowhere"}, {"role": "user", "content": "x"}]


@pytest.mark.parametrize("dialect,model", [("openai", "gpt-4o"), ("anthropic", "claude-haiku-4-5"),
                                           ("google", "gemini-3-pro-preview")])
def test_no_odd_value_anywhere_makes_the_stand_in_itself_fail(standin, dialect, model):
    base = {"openai": openai_base, "anthropic": anthropic_tool_turn, "google": google_tool_turn}[dialect]()
    conn = http.client.HTTPConnection("127.0.0.1", standin.port, timeout=30)
    statuses = set()
    for path in list(places(base)):
        for odd in ODD_VALUES:
            conn.request("POST", chat_path(dialect, model), json.dumps(edit(base, path, odd)),
                         HEADERS[dialect])
            answer = conn.getresponse()
            answer.read()
            statuses.add(answer.status)
    conn.close()
    assert 400 in statuses and statuses <= {200, 400, 404}
    assert standin.health()["bugs"] == 0


# the field names against the vendors' type definitions (tests/sdk/fields.mjs)

ENTERPRISE_ONLY = {"modelSelectionConfig", "routingConfig", "audioTimestamp", "method",
                   "streamFunctionCallArguments", "retrieval", "enterpriseWebSearch", "exaAiSearch",
                   "parallelAiSearch", "partialArgs", "willContinue"}
#: fields that the vendor takes although the type does not list them: what the package's converter to
#: this API sends, and what stands in an answer that the documentation's examples send back as it came
ELSEWHERE = {"GenerationConfig": {"imageConfig"}, "ChatCompletionAssistantMessageParam": {"annotations"}}
MESSAGES = openai_fields.MESSAGE.variants
HEADER_PARAMS = set(anthropic_fields.HEADER_PARAMS)
OPENAI, ANTHROPIC, GOOGLE = "openai", "@anthropic-ai/sdk", "@google/genai"
SHAPES = [
    (OPENAI, "ChatCompletionCreateParamsBase", openai_fields.CHAT, set()),
    (OPENAI, "ChatCompletionContentPartImage", openai_fields.IMAGE_PART, set()),
    (OPENAI, "ChatCompletionContentPartText", openai_fields.TEXT_PART, set()),
    (OPENAI, "ChatCompletionAssistantMessageParam", MESSAGES["assistant"], set()),
    (OPENAI, "ChatCompletionToolMessageParam", MESSAGES["tool"], set()),
    (OPENAI, "ChatCompletionUserMessageParam", MESSAGES["user"], set()),
    (OPENAI, "ChatCompletionSystemMessageParam", MESSAGES["system"], set()),
    (OPENAI, "ChatCompletionStreamOptions", openai_fields.CHAT.fields["stream_options"], set()),
    (OPENAI, "FunctionDefinition", openai_fields.FUNCTION, set()),
    (OPENAI, "EmbeddingCreateParams", openai_fields.EMBEDDINGS, set()),
    (ANTHROPIC, "MessageCreateParamsBase", anthropic_fields.CREATE["2026-10-21"], HEADER_PARAMS),
    (ANTHROPIC, "MessageCountTokensParams", anthropic_fields.COUNT, HEADER_PARAMS),
    (ANTHROPIC, "TextBlockParam", anthropic_fields.TEXT, set()),
    (ANTHROPIC, "ImageBlockParam", anthropic_fields.IMAGE, set()),
    (ANTHROPIC, "DocumentBlockParam", anthropic_fields.DOCUMENT, set()),
    (ANTHROPIC, "SearchResultBlockParam", anthropic_fields.SEARCH_RESULT, set()),
    (ANTHROPIC, "ToolUseBlockParam", anthropic_fields.TOOL_USE, set()),
    (ANTHROPIC, "ToolResultBlockParam", anthropic_fields.TOOL_RESULT, set()),
    (ANTHROPIC, "ThinkingBlockParam", anthropic_fields.THINKING_BLOCK, set()),
    (ANTHROPIC, "RedactedThinkingBlockParam", anthropic_fields.REDACTED_BLOCK, set()),
    (ANTHROPIC, "Tool", anthropic_fields.CUSTOM_TOOL, set()),
    (ANTHROPIC, "OutputConfig", anthropic_fields.OUTPUT_CONFIG, set()),
    (ANTHROPIC, "ThinkingConfigEnabled", anthropic_fields.THINKING.variants["enabled"], set()),
    (ANTHROPIC, "ThinkingConfigAdaptive", anthropic_fields.THINKING.variants["adaptive"], set()),
    (ANTHROPIC, "ToolChoiceTool", anthropic_fields.TOOL_CHOICE.variants["tool"], set()),
    (ANTHROPIC, "ToolChoiceAuto", anthropic_fields.TOOL_CHOICE.variants["auto"], set()),
    (ANTHROPIC, "Metadata", anthropic_fields.CREATE_FIELDS["metadata"], set()),
    (ANTHROPIC, "CacheControlEphemeral", anthropic_fields.CACHE, set()),
    (GOOGLE, "Part", google_fields.PART, set()),
    (GOOGLE, "Content", google_fields.CONTENT, set()),
    (GOOGLE, "Blob_2", google_fields.BLOB, set()),
    (GOOGLE, "FileData", google_fields.FILE, set()),
    (GOOGLE, "FunctionCall", google_fields.FUNCTION_CALL, ENTERPRISE_ONLY),
    (GOOGLE, "FunctionResponse", google_fields.FUNCTION_RESPONSE, set()),
    (GOOGLE, "FunctionDeclaration", google_fields.FUNCTION_DECLARATION, set()),
    (GOOGLE, "FunctionCallingConfig",
     google_fields.TOOL_CONFIG.fields["functionCallingConfig"], ENTERPRISE_ONLY),
    (GOOGLE, "ToolConfig", google_fields.TOOL_CONFIG, set()),
    (GOOGLE, "Tool", google_fields.TOOL, ENTERPRISE_ONLY),
    (GOOGLE, "Schema", google_fields.SCHEMA, set()),
    (GOOGLE, "GenerationConfig", google_fields.GENERATION_CONFIG, ENTERPRISE_ONLY),
    (GOOGLE, "ThinkingConfig", google_fields.THINKING_CONFIG, set()),
]
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.mark.parametrize("package,name,spec,left_out", SHAPES)
def test_field_names_are_those_of_the_vendors_type_definitions(package, name, spec, left_out):
    with open(os.path.join(TESTS, "sdk", "fields.json"), encoding="utf-8") as file:
        theirs = json.load(file)[package]["types"][name]
    required, optional = set(theirs["required"]), set(theirs["optional"])
    assert set(spec.fields) - ELSEWHERE.get(name, set()) == (required | optional) - left_out
    if package != GOOGLE:  # where all fields are optional in the types
        assert set(spec.required) == required - left_out


def test_the_readme_has_the_table_of_directives():
    with open(os.path.join(TESTS, "support", "README.md"), encoding="utf-8") as file:
        assert behaviour.markdown_table() in file.read()

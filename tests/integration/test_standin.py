"""The stand-in provider answers like the vendors, and refuses what they refuse."""

import base64
import json
import struct

import pytest

from standin_fixtures import (GONE, HEADERS, MODELS, PDF, PDF_BYTES, PNG, PNG_BYTES, WEATHER,
                              anthropic_tool_turn, chat, chat_body, chat_path, edit, events,
                              google_tool_turn, post, text_of, with_tools)
from standin import schema

DIALECTS = ("openai", "anthropic", "google")


def calls_of(dialect, body):
    """[(name, arguments)]"""
    if dialect == "openai":
        return [(c["function"]["name"], json.loads(c["function"]["arguments"]))
                for c in body["choices"][0]["message"].get("tool_calls", [])]
    if dialect == "anthropic":
        return [(b["name"], b["input"]) for b in body["content"] if b["type"] == "tool_use"]
    return [(p["functionCall"]["name"], p["functionCall"]["args"])
            for p in body["candidates"][0]["content"]["parts"] if "functionCall" in p]


def error_text(dialect, body):
    return body["error"]["message"]


# answers

@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_answer_repeats_what_was_said(standin, dialect):
    status, _, data = chat(standin, dialect, text="good morning")
    assert status == 200
    assert text_of(dialect, json.loads(data)) == "You said: good morning"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_request_gets_the_same_text_twice(standin, dialect):
    first, second = (json.loads(chat(standin, dialect)[2]) for _ in range(2))
    assert text_of(dialect, first) == text_of(dialect, second)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_two_tools_are_called_with_the_arguments_of_the_prompt(standin, dialect):
    body = chat_body(dialect, MODELS[dialect],
                     'call tool weather with {"city": "Oslo"} and call tool news with {"city": "Rome"}')
    status, answer = post(standin, dialect, chat_path(dialect, MODELS[dialect]),
                          with_tools(dialect, body, "weather", "news"))
    assert status == 200
    assert calls_of(dialect, answer) == [("weather", {"city": "Oslo"}), ("news", {"city": "Rome"})]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tools_directive_calls_the_first_tools_with_fitting_arguments(standin, dialect):
    model = MODELS[dialect] + "~tools=2"
    status, answer = post(standin, dialect, chat_path(dialect, model),
                          with_tools(dialect, chat_body(dialect, model), "a", "b", "c"))
    assert status == 200
    called = calls_of(dialect, answer)
    assert [name for name, _ in called] == ["a", "b"]
    assert all(schema.fits(WEATHER, arguments) for _, arguments in called)


def test_tool_results_come_back_in_openai_answers(standin):
    body = with_tools("openai", chat_body("openai", "gpt-4o"), "weather")
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    body["messages"] += [{"role": "assistant", "tool_calls": [call]},
                         {"role": "tool", "tool_call_id": "call_1", "content": "12 degrees"}]
    status, answer = post(standin, "openai", "/openai/v1/chat/completions", body)
    assert status == 200
    assert text_of("openai", answer) == "The tools said: weather = 12 degrees"


def test_tool_results_come_back_in_anthropic_answers(standin):
    body = anthropic_tool_turn()
    status, answer = post(standin, "anthropic", "/anthropic/v1/messages", body)
    assert status == 200
    assert text_of("anthropic", answer) == "The tools said: weather = 12 degrees"


def test_tool_results_come_back_in_google_answers(standin):
    status, answer = post(standin, "google", chat_path("google", "gemini-2.5-flash"),
                          google_tool_turn())
    assert status == 200
    assert text_of("google", answer) == "The tools said: weather = 12 degrees"


SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["name", "age", "tags", "kind"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 18},
                   "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2},
                   "kind": {"enum": ["a", "b"]}},
    "$defs": {"tag": {"type": "object", "additionalProperties": False, "required": ["t"],
                      "properties": {"t": {"anyOf": [{"type": "null"}, {"type": "string"}]}}}},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_schema_answer_fits_its_schema(standin, dialect):
    body = chat_body(dialect, MODELS[dialect])
    if dialect == "openai":
        body["response_format"] = {"type": "json_schema", "json_schema": {
            "name": "person", "strict": True, "schema": SCHEMA}}
    elif dialect == "anthropic":
        body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    else:
        body["generationConfig"] = {"responseMimeType": "application/json",
                                    "responseJsonSchema": SCHEMA}
    status, answer = post(standin, dialect, chat_path(dialect, MODELS[dialect]), body)
    assert status == 200, answer
    assert schema.fits(SCHEMA, json.loads(text_of(dialect, answer)))


def test_schema_fits_refuses_what_does_not_fit():
    good = {"name": "x", "age": 20, "tags": [{"t": None}, {"t": "y"}], "kind": "b"}
    assert schema.fits(SCHEMA, good)
    for path, new in ((("age",), 17), (("age",), "20"), (("tags",), []), (("kind",), "c"),
                      (("name",), GONE), (("tags", 0, "t"), 5), (("more",), 1)):
        assert not schema.fits(SCHEMA, edit(good, path, new)), (path, new)


MEDIA = {
    "openai": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + PNG}},
               {"type": "file", "file": {"filename": "a.pdf",
                                         "file_data": "data:application/pdf;base64," + PDF}}],
    "anthropic": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
                                        "data": PDF}}],
    "google": [{"inlineData": {"mimeType": "image/png", "data": PNG}},
               {"inlineData": {"mimeType": "application/pdf", "data": PDF}}],
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_images_and_documents_are_told_by_type_and_size(standin, dialect):
    body = chat_body(dialect, MODELS[dialect])
    if dialect == "google":
        body["contents"][0]["parts"] += MEDIA["google"]
    else:
        body["messages"][0]["content"] = [{"type": "text", "text": "look"}, *MEDIA[dialect]]
    status, answer = post(standin, dialect, chat_path(dialect, MODELS[dialect]), body)
    assert status == 200, answer
    assert text_of(dialect, answer).startswith(
        f"I see image/png of {PNG_BYTES} bytes. I see application/pdf of {PDF_BYTES} bytes.")


@pytest.mark.parametrize("dialect,field", [("openai", "max_tokens"), ("anthropic", "max_tokens"),
                                           ("google", "maxOutputTokens")])
def test_a_token_limit_cuts_the_answer(standin, dialect, field):
    body = chat_body(dialect, MODELS[dialect], "a long text that will not fit")
    if dialect == "google":
        body["generationConfig"] = {field: 2}
    else:
        body[field] = 2
    _, answer = post(standin, dialect, chat_path(dialect, MODELS[dialect]), body)
    assert text_of(dialect, answer) == "You said"
    assert finish_of(dialect, answer) == {"openai": "length", "anthropic": "max_tokens",
                                          "google": "MAX_TOKENS"}[dialect]


def finish_of(dialect, body):
    if dialect == "openai":
        return body["choices"][0]["finish_reason"]
    return body["stop_reason"] if dialect == "anthropic" else body["candidates"][0]["finishReason"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stop_string_ends_the_answer(standin, dialect):
    body = chat_body(dialect, MODELS[dialect], "one two three")
    where = {"openai": body, "anthropic": body, "google": body.setdefault("generationConfig", {})
             if dialect == "google" else body}[dialect]
    where[{"openai": "stop", "anthropic": "stop_sequences", "google": "stopSequences"}[dialect]] = ["two"]
    _, answer = post(standin, dialect, chat_path(dialect, MODELS[dialect]), body)
    assert text_of(dialect, answer) == "You said: one "
    if dialect == "anthropic":
        assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "two")


def test_openai_counts_cached_tokens_when_a_long_system_prompt_comes_again(standin):
    body = chat_body("openai", "gpt-4o")
    body["messages"].insert(0, {"role": "system", "content": "a rule. " * 1000})
    cached = [post(standin, "openai", "/openai/v1/chat/completions", body)[1]["usage"]
              ["prompt_tokens_details"]["cached_tokens"] for _ in range(2)]
    assert cached == [0, 1920]


def test_anthropic_writes_then_reads_the_cache_only_where_it_is_marked(standin):
    body = {**chat_body("anthropic", MODELS["anthropic"]), "system": "b rule. " * 1000}
    plain = post(standin, "anthropic", "/anthropic/v1/messages", body)[1]["usage"]
    assert plain["cache_creation_input_tokens"] == plain["cache_read_input_tokens"] == 0
    body["system"] = [{"type": "text", "text": body["system"], "cache_control": {"type": "ephemeral"}}]
    wrote, read = (post(standin, "anthropic", "/anthropic/v1/messages", body)[1]["usage"]
                   for _ in range(2))
    assert (wrote["cache_creation_input_tokens"], wrote["cache_read_input_tokens"]) == (1920, 0)
    assert (read["cache_creation_input_tokens"], read["cache_read_input_tokens"]) == (0, 1920)
    assert read["input_tokens"] + 1920 == plain["input_tokens"]


def test_openai_embeddings_are_unit_vectors_in_both_encodings(standin):
    body = {"model": "text-embedding-3-small", "input": ["a cat", "a cat", "a dog"], "dimensions": 64}
    _, answer = post(standin, "openai", "/openai/v1/embeddings", body)
    one, two, three = (item["embedding"] for item in answer["data"])
    assert len(one) == 64 and one == two != three
    assert abs(sum(v * v for v in one) - 1) < 1e-6
    _, coded = post(standin, "openai", "/openai/v1/embeddings", {**body, "encoding_format": "base64"})
    raw = base64.b64decode(coded["data"][0]["embedding"])
    assert struct.unpack("<64f", raw) == pytest.approx(one, abs=1e-6)


def test_google_embeddings_single_and_batch_agree(standin):
    request = {"content": {"parts": [{"text": "a cat"}]}, "outputDimensionality": 32}
    path = "/google/v1beta/models/gemini-embedding-001"
    _, one = post(standin, "google", path + ":embedContent", request)
    _, many = post(standin, "google", path + ":batchEmbedContents", {"requests": [
        {**request, "model": "models/gemini-embedding-001"}] * 2})
    assert many["embeddings"] == [{"values": one["embedding"]["values"]}] * 2
    status, _ = post(standin, "google", path + ":batchEmbedContents", {"requests": [request]})
    assert status == 400


def test_tokens_are_counted_by_anthropic_and_google(standin):
    body = chat_body("anthropic", MODELS["anthropic"])
    del body["max_tokens"]
    status, answer = post(standin, "anthropic", "/anthropic/v1/messages/count_tokens", body)
    assert status == 200 and answer["input_tokens"] > 0
    status, answer = post(standin, "google", "/google/v1beta/models/gemini-2.5-flash:countTokens",
                          chat_body("google", ""))
    assert status == 200 and answer["totalTokens"] > 0


@pytest.mark.parametrize("dialect,path,names", [
    ("openai", "/openai/v1/models", lambda b: [m["id"] for m in b["data"]]),
    ("groq", "/groq/openai/v1/models", lambda b: [m["id"] for m in b["data"]]),
    ("ollama", "/ollama/v1/models", lambda b: [m["id"] for m in b["data"]]),
    ("anthropic", "/anthropic/v1/models", lambda b: [m["id"] for m in b["data"]]),
    ("google", "/google/v1beta/models", lambda b: [m["name"][7:] for m in b["models"]]),
])
def test_each_listed_model_can_be_looked_up(standin, dialect, path, names):
    _, _, data = standin.request("GET", path, headers=HEADERS[dialect])
    found = names(json.loads(data))
    assert found
    for name in found:
        status, _, one = standin.request("GET", f"{path}/{name}", headers=HEADERS[dialect])
        assert status == 200 and name in one.decode()


# streams

def test_openai_streams_role_first_then_text_then_finish_then_done(standin):
    _, headers, raw = chat(standin, "openai", stream=True)
    assert headers["content-type"].startswith("text/event-stream")
    found = [data for _, data in events(raw)]
    assert found[-1] == "[DONE]"
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [c["choices"][0]["finish_reason"] for c in found[:-1]] == [None] * (len(found) - 2) + ["stop"]
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in found[:-1])
    assert text == "You said: hello there"
    assert not any("usage" in c for c in found[:-1])


def test_openai_streams_usage_only_when_it_was_asked_for(standin):
    body = {**chat_body("openai", "gpt-4o", stream=True), "stream_options": {"include_usage": True}}
    _, _, raw = standin.request("POST", "/openai/v1/chat/completions", body, HEADERS["openai"])
    chunks = [data for _, data in events(raw)][:-1]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] > 0


def test_openai_streams_two_tool_calls_under_their_indexes(standin):
    model = MODELS["openai"] + "~tools=2,split_args=3"
    body = with_tools("openai", chat_body("openai", model, stream=True), "a", "b")
    _, _, raw = standin.request("POST", "/openai/v1/chat/completions", body, HEADERS["openai"])
    whole = {}
    for _, chunk in events(raw)[:-1]:
        for call in chunk["choices"][0]["delta"].get("tool_calls", []):
            entry = whole.setdefault(call["index"], ["", ""])
            entry[0] += call["function"].get("name", "")
            entry[1] += call["function"]["arguments"]
    assert {i: (n, json.loads(a)) for i, (n, a) in whole.items()} == {
        0: ("a", {"city": "sample"}), 1: ("b", {"city": "sample"})}


def test_anthropic_streams_blocks_one_after_the_other(standin):
    body = {**chat_body("anthropic", "claude-haiku-4-5", stream=True), "max_tokens": 2000,
            "thinking": {"type": "enabled", "budget_tokens": 1024}}
    _, _, raw = standin.request("POST", "/anthropic/v1/messages", body, HEADERS["anthropic"])
    found = events(raw)
    assert all(name == data["type"] for name, data in found)
    names = [name for name, _ in found]
    squeezed = [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n]
    assert squeezed == [
        "message_start", "content_block_start", "ping", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop"]
    deltas = [d["delta"] for n, d in found if n == "content_block_delta" and d["index"] == 0]
    assert [d["type"] for d in deltas][-1] == "signature_delta"
    start, end = found[0][1]["message"]["usage"], found[-2][1]["usage"]
    assert start["input_tokens"] == end["input_tokens"] > 0
    assert end["output_tokens"] > start["output_tokens"]


def test_anthropic_streams_tool_input_as_partial_json(standin):
    model = MODELS["anthropic"] + "~tools=1,split_args=4"
    body = with_tools("anthropic", chat_body("anthropic", model, stream=True), "a")
    _, _, raw = standin.request("POST", "/anthropic/v1/messages", body, HEADERS["anthropic"])
    found = events(raw)
    parts = [d["delta"]["partial_json"] for n, d in found if n == "content_block_delta"]
    assert parts[0] == "" and json.loads("".join(parts)) == {"city": "sample"}
    assert found[-2][1]["delta"]["stop_reason"] == "tool_use"


def test_google_streams_usage_in_each_frame_and_finish_in_the_last(standin):
    _, _, raw = chat(standin, "google", stream=True)
    assert b"\r\n\r\n" in raw
    frames = [data for _, data in events(raw)]
    assert all(frame["usageMetadata"]["promptTokenCount"] > 0 for frame in frames)
    assert ["finishReason" in f["candidates"][0] for f in frames] == [False] * (len(frames) - 1) + [True]
    assert "".join(text_of("google", frame) for frame in frames) == "You said: hello there"


def test_google_streams_an_array_without_alt_sse(standin):
    path = "/google/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    status, frames = post(standin, "google", path, chat_body("google", ""))
    assert status == 200 and len(frames) > 2
    status, error = post(standin, "google", path, {"contents": []})
    assert status == 400 and error[0]["error"]["status"] == "INVALID_ARGUMENT"


# who may ask

KEY_HEADER = {"openai": "authorization", "anthropic": "x-api-key", "google": "x-goog-api-key"}


@pytest.mark.parametrize("dialect,missing,wrong", [
    ("openai", (401, "didn't provide an API key"), (401, "Incorrect API key")),
    ("anthropic", (401, "x-api-key header is required"), (401, "invalid x-api-key")),
    ("google", (403, "unregistered callers"), (400, "API key not valid")),
])
def test_a_missing_or_wrong_key_is_refused_as_the_vendor_does(standin, dialect, missing, wrong):
    path, body = chat_path(dialect, MODELS[dialect]), chat_body(dialect, MODELS[dialect])
    for value, (status, words) in ((None, missing), ("Bearer nonsense", wrong)):
        headers = {k: v for k, v in HEADERS[dialect].items() if k != KEY_HEADER[dialect]}
        if value:
            headers[KEY_HEADER[dialect]] = value
        got, _, data = standin.request("POST", path, body, headers)
        assert got == status and words in error_text(dialect, json.loads(data))


def test_ollama_asks_for_no_key_and_groq_for_its_own(standin):
    body = chat_body("openai", "llama3.2")
    path = "/ollama/v1/chat/completions"
    assert standin.request("POST", path, body, HEADERS["ollama"])[0] == 200
    path = "/groq/openai/v1/chat/completions"
    assert standin.request("POST", path, body, HEADERS["openai"])[0] == 401
    assert standin.request("POST", path, body, HEADERS["groq"])[0] == 200


def test_no_key_is_kept_in_the_log(standin):
    for dialect in DIALECTS:
        chat(standin, dialect)
    standin.request("POST", "/google/v1beta/models/gemini-2.5-flash:generateContent?key=AIzaStandin",
                    chat_body("google", ""), {"content-type": "application/json"})
    log = json.dumps(standin.calls())
    assert len(standin.calls()) == 4
    for key in ("sk-standin", "sk-ant-standin", "AIzaStandin"):
        assert key not in log


@pytest.mark.parametrize("version,accepted", [("2023-06-01", True), ("2026-10-21", True),
                                              ("2024-01-01", False), (None, False)])
def test_anthropic_version_is_required_and_must_be_known(standin, version, accepted):
    headers = {k: v for k, v in HEADERS["anthropic"].items() if k != "anthropic-version"}
    if version:
        headers["anthropic-version"] = version
    status = standin.request("POST", "/anthropic/v1/messages",
                             chat_body("anthropic", MODELS["anthropic"]), headers)[0]
    assert status == (200 if accepted else 400)


def test_anthropic_takes_the_key_as_bearer_too(standin):
    headers = {**HEADERS["anthropic"], "authorization": "Bearer sk-ant-standin"}
    del headers["x-api-key"]
    assert standin.request("POST", "/anthropic/v1/messages",
                           chat_body("anthropic", MODELS["anthropic"]), headers)[0] == 200

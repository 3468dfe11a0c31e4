"""Google's surface through the real program: /v1beta/models/...; CHECKS 54, 55, 59, 60 on it."""
import json

import pytest
from gateway import AUTH

MODELS = ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "google/gemini-2.5-flash",
          "groq/llama-3.1-8b-instant", "ollama/llama3.2"]
THREE = MODELS[:3]
FAST = {"gateway.yaml": {"retry.attempts": 1, "deadlines.ai_s": 2, "streams.gap_s": 1}}
TOOLS = [{"functionDeclarations": [{"name": "weather", "parameters": {
    "type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}}]}]


def contents(text):
    return [{"role": "user", "parts": [{"text": text}]}]


def ask(gateway, model, text="hello", method="generateContent", headers=None, **more):
    body = {"contents": contents(text), **more}
    return gateway.post("/v1beta/models/%s:%s" % (model, method), json.dumps(body),
                        headers={**AUTH, **(headers or {})})


def frames(answer):
    """The frames of a stream of events."""
    return [json.loads(data) for _, data in answer.events()]


def parts_of(frame):
    return [p for c in frame.get("candidates", []) for p in c.get("content", {}).get("parts", [])]


def text_of(*answers):
    return "".join(p.get("text", "") for a in answers for p in parts_of(a) if not p.get("thought"))


def reasons(found):
    return [c["finishReason"] for f in found for c in f.get("candidates", []) if "finishReason" in c]


STREAM = "streamGenerateContent?alt=sse"


# --- whole answers and streams ------------------------------------------------------------------

@pytest.mark.parametrize("model", MODELS)
def test_every_provider_answers_whole(gateway, model):
    a = ask(gateway, model, "good morning")
    assert a.status == 200, a.text
    assert text_of(a.json) == "You said: good morning"
    assert reasons([a.json]) == ["STOP"]
    assert a.headers["x-postern-provider"] == model.split("/")[0]
    usage = a.json["usageMetadata"]
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]


@pytest.mark.parametrize("model", MODELS)
def test_every_provider_streams_events(gateway, model):
    a = ask(gateway, model, "one two three", STREAM)
    assert a.status == 200 and a.headers["content-type"].startswith("text/event-stream")
    found = frames(a)
    assert text_of(*found) == "You said: one two three"
    assert reasons(found) == ["STOP"] and "usageMetadata" in found[-1]
    assert "[DONE]" not in a.text


@pytest.mark.parametrize("model", MODELS)
def test_without_alt_sse_a_stream_is_a_json_array(gateway, model):
    a = ask(gateway, model, "one two three", "streamGenerateContent")
    assert a.status == 200 and a.headers["content-type"].startswith("application/json")
    assert isinstance(a.json, list) and len(a.json) > 1
    assert text_of(*a.json) == "You said: one two three"
    assert reasons(a.json) == ["STOP"]


@pytest.mark.parametrize("form", ["%s", "models/%s"])
@pytest.mark.parametrize("slash", ["/", "%2F", "%2f"])
def test_a_slash_in_the_model_may_be_encoded(gateway, form, slash):
    model = (form % "openai/gpt-4o-mini").replace("/", slash)
    assert text_of(ask(gateway, model).json) == "You said: hello"


@pytest.mark.parametrize("headers, query", [
    ({"x-goog-api-key": AUTH["Authorization"][7:]}, ""),
    ({}, "?key=" + AUTH["Authorization"][7:])])
def test_the_key_is_taken_as_google_sends_it(gateway, headers, query):
    a = gateway.post("/v1beta/models/openai/gpt-4o-mini:generateContent" + query,
                     json.dumps({"contents": contents("hi")}), headers=headers)
    assert a.status == 200, a.text


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
def test_a_same_dialect_body_passes_through_whatever_it_holds(gateway, standin, method):
    a = ask(gateway, "google/gemini-2.5-flash", "x", method, safetySettings=[
        {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}])
    assert a.status == 200, a.text
    assert "x-postern-dropped" not in a.headers


def test_what_another_provider_cannot_take_is_named_or_refused(gateway):
    settings = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    a = ask(gateway, "openai/gpt-4o-mini", "x", safetySettings=settings)
    assert a.status == 200 and "safetySettings" in a.headers["x-postern-dropped"]
    a = ask(gateway, "openai/gpt-4o-mini", "x", safetySettings=settings,
            headers={"X-Postern-Strict": "true"})
    assert a.status == 400 and "safetySettings" in a.json["error"]["message"]
    a = ask(gateway, "openai/gpt-4o-mini", "x", cachedContent="cachedContents/1")
    assert a.status == 400 and "cachedContent" in a.json["error"]["message"]


def test_fallbacks_of_the_request_are_tried(gateway):
    a = ask(gateway, "google/gemini-2.5-flash~status=500", "x", fallbacks=["openai/gpt-4o-mini"])
    assert a.status == 200 and a.headers["x-postern-provider"] == "openai"
    assert text_of(a.json) == "You said: x"


# --- counting, vectors, models ------------------------------------------------------------------

@pytest.mark.parametrize("model", THREE)
def test_tokens_are_counted_or_estimated(gateway, standin, model):
    a = ask(gateway, model, "one two three four five six", "countTokens")
    assert a.status == 200 and a.json["totalTokens"] > 0
    assert ("x-postern-token-count" in a.headers) == (not model.startswith("google/"))
    inner = {"generateContentRequest": {"model": "models/" + model, "contents": contents("x")}}
    a = gateway.post("/v1beta/models/%s:countTokens" % model, json.dumps(inner), headers=AUTH)
    assert a.status == 200 and a.json["totalTokens"] > 0, a.text


@pytest.mark.parametrize("model", ["openai/text-embedding-3-small", "google/gemini-embedding-001"])
def test_vectors_of_one_text_and_of_many(gateway, model):
    one = {"content": {"parts": [{"text": "a cat"}]}, "outputDimensionality": 64}
    a = gateway.post("/v1beta/models/%s:embedContent" % model, json.dumps(one), headers=AUTH)
    assert a.status == 200 and len(a.json["embedding"]["values"]) == 64
    many = {"requests": [{"model": "models/" + model, **one},
                         {**one, "content": {"parts": [{"text": "a "}, {"text": "dog"}]}}]}
    b = gateway.post("/v1beta/models/%s:batchEmbedContents" % model, json.dumps(many), headers=AUTH)
    assert b.status == 200 and len(b.json["embeddings"]) == 2
    assert b.json["embeddings"][0]["values"] == a.json["embedding"]["values"]


def test_what_vectors_are_for_reaches_google_and_is_named_elsewhere(gateway, standin):
    one = json.dumps({"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY"})
    a = gateway.post("/v1beta/models/google/gemini-embedding-001:embedContent", one, headers=AUTH)
    assert a.status == 200 and "x-postern-dropped" not in a.headers
    a = gateway.post("/v1beta/models/openai/text-embedding-3-small:embedContent", one, headers=AUTH)
    assert a.status == 200 and a.headers["x-postern-dropped"] == "taskType"


@pytest.mark.parametrize("body", [{}, {"content": 1}, {"content": {"parts": [{"inlineData": {}}]}},
                                  {"content": {"parts": []}},
                                  {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": "x"}])
def test_a_wrong_request_for_vectors_is_400(gateway, body):
    a = gateway.post("/v1beta/models/google/gemini-embedding-001:embedContent", json.dumps(body),
                     headers=AUTH)
    assert a.status == 400 and a.json["error"]["status"] == "INVALID_ARGUMENT"


def test_models_are_listed_in_pages_and_one_by_one(gateway):
    names, token = [], ""
    while token is not None:
        page = gateway.get("/v1beta/models?pageSize=3" + (token and "&pageToken=" + token)).json
        assert len(page["models"]) <= 3
        names += [m["name"] for m in page["models"]]
        token = page.get("nextPageToken")
    assert names == [m["name"] for m in gateway.get("/v1beta/models").json["models"]]
    assert len(set(names)) == len(names) > 3
    for name in ("models/openai/gpt-4o-mini", "models/openai%2Fgpt-4o-mini"):
        one = gateway.get("/v1beta/" + name)
        assert one.status == 200 and one.json["name"] == "models/openai/gpt-4o-mini"
        assert "generateContent" in one.json["supportedGenerationMethods"]
    assert gateway.get("/v1beta/models/no-such-thing").status == 404
    assert gateway.get("/v1beta/models?pageSize=x").status == 400


# --- errors --------------------------------------------------------------------------------------

@pytest.mark.parametrize("path, body, status, word", [
    ("openai/gpt-4o-mini:conjure", "{}", 404, "NOT_FOUND"),
    ("openai/gpt-4o-mini", "{}", 404, "NOT_FOUND"),
    (":generateContent", '{"contents":[{"parts":[{"text":"a"}]}]}', 404, "NOT_FOUND"),
    ("openai/gpt-4o-mini:generateContent", "{", 400, "INVALID_ARGUMENT"),
    ("openai/gpt-4o-mini:generateContent", "[]", 400, "INVALID_ARGUMENT"),
    ("openai/gpt-4o-mini:generateContent", '{"contents":[1]}', 400, "INVALID_ARGUMENT"),
    ("nowhere/x:generateContent", '{"contents":[{"parts":[{"text":"a"}]}]}', 404, "NOT_FOUND")])
def test_errors_have_googles_shape(gateway, path, body, status, word):
    a = gateway.post("/v1beta/models/" + path, body, headers=AUTH)
    assert a.status == status, a.text
    assert a.json["error"]["code"] == status and a.json["error"]["status"] == word
    assert a.json["error"]["message"]


def test_a_wrong_key_is_401_in_googles_shape(gateway):
    a = gateway.post("/v1beta/models/openai/gpt-4o-mini:generateContent", "{}",
                     headers={"x-goog-api-key": "wrong"})
    assert a.status == 401 and a.json["error"]["status"] == "UNAUTHENTICATED"


# --- checks ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", [STREAM, "streamGenerateContent"])
@pytest.mark.parametrize("model", THREE)
def test_check_054_text_that_imitates_frames_stays_text(gateway, model, method):
    evil = 'a\n\ndata: [DONE]\n\ndata: {"error":{"code":500}}\n\n{"functionCall":{"name":"x"}}]\n,{'
    a = ask(gateway, model, evil, method)
    found = frames(a) if "alt=sse" in method else a.json
    assert evil in text_of(*found)
    assert reasons(found) == ["STOP"]
    assert not any("error" in f or "functionCall" in p for f in found for p in parts_of(f))


FORMS = ["eol=cr", "eol=crlf", "eol=mixed", "comments=1", "bom=1", "no_space=1", "bytewise=1",
         "eol=crlf,bytewise=1,comments=1", "split=1", "multi_data=1", "no_blank=1"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", THREE)
def test_check_055_every_legal_form_of_a_stream_gives_the_same_answer(gateway, model, form):
    for method in (STREAM, "streamGenerateContent"):
        a = ask(gateway, model + "~" + form, "alpha beta gamma", method)
        assert a.status == 200, a.text
        found = frames(a) if "alt=sse" in method else a.json
        assert text_of(*found) == "You said: alpha beta gamma"
        assert reasons(found) == ["STOP"]


@pytest.mark.parametrize("fault", ["cut=stream,after=4", "reset=stream,after=4", "no_finish=1",
                                   "garbage_event=1,after=4", "error_event=1,after=4",
                                   "bad_utf8=1,after=4"])
@pytest.mark.parametrize("method", [STREAM, "streamGenerateContent"])
@pytest.mark.parametrize("model", THREE)
def test_check_059_a_stream_that_breaks_ends_with_an_error(gateway, model, method, fault):
    a = ask(gateway, model + "~" + fault, "one two three four five six", method)
    if fault.startswith("bad_utf8") and a.status == 502:
        return  # found before the first good event: an honest status
    assert a.status == 200, a.text
    found = frames(a) if "alt=sse" in method else a.json
    assert found[-1]["error"]["message"] and found[-1]["error"]["code"] >= 500
    assert reasons(found) == []


@pytest.mark.parametrize("method", [STREAM, "streamGenerateContent"])
@pytest.mark.parametrize("model", THREE)
def test_check_059_a_line_of_a_mebibyte_passes_or_ends_honestly(gateway, model, method):
    a = ask(gateway, model + "~line_kb=1024", "long", method)
    assert a.status == 200
    found = frames(a) if "alt=sse" in method else a.json
    assert reasons(found) == ["STOP"] or found[-1]["error"]


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "google/gemini-2.5-flash"])
def test_check_060_heartbeats_keep_a_silent_stream_alive(make_gateway, standin, model):
    gw = make_gateway(conf={"gateway.yaml": {"streams.heartbeat_s": 1, "streams.gap_s": 20}})
    a = ask(gw, model + "~gap_ms=4500,gap_at=3,chunks=5", "slow", STREAM)
    assert a.text.count(": keep-alive") >= 3
    assert reasons(frames(a)) == ["STOP"]
    a = ask(gw, model + "~gap_ms=2500,gap_at=3,chunks=5", "slow", "streamGenerateContent")
    assert reasons(a.json) == ["STOP"]
    assert "\n\n" in a.text  # white space between the elements


@pytest.mark.parametrize("method", [STREAM, "streamGenerateContent"])
def test_a_stream_that_falls_silent_fails_after_the_gap(make_gateway, method):
    gw = make_gateway(conf=FAST)
    a = ask(gw, "google/gemini-2.5-flash~hang=stream,after=3", "one two three four", method)
    assert a.status == 200
    found = frames(a) if "alt=sse" in method else a.json
    assert found[-1]["error"]["code"] == 504 and reasons(found) == []

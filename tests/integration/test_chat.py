"""Chat through the real program: five providers, streamed and whole, native and OpenAI surfaces."""
import json

import pytest
from gateway import AUTH, MASTER_KEY, Gateway

MODELS = ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5", "google/gemini-2.5-flash",
          "groq/llama-3.1-8b-instant", "ollama/llama3.2"]


@pytest.mark.parametrize("model", MODELS)
def test_a_chat_is_answered_through_every_provider(gateway, model):
    a = gateway.chat(model, "the quick brown fox")
    assert a.status == 200, a.text
    body = a.json
    assert body["object"] == "chat.completion"
    message = body["choices"][0]["message"]
    assert message["role"] == "assistant" and "the quick brown fox" in message["content"]
    assert body["choices"][0]["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    provider, name = model.split("/", 1)
    assert a.headers["x-postern-provider"] == provider
    assert a.headers["x-postern-model"] == model
    assert a.headers["x-postern-attempts"] == "1"
    assert a.headers["x-postern-fallback-index"] == "0"
    assert int(a.headers["x-postern-overhead-us"]) >= 0
    assert len(a.headers["x-request-id"]) >= 16


def stream_text(answer):
    events = answer.events()
    assert events[-1][1] == "[DONE]", events[-3:]
    chunks = [json.loads(data) for _, data in events[:-1]]
    assert all(c["object"] == "chat.completion.chunk" for c in chunks)
    assert len({c["id"] for c in chunks}) == 1
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    return chunks, text


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_is_relayed_from_every_provider(gateway, model):
    a = gateway.chat(model, "one two three four five", stream=True)
    assert a.status == 200
    assert a.headers["content-type"].startswith("text/event-stream")
    assert a.headers["x-accel-buffering"] == "no"
    chunks, text = stream_text(a)
    assert "one two three four five" in text
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    reasons = [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]]
    assert reasons[-1] == "stop" and not any(reasons[:-1])
    assert all(c.get("usage") is None for c in chunks), "usage was not asked for"


@pytest.mark.parametrize("model", MODELS)
def test_usage_comes_at_the_end_of_a_stream_when_asked_for(gateway, model):
    a = gateway.chat(model, "count me", stream=True, stream_options={"include_usage": True})
    chunks, _ = stream_text(a)
    assert chunks[-1]["choices"] == []
    usage = chunks[-1]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert all(c.get("usage") is None for c in chunks[:-1])


def test_usage_is_always_asked_for_upstream(gateway, standin):
    gateway.chat("openai/gpt-4o-mini", "hi", stream=True)
    call = standin.calls()[-1]
    assert call["body"]["stream_options"]["include_usage"] is True


def test_a_passed_through_body_changes_only_in_the_model_name(gateway, standin):
    odd = {"temperature": 0.30000000000000004, "seed": 9007199254740993, "user": "ünïcode \u20ac"}
    gateway.chat("openai/gpt-4o-mini", "pass me", metadata={"b": "1", "a": "2"}, **odd)
    body = standin.calls()[-1]["body"]
    assert body["model"] == "gpt-4o-mini"
    assert body["seed"] == 9007199254740993
    assert body["temperature"] == 0.30000000000000004
    assert body["user"] == odd["user"]
    assert list(body["metadata"]) == ["b", "a"]


def test_what_only_the_vendor_can_judge_passes_through_to_it(gateway, standin):
    messages = [{"role": "user", "content": "hi"},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "not json"}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "odd"}]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    body = {"model": "openai/gpt-4o-mini", "messages": messages, "tools": tools}
    a = gateway.post("/v1/chat/completions", body)
    assert a.status == 200, a.text
    assert standin.calls()[-1]["body"]["messages"] == messages
    a = gateway.post("/v1/chat/completions", {**body, "model": "anthropic/claude-sonnet-4-5"})
    assert a.status == 400 and "arguments" in a.json["error"]["param"]


def test_credentials_of_the_client_never_travel_upstream(gateway, standin):
    for model in MODELS:
        gateway.chat(model, "secret?")
    for call in standin.calls():
        assert MASTER_KEY not in json.dumps(call)


def test_the_trace_and_the_request_id_travel_upstream(gateway, standin):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    a = gateway.chat(headers={**AUTH, "X-Request-ID": "my-own-id.7", "traceparent": trace})
    assert a.headers["x-request-id"] == "my-own-id.7"
    sent = {k.lower(): v for k, v in dict(standin.calls()[-1]["headers"]).items()}
    assert sent["x-request-id"] == "my-own-id.7"
    assert sent["traceparent"].split("-")[1] == trace.split("-")[1]
    assert sent["traceparent"].split("-")[2] != trace.split("-")[2]


def test_tools_are_called_and_answered_through_every_dialect(gateway):
    tools = [{"type": "function", "function": {
        "name": "get_weather", "description": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                       "required": ["city"]}}}]
    for model in MODELS[:3]:
        messages = [{"role": "user", "content": "What is the weather in Paris?"}]
        body = {"model": model, "messages": messages, "tools": tools, "tool_choice": "required"}
        a = gateway.post("/v1/chat/completions", body)
        assert a.status == 200, (model, a.text)
        choice = a.json["choices"][0]
        assert choice["finish_reason"] == "tool_calls", model
        call = choice["message"]["tool_calls"][0]
        assert call["function"]["name"] == "get_weather"
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
        messages += [choice["message"],
                     {"role": "tool", "tool_call_id": call["id"], "content": "sunny, 21 degrees"}]
        a = gateway.post("/v1/chat/completions", {"model": model, "messages": messages, "tools": tools})
        assert a.status == 200, (model, a.text)
        assert "sunny, 21 degrees" in a.json["choices"][0]["message"]["content"], model


def test_an_unknown_model_is_refused_in_openais_shape(gateway):
    a = gateway.chat("nobody/nothing")
    assert a.status == 404
    error = a.json["error"]
    assert error["code"] == "model-not-found" and error["param"] == "model"
    assert set(error) >= {"message", "type", "param", "code"}


def test_native_errors_are_problem_documents(gateway):
    a = gateway.post("/api/v1/chat", {"nonsense": 1})
    assert a.status == 422
    assert a.headers["content-type"].startswith("application/problem+json")
    assert a.json["request_id"] == a.headers["x-request-id"]
    assert "/nonsense" in json.dumps(a.json)


def test_the_native_chat_answers(gateway):
    a = gateway.post("/api/v1/chat", {"message": "hello there", "model": "anthropic/claude-sonnet-4-5"})
    assert a.status == 200, a.text
    body = a.json
    assert "hello there" in body["reply"]
    assert body["provider"] == "anthropic"
    assert body["usage"]["total_tokens"] > 0
    assert body["sources"] == [] and body["cached"] is False and body["conversation_id"]
    assert isinstance(body["cost_dollars"], float)


def test_the_native_chat_streams_its_own_events(gateway):
    a = gateway.post("/api/v1/chat", {"message": "stream to me", "stream": True,
                                      "model": "google/gemini-2.5-flash"})
    events = a.events()
    assert [k for k, _ in events][-2:] == ["usage", "done"]
    text = "".join(json.loads(d)["text"] for k, d in events if k == "delta")
    assert "stream to me" in text
    assert json.loads(events[-1][1])["provider"] == "google"


def test_the_native_chat_has_a_default_model(gateway):
    a = gateway.post("/api/v1/chat", {"message": "who are you"})
    assert a.status == 200, a.text


def test_models_lists_what_can_be_asked_for(gateway):
    data = gateway.get("/v1/models").json["data"]
    ids = [m["id"] for m in data]
    assert "openai/gpt-4o-mini" in ids and all(m["object"] == "model" for m in data)
    one = gateway.get("/v1/models/openai/gpt-4o-mini")
    assert one.status == 200 and one.json["id"] == "openai/gpt-4o-mini"
    assert gateway.get("/v1/models/nobody%2Fnothing").status == 404


def test_providers_without_a_key_are_not_offered(make_gateway, standin):
    gw = make_gateway(env={"ANTHROPIC_API_KEY": None})
    assert gw.chat("anthropic/claude-sonnet-4-5").status == 404
    ids = [m["id"] for m in gw.get("/v1/models").json["data"]]
    assert not any(i.startswith("anthropic/") for i in ids)


def test_embeddings_come_as_floats_and_as_base64(gateway):
    for model in ("openai/text-embedding-3-small", "google/gemini-embedding-001"):
        a = gateway.post("/v1/embeddings", {"model": model, "input": ["one", "two"]})
        assert a.status == 200, a.text
        data = a.json["data"]
        assert [d["index"] for d in data] == [0, 1]
        assert all(isinstance(x, float) for x in data[0]["embedding"])
        b = gateway.post("/v1/embeddings", {"model": model, "input": "one",
                                            "encoding_format": "base64"})
        assert isinstance(b.json["data"][0]["embedding"], str), b.text


def test_the_cost_is_told_where_the_price_is_known(gateway):
    a = gateway.chat("openai/gpt-4o-mini", "price me")
    cost = float(a.headers["x-postern-cost-usd"])
    usage = a.json["usage"]
    assert 0 < cost < 1
    assert "x-postern-cost-usd" not in gateway.chat("openai/some-model-nobody-lists").headers
    assert usage["total_tokens"] > 0


def test_fields_a_dialect_cannot_carry_are_named(gateway):
    a = gateway.chat("anthropic/claude-sonnet-4-5", "hi", seed=7, logit_bias={"5": 1})
    assert a.status == 200, a.text
    assert {"seed", "logit_bias"} <= {x.strip() for x in a.headers["x-postern-dropped"].split(",")}


def test_fields_that_would_change_the_answer_are_refused_by_name(gateway):
    a = gateway.chat("anthropic/claude-sonnet-4-5", "hi", n=2)
    assert a.status == 400
    assert "n" in a.json["error"]["param"]


def test_a_request_may_bring_its_own_fallbacks(gateway, standin):
    a = gateway.chat("openai/gpt-4o-mini~status=500", "help", fallbacks=["anthropic/claude-sonnet-4-5"])
    assert a.status == 200, a.text
    assert a.headers["x-postern-provider"] == "anthropic"
    assert a.headers["x-postern-fallback-index"] == "1"
    assert int(a.headers["x-postern-attempts"]) >= 2
    assert all("fallbacks" not in c["body"] for c in standin.calls())


def test_a_stream_falls_back_before_its_first_event(gateway):
    for fault in ("status=500", "cut=headers", "cut=stream,after=0", "error_event=1,after=0",
                  "garbage_event=1,after=0"):
        a = gateway.chat("openai/gpt-4o-mini~" + fault, "help me", stream=True,
                         fallbacks=["anthropic/claude-sonnet-4-5"])
        assert a.status == 200, (fault, a.text)
        _, text = stream_text(a)
        assert "help me" in text, fault
        assert a.headers["x-postern-provider"] == "anthropic", fault
        gateway.post("/api/v1/admin/circuits/openai/reset", "")


def test_circuits_are_shown_and_reset(gateway, standin):
    for _ in range(5):
        gateway.chat("groq/x~status=500")
    circuits = {c["name"]: c for c in gateway.get("/api/v1/admin/circuits").json["circuits"]}
    assert circuits["groq"]["state"] == "open"
    assert gateway.get("/api/v1/health", headers={}).json["circuit_breakers"]["groq"] == "open"
    assert gateway.chat("groq/fine").status == 503
    assert gateway.post("/api/v1/admin/circuits/groq/reset", "").status == 200
    assert gateway.chat("groq/fine").status == 200
    assert gateway.post("/api/v1/admin/circuits/nobody/reset", "").status == 404


def test_any_openai_compatible_host_is_added_by_configuration_alone(standin):
    models = """
providers:
  mine:
    dialect: openai
    base_url: %s
    api_key_env: MY_KEY
    open_models: true
models: []
aliases:
  - name: house
    strategy: priority
    targets:
      - {model: mine/gpt-4o}
""" % standin.base_url("openai")
    with Gateway(env={"MY_KEY": standin.keys["openai"]}, models=models) as gw:
        a = gw.chat("mine/gpt-4o-mini", "x y z")
        assert a.status == 200, a.text
        a = gw.chat("house", "alias")
        assert a.headers["x-postern-model"] == "mine/gpt-4o"

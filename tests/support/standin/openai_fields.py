"""Request shapes of the OpenAI dialect.

Names, required fields and enumerations are those of the type definitions in the npm package `openai`
6.49.0 (resources/chat/completions/completions.d.ts, embeddings.d.ts, shared.d.ts); ranges are those
of its documentation comments.
tests/sdk/fields.json holds the names, and test_standin_strict.py compares.
"""

from .fields import Any, Arr, Bool, Either, Int, Map, Num, Obj, Str, Tagged

CACHE_MARK = Obj({"mode!": Str(enum=["explicit"])})
NAME = r"^[a-zA-Z0-9_-]+$"

TEXT_PART = Obj({"type!": Str(), "text!": Str(), "prompt_cache_breakpoint": CACHE_MARK})
REFUSAL_PART = Obj({"type!": Str(), "refusal!": Str()})
IMAGE_PART = Obj({
    "type!": Str(),
    "image_url!": Obj({"url!": Str(lo=1), "detail": Str(enum=["auto", "low", "high"])}),
    "prompt_cache_breakpoint": CACHE_MARK,
})
AUDIO_PART = Obj({
    "type!": Str(),
    "input_audio!": Obj({"data!": Str(), "format!": Str(enum=["wav", "mp3"])}),
    "prompt_cache_breakpoint": CACHE_MARK,
})
FILE_PART = Obj({
    "type!": Str(),
    "file!": Obj({"file_data": Str(), "file_id": Str(), "filename": Str()}),
    "prompt_cache_breakpoint": CACHE_MARK,
})

TEXT_CONTENT = Either(Str(), Arr(Tagged("type", {"text": TEXT_PART}), lo=1))
USER_CONTENT = Either(Str(), Arr(Tagged("type", {
    "text": TEXT_PART, "image_url": IMAGE_PART, "input_audio": AUDIO_PART, "file": FILE_PART}), lo=1))
ASSISTANT_CONTENT = Either(
    Str(), Arr(Tagged("type", {"text": TEXT_PART, "refusal": REFUSAL_PART}), lo=1), null=True)

TOOL_CALL = Tagged("type", {
    "function": Obj({
        "id!": Str(lo=1), "type!": Str(),
        "function!": Obj({"name!": Str(lo=1, hi=64, pattern=NAME), "arguments!": Str()})}),
    "custom": Obj({"id!": Str(lo=1), "type!": Str(),
                   "custom!": Obj({"name!": Str(), "input!": Str()})}),
})

PARTICIPANT = Str(lo=1, hi=64, pattern=r"^[^\s<|\\/>]+$")

MESSAGE = Tagged("role", {
    "developer": Obj({"role!": Str(), "content!": TEXT_CONTENT, "name": PARTICIPANT}),
    "system": Obj({"role!": Str(), "content!": TEXT_CONTENT, "name": PARTICIPANT}),
    "user": Obj({"role!": Str(), "content!": USER_CONTENT, "name": PARTICIPANT}),
    "assistant": Obj({
        "role!": Str(), "content": ASSISTANT_CONTENT, "name": PARTICIPANT,
        "refusal": Str(null=True), "audio": Obj({"id!": Str()}, null=True),
        "tool_calls": Arr(TOOL_CALL, lo=1, null=True),
        "annotations": Arr(Map(), null=True),  # of an answer that is sent back as it came
        "function_call": Obj({"arguments!": Str(), "name!": Str()}, null=True),
    }),
    "tool": Obj({"role!": Str(), "content!": TEXT_CONTENT, "tool_call_id!": Str(lo=1)}),
    "function": Obj({"role!": Str(), "content!": Str(null=True), "name!": Str()}),
})

FUNCTION = Obj({
    "name!": Str(lo=1, hi=64, pattern=NAME), "description": Str(), "parameters": Map(),
    "strict": Bool(null=True),
})
TOOL = Tagged("type", {
    "function": Obj({"type!": Str(), "function!": FUNCTION}),
    "custom": Obj({"type!": Str(), "custom!": Obj({
        "name!": Str(), "description": Str(), "format": Any()})}),
})
TOOL_CHOICE = Either(
    Str(enum=["none", "auto", "required"]),
    Tagged("type", {
        "function": Obj({"type!": Str(), "function!": Obj({"name!": Str()})}),
        "custom": Obj({"type!": Str(), "custom!": Obj({"name!": Str()})}),
        "allowed_tools": Obj({"type!": Str(), "allowed_tools!": Obj({
            "mode!": Str(enum=["auto", "required"]), "tools!": Arr(Map())})}),
    }))

RESPONSE_FORMAT = Tagged("type", {
    "text": Obj({"type!": Str()}),
    "json_object": Obj({"type!": Str()}),
    "json_schema": Obj({"type!": Str(), "json_schema!": Obj({
        "name!": Str(lo=1, hi=64, pattern=NAME), "description": Str(), "schema": Map(),
        "strict": Bool(null=True)})}),
})

EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"]

CHAT = Obj({
    "messages!": Arr(MESSAGE, lo=1),
    "model!": Str(lo=1),
    "audio": Obj({"format!": Str(), "voice!": Any()}, null=True),
    "frequency_penalty": Num(-2, 2, null=True),
    "function_call": Either(Str(enum=["none", "auto"]), Obj({"name!": Str()})),
    "functions": Arr(Obj({"name!": Str(), "description": Str(), "parameters": Map()}), lo=1, hi=128),
    "logit_bias": Map(Num(-100, 100), null=True),
    "logprobs": Bool(null=True),
    "max_completion_tokens": Int(1, null=True),
    "max_tokens": Int(1, null=True),
    "metadata": Map(Str(hi=512), hi=16, null=True),
    "modalities": Arr(Str(enum=["text", "audio"]), lo=1, null=True),
    "moderation": Obj({"model!": Str(), "policy": Any()}, null=True),
    "n": Int(1, 128, null=True),
    "parallel_tool_calls": Bool(),
    "prediction": Obj({"type!": Str(enum=["content"]), "content!": TEXT_CONTENT}, null=True),
    "presence_penalty": Num(-2, 2, null=True),
    "prompt_cache_key": Str(null=True),
    "prompt_cache_options": Obj({"mode": Str(enum=["implicit", "explicit"]), "ttl": Str(enum=["30m"])}),
    "prompt_cache_retention": Str(enum=["in_memory", "24h"], null=True),
    "reasoning_effort": Str(enum=EFFORTS, null=True),
    "response_format": RESPONSE_FORMAT,
    "safety_identifier": Str(null=True),
    "seed": Int(null=True),
    "service_tier": Str(enum=["auto", "default", "flex", "scale", "priority"], null=True),
    "stop": Either(Str(), Arr(Str(), lo=1, hi=4), null=True),
    "store": Bool(null=True),
    "stream": Bool(null=True),
    "stream_options": Obj({"include_usage": Bool(), "include_obfuscation": Bool()}, null=True),
    "temperature": Num(0, 2, null=True),
    "tool_choice": TOOL_CHOICE,
    "tools": Arr(TOOL, lo=1, hi=128),
    "top_logprobs": Int(0, 20, null=True),
    "top_p": Num(0, 1, null=True),
    "user": Str(),
    "verbosity": Str(enum=["low", "medium", "high"], null=True),
    "web_search_options": Obj({"search_context_size": Str(enum=["low", "medium", "high"]),
                               "user_location": Any()}),
})

#: Groq takes these as well (its API reference), and none of GROQ_REFUSED
GROQ_EXTRA = {
    "reasoning_format": Str(enum=["hidden", "raw", "parsed"], null=True),
    "include_reasoning": Bool(null=True),
    "citation_options": Any(), "compound_custom": Any(), "disable_tool_validation": Bool(),
    "documents": Any(), "exclude_domains": Any(), "include_domains": Any(), "search_settings": Any(),
}
GROQ_REFUSED = ("logit_bias", "logprobs", "top_logprobs")

EMBEDDINGS = Obj({
    "input!": Either(Str(lo=1), Arr(Either(Str(lo=1), Int(0), Arr(Int(0), lo=1)), lo=1, hi=2048)),
    "model!": Str(lo=1),
    "dimensions": Int(1),
    "encoding_format": Str(enum=["float", "base64"]),
    "user": Str(),
})

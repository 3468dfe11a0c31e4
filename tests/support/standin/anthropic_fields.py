"""Request shapes of the Anthropic dialect.

Names, required fields and enumerations are those of the npm package `@anthropic-ai/sdk` 1.11.0
(resources/messages/messages.d.ts). That release speaks API version 2026-10-21, which no longer has
temperature, top_p and top_k; they are in SAMPLING and accepted with version 2023-06-01 only.
tests/sdk/fields.json holds the names, and test_standin_strict.py compares.
"""

from .fields import Any, Arr, Bool, Either, Int, Map, Num, Obj, Str, Tagged

CACHE = Obj({"type!": Str(enum=["ephemeral"]), "ttl": Str(enum=["5m", "1h"])}, null=True)
CITATIONS = Obj({"enabled": Bool()}, null=True)
TOOL_ID = r"^[a-zA-Z0-9_-]+$"
TOOL_NAME = r"^[a-zA-Z0-9_-]{1,128}$"

TEXT = Obj({"type!": Str(), "text!": Str(), "cache_control": CACHE,
            "citations": Arr(Map(), null=True)})
IMAGE = Obj({
    "type!": Str(),
    "source!": Tagged("type", {
        "base64": Obj({"type!": Str(), "data!": Str(),
                       "media_type!": Str(enum=["image/jpeg", "image/png", "image/gif", "image/webp"])}),
        "url": Obj({"type!": Str(), "url!": Str()}),
        "file": Obj({"type!": Str(), "file_id!": Str()}),
    }),
    "cache_control": CACHE,
    "transformations": Obj({"oversized_image": Str(enum=["downsize", "error"])}, null=True),
})
DOCUMENT = Obj({
    "type!": Str(),
    "source!": Tagged("type", {
        "base64": Obj({"type!": Str(), "data!": Str(), "media_type!": Str(enum=["application/pdf"])}),
        "text": Obj({"type!": Str(), "data!": Str(), "media_type!": Str(enum=["text/plain"])}),
        "content": Obj({"type!": Str(), "content!": Either(
            Str(), Arr(Tagged("type", {"text": TEXT, "image": IMAGE})))}),
        "url": Obj({"type!": Str(), "url!": Str()}),
        "file": Obj({"type!": Str(), "file_id!": Str()}),
    }),
    "cache_control": CACHE, "citations": CITATIONS, "context": Str(null=True), "title": Str(null=True),
})
SEARCH_RESULT = Obj({"type!": Str(), "content!": Arr(TEXT), "source!": Str(), "title!": Str(),
                     "cache_control": CACHE, "citations": CITATIONS})
TOOL_USE = Obj({"type!": Str(), "id!": Str(pattern=TOOL_ID), "input!": Map(), "name!": Str(lo=1, hi=200),
                "cache_control": CACHE, "caller": Any(), "toolset_name": Str(null=True)})
TOOL_RESULT = Obj({
    "type!": Str(), "tool_use_id!": Str(pattern=TOOL_ID), "cache_control": CACHE, "is_error": Bool(),
    "toolset_name": Str(null=True),
    "content": Either(Str(), Arr(Tagged("type", {
        "text": TEXT, "image": IMAGE, "document": DOCUMENT, "search_result": SEARCH_RESULT,
        "tool_reference": Obj({"type!": Str(), "tool_name!": Str(), "cache_control": CACHE})}))),
})
THINKING_BLOCK = Obj({"type!": Str(), "signature!": Str(), "thinking!": Str()})
REDACTED_BLOCK = Obj({"type!": Str(), "data!": Str()})

BLOCK = Tagged("type", {
    "text": TEXT, "image": IMAGE, "document": DOCUMENT, "search_result": SEARCH_RESULT,
    "thinking": THINKING_BLOCK, "redacted_thinking": REDACTED_BLOCK, "tool_use": TOOL_USE,
    "tool_result": TOOL_RESULT,
})
CONTENT = Either(Str(), Arr(BLOCK))

MESSAGE = Tagged("role", {
    "user": Obj({"role!": Str(), "content!": CONTENT}),
    "assistant": Obj({"role!": Str(), "content!": CONTENT}),
    "system": Obj({"role!": Str(), "content!": Either(Str(), Arr(Tagged("type", {"text": TEXT})))}),
})

CUSTOM_TOOL = Obj({
    "name!": Str(pattern=TOOL_NAME),
    "input_schema!": Obj({"type!": Str(enum=["object"]), "properties": Map(null=True),
                          "required": Arr(Str(), null=True)}, open_ended=True),
    "allowed_callers": Arr(Str()), "cache_control": CACHE, "defer_loading": Bool(),
    "description": Str(), "eager_input_streaming": Bool(null=True), "input_examples": Arr(Map()),
    "strict": Bool(), "type": Str(null=True),
})
SERVER_TOOL = Obj({"type!": Str(), "name": Str()}, open_ended=True)
SERVER_TOOL_TYPES = [
    "bash_20250124", "code_execution_20250522", "code_execution_20250825", "code_execution_20260120",
    "code_execution_20260521", "browser_toolset_20260801", "memory_20250818",
    "computer_toolset_20260801", "text_editor_20250124", "text_editor_20250429",
    "text_editor_20250728", "web_search_20250305", "web_fetch_20250910", "web_search_20260209",
    "web_fetch_20260209", "web_fetch_20260309", "web_search_20260318", "web_fetch_20260318",
    "tool_search_tool_bm25_20251119", "tool_search_tool_regex_20251119",
]
TOOL = Tagged("type", {"custom": CUSTOM_TOOL, **{t: SERVER_TOOL for t in SERVER_TOOL_TYPES}},
              default="custom")

DISPLAY = Str(enum=["summarized", "omitted"], null=True)
THINKING = Tagged("type", {
    "enabled": Obj({"type!": Str(), "budget_tokens!": Int(), "display": DISPLAY}),
    "adaptive": Obj({"type!": Str(), "display": DISPLAY}),
    "between_tools": Obj({"type!": Str()}),
    "disabled": Obj({"type!": Str()}),
})
TOOL_CHOICE = Tagged("type", {
    "auto": Obj({"type!": Str(), "disable_parallel_tool_use": Bool()}),
    "any": Obj({"type!": Str(), "disable_parallel_tool_use": Bool()}),
    "tool": Obj({"type!": Str(), "name!": Str(), "disable_parallel_tool_use": Bool()}),
    "none": Obj({"type!": Str()}),
})
OUTPUT_CONFIG = Obj({
    "effort": Str(enum=["low", "medium", "high", "xhigh", "max"], null=True),
    "format": Obj({"type!": Str(enum=["json_schema"]), "schema!": Map()}, null=True),
})

#: user_profile_id and workspace_id of the SDK's type travel as headers
HEADER_PARAMS = ("user_profile_id", "workspace_id")
COUNT_FIELDS = {
    "messages!": Arr(MESSAGE, lo=1, hi=100000),
    "model!": Str(lo=1),
    "cache_control": CACHE,
    "output_config": OUTPUT_CONFIG,
    "speed": Str(enum=["standard", "fast"], null=True),
    "system": Either(Str(), Arr(Tagged("type", {"text": TEXT}))),
    "thinking": THINKING,
    "tool_choice": TOOL_CHOICE,
    "tools": Arr(TOOL),
}
CREATE_FIELDS = {
    **COUNT_FIELDS,
    "max_tokens!": Int(0),
    "container": Either(Str(), Obj({"id": Str(null=True), "skills": Arr(Map(), null=True)}), null=True),
    "diagnostics": Obj({"previous_message_id": Str(null=True)}, null=True),
    "inference_geo": Str(null=True),
    "metadata": Obj({"user_id": Str(hi=512, null=True)}),
    "service_tier": Str(enum=["auto", "standard_only"]),
    "stop_sequences": Arr(Str()),
    "stream": Bool(),
}
SAMPLING = {"temperature": Num(0, 1), "top_p": Num(0, 1), "top_k": Int(0)}

COUNT = Obj(COUNT_FIELDS)
CREATE = {"2023-06-01": Obj({**CREATE_FIELDS, **SAMPLING}), "2026-10-21": Obj(CREATE_FIELDS)}

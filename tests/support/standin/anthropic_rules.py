"""What the Anthropic API demands beyond the shapes: models' abilities and the order of blocks."""

import re
from dataclasses import dataclass

from . import brain, schema
from .dialect import ApiError


@dataclass
class Traits:
    """What a model takes; by line and version number."""

    adaptive: bool  # thinking adaptive
    budget: bool  # thinking enabled with budget_tokens
    sampling: bool  # temperature, top_p, top_k other than the default
    always_thinks: bool  # no thinking disabled, no forced tool
    prefill: bool  # a conversation may end with an assistant turn
    effort: bool
    formats: bool  # output_config.format
    hides_thoughts: bool  # thinking.display defaults to omitted
    mid_system: bool  # system role inside messages
    max_output: int


def traits(model):
    """The Traits of a Claude model name, old style (claude-3-5-haiku-...) or new."""
    old = re.match(r"claude-(\d)(?:-(\d))?-(\w+)", model)
    new = re.match(r"claude-([a-z]+)-(\d)(?:-(\d{1,2})(?!\d))?", model)
    if old:
        line, version = old.group(3), (int(old.group(1)), int(old.group(2) or 0))
    elif new:
        line, version = new.group(1), (int(new.group(2)), int(new.group(3) or 0))
    else:
        line, version = "opus", (9, 0)
    modern = version >= (4, 7)
    always = line in ("fable", "mythos") or (line == "opus" and version >= (5, 5))
    limits = [((4, 6), 128000), ((4, 0), 64000), ((3, 5), 8192)]
    return Traits(
        adaptive=version >= (4, 6), budget=(3, 7) <= version < (4, 7), sampling=not modern,
        always_thinks=always, prefill=version < (4, 6), effort=version >= (4, 5),
        formats=version >= (4, 5), hides_thoughts=modern, mid_system=version >= (4, 8),
        max_output=next((n for least, n in limits if version >= least), 4096))


def bad(message):
    return ApiError(400, message)


def blocks_of(message):
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def check_parameters(data, model, version):
    """Sampling, thinking, tools, limits."""
    t = traits(model)
    limit = data.get("max_tokens")
    if limit is not None and limit > t.max_output:
        raise bad(f"max_tokens: {limit} > {t.max_output}, which is the maximum allowed number of output "
                  f"tokens for {model}")
    if not t.sampling:
        for name, default in (("temperature", 1), ("top_p", None), ("top_k", None)):
            if name in data and data[name] != default:
                raise bad(f"`{name}` is deprecated for this model.")
    elif "temperature" in data and "top_p" in data:
        raise bad("`temperature` and `top_p` cannot both be specified for this model. Please use only "
                  "one.")
    for index, stop in enumerate(data.get("stop_sequences") or []):
        if not stop.strip():
            raise bad(f"stop_sequences.{index}: each stop sequence must contain non-whitespace")
    output = data.get("output_config") or {}
    if output.get("effort") is not None and not t.effort:
        raise bad("This model does not support the effort parameter.")
    if output.get("format") is not None:
        _check_format(output["format"]["schema"], t)
    _check_tools(data, t)
    _check_thinking(data, t)


def _check_format(given, t):
    if not t.formats:
        raise bad("'claude' model does not support output format.")
    problem = schema.problem(given)
    if problem:
        raise bad(f"output_config.format.schema: {problem}")
    fault = schema.strict_fault(given)
    if fault is not None and fault[1] == "additionalProperties":
        raise bad("output_config.format.schema: For 'object' type, 'additionalProperties' must be "
                  "explicitly set to false")


def _check_tools(data, t):
    tools = data.get("tools") or []
    names = [tool.get("name") for tool in tools]
    if len(set(names)) != len(names):
        raise bad("tools: Tool names must be unique.")
    for index, tool in enumerate(tools):
        problem = schema.problem(tool["input_schema"]) if "input_schema" in tool else None
        if problem:
            raise bad(f"tools.{index}.custom.input_schema: JSON schema is invalid. It must match JSON Schema "
                      f"draft 2020-12: {problem}")
    choice = data.get("tool_choice")
    if choice is None:
        return
    if not tools and choice["type"] != "none":
        raise bad("tool_choice: tool_choice may only be specified while providing tools")
    if choice["type"] == "tool" and choice["name"] not in names:
        raise bad(f"Tool '{choice['name']}' not found in provided tools")
    if choice["type"] in ("any", "tool"):
        thinking = (data.get("thinking") or {}).get("type")
        if t.always_thinks:
            raise bad("tool_choice: forced tool use is not supported for this model.")
        if thinking in ("enabled", "adaptive"):
            raise bad("Thinking may not be enabled when tool_choice forces tool use.")


def _check_thinking(data, t):
    thinking = data.get("thinking")
    if thinking is None:
        return
    kind = thinking["type"]
    if kind == "disabled" and t.always_thinks:
        raise bad('"thinking.type.disabled" is not supported for this model.')
    if kind in ("adaptive", "between_tools") and not t.adaptive:
        raise bad("adaptive thinking is not supported on this model")
    if kind == "enabled":
        if not t.budget:
            raise bad('"thinking.type.enabled" is not supported for this model. Use '
                      '"thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
                      if t.adaptive else "thinking is not supported on this model")
        budget = thinking["budget_tokens"]
        if budget < 1024:
            raise bad("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if data.get("max_tokens") is not None and budget >= data["max_tokens"]:
            raise bad("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if kind in ("enabled", "adaptive"):
        if data.get("temperature", 1) != 1:
            raise bad("`temperature` may only be set to 1 when thinking is enabled.")
        if "top_k" in data:
            raise bad("`top_k` must be unset when thinking is enabled.")
        if not 0.95 <= data.get("top_p", 1) <= 1:
            raise bad("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")


def check_messages(data, model, version):
    """Roles, empty content, tool_use and tool_result, signatures."""
    t, messages = traits(model), data["messages"]
    if messages[0]["role"] != "user":
        raise bad("messages: first message must use the \"user\" role")
    marks = 0
    for block in _system_blocks(data) + [b for m in messages for b in blocks_of(m)]:
        marks += block.get("cache_control") is not None
    marks += sum(tool.get("cache_control") is not None for tool in data.get("tools") or [])
    if marks > 4:
        raise bad(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")
    for index, message in enumerate(messages):
        if message["role"] == "system" and not t.mid_system:
            raise bad('messages: Unexpected role "system". The Messages API accepts a top-level `system` '
                      'parameter, not "system" as an input message role.')
        last = index == len(messages) - 1
        _check_blocks(message, index, last, version)
    final = messages[-1]
    if final["role"] == "assistant":
        if not t.prefill:
            raise bad("This model does not support assistant message prefill. The conversation must end "
                      "with a user message.")
        if (data.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
            raise bad("Expected `thinking` or `redacted_thinking`: assistant prefill is not possible with "
                      "thinking.")
    _check_tool_order(_turns(messages), data)


def _system_blocks(data):
    system = data.get("system")
    if isinstance(system, list):
        for block in system:
            if not block["text"]:
                raise bad("system: text content blocks must be non-empty")
        return system
    return []


def _check_blocks(message, index, last, version):
    blocks = blocks_of(message)
    if not blocks or (isinstance(message["content"], str) and not message["content"]):
        if not (last and message["role"] == "assistant"):
            raise bad(f"messages.{index}: all messages must have non-empty content except for the "
                      "optional final assistant message")
    for at, block in enumerate(blocks):
        where, kind = f"messages.{index}.content.{at}", block["type"]
        if kind == "text":
            if not block["text"] and isinstance(message["content"], list):
                raise bad("messages: text content blocks must be non-empty")
            if not block["text"].strip() and block["text"]:
                raise bad("messages: text content blocks must contain non-whitespace text")
            if version >= "2026" and message["role"] == "user" and block.get("citations"):
                raise bad(f"{where}.citations: citations are not permitted in user messages")
        elif message["role"] == "user" and kind in ("tool_use", "thinking", "redacted_thinking"):
            raise bad(f"messages.{index}: `{kind}` blocks can only be in `assistant` messages")
        elif message["role"] == "assistant" and kind == "tool_result":
            raise bad(f"messages.{index}: `tool_result` blocks can only be in `user` messages")
        elif message["role"] == "assistant" and kind == "image":
            raise bad(f"messages.{index}: `image` blocks are not permitted in assistant messages")
        elif message["role"] == "assistant" and kind == "document" and version >= "2026":
            raise bad(f"{where}: `document` blocks are not permitted in assistant messages")
        if kind == "thinking" and block["signature"] != brain.sign("thinking", block["thinking"]):
            raise bad(f"{where}: Invalid `signature` in `thinking` block")
        if kind == "redacted_thinking" and block["data"] != brain.sign("redacted"):
            raise bad(f"{where}: Invalid `data` in `redacted_thinking` block")
    if last and message["role"] == "assistant" and blocks and blocks[-1]["type"] == "text":
        if blocks[-1]["text"] != blocks[-1]["text"].rstrip():
            raise bad("messages: final assistant content cannot end with trailing whitespace")


def _turns(messages):
    """[(index of its first message, role, blocks)] with equal neighbours merged, as the API does."""
    turns = []
    for index, message in enumerate(messages):
        if message["role"] == "system":
            continue
        if turns and turns[-1][1] == message["role"]:
            turns[-1][2].extend(blocks_of(message))
        else:
            turns.append((index, message["role"], list(blocks_of(message))))
    return turns


def _check_tool_order(turns, data):
    thinking = (data.get("thinking") or {}).get("type") == "enabled"
    seen, pending, used = set(), [], False
    for number, (index, role, blocks) in enumerate(turns):
        if role == "user":
            results = _leading_results(blocks)
            late = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"][len(results):]
            missing = [i for i in pending if i not in results]
            if missing:
                raise bad(f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks "
                          f"immediately after: {', '.join(missing)}. Each `tool_use` block must have a "
                          "corresponding `tool_result` block in the next message.")
            extra = [i for i in results + late if i not in pending] or late
            if extra:
                raise bad(f"messages.{index}.content.0: unexpected `tool_use_id` found in `tool_result` "
                          f"blocks: {extra[0]}. Each `tool_result` block must have a corresponding "
                          "`tool_use` block in the previous message.")
            if len(set(results)) != len(results):
                raise bad(f"messages.{index}.content: each tool_use must have a single result. Found "
                          f"multiple `tool_result` blocks with id: {results[0]}")
            pending = []
        else:
            pending = [b["id"] for b in blocks if b["type"] == "tool_use"]
            used = used or bool(pending)
            for tool_id in pending:
                if tool_id in seen:
                    raise bad(f"messages.{index}.content: `tool_use` ids must be unique")
                seen.add(tool_id)
            if thinking and pending and number == len(turns) - 2:
                if blocks[0]["type"] not in ("thinking", "redacted_thinking"):
                    raise bad(f"messages.{index}.content.0.type: Expected `thinking` or "
                              f"`redacted_thinking`, but found `{blocks[0]['type']}`. When `thinking` is "
                              "enabled, a final `assistant` message must start with a thinking block.")
    if pending:
        raise bad(f"messages.{turns[-1][0]}: `tool_use` ids were found without `tool_result` blocks "
                  f"immediately after: {', '.join(pending)}.")
    if used and not data.get("tools"):
        raise bad("Requests which include `tool_use` or `tool_result` blocks must define tools.")


def _leading_results(blocks):
    ids = []
    for block in blocks:
        if block["type"] != "tool_result":
            break
        ids.append(block["tool_use_id"])
    return ids

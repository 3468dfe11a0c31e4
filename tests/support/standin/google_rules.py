"""What the Gemini API demands beyond the shapes: parts, turns, signatures, models' abilities."""

import re

from . import brain
from . import schema as schemas
from .dialect import ApiError
from .google_fields import PART_DATA

#: the documented values that switch the check of thought signatures off
BYPASS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
FUNCTION_NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}$")
MIME_TYPES = re.compile(r"^(image/(png|jpeg|webp|heic|heif|gif)|application/(pdf|json)|text/[\w+-]+"
                        r"|audio/[\w+-]+|video/[\w+-]+)$")


def bad(message):
    return ApiError(400, message)


def version_of(model):
    """(3, 1) of gemini-3.1-pro-preview; (2, 5) where nothing is known."""
    match = re.search(r"gemini-(\d+)(?:\.(\d+))?", model)
    return (int(match.group(1)), int(match.group(2) or 0)) if match else (2, 5)


def call_signature(name, args):
    return brain.sign("call", name, brain.canonical(args))


def text_signature(text):
    return brain.sign("text", text)


def check_contents(contents, path):
    """Roles, parts and the order of function calls and their responses."""
    if not contents:
        raise bad(f"* {path}: contents is not specified\n")
    for index, content in enumerate(contents):
        where = f"{path}[{index}]"
        role = content.setdefault("role", "user")
        if role not in ("user", "model", "function"):
            raise bad("Please use a valid role: user, model.")
        if not content.get("parts"):
            raise bad(f"* {where}.parts: contents.parts must not be empty.\n")
        for at, part in enumerate(content["parts"]):
            _check_part(part, role, f"{where}.parts[{at}]")
    _check_turns(contents)


def _check_part(part, role, where):
    kinds = [kind for kind in PART_DATA if kind in part]
    if not kinds and "thoughtSignature" not in part:
        raise bad(f"* {where}.data: required oneof field 'data' must have one initialized field\n")
    if len(kinds) > 1:
        raise bad(f"Invalid value at '{where}' (oneof), oneof field 'data' is already set. Cannot set "
                  f"'{kinds[1]}'")
    if "inlineData" in part:
        blob = part["inlineData"]
        if not blob.get("mimeType"):
            raise bad(f"* {where}.inline_data.mime_type: mime_type must not be empty.\n")
        if not MIME_TYPES.match(blob["mimeType"]):
            raise bad(f"Unsupported MIME type: {blob['mimeType']}")
        try:
            brain.media_size(blob.get("data", ""))
        except ValueError:
            raise bad(f"Invalid value at '{where}.inline_data.data' (TYPE_BYTES), Base64 decoding failed "
                      "for \"...\"") from None
    if "fileData" in part:
        if not part["fileData"].get("fileUri"):
            raise bad(f"* {where}.file_data.file_uri: file_uri must not be empty.\n")
        if not re.match(r"(https?|gs)://", part["fileData"]["fileUri"]):
            raise bad("Unsupported file URI type: " + part["fileData"]["fileUri"])
    for kind in ("functionCall", "functionResponse"):
        if kind in part and not part[kind].get("name"):
            raise bad(f"* {where}.{'function_call' if kind == 'functionCall' else 'function_response'}"
                      ".name: Name cannot be empty.\n")
    if "functionResponse" in part and "response" not in part["functionResponse"]:
        raise bad(f"* {where}.function_response.response: required field is not set\n")
    if "functionCall" in part and role != "model":
        raise bad("Please ensure that function calls are in turns of role model.")
    if "functionResponse" in part and role == "model":
        raise bad("Please ensure that function responses are in turns of role user.")


def _of_kind(content, kind):
    return [part[kind] for part in content["parts"] if kind in part]


def _check_turns(contents):
    if contents[0]["role"] == "model":
        raise bad("Please ensure that multiturn requests start with a user role.")
    if contents[-1]["role"] == "model":
        raise bad("Please ensure that multiturn requests end with a user role or a function response.")
    open_calls = []
    for index, content in enumerate(contents):
        calls = _of_kind(content, "functionCall")
        responses = _of_kind(content, "functionResponse")
        if responses and not open_calls:
            raise bad("Please ensure that function response turn comes immediately after a function call "
                      "turn.")
        if open_calls:
            if len(responses) != len(open_calls):
                raise bad("Please ensure that the number of function response parts is equal to the "
                          "number of function call parts of the function call turn.")
            _match(open_calls, responses)
        open_calls = calls
        if calls and contents[index - 1]["role"] == "model":
            raise bad("Please ensure that function call turn comes immediately after a user turn or after "
                      "a function response turn.")


def _match(calls, responses):
    """Responses answer the calls by id where there is one, else by name."""
    left = list(calls)
    for response in responses:
        found = next((c for c in left if response.get("id") and c.get("id") == response["id"]), None)
        found = found or next((c for c in left if c["name"] == response["name"]), None)
        if found is None or found["name"] != response["name"]:
            raise bad(f"Function response '{response['name']}' does not match any function call of the "
                      "function call turn.")
        left.remove(found)


def check_signatures(contents, model, issued):
    """Every model turn after the last text of the user (the current turn) must bring back the
    signature of its first function call: always with Gemini 3, else if this server made one."""
    current = 0
    for index, content in enumerate(contents):
        if content["role"] == "user" and not _of_kind(content, "functionResponse"):
            current = index
    for index, content in enumerate(contents):
        first = True
        for at, part in enumerate(content["parts"]):
            given = part.get("thoughtSignature")
            call = part.get("functionCall")
            if given is not None and given not in BYPASS:
                _check_signature(part, given)
            if call is not None and first:
                first = False
                made = call_signature(call["name"], call.get("args", {}))
                wanted = version_of(model) >= (3, 0) or made in issued
                if given is None and wanted and index > current:
                    raise bad("Function call is missing a thought_signature in functionCall parts. This is "
                              "required for tools to work correctly, and missing thought_signature may "
                              "lead to degraded model performance. Additional data, function call "
                              f"`default_api:{call['name']}` , position {at + 1}.")


def _check_signature(part, given):
    if "functionCall" in part:
        call = part["functionCall"]
        good = given == call_signature(call["name"], call.get("args", {}))
    else:
        good = given.startswith(brain.sign("x")[:20])  # a text part may have been merged or split
    if not good:
        raise bad("Corrupted thought signature.")


def check_config(data, model):
    """generationConfig and tools against each other and the model."""
    config = data.get("generationConfig") or {}
    for name, low, high in (("temperature", 0, 2), ("topP", 0, 1), ("topK", 1, 1000),
                            ("candidateCount", 1, 8), ("logprobs", 0, 20), ("presencePenalty", -2, 2),
                            ("frequencyPenalty", -2, 2)):
        if name in config and not low <= config[name] <= high:
            raise bad(f"* GenerateContentRequest.generation_config.{name}: {name} must be in the range "
                      f"[{low}, {high}].\n")
    if config.get("maxOutputTokens", 1) < 1:
        raise bad("max_output_tokens must be positive.")
    if len(config.get("stopSequences") or []) > 5:
        raise bad("* GenerateContentRequest.generation_config.stop_sequences: at most 5 stop sequences.\n")
    if "" in (config.get("stopSequences") or []):
        raise bad("* GenerateContentRequest.generation_config.stop_sequences: must not be empty.\n")
    if "logprobs" in config and not config.get("responseLogprobs"):
        raise bad("Logprobs requires responseLogprobs to be true.")
    mime = config.get("responseMimeType", "text/plain")
    if mime not in ("text/plain", "application/json", "text/x.enum"):
        raise bad("* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are "
                  "`text/plain`, `application/json`, `application/xml`, `application/yaml` and "
                  "`text/x.enum`.\n")
    schemas = [name for name in ("responseSchema", "responseJsonSchema") if config.get(name)]
    if schemas and mime == "text/plain":
        raise bad("* GenerateContentRequest.generation_config.response_schema: response schema is only "
                  "allowed for mime type application/json\n")
    if len(schemas) > 1:
        raise bad("Only one of response_schema and response_json_schema may be set.")
    if "responseSchema" in config:
        _check_schema(config["responseSchema"], "GenerateContentRequest.generation_config.response_schema")
    _check_json_schema(config.get("responseJsonSchema"), "generation_config.response_json_schema")
    _check_tools(data, model, mime)
    _check_thinking(config.get("thinkingConfig"), model)


def _check_tools(data, model, mime):
    names = []
    for index, tool in enumerate(data.get("tools") or []):
        if not tool:
            raise bad(f"* GenerateContentRequest.tools[{index}].tool_type: required one_of 'tool_type' "
                      "must have one initialized field\n")
        for at, function in enumerate(tool.get("functionDeclarations") or []):
            where = f"GenerateContentRequest.tools[{index}].function_declarations[{at}]"
            if not FUNCTION_NAME.match(function.get("name", "")):
                raise bad(f"* {where}.name: [Invalid function name. Must start with a letter or an "
                          "underscore. Must be alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), "
                          "colons (:), or dashes (-), with a maximum length of 128.]\n")
            if "parameters" in function and "parametersJsonSchema" in function:
                raise bad(f"* {where}: parameters and parameters_json_schema must not both be set.\n")
            if function["name"] in names:
                raise bad(f"Duplicate function declaration found: {function['name']}")
            names.append(function["name"])
            _check_json_schema(function.get("parametersJsonSchema"), where)
            if "parameters" in function:
                _check_schema(function["parameters"], f"{where}.parameters")
    calling = (data.get("toolConfig") or {}).get("functionCallingConfig") or {}
    allowed = calling.get("allowedFunctionNames") or []
    if allowed and calling.get("mode") not in ("ANY", "VALIDATED"):
        raise bad("Function calling config is set without function_calling_config.mode set to ANY.")
    for name in allowed:
        if name not in names:
            raise bad(f"Allowed function name {name} is not declared.")
    if calling.get("mode") == "ANY" and not names:
        raise bad("Function calling mode ANY requires function declarations.")
    if names and mime == "application/json" and version_of(model) < (3, 0):
        raise bad("Function calling with a response mime type: 'application/json' is unsupported")


def _check_json_schema(given, where):
    problem = schemas.problem(given) if given is not None else None
    if problem:
        raise bad(f"* {where}: {problem}\n")


def _check_schema(schema, where):
    kind = (schema.get("type") or "").upper()
    if not kind and "anyOf" not in schema:
        raise bad(f"* {where}.type: schema must have a type\n")
    if kind == "ARRAY" and "items" not in schema:
        raise bad(f"* {where}.items: missing field.\n")
    for name in schema.get("required") or []:
        if name not in (schema.get("properties") or {}):
            raise bad(f"* {where}.required[0]: property is not defined\n")
    if schema.get("enum") and kind != "STRING":
        raise bad(f"* {where}.enum: only allowed for STRING type\n")
    for name, part in (schema.get("properties") or {}).items():
        _check_schema(part, f"{where}.properties[{name}]")
    if "items" in schema:
        _check_schema(schema["items"], f"{where}.items")
    for index, part in enumerate(schema.get("anyOf") or []):
        _check_schema(part, f"{where}.any_of[{index}]")


def _check_thinking(thinking, model):
    if not thinking:
        return
    version, budget = version_of(model), thinking.get("thinkingBudget")
    if version < (2, 5):
        raise bad("Thinking is not supported by this model.")
    if "thinkingLevel" in thinking:
        if version < (3, 0):
            raise bad("Thinking level is not supported for this model.")
        if budget is not None:
            raise bad("You can only set only one of thinking budget and thinking level.")
        if "pro" in model and thinking["thinkingLevel"].upper() == "MINIMAL":
            raise bad("Thinking level MINIMAL is not supported for this model. Please retry with other "
                      "thinking level.")
    if budget is None or budget == -1:
        return
    if "pro" in model:
        if budget == 0:
            raise bad("Budget 0 is invalid. This model only works in thinking mode.")
        low, high = 128, 32768
    else:
        low, high = (512 if "lite" in model and budget else 0), 24576
    if not low <= budget <= high:
        raise bad(f"The thinking budget {budget} is invalid. Please choose a value between {low} and "
                  f"{high}.")

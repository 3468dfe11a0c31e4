"""A little JSON schema: making a value that fits, and telling whether a value fits.

Enough for what clients send as answer formats and tool parameters: types, properties, required,
enum, const, items, $ref into the same document, allOf, anyOf, oneOf, bounds and common formats.
"""

import json
import re

FORMATS = {
    "date": "2026-11-21",
    "date-time": "2026-11-21T12:00:00Z",
    "time": "12:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
}
MAX_DEPTH = 6


def resolve(schema, root):
    """`schema` with its $ref followed and its allOf merged."""
    seen = 0
    while isinstance(schema, dict) and "$ref" in schema and seen < 32:
        schema = _target(schema["$ref"], root)
        seen += 1
    if isinstance(schema, dict) and "allOf" in schema:
        merged = {k: v for k, v in schema.items() if k != "allOf"}
        for part in schema["allOf"]:
            part = resolve(part, root)
            for key, value in part.items():
                if key == "properties":
                    merged["properties"] = {**merged.get("properties", {}), **value}
                elif key == "required":
                    merged["required"] = list(merged.get("required", [])) + list(value)
                else:
                    merged.setdefault(key, value)
        schema = merged
    return schema if isinstance(schema, dict) else {}


def _type_of(schema):
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k.lower() != "null"), "null")
    if kind is None:
        if "properties" in schema:
            kind = "object"
        elif "items" in schema:
            kind = "array"
        else:
            kind = "string"
    return kind.lower()


def sample(schema, text="sample", root=None, depth=0):
    """A value valid for `schema`; strings are `text` where nothing else is asked for."""
    root = schema if root is None else root
    schema = resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for word in ("anyOf", "oneOf"):
        if schema.get(word):
            options = [resolve(option, root) for option in schema[word]]
            chosen = next((o for o in options if o.get("type") not in ("null", "NULL")), options[0])
            return sample({**{k: v for k, v in schema.items() if k != word}, **chosen},
                          text, root, depth)
    kind = _type_of(schema)
    if kind == "object":
        return _sample_object(schema, text, root, depth)
    if kind == "array":
        return _sample_array(schema, text, root, depth)
    if kind in ("integer", "number"):
        return _sample_number(schema, kind)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return _sample_string(schema, text)


def _sample_object(schema, text, root, depth):
    required = schema.get("required") or []
    out = {}
    for name, part in (schema.get("properties") or {}).items():
        if depth < MAX_DEPTH or name in required:
            if depth < MAX_DEPTH * 4:
                out[name] = sample(part, text, root, depth + 1)
    return out


def _sample_array(schema, text, root, depth):
    count = int(schema.get("minItems", 1))
    count = min(count, int(schema.get("maxItems", count)))
    if depth >= MAX_DEPTH:
        count = int(schema.get("minItems", 0))
    return [sample(schema.get("items", {}), text, root, depth + 1) for _ in range(count)]


def _sample_number(schema, kind):
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    value = 7 if low is None else low
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        value = schema["exclusiveMinimum"] + 1
    if high is not None and value > high:
        value = high
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        value = schema["exclusiveMaximum"] - 1
    step = schema.get("multipleOf")
    if step:
        value = -(-value // step) * step
    return int(value) if kind == "integer" else value


def _sample_string(schema, text):
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]]
    text = text.ljust(int(schema.get("minLength", 0)), "x")
    if "maxLength" in schema:
        text = text[: int(schema["maxLength"])]
    return text


TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
    "number": (int, float), "null": type(None),
}


def fits(schema, value, root=None):
    """True when `value` is valid for `schema`."""
    root = schema if root is None else root
    schema = resolve(schema, root)
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    for word in ("anyOf", "oneOf"):
        if word in schema and not any(fits(option, value, root) for option in schema[word]):
            return False
    kinds = schema.get("type")
    if kinds is not None:
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not any(_is_kind(value, kind.lower()) for kind in kinds):
            return False
    if isinstance(value, dict):
        return _object_fits(schema, value, root)
    if isinstance(value, list):
        low, high = int(schema.get("minItems", 0)), schema.get("maxItems")
        return (len(value) >= low and (high is None or len(value) <= int(high))
                and all(fits(schema.get("items", {}), item, root) for item in value))
    return _scalar_fits(schema, value)


def _is_kind(value, kind):
    if isinstance(value, bool):
        return kind == "boolean"
    return kind in TYPES and isinstance(value, TYPES[kind])


def _object_fits(schema, value, root):
    properties = schema.get("properties") or {}
    if any(name not in value for name in schema.get("required") or []):
        return False
    if schema.get("additionalProperties") is False and any(n not in properties for n in value):
        return False
    return all(fits(properties[n], v, root) for n, v in value.items() if n in properties)


def _scalar_fits(schema, value):
    if isinstance(value, str):
        if len(value) < int(schema.get("minLength", 0)):
            return False
        if "maxLength" in schema and len(value) > int(schema["maxLength"]):
            return False
        return "pattern" not in schema or re.search(schema["pattern"], value) is not None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            return False
        if "maximum" in schema and value > schema["maximum"]:
            return False
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            return False
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            return False
    return True


NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength",
           "minItems", "maxItems", "multipleOf", "minProperties", "maxProperties")


def problem(schema, root=None, depth=0):
    """Why this is no JSON schema, or None. Takes only what sample() and fits() can work with."""
    if isinstance(schema, bool) and depth:
        return None
    if not isinstance(schema, dict):
        return f"{json.dumps(schema)[:40]} is not a schema"
    root = schema if root is None else root
    if depth > 40:
        return "the schema is nested too deeply"
    return _keyword_problem(schema, root) or next(
        (p for part in _parts(schema) if (p := problem(part, root, depth + 1))), None)


def _keyword_problem(schema, root):
    kinds = schema.get("type", "object")
    kinds = kinds if isinstance(kinds, list) and kinds else [kinds]
    if not all(isinstance(k, str) and k.lower() in TYPES for k in kinds):
        return f"{json.dumps(schema['type'])} is not a type"
    if "$ref" in schema and _target(schema["$ref"], root) is None:
        return f"$ref {json.dumps(schema['$ref'])} leads nowhere"
    required = schema.get("required") or []
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        return "required must be a list of names"
    for word in ("properties", "$defs", "definitions"):
        if not isinstance(schema.get(word) or {}, dict):
            return f"{word} must be an object"
    for word in ("anyOf", "oneOf", "allOf", "enum"):
        if word in schema and not (isinstance(schema[word], list) and schema[word]):
            return f"{word} must be a list with at least one element"
    for word in NUMBERS:
        value = schema.get(word, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e9:
            return f"{word} must be a number"
    return None


def _parts(schema):
    """The schemas inside a schema."""
    for word in ("properties", "$defs", "definitions"):
        yield from (schema.get(word) or {}).values()
    for word in ("anyOf", "oneOf", "allOf"):
        yield from schema.get(word) or []
    if "items" in schema:
        yield schema["items"]


def _target(ref, root):
    """The schema that a $ref leads to at once, or None."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    target = root
    for step in ref[1:].strip("/").split("/"):
        if step:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or step not in target:
                return None
            target = target[step]
    return target if isinstance(target, dict) else None


def strict_fault(schema, path=()):
    """Why `schema` is not a strict one (every object closed), or None."""
    if isinstance(schema, list):
        return next((f for i in schema if (f := strict_fault(i, path))), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties") is not False:
            return path, "additionalProperties"
        if set(schema.get("required") or []) != set(schema.get("properties") or {}):
            return path, "required"
    for word in ("properties", "$defs", "definitions"):
        for name, part in (schema.get(word) or {}).items():
            fault = strict_fault(part, path + (word, name))
            if fault:
                return fault
    for word in ("items", "anyOf", "allOf", "oneOf"):
        if word in schema:
            fault = strict_fault(schema[word], path + (word,))
            if fault:
                return fault
    return None

"""Describing and checking the shape of a JSON request.

A description is a tree of the classes below. check() walks a value along it and raises a Violation
for the first thing that is wrong; each dialect words it the way its vendor does. The descriptions
themselves, with the names from the vendors' type definitions, are in <dialect>_fields.py.
"""

import re


class Violation(Exception):
    """What is wrong and where. `kind` is one of: unknown, missing, type, enum, min, max, short,
    long, pattern; `path` is a tuple of names and indexes; `info` what the wording needs."""

    def __init__(self, kind, path, value=None, **info):
        super().__init__(f"{kind} at {path}")
        self.kind = kind
        self.path = tuple(path)
        self.value = value
        self.info = info


class Spec:
    """Base: `null` says that JSON null is accepted as well."""

    json_type = "any"

    def __init__(self, null=False):
        self.null = null

    def check(self, value, path):
        """Raises a Violation, or returns."""


class Any(Spec):
    """Anything goes."""


class Str(Spec):
    json_type = "string"

    def __init__(self, enum=None, lo=0, hi=None, pattern=None, null=False):
        super().__init__(null)
        self.enum, self.lo, self.hi, self.pattern = enum, lo, hi, pattern

    def check(self, value, path):
        if not isinstance(value, str):
            raise Violation("type", path, value, expected=self)
        if self.enum is not None and value not in self.enum:
            raise Violation("enum", path, value, allowed=list(self.enum))
        if len(value) < self.lo:
            raise Violation("short", path, value, limit=self.lo)
        if self.hi is not None and len(value) > self.hi:
            raise Violation("long", path, value, limit=self.hi)
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise Violation("pattern", path, value, pattern=self.pattern)


class Num(Spec):
    json_type = "number"

    def __init__(self, lo=None, hi=None, null=False):
        super().__init__(null)
        self.lo, self.hi = lo, hi

    def check(self, value, path):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Violation("type", path, value, expected=self)
        if self.lo is not None and value < self.lo:
            raise Violation("min", path, value, limit=self.lo)
        if self.hi is not None and value > self.hi:
            raise Violation("max", path, value, limit=self.hi)


class Int(Num):
    json_type = "integer"

    def check(self, value, path):
        if isinstance(value, bool) or not isinstance(value, int):
            raise Violation("type", path, value, expected=self)
        super().check(value, path)


class Bool(Spec):
    json_type = "boolean"

    def check(self, value, path):
        if not isinstance(value, bool):
            raise Violation("type", path, value, expected=self)


class Arr(Spec):
    json_type = "array"

    def __init__(self, item, lo=0, hi=None, null=False):
        super().__init__(null)
        self.item, self.lo, self.hi = item, lo, hi

    def check(self, value, path):
        if not isinstance(value, list):
            raise Violation("type", path, value, expected=self)
        if len(value) < self.lo:
            raise Violation("short", path, value, limit=self.lo)
        if self.hi is not None and len(value) > self.hi:
            raise Violation("long", path, value, limit=self.hi)
        for index, element in enumerate(value):
            check(self.item, element, path + (index,))


class Map(Spec):
    """An object with names of the caller's choice."""

    json_type = "object"

    def __init__(self, item=None, hi=None, null=False):
        super().__init__(null)
        self.item, self.hi = item or Any(), hi

    def check(self, value, path):
        if not isinstance(value, dict):
            raise Violation("type", path, value, expected=self)
        if self.hi is not None and len(value) > self.hi:
            raise Violation("long", path, value, limit=self.hi)
        for name, element in value.items():
            check(self.item, element, path + (name,))


class Obj(Spec):
    """An object with a fixed set of names. A name ending in `!` is required."""

    json_type = "object"

    def __init__(self, fields, null=False, open_ended=False, camel=False):
        super().__init__(null)
        self.fields = {name.rstrip("!"): spec for name, spec in fields.items()}
        self.required = [name[:-1] for name in fields if name.endswith("!")]
        self.open_ended = open_ended
        self.camel = camel  # also accepts snake_case spellings, and rewrites them

    def check(self, value, path):
        if not isinstance(value, dict):
            raise Violation("type", path, value, expected=self)
        if self.camel:
            _to_camel(value, self.fields)
        for name in self.required:
            if name not in value:
                raise Violation("missing", path + (name,))
        for name, element in value.items():
            spec = self.fields.get(name)
            if spec is not None:
                check(spec, element, path + (name,))
            elif not self.open_ended:
                raise Violation("unknown", path + (name,), element)


class Tagged(Spec):
    """One of several objects, told apart by the value of one field (`default` if absent)."""

    json_type = "object"

    def __init__(self, tag, variants, default=None, null=False):
        super().__init__(null)
        self.tag, self.variants, self.default = tag, variants, default

    def check(self, value, path):
        if not isinstance(value, dict):
            raise Violation("type", path, value, expected=self)
        if self.tag not in value and self.default is None:
            raise Violation("missing", path + (self.tag,))
        name = value.get(self.tag, self.default)
        if name is None:
            name = self.default
        if not isinstance(name, str) or name not in self.variants:
            raise Violation("enum", path + (self.tag,), name, allowed=list(self.variants), tag=True)
        check(self.variants[name], value, path)


class Either(Spec):
    """One of several kinds of JSON value, chosen by the value's own type."""

    def __init__(self, *specs, null=False):
        super().__init__(null)
        self.specs = specs

    def check(self, value, path):
        for spec in self.specs:
            if json_type_of(value) == spec.json_type or (
                spec.json_type == "number" and json_type_of(value) == "integer"
            ):
                check(spec, value, path)
                return
        raise Violation("type", path, value, expected=self)


def check(spec, value, path=()):
    """Checks `value` against `spec`; raises Violation."""
    if value is None:
        if spec.null or isinstance(spec, Any):
            return
        if isinstance(spec, (Obj, Arr, Map, Str, Num, Bool, Tagged, Either)):
            raise Violation("type", path, None, expected=spec)
    spec.check(value, path)


def json_type_of(value):
    """The JSON type's name of a parsed value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return {str: "string", list: "array", dict: "object"}[type(value)]


def camel(name):
    """inline_data -> inlineData"""
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def snake(name):
    """inlineData -> inline_data"""
    return re.sub(r"([A-Z])", lambda m: "_" + m.group(1).lower(), name)


def _to_camel(value, fields):
    for name in [n for n in value if "_" in n and n not in fields and camel(n) in fields]:
        value[camel(name)] = value.pop(name)


def dotted(path):
    """messages.0.content"""
    return ".".join(str(step) for step in path)


def bracketed(path):
    """messages[0].content"""
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step}]"
        else:
            out += f".{step}" if out else str(step)
    return out

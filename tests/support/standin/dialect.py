"""What the dialects have in common: the context of a call, errors, and their base class."""

import json

from .delivery import Answer


class ApiError(Exception):
    """A refusal in no dialect: a status, and what the vendor would say."""

    def __init__(self, status, message=None, kind=None, param=None, code=None, details=None):
        super().__init__(message or f"status {status}")
        self.status = status
        self.message = message
        self.kind = kind  # error type or Google status
        self.param = param
        self.code = code
        self.details = details


class DuplicateKey(ValueError):
    """An object that names one key twice."""


def _no_duplicates(pairs):
    out = {}
    for key, value in pairs:
        if key in out:
            raise DuplicateKey(f"duplicate key {key!r}")
        out[key] = value
    return out


def _no_constants(name):
    raise ValueError(f"{name} is no JSON")


class Context:
    """One call on its way through a dialect."""

    def __init__(self, req, call, brain, path):
        self.req = req
        self.call = call
        self.brain = brain
        self.path = path  # below the dialect's prefix
        self.data = None  # the parsed body
        self.body_error = None
        self.model = None
        self.behaviour = {}

    def parse_body(self):
        if not self.req.body:
            return
        try:
            self.data = json.loads(self.req.body.decode("utf-8"), object_pairs_hook=_no_duplicates,
                                   parse_constant=_no_constants)
        except (ValueError, RecursionError) as error:
            self.body_error = str(error)

    def is_json_type(self):
        kind = (self.req.header("content-type") or "").split(";")[0].strip().lower()
        return kind == "application/json"


class Dialect:
    """Base of the vendors. `prefix` is where it lives, `key` what it wants as a secret."""

    def __init__(self, name, prefix, key):
        self.name = name
        self.prefix = prefix
        self.key = key

    def model_of(self, ctx):
        """The model's name as the client wrote it, or None."""
        return ctx.data.get("model") if isinstance(ctx.data, dict) else None

    def is_stream(self, ctx):
        return isinstance(ctx.data, dict) and ctx.data.get("stream") is True

    def handle(self, ctx):
        """The Answer, or ApiError."""
        raise NotImplementedError

    def error_body(self, fault, ctx):
        """The vendor's JSON for an ApiError."""
        raise NotImplementedError

    def error_headers(self, ctx):
        return []

    def error_answer(self, fault, ctx):
        return Answer.json(self.error_body(fault, ctx), fault.status, self.error_headers(ctx))

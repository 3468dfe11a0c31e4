"""What a script may ask for: the table of directives, and their two notations.

In a control request a behaviour is a JSON object: {"status": 503, "retry_after": 2}. In a model name
it follows a `~`: gpt-4o-mini~status=503,retry_after=2 (values percent-encoded where they hold one of
`,=~`). A name that is not in the table is refused, so a typing error in a test cannot pass unseen.
"""

import math
from urllib.parse import unquote

PLACES = ("before", "head", "headers", "body", "stream")
BODIES = ("garbage", "truncated", "empty", "html", "text", "array", "null", "deep")
EOLS = ("lf", "cr", "crlf", "mixed")


def number(low, high):
    def parse(text):
        value = float(text)
        if not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"must be between {low} and {high}")
        return int(value) if value == int(value) else value
    return parse


def choice(*names):
    def parse(text):
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text
    return parse


def flag(text):
    return str(text).lower() in ("1", "true", "yes", "on", "")


def anything(value):
    return value


#: name -> (parser, help); the README's table is made from this
DIRECTIVES = {
    "status": (number(100, 599), "answer with this status and the vendor's error body"),
    "error_type": (str, "vendor error type (or Google status) instead of the usual one"),
    "message": (str, "message of the error body"),
    "retry_after": (str, "Retry-After header of the answer: seconds, a date, or nonsense"),
    "headers": (anything, "control only: object of further answer headers"),
    "skip_checks": (flag, "do not check the request before the fault"),
    "delay_ms": (number(0, 3.6e6), "wait before the head"),
    "hang": (choice(*PLACES), "say nothing more from this place on"),
    "cut": (choice(*PLACES), "close (FIN) at this place"),
    "reset": (choice(*PLACES), "reset (RST) at this place"),
    "after": (number(0, 1e7), "events sent before the place `stream`; also for the event faults"),
    "gap_ms": (number(0, 3.6e6), "wait between two stream events"),
    "gap_at": (number(1, 1e7), "wait so only once in a stream, after this many events"),
    "trickle": (number(0.1, 1e9), "send this many bytes a second"),
    "bytewise": (flag, "one write for each byte"),
    "split": (number(1, 1e6), "HTTP chunks of at most this many bytes"),
    "framing": (choice("chunked", "close", "length"), "how the end of the body is told"),
    "length": (choice("long", "short"), "Content-Length that is too long or too short"),
    "body": (choice(*BODIES), "this instead of the answer's body, with status 200"),
    "body_raw": (anything, "control only: this text as the body"),
    "wrong_type": (flag, "a content type that does not fit the body"),
    "huge_mb": (number(0.001, 4096), "JSON body of this many megabytes"),
    "gzip": (flag, "Content-Encoding: gzip"),
    "bomb_mb": (number(1, 4096), "gzip body that grows to this many megabytes"),
    "redirect": (str, "307 to this URL (`self` for the same URL)"),
    "info": (number(100, 103), "an informational response before the real one"),
    "close": (flag, "Connection: close"),
    "close_on_next": (choice("1", "fin", "reset"), "keep alive, then drop the next request unanswered"),
    "chunks": (number(0, 1e8), "the answer is this many pieces of text"),
    "size": (number(1, 1e8), "size of each piece"),
    "line_kb": (number(1, 1e6), "one piece of text of this many KiB, in one line"),
    "bad_utf8": (flag, "invalid UTF-8 in the answer's text"),
    "error_event": (str, "the vendor's error event after `after` events, of this type (1: the usual)"),
    "garbage_event": (flag, "an event that is no JSON after `after` events"),
    "no_final": (flag, "the stream ends properly, but without its final event"),
    "no_finish": (flag, "no finish reason (nor final event) in the stream"),
    "unknown": (flag, "events and fields nobody has heard of"),
    "eol": (choice(*EOLS), "line ends of the event stream"),
    "comments": (flag, "comment, id and retry lines between events"),
    "bom": (flag, "byte order mark before the first event"),
    "multi_data": (flag, "several data lines for each event"),
    "no_space": (flag, "no space after the colon"),
    "no_blank": (flag, "no blank line after the last event"),
    "text": (str, "this text as the answer"),
    "finish": (str, "raw finish reason of the vendor"),
    "tools": (number(1, 16), "call the first n tools of the request"),
    "calls": (anything, "control only: list of {name, arguments} to call"),
    "split_args": (number(1, 1e6), "stream tool arguments in pieces of this many characters"),
    "empty_args": (flag, "tool calls without arguments"),
    "bad_args": (flag, "tool arguments that are no JSON (OpenAI and Anthropic streams)"),
    "reasoning": (str, "think; on OpenAI-like servers the name of the field for the thoughts (1: "
                       "reasoning_content)"),
    "redacted": (flag, "Anthropic: a redacted_thinking block"),
    "refuse": (flag, "refuse in the vendor's way"),
    "block": (flag, "Google: promptFeedback and no candidates"),
    "cached": (number(0, 1e9), "cached prompt tokens in the usage"),
    "usage": (anything, "control only: object merged into the vendor's usage; `null` leaves it out"),
    "no_usage": (flag, "no usage at all"),
    "zero_start": (flag, "Anthropic: input usage only in message_delta"),
}

CONTROL_ONLY = {"headers", "body_raw", "calls", "usage"}


class BadDirective(ValueError):
    """A behaviour that names an unknown directive or gives it a bad value."""


def parse(settings):
    """A checked copy of a behaviour object; raises BadDirective."""
    out = {}
    for name, value in settings.items():
        if name not in DIRECTIVES:
            raise BadDirective(f"unknown directive {name!r}")
        parser = DIRECTIVES[name][0]
        try:
            out[name] = value if parser is anything else parser(_plain(value))
        except (TypeError, ValueError) as error:
            raise BadDirective(f"directive {name!r}: {error}") from None
    return out


def _plain(value):
    if value is True:
        return "1"
    if value is False:
        return "0"
    return value if isinstance(value, str) else str(value)


def split_model(model):
    """("gpt-4o~status=503") -> ("gpt-4o", {"status": 503}); raises BadDirective."""
    name, tilde, rest = model.partition("~")
    if not tilde:
        return model, {}
    settings = {}
    for item in rest.replace("~", ",").split(","):
        if item:
            key, equals, value = item.partition("=")
            if key in CONTROL_ONLY:
                raise BadDirective(f"directive {key!r} can only be set by control")
            settings[key] = unquote(value) if equals else "1"
    return name, parse(settings)


def markdown_table():
    """The README's table of directives."""
    rows = ["| directive | effect |", "|---|---|"]
    rows += [f"| `{name}` | {text} |" for name, (_, text) in DIRECTIVES.items()]
    return "\n".join(rows)

"""The model of the stand-in: from what was asked to what is answered, always the same way.

A dialect turns its request into an Ask; think() makes the Reply; the dialect words it. Nothing here
knows a wire format.
"""

import base64
import hashlib
import hmac
import json
import random
import re
from dataclasses import dataclass, field

from . import schema as schemas

#: stands for invalid UTF-8; replaced by 0xFF 0xFE when the bytes are made
BAD_UTF8_MARK = "\ue000"
SECRET = b"stand-in signatures are worth nothing elsewhere"
CACHE_MIN_TOKENS = 1024


@dataclass
class Ask:
    """A request in no dialect."""

    dialect: str
    model: str
    last_user: str = ""  # text of the last user turn
    system: str = ""
    media: list = field(default_factory=list)  # (media type, bytes or None, url or None)
    results: list = field(default_factory=list)  # (name, id, text) that the last turn brought
    tools: dict = field(default_factory=dict)  # name -> JSON schema of its parameters
    tool_mode: str = "auto"  # auto, none, any, named
    tool_name: str | None = None
    parallel: bool = True
    schema: dict | None = None  # the answer must fit this
    json_mode: bool = False
    thinking: bool = False
    max_tokens: int | None = None
    stops: list = field(default_factory=list)
    prompt_text_chars: int = 0  # of everything, for the usage
    cache_marked: bool = False  # Anthropic: cache_control seen
    stream: bool = False


@dataclass
class Call:
    id: str
    name: str
    arguments: dict
    raw: str  # JSON text of the arguments


@dataclass
class Reply:
    """An answer in no dialect. finish: stop, stop_string, length, tools, refused."""

    text: str
    calls: list
    thoughts: str | None
    finish: str
    stop_string: str | None
    prompt_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int  # text and calls, without thoughts
    thought_tokens: int
    pieces: object = None  # iterable of text deltas


def tokens(chars):
    return (chars + 3) // 4


def sign(*parts):
    """A signature only this server makes: for thoughts and for function calls."""
    digest = hmac.new(SECRET, "\0".join(parts).encode("utf-8", "replace"), hashlib.sha512)
    return base64.b64encode(b"standin-signature:" + digest.digest()).decode()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


CALL_PATTERN = re.compile(r"call tool [`\"']?([\w.:-]*\w)[`\"']?(?:\s+with\s+)?", re.I)


def asked_calls(text):
    """[(name, arguments or None)] of "call tool NAME with {...}" in a prompt, in order."""
    found = []
    for match in CALL_PATTERN.finditer(text):
        rest = text[match.end():].lstrip()
        arguments = None
        if rest.startswith("{"):
            try:
                arguments = json.JSONDecoder().raw_decode(rest)[0]
            except ValueError:
                arguments = None
        found.append((match.group(1), arguments))
    return found


class Brain:
    """Holds the little state there is: which long system prompts were seen, for the cache."""

    def __init__(self):
        self.seen_prompts = set()
        self.counter = 0

    def new_id(self, prefix, length=24):
        """Ids are unique and the same in every run."""
        self.counter += 1
        digest = hashlib.sha256(f"{prefix}{self.counter}".encode()).hexdigest()
        return prefix + digest[:length]

    def think(self, ask, behaviour, call_prefix="call_"):
        """The Reply to an Ask under a behaviour (see behaviour.py)."""
        calls = [] if behaviour.get("refuse") else self._calls(ask, behaviour, call_prefix)
        text, finish, stop = self._text(ask, behaviour, calls)
        wants_thoughts = ask.thinking or "reasoning" in behaviour
        thoughts = f"Let me think about: {ask.last_user[:200]}" if wants_thoughts else None
        pieces, chars = self._pieces(text, behaviour)
        if "chunks" in behaviour or "line_kb" in behaviour:
            text = None
        prompt = tokens(ask.prompt_text_chars) + 3 + 85 * len(ask.media)
        cached, written = self._cache(ask, behaviour)
        return Reply(
            text=text, calls=calls, thoughts=thoughts, finish=finish, stop_string=stop,
            prompt_tokens=max(prompt, cached + written), cached_tokens=cached,
            cache_write_tokens=written,
            output_tokens=tokens(chars + sum(len(c.raw) + len(c.name) for c in calls)),
            thought_tokens=tokens(len(thoughts)) if thoughts else 0, pieces=pieces)

    def _calls(self, ask, behaviour, prefix):
        wanted = []
        if "calls" in behaviour:
            wanted = [(c["name"], c.get("arguments", {})) for c in behaviour["calls"]]
        elif not ask.tools or ask.tool_mode == "none":
            return []
        elif "tools" in behaviour:
            wanted = [(name, None) for name in list(ask.tools)[: behaviour["tools"]]]
        elif not ask.results:
            wanted = [(n, a) for n, a in asked_calls(ask.last_user) if n in ask.tools]
            if ask.tool_mode == "named":
                wanted = [w for w in wanted if w[0] == ask.tool_name] or [(ask.tool_name, None)]
            elif ask.tool_mode == "any" and not wanted:
                wanted = [(next(iter(ask.tools)), None)]
            if not ask.parallel:
                wanted = wanted[:1]
        calls = []
        for name, arguments in wanted:
            if arguments is None:
                arguments = schemas.sample(ask.tools.get(name) or {"type": "object"})
            if behaviour.get("empty_args"):
                arguments = {}
            raw = "" if behaviour.get("empty_args") else json.dumps(arguments, ensure_ascii=False)
            if behaviour.get("bad_args"):
                raw = raw[: len(raw) // 2] + "<"
            calls.append(Call(self.new_id(prefix), name, arguments, raw))
        return calls

    def _text(self, ask, behaviour, calls):
        """(text, finish, stop string) before it is cut into pieces."""
        if behaviour.get("refuse"):
            return "I cannot help with that.", "refused", None
        if calls:
            return "", "tools", None
        text = self._words(ask, behaviour)
        for stop in ask.stops:
            at = text.find(stop)
            if stop and at >= 0:
                return text[:at], "stop_string", stop
        limit = ask.max_tokens
        if limit is not None and tokens(len(text)) > limit:
            return text[: limit * 4], "length", None
        if behaviour.get("bad_utf8"):
            text = text[:4] + BAD_UTF8_MARK + text[4:]
        return text, "stop", None

    @staticmethod
    def _words(ask, behaviour):
        if "text" in behaviour:
            return behaviour["text"]
        if ask.results:
            listed = "; ".join(f"{name} = {text}" for name, _, text in ask.results)
            return f"The tools said: {listed}"
        if ask.schema is not None:
            value = schemas.sample(ask.schema, (ask.last_user or "sample")[:40])
            return json.dumps(value, ensure_ascii=False)
        if ask.json_mode:
            return json.dumps({"answer": ask.last_user}, ensure_ascii=False)
        seen = ""
        for media_type, size, url in ask.media:
            what = f"at {url}" if url else f"of {size} bytes"
            seen += f"I see {media_type} {what}. "
        return f"{seen}You said: {ask.last_user}"

    @staticmethod
    def _pieces(text, behaviour):
        """(iterable of text deltas, number of characters)."""
        if "chunks" in behaviour:
            count, size = behaviour["chunks"], behaviour.get("size", 16)
            piece = ("lorem ipsum dolor sit amet " * (size // 27 + 1))[:size]
            return (piece for _ in range(count)), count * size
        pieces = re.findall(r"\S+\s*|\s+", text)
        chars = len(text)
        if "line_kb" in behaviour:
            at = min(behaviour.get("after", 1), len(pieces))
            pieces.insert(at, "x" * (1024 * behaviour["line_kb"]))
            chars += 1024 * behaviour["line_kb"]
        return pieces, chars

    def _cache(self, ask, behaviour):
        """(cached, newly cached) prompt tokens."""
        if "cached" in behaviour:
            return behaviour["cached"], 0
        size = tokens(len(ask.system))
        if size < CACHE_MIN_TOKENS or (ask.dialect == "anthropic" and not ask.cache_marked):
            return 0, 0
        size = size // 128 * 128
        key = (ask.dialect, ask.model, hashlib.sha256(ask.system.encode()).digest())
        if key in self.seen_prompts:
            return size, 0
        self.seen_prompts.add(key)
        return 0, size


def full_text(reply):
    """The whole text of a reply, whatever makes its pieces."""
    return reply.text if reply.text is not None else "".join(reply.pieces)


def embedding(text, dimensions):
    """A unit vector that depends on the text alone; similar words give similar vectors."""
    total = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [""]:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        source = random.Random(seed)
        for i in range(dimensions):
            total[i] += source.uniform(-1.0, 1.0)
    norm = sum(v * v for v in total) ** 0.5 or 1.0
    return [v / norm for v in total]


def media_size(encoded):
    """Number of bytes in base64 text; raises ValueError when it is none."""
    return len(base64.b64decode(encoded, validate=True))

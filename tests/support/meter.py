"""Meter: a provider in OpenAI's dialect whose usage a test decides, and that answers when it is told to.

    with Meter() as meter:
        gw = make_gateway(env=meter.env(), models=meter.models(), with_standin=False)
        meter.hold()                 # calls are taken and wait
        ...
        meter.release()
        assert meter.answered == 10

One dollar a million tokens of input, ten of output: 1,000 and 10,000 nano-USD a token.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INPUT, OUTPUT = 1000, 10000
MODELS = """providers:
  openai: {dialect: openai, base_url_env: OPENAI_BASE_URL, base_url: "http://127.0.0.1:1/v1",
           api_key_env: OPENAI_API_KEY, open_models: true, embeddings: true}
models:
  - id: openai/metered
    context_tokens: 1000000
    max_output_tokens: 2000
    capabilities: [tools]
    prices: {input: 1, output: 10, cache_read: 1, cache_write: 1}
  - id: openai/other
    context_tokens: 1000000
    max_output_tokens: 2000
    capabilities: [tools]
    prices: {input: 1, output: 10, cache_read: 1, cache_write: 1}
  - id: openai/vectors
    capabilities: [embeddings]
    prices: {input: 1}
aliases:
  - name: fast
    strategy: priority
    targets: [{model: openai/metered}]
"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def do_POST(self):
        meter = self.server.meter
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with meter.lock:
            meter.taken += 1
            status = meter.failures.pop(0) if meter.failures else 200
        if status != 200:
            self.whole({"error": {"message": "no", "type": "server_error"}}, status)
            return
        if not body.get("stream"):
            meter.gate.wait(120)
        if "input" in body:
            self.whole({"object": "list", "model": body["model"], "usage": meter.usage(),
                        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]})
        elif body.get("stream"):
            self.stream(meter, body)
        else:
            self.whole({"id": "c1", "object": "chat.completion", "created": 1, "model": body["model"],
                        "choices": [{"index": 0, "finish_reason": "stop",
                                     "message": {"role": "assistant", "content": "ok"}}],
                        "usage": meter.usage()})
        with meter.lock:
            meter.answered += 1

    def whole(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def piece(self, data):
        data = ("data: %s\n\n" % data).encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def chunk(self, choices, **more):
        self.piece(json.dumps({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "metered",
                               "choices": choices, **more}, separators=(",", ":")))

    def stream(self, meter, body):
        """The pieces, then (when released) the end."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for text in meter.pieces:
            self.chunk([{"index": 0, "delta": {"content": text}, "finish_reason": None}])
        meter.gate.wait(120)
        if meter.cut:
            self.close_connection = True
            return
        self.chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if meter.tells_usage:
            self.chunk([], usage=meter.usage())
        self.piece("[DONE]")
        self.wfile.write(b"0\r\n\r\n")


class Meter:
    def __init__(self):
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.taken = self.answered = 0
        self.failures = []        # statuses of the next calls
        self.tokens = (5, 5)      # input, output of each call
        self.cached = 0           # of the input
        self.pieces = ["hello"]   # of each stream
        self.tells_usage = True
        self.cut = False          # streams end without their end

    def usage(self):
        return {"prompt_tokens": self.tokens[0], "completion_tokens": self.tokens[1],
                "total_tokens": sum(self.tokens), "prompt_tokens_details": {"cached_tokens": self.cached}}

    @property
    def cost(self):
        """Of one call, in nano-USD."""
        return self.tokens[0] * INPUT + self.tokens[1] * OUTPUT

    def hold(self):
        self.gate.clear()

    def release(self):
        self.gate.set()

    def env(self):
        return {"OPENAI_BASE_URL": "http://127.0.0.1:%d/v1" % self.server.server_port, "OPENAI_API_KEY": "sk-meter"}

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda request, address: None  # clients that leave are no news
        self.server.meter = self
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.release()
        self.server.shutdown()
        self.server.server_close()

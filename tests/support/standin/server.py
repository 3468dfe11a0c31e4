"""The server: connections, routing to the dialects, and the life of one call."""

import asyncio
import json
import ssl
import traceback

from . import behaviour, openai_api, anthropic_api, google_api
from .brain import Brain
from .control import Control
from .delivery import Answer, Delivery, Ended
from .dialect import ApiError, Context
from .wire import BadMessage, ClientGone, Conn

DEFAULT_KEYS = {
    "openai": "sk-standin-openai",
    "groq": "gsk-standin-groq",
    "ollama": None,  # no key is asked for
    "anthropic": "sk-ant-standin",
    "google": "AIzaStandin",
}


class Server:
    """All dialects on one port. `keys` maps a dialect to the key it wants."""

    def __init__(self, keys=None):
        keys = {**DEFAULT_KEYS, **(keys or {})}
        self.control = Control()
        self.brain = Brain()
        self.dialects = [
            openai_api.OpenAI("openai", "/openai/v1", keys["openai"]),
            openai_api.OpenAI("groq", "/groq/openai/v1", keys["groq"]),
            openai_api.OpenAI("ollama", "/ollama/v1", keys["ollama"]),
            anthropic_api.Anthropic("anthropic", "/anthropic/v1", keys["anthropic"]),
            google_api.Google("google", "/google/v1beta", keys["google"]),
        ]
        self.listener = None
        self.tasks = set()

    async def start(self, host, port, tls=None):
        """Listens; returns the port. `tls` is (certificate file, key file) or None."""
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
        self.listener = await asyncio.start_server(
            self._accepted, host, port, ssl=context, backlog=4096, limit=1024 * 1024)
        return self.listener.sockets[0].getsockname()[1]

    async def stop(self):
        self.listener.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _accepted(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        self.control.connections += 1
        self.control.accepted += 1
        conn = Conn(reader, writer, self.control.accepted)
        try:
            await self._serve(conn)
        except Ended as end:
            if end.how == "reset":
                await conn.reset()
        except (ClientGone, asyncio.CancelledError):
            pass
        except BadMessage as error:
            await self._refuse(conn, str(error))
        finally:
            self.control.connections -= 1
            self.tasks.discard(task)
            await conn.close()

    @staticmethod
    async def _refuse(conn, why):
        body = why.encode()
        head = (f"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n")
        try:
            await conn.write(head.encode() + body)
        except ClientGone:
            pass

    async def _serve(self, conn):
        drop = None  # how to end when the next request comes
        while True:
            req = await conn.read_request()
            if req is None:
                return
            if req.path.startswith("/_"):
                keep = await Delivery(conn, req, self._control(req), {}).run()
            else:
                keep, drop = await self._call(conn, req, drop)
            if not keep:
                return

    def _control(self, req):
        try:
            data = json.loads(req.body) if req.body else None
        except ValueError:
            return Answer.json({"error": "the body is no JSON"}, 400)
        return self.control.handle(req, data)

    async def _call(self, conn, req, drop):
        """Answers one provider call; returns (keep the connection, drop for the next)."""
        call = self.control.begin(conn, req)
        before = conn.sent
        try:
            if drop:
                call.hurt = True
                raise Ended("reset" if drop == "reset" else "cut")
            answer, script = self._answer(req, call)
            call.status = answer.status
            keep = await Delivery(conn, req, answer, script).run()
            return keep, script.get("close_on_next")
        except ClientGone:
            call.aborted = True
            raise
        except Ended:
            call.hurt = True
            raise
        finally:
            call.sent = conn.sent - before
            self.control.end(call)

    def _answer(self, req, call):
        """(Answer, behaviour) of a request; all of a dialect's errors are worded here."""
        dialect = next((d for d in self.dialects if req.path.startswith(d.prefix + "/")), None)
        if dialect is None:
            return Answer.json({"error": "no such path"}, 404), {}
        call.dialect = dialect.name
        ctx = Context(req, call, self.brain, req.path[len(dialect.prefix):])
        try:
            self._look_at_body(dialect, ctx)
            call.behaviour = dict(ctx.behaviour)
            answer = self._checked_answer(dialect, ctx)
        except behaviour.BadDirective as error:
            fault = ApiError(400, f"stand-in: {error}")
            return dialect.error_answer(fault, ctx), {}
        except Exception as error:  # a mistake in the stand-in must not look like a fault it was told
            traceback.print_exc()
            self.control.bugs += 1
            return Answer.json({"error": f"the stand-in itself failed: {error!r}"}, 500), {}
        return answer, ctx.behaviour

    def _look_at_body(self, dialect, ctx):
        """Parses the body as far as it can be, and finds the behaviour for this call."""
        ctx.parse_body()
        model = dialect.model_of(ctx)
        if isinstance(model, str):
            ctx.model, from_model = behaviour.split_model(model)
        else:
            from_model = {}
        ctx.call.model = ctx.model
        ctx.call.stream = dialect.is_stream(ctx)
        self.control.log_body(ctx.call, ctx.data)
        ctx.behaviour = {**from_model, **self.control.behaviour_for(ctx.call)}

    @staticmethod
    def _checked_answer(dialect, ctx):
        wanted = ctx.behaviour.get("status")
        try:
            if not ctx.behaviour.get("skip_checks") or wanted is None:
                answer = dialect.handle(ctx)
        except ApiError as fault:
            # the behaviour belongs to good requests; a bad one is told so plainly
            ctx.behaviour = {}
            return dialect.error_answer(fault, ctx)
        if wanted is not None and wanted != 200:
            fault = ApiError(wanted, ctx.behaviour.get("message"), ctx.behaviour.get("error_type"))
            return dialect.error_answer(fault, ctx)
        return answer

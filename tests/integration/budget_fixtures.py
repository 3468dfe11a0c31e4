"""What the tests of budgets share: callers with keys in the database, gateways on a metered provider, and what
was counted and booked. Amounts are nano-USD."""

import base64
import hashlib
import json
import os
import selectors
import threading
import time

import pytest

import meter as metering
from redisd import PATIENT

USD = 10 ** 9
FAST = {"gateway.yaml": {"ledger.flush_ms": 20}}


class Caller:
    """A key in the database, and what it asks."""

    def __init__(self, pg, team=None, budget=None, period="day", tpm=None, models=()):
        self.text = "pk-" + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        self.team = team
        self.id = pg.one("""WITH u AS (INSERT INTO users (user_id) VALUES ('u-%s') RETURNING id)
            INSERT INTO api_keys (owner_id, team_id, name, prefix, key_sha256, models, tokens_per_minute,
                                  budget_nano_usd, budget_period)
            SELECT id, %s, 'k', '%s', decode('%s', 'hex'), '{%s}', %s, %s, '%s' FROM u RETURNING id""" % (
            digest[:16], "'%s'" % team if team else "NULL", self.text[:10], digest, ",".join(models),
            tpm or "NULL", "NULL" if budget is None else budget, period))
        self.headers = {"Authorization": "Bearer " + self.text}

    def ask(self, gw, model="openai/metered", max_tokens=5, **more):
        more = {"max_tokens": max_tokens, **more} if max_tokens else more
        return gw.chat(model, headers=dict(self.headers), **more)

    @property
    def tag(self):
        return self.team or self.id

    def sums(self, redis, kind="key"):
        """(spent, held) as Redis has them, in the one period there is."""
        scope = "key:" + self.id if kind == "key" else "team:" + self.team
        keys = [k for k in redis.call("KEYS", "budget:{%s}:%s:*:sum" % (self.tag, scope))]
        assert len(keys) == 1, keys
        return tuple(int(redis.call("HGET", keys[0], f) or 0) for f in ("spent", "held"))

    def expect(self, redis, sums, kind="key"):
        """Settling does not wait for Redis, so an answer may be here a moment before."""
        seen = None
        for _ in range(500):
            seen = self.sums(redis, kind)
            if seen == sums:
                return
            time.sleep(0.01)
        assert seen == sums


def add_team(pg, budget=None, period="day"):
    return pg.one("INSERT INTO teams (name, budget_nano_usd, budget_period) VALUES ('t' || random(), %s, '%s') "
                  "RETURNING id" % ("NULL" if budget is None else budget, period))


def set_budget(pg, caller, budget):
    pg.psql("UPDATE api_keys SET budget_nano_usd = %d WHERE id = '%s'" % (budget, caller.id))


def wait_until(what, timeout=20):
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, "it does not become true"
        time.sleep(0.02)


@pytest.fixture
def meter():
    with metering.Meter() as m:
        yield m


@pytest.fixture
def make(make_gateway, meter, postgres, redis):
    """Gateways on the meter, the database and Redis."""
    def start(**kw):
        conf = {"storage_config.yaml": PATIENT, **FAST, **kw.pop("conf", {})}
        env = {**meter.env(), **kw.pop("env", {})}
        return make_gateway(env=env, models=kw.pop("models_text", metering.MODELS), with_standin=False, pg=kw.pop("pg", postgres),
                            redis=kw.pop("redis", redis), conf=conf, **kw)
    return start


def worst_case(gw, meter, caller, redis):
    """What one call of the usual form reserves."""
    before = meter.taken
    meter.hold()
    t = threading.Thread(target=caller.ask, args=(gw,))
    t.start()
    wait_until(lambda: meter.taken > before)
    held = caller.sums(redis)[1]
    meter.release()
    t.join()
    assert held > meter.cost
    return held


def rows(pg, caller, columns="status, cost_nano_usd, usage_known"):
    return pg.psql("SELECT %s FROM provider_calls WHERE key_id = '%s' ORDER BY spool_id, spool_pos"
                   % (columns, caller.id))


def booked(pg, callers, n):
    """Cost of all rows of these keys once there are n; as the daily table has it, too."""
    keys = ",".join("'%s'" % c.id for c in callers)
    wait_until(lambda: int(pg.one("SELECT count(*) FROM provider_calls WHERE key_id IN (%s)" % keys)) >= n)
    cost = int(pg.one("SELECT coalesce(sum(cost_nano_usd), 0) FROM provider_calls WHERE key_id IN (%s)" % keys))
    assert cost == int(pg.one("SELECT coalesce(sum(cost_nano_usd), 0) FROM usage_daily WHERE key_id IN (%s)" % keys))
    return cost


def request_bytes(caller):
    body = json.dumps({"model": "openai/metered", "max_tokens": 5,
                       "messages": [{"role": "user", "content": "hello"}]}).encode()
    return (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: "
            b"application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            % (caller.text.encode(), len(body), body))


class Crowd:
    """Many requests at once, each on a connection of its own."""

    def __init__(self, gateways, callers, n):
        self.poll = selectors.DefaultSelector()
        self.answers = []
        self.open = n
        for i in range(n):
            s = gateways[i % len(gateways)].connect()
            s.sendall(request_bytes(callers[i // len(gateways) % len(callers)]))
            self.poll.register(s, selectors.EVENT_READ, bytearray())

    def read_until(self, n):
        """Reads until n have been answered."""
        end = time.monotonic() + 60
        while len(self.answers) < n:
            assert time.monotonic() < end, "%d answers of %d" % (len(self.answers), n)
            for key, _ in self.poll.select(1):
                part = key.fileobj.recv(65536)
                key.data.extend(part)
                if not part:
                    self.answers.append(int(key.data.split(b" ", 2)[1]))
                    self.poll.unregister(key.fileobj)
                    key.fileobj.close()


def read_some(s, marker):
    got = b""
    while marker not in got:
        part = s.recv(4096)
        assert part, got
        got += part
    return got


def open_stream(gw, caller, path="/v1/chat/completions", **more):
    body = json.dumps({"model": "openai/metered", "max_tokens": 500, "stream": True,
                       "messages": [{"role": "user", "content": "hello"}], **more}).encode()
    s = gw.connect()
    s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n%s" % (path.encode(), caller.text.encode(), len(body), body))
    return s

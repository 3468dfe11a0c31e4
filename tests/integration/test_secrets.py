"""CHECK 39: every secret the gateway is given is a word found nowhere else. Whatever it then says, keeps
or shows is searched for these words: its output and log file, its answers, its metrics, its arguments,
what it wrote to Postgres, to Redis and to the spool."""

import base64
import hashlib
import os
import signal
import subprocess

from front import wait_until
from postgres import programs
from test_identity import add_key, add_user, bearer, token
from test_pg_pool import is_up, wait_for
from test_redis_faults import LASTING

MASTER = "marker-master-4b1c9e7702f6a3d85e"
JWT = "marker-jwt-secret-9d2e5c81b7a04f63"
OLD_JWT = "marker-jwt-previous-71c0d4b8e6a2593f"
DATABASE = "marker-database-55f0c3"
REDIS = "marker-redis-0c77a1"
PASSWORD = "marker-password-of-ada-91e4"
WRONG = "marker-password-mistyped-3a5d"
PROMPT = "marker-prompt-nobody-else-may-read-68bf"
ADMIN = {"Authorization": "Bearer " + MASTER}
CHAT = "/v1/chat/completions"
# what the model said, to its caller and in the cache: the stand-in's repeats the question
MODELS_OWN = ("200 to POST " + CHAT, "200 to POST /v1/messages", "200 to POST /api/v1/chat",
              "Redis value of llm:")


class Seen:
    """All that came out of the gateway, as (where, bytes)."""

    def __init__(self, gw):
        self.gw, self.places = gw, []

    def note(self, where, data):
        self.places.append((where, data if isinstance(data, bytes) else data.encode()))

    def ask(self, method, path, body=None, headers=ADMIN):
        answer = self.gw.request(method, path, body, headers=headers)
        head = "".join("%s: %s\n" % h for h in answer.header_list)
        self.note("%d to %s %s" % (answer.status, method, path.split("?")[0]), head.encode() + answer.body)
        return answer

    def note_tree(self, top):
        for path, _, names in os.walk(top):
            for name in names:
                with open(os.path.join(path, name), "rb") as f:
                    self.note(os.path.join(path, name), f.read())

    def note_postgres(self, pg):
        command = [os.path.join(programs(), "pg_dump"), "--data-only", "--inserts",
                   *pg.database.where("postgres")]
        self.note("Postgres", subprocess.run(command, check=True, capture_output=True, timeout=60,
                                             env=pg.environment()).stdout)

    def note_redis(self, redis):
        """Keys, and values as Redis would write them to disk, not compressed."""
        for key in redis.keys():
            self.note("Redis key", key.encode("utf-8", "surrogateescape"))
            kind = redis.call("TYPE", key)
            how = {"string": ("GET", key), "hash": ("HGETALL", key), "set": ("SMEMBERS", key),
                   "list": ("LRANGE", key, 0, -1), "zset": ("ZRANGE", key, 0, -1, "WITHSCORES")}[kind]
            self.note("Redis value of " + key, repr(redis.call(*how)))

    def find(self, secrets):
        """Where a secret shows: as it is, or as base64."""
        found = []
        for name, secret in secrets.items():
            forms = {secret.encode(), base64.b64encode(secret.encode()).rstrip(b"=")}
            found += [(name, where) for where, data in self.places for f in forms if f in data]
        return found


def talk(seen, key, user_token):
    """All ways of using a secret: rightly, wrongly, in the wrong place."""
    chat = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": PROMPT}]}
    own = bearer(key)
    for headers in (ADMIN, own, bearer(user_token), {"x-api-key": key}):
        seen.ask("POST", CHAT, chat, headers)
    for model in ("openai/gpt-4o-mini~status=500", "openai/gpt-4o-mini~status=401", "groq/x~body=garbage",
                  "anthropic/claude-sonnet-4-5~status=429", "google/gemini-2.5-flash", "nobody/nothing"):
        seen.ask("POST", CHAT, {**chat, "model": model}, own)
        seen.ask("POST", CHAT, {**chat, "model": model, "stream": True}, own)
    seen.ask("POST", CHAT, '{"messages": "%s' % PROMPT, own)
    seen.ask("POST", CHAT, {**chat, "temperature": PROMPT}, own)
    seen.ask("POST", CHAT, {**chat, "stream": True}, own)
    seen.ask("POST", CHAT, {**chat, "temperature": 0}, own)
    seen.ask("POST", "/api/v1/chat", {"message": PROMPT}, own)
    seen.ask("POST", "/v1/messages", {**chat, "max_tokens": 9}, own)
    seen.ask("GET", "/v1/models?key=%s&api_key=%s" % (key, MASTER), headers={})
    seen.ask("GET", "/nowhere?token=" + user_token, headers=own)
    for headers in (bearer(key[:-3] + "AAA"), bearer(user_token[:-3] + "AAA"), bearer(MASTER + "x"),
                    {"Authorization": "Basic " + base64.b64encode(PASSWORD.encode()).decode()},
                    {"Authorization": "Bearer " + key, "x-api-key": MASTER}):
        seen.ask("GET", "/api/v1/models", headers=headers)


def accounts(seen):
    """Makes grace, who logs in rightly and wrongly; returns her token."""
    made = seen.ask("POST", "/api/v1/users", {"user_id": "grace", "password": PASSWORD})
    assert made.status == 201, made.text
    good = seen.gw.post("/api/v1/auth/token", {"user_id": "grace", "password": PASSWORD}, headers={})
    assert good.status == 200, good.text
    seen.ask("POST", "/api/v1/auth/token", {"user_id": "grace", "password": WRONG}, {})
    seen.ask("POST", "/api/v1/auth/token", {"user_id": "nobody", "password": PASSWORD}, {})
    seen.ask("POST", "/api/v1/auth/token", '{"user_id": "grace", "password": "%s"' % PASSWORD, {})
    hers = good.json["access_token"]
    seen.ask("POST", "/api/v1/users/me/password", {"current_password": WRONG, "new_password": PASSWORD},
             bearer(hers))
    seen.ask("GET", "/api/v1/users/me/export", headers=bearer(hers))
    seen.ask("POST", "/api/v1/auth/validate", {"token": hers}, {})
    seen.ask("POST", "/api/v1/auth/revoke", {"token": hers[:-2]}, bearer(hers))
    return hers


def operate(seen):
    """What administrators look at, and the signal to read the configuration again."""
    for path in ("config", "performance", "costs", "circuits", "cache", "audit", "teams"):
        seen.ask("GET", "/api/v1/admin/" + path)
    seen.ask("POST", "/api/v1/admin/config/reload")
    seen.gw.process.send_signal(signal.SIGHUP)
    for path in ("/metrics", "/api/v1/health", "/api/v1/providers", "/api/v1/models", "/api/v1/users",
                 "/api/v1/auth/api-keys", "/api/v1/usage"):
        seen.ask("GET", path)


def collect(seen, pg, redis, spool):
    gw = seen.gw
    with open("/proc/%d/cmdline" % gw.process.pid, "rb") as f:
        seen.note("arguments", f.read())
    wait_until(lambda: int(pg.one("SELECT count(*) FROM provider_calls")) > 3, "calls in the ledger")
    seen.note_redis(redis)
    seen.note_tree(spool)
    gw.stop()
    seen.note("stdout", gw.stdout())
    seen.note("stderr", gw.stderr())
    seen.note_tree(os.path.join(gw.dir, "logs"))
    seen.note_tree(spool)
    seen.note_redis(redis)
    seen.note_postgres(pg)


def test_check_039_no_secret_is_said_kept_or_shown(standin, make_postgres, make_redis, make_gateway):
    pg, redis = make_postgres().migrate(), make_redis(requirepass=REDIS)
    pg.admin("ALTER ROLE assistant PASSWORD '%s'" % DATABASE)
    key = add_key(pg, add_user(pg))
    gw = make_gateway(
        env={"POSTERN_MASTER_KEY": MASTER, "JWT_SECRET_KEY": JWT, "JWT_SECRET_KEY_PREVIOUS": OLD_JWT,
             "DATABASE_URL": pg.url.replace("assistant@", DATABASE + "@"), "REDIS_URL": redis.url,
             "LOG_LEVEL": "debug", "LOG_FILE": "logs/api.log", "LEDGER_DIR": "spool"},
        conf=LASTING)
    wait_for(gw, is_up)
    wait_until(lambda: gw.request("GET", "/metrics", headers=ADMIN).text.count("\nredis_up 1") == 1, "Redis")
    seen = Seen(gw)
    user_token = token(sub="ada", secret=JWT)
    hers = accounts(seen)
    talk(seen, key, user_token)
    operate(seen)
    seen.note_redis(redis)
    with_faults(seen, pg, redis, key)
    collect(seen, pg, redis, os.path.join(gw.dir, "spool"))
    kept = {where.split(" ")[0].split("/")[-1] for where, _ in seen.places}
    assert {"Postgres", "Redis", "api.log", "stdout"} <= kept, kept  # there was something to search
    assert hashlib.sha256(key.encode()).hexdigest().encode() in dict(seen.places)["Postgres"]
    secrets = {"master key": MASTER, "token secret": JWT, "previous secret": OLD_JWT, "database": DATABASE,
               "Redis": REDIS, "password": PASSWORD, "mistyped password": WRONG, "prompt": PROMPT,
               "API key": key, "API key's end": key[12:], "token": user_token, "her token": hers,
               **{"key of " + k: v for k, v in standin.keys.items() if v}}
    found = [(name, where) for name, where in seen.find(secrets)
             if name != "prompt" or not where.startswith(MODELS_OWN)]
    assert not found, found


def with_faults(seen, pg, redis, key):
    """Errors of the stores, which are fond of quoting the address."""
    pg.stop()
    redis.stop()
    for headers in (bearer(key[:-4] + "BBBB"), bearer(key), ADMIN):
        seen.ask("GET", "/api/v1/models", headers=headers)
    seen.ask("GET", "/api/v1/users")
    seen.ask("GET", "/api/v1/health")
    pg.start()
    redis.start()
    wait_until(lambda: seen.gw.get("/api/v1/users", headers=ADMIN).status == 200, "Postgres to be back")

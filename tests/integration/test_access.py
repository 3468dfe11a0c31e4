"""Who may ask what: every row of handlers/routes.c, under all its names, with every kind of credential. The table
here is written by hand: a route that is added or opened has to be added or opened here, too."""
import os
import re

import pytest
from gateway import AUTH, ROOT
from test_accounts import SECRET, PASSWORD, add_key, add_user, bearer, eventually, token_of

CHAT, EMBED, ANY, READ, WRITE, ADMIN = ("chat",), ("embeddings",), ("chat", "embeddings", "read"), ("read",), \
    ("write",), ("admin",)
SCOPES = ("chat", "embeddings", "read", "write", "admin")

# who may ask at all, and the scopes of which a key with scopes needs one
TABLE = {
    "POST /v1/chat/completions": ("user", CHAT),
    "POST /v1/responses": ("user", CHAT),
    "POST /v1/embeddings": ("user", EMBED),
    "GET /v1/models": ("user", ANY),
    "GET /v1/models/{id...}": ("user", ANY),
    "POST /v1/messages": ("user", CHAT),
    "POST /v1/messages/count_tokens": ("user", CHAT),
    "POST /v1beta/models/{model...}": ("user", CHAT),  # :generateContent; :embedContent has its test below
    "GET /v1beta/models": ("user", ANY),
    "GET /v1beta/models/{id...}": ("user", ANY),
    "POST /api/v1/chat": ("user", CHAT),
    "POST /api/v1/embeddings": ("user", EMBED),
    "GET /api/v1/models": ("user", ANY),
    "GET /api/v1/providers": ("user", ANY),
    "GET /api/v1/usage": ("user", READ),
    "GET /api": ("public", None),
    "GET /api/v1": ("public", None),
    "POST /api/v1/auth/token": ("optional", WRITE),
    "GET /api/v1/auth/validate": ("public", None),
    "POST /api/v1/auth/validate": ("public", None),
    "POST /api/v1/auth/revoke": ("user", WRITE),
    "POST /api/v1/auth/api-keys": ("user", WRITE),
    "GET /api/v1/auth/api-keys": ("user", READ),
    "DELETE /api/v1/auth/api-keys/{id}": ("user", WRITE),
    "GET /api/v1/users/me": ("user", READ),
    "GET /api/v1/users/me/export": ("user", READ),
    "POST /api/v1/users/me/password": ("user", WRITE),
    "POST /api/v1/users": ("admin", ADMIN),
    "GET /api/v1/users": ("admin", ADMIN),
    "GET /api/v1/users/{id}": ("admin", ADMIN),
    "PATCH /api/v1/users/{id}": ("admin", ADMIN),
    "DELETE /api/v1/users/{id}": ("admin", ADMIN),
    "POST /api/v1/admin/teams": ("admin", ADMIN),
    "GET /api/v1/admin/teams": ("admin", ADMIN),
    "GET /api/v1/admin/teams/{id}": ("admin", ADMIN),
    "PUT /api/v1/admin/teams/{id}": ("admin", ADMIN),
    "DELETE /api/v1/admin/teams/{id}": ("admin", ADMIN),
    "GET /api/v1/admin/audit": ("admin", ADMIN),
    "GET /api/v1/health": ("public", None),
    "GET /api/v1/health/live": ("public", None),
    "GET /api/v1/health/ready": ("public", None),
    "GET /api/health": ("public", None),
    "GET /health": ("public", None),
    "GET /metrics": ("ops", ADMIN),
    "GET /api/v1/admin/performance": ("admin", ADMIN),
    "GET /api/v1/admin/config": ("admin", ADMIN),
    "POST /api/v1/admin/config/reload": ("admin", ADMIN),
    "PUT /api/v1/admin/log-level": ("admin", ADMIN),
    "GET /api/v1/admin/costs": ("admin", ADMIN),
    "GET /api/v1/admin/circuits": ("admin", ADMIN),
    "GET /api/v1/admin/cache": ("admin", ADMIN),
    "DELETE /api/v1/admin/cache/{namespace}": ("admin", ADMIN),
    "POST /api/v1/admin/circuits/{name}/reset": ("admin", ADMIN),
}
ALIASES = {"/api/v1/auth/token": "/auth/token", "/api/v1/auth/validate": "/auth/validate", "/api/v1/chat": "/chat"}
PARTS = {"{id...}": "openai/gpt-4o-mini", "{model...}": "openai/gpt-4o-mini:generateContent", "{namespace}": "nothing",
         "{name}": "nothing", "{id}": "00000000-0000-4000-8000-000000000000"}


def rows():
    """What the program serves: "METHOD /template" of each row of its table."""
    with open(os.path.join(ROOT, "handlers/routes.c"), encoding="utf-8") as f:
        return ["%s %s" % found for found in re.findall(r'^\s+\{HTTP_(\w+),\s+"([^"]+)"', f.read(), re.M)]


def paths_of(template):
    path = template
    for name, value in PARTS.items():
        path = path.replace(name, value)
    yield path
    if template.startswith("/api/v1/"):
        yield path.replace("/api/v1/", "/api/", 1)
    if template in ALIASES:
        yield ALIASES[template]


def test_every_route_is_in_the_table_and_nothing_else():
    assert sorted(rows()) == sorted(TABLE)


class People:
    """One credential of each kind. `scoped[role][scope]` are keys with that scope alone."""

    def __init__(self, gw, pg):
        self.scoped, self.valid, self.void = {}, {}, {}
        for name, role in (("ursula", "user"), ("albert", "admin"), ("off", "admin")):
            add_user(gw, name, role)
        for name, role in (("ursula", "user"), ("albert", "admin")):
            mine = token_of(gw, name)
            self.valid[role + "'s token"] = (role, mine)
            self.valid[role + "'s key"] = (role, self.key(gw, mine, "whole"))
            self.scoped[role] = {s: self.key(gw, mine, s, scopes=[s]) for s in SCOPES if role == "admin" or s != "admin"}
        self.valid["master key"] = ("admin", AUTH)
        off = token_of(gw, "off")
        self.void = {"no such key": bearer("pk-" + "A" * 43), "no key at all": bearer("nonsense"),
                     "disabled's token": off, "disabled's key": self.key(gw, off, "k"),
                     "two": {**AUTH, "x-api-key": "pk-" + "A" * 43},
                     "another scheme": {"Authorization": "Basic dXNlcjpwYXNz"},
                     "expired key": self.key(gw, self.valid["admin's token"][1], "expired"),
                     "revoked key": self.key(gw, self.valid["admin's token"][1], "revoked"),
                     "cut token": bearer(off["Authorization"][7:-1]),
                     "a token of nobody": bearer(self.removed(gw))}
        pg.psql("UPDATE users SET disabled = true WHERE user_id = 'off'; UPDATE api_keys SET expires_at = now() - "
                "interval '1 second' WHERE name = 'expired'; UPDATE api_keys SET revoked_at = now() WHERE name = 'revoked'")
        for what, headers in self.void.items():
            assert eventually(lambda: gw.get("/api/v1/models", headers=headers).status == 401), what

    @staticmethod
    def key(gw, headers, name, **more):
        made = add_key(gw, headers, name, **more)
        assert made.status == 201, made.text
        return bearer(made.json["key"])

    @staticmethod
    def removed(gw):
        user = add_user(gw, "gone", "admin")
        hers = token_of(gw, "gone")["Authorization"][7:]
        assert gw.request("DELETE", "/api/v1/users/" + user["id"]).status == 204
        return hers


@pytest.fixture
def gw(make_gateway, postgres):
    return make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres)


def cases(people, access, scopes):
    """(what, headers, the statuses that would be wrong or the one that is right)."""
    passes = ("not", (401, 403))
    strangers = passes if access == "optional" else ("is", 401)
    yield "nobody", {}, strangers
    for what, headers in people.void.items():
        yield what, headers, ("is", 401)
    for what, (role, headers) in people.valid.items():
        yield what, headers, passes if access in ("user", "optional") or role == "admin" else ("is", 403)
    for role, keys in people.scoped.items():
        for scope, headers in keys.items():
            good = scope in scopes and (access in ("user", "optional") or role == "admin")
            yield "%s's key for %s" % (role, scope), headers, passes if good else ("is", 403)


def ask(gw, method, path, headers):
    body = None if method in ("GET", "DELETE") else '{"nothing of the kind": 1}'
    return gw.request(method, path, body, headers=headers)


def test_every_route_lets_in_whom_it_is_for_and_nobody_else(gw, postgres):
    people, wrong, asked = People(gw, postgres), [], 0
    for row, (access, scopes) in TABLE.items():
        method, template = row.split(" ")
        if access == "public":
            continue
        far = {"X-Forwarded-For": "203.0.113.9"} if access == "ops" else {}
        for path in paths_of(template):
            for what, headers, (how, statuses) in cases(people, access, scopes):
                if what == "master key" and row == "GET /api/v1/users/me/export":
                    how, statuses = "is", 403  # it is nobody's
                answer = ask(gw, method, path, {**headers, **far})
                asked += 1
                if method == "GET":  # one caller's answer is in no cache for others
                    assert answer.headers["cache-control"] == "private, no-cache", path
                if (answer.status == statuses) if how == "is" else (answer.status not in statuses):
                    continue
                wrong.append((method, path, what, answer.status, how, statuses))
            if method == "GET":
                assert gw.request("HEAD", path, headers={**people.void["expired key"], **far}).status == 401
    assert not wrong, wrong[:20]
    assert asked > 60 * 20, asked
    left = postgres.psql("SELECT user_id, role FROM users ORDER BY 1")  # nothing was done on the way
    assert left == [["albert", "admin"], ["off", "admin"], ["ursula", "user"]]


def test_the_method_behind_a_models_name_decides_about_the_scope(gw, postgres):
    people = People(gw, postgres)
    for method, scope in (("generateContent", "chat"), ("streamGenerateContent", "chat"), ("countTokens", "chat"),
                          ("embedContent", "embeddings"), ("batchEmbedContents", "embeddings")):
        for role in people.scoped:
            for name, headers in people.scoped[role].items():
                status = gw.post("/v1beta/models/openai/gpt-4o-mini:" + method, {}, headers=headers).status
                assert (status == 403) == (name != scope), (method, role, name, status)


def test_public_routes_need_nothing_and_do_not_judge_what_comes(gw, postgres):
    people = People(gw, postgres)
    for row, (access, _) in TABLE.items():
        method, template = row.split(" ")
        if access != "public" or template.endswith("validate"):  # whose input is the credential
            continue
        for path in paths_of(template):
            for headers in [{}, *people.void.values(), *(h for _, h in people.valid.values())]:
                assert ask(gw, method, path, headers).status == 200, (path, headers)


def test_no_route_tells_a_stranger_more_than_that(gw, postgres):
    """Neither what is missing nor what is wrong with the body: 401 comes first, and the same each time."""
    told = set()
    for row, (access, _) in TABLE.items():
        method, template = row.split(" ")
        if access not in ("user", "admin"):
            continue
        for path in paths_of(template):
            answer = gw.request(method, path, "{" if method not in ("GET", "DELETE") else None, headers={})
            assert answer.status == 401 and answer.headers["www-authenticate"] == 'Bearer realm="postern"', path
            if path.startswith("/api/"):
                told.add((answer.json["detail"], answer.json["code"]))
    assert len(told) == 1, told
    assert PASSWORD not in gw.log()

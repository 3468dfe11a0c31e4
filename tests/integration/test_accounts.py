"""Users, passwords, tokens, keys and teams over HTTP, with a real Postgres behind the gateway."""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import os
import subprocess
import threading
import time
import uuid

import pytest

from gateway import AUTH, binary

SECRET = "a-secret-of-the-tests-0123456789-abcdefgh"
PASSWORD = "correct horse battery"


@pytest.fixture
def gw(make_gateway, postgres):
    return make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres)


def bearer(token):
    return {"Authorization": "Bearer " + token}


def add_user(gw, name, role="user", **more):
    made = gw.post("/api/v1/users", {"user_id": name, "password": PASSWORD, "role": role, **more})
    assert made.status == 201, made.text
    return made.json


def login(gw, name, password=PASSWORD, **more):
    return gw.post("/api/v1/auth/token", {"user_id": name, "password": password, **more}, headers={})


def token_of(gw, name):
    answer = login(gw, name)
    assert answer.status == 200, answer.text
    return bearer(answer.json["access_token"])


def add_key(gw, headers, name="k", **more):
    return gw.post("/api/v1/auth/api-keys", {"name": name, **more}, headers=headers)


def slug(answer):
    return answer.json["type"].rsplit(":", 1)[1]


def eventually(check, seconds=10):
    """For what another connection or a watch does a moment later."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.02)


def settled(gw, headers, status, path="/api/v1/users/me"):
    assert eventually(lambda: gw.get(path, headers=headers).status == status)


# --- tokens ---------------------------------------------------------------------------------------------------

def test_a_password_becomes_a_token_that_opens_routes(gw):
    user = add_user(gw, "anna", email="anna@example.org")
    answer = login(gw, "anna", expires_in_hours=2)
    assert answer.status == 200, answer.text
    body = answer.json
    assert set(body) == {"access_token", "token_type", "expires_in", "expires_at", "user_id"}
    assert (body["token_type"], body["expires_in"], body["user_id"]) == ("bearer", 7200, "anna")
    assert answer.headers["cache-control"] == "no-store"
    me = gw.get("/api/v1/users/me", headers=bearer(body["access_token"]))
    assert me.status == 200 and me.json["id"] == user["id"] and me.json["email"] == "anna@example.org"
    assert me.json["budgets"] == []
    assert gw.chat(headers=bearer(body["access_token"])).status == 200


@pytest.mark.parametrize("path", ["/auth/token", "/api/auth/token"])
def test_the_old_paths_answer_too(gw, path):
    add_user(gw, "anna")
    answer = gw.post(path, {"user_id": "anna", "password": PASSWORD}, headers={})
    assert answer.status == 200 and "deprecation" in answer.headers


def test_unknown_and_known_users_are_refused_alike(gw):
    add_user(gw, "anna")
    off = add_user(gw, "off")
    assert gw.request("PATCH", "/api/v1/users/" + off["id"], {"disabled": True}).status == 200
    answers = [login(gw, "anna", "wrong password"), login(gw, "nobody", "wrong password"), login(gw, "off")]
    assert [a.status for a in answers] == [401] * 3
    bodies = [{k: v for k, v in a.json.items() if k not in ("request_id", "instance")} for a in answers]
    assert bodies[0] == bodies[1] == bodies[2]
    assert all("www-authenticate" in a.headers for a in answers)


def test_wrong_passwords_lock_the_account_and_nobody_else(make_gateway, postgres):
    gw = make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres, conf={"gateway.yaml": {"auth.lockout_failures": 3}})
    add_user(gw, "anna")
    add_user(gw, "bob")
    for _ in range(2):
        assert login(gw, "anna", "wrong password").status == 401
    assert login(gw, "anna").status == 200  # a good one starts the count anew
    for _ in range(3):
        assert login(gw, "anna", "wrong password").status == 401
    locked = login(gw, "anna")
    assert locked.status == 423 and slug(locked) == "account-locked"
    assert locked.headers["retry-after"] == "900"
    assert login(gw, "bob").status == 200
    postgres.psql("UPDATE users SET locked_until = now() - interval '1 second' WHERE user_id = 'anna'")
    assert login(gw, "anna").status == 200


def while_changed(postgres, change, act):
    """Runs act() while another transaction has made a change to anna that others do not see yet. It ends when
    act() waits for it."""
    with postgres.session("BEGIN; UPDATE users SET %s WHERE user_id = 'anna'" % change) as other, \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(act)
        assert eventually(lambda: postgres.psql(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"))
        other.do("COMMIT")
        return answer.result()


def test_a_right_guess_among_many_at_once_finds_the_account_locked(gw, postgres):
    """It was looked up before the lock, and is verified while the lock is on its way."""
    add_user(gw, "anna")
    assert while_changed(postgres, "locked_until = now() + interval '1 hour'",
                         lambda: login(gw, "anna")).status == 423
    assert postgres.one("SELECT locked_until > now() FROM users WHERE user_id = 'anna'") == "t"


def test_a_token_needs_a_proof(gw):
    add_user(gw, "anna")
    add_user(gw, "bob")
    anna = token_of(gw, "anna")
    key = add_key(gw, anna).json["key"]
    scoped = add_key(gw, anna, "scoped", scopes=["write"]).json["key"]
    bounded = add_key(gw, anna, "bounded", budget_usd=1).json["key"]

    def ask(name, headers):
        return gw.post("/api/v1/auth/token", {"user_id": name}, headers=headers)

    assert ask("anna", {}).status == 401
    assert ask("anna", anna).status == 403  # a token does not prolong itself
    assert ask("anna", bearer("pk-" + "A" * 43)).status == 401
    assert ask("anna", bearer(key)).status == 200
    assert ask("anna", {"X-API-Key": key}).status == 200
    assert ask("bob", bearer(key)).status == 403
    assert ask("anna", bearer(scoped)).status == 403
    assert ask("anna", bearer(bounded)).status == 403
    assert ask("anna", AUTH).status == 200
    assert ask("nobody", AUTH).status == 404


def test_open_tokens_are_for_development_alone(make_gateway, postgres):
    gw = make_gateway({"JWT_SECRET_KEY": SECRET, "AUTH_DEV_OPEN_TOKENS": "true"}, pg=postgres)
    add_user(gw, "anna")
    answer = gw.post("/api/v1/auth/token", {"user_id": "anna"}, headers={})
    assert answer.status == 200
    assert gw.get("/api/v1/users/me", headers=bearer(answer.json["access_token"])).json["user_id"] == "anna"


def test_a_token_lives_no_longer_than_allowed(gw):
    add_user(gw, "anna")
    assert login(gw, "anna", expires_in_hours=168).status == 200
    for hours in (0, 169, -1, 100000):
        refused = login(gw, "anna", expires_in_hours=hours)
        assert refused.status == 422, refused.text
        assert refused.json["errors"][0]["pointer"] == "/expires_in_hours"


def test_a_password_is_no_longer_than_a_password_can_be(gw):
    add_user(gw, "anna")
    anna = token_of(gw, "anna")
    assert login(gw, "anna", "x" * 1024).status == 401
    for long in ("x" * 1025, "\U0001f600" * 300):
        assert login(gw, "anna", long).status == 422
        body = {"current_password": long, "new_password": PASSWORD}
        assert gw.post("/api/v1/users/me/password", body, headers=anna).status == 422
        assert gw.post("/api/v1/users", {"user_id": "b", "password": long}).status == 422


def test_without_a_database_the_master_key_alone_vouches(make_gateway):
    gw = make_gateway({"JWT_SECRET_KEY": SECRET})
    refused = login(gw, "anna")
    assert refused.status == 503 and "retry-after" in refused.headers
    for role in ("user", "admin"):
        made = gw.post("/api/v1/auth/token", {"user_id": "anna", "role": role})
        assert made.status == 200, made.text
        headers = bearer(made.json["access_token"])
        assert gw.get("/api/v1/users/me", headers=headers).json["role"] == role
        assert gw.get("/api/v1/admin/circuits", headers=headers).status == (200 if role == "admin" else 403)


def test_without_a_secret_no_tokens_are_made(make_gateway, postgres):
    gw = make_gateway(pg=postgres)
    add_user(gw, "anna")
    refused = login(gw, "anna")
    assert refused.status == 503 and "JWT_SECRET_KEY" in refused.text


def forged(claims, secret=SECRET, alg="HS256"):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
    head = part(json.dumps({"alg": alg, "typ": "JWT"}).encode()) + "." + part(json.dumps(claims).encode())
    return head + "." + part(hmac.new(secret.encode(), head.encode(), hashlib.sha256).digest())


def test_validate_tells_what_a_token_is_worth(gw):
    add_user(gw, "anna", role="admin")
    token = login(gw, "anna").json["access_token"]
    for answer in (gw.get("/api/v1/auth/validate", headers=bearer(token)),
                   gw.post("/api/v1/auth/validate", {"token": token}, headers={}),
                   gw.post("/api/v1/auth/validate", {}, headers=bearer(token))):
        assert answer.status == 200, answer.text
        assert answer.json["valid"] is True and answer.json["user_id"] == "anna"
        assert answer.json["roles"] == ["admin"]
        assert answer.json["issued_at"] < answer.json["expires_at"]
    now = int(time.time())
    claims = {"sub": "anna", "iat": now - 7200, "exp": now - 3600}
    expired = gw.get("/api/v1/auth/validate", headers=bearer(forged(claims)))
    assert expired.status == 401 and slug(expired) == "token-expired"
    live = {"sub": "anna", "iat": now, "exp": now + 3600}
    for bad in (forged(live, secret="x" * 40), forged(live, alg="none"), forged({**live, "sub": "nobody"}),
                token[:-2], "no token at all"):
        refused = gw.post("/api/v1/auth/validate", {"token": bad}, headers={})
        assert refused.status == 401 and slug(refused) == "unauthorized", bad
    assert gw.get("/api/v1/auth/validate", headers={}).status == 401


def test_a_revoked_token_is_refused(gw):
    add_user(gw, "anna")
    one, two = token_of(gw, "anna"), token_of(gw, "anna")
    settled(gw, one, 200)
    assert gw.post("/api/v1/auth/revoke", {}, headers=one).status == 204
    settled(gw, one, 401)
    settled(gw, two, 200)
    assert gw.post("/api/v1/auth/revoke", {"all": True}, headers=two).status == 204
    settled(gw, two, 401)


def jti_of(headers):
    part = headers["Authorization"].split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["jti"]


def test_a_token_is_revoked_by_its_name(gw):
    add_user(gw, "anna")
    one, two = token_of(gw, "anna"), token_of(gw, "anna")
    assert gw.post("/api/v1/auth/revoke", {"jti": jti_of(one)}, headers=two).status == 204
    settled(gw, one, 401)
    settled(gw, two, 200)


def over_50_ms(gw):
    """Turns of the loop that took longer than 50 ms, up to now."""
    m = gw.metrics()
    bounds = [k for k in m if k.startswith("loop_lag_seconds_bucket") and float(k.split('le="')[1].split('"')[0]) <= 0.05]
    return m["loop_lag_seconds_count"] - max(m[k] for k in bounds)


def storm(gw, n, threads=8):
    """n wrong passwords for known and unknown users at once; how many of each status."""
    out, left = {}, list(range(n))

    def run():
        while left:
            i = left.pop()
            status = login(gw, "anna" if i % 2 else "user-%d" % i, "wrong password").status
            out[status] = out.get(status, 0) + 1

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return out


def test_check_041_wrong_passwords_are_hashed_beside_the_loop(make_gateway, postgres):
    gw = make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres, conf={"gateway.yaml": {"auth.lockout_failures": 1000}})
    add_user(gw, "anna")
    before = over_50_ms(gw)
    answers = storm(gw, 80)
    assert set(answers) <= {401, 503} and answers[401] >= 40, answers
    # a hash takes about as long as that: on the loop each would be such a turn
    assert over_50_ms(gw) - before < answers[401] / 4
    assert postgres.one("SELECT failed_logins FROM users WHERE user_id = 'anna'") != "0"


def test_check_041_the_auth_limit_stops_a_storm(make_gateway, postgres):
    gw = make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres, limits=True, conf={
        "rate_limits.yaml": {"classes.auth.requests_per_minute": 1, "classes.auth.burst": 5}})
    answers = storm(gw, 60)
    assert answers[429] >= 50 and answers[401] <= 10, answers
    assert gw.chat().status == 200  # the others' limits are not touched


# --- keys -----------------------------------------------------------------------------------------------------

def test_a_key_is_made_used_and_revoked(gw, postgres):
    add_user(gw, "anna")
    anna = token_of(gw, "anna")
    made = add_key(gw, anna, "laptop", scopes=["chat", "read"], models=["openai/*"], requests_per_minute=1000,
                   tokens_per_minute=100000, budget_usd=12.5, budget_period="month", expires_in_days=30)
    assert made.status == 201, made.text
    key = made.json
    assert key["key"].startswith(key["prefix"]) and key["owner"] == "anna" and key["budget_usd"] == 12.5
    assert (key["scopes"], key["models"], key["budget_period"]) == (["chat", "read"], ["openai/*"], "month")
    assert gw.chat(headers=bearer(key["key"])).status == 200
    assert gw.chat("anthropic/claude-sonnet-4-5", headers=bearer(key["key"])).status == 403
    assert key["key"] not in postgres.one("SELECT string_agg(k::text, ' ') FROM api_keys k")
    listed = gw.get("/api/v1/auth/api-keys", headers=anna)
    assert listed.json["total"] == 1 and "key" not in listed.json["items"][0]
    assert listed.json["items"][0]["id"] == key["id"] and listed.json["items"][0]["revoked_at"] is None
    me = gw.get("/api/v1/users/me", headers=bearer(key["key"])).json
    assert me["budgets"][0]["scope"] == "key:" + key["id"] and me["budgets"][0]["limit_usd"] == 12.5
    assert gw.request("DELETE", "/api/v1/auth/api-keys/" + key["id"], headers=anna).status == 204
    assert eventually(lambda: gw.chat(headers=bearer(key["key"])).status == 401)
    assert gw.request("DELETE", "/api/v1/auth/api-keys/" + key["id"], headers=anna).status == 404
    assert add_key(gw, anna, "laptop").status == 201  # the name is free again
    again = add_key(gw, anna, "laptop")
    assert again.status == 409, again.text


def test_a_key_gives_no_more_than_it_has(gw):
    add_user(gw, "anna")
    anna = token_of(gw, "anna")
    narrow = bearer(add_key(gw, anna, "narrow", scopes=["write", "chat"], models=["openai/*"]).json["key"])
    good = {"scopes": ["chat"], "models": ["openai/gpt-4o-mini"]}
    assert add_key(gw, narrow, "good", **good).status == 201
    for i, more in enumerate(({"scopes": []}, {"scopes": ["chat", "read"]}, {"models": []},
                              {"models": ["*"]}, {"models": ["anthropic/claude-sonnet-4-5"]})):
        refused = add_key(gw, narrow, "bad-%d" % i, **{**good, **more})
        assert refused.status == (422 if [] in more.values() else 403), (more, refused.text)
    assert add_key(gw, anna, "admin", scopes=["admin"]).status == 403
    for i, limit in enumerate(({"budget_usd": 1}, {"requests_per_minute": 5}, {"expires_in_days": 1})):
        bounded = bearer(add_key(gw, anna, "bounded-%d" % i, **limit).json["key"])
        assert add_key(gw, bounded, "child").status == 403, limit


def test_administrators_make_keys_for_others(gw):
    add_user(gw, "anna")
    made = add_key(gw, AUTH, "service", owner="anna", scopes=["chat"])
    assert made.status == 201 and made.json["owner"] == "anna"
    assert gw.chat(headers=bearer(made.json["key"])).status == 200
    assert add_key(gw, AUTH, "nobody's").status == 422
    assert add_key(gw, AUTH, "k", owner="nobody").status == 404
    assert gw.get("/api/v1/auth/api-keys?owner=anna").json["total"] == 1
    assert gw.get("/api/v1/auth/api-keys").json["total"] == 1
    assert gw.request("DELETE", "/api/v1/auth/api-keys/" + made.json["id"]).status == 204


def same_but_for_the_id(a, b):
    def strip(answer):
        return answer.status, {k: v for k, v in answer.json.items() if k not in ("request_id", "instance")}
    return strip(a) == strip(b)


def test_check_038_what_is_anothers_answers_like_what_is_missing(gw):
    for name in ("anna", "bob"):
        add_user(gw, name)
    anna, bob = token_of(gw, "anna"), token_of(gw, "bob")
    bobs = add_key(gw, bob, "bob's").json
    missing = str(uuid.uuid4())
    pairs = [
        ("DELETE", "/api/v1/auth/api-keys/" + bobs["id"], "/api/v1/auth/api-keys/" + missing, None, None),
        ("DELETE", "/api/v1/auth/api-keys/" + bobs["id"], "/api/v1/auth/api-keys/no-uuid", None, None),
        ("DELETE", "/api/v1/auth/api-keys/" + bobs["prefix"], "/api/v1/auth/api-keys/pk-AAAAAAAA", None, None),
        ("GET", "/api/v1/auth/api-keys?owner=bob", "/api/v1/auth/api-keys?owner=nobody", None, None),
        ("POST", "/api/v1/auth/api-keys", "/api/v1/auth/api-keys", {"name": "x", "owner": "bob"},
         {"name": "x", "owner": "nobody"}),
        ("POST", "/api/v1/auth/revoke", "/api/v1/auth/revoke", {"jti": jti_of(bob)}, {"jti": missing}),
    ]
    for method, theirs, none, body, no_body in pairs:
        a = gw.request(method, theirs, body, headers=anna)
        b = gw.request(method, none, no_body, headers=anna)
        assert a.status == 404, (method, theirs, a.text)
        assert same_but_for_the_id(a, b), (a.text, b.text)
    assert gw.get("/api/v1/auth/api-keys", headers=anna).json["total"] == 0
    settled(gw, bob, 200)
    settled(gw, bearer(bobs["key"]), 200)
    export = gw.get("/api/v1/users/me/export", headers=anna).text
    assert "bob" not in export and bobs["id"] not in export


def test_check_038_the_routes_of_administrators_tell_others_nothing(gw):
    bob, _ = add_user(gw, "bob"), add_user(gw, "anna")
    team = gw.post("/api/v1/admin/teams", {"name": "red"}).json
    anna = token_of(gw, "anna")
    change = {"role": "admin"}
    for method, path, id_, body in (
            ("GET", "/api/v1/users/", bob["id"], None), ("PATCH", "/api/v1/users/", bob["id"], change),
            ("DELETE", "/api/v1/users/", bob["id"], None), ("GET", "/api/v1/admin/teams/", team["id"], None),
            ("PUT", "/api/v1/admin/teams/", team["id"], {"name": "mine"}),
            ("DELETE", "/api/v1/admin/teams/", team["id"], None)):
        there = gw.request(method, path + id_, body, headers=anna)
        missing = gw.request(method, path + str(uuid.uuid4()), body, headers=anna)
        assert there.status == 403 and same_but_for_the_id(there, missing), (method, path)
    for path in ("/api/v1/users", "/api/v1/admin/teams", "/api/v1/admin/audit"):
        assert gw.get(path, headers=anna).status == 403
    assert gw.get("/api/v1/users/" + bob["id"]).json["role"] == "user"


# --- users and teams ------------------------------------------------------------------------------------------

def test_users_are_made_changed_and_removed(gw):
    gw.post("/api/v1/admin/teams", {"name": "red"})
    user = add_user(gw, "anna", email="a@example.org", team="red")
    assert user["team"] == "red" and "password" not in json.dumps(user)
    assert gw.post("/api/v1/users", {"user_id": "anna", "password": PASSWORD}).status == 409
    assert gw.post("/api/v1/users", {"user_id": "carl", "password": PASSWORD, "team": "blue"}).status == 404
    assert gw.post("/api/v1/users", {"user_id": "carl", "password": "short"}).status == 422
    path = "/api/v1/users/" + user["id"]
    anna = token_of(gw, "anna")
    key = bearer(add_key(gw, anna).json["key"])
    changed = gw.request("PATCH", path, {"email": None, "team": None, "password": "another good one"})
    assert changed.status == 200 and changed.json["email"] is None and changed.json["team"] is None
    assert login(gw, "anna").status == 401 and login(gw, "anna", "another good one").status == 200
    assert gw.request("PATCH", path, {"disabled": True}).json["disabled"] is True
    settled(gw, key, 401)
    assert gw.request("PATCH", path, {"disabled": False}).status == 200
    settled(gw, key, 200)
    assert gw.get("/api/v1/users?per_page=1").json["total"] == 1
    assert gw.request("DELETE", path).status == 204
    settled(gw, key, 401)
    assert gw.get(path).status == gw.request("DELETE", path).status == 404
    assert gw.request("PATCH", path, {"disabled": True}).status == 404


def test_a_role_opens_and_closes_at_once(gw):
    add_user(gw, "root", role="admin")
    user = add_user(gw, "anna", role="admin")
    key = bearer(add_key(gw, AUTH, owner="anna").json["key"])
    settled(gw, key, 200, "/api/v1/users")
    assert gw.request("PATCH", "/api/v1/users/" + user["id"], {"role": "user"}).status == 200
    settled(gw, key, 403, "/api/v1/users")


def test_the_last_administrator_stays(gw):
    one, two = add_user(gw, "one", role="admin"), add_user(gw, "two", role="admin")
    path = "/api/v1/users/" + two["id"]
    assert gw.request("DELETE", "/api/v1/users/" + one["id"]).status == 204
    for answer in (gw.request("DELETE", path), gw.request("PATCH", path, {"role": "user"}),
                   gw.request("PATCH", path, {"disabled": True})):
        assert answer.status == 409 and slug(answer) == "conflict", answer.text
    assert gw.get(path).json["role"] == "admin"


def test_everyone_changes_their_own_password(make_gateway, postgres):
    gw = make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres, conf={"gateway.yaml": {"auth.lockout_failures": 2}})
    add_user(gw, "anna")
    key = bearer(add_key(gw, token_of(gw, "anna")).json["key"])

    def renew(current):
        return gw.post("/api/v1/users/me/password", {"current_password": current, "new_password": "a fresh password"},
                       headers=key)

    assert renew("not mine").status == 403
    assert renew(PASSWORD).status == 204
    assert login(gw, "anna").status == 401
    assert login(gw, "anna", "a fresh password").status == 200
    assert [renew("not mine").status for _ in range(3)] == [403, 403, 423]
    assert gw.post("/api/v1/users/me/password", {"current_password": "x", "new_password": "a fresh password"}).status == 403


def test_an_export_holds_all_that_is_known_of_one(gw, postgres):
    user = add_user(gw, "anna")
    anna = token_of(gw, "anna")
    key = add_key(gw, anna).json
    postgres.psql("""INSERT INTO usage_daily (day, owner_id, key_id, provider, model, purpose, calls, tokens_in, cost_nano_usd)
        SELECT date '2026-01-01' + n, '%s', '%s', 'openai', 'gpt-4o', 'chat', 2, 10, 1500000000
        FROM generate_series(0, 1499) n""" % (user["id"], key["id"]))
    body = gw.get("/api/v1/users/me/export", headers=anna).json
    assert body["user"]["user_id"] == "anna" and [k["id"] for k in body["api_keys"]] == [key["id"]]
    days = body["usage_daily"]
    assert len(days) == 1500 and days[0]["day"] == "2026-01-01" and len({d["day"] for d in days}) == 1500
    assert days[0]["cost_usd"] == 1.5 and days[0]["calls"] == 2 and days[0]["key_id"] == key["id"]


def test_teams_bind_the_keys_of_their_members(gw):
    team = gw.post("/api/v1/admin/teams", {"name": "red", "models": ["openai/*"], "budget_usd": 0.25,
                                           "budget_period": "day", "requests_per_minute": 500,
                                           "tokens_per_minute": 90000})
    assert team.status == 201 and team.json["budget_usd"] == 0.25
    assert (team.json["requests_per_minute"], team.json["tokens_per_minute"]) == (500, 90000)
    assert gw.post("/api/v1/admin/teams", {"name": "red"}).status == 409
    path = "/api/v1/admin/teams/" + team.json["id"]
    add_user(gw, "anna", team="red")
    made = add_key(gw, AUTH, owner="anna").json
    key = bearer(made["key"])
    assert gw.chat("anthropic/claude-sonnet-4-5", headers=key).status == 403
    assert gw.get("/api/v1/users/me", headers=key).json["budgets"][0]["limit_usd"] == 0.25
    assert gw.get(path).json["members"] == 1
    changed = gw.request("PUT", path, {"name": "crimson", "models": ["anthropic/*"]})
    assert changed.status == 200 and changed.json["budget_usd"] is None
    assert changed.json["requests_per_minute"] is changed.json["tokens_per_minute"] is None
    assert eventually(lambda: gw.chat("anthropic/claude-sonnet-4-5", headers=key).status == 200)
    assert gw.get("/api/v1/admin/teams").json["items"][0]["name"] == "crimson"
    assert gw.request("DELETE", path).status == 409  # the key would be without its limits
    assert gw.get("/api/v1/users/me", headers=key).json["team"] == "crimson"
    assert gw.request("DELETE", "/api/v1/auth/api-keys/" + made["id"]).status == 204
    assert gw.request("DELETE", path).status == 204
    assert gw.get(path).status == gw.request("DELETE", path).status == 404
    assert gw.get("/api/v1/users", headers=AUTH).json["items"][0]["team"] is None


# --- the record, the command line, the database away ----------------------------------------------------------

def test_what_was_done_is_in_the_audit_record(gw, postgres):
    add_user(gw, "anna")
    login(gw, "anna", "wrong password")
    anna = token_of(gw, "anna")
    key = add_key(gw, anna).json
    gw.request("DELETE", "/api/v1/auth/api-keys/" + key["id"], headers=anna)
    assert gw.post("/api/v1/admin/circuits/openai/reset", {}).status == 200
    assert gw.request("DELETE", "/api/v1/admin/cache/llm").status in (200, 404)
    wanted = {("master", "user.create", "anna", "ok"), ("anonymous", "login", "anna", "failed"),
              ("anonymous", "login", "anna", "ok"), ("user:anna", "apikey.create", key["prefix"], "ok"),
              ("user:anna", "apikey.revoke", key["prefix"], "ok"), ("master", "circuit.reset", "openai", "ok")}

    def rows():
        found = gw.get("/api/v1/admin/audit?per_page=100").json["items"]
        return wanted <= {(r["actor"], r["action"], r["target"], r["outcome"]) for r in found} and found

    found = eventually(rows)
    assert found, gw.get("/api/v1/admin/audit?per_page=100").text
    assert all(r["actor_ip"] == "127.0.0.1" and r["request_id"] for r in found)
    assert [r["id"] for r in found] == sorted((r["id"] for r in found), reverse=True)
    logins = gw.get("/api/v1/admin/audit?action=login&actor=anonymous").json
    assert {r["action"] for r in logins["items"]} == {"login"} and logins["total"] == len(logins["items"]) == 2
    assert gw.get("/api/v1/admin/audit?since=2100-01-01T00:00:00Z").json["total"] == 0
    assert gw.get("/api/v1/admin/audit?since=yesterweek").status == 400
    everything = postgres.one("SELECT string_agg(a::text, ' ') FROM audit_log a") + gw.log()
    assert PASSWORD not in everything and "wrong password" not in everything and key["key"] not in everything


def cli(gw, *words, text=None):
    env = {**os.environ, **gw.env}
    return subprocess.run([binary(), *words, "--conf", gw.conf_dir], input=text, capture_output=True, text=True,
                          timeout=60, env=env, cwd=gw.dir)


def test_the_command_line_makes_the_first_administrator_and_keys(gw, postgres):
    made = cli(gw, "user", "add", "root", "--admin")
    assert made.returncode == 0, made.stderr
    root = login(gw, "root", made.stdout.strip())
    assert root.status == 200
    assert gw.get("/api/v1/users", headers=bearer(root.json["access_token"])).status == 200
    assert cli(gw, "user", "add", "root").returncode == 1
    typed = cli(gw, "user", "add", "anna", "--password-stdin", text=PASSWORD + "\n")
    assert typed.returncode == 0 and login(gw, "anna").status == 200
    key = cli(gw, "apikey", "create", "--owner", "anna", "--name", "cron", "--scopes", "chat")
    assert key.returncode == 0, key.stderr
    headers = bearer(key.stdout.strip())
    assert gw.chat(headers=headers).status == 200
    assert gw.get("/api/v1/users/me", headers=headers).status == 403  # its scopes
    prefix = key.stdout.strip()[:11]
    assert prefix in cli(gw, "apikey", "list", "--owner", "anna").stdout
    assert cli(gw, "apikey", "revoke", prefix).returncode == 0
    assert eventually(lambda: gw.chat(headers=headers).status == 401)
    assert postgres.psql("SELECT action, outcome FROM audit_log WHERE actor = 'cli' ORDER BY id") == [
        ["user.create", "ok"], ["user.create", "ok"], ["apikey.create", "ok"], ["apikey.revoke", "ok"]]


def test_a_stopped_database_is_told_and_the_master_key_goes_on(make_gateway, make_postgres):
    pg = make_postgres()
    pg.migrate()
    gw = make_gateway({"JWT_SECRET_KEY": SECRET}, pg=pg)
    user = add_user(gw, "anna")
    pg.stop()
    requests = [
        ("POST", "/api/v1/auth/token", {"user_id": "anna", "password": PASSWORD}, {}),
        ("POST", "/api/v1/auth/token", {"user_id": "anna"}, AUTH),
        ("POST", "/api/v1/auth/api-keys", {"name": "k", "owner": "anna"}, AUTH),
        ("GET", "/api/v1/auth/api-keys", None, AUTH),
        ("DELETE", "/api/v1/auth/api-keys/" + str(uuid.uuid4()), None, AUTH),
        ("POST", "/api/v1/auth/revoke", {"jti": "x"}, AUTH),
        ("POST", "/api/v1/users", {"user_id": "bob", "password": PASSWORD}, AUTH),
        ("GET", "/api/v1/users", None, AUTH), ("GET", "/api/v1/users/" + user["id"], None, AUTH),
        ("PATCH", "/api/v1/users/" + user["id"], {"disabled": True}, AUTH),
        ("DELETE", "/api/v1/users/" + user["id"], None, AUTH),
        ("POST", "/api/v1/admin/teams", {"name": "red"}, AUTH), ("GET", "/api/v1/admin/teams", None, AUTH),
        ("GET", "/api/v1/admin/audit", None, AUTH), ("GET", "/api/v1/users/me", None, bearer("pk-" + "A" * 43)),
    ]
    for method, path, body, headers in requests:
        answer = gw.request(method, path, body, headers=headers)
        assert answer.status == 503, (method, path, answer.text)
        assert int(answer.headers["retry-after"]) > 0 and slug(answer) == "dependency-unavailable"
    assert gw.chat().status == 200
    pg.start()
    assert eventually(lambda: login(gw, "anna").status == 200, 30)

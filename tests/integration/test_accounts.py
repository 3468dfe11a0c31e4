"""Users, passwords, tokens, keys and teams over HTTP, with a real Postgres behind the gateway."""

import base64
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

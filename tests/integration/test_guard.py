"""What an attacker, or a user in the wrong place, tries on accounts: guesses that race with a change, floods,
keys where no keys belong, and whether the record tells of it."""
import threading

import pytest
from front import wait_until
from gateway import AUTH
from test_accounts import (PASSWORD, SECRET, add_key, add_user, bearer, eventually, jti_of, login, settled, slug,
                           token_of, while_changed)

ME, USERS, KEYS, TEAMS = "/api/v1/users/me", "/api/v1/users/", "/api/v1/auth/api-keys", "/api/v1/admin/teams"
REVOKE = "/api/v1/auth/revoke"
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def gw(make_gateway, postgres):
    return make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres)


# --- changes at the same moment -------------------------------------------------------------------------------

NEW_PASSWORD = "password_hash = '$scrypt$ln=15,r=8,p=1$' || repeat('A', 22) || '$' || repeat('A', 43), " \
               "tokens_valid_from = clock_timestamp()"


def test_the_password_before_a_change_gives_no_token_after_it(gw, postgres):
    add_user(gw, "anna")
    assert while_changed(postgres, NEW_PASSWORD, lambda: login(gw, "anna")).status == 401
    assert while_changed(postgres, "disabled = true", lambda: login(gw, "anna")).status == 401


@pytest.mark.parametrize("change", [NEW_PASSWORD, "disabled = true", "locked_until = now() + interval '1 hour'"])
def test_the_password_before_a_change_does_not_change_it_back(gw, postgres, change):
    add_user(gw, "anna")
    anna = token_of(gw, "anna")
    answer = while_changed(postgres, change, lambda: gw.post(
        ME + "/password", {"current_password": PASSWORD, "new_password": "the thief's own"}, headers=anna))
    assert (answer.status, slug(answer)) == (409, "conflict")
    postgres.psql("UPDATE users SET disabled = false, locked_until = NULL")
    assert login(gw, "anna", "the thief's own").status == 401


# --- floods ---------------------------------------------------------------------------------------------------

def test_nobody_fills_the_list_of_revoked_tokens(gw, postgres):
    """It is read by all processes and bounded: what pushed others' entries out would make their tokens good."""
    anna = add_user(gw, "anna")
    add_user(gw, "bob")
    one, two = token_of(gw, "anna"), token_of(gw, "bob")
    postgres.psql("INSERT INTO revoked_tokens SELECT '%s.' || n, now() + interval '1 day' "
                  "FROM generate_series(1, 999) n" % anna["id"])
    postgres.psql("INSERT INTO revoked_tokens VALUES ('%s.old', now() - interval '2 hours')" % anna["id"])
    assert gw.post(REVOKE, {"jti": anna["id"] + ".x"}, headers=one).status == 204
    refused = gw.post(REVOKE, {"jti": anna["id"] + ".y"}, headers=one)
    assert (refused.status, slug(refused)) == (409, "conflict")
    assert gw.post(REVOKE, {"jti": anna["id"] + ".x"}, headers=one).status == 204  # it is there
    assert gw.post(REVOKE, {}, headers=two).status == 204  # the others' are not counted
    assert gw.post(REVOKE, {"all": True}, headers=one).status == 204
    settled(gw, one, 401)
    # what has expired is not kept
    assert postgres.one("SELECT count(*) FROM revoked_tokens") == "1001"


def test_check_041_a_storm_of_logins_holds_nobody_up(make_gateway, postgres):
    """With more logins than can be hashed in time, what else the pool is for is done at once: here the
    fingerprint of a large request with an Idempotency-Key."""
    gw = make_gateway({"JWT_SECRET_KEY": SECRET, "TRUSTED_PROXIES": "127.0.0.0/8"}, pg=postgres)
    stop, answers = threading.Event(), []

    def guess(n):
        while not stop.is_set():
            answers.append(gw.post("/api/v1/auth/token", {"user_id": "user-%d" % n, "password": "wrong password"},
                                   headers={"X-Forwarded-For": "198.51.100.%d" % n}).status)

    guessers = [threading.Thread(target=guess, args=(n,)) for n in range(100)]
    for g in guessers:
        g.start()
    try:
        assert eventually(lambda: 503 in answers, 60), answers  # as many wait as may
        before = len([a for a in answers if a == 401])
        for n in range(5):
            big = gw.chat(text="x" * 400000, headers={**AUTH, "Idempotency-Key": "big-%d" % n})
            assert big.status == 200
        # 32 waited in front of each; had it queued behind them, all those would have been answered first
        assert len([a for a in answers if a == 401]) - before < 5 * 32
    finally:
        stop.set()
        for g in guessers:
            g.join()
    assert set(answers) <= {401, 503, 504}, set(answers)


# --- keys where no keys belong --------------------------------------------------------------------------------

def test_check_039_a_key_in_a_path_is_not_logged(make_gateway, postgres):
    gw = make_gateway({"JWT_SECRET_KEY": SECRET, "LOG_LEVEL": "debug"}, pg=postgres)
    add_user(gw, "anna")
    anna = token_of(gw, "anna")
    key = add_key(gw, anna).json["key"]
    token = anna["Authorization"].split(" ")[1]
    for secret in (key, token):
        assert gw.request("DELETE", KEYS + "/" + secret, headers=anna).status == 404
        assert gw.get("/api/v1/nowhere/" + secret, headers=anna).status == 404
        assert gw.request("DELETE", "/api/v1/admin/cache/" + secret).status in (404, 422)
    wait_until(lambda: gw.log().count("Request completed: DELETE " + KEYS + "/" + key[:11] + "...") == 1, "the line")
    record = postgres.one("SELECT string_agg(a::text, ' ') FROM audit_log a")
    for text in (gw.log(), record, gw.metrics().keys().__str__()):
        assert key[12:] not in text and token[12:40] not in text


# --- the record -----------------------------------------------------------------------------------------------

def rows_of(gw, n, action):
    """The record's rows of an action, newest first, once there are n."""
    def read():
        found = gw.get("/api/v1/admin/audit?per_page=100&action=" + action).json["items"]
        return len(found) >= n and found
    found = eventually(read)
    assert found, gw.get("/api/v1/admin/audit?per_page=100").text
    return found


def test_acts_that_were_refused_are_in_the_record(gw, postgres):
    only = add_user(gw, "root", role="admin")
    bob = add_user(gw, "bob")
    root, hers = token_of(gw, "root"), token_of(gw, "bob")
    tries = [  # method, path, body, headers, status, action, actor, target
        ("POST", "/api/v1/users", {"user_id": "eve", "password": PASSWORD}, hers, 403, "user.create", "user:bob", None),
        ("POST", "/api/v1/users", {"user_id": "bob", "password": PASSWORD}, root, 409, "user.create", "user:root", None),
        ("PATCH", USERS + only["id"], {"role": "user"}, root, 409, "user.change", "user:root", only["id"]),
        ("PATCH", USERS + bob["id"], {"role": "admin"}, hers, 403, "user.change", "user:bob", bob["id"]),
        ("DELETE", USERS + only["id"], None, root, 409, "user.remove", "user:root", only["id"]),
        ("DELETE", USERS + NOBODY, None, root, 404, "user.remove", "user:root", NOBODY),
        ("POST", KEYS, {"name": "k", "scopes": ["admin"]}, hers, 403, "apikey.create", "user:bob", None),
        ("POST", KEYS, {"name": "k", "owner": "root"}, hers, 404, "apikey.create", "user:bob", None),
        ("DELETE", KEYS + "/" + NOBODY, None, hers, 404, "apikey.revoke", "user:bob", NOBODY),
        ("POST", REVOKE, {"jti": NOBODY + ".x"}, hers, 404, "token.revoke", "user:bob", None),
        ("POST", "/api/v1/auth/token", {"user_id": "root"}, hers, 403, "token.issue", "user:bob", "root"),
        ("POST", TEAMS, {"name": "t"}, hers, 403, "team.create", "user:bob", None),
        ("DELETE", TEAMS + "/" + NOBODY, None, root, 404, "team.remove", "user:root", NOBODY),
        ("PUT", "/api/v1/admin/log-level", {"component": "pg", "level": "warn"}, hers, 403, "log.level", "user:bob", None),
        ("POST", "/api/v1/admin/config/reload", {}, hers, 403, "config.reload", "user:bob", None),
        ("DELETE", "/api/v1/admin/cache/llm", None, hers, 403, "cache.clear", "user:bob", "llm"),
        ("POST", "/api/v1/admin/circuits/openai/reset", {}, hers, 403, "circuit.reset", "user:bob", "openai"),
        ("POST", "/api/admin/circuits/openai/reset", {}, hers, 403, "circuit.reset", "user:bob", "openai"),
    ]
    for method, path, body, headers, status, *_ in tries:
        answer = gw.request(method, path, body, headers=headers)
        assert answer.status == status, (method, path, answer.text)
    wanted = sorted((action, actor, str(target), "refused") for *_, action, actor, target in tries)

    def found():
        rows = postgres.psql("SELECT action, actor, coalesce(target, 'None'), outcome FROM audit_log "
                             "WHERE outcome = 'refused'")
        return sorted(map(tuple, rows)) == wanted
    assert eventually(found), postgres.psql("SELECT action, actor, target, outcome FROM audit_log")
    assert postgres.one("SELECT count(*) FROM audit_log WHERE outcome = 'refused' AND (actor_ip IS NULL OR "
                        "request_id IS NULL OR detail->>'error' IS NULL)") == "1"  # token.issue has no detail


def test_a_stranger_fills_no_table_but_is_in_the_log(gw, postgres):
    for headers in ({}, bearer("pk-" + "A" * 43)):
        assert gw.post("/api/v1/users", {"user_id": "eve", "password": PASSWORD}, headers=headers).status == 401
        assert gw.request("DELETE", USERS + NOBODY, headers=headers).status == 401
    wait_until(lambda: len([l for l in gw.log_lines() if l["message"] == "audit"]) == 4, "the lines")
    lines = [l for l in gw.log_lines() if l["message"] == "audit"]
    assert {(l["actor"], l["action"], l["outcome"]) for l in lines} == {
        ("anonymous", "user.create", "refused"), ("anonymous", "user.remove", "refused")}
    assert postgres.one("SELECT count(*) FROM audit_log") == "0"


def test_what_is_revoked_is_named_in_the_record(gw):
    add_user(gw, "anna")
    one, two = token_of(gw, "anna"), token_of(gw, "anna")
    assert gw.post(REVOKE, {"jti": jti_of(one)}, headers=two).status == 204
    assert gw.post(REVOKE, {}, headers=two).status == 204
    settled(gw, two, 401)
    assert gw.post(REVOKE, {"all": True}, headers=token_of(gw, "anna")).status == 204
    assert {r["target"] for r in rows_of(gw, 3, "token.revoke")} == {jti_of(one), jti_of(two), "all"}


def test_check_040_an_address_a_proxy_writes_differently_is_in_the_record(make_gateway, postgres):
    """Postgres takes no brackets: the row of whoever came so was lost."""
    gw = make_gateway({"JWT_SECRET_KEY": SECRET, "TRUSTED_PROXIES": "127.0.0.0/8, 10.0.0.0/8"}, pg=postgres)
    for given in ("[2001:DB8::1]", "::ffff:198.51.100.7", "198.51.100.8, [::ffff:10.1.1.1]"):
        assert gw.post("/api/v1/auth/token", {"user_id": "nobody", "password": "wrong password"},
                       headers={"X-Forwarded-For": given}).status == 401
    rows = rows_of(gw, 3, "login")
    assert {r["actor_ip"] for r in rows} == {"2001:db8::1", "198.51.100.7", "198.51.100.8"}


# --- many keys ------------------------------------------------------------------------------------------------

def test_a_user_makes_so_many_keys_and_no_more(make_gateway, postgres):
    """Limits go by key: whoever has any number of keys has no limits."""
    gw = make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres, conf={"gateway.yaml": {"auth.max_keys_per_user": 3}})
    add_user(gw, "anna")
    anna = token_of(gw, "anna")
    keys = [add_key(gw, anna, "key %d" % n).json for n in range(3)]
    for maker in (anna, bearer(keys[0]["key"])):  # a key's keys are its owner's
        refused = add_key(gw, maker, "one more")
        assert (refused.status, slug(refused)) == (409, "conflict") and "as many" in refused.json["detail"]
    assert add_key(gw, AUTH, "one more", owner="anna").status == 201  # an administrator decides otherwise
    assert add_key(gw, anna, "key 9").status == 409
    postgres.psql("UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE name = 'one more'")
    assert gw.request("DELETE", KEYS + "/" + keys[2]["id"], headers=anna).status == 204
    assert add_key(gw, anna, "instead").status == 201
    assert add_key(gw, anna, "and another").status == 409


def test_more_keys_are_no_more_guesses(make_gateway, postgres):
    gw = make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres, limits=True,
                      conf={"rate_limits.yaml": {"classes.auth.requests_per_minute": 1, "classes.auth.burst": 3}})
    made = [gw.post("/api/v1/users", {"user_id": name, "password": PASSWORD}).status for name in ("anna", "bob")]
    assert made == [201, 201]
    keys = [bearer(add_key(gw, AUTH, "k%d" % n, owner="anna").json["key"]) for n in range(2)]
    guesses = [gw.post("/api/v1/auth/token", {"user_id": "bob", "password": "wrong password"},
                       headers=keys[n % 2]).status for n in range(9)]
    assert guesses[:3] == [401] * 3 and set(guesses[3:]) == {429}
    assert gw.post("/api/v1/auth/token", {"user_id": "anna"}, headers=AUTH).status == 200  # administrators go on


# --- pages ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["/api/v1/users", KEYS, TEAMS, "/api/v1/admin/audit"])
def test_a_page_past_the_end_knows_how_many_there_are(gw, postgres, path):
    empty = gw.get(path + "?page=3")
    assert empty.status == 200 and empty.json == {"items": [], "page": 3, "per_page": 20, "total": 0}
    assert empty.headers["x-total-count"] == "0"
    owner = add_user(gw, "anna")["id"]
    assert eventually(lambda: postgres.one("SELECT count(*) FROM audit_log") == "1")
    # a row of each is there, or two now
    postgres.psql("INSERT INTO users (user_id) VALUES ('bob'); INSERT INTO teams (name) VALUES ('one'), ('two'); "
                  "INSERT INTO api_keys (owner_id, name, prefix, key_sha256) SELECT '%s', n::text, 'pk-x', "
                  "sha256(n::text::bytea) FROM generate_series(1, 2) n; "
                  "INSERT INTO audit_log (actor, action, outcome) VALUES ('x', 'y', 'ok')" % owner)
    whole = gw.get(path + "?per_page=1&x=y").json
    assert whole["total"] == 2 and len(whole["items"]) == 1
    past = gw.get(path + "?per_page=1&page=1000000&x=y")
    assert (past.status, past.json["items"], past.json["total"]) == (200, [], 2)
    assert past.headers["x-total-count"] == "2"
    assert '<%s?x=y&page=2&per_page=1>; rel="prev"' % path in past.headers["link"]
    assert '<%s?x=y&page=2&per_page=1>; rel="last"' % path in past.headers["link"]
    ids = [gw.get(path + "?per_page=1&page=%d" % n).json["items"][0]["id"] for n in (1, 2)]
    assert ids[0] != ids[1]
    if path == KEYS:
        assert gw.get(path + "?owner=bob&page=2").json["total"] == 0
    if path.endswith("audit"):
        assert gw.get(path + "?actor=x&page=2").json["total"] == 1


# --- what was taken back --------------------------------------------------------------------------------------

def all_workers(gw, headers, status, path=ME):
    """Every one of many connections, which the workers share, is answered so."""
    assert eventually(lambda: {gw.get(path, headers=headers).status for _ in range(20)} == {status}), \
        {gw.get(path, headers=headers).status for _ in range(20)}


def test_check_037_what_a_token_stood_for_is_asked_of_the_database_by_every_worker(make_gateway, postgres):
    gw = make_gateway({"JWT_SECRET_KEY": SECRET, "API_WORKERS": "3"}, pg=postgres)
    anna, other = add_user(gw, "anna", role="admin"), add_user(gw, "other", role="admin")
    mine = token_of(gw, "anna")
    all_workers(gw, mine, 200, USERS[:-1])
    one = token_of(gw, "anna")
    all_workers(gw, one, 200)
    assert gw.post(REVOKE, {}, headers=one).status == 204
    all_workers(gw, one, 401)
    all_workers(gw, mine, 200)
    assert gw.request("PATCH", USERS + anna["id"], {"role": "user"}).status == 200  # voids what an admin was given
    all_workers(gw, mine, 401)
    mine = token_of(gw, "anna")
    all_workers(gw, mine, 403, USERS[:-1])
    changed = {"current_password": PASSWORD, "new_password": "another password"}
    assert gw.post(ME + "/password", changed, headers=mine).status == 204
    all_workers(gw, mine, 401)
    mine = bearer(login(gw, "anna", "another password").json["access_token"])
    key = bearer(add_key(gw, mine).json["key"])
    all_workers(gw, key, 200)
    assert gw.request("DELETE", USERS + anna["id"]).status == 204
    all_workers(gw, mine, 401)
    all_workers(gw, key, 401)
    add_user(gw, "anna")  # another one of that name
    all_workers(gw, mine, 401)
    assert gw.request("DELETE", USERS + other["id"]).status == 409  # the last administrator


def test_a_lock_is_kept_over_a_restart_and_only_on_new_logins(make_gateway, postgres):
    conf = {"gateway.yaml": {"auth.lockout_failures": 2}}
    gw = make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres, conf=conf)
    anna = add_user(gw, "anna")
    mine = token_of(gw, "anna")
    key = bearer(add_key(gw, mine).json["key"])
    assert [login(gw, "anna", "wrong password").status for _ in range(3)] == [401, 401, 423]
    until = postgres.one("SELECT locked_until FROM users WHERE user_id = 'anna'")
    assert login(gw, "anna", "wrong password").status == 423  # and is not made longer
    assert postgres.one("SELECT locked_until FROM users WHERE user_id = 'anna'") == until
    assert gw.get(ME, headers=mine).status == gw.get(ME, headers=key).status == 200
    gw.stop()
    again = make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres, conf=conf)
    assert login(again, "anna").status == 423
    assert again.get(ME, headers=mine).status == 200
    assert again.request("PATCH", USERS + anna["id"], {"password": PASSWORD}).status == 200  # by an administrator
    assert login(again, "anna").status == 200


# --- forms ----------------------------------------------------------------------------------------------------

NAUGHTY = ["1e400", "-0", "0", "-1", '""', "[]", "{}", "null", "9223372036854775808", "18446744073709551616", "1.5",
           "1e-400", '"%s"' % ("x" * 5000), '"\\u0000"', '"\\ud800"', '["",1]', "[null]", '"e\u0301"', '"1\u2028"',
           '"%00"', '"\'; DROP TABLE users --"', '["a\\nb"]', "[" * 70 + "]" * 70, "9" * 40, "-9223372036854775808",
           "0.0000000001", '"infinity"', '"a\\nb"']
FIELDS = {
    ("POST", "/api/v1/users", '"user_id": "u%d", "password": "12345678"'): ["user_id", "email", "password", "role", "team"],
    ("PATCH", USERS + "{anna}", '"email": null'): ["email", "password", "role", "team", "disabled"],
    ("POST", KEYS, '"name": "k%d", "owner": "anna"'): [
        "name", "owner", "team", "scopes", "models", "requests_per_minute", "tokens_per_minute", "budget_usd",
        "budget_period", "expires_in_days"],
    ("POST", TEAMS, '"name": "t%d"'): [
        "name", "models", "budget_usd", "budget_period", "requests_per_minute", "tokens_per_minute"],
    ("POST", "/api/v1/auth/token", '"user_id": "anna"'): ["user_id", "password", "expires_in_hours", "role"],
    ("POST", "/api/v1/auth/validate", ""): ["token"],
    ("POST", REVOKE, ""): ["jti", "all"],
    ("POST", ME + "/password", '"current_password": "xxxxxxxx", "new_password": "yyyyyyyy"'): [
        "current_password", "new_password"],
    ("PUT", "/api/v1/admin/log-level", '"level": "info"'): ["component", "level"],
}


@pytest.mark.parametrize("form", FIELDS, ids=lambda form: form[1])
def test_check_44_no_value_of_any_field_is_a_failure_of_ours(make_gateway, postgres, form):
    gw = make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres, conf={"gateway.yaml": {"auth.lockout_failures": 1000}})
    anna = add_user(gw, "anna")["id"]
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    there = postgres.one(tables)
    method, path, base = form
    failed, refused, n = [], 0, 0
    for field in FIELDS[form]:
        keep = ", ".join(m for m in base.split(", ") if m and not m.startswith('"%s"' % field))
        for value in NAUGHTY:
            n += 1
            body = "{%s%s\"%s\": %s}" % (keep % n if "%d" in keep else keep, ", " if keep else "", field, value)
            answer = gw.request(method, path.replace("{anna}", anna), body.encode(), timeout=60)
            refused += answer.status in (400, 422)
            if answer.status >= 500 or (answer.status >= 400 and "type" not in answer.json):
                failed.append((field, value[:60], answer.status, answer.text[:200]))
    assert not failed, failed[:10]
    assert refused > n / 2, (refused, n)
    assert postgres.one(tables) == there
    gw.alive()


def test_nothing_at_all_is_no_key_for_everything(gw):
    """An empty list is what a mistaken form sends; it meant all scopes and all models."""
    add_user(gw, "anna")
    anna = token_of(gw, "anna")
    for name, pointer in (("scopes", "/scopes"), ("models", "/models")):
        refused = add_key(gw, anna, "k", **{name: []})
        assert refused.status == 422 and refused.json["errors"][0]["pointer"] == pointer, refused.text
    assert add_key(gw, anna, "k").status == 201


def test_an_argument_of_a_query_is_there_once(gw):
    for query, name in (("page=1&page=2", "page"), ("per_page=5&x=1&per_page=5", "per_page")):
        refused = gw.get("/api/v1/users?" + query)
        assert refused.status == 422 and refused.json["errors"][0]["param"] == name, refused.text
    assert gw.get("/api/v1/admin/costs?group=model&group=key").status == 422

"""Accounts at their edges: changes at the same moment, limits that must not be lost on the way, clients that
leave while something is done."""
import threading

import pytest
from front import wait_until
from gateway import AUTH
from rawhttp import Raw, head, post_json
from test_accounts import PASSWORD, SECRET, add_key, add_user, bearer, login, settled, slug, token_of

ME, USERS, KEYS, TEAMS = "/api/v1/users/me", "/api/v1/users/", "/api/v1/auth/api-keys", "/api/v1/admin/teams"


@pytest.fixture
def gw(make_gateway, postgres):
    return make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres)


def test_a_token_of_the_same_second_as_a_change_is_void(gw):
    path = USERS + add_user(gw, "anna")["id"]
    for change in ({"password": PASSWORD}, {"role": "user"}, {"disabled": False}):
        before = token_of(gw, "anna")
        assert gw.request("PATCH", path, change).status == 200
        settled(gw, before, 401)
        assert gw.get(ME, headers=token_of(gw, "anna")).status == 200, change


def test_after_all_tokens_were_taken_back_the_next_is_good_at_once(gw):
    add_user(gw, "anna")
    for _ in range(3):
        before = token_of(gw, "anna")
        assert gw.post("/api/v1/auth/revoke", {"all": True}, headers=before).status == 204
        settled(gw, before, 401)
        assert gw.get(ME, headers=token_of(gw, "anna")).status == 200


def test_a_change_is_made_to_what_was_seen_and_nothing_else(gw):
    path = USERS + add_user(gw, "anna")["id"]
    seen = gw.get(path).headers["etag"]
    first = gw.request("PATCH", path, {"email": "a@example.org"}, headers={**AUTH, "If-Match": seen})
    assert first.status == 200 and first.headers["etag"] == gw.get(path).headers["etag"] != seen
    second = gw.request("PATCH", path, {"email": "b@example.org"}, headers={**AUTH, "If-Match": seen})
    assert (second.status, slug(second)) == (412, "precondition-failed")
    assert gw.get(path).json["email"] == "a@example.org"
    assert gw.request("PATCH", path, {"email": None}, headers={**AUTH, "If-Match": "*"}).status == 200
    gone = USERS + "00000000-0000-4000-8000-000000000000"
    assert gw.request("PATCH", gone, {"email": None}, headers={**AUTH, "If-Match": "*"}).status == 404


def test_of_changes_at_the_same_time_to_what_was_seen_one_is_made(gw):
    path = USERS + add_user(gw, "anna")["id"]
    seen = {**AUTH, "If-Match": gw.get(path).headers["etag"]}
    got = []
    threads = [threading.Thread(target=lambda i=i: got.append(
        gw.request("PATCH", path, {"email": "%d@example.org" % i}, headers=seen).status)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(got) == [200] + 5 * [412]


def test_a_key_of_a_team_hands_on_nothing_beyond_the_team(gw):
    """The team is the key's own; its owner has none."""
    add_user(gw, "anna")
    assert gw.post(TEAMS, {"name": "red", "models": ["openai/*"], "budget_usd": 1}).status == 201
    key = bearer(add_key(gw, AUTH, "first", owner="anna", team="red").json["key"])
    again = add_key(gw, key, "second")
    assert again.status == 201 and again.json["team_id"]
    assert gw.get(ME, headers=bearer(again.json["key"])).json["budgets"][0]["limit_usd"] == 1
    assert gw.chat("anthropic/claude-sonnet-4-5", headers=bearer(again.json["key"])).status == 403
    assert gw.post("/api/v1/auth/token", {"user_id": "anna"}, headers=key).status == 403
    free = bearer(add_key(gw, AUTH, "third", owner="anna").json["key"])
    assert gw.post("/api/v1/auth/token", {"user_id": "anna"}, headers=free).status == 200


def test_a_user_with_documents_is_not_removed(gw, postgres):
    anna = add_user(gw, "anna")["id"]
    postgres.psql("INSERT INTO documents (owner_id, filename, storage_name, sha256, size, mime) VALUES "
                  "('%s', 'a.pdf', 'a', sha256('a'), 1, 'application/pdf')" % anna)
    refused = gw.request("DELETE", USERS + anna)
    assert refused.status == 409 and "documents" in refused.json["detail"]
    assert gw.get(USERS + anna).status == 200


def leave_waiting(gw, postgres, request, statement):
    """Has a client send the request, and leave while its statement waits for a lock."""
    client = Raw(gw.port)
    client.send(request)
    wait_until(lambda: postgres.psql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND "
                                     "query LIKE '%s'" % statement), "the statement to wait for the table")
    client.close()
    wait_until(lambda: any(line.get("status") == 499 for line in gw.log_lines()), "the client to be missed")


def leave_a_user_waiting(gw, postgres):
    """A client has left that was adding anna to the table of users."""
    leave_waiting(gw, postgres, post_json("/api/v1/users", {"user_id": "anna", "password": PASSWORD},
                                          "Authorization: " + AUTH["Authorization"]), "INSERT INTO users%")


def test_what_was_done_for_a_client_that_left_is_on_record(gw, postgres):
    with postgres.session("BEGIN; LOCK TABLE users IN EXCLUSIVE MODE"):
        leave_a_user_waiting(gw, postgres)
    wait_until(lambda: postgres.psql("SELECT 1 FROM audit_log WHERE action = 'user.create' AND target = 'anna' "
                                     "AND outcome = 'ok'"), "the record")
    assert login(gw, "anna").status == 200
    gw.alive()


def test_what_is_asked_by_a_client_that_left_is_given_up(gw, postgres):
    add_user(gw, "anna")
    with postgres.session("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE"):
        leave_waiting(gw, postgres, head("GET", "/api/v1/users", "Authorization: " + AUTH["Authorization"]),
                      "%FROM users u WHERE true%")
    assert gw.get("/api/v1/users").json["total"] == 1
    gw.alive()


def test_a_gateway_that_ends_leaves_nothing_of_such_a_change(gw, postgres):
    with postgres.session("BEGIN; LOCK TABLE users IN EXCLUSIVE MODE"):
        leave_a_user_waiting(gw, postgres)
        gw.stop()  # what it leaks, the fixture tells

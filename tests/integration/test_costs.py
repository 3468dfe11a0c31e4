"""What calls cost: /api/v1/admin/costs and /api/v1/usage against a real Postgres whose daily table a test
writes, and one that is gone."""
import hashlib
import secrets

import pytest
from front import wait_until

COSTS, USAGE = "/api/v1/admin/costs", "/api/v1/usage"
SUMS = ("calls", "cached_calls", "unknown_cost_calls", "tokens_in", "tokens_out", "cache_read_tokens",
        "cost_nano_usd", "avoided_nano_usd")


def add_user(pg, name):
    return pg.one("INSERT INTO users (user_id) VALUES ('%s') RETURNING id" % name)


def add_key(pg, owner, name, team=None):
    """The key's id and its text."""
    key = "pk-" + secrets.token_urlsafe(32)
    return pg.one("INSERT INTO api_keys (owner_id, team_id, name, prefix, key_sha256) VALUES ('%s', %s, "
                  "'%s', '%s', '\\x%s') RETURNING id" % (
                      owner, "'%s'" % team if team else "NULL", name, key[:11],
                      hashlib.sha256(key.encode()).hexdigest())), key


def add_day(pg, day, model="gpt", owner=None, key=None, team=None, purpose="chat", **sums):
    row = {"day": day, "provider": "openai", "model": model, "purpose": purpose, "owner_id": owner,
           "key_id": key, "team_id": team, **sums}
    row = {k: v for k, v in row.items() if v is not None}
    pg.psql("INSERT INTO usage_daily (%s) VALUES (%s)" % (
        ", ".join(row), ", ".join("'%s'" % v for v in row.values())))


@pytest.fixture
def served(make_gateway, postgres):
    """Two users; ada has two keys, one of them in a team."""
    pg = postgres
    pg.team = pg.one("INSERT INTO teams (name) VALUES ('red') RETURNING id")
    pg.ada, pg.bob = add_user(pg, "ada"), add_user(pg, "bob")
    (pg.first, pg.first_text), (pg.second, pg.second_text) = (
        add_key(pg, pg.ada, "first"), add_key(pg, pg.ada, "second", pg.team))
    pg.bobs, pg.bobs_text = add_key(pg, pg.bob, "bobs")
    add_day(pg, "2026-03-01", owner=pg.ada, key=pg.first, calls=3, cached=1, tokens_in=30,
            tokens_out=12, cache_read=4, cost_nano_usd=2400, avoided_nano_usd=5, unknown_cost_calls=1)
    add_day(pg, "2026-03-02", owner=pg.ada, key=pg.second, team=pg.team, model="mini", calls=2,
            cost_nano_usd=7000000000)
    add_day(pg, "2026-03-02", owner=pg.bob, key=pg.bobs, calls=1, cost_nano_usd=100, purpose="embeddings")
    add_day(pg, "2026-03-03", calls=5, cost_nano_usd=9)  # the master key's
    gw = make_gateway(pg=pg)
    gw.pg = pg
    return gw


def by(gw, group, headers=None, path=COSTS, **query):
    told = gw.get("%s?group=%s%s" % (path, group, "".join("&%s=%s" % q for q in query.items())),
                  headers=headers)
    assert told.status == 200, told.text
    assert told.json["group"] == group
    return told.json


def pairs(told, group):
    return [(i[group], i["cost_nano_usd"]) for i in told["items"]]


def bearer(key):
    return {"Authorization": "Bearer " + key}


def test_costs_are_grouped_by_each_of_the_groups_and_add_up(served):
    pg = served.pg
    want = {
        "model": [("mini", 7000000000), ("gpt", 2509)],
        "provider": [("openai", 7000002509)],
        "day": [("2026-03-03", 9), ("2026-03-02", 7000000100), ("2026-03-01", 2400)],
        "key": [(pg.second, 7000000000), (pg.first, 2400), (pg.bobs, 100), (None, 9)],
        "team": [(pg.team, 7000000000), (None, 2509)],
        "owner": [(pg.ada, 7000002400), (pg.bob, 100), (None, 9)],
        "purpose": [("chat", 7000002409), ("embeddings", 100)],
    }
    for group, rows in want.items():
        told = by(served, group)
        assert pairs(told, group) == rows, group
        assert told["groups"] == len(rows)
        for name in SUMS:
            assert told["total"][name] == sum(i[name] for i in told["items"]), (group, name)
    assert [i.get("name") for i in by(served, "key")["items"]] == ["second", "first", "bobs", None]
    assert [i.get("name") for i in by(served, "team")["items"]] == ["red", None]
    assert [i.get("name") for i in by(served, "owner")["items"]] == ["ada", "bob", None]


def test_money_is_told_in_dollars_to_the_last_digit_and_in_billionths(served):
    told = by(served, "day", to="2026-03-01")
    assert told["items"] == [{
        "day": "2026-03-01", "calls": 3, "cached_calls": 1, "unknown_cost_calls": 1, "tokens_in": 30,
        "tokens_out": 12, "cache_read_tokens": 4, "cost_usd": "0.000002400", "cost_nano_usd": 2400,
        "avoided_usd": "0.000000005", "avoided_nano_usd": 5}]
    assert by(served, "team")["items"][0]["cost_usd"] == "7.000000000"


def test_days_bound_the_sums_both_included_and_an_empty_time_costs_nothing(served):
    assert by(served, "day", **{"from": "2026-03-02"})["total"]["calls"] == 8
    assert by(served, "day", **{"from": "2026-03-02", "to": "2026-03-02"})["total"]["calls"] == 3
    told = by(served, "model", to="2026-02-28")
    assert (told["items"], told["groups"], told["total"]["cost_usd"]) == ([], 0, "0.000000000")


def test_the_limit_cuts_the_list_and_not_the_total(served):
    told = by(served, "key", limit=1)
    assert (len(told["items"]), told["groups"], told["total"]["calls"]) == (1, 4, 11)


@pytest.mark.parametrize("query,param", [
    ("group=vendor", "group"), ("from=2026-02-30", "from"), ("to=yesterday", "to"), ("limit=0", "limit"),
    ("from=2026-03-02&to=2026-03-01", "from")])
def test_a_query_that_means_nothing_is_422(served, query, param):
    for path in (COSTS, USAGE):
        told = served.get(path + "?" + query)
        assert told.status == 422
        assert [e["param"] for e in told.json["errors"]] == [param]


def test_a_key_sees_its_own_calls_alone_and_not_the_administrators_page(served):
    pg = served.pg
    told = by(served, "model", path=USAGE, headers=bearer(pg.first_text))
    assert (pairs(told, "model"), told["total"]["calls"]) == ([("gpt", 2400)], 3)
    assert pairs(by(served, "key", path=USAGE, headers=bearer(pg.bobs_text)), "key") == [(pg.bobs, 100)]
    assert served.get(COSTS, headers=bearer(pg.first_text)).status == 403
    assert served.get(USAGE + "?group=owner", headers=bearer(pg.first_text)).status == 422
    assert served.get(USAGE, headers={}).status == 401
    assert by(served, "model", path=USAGE)["total"]["calls"] == 5  # the master key's own


def test_a_call_is_in_its_keys_usage_once_the_ledger_has_stored_it(make_gateway, postgres):
    gw = make_gateway(pg=postgres, conf={"gateway.yaml": {"ledger.flush_ms": 20}})
    _, key = add_key(postgres, add_user(postgres, "ada"), "first")
    assert gw.chat(headers=bearer(key)).status == 200
    wait_until(lambda: not gw.metrics()["ledger_pending_rows"], gw.log)
    told = by(gw, "purpose", path=USAGE, headers=bearer(key))
    assert [(i["purpose"], i["calls"]) for i in told["items"]] == [("chat", 1)]
    assert told["total"]["cost_nano_usd"] > 0
    assert told["ledger"] == {"workers": 1, "pending_rows": 0, "stored": 1, "dropped": 0, "rejected": 0,
                              "aside": 0}


def test_without_postgres_costs_are_503_with_retry_after(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    gw = make_gateway(pg=pg)
    assert gw.get(COSTS).status == 200
    pg.kill()
    for path in (COSTS, USAGE):
        told = gw.get(path)
        assert (told.status, int(told.headers["retry-after"]) >= 1) == (503, True)
    pg.start()
    wait_until(lambda: gw.get(COSTS).status == 200, gw.log)
    assert make_gateway().get(COSTS).status == 503  # none configured

"""The administration's routes: performance, configuration, reload, log levels; and who may use them."""
import os
import threading

import pytest
from gateway import AUTH, MASTER_KEY, set_yaml
from front import wait_until

ROUTES = [("GET", "/api/v1/admin/performance"), ("GET", "/api/v1/admin/config"),
          ("POST", "/api/v1/admin/config/reload"), ("PUT", "/api/v1/admin/log-level"),
          ("GET", "/api/v1/admin/circuits"), ("GET", "/api/v1/admin/cache"),
          ("POST", "/api/v1/admin/circuits/openai/reset"), ("DELETE", "/api/v1/admin/cache/response")]
RELOAD = "/api/v1/admin/config/reload"
LEVEL = "/api/v1/admin/log-level"


def write(gw, name, text):
    with open(os.path.join(gw.conf_dir, name), "w", encoding="utf-8") as f:
        f.write(text)


def change(gw, **keys):
    set_yaml(os.path.join(gw.conf_dir, "gateway.yaml"), {k.replace("__", "."): v for k, v in keys.items()})


def keys_of(gw):
    answer = gw.get("/api/v1/admin/config")
    assert answer.status == 200
    return {k["field"]: k for k in answer.json["keys"]}


def audits(gw, action):
    """The acts of that name in the log, which is written at the end of the turn that answered."""
    def lines():
        return [x for x in gw.log_lines() if x.get("message") == "audit" and x.get("action") == action]

    wait_until(lines, action)
    return lines()


@pytest.mark.parametrize("method,path", ROUTES)
def test_strangers_are_refused(gateway, method, path):
    assert gateway.request(method, path, headers={}).status == 401
    assert gateway.request(method, path, headers={"Authorization": "Bearer nonsense"}).status == 401


def test_performance_tells_times_of_each_operation(gateway):
    for _ in range(5):
        assert gateway.get("/api/v1/models").status == 200
    page = gateway.get("/api/v1/admin/performance").json
    row = [o for o in page["operations"] if o["endpoint"] == "/api/v1/models" and o["method"] == "GET"][0]
    assert row["count"] >= 5
    assert 0 < row["avg_ms"] <= row["max_ms"]
    assert 0 < row["p95_ms"] <= row["max_ms"]
    assert all(o["endpoint"].startswith("/") or o["endpoint"] in ("unmatched", "other") for o in page["operations"])


def test_the_slowest_requests_are_listed_slowest_first(gateway):
    answer = gateway.chat(model="openai/gpt-4o-mini~delay_ms=300")
    assert answer.status == 200
    slow = gateway.get("/api/v1/admin/performance").json["slow"]
    mine = [s for s in slow if s["request_id"] == answer.headers["x-request-id"]]
    assert mine and mine[0]["duration_ms"] >= 300 and mine[0]["provider_ms"] >= 290
    assert mine[0]["endpoint"] == "/v1/chat/completions" and mine[0]["status"] == 200
    times = [s["duration_ms"] for s in slow]
    assert times == sorted(times, reverse=True) and len(times) <= 32


def test_the_configuration_tells_each_value_and_where_it_is_from(gateway):
    keys = keys_of(gateway)
    assert keys["port"]["source"] == "environment" and keys["port"]["default"] == "8765"
    assert keys["port"]["reloadable"] is False and keys["log_level"]["reloadable"] is True
    assert keys["legacy_sunset"]["value"] == "2026-01-01"
    assert keys["legacy_sunset"]["source"].startswith("gateway.yaml:")
    assert keys["legacy_sunset"]["key"] == "legacy.sunset"
    assert keys["master_key"]["value"] == "[redacted]" and keys["master_key"]["key"] is None
    assert len(keys) > 80


def test_the_configuration_shows_no_secret(make_gateway):
    gw = make_gateway(env={"JWT_SECRET_KEY": "geheim-0123456789-geheim-0123456789",
                           "POSTERN_PROXY": "http://u:geheim@127.0.0.1:9"})
    text = gw.get("/api/v1/admin/config").text
    assert "geheim" not in text and MASTER_KEY not in text
    assert "sk-" not in text


def test_a_reload_takes_the_new_configuration_and_tells_what_needs_a_restart(make_gateway):
    gw = make_gateway()
    change(gw, limits__body_mb="2", server__backlog="64")
    answer = gw.request("POST", RELOAD, None)
    assert answer.status == 200, answer.body
    assert answer.json["reloaded"] is True and answer.json["generation"] == 2 and answer.json["workers"] == 1
    assert any("backlog" in w and "restart" in w for w in answer.json["warnings"])
    assert keys_of(gw)["body_mb"]["value"] == "2"
    assert gw.get("/api/v1/admin/config").json["generation"] == 2
    assert audits(gw, "config.reload")[-1]["outcome"] == "ok"


def test_a_reload_that_is_refused_names_every_problem_and_keeps_the_old(make_gateway):
    gw = make_gateway()
    change(gw, limits__body_mb="0", log__level="loud")
    write(gw, "rate_limits.yaml", "enabled: perhaps\n")
    answer = gw.post(RELOAD, {})
    assert answer.status == 422, answer.body
    places = [e["param"] for e in answer.json["errors"]]
    assert len(places) >= 3 and any(p.startswith("gateway.yaml:") for p in places)
    assert any(p.startswith("rate_limits.yaml:") for p in places)
    assert "generation 1 stays in force" in answer.json["detail"]
    assert keys_of(gw)["body_mb"]["value"] == "1"
    assert audits(gw, "config.reload")[-1]["outcome"] == "refused"
    gw.write_conf()
    assert gw.post(RELOAD, {}).json["generation"] == 2


def test_reloads_asked_for_at_once_are_all_answered(make_gateway):
    gw = make_gateway()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(gw.post(RELOAD, {}))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [a.status for a in answers] == [200] * 8
    # one reading may answer several, and a signal that comes during it makes another that answers nobody
    read = {a.json["generation"] for a in answers}
    assert 2 <= min(read) and max(read) <= gw.get("/api/v1/admin/config").json["generation"] <= 1 + len(answers)


def test_all_workers_reload(make_gateway):
    gw = make_gateway(env={"API_WORKERS": "3"})
    change(gw, limits__body_mb="3")
    answer = gw.post(RELOAD, {})
    assert answer.status == 200 and answer.json["workers"] == 3
    wait_until(lambda: len([x for x in gw.log_lines() if x.get("message") == "config_reloaded"]) == 3, "three reloads")
    assert {keys_of(gw)["body_mb"]["value"] for _ in range(12)} == {"3"}


def metric(gw, line):
    return sum(float(t[len(line) + 1:]) for t in gw.get("/metrics").text.split("\n") if t.startswith(line + " "))


def test_the_figures_are_those_of_all_workers(make_gateway, postgres):
    gw = make_gateway(pg=postgres, env={"API_WORKERS": "3"},
                      conf={"gateway.yaml": {"ledger.flush_ms": 20}, "cache.yaml": {"response.mode": "all"}})
    # each on a connection of its own
    slow = [gw.chat(model="openai/gpt-4o-mini~delay_ms=200", text="number %d" % i) for i in range(6)]
    asked = slow + [gw.chat(text="one of many") for _ in range(18)]
    assert {a.status for a in asked} == {200}
    found = [a.headers["x-cache"] for a in asked]
    for _ in range(9):  # whichever worker answers
        page = gw.get("/api/v1/admin/cache").json
        cache = page["caches"][0]
        assert page["workers"] == 3 and cache["name"] == "response"
        assert (cache["hits_l1"], cache["misses"]) == (found.count("HIT"), found.count("MISS"))
        assert cache["entries"] == found.count("MISS") == metric(gw, 'cache_entries{cache="response"}')
        page = gw.get("/api/v1/admin/performance").json
        chats = [o for o in page["operations"] if o["endpoint"] == "/v1/chat/completions"]
        assert page["workers"] == 3 and chats[0]["count"] == 24
        assert {a.headers["x-request-id"] for a in slow} <= {s["request_id"] for s in page["slow"]}
    wait_until(lambda: metric(gw, 'ledger_rows_total{outcome="stored"}') == 24, "all rows in Postgres")
    for _ in range(9):
        ledger = gw.get("/api/v1/admin/costs").json["ledger"]
        assert ledger == {"workers": 3, "pending_rows": 0, "stored": 24, "dropped": 0, "rejected": 0,
                          "aside": 0}


def debug_lines(gw):
    return [x for x in gw.log_lines() if x.get("level", "").upper() == "DEBUG"]


def test_the_log_level_changes_until_the_next_reload(make_gateway):
    gw = make_gateway()
    gw.get("/api/v1/health/live")
    assert not debug_lines(gw)
    answer = gw.request("PUT", LEVEL, {"component": "http", "level": "debug"})
    assert answer.status == 200 and answer.json == {"component": "http", "level": "debug"}
    gw.get("/api/v1/health/live")
    wait_until(lambda: debug_lines(gw), "a debug line")
    assert audits(gw, "log.level")[-1]["target"] == "http"
    assert gw.post(RELOAD, {}).status == 200
    gw.alive()  # the log of the turns before is written
    seen = len(debug_lines(gw))
    gw.get("/api/v1/health/live")
    assert gw.request("PUT", LEVEL, {"level": "info"}).json["component"] is None
    assert len(debug_lines(gw)) == seen


def test_the_log_level_reaches_all_workers(make_gateway):
    gw = make_gateway(env={"API_WORKERS": "3"})
    assert gw.request("PUT", LEVEL, {"level": "debug"}).status == 200

    def probes():
        return len([x for x in debug_lines(gw) if x.get("endpoint") == "/api/v1/health/live"])

    def every_probe_is_logged():  # three workers share them
        before = probes()
        for _ in range(20):
            gw.get("/api/v1/health/live")
        return probes() - before >= 20

    wait_until(every_probe_is_logged, "every worker's lines")


def test_log_levels_that_are_none_are_refused(gateway):
    answer = gateway.request("PUT", LEVEL, {"component": "a b", "level": "loud", "x": 1})
    assert answer.status == 422
    assert {e["pointer"] for e in answer.json["errors"]} == {"/component", "/level", "/x"}
    assert gateway.request("PUT", LEVEL, {}).status == 422
    assert gateway.request("PUT", LEVEL, {"component": "x" * 32, "level": "info"}).status == 422
    assert gateway.request("PUT", LEVEL, "level=info", headers={**AUTH, "Content-Type": "text/plain"}).status == 415


def test_every_act_is_in_the_record(gateway):
    gateway.post("/api/v1/admin/circuits/openai/reset", "")
    gateway.request("DELETE", "/api/v1/admin/cache/response")
    reset = audits(gateway, "circuit.reset")[-1]
    assert reset["actor"] == "master" and reset["target"] == "openai" and reset["outcome"] == "ok"
    assert reset["request_id"] and reset["actor_ip"] == "127.0.0.1"
    assert audits(gateway, "cache.clear")[-1]["target"] == "response"


def test_every_act_is_a_row_in_postgres(make_gateway, postgres):
    gw = make_gateway(pg=postgres)
    assert gw.request("PUT", LEVEL, {"component": "pg", "level": "warn"}).status == 200
    assert gw.post(RELOAD, {}).status == 200
    gw.post("/api/v1/admin/circuits/openai/reset", "")
    count = "SELECT count(*) FROM audit_log WHERE actor = 'master'"
    wait_until(lambda: postgres.one(count) == "3", "three rows")
    rows = postgres.psql("SELECT action, target, outcome, detail->>'level', detail->>'generation' FROM audit_log")
    # each row travels on a connection of its own: their order is not ours
    assert sorted(map(str, rows)) == sorted(map(str, [["log.level", "pg", "ok", "warn", None],
                                   ["config.reload", "configuration", "ok", None, "2"],
                                   ["circuit.reset", "openai", "ok", None, None]]))

"""Rate limits that hold across workers and instances: one Lua script in Redis, exact whoever counts;
each process's own buckets while Redis is away (SPEC 4 and 6)."""

import signal
import threading
import time

import pytest
from front import wait_until
from gateway import AUTH, Gateway
from redisd import PATIENT

MODELS = "/api/v1/models"  # of the class `default`
SLOW = {"classes.default.requests_per_minute": 1, "classes.ai.requests_per_minute": 1,
        "classes.auth.requests_per_minute": 1, "classes.upload.requests_per_minute": 1,
        "classes.global.requests_per_minute": 1000000, "classes.global.burst": 1000000}


def limited(redis, burst=50, workers=1, env=None, **rates):
    """A gateway whose buckets do not refill while a test runs: counts are exact."""
    limits = {**SLOW, "classes.default.burst": burst, **{k.replace("__", "."): v for k, v in rates.items()}}
    return Gateway(env={"REDIS_URL": redis.url, "API_WORKERS": str(workers), **(env or {})},
                   conf={"rate_limits.yaml": limits, "storage_config.yaml": PATIENT}, limits=True)


def in_use(gw, workers=1):
    wait_until(lambda: gw.metrics()["redis_up"] == workers, "Redis to be in use")


def ask_many(gateways, n, headers=AUTH, path=MODELS):
    """n requests over many connections to all gateways at once; how many of each status."""
    counts, lock = {}, threading.Lock()

    def ask(i):
        status = gateways[i % len(gateways)].get(path, headers=headers).status
        with lock:
            counts[status] = counts.get(status, 0) + 1

    threads = [threading.Thread(target=lambda s=s: [ask(i) for i in range(s, n, 16)]) for s in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return counts


def test_two_gateways_of_four_workers_let_exactly_the_burst_through(redis):
    with limited(redis, 50, workers=4) as blue, limited(redis, 50, workers=4) as green:
        in_use(blue, 4)
        in_use(green, 4)
        assert ask_many([blue, green], 300) == {200: 50, 429: 250}
        assert redis.keys("rl:*") == ["rl:default:{master}"]
        assert blue.metrics()["rate_limiter_local"] == 0
        assert blue.get("/api/v1/health").json["rate_limiter"] == "redis"


def test_headers_come_from_the_bucket_that_decides(redis):
    with limited(redis, 7) as blue, limited(redis, 7) as green:
        in_use(blue)
        in_use(green)
        left = [gw.get(MODELS).headers["x-ratelimit-remaining"] for gw in [blue, green, blue, green]]
        assert left == ["6", "5", "4", "3"]
        for _ in range(3):
            answer = blue.get(MODELS)
        assert answer.headers["ratelimit"].startswith('"default";r=0;t=')
        assert answer.headers["ratelimit-policy"] == '"default";q=1;w=60'
        refused = green.get(MODELS)
        assert refused.status == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-ratelimit-remaining"] == "0"


SECRET = "a-secret-of-the-tests-0123456789-abcdefgh"


@pytest.fixture
def team_of_three(redis, postgres):
    """Two gateways of two workers, a team that may ask three times a minute, and two keys and a token of
    its members."""
    env = {"DATABASE_URL": postgres.url, "JWT_SECRET_KEY": SECRET}
    with limited(redis, 1000, 2, env, classes__auth__burst=100) as blue, \
            limited(redis, 1000, 2, env, classes__auth__burst=100) as green:
        in_use(blue, 2)
        in_use(green, 2)
        team = blue.post("/api/v1/admin/teams", {"name": "red", "requests_per_minute": 3}).json
        assert team["requests_per_minute"] == 3
        who = []
        for name in ("anna", "bob"):
            assert blue.post("/api/v1/users", {"user_id": name, "password": "correct horse battery",
                                               "team": "red"}).status == 201
            key = blue.post("/api/v1/auth/api-keys", {"name": "k", "owner": name}).json["key"]
            who.append({"Authorization": "Bearer " + key})
        token = blue.post("/api/v1/auth/token", {"user_id": "bob", "password": "correct horse battery"}, headers={})
        who.append({"Authorization": "Bearer " + token.json["access_token"]})
        yield [blue, green], team["id"], who


def test_keys_and_tokens_of_a_team_share_its_requests_a_minute(redis, team_of_three):
    gateways, team, who = team_of_three
    begun = time.monotonic()
    counts = {}
    for headers in who:
        for status, n in ask_many(gateways, 32, headers).items():
            counts[status] = counts.get(status, 0) + n
    took = time.monotonic() - begun
    assert set(counts) == {200, 429} and sum(counts.values()) == 96
    assert 3 <= counts[200] <= 3 + took // 20  # one comes back in twenty seconds
    refused = gateways[0].get(MODELS, headers=who[1])
    while refused.status == 200:
        refused = gateways[0].get(MODELS, headers=who[1])
    assert refused.status == 429 and 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.headers["ratelimit-policy"] == '"team";q=3;w=60'
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("3", "0")
    assert gateways[0].get(MODELS).status == 200  # the master key is of no team
    keys = [k for k in redis.keys("rl:*") if team in k]
    assert "rl:team:{%s}" % team in keys and len(keys) > 1
    assert all(k.split(":", 2)[2].startswith("{%s}" % team) for k in keys)  # of one script: they share a slot


def test_a_teams_limit_changes_while_it_is_used(redis, team_of_three):
    gateways, team, who = team_of_three
    path = "/api/v1/admin/teams/" + team
    assert 429 in ask_many(gateways, 16, who[0])
    assert gateways[1].request("PUT", path, {"name": "red"}).status == 200
    for gw in gateways:
        wait_until(lambda: ask_many([gw], 16, who[0]) == {200: 16}, "the team to be without a limit")
    assert gateways[1].request("PUT", path, {"name": "red", "requests_per_minute": 2}).status == 200
    for gw in gateways:
        wait_until(lambda: gw.get(MODELS, headers=who[1]).headers["ratelimit-policy"] == '"team";q=2;w=60',
                   "the team to have a limit again")


def test_tokens_come_back_on_the_servers_clock(redis):
    with limited(redis, 2, **{"classes__default__requests_per_minute": 600}) as gw:
        in_use(gw)
        assert ask_many([gw], 2) == {200: 2}
        wait_until(lambda: gw.get(MODELS).status == 200, "a token to come back")


def test_a_listed_route_has_a_limit_of_its_own(redis):
    with limited(redis, 3, endpoints='["GET /api/v1/models=1/5"]') as gw:
        in_use(gw)
        assert ask_many([gw], 20) == {200: 5, 429: 15}
        answer = gw.get(MODELS)
        assert answer.headers["ratelimit-policy"] == '"GET /api/v1/models";q=1;w=60'
        assert ask_many([gw], 20, path="/v1/models") == {200: 3, 429: 17}
        assert redis.keys("rl:*") == ["rl:GET /api/v1/models:{master}", "rl:default:{master}"]


def test_a_list_that_changes_with_sighup_counts_from_the_next_request(redis):
    with limited(redis, 3, endpoints='["GET /api/v1/models=1/2"]') as gw:
        in_use(gw)
        assert ask_many([gw], 9) == {200: 2, 429: 7}
        gw.conf["rate_limits.yaml"]["endpoints"] = '["GET /api/v1/models=1/6"]'
        gw.write_conf()
        gw.process.send_signal(signal.SIGHUP)
        wait_until(lambda: gw.get("/api/v1/health").json["config_generation"] == 2, "the new configuration")
        assert ask_many([gw], 9) == {200: 4, 429: 5}
        gw.conf["rate_limits.yaml"]["endpoints"] = '["GET /api/v1/models=6"]'
        gw.write_conf()
        gw.process.send_signal(signal.SIGHUP)
        wait_until(lambda: gw.metrics().get('config_reloads_total{outcome="refused"}') == 1, "the refusal")
        assert gw.get("/v1/models").status == 200


def test_wrong_and_unknown_routes_in_the_list_are_told(redis):
    gw = limited(redis, 3, endpoints='["GET /api/v1/models", "TRACE /x=1/1", "GET /y=1/1", "GET /y=2/2"]')
    with pytest.raises(RuntimeError) as wrong:
        gw.start()
    text = str(wrong.value)
    assert '"GET /api/v1/models" is not' in text and '"TRACE /x=1/1" is not' in text
    assert "limit the same route" in text
    assert "warning: endpoints: there is no route GET /y" in text


def test_check_040_a_forwarded_address_from_a_stranger_does_not_change_the_key(redis):
    with limited(redis, 4, env={"TRUSTED_PROXIES": ""}) as gw:
        in_use(gw)
        statuses = [gw.get(MODELS, headers={"X-Forwarded-For": "198.51.100.%d" % i}).status
                    for i in range(10)]
        assert statuses.count(429) == 6
        assert redis.keys("rl:*") == ["rl:default:{ip:127.0.0.1}"]
    redis.flush()
    with limited(redis, 4, env={"TRUSTED_PROXIES": "127.0.0.1"}) as gw:
        in_use(gw)
        gw.get(MODELS, headers={"X-Forwarded-For": "198.51.100.7"})
        gw.get(MODELS, headers={"X-Forwarded-For": "2001:db8:1:2:3::4"})
        assert redis.keys("rl:*") == ["rl:default:{ip:198.51.100.7}", "rl:default:{ip:2001:db8:1:2::}"]


def test_check_078_flushall_in_mid_load_only_starts_the_limits_over(redis):
    with limited(redis, 40, workers=2) as gw:
        in_use(gw, 2)
        stop, counts = threading.Event(), []

        def load():
            while not stop.is_set():
                counts.append(gw.get(MODELS).status)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for t in threads:
            t.start()
        try:
            for i in range(1, 5):
                wait_until(lambda: counts.count(200) >= 40 * i and counts[-1] == 429, "the burst to be used up")
                if i < 4:
                    redis.flush()
        finally:
            stop.set()
            for t in threads:
                t.join()
        assert set(counts) == {200, 429}
        assert counts.count(200) == 160


@pytest.mark.parametrize("spoil", [("RPUSH", "x", "y"), ("SET", "not a number"), ("SET", "nan"), ("SET", "-inf"),
                                   ("HSET", "a", "b"), ("SET", ""), ("SET", "\xff\x00")])
def test_check_081_what_is_no_bucket_under_our_key_is_a_full_one(redis, spoil):
    key = "rl:default:{master}"
    with limited(redis, 5) as gw:
        in_use(gw)
        redis.call(spoil[0], key, *spoil[1:])
        assert ask_many([gw], 20) == {200: 5, 429: 15}
        assert redis.call("TYPE", key) == "string"


def test_check_081_a_bucket_that_is_full_in_a_thousand_years_is_an_empty_one(redis):
    with limited(redis, 5, **{"classes__default__requests_per_minute": 600}) as gw:
        in_use(gw)
        redis.call("SET", "rl:default:{master}", "9e15")
        refused = gw.get(MODELS)
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
        wait_until(lambda: gw.get(MODELS).status == 200, "a token to come back")


def test_while_redis_is_away_each_process_counts_for_itself(make_redis):
    redis = make_redis()
    with limited(redis, 10) as blue, limited(redis, 10) as green:
        in_use(blue)
        in_use(green)
        assert ask_many([blue, green], 4) == {200: 4}
        redis.kill()
        wait_until(lambda: blue.metrics()["rate_limiter_local"] == 1, "the local limits")
        wait_until(lambda: green.metrics()["rate_limiter_local"] == 1, "the local limits")
        assert ask_many([blue], 30) == {200: 10, 429: 20}
        assert ask_many([green], 30) == {200: 10, 429: 20}
        health = blue.get("/api/v1/health")
        assert health.status == 200
        assert health.json["rate_limiter"] == "local"
        redis.start()
        in_use(blue)
        in_use(green)
        assert ask_many([blue, green], 30) == {200: 10, 429: 20}
        assert blue.metrics()["rate_limiter_local"] == 0


def test_a_client_that_leaves_while_redis_is_asked_leaves_nothing_behind(make_redis):
    redis = make_redis()
    with limited(redis, 1000) as gw:
        in_use(gw)
        redis.freeze()
        socks = [gw.connect() for _ in range(20)]
        for s in socks:
            s.sendall(b"GET /api/v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: gw.metrics()["http_requests_in_progress"] > 10, "the requests to be parked")
        for s in socks:
            s.close()
        wait_until(lambda: gw.metrics()["http_requests_in_progress"] <= 1, "them to be gone")
        redis.thaw()
        assert gw.get(MODELS).status == 200
        gw.alive()


def test_a_body_sent_while_redis_is_asked_is_read_whole(redis, standin):
    with limited(redis, 1000, env=standin.env(), classes__ai__burst=1000) as gw:
        in_use(gw)
        text = "x" * 300000
        assert gw.chat(text=text).status == 200
        assert standin.calls()[-1]["body"]["messages"][0]["content"] == text
        assert redis.keys("rl:*") == ["rl:ai:{master}"]

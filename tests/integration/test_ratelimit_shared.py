"""Rate limits that hold across workers and instances: one Lua script in Redis, exact whoever counts;
each process's own buckets while Redis is away (SPEC 4 and 6)."""

import threading

import pytest
from gateway import MASTER_KEY, Gateway

MODELS = "/api/v1/models"  # of the class `default`
SLOW = {"classes.default.requests_per_minute": 1, "classes.ai.requests_per_minute": 1,
        "classes.auth.requests_per_minute": 1, "classes.upload.requests_per_minute": 1,
        "classes.global.requests_per_minute": 1000000, "classes.global.burst": 1000000}
PATIENT = {"storage_config.yaml": {"redis.timeout_ms": 5000, "redis.connect_timeout_ms": 5000}}


def limited(redis, burst=50, workers=1, env=None, **rates):
    """A gateway whose buckets do not refill while a test runs: counts are exact."""
    limits = {**SLOW, "classes.default.burst": burst, **{k.replace("__", "."): v for k, v in rates.items()}}
    return Gateway(env={"REDIS_URL": redis.url, "API_WORKERS": str(workers), **(env or {})},
                   conf={"rate_limits.yaml": limits, **PATIENT}, limits=True)


def in_use(gw, workers=1):
    gw.wait_for(lambda: gw.metric("redis_up") == workers)


def ask_many(gateways, n, headers=None, path=MODELS):
    """n requests from many connections to all gateways at once; how many of each status."""
    counts, lock = {}, threading.Lock()

    def ask(i):
        status = gateways[i % len(gateways)].get(path, headers=headers or {}).status
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
        assert blue.metric("rate_limiter_local") == 0
        assert blue.get("/api/v1/health").json["rate_limiter"] == "redis"

"""CHECKS 74-81: Redis down at start, killed, frozen, full, read-only, talking rubbish, and what an
operator deletes. Nothing of it may cost a request more than one missed deadline, once."""

import socket
import threading
import time

import pytest
from front import wait_until
from gateway import Gateway
from load import Load
from redisd import PATIENT
from tcp_proxy import TcpProxy

MODELS = "/api/v1/models"
PROBE = {"circuit_breaker.yaml": {"failure_threshold": 2, "recovery_timeout_s": 300},
         "gateway.yaml": {"retry.attempts": 1}}


# so slow to refill that buckets stay in Redis, and too deep to be emptied
LASTING = {"rate_limits.yaml": {"classes.%s.%s" % (c, k): v for c in ("default", "ai")
                                for k, v in (("requests_per_minute", 60), ("burst", 1000000))},
           "storage_config.yaml": PATIENT}


class Url:
    """Something with a .url, for make_gateway."""

    def __init__(self, port, path="/0", secret=""):
        self.url = "redis://%s127.0.0.1:%d%s" % (secret, port, path)


def in_use(gw, workers=1):
    wait_until(lambda: gw.metrics()["redis_up"] == workers, "Redis to be in use")


def away(gw):
    wait_until(lambda: gw.metrics()["redis_up"] == 0, "Redis to be given up")


def outcomes(gw):
    return {k.split('"')[1]: v for k, v in gw.metrics().items() if k.startswith("redis_commands_total{")}


def asking(gw, threads=8):
    return Load(lambda: gw.get(MODELS).status, threads)


# --- there or not ---------------------------------------------------------------------------------

def test_check_074_down_at_start_it_serves_and_uses_redis_once_it_is_there(make_gateway, make_redis):
    redis = make_redis()
    redis.kill()
    gw = make_gateway(redis=redis, conf=LASTING)
    health = gw.get("/api/v1/health")
    assert health.status == 200
    assert health.json["status"] == "degraded"
    assert health.json["checks"]["redis"] == "degraded"
    assert health.json["rate_limiter"] == "local"
    assert gw.get("/api/v1/health/ready").status == 200
    assert gw.chat().status == 200
    redis.start()
    in_use(gw)
    assert gw.get("/api/v1/health").json["checks"]["redis"] == "healthy"
    assert gw.chat().status == 200
    assert redis.keys("rl:*") == ["rl:ai:{master}"]


def test_check_075_killed_in_mid_load_it_fails_no_request(make_gateway, make_redis):
    redis = make_redis()
    gw = make_gateway(redis=redis, env={"API_WORKERS": "2"}, conf={"storage_config.yaml": PATIENT})
    in_use(gw, 2)
    with asking(gw) as load:
        for _ in range(3):
            load.more(200)
            redis.kill()
            away(gw)
            load.more(200)
            redis.start()
            in_use(gw, 2)
        load.more(200)
    assert set(load.seen) == {200}
    done = outcomes(gw)
    assert done["ok"] > 200 and done["timeout"] == 0
    gw.alive()


def test_check_075_no_more_than_one_attempt_a_second(make_gateway):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        times, stop = [], threading.Event()

        def refuse():
            listener.settimeout(0.2)
            while not stop.is_set():
                try:
                    conn, _ = listener.accept()
                except TimeoutError:
                    continue
                times.append(time.monotonic())
                conn.close()

        thread = threading.Thread(target=refuse)
        thread.start()
        make_gateway(redis=Url(listener.getsockname()[1]))
        wait_until(lambda: len(times) >= 5, "five attempts")
        stop.set()
        thread.join()
    # accept() is seen late at times, never early: the sum is what counts
    assert times[4] - times[0] >= 3.5


def test_names_and_sockets_are_reached_too(make_gateway, make_redis):
    redis = make_redis(requirepass="se:c/r@t")
    for url in ("redis://:se%%3Ac%%2Fr%%40t@localhost:%d/3" % redis.port,
                "redis://default:se%%3Ac%%2Fr%%40t@127.0.0.1:%d" % redis.port,
                "unix://:se%%3Ac%%2Fr%%40t@%s?db=2" % redis.socket_path):
        gw = make_gateway(env={"REDIS_URL": url}, conf=LASTING)
        in_use(gw)
        assert gw.get(MODELS).status == 200
        assert "se:c/r@t" not in gw.log() and "%3A" not in gw.log()
    where = [line.split(":")[0] for line in redis.call("INFO", "keyspace").split("\r\n")[1:] if line]
    assert where == ["db0", "db2", "db3"]


# --- frozen ---------------------------------------------------------------------------------------

def test_check_076_a_frozen_redis_costs_one_deadline_once(make_gateway, make_redis):
    redis = make_redis()
    gw = make_gateway(redis=redis)
    in_use(gw)
    with asking(gw, 8) as load:
        load.more(200)
        before = outcomes(gw)
        redis.freeze()
        load.more(3000)
        away(gw)
        load.more(500)
        after = outcomes(gw)
        redis.thaw()
        in_use(gw)
        load.more(500)
    assert set(load.seen) == {200}
    # Waited in vain: what was in flight at the one moment, at most one request of each connection, and
    # the circuits' looks. Nobody came after them: everything else took its fallback without asking.
    assert after["timeout"] - before["timeout"] <= 8 + 7
    assert after["lost"] == before["lost"]


def test_check_076_late_answers_reach_nobody(make_gateway, make_redis):
    redis = make_redis()
    gw = make_gateway(redis=redis, limits=True, conf={
        "rate_limits.yaml": {"classes.default.requests_per_minute": 1, "classes.default.burst": 1000},
        "storage_config.yaml": {"redis.timeout_ms": 500}})
    in_use(gw)
    for _ in range(3):
        left = [int(gw.get(MODELS).headers["x-ratelimit-remaining"]) for _ in range(5)]
        assert left == list(range(left[0], left[0] - 5, -1))
        redis.freeze()
        assert gw.get(MODELS).status == 200  # asks, and does not get its answer
        away(gw)
        redis.thaw()
        in_use(gw)


def test_check_076_a_redis_slower_than_the_deadline_is_not_used(make_gateway, make_redis):
    redis = make_redis()
    with TcpProxy(redis.port) as proxy:
        gw = make_gateway(redis=Url(proxy.port))
        in_use(gw)
        proxy.delay(0.2)
        away(gw)
        accepted = proxy.accepted
        wait_until(lambda: proxy.accepted >= accepted + 2, "two more attempts")
        assert gw.metrics()["redis_up"] == 0
        proxy.heal()
        in_use(gw)


def test_check_076_commands_in_flight_are_capped(make_gateway, make_redis):
    redis = make_redis()
    gw = make_gateway(redis=redis, conf={"storage_config.yaml": {**PATIENT, "redis.max_in_flight": 6}})
    in_use(gw)
    redis.freeze()
    with asking(gw, 16) as load:
        wait_until(lambda: outcomes(gw)["refused"] > 20, "commands beyond the cap")
        load.more(50)  # served all the same, without waiting for the five seconds
        redis.thaw()
        load.more(50)
    assert set(load.seen) == {200}


# --- error replies --------------------------------------------------------------------------------

def test_check_077_a_loading_redis_is_waited_for(make_gateway, make_redis):
    redis = make_redis()
    with TcpProxy(redis.port) as proxy:
        proxy.answer(b"-LOADING Redis is loading the dataset in memory\r\n")
        gw = make_gateway(redis=Url(proxy.port))
        wait_until(lambda: proxy.accepted >= 2, "two attempts")
        assert gw.get(MODELS).status == 200
        assert gw.get("/api/v1/health").json["status"] == "degraded"
        proxy.heal()
        in_use(gw)


def test_check_077_out_of_memory_means_local_limits(make_gateway, make_redis):
    redis = make_redis()
    gw = make_gateway(redis=redis, conf={"storage_config.yaml": PATIENT})
    in_use(gw)
    redis.call("CONFIG", "SET", "maxmemory", "1")
    with asking(gw) as load:
        load.more(100)
    assert set(load.seen) == {200}
    assert gw.get("/api/v1/health").json["rate_limiter"] == "local"
    assert gw.metrics()["rate_limiter_local"] == 1
    assert outcomes(gw)["not_now"] > 0
    redis.call("CONFIG", "SET", "maxmemory", "0")
    gw.get(MODELS)
    assert gw.get("/api/v1/health").json["rate_limiter"] == "redis"


def test_check_077_a_read_only_replica_is_left(make_gateway, make_redis):
    redis = make_redis()
    gw = make_gateway(redis=redis, conf={"storage_config.yaml": PATIENT})
    in_use(gw)
    redis.call("REPLICAOF", "127.0.0.1", "1")
    with asking(gw) as load:
        load.more(300)
    assert set(load.seen) == {200}
    redis.call("REPLICAOF", "NO", "ONE")
    in_use(gw)
    wait_until(lambda: gw.get(MODELS).status == 200
               and gw.get("/api/v1/health").json["rate_limiter"] == "redis", "Redis to count again")


def test_check_077_a_password_that_changes(make_gateway, make_redis):
    redis = make_redis()
    gw = make_gateway(redis=Url(redis.port, secret=":right@"))
    assert gw.get(MODELS).status == 200
    assert gw.metrics()["redis_up"] == 0
    redis.call("CONFIG", "SET", "requirepass", "right")
    in_use(gw)
    assert "right" not in gw.log()


def test_check_077_a_script_that_hangs_makes_redis_busy(make_gateway, make_redis):
    redis = make_redis(**{"busy-reply-threshold": 50})
    gw = make_gateway(redis=redis, conf={"storage_config.yaml": PATIENT})
    in_use(gw)
    hung = threading.Thread(target=lambda: pytest.raises(Exception, redis.call, "EVAL", "while true do end", 0))
    hung.start()
    with asking(gw) as load:
        wait_until(lambda: outcomes(gw)["not_now"] > 3, "-BUSY")
        load.more(100)
        redis.call("SCRIPT", "KILL")
        hung.join()
        load.more(100)
    assert set(load.seen) == {200}
    assert gw.metrics()["redis_up"] == 1


def test_check_077_forgotten_scripts_are_loaded_again(make_gateway, make_redis):
    redis = make_redis()
    gw = make_gateway(redis=redis, conf={"storage_config.yaml": PATIENT})
    in_use(gw)
    with asking(gw) as load:
        for _ in range(10):
            load.more(20)
            redis.call("SCRIPT", "FLUSH")
        load.more(20)
    assert set(load.seen) == {200}
    assert outcomes(gw)["not_now"] == 0
    assert gw.metrics()["rate_limiter_local"] == 0


# --- what is no Redis -----------------------------------------------------------------------------

@pytest.mark.parametrize("text", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$1099511627776\r\nabc", b"*2147483647\r\n",
                                  b"$-2\r\n", b"\x00\x01\x02\x03" * 100, b"*1\r\n" * 50, b"+PONG\r\n+PONG\r\n",
                                  b":1\r\n" * 20, b"$5\r\nhel"],
                         ids=["http", "huge-bulk", "huge-list", "bad-length", "binary", "deep", "surplus",
                              "flood", "half"])
def test_check_079_what_is_no_answer_costs_the_connection_alone(make_gateway, make_redis, text):
    redis = make_redis()
    with TcpProxy(redis.port) as proxy:
        gw = make_gateway(redis=Url(proxy.port))
        in_use(gw)
        accepted, pid = proxy.accepted, gw.process.pid
        with asking(gw, 4) as load:
            load.more(20)
            proxy.answer(text)
            wait_until(lambda: proxy.accepted > accepted, "another connection")
            load.more(50)
            proxy.heal()
            in_use(gw)
            load.more(50)
        assert set(load.seen) == {200}
        assert gw.process.pid == pid
        gw.alive()


def test_check_079_every_piece_garbled(make_gateway, make_redis):
    redis = make_redis()
    with TcpProxy(redis.port) as proxy:
        gw = make_gateway(redis=Url(proxy.port))
        in_use(gw)
        proxy.garble(lambda data: data[::-1])
        with asking(gw, 4) as load:
            load.more(100)
        away(gw)
        proxy.heal()
        in_use(gw)
        assert set(load.seen) == {200}


# --- circuits -------------------------------------------------------------------------------------

def state(gw, name="openai"):
    return next(c["state"] for c in gw.get("/api/v1/admin/circuits").json["circuits"] if c["name"] == name)


def break_circuit(gw, standin):
    standin.control({"status": 503}, match={"dialect": "openai"}, repeat=1000)
    for _ in range(2):
        gw.chat()
    assert state(gw) == "open"


def eventually(gw, wanted):
    wait_until(lambda: state(gw) == wanted, "a circuit that is " + wanted)


@pytest.fixture
def pair(make_gateway, make_redis):
    redis = make_redis()
    gws = [make_gateway(redis=redis, conf=PROBE) for _ in range(2)]
    for gw in gws:
        in_use(gw)
    return redis, gws


def test_check_080_deleting_the_key_closes_the_circuit_everywhere(pair, standin):
    redis, (blue, green) = pair
    break_circuit(blue, standin)
    eventually(green, "open")
    assert redis.cli("KEYS", "circuit:*") == "circuit:openai"
    assert redis.call("HGET", "circuit:openai", "state") == "open"
    assert 2_900_000 < redis.call("PTTL", "circuit:openai") <= 3_000_001
    calls = len(standin.calls())
    answer = green.chat()
    assert answer.status == 503 and answer.json["error"]["code"] == "circuit-open"
    assert len(standin.calls()) == calls
    standin.reset()
    redis.cli("DEL", "circuit:openai")
    eventually(blue, "closed")
    eventually(green, "closed")
    assert blue.chat().status == 200 and green.chat().status == 200


def test_check_080_a_reset_by_the_admin_route_is_one_for_all(pair, standin):
    redis, (blue, green) = pair
    break_circuit(blue, standin)
    eventually(green, "open")
    assert green.post("/api/v1/admin/circuits/openai/reset", "").status == 200
    eventually(blue, "closed")
    assert redis.keys("circuit:*") == []


def test_check_080_wrong_values_are_ignored_and_written_over(pair, standin):
    redis, (blue, green) = pair
    redis.call("RPUSH", "circuit:openai", "open")
    redis.call("HSET", "circuit:anthropic", "state", "open", "opened_at", "yesterday")
    redis.call("HSET", "circuit:google", "state", "ajar", "opened_at", str(int(time.time() * 1e6)))
    redis.call("SET", "circuit:groq", "open")
    redis.call("HSET", "circuit:ollama", "state", "open", "opened_at", "9" * 16)
    asked = outcomes(blue)["ok"]
    wait_until(lambda: outcomes(blue)["ok"] > asked + 15, "three rounds")
    assert {c["state"] for gw in (blue, green) for c in gw.get("/api/v1/admin/circuits").json["circuits"]} == {"closed"}
    break_circuit(blue, standin)
    eventually(green, "open")
    assert redis.call("TYPE", "circuit:openai") == "hash"


def test_check_080_a_circuit_that_opened_while_redis_was_away_is_told_afterwards(pair, standin):
    redis, (blue, green) = pair
    redis.kill()
    away(blue)
    away(green)
    break_circuit(blue, standin)
    assert state(green) == "closed"
    redis.start()
    eventually(green, "open")
    assert state(blue) == "open"
    assert redis.keys("circuit:*") == ["circuit:openai"]


def test_a_redis_that_comes_back_empty_closes_nothing(pair, standin):
    redis, (blue, green) = pair
    break_circuit(blue, standin)
    eventually(green, "open")
    redis.kill()
    away(blue)
    away(green)
    redis.start()
    wait_until(lambda: redis.keys("circuit:*") == ["circuit:openai"], "the key to be written again")
    assert state(blue) == state(green) == "open"


def test_check_080_database_0_is_meant_wherever_the_url_points(make_gateway, make_redis, standin):
    redis = make_redis()
    gw = make_gateway(redis=Url(redis.port, "/5"), conf={**PROBE, **LASTING})
    in_use(gw)
    break_circuit(gw, standin)
    wait_until(lambda: redis.keys("circuit:*") == ["circuit:openai"], "the key in database 0")
    redis.cli("DEL", "circuit:openai")
    eventually(gw, "closed")
    assert gw.get(MODELS).status == 200
    assert redis.keys("rl:*") == []  # those stay where the URL says


def test_check_078_flushall_in_mid_load_fails_nothing(make_gateway, make_redis):
    redis = make_redis()
    gw = make_gateway(redis=redis, env={"API_WORKERS": "2"}, conf=LASTING)
    in_use(gw, 2)
    with asking(gw) as load:
        for _ in range(20):
            load.more(20)
            redis.flush()
        load.more(20)
    assert set(load.seen) == {200}
    assert redis.keys("rl:*") == ["rl:default:{master}"]


def test_check_081_wrong_types_under_all_our_keys(make_gateway, make_redis):
    redis = make_redis()
    gw = make_gateway(redis=redis, conf=LASTING)
    in_use(gw)
    spoil = "redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'x')"
    with asking(gw, 4) as load:
        for _ in range(10):
            load.more(10)
            assert "rl:default:{master}" in redis.keys("*")
            for key in redis.keys("*"):
                redis.call("EVAL", spoil, 1, key)
        load.more(20)
    assert set(load.seen) == {200}
    assert redis.call("TYPE", "rl:default:{master}") == "string"


# --- configuration --------------------------------------------------------------------------------

@pytest.mark.parametrize("url,why", [("rediss://:hidden@h", "TLS"), ("redis://hidden@h", "needs a password"),
                                     ("redis://:hidden@h/x", "no number"), ("http://:hidden@h", "must begin with")])
def test_a_wrong_redis_url_is_refused_without_showing_its_password(url, why):
    gw = Gateway(env={"REDIS_URL": url})
    with pytest.raises(RuntimeError) as wrong:
        gw.start()
    assert "ended with 78" in str(wrong.value)
    assert "REDIS_URL: " in str(wrong.value) and why in str(wrong.value)
    assert "hidden" not in str(wrong.value)

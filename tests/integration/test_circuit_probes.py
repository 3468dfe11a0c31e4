"""One probe for all processes: CHECK 67 with several gateways on one Redis, and each on its own without."""

import select
import threading

import pytest
from front import wait_until

import meter as metering
from gateway import MASTER_KEY

N = 3
CONF = {"circuit_breaker.yaml": {"failure_threshold": 2, "recovery_timeout_s": 2},
        "gateway.yaml": {"retry.attempts": 1},
        "storage_config.yaml": {"redis.timeout_ms": 5000, "redis.connect_timeout_ms": 5000}}
KEY = "circuit:openai"


@pytest.fixture
def meter():
    with metering.Meter() as m:
        yield m


@pytest.fixture
def redis(make_redis):
    return make_redis()


@pytest.fixture
def gateways(make_gateway, meter, redis, request):
    conf = {**CONF, "circuit_breaker.yaml": {**CONF["circuit_breaker.yaml"], **getattr(request, "param", {})}}
    gws = [make_gateway(env=meter.env(), models=metering.MODELS, with_standin=False, redis=redis, conf=conf)
           for _ in range(N)]
    for gw in gws:
        wait_until(lambda: gw.metrics()["redis_up"] == 1, "Redis to be in use")
    return gws


def state(gw):
    return next(c["state"] for c in gw.get("/api/v1/admin/circuits").json["circuits"] if c["name"] == "openai")


def break_all(gateways, meter):
    """Opens the circuit everywhere; calls are held from then on."""
    meter.failures = [503, 503]
    for _ in range(2):
        assert gateways[0].chat("openai/metered").status == 502
    for gw in gateways:
        wait_until(lambda: state(gw) == "open", "the circuit to be open everywhere")
    assert meter.taken == 2
    meter.hold()


class Askers:
    """Three clients for each gateway that ask without pause; how often each gateway has refused."""

    def __init__(self, gateways):
        self.stopping, self.refused, self.answers = threading.Event(), [0] * len(gateways), []
        self.threads = [threading.Thread(target=self.run, args=(i, gw)) for i, gw in enumerate(gateways * 3)]

    def run(self, i, gw):
        i %= len(self.refused)
        while not self.stopping.is_set():
            a = gw.chat("openai/metered")
            if a.status == 503 and a.json["error"]["code"] == "circuit-open":
                self.refused[i] += 1
            else:
                self.answers.append(a.status)

    def refusals(self, n):
        """Waits until each gateway has refused n more."""
        wanted = [r + n for r in self.refused]
        wait_until(lambda: all(r >= w for r, w in zip(self.refused, wanted)), "more refusals")

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.stopping.set()
        for t in self.threads:
            t.join()


def probes(redis):
    return [f for f in redis.call("HKEYS", KEY) if f.startswith("probe:")]


@pytest.mark.parametrize("gateways,most", [({}, 1), ({"half_open_max_calls": 2}, 2)], indirect=["gateways"])
def test_check_067_all_processes_together_send_no_more_probes_than_there_may_be(gateways, most, meter, redis):
    break_all(gateways, meter)
    with Askers(gateways) as askers:
        wait_until(lambda: meter.taken == 2 + most, "the probes")
        askers.refusals(30)
        assert meter.taken == 2 + most and len(probes(redis)) == most
        assert redis.call("HGET", KEY, "state") == "half_open"
        meter.release()
        for gw in gateways:
            wait_until(lambda: state(gw) == "closed", "the circuit to be closed everywhere")
    assert askers.answers.count(200) == len(askers.answers) >= most
    assert redis.keys("circuit:*") == []


def test_check_067_a_failed_probe_is_every_processes(gateways, meter, redis):
    break_all(gateways, meter)
    meter.failures = [503]
    before = int(redis.call("HGET", KEY, "opened_at"))
    with Askers(gateways) as askers:
        wait_until(lambda: int(redis.call("HGET", KEY, "opened_at")) > before, "another opening")
        wait_until(lambda: probes(redis) == [] or meter.taken == 4, "the probe to be over")  # or the next one begun
        wait_until(lambda: meter.taken == 4, "the next probe")
        askers.refusals(10)
        assert meter.taken == 4 and askers.answers == [502]
        meter.release()
        wait_until(lambda: 200 in askers.answers, "its answer")


def test_a_probe_whose_client_has_left_is_given_back_to_all(gateways, meter, redis):
    break_all(gateways, meter)
    body = b'{"model": "openai/metered", "messages": [{"role": "user", "content": "hello"}]}'

    def send(gw):
        s = gw.connect()
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: "
                  b"application/json\r\nContent-Length: %d\r\n\r\n%s"
                  % (MASTER_KEY.encode(), len(body), body))
        return s

    s = None
    while not probes(redis):
        s = send(gateways[0])
        wait_until(lambda: probes(redis) or select.select([s], [], [], 0)[0], "an answer, or the probe")
    wait_until(lambda: meter.taken == 3, "the probe")
    assert gateways[1].chat("openai/metered").status == 503 and meter.taken == 3
    s.close()
    wait_until(lambda: not probes(redis), "the probe to be given back")
    meter.release()
    wait_until(lambda: gateways[1].chat("openai/metered").status == 200, "another's probe")
    for gw in gateways:
        wait_until(lambda: state(gw) == "closed", "the circuit to be closed everywhere")


def test_the_probe_of_a_process_that_was_killed_ends(gateways, meter, redis):
    break_all(gateways, meter)
    t = threading.Thread(target=lambda: ask_until_taken(gateways[0], meter, 3))
    t.start()
    wait_until(lambda: meter.taken == 3, "the probe")
    gateways[0].kill()
    gateways[0].process = None
    t.join()
    meter.release()
    assert gateways[1].chat("openai/metered").status == 503
    (field,) = probes(redis)
    now_ms = int(redis.call("TIME")[0]) * 1000
    assert now_ms < int(redis.call("HGET", KEY, field)) <= now_ms + 57000
    redis.call("HSET", KEY, field, now_ms - 1000)  # a minute later
    wait_until(lambda: gateways[1].chat("openai/metered").status == 200, "another's probe")
    wait_until(lambda: state(gateways[2]) == "closed", "the circuit to be closed")


def ask_until_taken(gw, meter, n):
    try:
        while meter.taken < n:
            gw.chat("openai/metered")
    except OSError:
        pass  # it was killed


def test_check_080_deleting_the_key_closes_a_half_open_circuit_everywhere(gateways, meter, redis):
    break_all(gateways, meter)
    t = threading.Thread(target=lambda: ask_until_taken(gateways[0], meter, 3))
    t.start()
    wait_until(lambda: meter.taken == 3, "the probe")
    redis.call("DEL", KEY)
    for gw in gateways:
        wait_until(lambda: state(gw) == "closed", "the circuit to be closed everywhere")
    meter.release()
    assert [gw.chat("openai/metered").status for gw in gateways] == [200] * N
    t.join()
    assert redis.keys("circuit:*") == []


@pytest.mark.parametrize("fault", ["away", "wrong type"])
def test_without_a_redis_to_ask_each_process_sends_its_own_probe(gateways, meter, redis, fault):
    break_all(gateways, meter)
    if fault == "away":
        redis.kill()
        for gw in gateways:
            wait_until(lambda: gw.metrics()["redis_up"] == 0, "Redis to be given up")
    else:
        redis.call("EVAL", "redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 'x')", 1, KEY)
    with Askers(gateways) as askers:
        wait_until(lambda: meter.taken == 2 + N, "the probes")
        askers.refusals(10)
        assert meter.taken == 2 + N
        meter.release()
        for gw in gateways:
            wait_until(lambda: state(gw) == "closed", "the circuit to be closed everywhere")

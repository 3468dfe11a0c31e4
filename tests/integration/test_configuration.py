"""CHECKS 42, 102-104: configuration that is wrong is refused with every reason, and reload is all or nothing."""
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from gateway import Gateway, binary

FILES = ["gateway.yaml", "rate_limits.yaml", "circuit_breaker.yaml", "models_registry.yaml"]


def check(gw, env=None, name="check"):
    """Runs `postern check`; returns (exit status, all it printed)."""
    full = {**gw.environment(), **(env or {})}
    done = subprocess.run(gw.command(name), env={k: v for k, v in full.items() if v is not None},
                          capture_output=True, text=True, timeout=30, cwd=gw.dir)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def idle():
    """A gateway that is configured and not started."""
    return Gateway(env={"OPENAI_API_KEY": "sk-x"})


def write(gw, name, text):
    with open(os.path.join(gw.conf_dir, name), "w", encoding="utf-8") as f:
        f.write(text)


def test_the_shipped_configuration_is_valid(idle):
    rc, text = check(idle)
    assert rc == 0, text


@pytest.mark.parametrize("name", FILES)
def test_check_102_a_missing_file_is_named(idle, name):
    os.unlink(os.path.join(idle.conf_dir, name))
    rc, text = check(idle)
    assert rc == 78 and name in text


BROKEN = {
    "empty": "",
    "tab": "server:\n\tport: 1\n",
    "unknown": "nonsense_key: 1\n",
    "duplicate": "aaa: 1\naaa: 2\n",
    "alias": "a: &x [1,2]\nb: *x\n",
    "bomb": "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c,*c]\n",
    "syntax": "a: [1, 2\nb: }\n",
    "huge": "# " + "x" * (10 << 20) + "\n",
    "scalar": "just text\n",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("name", FILES)
def test_check_102_a_broken_file_is_refused_with_its_place(idle, name, kind):
    write(idle, name, BROKEN[kind])
    rc, text = check(idle)
    assert rc == 78, text
    assert name in text
    if kind in ("tab", "unknown", "duplicate", "alias"):
        assert "%s:" % name in text and any(c.isdigit() for c in text.split(name + ":", 1)[1][:4])


def test_check_102_every_problem_is_listed_in_one_pass(idle):
    write(idle, "circuit_breaker.yaml", "failure_threshold: many\nrecovery_timeout_s: -4\n"
                                        "half_open_max_calls: 1\nnonsense: true\n")
    write(idle, "rate_limits.yaml", "enabled: perhaps\nclasses:\n  ai: {burst: 0}\n")
    rc, text = check(idle, env={"API_PORT": "banana", "ENVIRONMENT": "prod"})
    assert rc == 78
    for place in ("circuit_breaker.yaml:1", "circuit_breaker.yaml:2", "circuit_breaker.yaml:4",
                  "rate_limits.yaml:1", "rate_limits.yaml:3", "API_PORT", "ENVIRONMENT"):
        assert place in text, (place, text)


def test_check_042_production_lists_every_unsafe_setting_at_once(idle):
    rc, text = check(idle, env={"ENVIRONMENT": "production", "JWT_SECRET_KEY": "changeme",
                                "REQUIRE_AUTHENTICATION": "false", "CORS_ORIGINS": "*",
                                "AUTH_DEV_OPEN_TOKENS": "true", "RATE_LIMIT_ENABLED": "false"})
    assert rc == 78
    for word in ("JWT_SECRET_KEY", "REQUIRE_AUTHENTICATION", "CORS", "AUTH_DEV_OPEN_TOKENS"):
        assert word in text, (word, text)
    assert "changeme" not in text, "a secret is never shown"


@pytest.mark.parametrize("secret", ["", "short", "secret" * 8, "a" * 64, "your-secret-key-change-me-please-now"])
def test_check_042_weak_secrets_are_refused_in_production(idle, secret):
    rc, text = check(idle, env={"ENVIRONMENT": "production", "JWT_SECRET_KEY": secret})
    assert rc == 78 and "JWT_SECRET_KEY" in text


def test_production_starts_with_sound_settings(idle):
    rc, text = check(idle, env={"ENVIRONMENT": "production", "CORS_ORIGINS": "https://app.example",
                                "JWT_SECRET_KEY": "b2V1R0hqWm5xT0pZc3dLd0VtTnVaQTlkRkhYc3Bq",
                                "POSTERN_MASTER_KEY": "q9Gk2mTzX4vB7nLpR1sWcY8dHfJ3aEuK6iOo5tNyZx0"})
    assert rc == 0, text


def test_secrets_come_from_files(idle, tmp_path):
    good = tmp_path / "key"
    good.write_text("sk-from-a-file\n")
    assert check(idle, env={"OPENAI_API_KEY": None, "OPENAI_API_KEY_FILE": str(good)})[0] == 0
    rc, text = check(idle, env={"OPENAI_API_KEY": None, "OPENAI_API_KEY_FILE": "/nonexistent"})
    assert rc == 78 and "OPENAI_API_KEY_FILE" in text


def test_check_103_a_broken_reload_keeps_the_old_configuration(make_gateway):
    gw = make_gateway()
    write(gw, "gateway.yaml", "server: [\n")
    gw.process.send_signal(signal.SIGHUP)
    wait_for_metric(gw, 'config_reloads_total{outcome="refused"}', 1)
    assert gw.chat().status == 200
    assert gw.get("/api/v1/health", headers={}).json["config_generation"] == 1


def test_check_103_a_good_reload_is_swapped_in_as_a_whole(make_gateway):
    gw = make_gateway()
    stop = threading.Event()
    seen = []

    def ask():
        while not stop.is_set():
            seen.append(gw.chat("openai/gpt-4o-mini~chunks=5,gap_ms=5").status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for t in threads:
        t.start()
    for generation in range(2, 7):
        gw.process.send_signal(signal.SIGHUP)
        wait_for_metric(gw, "config_generation", generation)
    stop.set()
    for t in threads:
        t.join()
    assert seen and set(seen) == {200}
    gw.conf["circuit_breaker.yaml"] = {"failure_threshold": 2}
    gw.conf["gateway.yaml"] = {"retry.attempts": 1}
    gw.write_conf()
    gw.process.send_signal(signal.SIGHUP)
    wait_for_metric(gw, "config_generation", 7)
    for _ in range(2):
        gw.chat("groq/x~status=500")
    assert gw.chat("groq/x").status == 503


def wait_for_metric(gw, name, value, timeout=20):
    end = time.monotonic() + timeout
    while gw.metrics().get(name) != value:
        assert time.monotonic() < end, (name, gw.metrics().get(name), gw.log()[-2000:])
        time.sleep(0.02)


def run_serve(gw, env=None):
    begin = time.monotonic()
    rc, text = check(gw, env=env, name="serve")
    return rc, text, time.monotonic() - begin


def test_check_104_a_port_that_is_taken_is_one_clear_line(idle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        rc, text, _ = run_serve(idle, {"API_PORT": port})
        assert rc != 0
        assert any(port in line and "listen" in line for line in text.split("\n")), text
        rc, text, _ = run_serve(idle, {"API_PORT": port, "API_WORKERS": "3"})
        assert rc != 0 and port in text


def test_check_104_an_unreadable_certificate_and_a_bad_environment_value(idle):
    idle.conf["gateway.yaml"] = {"server.tls_certificate": "/nonexistent.pem",
                                 "server.tls_key": "/nonexistent.key"}
    idle.write_conf()
    rc, text, _ = run_serve(idle)
    assert rc == 78 and "/nonexistent.pem" in text
    rc, text, _ = run_serve(Gateway(), {"LOG_LEVEL": "loud"})
    assert rc == 78 and "LOG_LEVEL" in text


def test_without_any_configuration_the_defaults_serve(tmp_path, standin):
    env = {k: v for k, v in os.environ.items() if k in ("PATH",) or k.endswith("SAN_OPTIONS")}
    env.update(standin.env(), API_PORT="0")
    gw = Gateway()
    gw.dir = str(tmp_path)
    gw.command = lambda name="serve": [binary(), name]
    gw.environment = lambda: env
    with gw:
        assert gw.chat("openai/gpt-4o-mini", headers={}).status == 200

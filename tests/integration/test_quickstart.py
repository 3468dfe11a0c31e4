"""The first README command, run as a newcomer runs it (but with --once and a port of our own)."""
import os
import re
import socket
import subprocess

import pytest
from ports import free_port

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEYS = ("OPENAI", "ANTHROPIC", "GOOGLE", "GROQ")


def quickstart(*args, **env):
    clean = {k: v for k, v in os.environ.items()
             if not k.startswith(KEYS) and not k.startswith("POSTERN_") and not k.endswith("SAN_OPTIONS")}
    ports = {"POSTGRES_PORT": str(free_port()), "REDIS_PORT": str(free_port())}
    return subprocess.run([os.path.join(ROOT, "deploy", "quickstart.sh"), *args], cwd="/", text=True,
                          env={**clean, **ports, **env}, capture_output=True, timeout=400, check=False)


@pytest.fixture(scope="module", name="done")
def fixture_done():
    done = quickstart("--once", API_PORT=str(free_port()))
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def part(done, number):
    """What was printed under one of the numbered headings."""
    return re.split(r"\n\x1b\[1m\d\. ", done.stdout)[number]


def test_without_a_key_it_says_that_the_stand_in_answers(done):
    assert "NO PROVIDER KEY IS SET" in done.stdout and "stand-in" in done.stdout


def test_a_chat_is_answered(done):
    text = part(done, 1)
    assert "< 200 OK" in text and "< X-Postern-Provider: openai" in text and "X-Request-ID" in text


def test_a_chat_is_streamed_to_its_end(done):
    pieces = re.search(r"\((\d+) pieces of text, .* then \[DONE\]\)", part(done, 2))
    assert pieces and int(pieces.group(1)) > 1


def test_a_provider_that_is_down_is_replaced(done):
    text = part(done, 3)
    assert "is down" in text and "< X-Postern-Provider: anthropic" in text
    assert "< X-Postern-Fallback-Index: 1" in text


def test_a_budget_is_spent_refused_and_told_by_the_ledger(done):
    text = part(done, 4)
    answers = int(re.search(r"(\d+) answers for (\d\.\d+) USD, then the next one was refused", text).group(1))
    assert answers >= 1 and "< 402 " in text and "budget-exceeded" in text
    assert len(re.findall(r"\| key:pk-\S+ +\| \S+ +\| ok ", text)) == answers
    assert not re.search(r"pk-[\w-]{43}", done.stdout)


def test_secrets_are_made_once_and_only_for_the_owner(done):
    assert done.returncode == 0
    path = os.path.join(ROOT, "var", "quickstart.env")
    with open(path, encoding="ascii") as f:
        text = f.read()
    assert os.stat(path).st_mode & 0o077 == 0
    assert re.fullmatch(r"(?:[A-Z_]+=[0-9a-f]{64}\n){3}", text)
    assert not [key for key in re.findall(r"=(\w+)", text) if key in done.stdout]


def test_nothing_is_left_running(done):
    assert done.returncode == 0
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert ROOT + "/var/quickstart.env" not in listing


def test_with_a_key_the_real_provider_answers_and_steps_in_for_one_that_is_down(standin):
    env = {name: value for name, value in standin.env().items() if name.startswith("GROQ")}
    done = quickstart("--once", API_PORT=str(free_port()), **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO PROVIDER KEY" not in done.stdout and "providers with a key: groq" in done.stdout
    for number in (1, 2, 3):
        assert "< X-Postern-Provider: groq" in part(done, number)
    assert "an Ollama that is not there" in part(done, 3)


def test_a_provider_that_refuses_fails_the_demonstration_in_one_line(standin):
    env = {"OPENAI_API_KEY": "sk-wrong", "OPENAI_BASE_URL": standin.env()["OPENAI_BASE_URL"]}
    done = quickstart("--once", API_PORT=str(free_port()), **env)
    assert done.returncode == 1
    assert "demo: status 502" in done.stderr and "quickstart: the demonstration failed" in done.stderr


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", ""])
def test_a_port_that_is_none_is_refused_in_one_line(port):
    done = quickstart("--once", API_PORT=port or " ")
    assert done.returncode == 1 and not done.stdout
    assert re.fullmatch(r"quickstart: API_PORT must be a port number, not '.*'\n", done.stderr)


def test_a_taken_port_is_said_in_one_line():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        done = quickstart("--once", API_PORT=str(port))
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("quickstart: port %d is taken" % port)


def test_an_unknown_argument_is_refused():
    done = quickstart("--twice")
    assert done.returncode == 2 and done.stderr.startswith("usage:")

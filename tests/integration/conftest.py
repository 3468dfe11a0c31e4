"""Fixtures: the stand-in provider and the gateway, as real processes on private ports."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from gateway import Gateway  # noqa: E402
from standin.client import Standin  # noqa: E402


@pytest.fixture(scope="session")
def standin_process():
    with Standin() as standin:
        yield standin


@pytest.fixture
def standin(standin_process):
    """The stand-in with nothing remembered."""
    standin_process.reset()
    return standin_process


@pytest.fixture(scope="module")
def shared_gateway(standin_process):
    """One gateway for a whole test file. Faults of one test may open its circuits: see `gateway`."""
    with Gateway(env=standin_process.env()) as gw:
        yield gw


@pytest.fixture
def gateway(shared_gateway, standin):
    """The file's gateway with all circuits closed, and a fresh stand-in behind it."""
    for name in ("openai", "anthropic", "google", "groq", "ollama"):
        shared_gateway.post("/api/v1/admin/circuits/%s/reset" % name, "")
    yield shared_gateway
    shared_gateway.alive()


@pytest.fixture
def make_gateway(standin):
    """Starts gateways with settings of their own; ends them with the test."""
    made = []

    def make(env=None, with_standin=True, **kw):
        base = standin.env() if with_standin else {}
        gw = Gateway(env={**base, **(env or {})}, **kw)
        made.append(gw)
        return gw.start()

    yield make
    for gw in made:
        gw.__exit__(None, None, None)

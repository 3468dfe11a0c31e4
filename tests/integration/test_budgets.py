"""Budgets: money and tokens of keys and teams, counted in a real Redis over a real Postgres."""

import os
import subprocess

import gateway
from redisd import Redis

BUILD = os.path.dirname(os.path.join(gateway.ROOT, gateway.binary()))


def test_reservations_settlements_outages_and_flushes_against_a_real_redis():
    """tests/unit/live_budget.c: CHECKS 78 and 81 among others."""
    with Redis() as redis:
        run = subprocess.run([os.path.join(BUILD, "live_budget")], capture_output=True, text=True, timeout=120,
                             env={**os.environ, "REDIS_URL": redis.url})
    assert run.returncode == 0, run.stdout + run.stderr

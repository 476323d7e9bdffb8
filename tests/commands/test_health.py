"""What is said of the running daemon when its surroundings change."""

import logging
from pathlib import Path

import pytest

from postfix_mtasts.adapters.resolver import SelfTest
from postfix_mtasts.adapters.store_sqlite import SqliteStore
from postfix_mtasts.commands.health import Health
from tests.world import Daemon, World, daemon, story

GOOD = SelfTest(ok=True, why="127.0.0.1 validates")
LOST = "without it DANE protects nothing, MTA-STS alone does"
BAD = SelfTest(ok=False, why="127.0.0.1 does not validate")


def health_of(running: Daemon, state: Path) -> Health:
    assert isinstance(running.store, SqliteStore)
    clock = running.world.clock
    return Health(answers=running.answers, store=running.store, state=state, ticks=clock)


@story
async def test_dnssec_is_logged_when_it_changes_and_not_at_every_test(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with daemon(World()) as running:
        health = health_of(running, Path("/nonexistent"))
        for result in (GOOD, GOOD, BAD, BAD, GOOD):
            health.tested(result)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.INFO, "DNSSEC: 127.0.0.1 validates"),
        (logging.WARNING, f"DNSSEC: {BAD.why}; {LOST}"),
        (logging.INFO, "DNSSEC: 127.0.0.1 validates"),
    ]


@story
async def test_the_status_counts_the_policies_of_the_store(tmp_path: Path) -> None:
    world = World()
    world.receives_mail("example.com", "mx.example.com")
    world.publishes("example.com", max_age=31_557_600)
    world.now = 4_000_000_000.0  # behind every real clock: the policy is in force for `Health`
    path = tmp_path / "state.db"
    async with daemon(world, path=path) as running:
        health = health_of(running, path)
        assert "DNSSEC not tested yet" in health.status()
        assert "policies" not in health.status()
        await running.ask("example.com")
        await health.count_policies()
        health.tested(GOOD)
        expected = "1 answers in memory, 1 policies in force; DNSSEC: 127.0.0.1 validates"
        assert health.status().endswith(expected)

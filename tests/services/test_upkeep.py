"""The seconds and the minutes of the daemon: renewal, refreshes, clocks, forgetting."""

import asyncio

import pytest

from postfix_mtasts.core.facts import StsFacts
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.services import upkeep
from tests.world import START, Daemon, World, daemon, story

DAY = 86400
MX = "mx.example.net"


async def warm(running: Daemon, domains: list[str]) -> None:
    """Ask for *domains* often enough that their answers are renewed ahead."""
    for _ in range(3):
        await asyncio.gather(*map(running.ask, domains))


def receiving(*domains: str) -> World:
    world = World()
    for domain in domains:
        world.receives_mail(domain, MX)
    return world


@story
async def test_a_herd_of_answers_that_run_out_together_is_renewed_a_few_at_a_time() -> None:
    domains = [f"d{n}.example" for n in range(40)]
    world = receiving(*domains)
    async with daemon(world) as running:
        await warm(running, domains)
        for domain in domains:
            world.sticks(domain, "MX")
        world.now += 280
        running.upkeep.tick(running.group)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert sum(world.asked[domain, "MX"] == 2 for domain in domains) == upkeep.AT_ONCE
        world.lets_go()
        await running.idle()
        assert all(world.asked[domain, "MX"] == 2 for domain in domains)


@story
async def test_slow_policy_hosts_do_not_keep_answers_from_being_renewed() -> None:
    slow = [f"slow{n}.example" for n in range(2 * upkeep.AT_ONCE)]
    world = receiving(*slow)
    world.receives_mail("hot.example", MX)
    for domain in slow:
        world.publishes(domain, max_age=7 * DAY)
    async with daemon(world) as running:
        await asyncio.gather(*map(running.ask, slow))
        world.now += DAY
        for domain in slow:
            world.sticks(f"mta-sts.{domain}", "HTTPS")
        refreshing = running.group.create_task(running.upkeep.refresh_due())
        await running.until(lambda: world.fetched.total() == len(slow) + upkeep.AT_ONCE)
        await warm(running, ["hot.example"])
        world.now += 280
        running.upkeep.tick(running.group)
        await running.until(lambda: world.asked["hot.example", "MX"] == 2)
        world.lets_go()
        await refreshing


@story
async def test_a_bug_in_a_renewal_is_logged_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = receiving("example.com")
    async with daemon(world) as running:
        await warm(running, ["example.com"])

        async def breaks(_: bytes) -> None:
            raise LookupError("a bug")

        monkeypatch.setattr(running.answers, "refresh", breaks)
        await running.pass_time(280)
        assert "renewing an answer: internal error" in caplog.text
        assert await running.ask("example.com") == "NOTFOUND "


@story
async def test_a_renewal_that_is_not_answered_in_time_leaves_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = receiving("example.com")
    async with daemon(world) as running:
        await warm(running, ["example.com"])
        monkeypatch.setattr("postfix_mtasts.services.lookups.DEADLINE", 0.02)
        world.sticks("example.com", "MX")
        world.now += 280
        running.upkeep.tick(running.group)
        await running.until(lambda: world.asked["example.com", "MX"] == 2)
        await asyncio.sleep(0.05)
        assert await running.ask("example.com") == "NOTFOUND "
        world.lets_go()


@story
async def test_no_more_than_a_batch_is_fetched_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "BATCH", 3)
    domains = [f"d{n}.example" for n in range(7)]
    world = receiving(*domains)
    for domain in domains:
        world.publishes(domain, max_age=7 * DAY)
    async with daemon(world) as running:
        await asyncio.gather(*map(running.ask, domains))
        world.now += DAY
        counts = []
        for _ in range(4):
            await running.upkeep.refresh_due()
            counts.append(world.fetched.total() - 7)
        assert counts == [3, 6, 7, 7]


@story
async def test_forgetting_happens_once_a_day_and_says_how_much(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    world = receiving("old.example")
    async with daemon(world) as running:
        await running.ask("old.example")
        world.now += 181 * DAY
        await running.ask("new.example")
        await running.upkeep.refresh_due()
        assert "forgot 1 domains that nobody asked for in 180 days" in caplog.text
        nexthop = NextHop(form=Form.DOMAIN, name="new.example")
        assert (await running.store.load(nexthop)).dns is not None
        world.now += DAY - 1
        forgotten = len(caplog.records)
        await running.upkeep.refresh_due()
        assert len(caplog.records) == forgotten


class Skewed(World):
    """A world whose wall clock can be set."""

    skew = 0.0

    def clock(self) -> float:
        return self.now + self.skew

    def ticks(self) -> float:
        return self.now - START


@pytest.mark.parametrize("skew", [-3600, -6, 6, 3600])
@story
async def test_a_clock_that_was_set_clears_the_answers_and_is_logged(
    skew: float, caplog: pytest.LogCaptureFixture
) -> None:
    world = Skewed()
    async with daemon(world, ticks=world.ticks) as running:
        await running.ask("example.com")
        world.skew = skew
        running.upkeep.tick(running.group)
        assert not running.answers.cache.answers
        assert f"the clock was set by {skew:+.0f} s" in caplog.text


@story
async def test_a_year_of_a_wrong_clock_forgets_nothing_that_day() -> None:
    world = Skewed()
    world.receives_mail("example.com", MX)
    world.publishes("example.com", max_age=7 * DAY, mx=(MX,))
    nexthop = NextHop(form=Form.DOMAIN, name="example.com")
    async with daemon(world, ticks=world.ticks) as running:
        await running.ask("example.com")
        await running.pass_time(DAY - 10)
        world.skew = 365 * DAY
        await running.pass_time(20)
        assert (await running.store.load(nexthop)).sts != StsFacts()


@story
async def test_a_clock_that_was_set_once_is_noticed_once() -> None:
    world = Skewed()
    async with daemon(world, ticks=world.ticks) as running:
        world.skew = 3600
        running.upkeep.tick(running.group)
        await running.ask("example.com")
        running.upkeep.tick(running.group)
        assert running.answers.cache.answers

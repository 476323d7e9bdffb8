"""Policies are fetched again once a day unasked (RFC 8461 section 10.2)."""

import asyncio
import random

import pytest

from postfix_mtasts.core.facts import StsFacts
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.services import upkeep
from tests.world import START, Daemon, World, daemon, story

DOMAIN = "example.com"
MX = "mx.example.com"
POLICY_HOST = "mta-sts.example.com"
ENFORCED = f"OK secure match={MX} servername=hostname"
HOUR = 3600
DAY = 24 * HOUR


def protected_world(domain: str = DOMAIN, *, max_age: int = 7 * DAY, ttl: int = 300) -> World:
    world = World()
    world.receives_mail(domain, MX, ttl=ttl)
    world.has(MX, "AAAA", ttl=ttl)
    world.publishes(domain, max_age=max_age, ttl=ttl)
    return world


async def known(running: Daemon, domain: str = DOMAIN) -> StsFacts:
    return (await running.store.load(NextHop(form=Form.DOMAIN, name=domain))).sts


@story
async def test_a_policy_is_fetched_daily_though_nobody_asks() -> None:
    world = protected_world(max_age=2 * DAY)
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        for day in range(1, 31):
            await running.pass_time(DAY)
            assert world.fetched[POLICY_HOST] == day + 1
        world.dns_down = True
        assert (await running.ask(DOMAIN)).startswith("OK secure ")


@story
async def test_a_policy_is_fetched_even_if_its_record_cannot_be_looked_up() -> None:
    world = protected_world(max_age=2 * DAY)
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        world.fails("_mta-sts.example.com", "TXT")
        for _ in range(10):
            await running.pass_time(DAY)
        assert await running.ask(DOMAIN) == ENFORCED
        assert world.fetched[POLICY_HOST] == 11


@story
async def test_the_daily_fetches_of_many_domains_are_spread_by_chance() -> None:
    world = World()
    domains = [f"d{n}.example" for n in range(200)]
    for domain in domains:
        world.receives_mail(domain, MX)
        world.publishes(domain, max_age=7 * DAY)
    async with daemon(world, chance=random.Random(1).random) as running:
        await asyncio.gather(*map(running.ask, domains))
        order, per_hour = [], []
        for _ in range(24):
            before = world.fetched.copy()
            await running.pass_time(HOUR)
            fetched = [host for host in world.fetched if world.fetched[host] > before[host]]
            per_hour.append(len(fetched))
            order += fetched
        assert per_hour[:17] == [0] * 17
        assert min(per_hour[18:]) > 10, "spread over the last quarter of the day"
        assert order != [f"mta-sts.{domain}" for domain in domains]
        assert sorted(order) == sorted(f"mta-sts.{domain}" for domain in domains)


@story
async def test_a_failing_refresh_is_tried_again_in_hours_not_in_minutes() -> None:
    world = protected_world()
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        world.https.clear()
        await running.pass_time(DAY)
        assert world.fetched[POLICY_HOST] == 2
        for _ in range(60):
            await running.pass_time(60)
        assert world.fetched[POLICY_HOST] == 2
        await running.pass_time(2 * HOUR)
        assert world.fetched[POLICY_HOST] == 3


@story
async def test_a_refresh_that_fails_does_not_go_on_after_the_policy_has_expired() -> None:
    """A domain that gave MTA-STS up is not knocked at for ever, though mail goes there."""
    world = protected_world(max_age=2 * DAY)
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        world.https.clear()
        world.has("_mta-sts.example.com", "TXT")
        for _ in range(10):
            await running.pass_time(DAY)
            await running.ask(DOMAIN)
        assert world.fetched[POLICY_HOST] <= 5
        fetched = world.fetched[POLICY_HOST]
        await running.pass_time(DAY)
        assert world.fetched[POLICY_HOST] == fetched


@story
async def test_a_policy_that_changed_under_the_same_id_binds_right_after_its_refresh() -> None:
    world = protected_world(ttl=2 * DAY)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.publishes(DOMAIN, mode="none", mx=(), ttl=2 * DAY)
        await running.pass_time(DAY)
        assert await running.ask(DOMAIN) == "NOTFOUND "
        assert world.asked[DOMAIN, "MX"] == 1, "what DNS said still holds"


@story
async def test_a_refresh_that_changes_nothing_leaves_the_answers_alone() -> None:
    world = protected_world(ttl=2 * DAY)
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        kept = dict(running.answers.cache.answers)
        await running.pass_time(DAY)
        assert running.answers.cache.answers == kept


@story
async def test_mail_does_not_wait_for_a_refresh() -> None:
    world = protected_world()
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        world.now += DAY
        running.upkeep.tick(running.group)
        world.sticks(POLICY_HOST, "HTTPS")
        refreshing = running.group.create_task(running.upkeep.refresh_due())
        await running.until(lambda: world.fetched[POLICY_HOST] == 2)
        assert await running.ask(DOMAIN) == ENFORCED
        world.lets_go()
        await refreshing


@story
async def test_mail_that_comes_during_a_refresh_leaves_its_facts_in_the_store() -> None:
    world = protected_world()
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        world.now += DAY
        running.upkeep.tick(running.group)
        world.sticks(POLICY_HOST, "HTTPS")
        refreshing = running.group.create_task(running.upkeep.refresh_due())
        await running.until(lambda: world.fetched[POLICY_HOST] == 2)
        await running.ask(DOMAIN)
        world.lets_go()
        await refreshing
        stored = await running.store.load(NextHop(form=Form.DOMAIN, name=DOMAIN))
        assert stored.dns is not None
        assert stored.dns.gathered == world.now


@story
async def test_what_nobody_asked_for_in_180_days_is_forgotten() -> None:
    world = protected_world(max_age=2 * DAY)
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        for _ in range(180):
            await running.pass_time(DAY)
        assert (await known(running)).cached is not None
        await running.pass_time(DAY)
        assert await known(running) == StsFacts()
        fetched = world.fetched.copy()
        await running.pass_time(10 * DAY)
        assert world.fetched == fetched


@story
async def test_what_is_asked_for_daily_is_not_forgotten_although_refreshes_keep_it_fresh() -> None:
    world = protected_world(ttl=DAY)
    async with daemon(world) as running:
        for _ in range(200):
            assert await running.ask(DOMAIN) == ENFORCED
            await running.pass_time(DAY)
        assert (await known(running)).cached is not None


@story
async def test_a_bug_in_one_refresh_ends_neither_the_others_nor_the_daemon(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    for domain in ("a.example", "b.example"):
        world.receives_mail(domain, MX)
        world.publishes(domain, max_age=7 * DAY)
    async with daemon(world) as running:
        await running.ask("a.example")
        await running.ask("b.example")
        lookups = running.answers.plan.lookups
        refresh = lookups.refresh

        async def breaking(domain: str) -> StsFacts:
            if domain == "a.example":
                raise LookupError("a bug")
            return await refresh(domain)

        monkeypatch.setattr(lookups, "refresh", breaking)
        await running.pass_time(DAY)
        assert world.fetched == {"mta-sts.a.example": 1, "mta-sts.b.example": 2}
        assert "refresh domain=a.example: internal error" in caplog.text


@story
async def test_no_more_than_a_few_policies_are_fetched_at_once() -> None:
    world = World()
    domains = [f"d{n}.example" for n in range(30)]
    for domain in domains:
        world.receives_mail(domain, MX)
        world.publishes(domain, max_age=7 * DAY)
    async with daemon(world) as running:
        await asyncio.gather(*map(running.ask, domains))
        world.now += DAY
        for domain in domains:
            world.sticks(f"mta-sts.{domain}", "HTTPS")
        refreshing = running.group.create_task(running.upkeep.refresh_due())
        await running.until(lambda: world.fetched.total() == 30 + upkeep.AT_ONCE)
        for _ in range(100):
            await asyncio.sleep(0)
        assert world.fetched.total() == 30 + upkeep.AT_ONCE
        world.lets_go()
        await refreshing
        assert world.fetched.total() == 60
    assert world.now == START + DAY

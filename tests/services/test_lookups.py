"""Facts from the store while they are fresh, else from the network, once at a time."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from postfix_mtasts.core.decision import Settings
from postfix_mtasts.core.facts import Facts, StsFacts
from postfix_mtasts.core.names import NextHop, parse_nexthop
from postfix_mtasts.ports import Stored
from postfix_mtasts.services import lookups
from postfix_mtasts.services.lookups import Lookups, Unanswered, Why
from tests.world import START, Daemon, World, daemon, story

DOMAIN = "example.com"
MX = "mx.example.com"
HOST = "mta-sts.example.com"
NEXTHOP = parse_nexthop(DOMAIN.encode())


def protected_world(*, dane: bool = False) -> World:
    world = World()
    world.receives_mail(DOMAIN, MX, secure=dane)
    world.has(MX, "AAAA", secure=dane)
    world.publishes(DOMAIN)
    if dane:
        world.has_tlsa(MX)
    return world


def of(running: Daemon) -> Lookups:
    return running.answers.plan.lookups


class Recorded:
    """A store that notes what is saved, in front of the real one."""

    def __init__(self, running: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
        self.saved: list[tuple[Stored, float | None, float | None]] = []
        self._save = running.store.save
        monkeypatch.setattr(running.store, "save", self.save)

    async def save(
        self, nexthop: NextHop, stored: Stored, *, asked: float | None, refresh: float | None
    ) -> None:
        self.saved.append((stored, asked, refresh))
        await self._save(nexthop, stored, asked=asked, refresh=refresh)


@story
async def test_fresh_facts_come_from_the_store_and_the_same_facts() -> None:
    world = protected_world()
    async with daemon(world) as running:
        first = await of(running).facts(NEXTHOP)
        world.now += 299
        assert await of(running).facts(NEXTHOP) == first
        assert world.asked[DOMAIN, "MX"] == 1
        world.now += 1
        assert (await of(running).facts(NEXTHOP)).dns.gathered == world.now


@story
async def test_asked_ahead_fresh_facts_are_gathered_again() -> None:
    world = protected_world()
    async with daemon(world) as running:
        await of(running).facts(NEXTHOP)
        world.now += 1
        facts = await of(running).facts(NEXTHOP, Why.AHEAD)
        assert facts.dns.gathered == START + 1
        assert facts.sts.cached is not None
        assert facts.sts.cached.checked == START + 1


@story
async def test_what_is_saved_says_when_it_was_asked_for_and_when_to_refresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = protected_world()
    async with daemon(world, refresh=1000, chance=lambda: 0.5) as running:
        recorded = Recorded(running, monkeypatch)
        facts = await of(running).facts(NEXTHOP)
        world.now += 10
        await of(running).refresh(DOMAIN)
    assert recorded.saved[0] == (Stored(dns=facts.dns, sts=facts.sts), START, START + 875)
    assert recorded.saved[1][1:] == (None, START + 885)


@story
async def test_facts_protected_by_dane_are_told_before_the_policy_and_saved_again_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = protected_world(dane=True)
    async with daemon(world) as running:
        recorded = Recorded(running, monkeypatch)
        facts = await of(running).facts(NEXTHOP)
        assert facts.sts == StsFacts()
        await running.idle()
        assert [stored.sts.cached is not None for stored, _, _ in recorded.saved] == [False, True]


@story
async def test_facts_protected_by_dane_are_saved_once_where_no_policy_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = protected_world(dane=True)
    world.has("_mta-sts.example.com", "TXT")
    async with daemon(world) as running:
        recorded = Recorded(running, monkeypatch)
        await of(running).facts(NEXTHOP)
        await running.idle()
        assert len(recorded.saved) == 1


@story
async def test_look_ups_under_way_are_counted_and_each_is_one() -> None:
    world = protected_world()
    world.sticks(DOMAIN, "MX")
    async with daemon(world) as running:
        asking = [running.group.create_task(of(running).facts(NEXTHOP)) for _ in range(5)]
        other = running.group.create_task(of(running).facts(parse_nexthop(b"other.example")))
        await other
        assert of(running).under_way() == 1
        world.lets_go()
        assert len(set(map(id, await asyncio.gather(*asking)))) == 1
        await running.idle()
        assert of(running).under_way() == 0


@story
async def test_no_more_are_looked_up_at_once_than_there_are_slots() -> None:
    world = World()
    names = [f"d{n}.example" for n in range(150)]
    for name in names:
        world.sticks(name, "MX")
    async with daemon(world) as running:
        asking = [
            running.group.create_task(of(running).facts(parse_nexthop(name.encode())))
            for name in names
        ]
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert sum(kind == "MX" for _, kind in world.asked) == 100
        assert of(running).under_way() == 150
        world.lets_go()
        await asyncio.gather(*asking)
        assert sum(kind == "MX" for _, kind in world.asked) == 150


@story
async def test_who_waits_is_told_at_the_deadline_and_the_look_up_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookups, "DEADLINE", 0.02)
    world = protected_world()
    world.sticks(DOMAIN, "MX")
    async with daemon(world) as running:
        with pytest.raises(Unanswered, match="still looking"):
            await of(running).facts(NEXTHOP)
        assert of(running).under_way() == 1
        world.lets_go()
        await running.idle()
        asked = world.asked.copy()
        assert isinstance(await of(running).facts(NEXTHOP), Facts)
        assert world.asked == asked


@story
async def test_a_bug_is_told_to_all_who_wait_and_forgotten(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = protected_world()
    async with daemon(world) as running:

        async def breaks(*_: Any) -> None:
            raise LookupError("a bug")

        with monkeypatch.context() as broken:
            broken.setattr(world, "txt", breaks)
            asking = [of(running).facts(NEXTHOP) for _ in range(3)]
            outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {
            "internal error looking example.com up, see the log"
        }
        assert all(isinstance(outcome, Unanswered) for outcome in outcomes)
        assert "lookup domain=example.com: internal error" in caplog.text
        assert of(running).under_way() == 0
        assert isinstance(await of(running).facts(NEXTHOP), Facts)


@story
async def test_a_bug_after_the_facts_were_told_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = protected_world(dane=True)
    async with daemon(world) as running:

        async def breaks(*_: Any, **__: Any) -> None:
            raise LookupError("a bug")

        monkeypatch.setattr(of(running)._policies, "update", breaks)  # noqa: SLF001 - a bug at a certain place
        assert isinstance(await of(running).facts(NEXTHOP), Facts)
        await running.idle()
        assert "lookup domain=example.com: internal error" in caplog.text


@story
async def test_a_refresh_fetches_and_leaves_what_dns_said() -> None:
    world = protected_world()
    async with daemon(world) as running:
        facts = await of(running).facts(NEXTHOP)
        world.now += 100
        sts = await of(running).refresh(DOMAIN)
        assert sts.cached is not None
        assert sts.cached.fetched == START + 100
        stored = await running.store.load(NEXTHOP)
        assert stored == Stored(dns=facts.dns, sts=sts)
        assert world.asked[DOMAIN, "MX"] == 1


@story
async def test_a_refresh_that_fails_leaves_the_policy_and_remembers_the_failure() -> None:
    world = protected_world()
    async with daemon(world) as running:
        before = (await of(running).facts(NEXTHOP)).sts
        world.https.clear()
        sts = await of(running).refresh(DOMAIN)
        assert sts.cached == before.cached
        assert sts.failure is not None
        assert (await running.store.load(NEXTHOP)).sts == sts


@story
async def test_facts_gathered_without_dane_do_not_serve_with_it() -> None:
    world = protected_world(dane=True)
    async with daemon(world, settings=Settings(dane=False)) as running:
        facts = await of(running).facts(NEXTHOP)
        assert facts.dns.hosts == ()
        assert await of(running).facts(NEXTHOP) == facts
        running.answers.reload(running.plan(Settings()))
        assert len((await of(running).facts(NEXTHOP)).dns.hosts) == 1


@story
async def test_facts_gathered_with_dane_do_serve_without_it() -> None:
    world = protected_world(dane=True)
    async with daemon(world) as running:
        await of(running).facts(NEXTHOP)
        await running.idle()
        running.answers.reload(running.plan(Settings(dane=False)))
        await of(running).facts(NEXTHOP)
        assert world.asked[DOMAIN, "MX"] == 1


@story
async def test_stored_facts_of_a_domain_that_may_be_fetched_for_are_not_fresh() -> None:
    world = protected_world()
    async with daemon(world) as running:
        facts = await of(running).facts(NEXTHOP)
        without = Stored(dns=facts.dns, sts=replace(facts.sts, cached=None))
        await running.store.purge((DOMAIN,))
        await running.store.save(NEXTHOP, without, asked=START, refresh=None)
        assert (await of(running).facts(NEXTHOP)).sts.cached is not None


@story
async def test_another_port_has_facts_of_its_own_beside_the_same_policy() -> None:
    world = protected_world()
    other = parse_nexthop(b"example.com:587")
    async with daemon(world) as running:
        facts = await of(running).facts(NEXTHOP)
        elsewhere = await of(running).facts(other)
        assert elsewhere.dns.sts_record is None
        assert (await running.store.load(NEXTHOP)) == Stored(dns=facts.dns, sts=facts.sts)
        assert (await running.store.load(other)).dns == elsewhere.dns
    assert world.asked["_mta-sts.example.com", "TXT"] == 1


@story
async def test_another_port_leaves_the_memory_of_a_failed_fetch_alone() -> None:
    world = protected_world()
    world.https.clear()
    async with daemon(world) as running:
        failed = (await of(running).facts(NEXTHOP)).sts
        assert failed.failure is not None
        await of(running).facts(parse_nexthop(b"example.com:587"))
        assert (await running.store.load(NEXTHOP)).sts == failed

"""Many ask at once, some servers are slow, memory is short."""

import asyncio
import time

import pytest

from postfix_mtasts.core.facts import Unavailable
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.services import gathering, lookups
from tests.world import World, daemon, story

DOMAIN = "example.com"
MX = "mx.example.com"
POLICY_HOST = "mta-sts.example.com"
NEXTHOP = NextHop(form=Form.DOMAIN, name=DOMAIN)
ENFORCED = f"OK secure match={MX} servername=hostname"


def protected_world(*, dane: bool = False) -> World:
    world = World()
    world.receives_mail(DOMAIN, MX, secure=dane)
    world.has(MX, "AAAA", secure=dane)
    world.publishes(DOMAIN)
    if dane:
        world.has_tlsa(MX)
    return world


@story
async def test_a_hundred_who_ask_at_once_cost_one_look_up_and_one_fetch() -> None:
    world = protected_world()
    async with daemon(world) as running:
        asking = [running.ask(DOMAIN) for _ in range(100)]
        assert await asyncio.gather(*asking) == [ENFORCED] * 100
    assert set(world.asked.values()) == {1}
    assert world.fetched == {POLICY_HOST: 1}


@story
async def test_the_spellings_of_a_domain_share_one_look_up() -> None:
    world = World()
    world.receives_mail("xn--strae-oqa.example", "mx.example.com")
    world.publishes("xn--strae-oqa.example")
    spellings = [
        "straße.example",
        "STRAßE.example",
        "xn--strae-oqa.example",
        "XN--STRAE-OQA.Example.",
    ]
    async with daemon(world) as running:
        assert await asyncio.gather(*map(running.ask, spellings)) == [ENFORCED] * 4
        assert await running.ask("Straße.Example") == ENFORCED
    assert set(world.asked.values()) == {1}
    assert not any(name.startswith("strasse") for name, _ in world.asked)


@story
async def test_what_was_learnt_is_stored_before_anyone_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = protected_world()
    async with daemon(world) as running:
        stored = asyncio.Event()
        save = running.store.save

        async def slow_save(*args: object, **kwargs: object) -> None:
            await stored.wait()
            await save(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(running.store, "save", slow_save)
        asking = running.group.create_task(running.ask(DOMAIN))
        await running.until(lambda: world.fetched[POLICY_HOST] == 1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not asking.done()
        stored.set()
        assert await asking == ENFORCED


@story
async def test_a_domain_protected_by_dane_does_not_wait_for_a_slow_policy_host() -> None:
    world = protected_world(dane=True)
    world.sticks(POLICY_HOST, "HTTPS")
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only"
        assert world.fetched[POLICY_HOST] == 1, "it is fetched all the same"
        assert await running.ask(DOMAIN, "policy-tlsrpt") == "OK dane-only"
        world.lets_go()
        await running.idle()
        assert (await running.store.load(NEXTHOP)).sts.cached is not None


@story
async def test_a_slow_policy_host_gives_a_temporary_error_then_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = protected_world()
    world.sticks(POLICY_HOST, "HTTPS")
    async with daemon(world) as running:
        monkeypatch.setattr(lookups, "DEADLINE", 0.05)
        temporary = "TEMP still looking example.com up after 0 s"
        assert await running.ask(DOMAIN) == temporary
        assert await running.ask(DOMAIN) == temporary
        assert not running.answers.cache.answers
        world.lets_go()
        await running.idle()
        assert await running.ask(DOMAIN) == ENFORCED
        assert world.fetched[POLICY_HOST] == 1


@story
async def test_a_slow_policy_host_holds_up_nobody_else() -> None:
    world = protected_world()
    world.sticks(POLICY_HOST, "HTTPS")
    world.receives_mail("other.example", "mx.other.example")
    async with daemon(world) as running:
        slow = running.group.create_task(running.ask(DOMAIN))
        await running.until(lambda: world.fetched[POLICY_HOST] == 1)
        assert await running.ask("other.example") == "NOTFOUND "
        assert not slow.done()
        world.lets_go()
        assert await slow == ENFORCED


@story
async def test_what_is_stored_and_fresh_waits_for_no_slot() -> None:
    world = protected_world()
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        running.answers.cache.clear()
        slow = [f"d{n}.example" for n in range(100)]
        for domain in slow:
            world.sticks(domain, "MX")
        waiting = [running.group.create_task(running.ask(domain)) for domain in slow]
        await running.until(lambda: world.asked["d99.example", "MX"] == 1)
        assert await running.ask(DOMAIN) == ENFORCED
        world.lets_go()
        await asyncio.gather(*waiting)


@story
async def test_the_policy_is_fetched_while_the_hosts_are_still_looked_up() -> None:
    world = protected_world()
    world.sticks(MX, "A")
    async with daemon(world) as running:
        asking = running.group.create_task(running.ask(DOMAIN))
        await running.until(lambda: world.fetched[POLICY_HOST] == 1)
        assert not asking.done()
        world.lets_go()
        assert await asking == ENFORCED


@story
async def test_who_stops_waiting_does_not_stop_the_look_up() -> None:
    world = protected_world(dane=True)
    world.sticks(f"_25._tcp.{MX}", "TLSA")
    async with daemon(world) as running:
        gone = running.group.create_task(running.ask(DOMAIN))
        await running.until(lambda: world.asked[f"_25._tcp.{MX}", "TLSA"] == 1)
        gone.cancel()
        waiting = running.group.create_task(running.ask(DOMAIN))
        await asyncio.sleep(0)
        world.lets_go()
        assert await waiting == "OK dane-only", "a cancelled look-up is no downgrade"
        assert world.asked[f"_25._tcp.{MX}", "TLSA"] == 1


@story
async def test_answers_asked_for_often_are_refreshed_before_their_end_and_others_not() -> None:
    world = World()
    for domain in ("hot.example", "cold.example"):
        world.receives_mail(domain, "mx.example.net")
    async with daemon(world) as running:
        await running.ask("cold.example")
        for _ in range(3):
            await running.ask("hot.example")
        await running.pass_time(275)
        assert world.asked["hot.example", "MX"] == 1
        await running.pass_time(1)
        assert world.asked["hot.example", "MX"] == 2
        await running.pass_time(100)
        assert world.asked["cold.example", "MX"] == 1
        await running.ask("hot.example")
        assert world.asked["hot.example", "MX"] == 2
        await running.pass_time(3600)
        assert world.asked["hot.example", "MX"] == 2, "nobody asked for it any more"


@story
async def test_a_refresh_ahead_that_fails_leaves_the_answer_until_its_end() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX, secure=True)
    world.has_tlsa(MX)
    async with daemon(world) as running:
        for _ in range(3):
            await running.ask(DOMAIN)
        world.dns_down = True
        await running.pass_time(290)
        assert world.asked[DOMAIN, "MX"] == 2
        assert await running.ask(DOMAIN) == "OK dane-only"
        await running.pass_time(10)
        assert (await running.ask(DOMAIN)).startswith("TEMP ")


@story
async def test_a_withdrawn_policy_releases_a_hot_domain_too() -> None:
    world = protected_world()
    async with daemon(world) as running:
        for _ in range(3):
            await running.ask(DOMAIN)
        world.publishes(DOMAIN, mode="none", mx=(), record_id="2")
        await running.pass_time(280)
        assert await running.ask(DOMAIN) == "NOTFOUND "


@story
async def test_answers_that_protect_nothing_go_first_when_memory_is_short() -> None:
    world = protected_world()
    async with daemon(world, limit=10) as running:
        await running.ask(DOMAIN)
        for n in range(30):
            await running.ask(f"nothing{n}.example")
        assert len(running.answers.cache.answers) == 10
        asked = world.asked.copy()
        assert await running.ask(DOMAIN) == ENFORCED
        assert world.asked == asked


@story
async def test_ten_thousand_mx_hosts_are_answered_in_time_and_never_as_fully_protected() -> None:
    world = World()
    hosts = [f"mx{n}.example.com" for n in range(10_000)]
    world.receives_mail(DOMAIN, *hosts, secure=True)
    for host in hosts:
        world.has(host, "AAAA", secure=True)
        world.has_tlsa(host)
    async with daemon(world) as running:
        began = time.monotonic()
        assert await running.ask(DOMAIN) == "OK dane"
        assert time.monotonic() - began < 5
        assert sum(kind == "TLSA" for _, kind in world.asked) == gathering.MAX_HOSTS
        assert await running.ask(DOMAIN, "requiretls") == "OK dane-only"


@story
async def test_a_policy_over_ten_thousand_mx_hosts_matches_the_best_hundred() -> None:
    world = World()
    world.receives_mail(DOMAIN, *(f"mx{n}.example.com" for n in range(10_000)))
    world.publishes(DOMAIN)
    async with daemon(world) as running:
        names = ":".join(f"mx{n}.example.com" for n in range(100))
        assert await running.ask(DOMAIN) == f"OK secure match={names} servername=hostname"


@story
async def test_a_bug_in_a_look_up_is_a_temporary_error_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = protected_world()
    async with daemon(world) as running:
        with monkeypatch.context() as broken:
            broken.setattr(world, "mx", None)
            reply = await running.ask(DOMAIN)
        assert reply == "TEMP internal error looking example.com up, see the log"
        assert "Traceback" in caplog.text
        assert await running.ask(DOMAIN) == ENFORCED


@story
async def test_our_own_overload_is_a_temporary_error_and_never_an_absence() -> None:
    busy = Unavailable(why="too many DNS queries at once", ours=True)
    for name, kind in (
        ("example.com", "MX"),
        ("_mta-sts.example.com", "TXT"),
        (MX, "A"),
        (POLICY_HOST, "A"),
    ):
        world = protected_world()
        world.has(POLICY_HOST, "AAAA")
        answer = world.dns[name, kind]
        world.dns[name, kind] = busy
        async with daemon(world) as running:
            reply = await running.ask(DOMAIN)
            assert reply == "TEMP too many DNS queries at once", (name, kind)
            world.dns[name, kind] = answer
            assert await running.ask(DOMAIN) == ENFORCED, "it was remembered"


@story
async def test_more_look_ups_than_may_wait_are_refused_at_once() -> None:
    world = World()
    async with daemon(world) as running, asyncio.TaskGroup() as group:
        most = running.answers.plan.lookups.most
        for number in range(most):
            world.sticks(f"d{number}.example", "MX")
            group.create_task(running.ask(f"d{number}.example"))
        await running.until(lambda: running.answers.plan.lookups.under_way() == most)
        assert await running.ask("one.more.example") == "TEMP too many look-ups at once"
        world.lets_go()

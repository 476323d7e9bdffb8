"""The life of an MTA-STS policy: fetched, renewed, changed, withdrawn, lost (RFC 8461)."""

import asyncio
from collections.abc import Callable

import pytest

from postfix_mtasts.core import freshness, mta_sts
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import FetchFailed
from postfix_mtasts.services import lookups
from tests.world import NXDOMAIN, TTL, World, daemon, story

DOMAIN = "example.com"
RECORD = ("_mta-sts.example.com", "TXT")
POLICY_HOST = "mta-sts.example.com"
ENFORCED = "OK secure match=mx.example.com servername=hostname"
NOTHING = "NOTFOUND "
HOUR = 3600
DAY = 24 * HOUR


def protected_world(*, max_age: int = DAY, record_id: str = "1") -> World:
    world = World()
    world.receives_mail(DOMAIN, "mx.example.com")
    world.publishes(DOMAIN, max_age=max_age, record_id=record_id)
    return world


def another_id(world: World, record_id: str) -> None:
    world.has(*RECORD, f"v=STSv1; id={record_id};".encode())


def answers(status: int = 200, content_type: str = "text/plain", body: bytes = b"") -> object:
    return mta_sts.Response(status=status, content_type=content_type, body=body)


@story
async def test_a_policy_is_fetched_at_the_first_mail_and_enforced_from_it_on() -> None:
    async with daemon(protected_world()) as running:
        assert await running.ask(DOMAIN) == ENFORCED


@story
async def test_a_policy_whose_record_and_host_are_gone_expires_after_max_age() -> None:
    world = protected_world(max_age=7200)
    async with daemon(world, refresh=1e9) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.has(*RECORD)
        world.https.clear()
        await running.pass_time(7199)
        assert await running.ask(DOMAIN) == ENFORCED
        await running.pass_time(2)
        assert await running.ask(DOMAIN) == NOTHING


@story
async def test_an_unchanged_id_renews_the_policy_without_a_fetch() -> None:
    world = protected_world(max_age=7200)
    async with daemon(world, refresh=1e9) as running:
        for _ in range(10):
            assert await running.ask(DOMAIN) == ENFORCED
            await running.pass_time(HOUR)
        assert world.fetched[POLICY_HOST] == 1


@story
async def test_an_id_that_changes_is_fetched_within_the_ttl_of_the_record() -> None:
    world = protected_world()
    world.receives_mail(DOMAIN, "mx.example.com", "new.example.com")
    world.publishes(DOMAIN, mx=("mx.example.com",))
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.publishes(DOMAIN, mx=("new.example.com",), record_id="2")
        await running.pass_time(301)
        assert await running.ask(DOMAIN) == "OK secure match=new.example.com servername=hostname"


@story
async def test_a_new_id_is_fetched_at_once_although_the_old_one_failed_minutes_ago() -> None:
    world = protected_world()
    world.has(*RECORD, b"v=STSv1; id=old;", ttl=60)
    document = world.https.pop(POLICY_HOST)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == NOTHING
        another_id(world, "new")
        world.https[POLICY_HOST] = document
        await running.pass_time(61)
        assert await running.ask(DOMAIN) == ENFORCED


@story
async def test_an_id_that_flips_back_and_forth_is_enforced_all_the_time() -> None:
    world = protected_world()
    async with daemon(world, refresh=1e9) as running:
        for fetches in range(1, 7):
            another_id(world, f"{fetches % 2}")
            assert await running.ask(DOMAIN) == ENFORCED
            assert world.fetched[POLICY_HOST] == fetches
            await running.pass_time(301)


@story
async def test_mode_none_under_a_new_id_releases_the_domain_within_the_ttl() -> None:
    world = protected_world(max_age=30 * DAY)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.publishes(DOMAIN, mode="none", mx=(), record_id="2")
        await running.pass_time(299)
        assert await running.ask(DOMAIN) == ENFORCED
        await running.pass_time(2)
        assert await running.ask(DOMAIN) == NOTHING


@story
async def test_testing_under_a_new_id_releases_the_domain_too() -> None:
    world = protected_world(max_age=30 * DAY)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.publishes(DOMAIN, mode="testing", record_id="2")
        await running.pass_time(301)
        assert await running.ask(DOMAIN) == NOTHING


LOSSES: dict[str, Callable[[World], None]] = {
    "the record is gone": lambda world: world.has(*RECORD),
    "the record's name is gone": lambda world: world.dns.update({RECORD: NXDOMAIN}),
    "the record cannot be looked up": lambda world: world.fails(*RECORD),
    "the record is malformed": lambda world: world.has(*RECORD, b"v=STSv1; id=no-good;"),
    "there are two records": lambda world: world.has(*RECORD, b"v=STSv1; id=1;", b"v=STSv1; id=2;"),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
@story
async def test_a_lost_record_leaves_the_policy_in_force_until_its_max_age(
    loss: Callable[[World], None],
) -> None:
    world = protected_world(max_age=DAY)
    async with daemon(world, refresh=1e9) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        loss(world)
        for _ in range(23):
            await running.pass_time(HOUR)
            assert await running.ask(DOMAIN) == ENFORCED
        await running.pass_time(HOUR + 1)
        assert await running.ask(DOMAIN) == NOTHING
        assert world.fetched[POLICY_HOST] == 1


FAILURES: dict[str, object] = {
    "connection refused": None,
    "404": answers(404),
    "500": answers(500),
    "redirect": answers(301),
    "bad certificate": FetchFailed(
        kind=ResultType.STS_WEBPKI_INVALID, why="certificate has expired"
    ),
    "invalid document": answers(body=b"version: STSv2\n"),
    "HTML": answers(content_type="text/html", body=b"<html>"),
    "64 KiB and an octet": answers(body=b"x" * (mta_sts.MAX_POLICY_BYTES + 1)),
}


def failing(world: World, failure: object) -> None:
    world.https.pop(POLICY_HOST)
    if isinstance(failure, FetchFailed | mta_sts.Response):
        world.https[POLICY_HOST] = failure


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
@story
async def test_a_failed_refresh_never_erases_the_cached_policy(failure: object) -> None:
    world = protected_world(max_age=2 * DAY)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        failing(world, failure)
        another_id(world, "2")
        for _ in range(47):
            await running.pass_time(HOUR)
            assert await running.ask(DOMAIN) == ENFORCED
        await running.pass_time(HOUR + 1)
        assert await running.ask(DOMAIN) == NOTHING


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
@story
async def test_a_fetch_that_fails_with_nothing_cached_is_tried_again_after_five_minutes(
    failure: object,
) -> None:
    world = protected_world()
    world.has(*RECORD, b"v=STSv1; id=1;", ttl=7)
    document = world.https[POLICY_HOST]
    failing(world, failure)
    async with daemon(world) as running:
        for _ in range(30):
            assert await running.ask(DOMAIN) == NOTHING
            assert world.fetched[POLICY_HOST] == 1
            await running.pass_time(299 / 30)
        world.https[POLICY_HOST] = document
        await running.pass_time(2)
        assert await running.ask(DOMAIN) == ENFORCED


@story
async def test_a_failed_fetch_is_tried_again_after_five_minutes_whatever_the_ttl() -> None:
    world = World()
    world.receives_mail(DOMAIN, "mx.example.com", ttl=DAY)
    world.publishes(DOMAIN, ttl=DAY)
    world.has("mx.example.com", "AAAA", ttl=DAY)
    document = world.https.pop(POLICY_HOST)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == NOTHING
        world.https[POLICY_HOST] = document
        await running.pass_time(301)
        assert await running.ask(DOMAIN) == ENFORCED


@story
async def test_a_policy_that_runs_out_before_its_record_is_fetched_again() -> None:
    world = World()
    world.receives_mail(DOMAIN, "mx.example.com", ttl=DAY)
    world.publishes(DOMAIN, ttl=DAY, max_age=60)
    world.has("mx.example.com", "AAAA", ttl=DAY)
    async with daemon(world, refresh=1e9) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        await running.pass_time(62)
        assert await running.ask(DOMAIN) == ENFORCED
        assert world.fetched[POLICY_HOST] == 2


class HurriedWorld(World):
    """A world whose clock never stands still."""

    def clock(self) -> float:
        self.now += 0.001
        return self.now


@story
async def test_a_policy_with_max_age_0_binds_the_delivery_for_which_it_was_fetched() -> None:
    world = HurriedWorld()
    world.receives_mail(DOMAIN, "mx.example.com")
    world.publishes(DOMAIN, max_age=0)
    async with daemon(world) as running:
        for _ in range(3):
            assert await running.ask(DOMAIN) == ENFORCED
            await running.pass_time(5)
        assert world.fetched[POLICY_HOST] == 3


@story
async def test_a_huge_max_age_counts_as_a_year() -> None:
    world = protected_world(max_age=9_999_999_999)
    async with daemon(world, refresh=1e9) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.has(*RECORD)
        for _ in range(3):  # in steps, lest the domain be forgotten
            await running.pass_time(mta_sts.MAX_MAX_AGE // 3)
            assert await running.ask(DOMAIN) == ENFORCED
        await running.pass_time(2)
        assert await running.ask(DOMAIN) == NOTHING


@story
async def test_an_older_snapshot_does_not_overwrite_a_newer_policy() -> None:
    """Two next-hops share a policy; the slower look-up began before the id changed."""
    world = protected_world(max_age=DAY)
    world.receives_mail(DOMAIN, "mx.example.com", "new.example.com")
    world.publishes(DOMAIN, mx=("mx.example.com",))
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        await running.pass_time(301)
        world.sticks("mx.example.com", "A")
        slower = running.group.create_task(running.ask(DOMAIN))
        await running.until(lambda: world.asked["mx.example.com", "A"] == 2)
        world.now += 1
        world.publishes(DOMAIN, mx=("example.com",), record_id="2")
        world.has(DOMAIN, "A", "192.0.2.1")
        expected = "OK secure match=example.com servername=hostname"
        assert await running.ask(f"[{DOMAIN}]") == expected
        world.now += 1
        world.lets_go()
        await slower
        await running.pass_time(301)
        world.fails(*RECORD)
        await running.pass_time(301)
        assert await running.ask(f"[{DOMAIN}]") == expected


@story
async def test_a_fetch_quicker_than_dns_is_made_once_and_not_thrown_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    world = protected_world()
    world.sticks("mx.example.com", "A")
    async with daemon(world) as running, asyncio.TaskGroup() as group:
        asking = group.create_task(running.ask(DOMAIN))
        await running.until(lambda: "policy domain=example.com" in caplog.text)
        world.https.clear()
        world.lets_go()
        assert await asking == ENFORCED
    assert world.fetched.total() == 1


@story
async def test_the_policy_in_force_is_told_while_the_host_of_a_new_one_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookups, "EARLY", 0)
    world = protected_world()
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        await running.pass_time(TTL)
        world.publishes(DOMAIN, mode="none", record_id="2")
        world.sticks(POLICY_HOST, "HTTPS")
        assert await running.ask(DOMAIN) == ENFORCED
        world.lets_go()
        await running.idle()
        await running.pass_time(freshness.UNAVAILABLE_SECONDS)
        assert await running.ask(DOMAIN) == NOTHING

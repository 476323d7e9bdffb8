"""Policies fetched once, kept through every failure, each failure told by its kind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from postfix_mtasts.core import freshness, mta_sts
from postfix_mtasts.core.facts import (
    Absent,
    CachedPolicy,
    FailedFetch,
    Lookup,
    Present,
    StsFacts,
    Unavailable,
)
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import FetchFailed
from postfix_mtasts.services.policies import Busy, Policies
from tests.world import START, World, story

DOMAIN = "example.com"
HOST = "mta-sts.example.com"
DAY = 86400


@asynccontextmanager
async def policies(world: World) -> AsyncIterator[Policies]:
    async with asyncio.TaskGroup() as group:
        yield Policies(resolver=world, fetcher=world, clock=world.clock, group=group)


def record(record_id: str = "1") -> Present[mta_sts.Record]:
    found = mta_sts.Record(id=record_id)
    return Present(records=(found,), secure=False, ttl=300, owner=f"_mta-sts.{DOMAIN}")


def published() -> World:
    world = World()
    world.publishes(DOMAIN)
    return world


def cached(record_id: str = "1", checked: float = START) -> CachedPolicy:
    policy = mta_sts.Policy(mode="enforce", mx=("mx.example.com",), max_age=DAY)
    return CachedPolicy(
        record_id=record_id, policy=policy, text=b"old", fetched=checked, checked=checked
    )


KNOWN = StsFacts(cached=cached("0"))


@story
async def test_a_policy_that_is_fetched_is_new_and_current_from_now_on() -> None:
    async with policies(published()) as fetching:
        sts = await fetching.update(DOMAIN, record(), StsFacts(), asked=START)
    assert sts.cached is not None
    assert (sts.cached.record_id, sts.cached.policy.mode) == ("1", "enforce")
    assert (sts.cached.fetched, sts.cached.checked) == (START, START)
    assert sts.cached.text.startswith(b"version: STSv1")
    assert sts.failure is None


@pytest.mark.parametrize(
    ("outcome", "kind", "why"),
    [
        (
            FetchFailed(kind=ResultType.STS_WEBPKI_INVALID, why="certificate has expired"),
            ResultType.STS_WEBPKI_INVALID,
            "certificate has expired",
        ),
        (None, ResultType.STS_POLICY_FETCH_ERROR, f"{HOST}: connection refused"),
        (
            mta_sts.Response(status=404, content_type="text/plain", body=b""),
            ResultType.STS_POLICY_FETCH_ERROR,
            "policy of example.com: the policy host answered 404",
        ),
        (
            mta_sts.Response(status=200, content_type="text/html", body=b""),
            ResultType.STS_POLICY_INVALID,
            "policy of example.com: the policy's media type is 'text/html'",
        ),
        (
            mta_sts.Response(status=200, content_type="text/plain", body=b"version: STSv1\n"),
            ResultType.STS_POLICY_INVALID,
            "policy of example.com: the policy's mode is missing",
        ),
    ],
)
@story
async def test_a_failure_is_remembered_by_its_kind_and_leaves_what_is_cached(
    outcome: mta_sts.Response | FetchFailed | None, kind: ResultType, why: str
) -> None:
    world = published()
    del world.https[HOST]
    if outcome is not None:
        world.https[HOST] = outcome
    async with policies(world) as fetching:
        sts = await fetching.update(DOMAIN, record(), KNOWN, asked=START)
    assert sts.cached == KNOWN.cached
    assert sts.failure is not None
    assert (sts.failure.record_id, sts.failure.at, sts.failure.kind) == ("1", START, kind)
    assert sts.failure.why.startswith(why)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (Absent(secure=False, ttl=300), f"the policy host {HOST} has no address"),
        (Unavailable(why="A mta-sts: SERVFAIL"), "A mta-sts: SERVFAIL"),
    ],
)
@story
async def test_a_policy_host_without_address_is_a_failed_fetch(
    address: Lookup[str], why: str
) -> None:
    world = published()
    world.dns[HOST, "A"] = address
    async with policies(world) as fetching:
        sts = await fetching.update(DOMAIN, record(), StsFacts(), asked=START)
    assert sts.failure is not None
    assert (sts.failure.kind, sts.failure.why) == (ResultType.STS_POLICY_FETCH_ERROR, why)
    assert not world.fetched


@pytest.mark.parametrize("lookup", [Absent(secure=False, ttl=300), Unavailable(why="SERVFAIL")])
@story
async def test_without_a_record_what_is_known_stays_and_nothing_is_fetched(
    lookup: Absent | Unavailable,
) -> None:
    world = published()
    async with policies(world) as fetching:
        fetching.begin(DOMAIN, lookup, KNOWN)
        assert await fetching.update(DOMAIN, lookup, KNOWN, asked=START) is KNOWN
    assert not world.fetched


@story
async def test_an_unchanged_id_proves_the_policy_current_when_it_was_asked_for() -> None:
    world = published()
    world.now = START + 30
    async with policies(world) as fetching:
        sts = await fetching.update(
            DOMAIN, record("0"), StsFacts(cached=cached("0")), asked=START + 20
        )
    assert sts.cached is not None
    assert (sts.cached.fetched, sts.cached.checked) == (START, START + 20)
    assert not world.fetched


@story
async def test_a_fetch_that_failed_for_this_id_is_not_tried_again_too_soon() -> None:
    world = published()
    failure = FailedFetch(
        record_id="1",
        at=START - 200,
        retry_at=START + 100,
        kind=ResultType.STS_POLICY_INVALID,
        why="bad",
    )
    known = StsFacts(failure=failure)
    async with policies(world) as fetching:
        fetching.begin(DOMAIN, record(), known)
        assert await fetching.update(DOMAIN, record(), known, asked=START) is known
        assert not world.fetched
        sts = await fetching.update(DOMAIN, record("2"), known, asked=START)
        assert sts.cached is not None
        assert sts.failure is None, "a success ends the memory of failures"


@story
async def test_a_fetch_that_was_begun_is_the_one_that_is_waited_for() -> None:
    world = published()
    async with policies(world) as fetching:
        fetching.begin(DOMAIN, record(), StsFacts())
        updates = [fetching.update(DOMAIN, record(), StsFacts(), asked=START) for _ in range(20)]
        results = await asyncio.gather(*updates)
    assert all(sts.cached is not None for sts in results)
    assert world.fetched[HOST] == 1


@story
async def test_a_fetch_goes_on_when_who_waits_gives_up() -> None:
    world = published()
    world.sticks(HOST, "HTTPS")
    async with policies(world) as fetching:
        asking = asyncio.ensure_future(fetching.fetch(DOMAIN, "1", StsFacts()))
        while not world.fetched[HOST]:  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0)
        asking.cancel()
        waiting = asyncio.ensure_future(fetching.fetch(DOMAIN, "1", StsFacts()))
        await asyncio.sleep(0)
        world.lets_go()
        assert (await waiting).cached is not None
    assert world.fetched[HOST] == 1


@pytest.mark.parametrize(
    ("lookup", "known", "record_id"),
    [
        (record("7"), StsFacts(cached=cached("0")), "7"),
        (Unavailable(why="SERVFAIL"), StsFacts(cached=cached("0")), "0"),
        (Absent(secure=False, ttl=300), StsFacts(), ""),
    ],
)
@story
async def test_a_refresh_fetches_whatever_the_record_says(
    lookup: Lookup[mta_sts.Record], known: StsFacts, record_id: str
) -> None:
    world = published()
    async with policies(world) as fetching:
        sts = await fetching.refresh(DOMAIN, lookup, known)
    assert sts.cached is not None
    assert sts.cached.record_id == record_id
    assert sts.cached.text != b"old"
    assert world.fetched[HOST] == 1


@story
async def test_a_bug_in_a_fetch_is_no_failure_of_the_domain(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = published()

    async def breaks(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(world, "fetch", breaks)
    async with policies(world) as fetching:
        with pytest.raises(Busy, match="internal error fetching the policy"):
            await fetching.update(DOMAIN, record(), KNOWN, asked=START)
    assert "Traceback" in caplog.text


@story
async def test_a_fetch_that_we_were_too_busy_for_is_no_failure_of_the_domain() -> None:
    world = published()
    kind = ResultType.STS_POLICY_FETCH_ERROR
    world.https["mta-sts.example.com"] = FetchFailed(kind=kind, why="too many fetches", ours=True)
    async with policies(world) as fetching:
        with pytest.raises(Busy, match="too many fetches"):
            await fetching.update(DOMAIN, record(), StsFacts(), asked=START)


@story
async def test_an_address_that_we_were_too_busy_for_is_no_failure_of_the_domain() -> None:
    world = published()
    world.dns["mta-sts.example.com", "A"] = Unavailable(why="too many DNS queries", ours=True)
    world.dns["mta-sts.example.com", "AAAA"] = Unavailable(why="too many DNS queries", ours=True)
    async with policies(world) as fetching:
        with pytest.raises(Busy, match="too many DNS queries"):
            await fetching.update(DOMAIN, record(), StsFacts(), asked=START)


@story
async def test_dns_trouble_at_the_policy_host_is_remembered_for_seconds_only() -> None:
    world = published()
    world.fails("mta-sts.example.com", "A")
    world.fails("mta-sts.example.com", "AAAA")
    async with policies(world) as fetching:
        sts = await fetching.update(DOMAIN, record(), StsFacts(), asked=START)
    assert sts.failure is not None
    assert sts.failure.retry_at == START + freshness.UNAVAILABLE_SECONDS


@story
async def test_the_outcome_of_a_fetch_that_was_begun_counts_however_long_it_is_over() -> None:
    world = published()
    async with policies(world) as fetching:
        begun = fetching.begin(DOMAIN, record(), StsFacts())
        assert begun is not None
        await begun
        world.https.clear()
        sts = await fetching.update(DOMAIN, record(), StsFacts(), asked=START, begun=begun)
    assert sts.cached is not None
    assert world.fetched.total() == 1


@story
async def test_what_was_fetched_and_what_failed_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    world = published()
    async with policies(world) as fetching:
        await fetching.update(DOMAIN, record(), StsFacts(), asked=START)
        world.https.clear()
        await fetching.update(DOMAIN, record("2"), StsFacts(), asked=START)
    assert "policy domain=example.com id=1 mode=enforce max_age=86400" in caplog.text
    assert f"policy domain=example.com id=2 failed: {HOST}: connection refused" in caplog.text

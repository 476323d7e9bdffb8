"""What is counted while the daemon's services answer in a scripted world."""

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.meters import Histogram, Metric
from postfix_mtasts.core.names import NextHop
from postfix_mtasts.ports import Stored
from postfix_mtasts.services import lookups
from postfix_mtasts.services.activity import Activity
from tests.world import World, daemon, story

DOMAIN = "example.com"


def protected_world() -> World:
    world = World()
    world.receives_mail(DOMAIN, "mx.example.com")
    world.publishes(DOMAIN)
    return world


def told(activity: Activity, name: str) -> dict[tuple[str, ...], float]:
    """Return what is told under *name* of which there is any."""
    for metric in activity.metrics():
        if isinstance(metric, Metric) and metric.name == f"postfix_mtasts_{name}":
            return {labels: value for labels, value in metric.samples if value}
    raise AssertionError(f"no metric {name}")


def durations(activity: Activity) -> Histogram:
    [found] = [each for each in activity.metrics() if isinstance(each, Histogram)]
    return found


@story
async def test_fresh_and_cached_answers_are_counted_by_map_level_and_source() -> None:
    async with daemon(protected_world()) as running:
        for _ in range(3):
            await running.ask(DOMAIN)
        await running.ask("other.example")
        await running.ask(DOMAIN, "requiretls")
        activity = running.answers.activity
        assert told(activity, "lookups") == {
            ("policy", "secure", "mta-sts"): 3,
            ("policy", "notfound", "none"): 1,
            ("requiretls", "secure", "mta-sts"): 1,
        }
        assert told(activity, "cache_hits") == {(): 2}
        assert activity.lookups() == 5
        assert durations(activity).buckets[-1][1] == 3


@story
async def test_hits_are_not_forgotten_with_the_answer() -> None:
    async with daemon(protected_world()) as running:
        for _ in range(3):
            await running.ask(DOMAIN)
        running.answers.forget(())
        assert told(running.answers.activity, "cache_hits") == {(): 2}


@story
async def test_what_is_never_looked_up_and_what_is_no_request_are_counted_without_their_text() -> (
    None
):
    async with daemon(World()) as running:
        answers = running.answers
        for payload in (b"policy [192.0.2.1]", b"<evil> x", b"", b"nonsense"):
            assert answers.immediate(payload) is not None
        assert told(answers.activity, "lookups") == {
            ("policy", "notfound", "none"): 1,
            ("unknown", "perm", "error"): 3,
        }


@story
async def test_a_refresh_unasked_is_no_look_up() -> None:
    async with daemon(protected_world()) as running:
        await running.answers.refresh(b"policy example.com")
        assert running.answers.activity.lookups() == 0
        await running.ask(DOMAIN)
        assert told(running.answers.activity, "cache_hits") == {(): 1}


@story
async def test_dns_trouble_is_a_temporary_error_of_kind_dns() -> None:
    world = World(dns_down=True)
    async with daemon(world) as running:
        assert (await running.ask(DOMAIN)).startswith("TEMP ")
        activity = running.answers.activity
        assert told(activity, "temporary_errors") == {("dns",): 1}
        assert told(activity, "lookups") == {("policy", "temp", "error"): 1}


@story
async def test_who_waits_too_long_is_told_so_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "DEADLINE", 0.0)
    world = World()
    world.sticks(DOMAIN, "MX")
    async with daemon(world) as running:
        assert (await running.ask(DOMAIN)).startswith("TEMP still looking")
        assert told(running.answers.activity, "temporary_errors") == {("deadline",): 1}
        world.lets_go()


@story
async def test_too_many_look_ups_are_overload() -> None:
    async with daemon(World()) as running:
        running.answers.plan.lookups.most = 0
        await running.ask(DOMAIN)
        assert told(running.answers.activity, "temporary_errors") == {("overload",): 1}


@story
async def test_a_bug_in_a_look_up_is_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with daemon(World()) as running:
        monkeypatch.setattr(running.store, "load", broken)
        await running.ask(DOMAIN)
        assert told(running.answers.activity, "temporary_errors") == {("internal",): 1}


async def broken(_nexthop: NextHop) -> Stored:
    raise ParseError("a bug", "none")


@story
async def test_fetches_are_counted_by_what_came_of_them() -> None:
    world = protected_world()
    world.publishes("refused.example")
    del world.https["mta-sts.refused.example"]
    async with daemon(world) as running:
        for domain in (DOMAIN, "refused.example"):
            await running.ask(domain)
        assert told(running.answers.activity, "policy_fetches") == {
            ("fetched",): 1,
            ("sts-policy-fetch-error",): 1,
        }


def test_what_can_happen_is_told_as_zero_before_it_does() -> None:
    names = {
        metric.name.removeprefix("postfix_mtasts_"): len(metric.samples)
        for metric in Activity().metrics()
        if isinstance(metric, Metric)
    }
    assert names["temporary_errors"] == 4
    assert names["dns_queries"] == 9
    assert names["policy_fetches"] == 5


def test_what_broke_outside_a_look_up_is_counted_too() -> None:
    activity = Activity()
    activity.broke()
    assert told(activity, "temporary_errors") == {("internal",): 1}

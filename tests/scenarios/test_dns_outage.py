"""DNS fails at one step or at all of them: never a weaker answer, never a lasting one."""

import pytest

from postfix_mtasts.core.decision import Settings
from tests.world import World, daemon, story

DOMAIN = "example.com"
MX = "mx.example.com"
ENFORCED = f"OK secure match={MX} servername=hostname"
NOTHING = "NOTFOUND "
TEMP = "TEMP "


def world_with(*, policy: bool, dane: bool) -> World:
    world = World()
    world.receives_mail(DOMAIN, MX, secure=dane)
    world.has(MX, "AAAA", "2001:db8::1", secure=dane)
    if dane:
        world.has_tlsa(MX)
    if policy:
        world.publishes(DOMAIN)
    return world


STEPS = {
    "MX": (DOMAIN, "MX"),
    "TXT": ("_mta-sts.example.com", "TXT"),
    "A": (MX, "A"),
    "AAAA": (MX, "AAAA"),
    "TLSA": (f"_25._tcp.{MX}", "TLSA"),
    "policy host": ("mta-sts.example.com", "A"),
}

# What is answered while a step fails: at first, with a policy cached; and with none.
OUTAGES = [
    # step, DANE, answer with a policy cached, answer without
    ("MX", False, "OK secure match=*.example.com servername=hostname", TEMP),
    ("MX", True, "OK secure match=*.example.com servername=hostname", TEMP),
    ("TXT", False, ENFORCED, NOTHING),
    ("TXT", True, "OK dane-only", "OK dane-only"),
    ("A", False, ENFORCED, NOTHING),  # the AAAA record will do
    ("A", True, "OK dane-only", "OK dane-only"),
    ("AAAA", False, ENFORCED, NOTHING),
    ("AAAA", True, "OK dane-only", "OK dane-only"),
    ("TLSA", True, TEMP, "OK dane"),
    ("policy host", False, ENFORCED, NOTHING),
    ("policy host", True, "OK dane-only", "OK dane-only"),
]


@pytest.mark.parametrize(("step", "dane", "cached", "_"), OUTAGES)
@story
async def test_a_step_fails_while_a_policy_is_cached(
    step: str, cached: str, _: str, *, dane: bool
) -> None:
    world = world_with(policy=True, dane=dane)
    async with daemon(world) as running:
        before = await running.ask(DOMAIN)
        await running.pass_time(301)
        well = dict(world.dns)
        world.fails(*STEPS[step])
        assert (await running.ask(DOMAIN)).startswith(cached)
        await running.pass_time(3600)
        assert (await running.ask(DOMAIN)).startswith(cached)
        world.dns = well
        await running.pass_time(11)
        assert await running.ask(DOMAIN) == before


@pytest.mark.parametrize(("step", "dane", "_", "bare"), OUTAGES)
@story
async def test_a_step_fails_where_nothing_is_cached(
    step: str, _: str, bare: str, *, dane: bool
) -> None:
    world = world_with(policy=False, dane=dane)
    well = dict(world.dns)
    async with daemon(world) as running:
        world.fails(*STEPS[step])
        assert (await running.ask(DOMAIN)).startswith(bare)
        world.dns = well
        await running.pass_time(301)
        assert await running.ask(DOMAIN) == ("OK dane-only" if dane else NOTHING)


@story
async def test_a_published_policy_whose_record_cannot_be_looked_up_is_found_when_dns_is_back() -> (
    None
):
    world = world_with(policy=True, dane=False)
    well = dict(world.dns)
    async with daemon(world) as running:
        world.fails(*STEPS["TXT"])
        assert await running.ask(DOMAIN) == NOTHING
        world.dns = well
        await running.pass_time(10)
        assert await running.ask(DOMAIN) == ENFORCED


@pytest.mark.parametrize("dane", [False, True])
@story
async def test_a_temporary_error_is_never_cached_and_ends_the_moment_dns_is_back(
    *, dane: bool
) -> None:
    world = world_with(policy=True, dane=dane)
    async with daemon(world) as running:
        world.dns_down = True
        assert await running.ask(DOMAIN) == "TEMP DNS: MX example.com: no answer"
        assert not running.answers.cache.answers
        world.dns_down = False
        assert await running.ask(DOMAIN) == ("OK dane-only" if dane else ENFORCED)


@story
async def test_all_dns_down_leaves_a_cached_policy_in_force() -> None:
    world = world_with(policy=True, dane=False)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.dns_down = True
        await running.pass_time(86400 - 1)
        assert (await running.ask(DOMAIN)).startswith("OK secure ")
        await running.pass_time(2)
        assert (await running.ask(DOMAIN)).startswith(TEMP)


@story
async def test_a_host_that_does_not_resolve_gives_no_temporary_error_for_the_whole_domain() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX, "broken.example.com", "gone.example.com", secure=True)
    world.has_tlsa(MX)
    world.fails("broken.example.com", "A")
    world.fails("broken.example.com", "AAAA")
    del world.dns["gone.example.com", "A"]
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane"


@story
async def test_tlsa_that_cannot_be_looked_up_does_not_downgrade_to_mta_sts() -> None:
    world = world_with(policy=True, dane=True)
    world.fails(*STEPS["TLSA"])
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == (
            f"TEMP DNS: TLSA _25._tcp.{MX}: SERVFAIL from 127.0.0.1"
        )


@story
async def test_an_answer_made_while_a_host_failed_lives_for_seconds() -> None:
    world = world_with(policy=False, dane=True)
    well = dict(world.dns)
    async with daemon(world) as running:
        world.fails(*STEPS["TLSA"])
        assert await running.ask(DOMAIN) == "OK dane"
        world.dns = well
        await running.pass_time(10)
        assert await running.ask(DOMAIN) == "OK dane-only"


@story
async def test_another_map_learns_of_recovered_dns_at_once() -> None:
    """What failed is not served from the store, not even for seconds."""
    world = world_with(policy=False, dane=True)
    well = dict(world.dns)
    async with daemon(world) as running:
        world.fails(*STEPS["TLSA"])
        assert await running.ask(DOMAIN) == "OK dane"
        world.dns = well
        assert await running.ask(DOMAIN, "policy-tlsrpt") == "OK dane-only"


@story
async def test_dane_switched_off_asks_for_no_hosts_and_never_fails_for_them() -> None:
    world = world_with(policy=True, dane=True)
    world.fails(*STEPS["TLSA"])
    async with daemon(world, settings=Settings(dane=False)) as running:
        assert await running.ask(DOMAIN) == ENFORCED
    assert not any(kind == "TLSA" for _, kind in world.asked)

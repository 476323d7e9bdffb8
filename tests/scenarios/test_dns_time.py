"""DNS facts live as long as the lowest TTL among them, denials included."""

import pytest

from postfix_mtasts.core import tlsa
from tests.world import World, daemon, story

DOMAIN = "example.com"
MX = "mx.example.com"
TLSA = f"_25._tcp.{MX}"
LONG = 86400


def protected_by_dane(*, tlsa: bool = True) -> World:
    """Return a world in which all lives long."""
    world = World()
    world.receives_mail(DOMAIN, MX, secure=True, ttl=LONG)
    world.has(MX, "AAAA", secure=True, ttl=LONG)
    world.has("_mta-sts.example.com", "TXT", ttl=LONG)
    if tlsa:
        world.has_tlsa(MX, ttl=LONG)
    else:
        world.has(TLSA, "TLSA", secure=True, ttl=LONG)
    return world


def shorten(world: World, name: str, kind: str, ttl: int) -> None:
    found = world.dns[name, kind]
    records = getattr(found, "records", ())
    world.has(name, kind, *records, secure=True, ttl=ttl)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (DOMAIN, "MX"),
        (MX, "A"),
        pytest.param(MX, "AAAA", id="denial of an address"),
        (TLSA, "TLSA"),
        pytest.param("_mta-sts.example.com", "TXT", id="denial of the record"),
    ],
)
@story
async def test_the_lowest_ttl_ends_the_answer(name: str, kind: str) -> None:
    world = protected_by_dane()
    shorten(world, name, kind, 40)
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        asked = world.asked.copy()
        await running.pass_time(39)
        await running.ask(DOMAIN)
        assert world.asked == asked
        await running.pass_time(1)
        await running.ask(DOMAIN)
        assert world.asked[name, kind] == 2


@story
async def test_tlsa_records_that_appear_count_when_their_denial_runs_out() -> None:
    world = protected_by_dane(tlsa=False)
    shorten(world, TLSA, "TLSA", 60)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "NOTFOUND "
        world.has_tlsa(MX)
        await running.pass_time(59)
        assert await running.ask(DOMAIN) == "NOTFOUND "
        await running.pass_time(1)
        assert await running.ask(DOMAIN) == "OK dane-only"


@story
async def test_tlsa_records_that_disappear_count_until_their_ttl() -> None:
    world = protected_by_dane()
    shorten(world, TLSA, "TLSA", 60)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only"
        world.has(TLSA, "TLSA", secure=True)
        await running.pass_time(59)
        assert await running.ask(DOMAIN) == "OK dane-only"
        await running.pass_time(1)
        assert await running.ask(DOMAIN) == "NOTFOUND "


@story
async def test_tlsa_records_that_become_unusable_ask_for_encryption_still() -> None:
    world = protected_by_dane()
    shorten(world, TLSA, "TLSA", 60)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only"
        world.has_tlsa(MX, usable=False)
        await running.pass_time(60)
        assert await running.ask(DOMAIN) == "OK dane"


@story
async def test_the_match_follows_the_mx_set_within_its_ttl() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX, ttl=60)
    world.publishes(DOMAIN)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == f"OK secure match={MX} servername=hostname"
        world.receives_mail(DOMAIN, "b.example.com", MX, "elsewhere.example.net", ttl=60)
        await running.pass_time(60)
        assert (
            await running.ask(DOMAIN) == f"OK secure match=b.example.com:{MX} servername=hostname"
        )


@story
async def test_the_match_is_ordered_by_preference_then_name_whatever_the_order_of_records() -> None:
    world = World()
    hosts = [f"{letter}.example.com" for letter in "dbca"]
    world.receives_mail(DOMAIN, *hosts)
    world.publishes(DOMAIN)
    async with daemon(world) as running:
        expected = f"OK secure match={':'.join(hosts)} servername=hostname"
        assert await running.ask(DOMAIN) == expected
        found = world.dns[DOMAIN, "MX"]
        world.has(DOMAIN, "MX", *reversed(getattr(found, "records", ())))
        await running.pass_time(301)
        assert await running.ask(DOMAIN) == expected


@story
async def test_a_domain_that_begins_to_exist_is_asked_for_mx_hosts() -> None:
    world = World()
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "NOTFOUND "
        world.receives_mail(DOMAIN, MX, secure=True)
        world.has_tlsa(MX)
        await running.pass_time(300)
        assert await running.ask(DOMAIN) == "OK dane-only"


@story
async def test_one_usable_record_beside_unusable_ones_is_enough() -> None:
    world = protected_by_dane()
    unusable = tlsa.Record(usage=0, selector=0, matching_type=1, data=bytes(32))
    digest = tlsa.Record(usage=2, selector=0, matching_type=2, data=bytes(64))
    world.has(TLSA, "TLSA", unusable, digest, secure=True)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only"


@story
async def test_ttl_0_is_used_once_and_not_kept() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX, ttl=0)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "NOTFOUND "
        assert not running.answers.cache.answers
        await running.ask(DOMAIN)
        assert world.asked[DOMAIN, "MX"] == 2

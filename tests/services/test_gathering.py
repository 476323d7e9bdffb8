"""What is asked of DNS, in which order, and what becomes of the answers."""

import asyncio
from collections.abc import Callable

import pytest

from postfix_mtasts.core.facts import Absent, HostFacts, Mx, Present, Unavailable
from postfix_mtasts.core.names import NextHop, parse_nexthop
from postfix_mtasts.services import gathering
from postfix_mtasts.services.gathering import (
    gather_addresses,
    gather_hosts,
    gather_mx,
    gather_record,
    gather_tlsrpt,
    has_policy_domain,
)
from tests.world import World, story

DOMAIN = "example.com"
MX = "mx.example.com"
RECORD = ("_mta-sts.example.com", "TXT")
NEXTHOP = parse_nexthop(DOMAIN.encode())


def mx_of(*hosts: str, secure: bool = True) -> Present[Mx]:
    records = tuple(Mx(preference=n, host=host) for n, host in enumerate(hosts))
    return Present(records=records, secure=secure, ttl=300, owner=DOMAIN)


async def host_of(world: World, nexthop: NextHop = NEXTHOP) -> HostFacts:
    (host,), omitted = await gather_hosts(world, nexthop, mx_of(MX))
    assert omitted == 0
    return host


@pytest.mark.parametrize(
    ("key", "applies"),
    [
        (b"example.com", True),
        (b"[example.com]", True),
        (b"example.com:25", True),
        (b"example.com:587", False),
        (b"[example.com]:465", False),
    ],
)
def test_mta_sts_is_about_port_25_alone(key: bytes, *, applies: bool) -> None:
    assert has_policy_domain(parse_nexthop(key)) is applies


@story
async def test_mx_records_are_asked_for_a_domain_and_not_for_a_host() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX)
    assert isinstance(await gather_mx(world, NEXTHOP), Present)
    assert await gather_mx(world, parse_nexthop(b"[example.com]")) is None


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ((b"v=STSv1; id=a1;",), "a1"),
        ((b"v=spf1 -all", b"v=STSv1; id=a1"), "a1"),
        ((b"v=spf1 -all",), ""),
        ((b"v=STSv1; id=a1;", b"v=STSv1; id=a1;"), "2 STSv1 records"),
        ((b"v=STSv1; id=a_1;",), "is not 1 to 32 letters and digits"),
        ((b"v=STSv1; id=" + b"a" * 33,), "is not 1 to 32 letters and digits"),
        ((b"v=STSv1;",), "id"),
        ((b"\xff\x00",), ""),
    ],
)
@story
async def test_the_record_is_the_one_that_parses(texts: tuple[bytes, ...], found: str) -> None:
    world = World()
    world.has(*RECORD, *texts, secure=True, ttl=77)
    lookup = await gather_record(world, DOMAIN)
    assert not isinstance(lookup, Unavailable)
    assert (lookup.secure, lookup.ttl) == (True, 77)
    if isinstance(lookup, Present):
        assert lookup.records[0].id == found
    else:
        assert found in lookup.why
        assert bool(found) is bool(lookup.why)


@story
async def test_no_record_and_no_answer_are_told_apart() -> None:
    world = World()
    assert isinstance(await gather_record(world, DOMAIN), Absent)
    world.fails(*RECORD)
    assert isinstance(await gather_record(world, DOMAIN), Unavailable)


@story
async def test_the_tlsrpt_record_stands_at_a_name_of_its_own() -> None:
    world = World()
    world.has("_smtp._tls.example.com", "TXT", b"v=TLSRPTv1; rua=https://example.com/r")
    lookup = await gather_tlsrpt(world, DOMAIN)
    assert isinstance(lookup, Present)
    assert lookup.records[0].rua == ("https://example.com/r",)


@story
async def test_both_kinds_of_address_are_asked_for_side_by_side() -> None:
    world = World()
    world.has(MX, "A", "192.0.2.1", secure=True)
    world.has(MX, "AAAA", "2001:db8::1", secure=False, ttl=60)
    world.sticks(MX, "A")
    asking = asyncio.ensure_future(gather_addresses(world, MX))
    while not world.asked[MX, "AAAA"]:  # noqa: ASYNC110 - nothing tells when
        await asyncio.sleep(0)
    world.lets_go()
    addresses = await asking
    assert addresses == Present(
        records=("192.0.2.1", "2001:db8::1"), secure=False, ttl=60, owner=MX
    )


@story
async def test_hosts_are_looked_up_at_once_and_named_by_preference() -> None:
    world = World()
    for host in ("a.example", "b.example", "c.example"):
        world.has(host, "A", "192.0.2.1")
    world.sticks("b.example", "A")
    asking = asyncio.ensure_future(
        gather_hosts(world, NEXTHOP, mx_of("b.example", "c.example", "a.example"))
    )
    while not world.asked["a.example", "A"]:  # noqa: ASYNC110 - nothing tells when
        await asyncio.sleep(0)
    world.lets_go()
    hosts, _ = await asking
    assert [host.name for host in hosts] == ["b.example", "c.example", "a.example"]


@story
async def test_no_more_hosts_are_examined_than_the_limit_and_the_best_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "MAX_HOSTS", 2)
    hosts, omitted = await gather_hosts(World(), NEXTHOP, mx_of("c.x", "b.x", "a.x"))
    assert [host.name for host in hosts] == ["c.x", "b.x"]
    assert omitted == 1


@pytest.mark.parametrize("mx", [Unavailable(why="SERVFAIL"), mx_of("")])
@story
async def test_without_known_mx_hosts_nothing_is_asked(mx: Present[Mx] | Unavailable) -> None:
    world = World()
    assert await gather_hosts(world, NEXTHOP, mx) == ((), 0)
    assert not world.asked


@story
async def test_an_mx_host_that_is_an_address_is_its_own_insecure_address() -> None:
    world = World()
    (host,), _ = await gather_hosts(world, NEXTHOP, mx_of("192.0.2.7"))
    assert isinstance(host.addresses, Present)
    assert host.addresses.records == ("192.0.2.7",)
    assert not host.addresses.secure
    assert host.tlsa is None
    assert not world.asked


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda world: world.has(MX, "A", "192.0.2.1"), id="insecure address"),
        pytest.param(lambda world: world.has(MX, "A", secure=True), id="no address"),
        pytest.param(lambda world: world.fails(MX, "A"), id="address not to be had"),
    ],
)
@story
async def test_tlsa_is_asked_below_secure_addresses_only(prepare: Callable[[World], None]) -> None:
    world = World()
    world.has(MX, "AAAA", secure=True)
    prepare(world)
    assert (await host_of(world)).tlsa is None
    assert not any(kind == "TLSA" for _, kind in world.asked)


@story
async def test_the_port_is_part_of_the_tlsa_name() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX, secure=True)
    world.has(MX, "AAAA", secure=True)
    await host_of(world, parse_nexthop(b"example.com:587"))
    assert world.asked[f"_587._tcp.{MX}", "TLSA"] == 1
    assert world.asked[f"_25._tcp.{MX}", "TLSA"] == 0


def alias(*, chain: bool) -> World:
    """Return a world whose host is a secure alias, into a signed zone or not."""
    world = World()
    world.has("end.example.net", "A", "192.0.2.1", secure=chain)
    world.has("end.example.net", "AAAA", secure=chain)
    world.aliased(MX, "end.example.net")
    return world


@story
async def test_at_the_end_of_secure_aliases_insecure_records_give_way_to_the_hosts_own() -> None:
    world = alias(chain=True)
    record = b"not looked at"
    world.has("_25._tcp.end.example.net", "TLSA", record, secure=False)
    world.has_tlsa(MX)
    tlsa = (await host_of(world)).tlsa
    assert isinstance(tlsa, Present)
    assert tlsa.owner == f"_25._tcp.{MX}"


@story
async def test_a_failure_at_the_end_of_secure_aliases_is_the_outcome() -> None:
    world = alias(chain=True)
    world.fails("_25._tcp.end.example.net", "TLSA")
    world.has_tlsa(MX)
    assert isinstance((await host_of(world)).tlsa, Unavailable)


@story
async def test_an_alias_out_of_dnssec_counts_only_while_it_is_secure_itself() -> None:
    world = alias(chain=False)
    world.has_tlsa(MX)
    assert isinstance((await host_of(world)).tlsa, Present)
    world.has(MX, "CNAME", "end.example.net", secure=False)
    assert (await host_of(world)).tlsa is None
    world.has(MX, "CNAME")
    assert (await host_of(world)).tlsa is None
    world.fails(MX, "CNAME")
    assert isinstance((await host_of(world)).tlsa, Unavailable)

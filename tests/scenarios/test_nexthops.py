"""What Postfix may ask for: brackets, ports, aliases, hosts of all kinds."""

import pytest

from tests.world import NXDOMAIN, World, daemon, story

DOMAIN = "example.com"
MX = "mx.example.com"
HOST = "relay.example.com"
ENFORCED = f"OK secure match={MX} servername=hostname"
NOTHING = "NOTFOUND "


def host_world() -> World:
    world = World()
    world.has(HOST, "A", "192.0.2.1", secure=True)
    world.has(HOST, "AAAA", secure=True)
    return world


@story
async def test_a_host_in_brackets_is_asked_for_no_mx_records() -> None:
    world = host_world()
    world.has_tlsa(HOST)
    async with daemon(world) as running:
        assert await running.ask(f"[{HOST}]") == "OK dane-only"
    assert (HOST, "MX") not in world.asked


@story
async def test_a_host_in_brackets_may_have_a_policy_of_its_own() -> None:
    world = host_world()
    world.publishes(HOST, mx=(HOST,))
    async with daemon(world) as running:
        assert await running.ask(f"[{HOST}]") == f"OK secure match={HOST} servername=hostname"


@pytest.mark.parametrize("key", [f"[{HOST}]:587", f"[{HOST}]:submission", f"{HOST}:587"])
@story
async def test_another_port_has_its_own_tlsa_records_and_no_mta_sts(key: str) -> None:
    world = host_world()
    world.has(HOST, "MX", secure=True)
    world.has_tlsa(HOST)
    world.publishes(HOST, mx=(HOST,))
    async with daemon(world) as running:
        assert await running.ask(key) == NOTHING
        world.dns[f"_587._tcp.{HOST}", "TLSA"] = world.dns[f"_25._tcp.{HOST}", "TLSA"]
        await running.pass_time(301)
        assert await running.ask(key) == "OK dane-only"
    assert (f"_mta-sts.{HOST}", "TXT") not in world.asked
    assert (f"_25._tcp.{HOST}", "TLSA") not in world.asked
    assert not world.fetched


@story
async def test_another_port_does_not_disturb_the_policy_of_the_domain() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX)
    world.publishes(DOMAIN)
    async with daemon(world, refresh=1e9) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.dns_down = True
        await running.pass_time(3600)
        await running.ask(f"{DOMAIN}:587")
        await running.ask(f"[{DOMAIN}]:587")
        assert (await running.ask(DOMAIN)).startswith("OK secure ")


@story
async def test_a_secure_alias_at_the_domain_keeps_dane() -> None:
    world = World()
    world.receives_mail("target.example", MX, secure=True)
    world.has_tlsa(MX)
    world.has(MX, "AAAA", secure=True)
    world.aliased(DOMAIN, "target.example")
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only"


@story
async def test_an_insecure_alias_at_the_domain_leaves_half_dane() -> None:
    world = World()
    world.receives_mail("target.example", MX, secure=True)
    world.has_tlsa(MX)
    world.has(MX, "AAAA", secure=True)
    world.aliased(DOMAIN, "target.example", secure=False)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane"


def aliased_host(*, chain_secure: bool, alias_secure: bool) -> World:
    world = World()
    world.receives_mail(DOMAIN, MX, secure=True)
    world.has("real.example.net", "A", "192.0.2.9", secure=chain_secure)
    world.has("real.example.net", "AAAA", secure=chain_secure)
    world.aliased(MX, "real.example.net", secure=alias_secure)
    return world


@story
async def test_a_secure_alias_of_a_host_has_its_tlsa_records_at_the_end_of_the_chain() -> None:
    world = aliased_host(chain_secure=True, alias_secure=True)
    world.has_tlsa("real.example.net")
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only"


@story
async def test_a_secure_alias_of_a_host_may_have_tlsa_records_of_its_own() -> None:
    world = aliased_host(chain_secure=True, alias_secure=True)
    world.has_tlsa(MX)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only"


@story
async def test_records_at_the_end_of_the_chain_that_fail_are_not_replaced_by_the_hosts_own() -> (
    None
):
    world = aliased_host(chain_secure=True, alias_secure=True)
    world.has_tlsa(MX)
    world.fails("_25._tcp.real.example.net", "TLSA")
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane"


@story
async def test_a_secure_alias_into_an_unsigned_zone_has_its_tlsa_records_at_its_own_name() -> None:
    world = aliased_host(chain_secure=False, alias_secure=True)
    world.has_tlsa(MX)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only"
    assert ("_25._tcp.real.example.net", "TLSA") not in world.asked


@story
async def test_an_insecure_alias_has_no_tlsa_records() -> None:
    world = aliased_host(chain_secure=False, alias_secure=False)
    world.has_tlsa(MX)
    world.sticks(f"_25._tcp.{MX}", "TLSA")  # such name servers often do not answer
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == NOTHING


@story
async def test_an_alias_that_cannot_be_judged_is_left_to_postfix() -> None:
    world = aliased_host(chain_secure=False, alias_secure=True)
    world.has_tlsa(MX)
    world.fails(MX, "CNAME")
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane"


@story
async def test_an_insecure_host_is_never_asked_for_tlsa() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX)
    world.has_tlsa(MX)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == NOTHING
    assert not any(kind == "TLSA" for _, kind in world.asked)


@story
async def test_dane_only_needs_every_mx_host_to_be_capable() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX, "plain.example.com", secure=True)
    for host in (MX, "plain.example.com"):
        world.has(host, "AAAA", secure=True)
    world.has_tlsa(MX)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane"
        assert await running.ask(DOMAIN, "requiretls") == "OK dane-only"


@story
async def test_an_unsigned_domain_is_never_dane_only() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX, secure=True)
    world.has(DOMAIN, "MX", *getattr(world.dns[DOMAIN, "MX"], "records", ()), secure=False)
    world.has(MX, "AAAA", secure=True)
    world.has_tlsa(MX)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane"
        world.publishes(DOMAIN)
        await running.pass_time(301)
        assert await running.ask(DOMAIN) == ENFORCED


@story
async def test_an_mx_host_without_addresses_does_not_count_as_a_dane_host() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX, "empty.example.com", secure=True)
    world.has(MX, "AAAA", secure=True)
    world.has_tlsa(MX)
    world.has_tlsa("empty.example.com")
    world.has("empty.example.com", "A", secure=True)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only", "the others decide"
        world.has(MX, "A", secure=True)
        await running.pass_time(301)
        assert await running.ask(DOMAIN) == NOTHING, "no host is left"


@story
async def test_a_host_that_does_not_exist_does_not_stop_dane_only() -> None:
    world = World()
    world.receives_mail(DOMAIN, MX, "gone.example.com", secure=True)
    world.has(MX, "AAAA", secure=True)
    world.has_tlsa(MX)
    world.dns["gone.example.com", "A"] = NXDOMAIN
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only"


@story
async def test_a_domain_without_mx_records_is_its_own_host() -> None:
    world = World()
    world.has(DOMAIN, "MX", secure=True)
    world.has(DOMAIN, "A", "192.0.2.1", secure=True)
    world.has(DOMAIN, "AAAA", secure=True)
    world.publishes(DOMAIN, mx=(DOMAIN,))
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == f"OK secure match={DOMAIN} servername=hostname"
        world.has_tlsa(DOMAIN)
        await running.pass_time(301)
        assert await running.ask(DOMAIN) == "OK dane-only"


@story
async def test_a_null_mx_has_no_hosts_and_no_answer() -> None:
    world = World()
    world.receives_mail(DOMAIN, "", secure=True)
    del world.dns["", "A"]
    world.has_tlsa(DOMAIN)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == NOTHING
    assert all(kind in {"MX", "TXT"} for _, kind in world.asked)


@story
async def test_an_mx_record_that_names_an_address_stops_nothing() -> None:
    world = World()
    world.receives_mail(DOMAIN, "192.0.2.7", MX, secure=True)
    world.has(MX, "AAAA", secure=True)
    world.has_tlsa(MX)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane"
        world.publishes(DOMAIN)
        await running.pass_time(301)
        assert await running.ask(DOMAIN) == ENFORCED
    assert ("192.0.2.7", "A") not in world.asked


@story
async def test_no_permitted_mx_host_makes_the_mail_wait() -> None:
    world = World()
    world.receives_mail(DOMAIN, "mx.attacker.example")
    world.publishes(DOMAIN)
    async with daemon(world) as running:
        expected = "OK secure match=*.example.com servername=hostname"
        assert await running.ask(DOMAIN) == expected


@pytest.mark.parametrize(
    "key",
    ["192.0.2.1", "[192.0.2.1]", "[IPv6:2001:db8::1]:25", ".example.com", ".com", "", "a b", "/x"],
)
@story
async def test_what_no_policy_can_be_about_is_answered_without_dns(key: str) -> None:
    world = World()
    async with daemon(world) as running:
        assert await running.ask(key) == NOTHING
    assert not world.asked

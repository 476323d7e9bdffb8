"""Every map, the operator's own answers, and a configuration that is read again."""

import json
from typing import Any

import pytest

from postfix_mtasts.core.decision import Settings
from postfix_mtasts.core.overrides import Override
from postfix_mtasts.core.postfix_policy import Level
from postfix_mtasts.services import lookups
from tests.world import Daemon, World, daemon, story

DOMAIN = "example.com"
MX = "mx.example.com"
ENFORCED = f"OK secure match={MX} servername=hostname"
DESCRIBED = (
    " policy_type=sts policy_domain=example.com { policy_string = version: STSv1 }"
    " { policy_string = mode: %s } { policy_string = mx: *.example.com }"
    " { policy_string = max_age: 86400 } mx_host_pattern=*.example.com"
)
NOTHING = "NOTFOUND "


def world_of(mode: Any = "enforce", *, dane: bool = False) -> World:
    world = World()
    world.receives_mail(DOMAIN, MX, secure=dane)
    world.has(MX, "AAAA", secure=dane)
    if dane:
        world.has_tlsa(MX)
    if mode:
        world.publishes(DOMAIN, mode=mode)
    return world


def override(
    domain: str,
    *,
    subtree: bool = False,
    level: Level | None = None,
    minimum: Level | None = None,
    ciphers: str | None = None,
) -> Override:
    return Override(
        domain=domain,
        subtree=subtree,
        level=level,
        minimum=minimum,
        match=(),
        servername=None,
        protocols=None,
        ciphers=ciphers,
    )


@pytest.mark.parametrize(
    ("map_name", "reply"),
    [
        ("policy", ENFORCED),
        ("postfix", ENFORCED),
        ("QUERY", ENFORCED),
        ("requiretls", ENFORCED),
        ("policy-tlsrpt", ENFORCED + DESCRIBED % "enforce"),
        ("QUERYwithTLSRPT", ENFORCED + DESCRIBED % "enforce"),
    ],
)
@story
async def test_each_map_answers_an_enforced_policy_in_its_way(map_name: str, reply: str) -> None:
    async with daemon(world_of()) as running:
        for _ in range(2):  # from a look-up, then from memory
            answered = await running.ask(DOMAIN, map_name)
            assert sorted(answered.split(" { ")) == sorted(reply.split(" { "))


@story
async def test_a_policy_in_testing_mode_is_reported_not_enforced() -> None:
    async with daemon(world_of("testing")) as running:
        assert await running.ask(DOMAIN) == NOTHING
        described = await running.ask(DOMAIN, "policy-tlsrpt")
        assert described == "OK may" + DESCRIBED % "testing"


@story
async def test_testing_mode_weakens_no_stronger_level_of_main_cf() -> None:
    settings = Settings(default_level=Level.ENCRYPT)
    async with daemon(world_of("testing"), settings=settings) as running:
        assert await running.ask(DOMAIN, "policy-tlsrpt") == NOTHING


@story
async def test_the_attributes_are_there_once_however_often_they_are_asked_for() -> None:
    async with daemon(world_of()) as running:
        replies = {await running.ask(DOMAIN, "policy-tlsrpt") for _ in range(5)}
        assert len(replies) == 1
        assert replies.pop().count("policy_type=") == 1


@story
async def test_requiretls_without_any_authentication_cannot_be_met_in_the_clear() -> None:
    async with daemon(world_of(mode=None)) as running:
        expected = "OK secure match=nexthop servername=hostname"
        assert await running.ask(DOMAIN, "requiretls") == expected


@story
async def test_an_unknown_map_and_a_broken_request_are_permanent_errors_that_say_why() -> None:
    async with daemon(World()) as running:
        assert await running.ask(DOMAIN, "policies") == "PERM unknown map policies"
        assert (running.answers.immediate(b"policy") or b"").startswith(b"PERM request is not")
        assert not running.answers.cache.answers


# --- explain ------------------------------------------------------------------------------


async def explained(running: Daemon, key: str) -> dict[str, Any]:
    word, _, text = (await running.ask(key, "explain")).partition(" ")
    assert word == "OK"
    document = json.loads(text)
    assert isinstance(document, dict)
    return document


@story
async def test_the_explanation_has_the_reply_and_what_led_to_it() -> None:
    world = world_of()
    world.has("_smtp._tls.example.com", "TXT", b"v=TLSRPTv1; rua=mailto:tls@example.com")
    async with daemon(world) as running:
        document = await explained(running, "EXAMPLE.com")
        assert document["verdict"]["reply"] == ENFORCED
        assert document["mta_sts"]["mode"] == "enforce"
        assert document["tlsrpt"]["rua"] == ["mailto:tls@example.com"]
        assert not running.answers.cache.answers


@story
async def test_the_explanation_of_a_key_that_is_none_asks_for_nothing() -> None:
    world = World()
    async with daemon(world) as running:
        assert (await explained(running, "[192.0.2.1]"))["verdict"]["reply"] == NOTHING
        assert (await explained(running, "no host"))["nexthop"] is None
    assert not world.asked


@story
async def test_the_explanation_of_a_look_up_that_does_not_end_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = world_of()
    world.sticks(DOMAIN, "MX")
    own = override("partner.example", level=Level.ENCRYPT)
    world.sticks("partner.example", "MX")
    async with daemon(world, settings=Settings(overrides=(own,))) as running:
        monkeypatch.setattr(lookups, "DEADLINE", 0.05)
        document = await explained(running, DOMAIN)
        assert document["verdict"]["reply"].startswith("TEMP still looking example.com up")
        document = await explained(running, "partner.example")
        assert document["verdict"]["reply"] == "OK encrypt", "the operator's answer needs no facts"
        world.lets_go()


@story
async def test_the_explanation_of_the_largest_answers_fits_into_a_reply() -> None:
    world = World()
    hosts = [f"mx{n}.{'a' * 60}.example.com" for n in range(1000)]
    world.receives_mail(DOMAIN, *hosts, secure=True)
    for host in hosts:
        world.has(host, "AAAA", secure=True)
        world.has_tlsa(host)
        record = getattr(world.dns[f"_25._tcp.{host}", "TLSA"], "records", ())
        world.has(f"_25._tcp.{host}", "TLSA", *record * 200, secure=True)
    world.publishes(DOMAIN, mx=tuple(hosts[:500]))
    async with daemon(world) as running:
        assert (await explained(running, DOMAIN))["note"].startswith("shortened")


# --- the operator's own answers -------------------------------------------------------------


@story
async def test_an_override_with_a_level_needs_no_dns_at_all() -> None:
    world = world_of()
    own = override("example.com", level=Level.VERIFY)
    async with daemon(world, settings=Settings(overrides=(own,))) as running:
        assert running.answers.immediate(b"policy Example.COM") == b"OK verify"
        assert await running.ask("[example.com]:587") == "OK verify"
        assert len(running.answers.cache.answers) == 2
    assert not world.asked


@story
async def test_an_override_may_be_weaker_than_what_dane_asks_for_but_not_under_requiretls() -> None:
    own = override("example.com", level=Level.NONE)
    settings = Settings(overrides=(own,))
    async with daemon(world_of(dane=True), settings=settings) as running:
        assert await running.ask(DOMAIN) == "OK none"
        assert await running.ask(DOMAIN, "requiretls") != "OK none"


@story
async def test_an_override_with_a_minimum_is_raised_by_dane_and_mta_sts() -> None:
    own = override("example.com", minimum=Level.ENCRYPT, ciphers="high")
    world = world_of()
    async with daemon(world, settings=Settings(overrides=(own,))) as running:
        assert await running.ask(DOMAIN) == f"{ENFORCED} ciphers=high"
        world.publishes(DOMAIN, mode="none", mx=(), record_id="2")
        await running.pass_time(301)
        assert await running.ask(DOMAIN) == "OK encrypt ciphers=high"


@story
async def test_an_override_of_a_subtree_leaves_others_alone() -> None:
    own = override("example.com", subtree=True, level=Level.ENCRYPT)
    async with daemon(world_of(), settings=Settings(overrides=(own,))) as running:
        assert await running.ask("a.b.example.com") == "OK encrypt"
        assert await running.ask(DOMAIN) == ENFORCED


# --- a configuration that is read again -------------------------------------------------------


@story
async def test_a_reload_answers_by_the_new_settings_from_then_on() -> None:
    own = override("example.com", level=Level.ENCRYPT)
    async with daemon(world_of()) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        running.answers.reload(running.plan(Settings(overrides=(own,))))
        assert await running.ask(DOMAIN) == "OK encrypt"
        running.answers.reload(running.plan(Settings()))
        assert await running.ask(DOMAIN) == ENFORCED


@story
async def test_a_look_up_under_way_at_a_reload_leaves_no_answer_of_the_old_settings() -> None:
    world = world_of()
    world.sticks(DOMAIN, "MX")
    own = override("example.com", minimum=Level.ENCRYPT, ciphers="high")
    async with daemon(world) as running:
        asking = running.group.create_task(running.ask(DOMAIN))
        await running.until(lambda: world.asked[DOMAIN, "MX"] == 1)
        running.answers.reload(running.plan(Settings(overrides=(own,))))
        world.lets_go()
        assert await asking == ENFORCED, "it was asked under the old settings"
        assert not running.answers.cache.answers
        assert await running.ask(DOMAIN) == f"{ENFORCED} ciphers=high"


@story
async def test_an_answer_to_be_refreshed_at_a_reload_follows_the_new_settings() -> None:
    world = world_of()
    own = override("example.com", level=Level.ENCRYPT)
    async with daemon(world) as running:
        for _ in range(3):
            await running.ask(DOMAIN)
        world.now += 280
        world.sticks(DOMAIN, "MX")
        running.upkeep.tick(running.group)
        await running.until(lambda: world.asked[DOMAIN, "MX"] == 2)
        running.answers.reload(running.plan(Settings(overrides=(own,))))
        world.lets_go()
        await running.idle()
        assert await running.ask(DOMAIN) == "OK encrypt"

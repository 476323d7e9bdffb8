"""From a request to its reply: what is answered at once, what is kept, what is logged."""

import pytest

from postfix_mtasts.core.decision import Settings
from postfix_mtasts.core.overrides import Override
from postfix_mtasts.core.postfix_policy import Level
from postfix_mtasts.services import lookups
from postfix_mtasts.services.answers import MAPS, lookable
from tests.world import START, World, daemon, story

DOMAIN = "example.com"
MX = "mx.example.com"
ENFORCED = f"OK secure match={MX} servername=hostname"


def protected_world(*, ttl: int = 300) -> World:
    world = World()
    world.receives_mail(DOMAIN, MX, ttl=ttl)
    world.publishes(DOMAIN)
    return world


def own_answer(level: Level | None, minimum: Level | None = None) -> Settings:
    override = Override(
        domain=DOMAIN,
        subtree=False,
        level=level,
        minimum=minimum,
        match=(),
        servername=None,
        protocols=None,
        ciphers=None,
    )
    return Settings(overrides=(override,))


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        (b"", b"PERM request is not a map name"),
        (b"policy", b"PERM request is not a map name"),
        (b" example.com", b"PERM request is not a map name"),
        (b"Policy example.com", b"PERM unknown map Policy"),
        (b"\xffpolicy example.com", b"PERM unknown map \\xffpolicy"),
        (b"policy .example.com", b"NOTFOUND "),
        (b"policy [192.0.2.1]", b"NOTFOUND "),
        (b"policy \xff", b"NOTFOUND "),
        (b"policy ", b"NOTFOUND "),
        (b"requiretls [192.0.2.1]", b"NOTFOUND "),
    ],
)
@story
async def test_what_takes_no_look_up_is_answered_at_once_and_not_kept(
    payload: bytes, reply: bytes
) -> None:
    async with daemon(World()) as running:
        assert (running.answers.immediate(payload) or b"").startswith(reply)
        assert not running.answers.cache.answers


@pytest.mark.parametrize("map_name", [*MAPS, "explain"])
@story
async def test_what_takes_a_look_up_has_no_immediate_reply(map_name: str) -> None:
    async with daemon(World()) as running:
        assert running.answers.immediate(f"{map_name} {DOMAIN}".encode()) is None


@story
async def test_an_operators_answer_is_immediate_but_for_maps_that_are_strict() -> None:
    async with daemon(World(), settings=own_answer(Level.ENCRYPT)) as running:
        assert running.answers.immediate(b"policy example.com") == b"OK encrypt"
        assert running.answers.immediate(b"requiretls example.com") is None
    async with daemon(World(), settings=own_answer(None, Level.ENCRYPT)) as running:
        assert running.answers.immediate(b"policy example.com") is None


@story
async def test_an_answer_is_kept_under_the_very_bytes_of_its_request_for_its_lifetime() -> None:
    async with daemon(protected_world(ttl=120)) as running:
        await running.ask("Example.COM")
        ((request, answer),) = running.answers.cache.answers.items()
        assert request == b"18:policy Example.COM,"
        assert answer.reply == b"%d:%b," % (len(ENFORCED), ENFORCED.encode())
        assert answer.ends == START + 120
        assert answer.protects


@story
async def test_nothing_found_is_kept_as_protecting_nothing() -> None:
    async with daemon(World()) as running:
        await running.ask(DOMAIN)
        (answer,) = running.answers.cache.answers.values()
        assert not answer.protects


@story
async def test_answers_about_a_domain_are_forgotten_in_every_spelling_map_and_port() -> None:
    async with daemon(World()) as running:
        about = [
            "example.com",
            "EXAMPLE.com.",
            "[example.com]",
            "example.com:587",
            "\uff25xample.com",
        ]
        others = ["sub.example.com", "example.com.au", "other.example", "straße.example"]
        for key in about + others:
            await running.ask(key)
        await running.ask(DOMAIN, "policy-tlsrpt")
        assert running.answers.forget((DOMAIN,)) == len(about) + 1
        assert len(running.answers.cache.answers) == len(others)
        assert running.answers.forget(("xn--strae-oqa.example",)) == 1
        assert running.answers.forget(()) == len(others) - 1
        assert not running.answers.cache.answers


@pytest.mark.parametrize("payload", [b"policies example.com", b"policy [192.0.2.1]"])
@story
async def test_a_refresh_of_what_is_no_question_any_more_does_nothing(payload: bytes) -> None:
    world = World()
    async with daemon(world) as running:
        await running.answers.refresh(payload)
        assert not world.asked


@story
async def test_a_refresh_replaces_the_answer_with_a_newer_one() -> None:
    world = protected_world()
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        world.now += 100
        world.receives_mail(DOMAIN, "b.example.com")
        await running.answers.refresh(b"policy example.com")
        (answer,) = running.answers.cache.answers.values()
        assert b"match=b.example.com" in answer.reply
        assert answer.ends == START + 400


@story
async def test_a_refresh_that_fails_leaves_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "DEADLINE", 0.02)
    world = protected_world()
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        kept = dict(running.answers.cache.answers)
        world.sticks(DOMAIN, "MX")
        await running.answers.refresh(b"policy example.com")
        assert running.answers.cache.answers == kept
        world.lets_go()


@story
async def test_the_operators_answers_and_those_made_ahead_are_logged_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "postfix_mtasts.services.answers")
    async with daemon(protected_world(), settings=own_answer(Level.ENCRYPT)) as running:
        await running.ask("example.com")
        await running.ask("example.com")
        await running.ask("nothing.example")
        await running.answers.refresh(b"policy nothing.example")
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(" ms=")[0] for line in lines] == [
        "answer domain=example.com map=policy level=encrypt source=override",
        "answer domain=nothing.example map=policy level=notfound source=none",
        "answer domain=nothing.example map=policy level=notfound source=none",
    ]


@story
async def test_each_decision_is_one_line_of_the_log_that_a_postmaster_can_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "postfix_mtasts.services.answers")
    world = protected_world()
    async with daemon(world) as running:
        await running.ask("EXAMPLE.com")
        await running.ask("nothing.example")
        world.dns_down = True
        await running.ask("down.example")
        await running.ask("EXAMPLE.com")
    lines = [record.getMessage() for record in caplog.records if "answer " in record.getMessage()]
    assert [line.partition(" ms=")[0] for line in lines] == [
        "answer domain=example.com map=policy level=secure source=mta-sts",
        "answer domain=nothing.example map=policy level=notfound source=none",
        "answer domain=down.example map=policy level=temp source=error",
    ]
    assert lines[0].endswith('ms=0.0 reason="MTA-STS policy 1 (enforce)"')
    assert lines[2].endswith('reason="DNS: MX down.example: no answer"')


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (b"EXAMPLE.com.", "example.com"),
        (b"[example.com]:587", "example.com"),
        (b".example.com", None),
        (b"[192.0.2.1]", None),
        (b"a b", None),
    ],
)
def test_only_names_of_hosts_and_domains_are_looked_up(key: bytes, name: str | None) -> None:
    nexthop = lookable(key)
    assert (None if nexthop is None else nexthop.name) == name


@story
async def test_a_decision_is_logged_with_fields_to_ask_the_journal_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with daemon(protected_world()) as running:
        await running.ask(DOMAIN)
    [fields] = [vars(each)["fields"] for each in caplog.records if "fields" in vars(each)]
    assert fields == {"domain": DOMAIN, "map": "policy", "level": "secure", "source": "mta-sts"}

"""What the daemon tells the reports: noted when it answers Postfix, and not otherwise."""

from dataclasses import dataclass, field

import pytest

from postfix_mtasts.core.daemon_findings import flaws
from postfix_mtasts.core.decision import Settings
from postfix_mtasts.core.facts import Facts, Unavailable
from postfix_mtasts.core.names import NextHop
from postfix_mtasts.core.overrides import Override
from postfix_mtasts.core.postfix_policy import Level
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import FetchFailed
from postfix_mtasts.services import lookups
from postfix_mtasts.services.answers import MAPS
from tests.world import TTL, World, daemon, refused, story

DOMAIN = "example.com"
MX = "mx.example.com"
TLSA = f"_25._tcp.{MX}"
POLICY_HOST = "mta-sts.example.com"
FETCH_ERROR = (ResultType.STS_POLICY_FETCH_ERROR, "")


@dataclass
class Noted:
    """Remembers what is noted."""

    facts: list[Facts] = field(default_factory=list)
    renewals: list[Facts] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)

    def note(self, facts: Facts) -> None:
        self.facts.append(facts)

    def renewed(self, facts: Facts) -> None:
        self.renewals.append(facts)

    def asked(self, nexthop: NextHop | None) -> None:
        self.asked_for.append(str(nexthop))

    def news(self) -> list[tuple[ResultType, str]]:
        """Return kind and host of all that was wrong since this was last asked."""
        told = [(flaw.kind, flaw.host) for facts in self.facts for flaw in flaws(facts)]
        self.facts.clear()
        return told


@pytest.fixture(name="noted")
def make_noted() -> Noted:
    return Noted()


def protected_world() -> World:
    world = World()
    world.receives_mail(DOMAIN, MX)
    world.publishes(DOMAIN)
    return world


def without_policy() -> World:
    world = protected_world()
    world.https[POLICY_HOST] = refused(POLICY_HOST)
    return world


def dane_world() -> World:
    world = World()
    world.receives_mail(DOMAIN, MX, secure=True)
    world.has_tlsa(MX)
    return world


@story
async def test_a_domain_with_which_all_is_well_gives_nothing(noted: Noted) -> None:
    world = dane_world()
    world.publishes(DOMAIN)
    async with daemon(world, findings=noted) as running:
        await running.ask(DOMAIN)
        await running.ask("nothing.example")
    assert noted.news() == []


@pytest.mark.parametrize("map_name", MAPS)
@story
async def test_a_failed_fetch_is_noted_once_a_decision_whatever_the_map(
    noted: Noted, map_name: str
) -> None:
    async with daemon(without_policy(), findings=noted) as running:
        for _ in range(3):
            await running.ask(DOMAIN, map_name)
        assert noted.news() == [FETCH_ERROR]
        await running.pass_time(301)
        await running.ask(DOMAIN, map_name)
        assert noted.news() == [FETCH_ERROR]


@story
async def test_a_restart_makes_a_new_decision_of_what_is_remembered(noted: Noted) -> None:
    async with daemon(without_policy(), findings=noted) as running:
        await running.ask(DOMAIN)
        running.answers.cache.clear()
        await running.ask(DOMAIN)
    assert noted.news() == [FETCH_ERROR] * 2


@story
async def test_an_explanation_notes_nothing(noted: Noted) -> None:
    async with daemon(without_policy(), findings=noted) as running:
        await running.ask(DOMAIN, "explain")
    assert noted == Noted()


@pytest.mark.parametrize("map_name", MAPS)
@story
async def test_a_persons_question_has_the_maps_answer_and_notes_nothing(
    noted: Noted, map_name: str
) -> None:
    async with daemon(without_policy(), findings=noted) as running:
        told = [await running.ask(key, f"query:{map_name}") for key in (DOMAIN, "[192.0.2.1]")]
        await running.answers.refresh(f"query:{map_name} {DOMAIN}".encode())
        assert noted == Noted()
        assert told == [await running.ask(key, map_name) for key in (DOMAIN, "[192.0.2.1]")]
        assert noted.news() == [FETCH_ERROR]


@story
async def test_a_person_too_is_told_that_there_is_no_such_map(noted: Noted) -> None:
    async with daemon(World(), findings=noted) as running:
        assert await running.ask(DOMAIN, "query:nonsense") == "PERM unknown map nonsense"
    assert noted == Noted()


@story
async def test_what_is_answered_without_a_look_up_is_noted_as_asked_for(noted: Noted) -> None:
    own = Override(
        domain=DOMAIN,
        subtree=False,
        level=Level.ENCRYPT,
        minimum=None,
        match=(),
        servername=None,
        protocols=None,
        ciphers=None,
    )
    async with daemon(World(), findings=noted, settings=Settings(overrides=(own,))) as running:
        assert await running.ask(DOMAIN, "query:policy") == "OK encrypt"
        assert noted == Noted()
        for key in (DOMAIN, "[192.0.2.1]", ".example.com"):
            await running.ask(key)
    assert noted == Noted(asked_for=[DOMAIN, "None", "None"])


@story
async def test_an_answer_renewed_unasked_tells_what_is_in_force_and_nothing_wrong(
    noted: Noted,
) -> None:
    world = dane_world()
    world.has_tlsa(MX, usable=False)
    async with daemon(world, findings=noted) as running:
        for _ in range(50):
            await running.ask(DOMAIN)
        noted.news()
        await running.pass_time(TTL - 5)
        assert world.asked[DOMAIN, "MX"] == 2
    assert noted.facts == []
    assert [facts.nexthop.name for facts in noted.renewals] == [DOMAIN]


@story
async def test_a_look_up_without_an_answer_notes_nothing(
    noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "DEADLINE", 0.02)
    world = without_policy()
    world.sticks(DOMAIN, "MX")
    async with daemon(world, findings=noted) as running:
        assert (await running.ask(DOMAIN)).startswith("TEMP")
        world.lets_go()
    assert noted.facts == []


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (ResultType.STS_POLICY_FETCH_ERROR, refused(POLICY_HOST)),
        (
            ResultType.STS_WEBPKI_INVALID,
            FetchFailed(kind=ResultType.STS_WEBPKI_INVALID, why="certificate: it has expired"),
        ),
    ],
)
@story
async def test_a_refresh_that_failed_is_noted_while_the_old_policy_is_in_force(
    noted: Noted, kind: ResultType, broken: FetchFailed
) -> None:
    world = protected_world()
    async with daemon(world, findings=noted, refresh=3600) as running:
        answer = await running.ask(DOMAIN)
        assert noted.news() == []
        world.https[POLICY_HOST] = broken
        await running.pass_time(3601)
        assert noted.news() == []
        assert await running.ask(DOMAIN) == answer
        assert noted.news() == [(kind, "")]
        world.publishes(DOMAIN)
        await running.pass_time(3601)
        assert await running.ask(DOMAIN) == answer
        assert noted.news() == []


@story
async def test_a_document_that_is_no_policy_is_noted(noted: Noted) -> None:
    world = protected_world()
    world.publishes(DOMAIN, max_age=-1)
    async with daemon(world, findings=noted) as running:
        await running.ask(DOMAIN)
    assert noted.news() == [(ResultType.STS_POLICY_INVALID, "")]


@story
async def test_a_domain_without_a_record_is_free_of_an_old_failure(noted: Noted) -> None:
    world = without_policy()
    async with daemon(world, findings=noted) as running:
        await running.ask(DOMAIN)
        noted.news()
        world.has(f"_mta-sts.{DOMAIN}", "TXT")
        await running.pass_time(301)
        await running.ask(DOMAIN)
    assert noted.news() == []


@story
async def test_tlsa_records_of_which_none_can_be_used_are_noted(noted: Noted) -> None:
    world = dane_world()
    world.has_tlsa(MX, usable=False)
    async with daemon(world, findings=noted) as running:
        for _ in range(3):
            assert await running.ask(DOMAIN) == "OK dane"
    assert noted.news() == [(ResultType.TLSA_INVALID, MX)]


@story
async def test_tlsa_records_without_an_answer_are_noted_each_time_until_there_is_one(
    noted: Noted,
) -> None:
    world = dane_world()
    world.fails(TLSA, "TLSA")
    async with daemon(world, findings=noted) as running:
        await running.ask(DOMAIN)
        assert noted.news() == [(ResultType.DNSSEC_INVALID, MX)]
        await running.pass_time(11)
        await running.ask(DOMAIN)
        assert noted.news() == [(ResultType.DNSSEC_INVALID, MX)]
        world.has_tlsa(MX)
        await running.pass_time(11)
        assert await running.ask(DOMAIN) == "OK dane-only"
    assert noted.news() == []


@story
async def test_our_own_overload_is_nobodys_fault(noted: Noted) -> None:
    world = dane_world()
    world.dns[TLSA, "TLSA"] = Unavailable(why="too many DNS queries at once", ours=True)
    async with daemon(world, findings=noted) as running:
        assert (await running.ask(DOMAIN)).startswith("TEMP")
    assert noted.facts == []


@story
async def test_a_dead_resolver_is_no_fault_of_the_domain(noted: Noted) -> None:
    world = dane_world()
    world.dns_down = True
    async with daemon(world, findings=noted) as running:
        await running.ask(DOMAIN)
    assert noted.news() == []

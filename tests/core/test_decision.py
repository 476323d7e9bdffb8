"""The truth table of `decide`, whole, and the rules that hold in all of it."""

from dataclasses import replace
from itertools import combinations, product

import pytest

from postfix_mtasts.core import decision, mta_sts, tlsa
from postfix_mtasts.core.decision import Settings, Source, Stance, Verdict
from postfix_mtasts.core.facts import (
    Absent,
    CachedPolicy,
    DnsFacts,
    Facts,
    FailedFetch,
    HostFacts,
    Lookup,
    Mx,
    Present,
    StsFacts,
    Unavailable,
)
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.core.overrides import Override
from postfix_mtasts.core.postfix_policy import Level, TlsPolicy, build_policy
from postfix_mtasts.core.tls_event import ResultType

NOW = 1_800_000_000.0
DOMAIN = NextHop(form=Form.DOMAIN, name="example.com")
RECORD = Present(
    records=(mta_sts.Record(id="1"),), secure=False, ttl=300, owner="_mta-sts.example.com"
)
USABLE = tlsa.Record(usage=3, selector=1, matching_type=1, data=bytes(32))
UNUSABLE = tlsa.Record(usage=1, selector=1, matching_type=1, data=bytes(32))
ADDRESS = Present(records=("192.0.2.1",), secure=True, ttl=300, owner="mx.example.com")
NOTHING = Absent(secure=True, ttl=300)
SERVFAIL = Unavailable(why="TLSA _25._tcp.mx: SERVFAIL from 127.0.0.1")

LETTERS = {
    "A": Stance.AUTHENTICATE,
    "E": Stance.ENCRYPT,
    "M": Stance.MAY,
    "S": Stance.SKIP,
    "U": Stance.UNREACHABLE,
}


def host(letter: str) -> HostFacts:
    """Return an MX host of which RFC 7672 asks for the stance *letter*."""
    tlsa_answers: dict[str, Lookup[tlsa.Record] | None] = {
        "A": Present(records=(UNUSABLE, USABLE), secure=True, ttl=300, owner="x"),
        "E": Present(records=(UNUSABLE,), secure=True, ttl=300, owner="x"),
        "M": NOTHING,
        "S": SERVFAIL,
        "U": None,
    }
    return HostFacts(
        name=f"{letter.lower()}.example.com",
        preference=10,
        addresses=NOTHING if letter == "U" else ADDRESS,
        tlsa=tlsa_answers[letter],
    )


def policy(mode: mta_sts.Mode, mx: str = "*.example.com", checked: float = NOW) -> CachedPolicy:
    parsed = mta_sts.Policy(mode=mode, mx=(mx,), max_age=86400)
    return CachedPolicy(
        record_id="1", policy=parsed, text=b"mode: x\nmx: y\n", fetched=checked, checked=checked
    )


def facts(
    letters: str = "",
    *,
    secure: bool = True,
    cached: CachedPolicy | None = None,
    omitted: int = 0,
) -> Facts:
    hosts = tuple(map(host, letters))
    mx = tuple(Mx(preference=10, host=each.name) for each in hosts)
    dns = DnsFacts(
        gathered=NOW,
        mx=Present(records=mx, secure=secure, ttl=300, owner="example.com"),
        hosts=hosts,
        omitted=omitted,
        sts_record=RECORD,
    )
    return Facts(nexthop=DOMAIN, dns=dns, sts=StsFacts(cached=cached))


def with_mx(mx: Lookup[Mx] | None, *, cached: CachedPolicy | None = None) -> Facts:
    known = facts(cached=cached)
    return replace(known, dns=replace(known.dns, mx=mx))


def word(verdict: Verdict) -> str:
    if verdict.failed:
        return "temp"
    return "-" if verdict.policy is None else verdict.policy.level.value


# What the MX hosts ask for: A(uthenticate), E(ncrypt), M(ay), S(kip), by name.
TABLE = """
hosts  secure/none  secure/enforce  insecure/none  insecure/enforce  secure/floor  insecure/floor
.      -            secure          -              secure            -             -
A      dane-only    dane-only       dane           secure            dane-only     -
E      dane         secure          dane           secure            -             -
M      -            secure          -              secure            -             -
S      dane         temp            dane           secure            temp          -
AE     dane         secure          dane           secure            dane-only     -
AM     dane         secure          dane           secure            dane-only     -
AS     dane         dane-only       dane           secure            dane-only     -
EM     dane         secure          dane           secure            -             -
ES     dane         temp            dane           secure            temp          -
MS     dane         temp            dane           secure            temp          -
AEM    dane         secure          dane           secure            dane-only     -
AES    dane         dane-only       dane           secure            dane-only     -
AMS    dane         dane-only       dane           secure            dane-only     -
EMS    dane         temp            dane           secure            temp          -
AEMS   dane         dane-only       dane           secure            dane-only     -
"""
HEAD, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
SUBSETS = ["".join(c) for n in range(5) for c in combinations("AEMS", n)]


def test_the_table_has_every_set_of_hosts() -> None:
    assert sorted(row[0].strip(".") for row in ROWS) == sorted(SUBSETS)


@pytest.mark.parametrize("unreachable", ["", "U"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"hosts {row[0]}")
@pytest.mark.parametrize("column", HEAD[1:])
def test_the_answer_is_that_of_the_table(row: list[str], column: str, unreachable: str) -> None:
    names, what = column.split("/")
    known = facts(
        row[0].strip(".") + unreachable,
        secure=names == "secure",
        cached=policy("enforce") if what == "enforce" else None,
    )
    settings = Settings(default_level=Level.ENCRYPT if what == "floor" else Level.MAY)
    assert word(decision.decide(known, settings, NOW)) == row[HEAD.index(column)]


POLICIES = {
    "none": None,
    "enforce": policy("enforce"),
    "enforce, nothing permitted": policy("enforce", mx="mx.example.net"),
    "testing": policy("testing"),
    "mode none": policy("none"),
    "expired": policy("enforce", checked=NOW - 90000),
}
WORLDS = list(
    product(SUBSETS, (True, False), POLICIES, Level, (True, False), (0, 3)),
)


def least(level: Level | None, main: Level) -> int:
    """Return the rank of what a host gets at the least."""
    return decision.strength(main if level is None else level)


@pytest.mark.parametrize("name", POLICIES)
def test_the_laws_hold_in_every_world(name: str) -> None:
    for letters, secure, cached_name, main, dane, omitted in WORLDS:
        if cached_name != name:
            continue
        world = f"{letters} secure={secure} {name} main.cf={main} dane={dane} omitted={omitted}"
        known = facts(letters, secure=secure, cached=POLICIES[name], omitted=omitted)
        verdict = decision.decide(known, Settings(default_level=main, dane=dane), NOW)
        level = None if verdict.policy is None else verdict.policy.level
        if verdict.failed:
            assert verdict.lifetime == 0, f"a temporary error is kept: {world}"
            continue
        assert least(level, main) >= decision.strength(main), f"weaker than main.cf: {world}"
        if name.startswith("enforce"):
            assert level in (Level.SECURE, Level.DANE_ONLY), f"policy not enforced: {world}"
        if level is Level.DANE_ONLY:
            assert dane, f"DANE is off: {world}"
            assert secure, f"would never be delivered: {world}"
            assert "A" in letters, f"would never be delivered: {world}"
        if dane and secure and set(letters) & set("AS"):
            assert level in (Level.DANE, Level.DANE_ONLY, Level.SECURE), f"DANE is lost: {world}"
        if verdict.policy is not None:
            build_policy(verdict.policy)


@pytest.mark.parametrize("letter", LETTERS)
def test_each_host_has_its_own_stance(letter: str) -> None:
    assert decision.stance(host(letter)) is LETTERS[letter]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"addresses": SERVFAIL}, Stance.SKIP, id="an address that failed: skip"),
        pytest.param({"tlsa": None}, Stance.MAY, id="TLSA not asked: may"),
        pytest.param(
            {"tlsa": Present(records=(USABLE,), secure=False, ttl=9, owner="x")},
            Stance.MAY,
            id="insecure TLSA records count as none",
        ),
    ],
)
def test_what_is_not_secure_or_not_known_has_its_stance(
    change: dict[str, Lookup[tlsa.Record]], expected: Stance
) -> None:
    assert decision.stance(replace(host("A"), **change)) is expected  # type: ignore[arg-type]  # replace() by name


NO_MX = Absent(secure=True, ttl=300)
NO_DOMAIN = Absent(secure=True, ttl=300, nxdomain=True)
NULL_MX = Present(records=(Mx(preference=0, host=""),), secure=True, ttl=300, owner="example.com")
MX_FAILED = Unavailable(why="MX example.com: SERVFAIL from 127.0.0.1")


@pytest.mark.parametrize(
    ("known", "answer", "reason"),
    [
        (with_mx(NO_DOMAIN), "-", "the domain does not exist"),
        (with_mx(NULL_MX), "-", "the domain accepts no mail (null MX, RFC 7505)"),
        (with_mx(NO_MX), "-", "no TLSA records, no MTA-STS policy"),
        (with_mx(MX_FAILED), "temp", "MX example.com: SERVFAIL from 127.0.0.1"),
        (
            facts("M", cached=policy("testing")),
            "-",
            "no TLSA records, MTA-STS policy in mode testing",
        ),
        (facts("M", cached=policy("none")), "-", "no TLSA records, MTA-STS policy in mode none"),
        (facts("A"), "dane-only", "every MX host has usable DNSSEC-validated TLSA records"),
        (facts("AM"), "dane", "some MX hosts have TLSA records, Postfix judges host by host"),
        (facts("E"), "dane", "TLSA records exist, none of them usable: TLS without authentication"),
        (facts("MS"), "dane", f"Postfix judges host by host, because {SERVFAIL.why}"),
        (
            facts("M", omitted=1),
            "dane",
            "too many MX hosts to examine, Postfix judges host by host",
        ),
        (facts("M", cached=policy("enforce")), "secure", "MTA-STS policy 1 (enforce)"),
        (
            facts("M", cached=policy("enforce", mx="mx.example.net")),
            "secure",
            "MTA-STS policy 1 (enforce); no MX host is permitted by it",
        ),
        (
            with_mx(MX_FAILED, cached=policy("enforce")),
            "secure",
            "MTA-STS policy 1 (enforce); MX hosts could not be looked up",
        ),
        (
            facts("AMS", cached=policy("enforce")),
            "dane-only",
            f"TLSA records at some MX hosts; beside them {SERVFAIL.why}",
        ),
    ],
)
def test_the_reason_is_said_in_words(known: Facts, answer: str, reason: str) -> None:
    verdict = decision.decide(known, Settings(), NOW)
    assert (word(verdict), verdict.reason) == (answer, reason)


def test_a_failed_fetch_is_given_as_the_reason_only_while_there_is_a_record() -> None:
    failure = FailedFetch(
        record_id="1",
        at=NOW,
        retry_at=NOW + 300,
        kind=ResultType.STS_POLICY_FETCH_ERROR,
        why="connection refused",
    )
    known = replace(facts("M"), sts=StsFacts(failure=failure))
    assert "connection refused" in decision.decide(known, Settings(), NOW).reason
    without = replace(known, dns=replace(known.dns, sts_record=NOTHING))
    assert "connection refused" not in decision.decide(without, Settings(), NOW).reason


def test_a_policy_fetched_without_a_record_is_named_so() -> None:
    cached = replace(policy("enforce"), record_id="")
    reason = decision.decide(facts("M", cached=cached), Settings(), NOW).reason
    assert reason == "MTA-STS policy without id (enforce)"


def test_a_temporary_error_says_what_dns_said() -> None:
    verdict = decision.decide(with_mx(MX_FAILED), Settings(), NOW)
    assert verdict.failed == "DNS: MX example.com: SERVFAIL from 127.0.0.1"
    assert verdict.source is Source.ERROR


def broken_host(name: str = "x.example.com") -> HostFacts:
    why = Unavailable(why=f"A {name}: no answer")
    return HostFacts(name=name, preference=10, addresses=why, tlsa=None)


def beside_broken_host(letters: str, cached: CachedPolicy | None) -> Facts:
    hosts = (*map(host, letters), broken_host())
    known = with_mx(mx_set(*((10, each.name) for each in hosts), secure=True), cached=cached)
    return replace(known, dns=replace(known.dns, hosts=hosts))


def test_one_host_without_an_address_does_not_stop_a_domain_with_a_policy() -> None:
    verdict = decision.decide(beside_broken_host("M", policy("enforce")), Settings(), NOW)
    assert verdict.policy is not None
    assert build_policy(verdict.policy) == "secure match=m.example.com servername=hostname"
    assert verdict.reason.endswith("not by way of all hosts: A x.example.com: no answer")


@pytest.mark.parametrize(
    ("letters", "cached"),
    [
        pytest.param("", policy("enforce"), id="no other host"),
        pytest.param("S", policy("enforce"), id="another whose TLSA records failed"),
        pytest.param("M", policy("enforce", mx="x.example.com"), id="no other that is permitted"),
    ],
)
def test_a_host_whose_address_failed_is_named_in_the_error(
    letters: str, cached: CachedPolicy
) -> None:
    verdict = decision.decide(beside_broken_host(letters, cached), Settings(), NOW)
    assert verdict.failed in (f"DNS: {SERVFAIL.why}", "DNS: A x.example.com: no answer")


@pytest.mark.parametrize("secure", [True, False])
def test_implicit_mx_needs_a_secure_denial_for_dane_only(*, secure: bool) -> None:
    known = with_mx(Absent(secure=secure, ttl=300))
    known = replace(known, dns=replace(known.dns, hosts=(host("A"),)))
    assert word(decision.decide(known, Settings(), NOW)) == ("dane-only" if secure else "dane")


def test_a_host_in_brackets_needs_no_mx_for_dane_only() -> None:
    known = with_mx(None)
    known = replace(known, dns=replace(known.dns, hosts=(host("A"),)))
    assert word(decision.decide(known, Settings(), NOW)) == "dane-only"


def test_a_failed_mx_look_up_leaves_no_host_to_authenticate() -> None:
    assert not decision.all_hosts_authenticate(with_mx(MX_FAILED).dns)


def test_no_policy_applies_to_another_port() -> None:
    known = facts("M", cached=policy("enforce"))
    known = replace(known, dns=replace(known.dns, sts_record=None))
    assert word(decision.decide(known, Settings(), NOW)) == "-"


# --- what is matched ---------------------------------------------------------------------


def secured(known: Facts) -> TlsPolicy:
    verdict = decision.decide(known, Settings(), NOW)
    assert verdict.policy is not None
    assert verdict.policy.level is Level.SECURE
    return verdict.policy


def mx_set(*hosts: tuple[int, str], secure: bool = False) -> Present[Mx]:
    records = tuple(Mx(preference=preference, host=name) for preference, name in hosts)
    return Present(records=records, secure=secure, ttl=300, owner="example.com")


def test_the_permitted_mx_hosts_are_matched_best_preference_first() -> None:
    hosts = mx_set((20, "b.example.com"), (10, "x.example.net"), (10, "a.b.example.com"))
    hosts = replace(hosts, records=(*hosts.records, Mx(preference=5, host="c.example.com")))
    answer = secured(with_mx(hosts, cached=policy("enforce")))
    assert answer.match == ("c.example.com", "b.example.com")
    assert answer.servername == "hostname"


def test_the_patterns_are_matched_literally_where_no_mx_host_is_permitted() -> None:
    answer = secured(with_mx(mx_set((10, "mx.evil.example")), cached=policy("enforce")))
    assert answer.match == ("*.example.com",)


def test_no_more_names_are_matched_than_the_limit() -> None:
    hosts = mx_set(*((10, f"h{number:04}.example.com") for number in range(500)))
    answer = secured(with_mx(hosts, cached=policy("enforce")))
    assert len(answer.match) == decision.MAX_MATCH_NAMES


@pytest.mark.parametrize("keyword", ["hostname", "nexthop", "dot-nexthop"])
def test_a_policy_cannot_name_a_keyword_of_postfix(keyword: str) -> None:
    known = with_mx(mx_set((10, keyword)), cached=policy("enforce", mx=keyword))
    assert secured(known).match == (decision.UNMATCHABLE,)


# --- the operator's word -----------------------------------------------------------------

OVERRIDE = Override(
    domain="example.com",
    subtree=False,
    level=None,
    minimum=None,
    match=(),
    servername=None,
    protocols=None,
    ciphers=None,
)


def overridden(known: Facts, main: Level = Level.MAY, **change: object) -> Verdict:
    override = replace(OVERRIDE, **change)  # type: ignore[arg-type]  # replace() by name
    return decision.decide(known, Settings(default_level=main, overrides=(override,)), NOW)


def test_the_operators_level_needs_no_facts_and_wins_over_all() -> None:
    verdict = overridden(facts("A", cached=policy("enforce")), level=Level.MAY, ciphers="high")
    assert verdict.policy == TlsPolicy(level=Level.MAY, ciphers="high")
    assert verdict.source is Source.OVERRIDE


@pytest.mark.parametrize(
    ("letters", "minimum", "answer"),
    [
        ("M", Level.ENCRYPT, "encrypt"),
        ("M", Level.DANE, "dane"),
        ("A", Level.ENCRYPT, "dane-only"),
        ("AM", Level.ENCRYPT, "dane-only"),
        ("E", Level.ENCRYPT, "encrypt"),
        ("M", Level.SECURE, "secure"),
        ("M", Level.NONE, "-"),
        ("S", Level.ENCRYPT, "temp"),
    ],
)
def test_a_minimum_raises_what_is_weaker(letters: str, minimum: Level, answer: str) -> None:
    match = ("mx.example.com",) if minimum is Level.SECURE else ()
    assert word(overridden(facts(letters), minimum=minimum, match=match)) == answer


def test_a_minimum_gives_its_protocols_to_whatever_is_answered() -> None:
    verdict = overridden(facts("A"), minimum=Level.ENCRYPT, protocols=">=TLSv1.2", ciphers="high")
    assert verdict.policy is not None
    assert build_policy(verdict.policy) == "dane-only protocols=>=TLSv1.2 ciphers=high"


@pytest.mark.parametrize("main", [level for level in Level if level is not Level.FINGERPRINT])
def test_a_minimum_gives_its_protocols_also_where_main_cf_has_the_level(main: Level) -> None:
    verdict = overridden(facts("M"), main, minimum=Level.MAY, protocols=">=TLSv1.2")
    level = Level.MAY if main is Level.NONE else main
    assert verdict.policy is not None
    assert build_policy(verdict.policy) == f"{level.value} protocols=>=TLSv1.2"


def test_a_minimum_cannot_give_protocols_to_fingerprints_that_only_main_cf_has() -> None:
    verdict = overridden(facts("M"), Level.FINGERPRINT, minimum=Level.MAY, ciphers="high")
    assert word(verdict) == "-"


def test_a_minimum_of_secure_is_not_met_by_verify() -> None:
    verdict = overridden(facts("M"), Level.VERIFY, minimum=Level.SECURE)
    assert word(verdict) == "secure"


def test_a_minimum_below_main_cf_does_not_lower_it() -> None:
    assert word(overridden(facts("M"), Level.SECURE, minimum=Level.ENCRYPT)) == "-"


def test_the_first_override_that_applies_wins_and_others_do_not_apply() -> None:
    other = replace(OVERRIDE, domain="example.net", level=Level.NONE)
    first = replace(OVERRIDE, level=Level.ENCRYPT)
    second = replace(OVERRIDE, level=Level.MAY)
    settings = Settings(overrides=(other, first, second))
    assert word(decision.decide(facts("A"), settings, NOW)) == "encrypt"


# --- the other maps ----------------------------------------------------------------------


def tlsrpt(known: Facts, main: Level = Level.MAY) -> Verdict:
    settings = Settings(default_level=main)
    verdict = decision.decide(known, settings, NOW)
    return decision.with_tlsrpt(verdict, known, settings, NOW)


def test_postfix_3_10_is_told_of_the_policy_that_is_enforced() -> None:
    verdict = tlsrpt(facts("M", cached=policy("enforce")))
    assert verdict.policy is not None
    assert build_policy(verdict.policy) == (
        "secure match=m.example.com servername=hostname policy_type=sts policy_domain=example.com "
        "{ policy_string = mode: x } { policy_string = mx: y } mx_host_pattern=*.example.com"
    )


@pytest.mark.parametrize(
    ("main", "answer"),
    [(Level.NONE, "may"), (Level.MAY, "may")]
    + [(level, "-") for level in Level if level not in (Level.NONE, Level.MAY)],
)
def test_a_policy_in_testing_is_told_of_only_where_may_is_not_weaker(
    main: Level, answer: str
) -> None:
    assert word(tlsrpt(facts("M", cached=policy("testing")), main)) == answer


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        pytest.param(facts("A", cached=policy("enforce")), "dane-only", id="DANE stays DANE"),
        pytest.param(facts("AM", cached=policy("testing")), "dane", id="also beside testing"),
        pytest.param(facts("M"), "-", id="nothing stays nothing"),
        pytest.param(facts("M", cached=policy("none")), "-", id="mode none is no policy"),
        pytest.param(with_mx(MX_FAILED, cached=policy("testing")), "temp", id="no answer is none"),
    ],
)
def test_nothing_else_is_told_otherwise(known: Facts, answer: str) -> None:
    verdict = tlsrpt(known)
    assert word(verdict) == answer
    assert verdict.policy is None or verdict.policy.policy_type is None


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        (facts("A"), "dane-only"),
        (facts("AM"), "dane-only"),
        (facts("AM", secure=False), "secure match=nexthop servername=hostname"),
        (facts("M"), "secure match=nexthop servername=hostname"),
        (facts("E"), "secure match=nexthop servername=hostname"),
        (facts("M", cached=policy("testing")), "secure match=nexthop servername=hostname"),
        (facts("M", cached=policy("enforce")), "secure match=m.example.com servername=hostname"),
        (with_mx(MX_FAILED), "temp"),
    ],
)
def test_requiretls_takes_authenticated_tls_or_none(known: Facts, answer: str) -> None:
    verdict = decision.decide_requiretls(known, Settings(), NOW)
    assert (word(verdict) if verdict.policy is None else build_policy(verdict.policy)) == answer


def test_requiretls_does_without_dane_where_it_is_off() -> None:
    verdict = decision.decide_requiretls(facts("AM"), Settings(dane=False), NOW)
    assert word(verdict) == "secure"


def test_requiretls_is_not_weakened_by_the_operators_answers_for_other_mail() -> None:
    settings = Settings(overrides=(replace(OVERRIDE, level=Level.MAY),))
    assert word(decision.decide_requiretls(facts("M"), settings, NOW)) == "secure"

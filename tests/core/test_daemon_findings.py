"""What the daemon finds wrong with a domain: a table of what was learnt of it."""

from dataclasses import replace
from typing import Any

import pytest

from postfix_mtasts.core import mta_sts, tlsa
from postfix_mtasts.core.daemon_findings import (
    NO_TLSA_ANSWER,
    NO_TLSA_USABLE,
    UNRESOLVED,
    Flaw,
    flaws,
    rows_of_facts,
)
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
from postfix_mtasts.core.finding import PolicyType
from postfix_mtasts.core.names import parse_nexthop
from postfix_mtasts.core.tally import Origin
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.utc import day_of

NOW = 1_800_000_000.0
GOOD = tlsa.Record(usage=3, selector=1, matching_type=1, data=bytes(32))
UNUSABLE = tlsa.Record(usage=1, selector=1, matching_type=1, data=bytes(32))
SILENT = Unavailable(why="TLSA _25._tcp.mx.example.com: no answer from 10.0.0.53 within 2.1 s")
TEXT = b"version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 86400\n"
CACHED = CachedPolicy(
    record_id="1", policy=mta_sts.parse_policy(TEXT), text=TEXT, fetched=NOW, checked=NOW
)
FAILURE = FailedFetch(
    record_id="2",
    at=NOW,
    retry_at=NOW + 300,
    kind=ResultType.STS_WEBPKI_INVALID,
    why="certificate of mta-sts.example.com: it has expired",
)


def found(*records: Any, secure: bool = True) -> Present[Any]:
    return Present(records=records, secure=secure, ttl=300, owner="mx.example.com")


def host(
    records: Lookup[tlsa.Record] | None,
    *,
    name: str = "mx.example.com",
    addresses: Lookup[str] | None = None,
) -> HostFacts:
    known = addresses or found("192.0.2.1")
    return HostFacts(name=name, preference=10, addresses=known, tlsa=records)


def facts(
    *hosts: HostFacts,
    record: Lookup[mta_sts.Record] | None = None,
    cached: CachedPolicy | None = None,
    failure: FailedFetch | None = None,
    key: bytes = b"example.com",
) -> Facts:
    mx = found(*(Mx(preference=10, host=each.name) for each in hosts))
    dns = DnsFacts(gathered=NOW, mx=mx, hosts=hosts, sts_record=record)
    sts = StsFacts(cached=cached, failure=failure)
    return Facts(nexthop=parse_nexthop(key), dns=dns, sts=sts)


def asks_for(record_id: str) -> Present[mta_sts.Record]:
    return found(mta_sts.Record(id=record_id))


OF_POLICY = Flaw(kind=ResultType.STS_WEBPKI_INVALID, why=FAILURE.why)
OF_DNSSEC = Flaw(kind=ResultType.DNSSEC_INVALID, why=NO_TLSA_ANSWER, host="mx.example.com")
OF_TLSA = Flaw(kind=ResultType.TLSA_INVALID, why=NO_TLSA_USABLE, host="mx.example.com")


@pytest.mark.parametrize(
    ("learnt", "wrong"),
    [
        (facts(), ()),
        (facts(record=Absent(secure=False, ttl=60)), ()),
        (facts(record=asks_for("1"), cached=CACHED), ()),
        (facts(record=asks_for("2"), failure=FAILURE), (OF_POLICY,)),
        (facts(record=asks_for("2"), failure=FAILURE, cached=CACHED), (OF_POLICY,)),
        (facts(record=asks_for("1"), failure=FAILURE, cached=CACHED), ()),
        (facts(record=Absent(secure=False, ttl=60), failure=FAILURE), ()),
        (facts(record=Unavailable(why="TXT: SERVFAIL"), failure=FAILURE), ()),
        (facts(record=None, failure=FAILURE), ()),
        (facts(host(found(GOOD))), ()),
        (facts(host(found(UNUSABLE, GOOD))), ()),
        (facts(host(found(UNUSABLE))), (OF_TLSA,)),
        (facts(host(found(tlsa.MALFORMED))), (OF_TLSA,)),
        (facts(host(found(UNUSABLE, secure=False))), ()),
        (facts(host(Absent(secure=True, ttl=60))), ()),
        (facts(host(None)), ()),
        (facts(host(SILENT)), (OF_DNSSEC,)),
        (facts(host(replace(SILENT, ours=True))), ()),
        (facts(host(SILENT, addresses=found("192.0.2.1", secure=False))), ()),
        (facts(host(SILENT, addresses=SILENT)), ()),
    ],
    ids=[
        "nothing at all",
        "no record",
        "a policy in force",
        "the record's policy could not be had",
        "nor could it beside an older one in force",
        "the failure was with another record",
        "the record is gone",
        "the record cannot be looked up",
        "a port where policies mean nothing",
        "a usable TLSA record",
        "one usable TLSA record among others",
        "no usable TLSA record",
        "TLSA records that cannot be read",
        "insecure TLSA records mean nothing",
        "no TLSA records",
        "TLSA records not asked for",
        "TLSA records not answered for",
        "we were too busy to ask for TLSA records",
        "TLSA records not answered for below an insecure address",
        "no answer for the address either",
    ],
)
def test_what_was_learnt_shows_what_is_wrong(learnt: Facts, wrong: tuple[Flaw, ...]) -> None:
    assert flaws(learnt) == wrong


def test_the_policy_and_each_host_are_judged_apart() -> None:
    other = host(SILENT, name="b.example.com")
    learnt = facts(host(found(UNUSABLE)), other, record=asks_for("2"), failure=FAILURE)
    assert flaws(learnt) == (OF_POLICY, OF_TLSA, replace(OF_DNSSEC, host="b.example.com"))


@pytest.mark.parametrize("kind", ["A", "AAAA"])
def test_strangers_are_not_told_which_name_servers_we_ask(kind: str) -> None:
    failure = replace(FAILURE, why=f"{kind} mta-sts.example.com: SERVFAIL from 10.0.0.53")
    [flaw] = flaws(facts(record=asks_for("2"), failure=failure))
    assert flaw.why == UNRESOLVED


def test_the_owner_is_told_of_a_policy_in_its_own_words() -> None:
    learnt = facts(record=asks_for("2"), failure=FAILURE, cached=CACHED)
    [row] = rows_of_facts(learnt, NOW + 60)
    finding = row.finding
    assert (row.day, row.origin) == (day_of(NOW), Origin.DAEMON)
    assert (finding.domain, finding.policy.domain) == ("example.com", "example.com")
    assert finding.policy.type is PolicyType.STS
    assert finding.policy.strings == tuple(TEXT.decode().splitlines())
    assert finding.policy.mx_hosts == ("mx.example.com",)
    [failure] = finding.failures
    assert failure.result_type is ResultType.STS_WEBPKI_INVALID
    assert failure.reason == FAILURE.why


def test_a_policy_that_ran_out_is_not_told_as_one_that_applied() -> None:
    learnt = facts(record=asks_for("2"), failure=FAILURE, cached=CACHED)
    [row] = rows_of_facts(learnt, NOW + 86402)
    assert row.finding.policy.strings == ()


def test_unusable_records_are_shown_as_the_policy_of_their_host() -> None:
    [row] = rows_of_facts(facts(host(found(UNUSABLE)), key=b"[example.com]:587"), NOW)
    assert row.finding.domain == "example.com"
    assert row.finding.policy.type is PolicyType.TLSA
    assert row.finding.policy.domain == "mx.example.com"
    assert row.finding.policy.strings == (str(UNUSABLE),)
    [failure] = row.finding.failures
    assert failure.mx_host == "mx.example.com"


def test_without_records_the_host_alone_is_named() -> None:
    [row] = rows_of_facts(facts(host(SILENT)), NOW)
    assert (row.finding.policy.domain, row.finding.policy.strings) == ("mx.example.com", ())
    [failure] = row.finding.failures
    assert (failure.result_type, failure.reason) == (ResultType.DNSSEC_INVALID, NO_TLSA_ANSWER)


def test_a_host_that_is_no_host_name_is_left_out_and_the_others_stay() -> None:
    bad, good = host(SILENT, name="a b"), host(SILENT, name="b.example.com")
    [row] = rows_of_facts(facts(bad, good), NOW)
    assert row.finding.policy.domain == "b.example.com"

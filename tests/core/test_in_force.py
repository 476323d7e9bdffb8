"""`core.in_force`: what facts come to, and what a day does."""

from dataclasses import replace
from typing import Any

import pytest

from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.facts import (
    Absent,
    CachedPolicy,
    DnsFacts,
    HostFacts,
    Lookup,
    Mx,
    Present,
    Unavailable,
)
from postfix_mtasts.core.in_force import in_force_of, is_domain, is_whole, of_day
from postfix_mtasts.core.mta_sts import parse_policy
from postfix_mtasts.core.names import parse_nexthop
from postfix_mtasts.core.tlsa import Record

NOW = 1_800_000_000.0
DOMAIN = parse_nexthop(b"example.com")
TEXT = b"version: STSv1\nmode: testing\nmx: mx.example.com\nmax_age: 86400\n"
CACHED = CachedPolicy(record_id="1", policy=parse_policy(TEXT), text=TEXT, fetched=NOW, checked=NOW)
FIRST = Record(usage=2, selector=1, matching_type=1, data=bytes(32))
SECOND = Record(usage=3, selector=1, matching_type=1, data=bytes(32))
SILENT = Unavailable(why="SERVFAIL")


def found(*records: Any, secure: bool = True) -> Present[Any]:
    return Present(records=records, secure=secure, ttl=300, owner="mx.example.com")


def host(
    tlsa: Lookup[Record] | None,
    *,
    name: str = "mx.example.com",
    addresses: Lookup[str] | None = None,
) -> HostFacts:
    known = addresses or found("192.0.2.1")
    return HostFacts(name=name, preference=10, addresses=known, tlsa=tlsa)


def dns(*hosts: HostFacts, mx: Lookup[Mx] | None = None) -> DnsFacts:
    answer = mx or found(*(Mx(preference=10, host=each.name) for each in hosts))
    return DnsFacts(gathered=NOW, mx=answer, hosts=hosts, sts_record=None)


@pytest.mark.parametrize(
    ("key", "is_one"),
    [
        (b"example.com", True),
        (b"example.com:25", True),
        (b"example.com:smtp", True),
        (b"example.com:587", False),
        (b"[example.com]", False),
        (b"[192.0.2.1]", False),
        (b".example.com", False),
    ],
)
def test_only_a_domain_at_the_port_of_mail_goes_by_its_mx_records(key: bytes, is_one: bool) -> None:  # noqa: FBT001 - a table
    assert is_domain(parse_nexthop(key)) is is_one


def test_the_policy_the_secure_records_and_the_hosts_are_in_force() -> None:
    known = dns(
        host(found(FIRST)),
        host(found(FIRST, secure=False), name="b.example.com"),
        host(None, name="c.example.com"),
    )
    assert in_force_of(DOMAIN, known, CACHED) == InForce(
        sts=CACHED.policy,
        text=TEXT,
        tlsa={"mx.example.com": (FIRST,)},
        hosts=frozenset({"mx.example.com", "b.example.com", "c.example.com"}),
    )
    assert in_force_of(DOMAIN, known, None).sts is None


def test_the_order_in_which_dns_tells_records_makes_no_other_policy() -> None:
    one, other = dns(host(found(FIRST, SECOND))), dns(host(found(SECOND, FIRST)))
    assert in_force_of(DOMAIN, one, None) == in_force_of(DOMAIN, other, None)


@pytest.mark.parametrize(
    ("answer", "hosts"),
    [
        (found(Mx(preference=0, host="")), frozenset()),
        (Absent(secure=False, ttl=60), frozenset({"example.com"})),
        (Absent(secure=False, ttl=60, nxdomain=True), frozenset()),
        (SILENT, None),
        (found(*(Mx(preference=n, host=f"{n}.example.com") for n in range(128))), None),
    ],
    ids=["null MX", "no MX: the domain itself", "no such domain", "no answer", "too many to read"],
)
def test_hosts_are_those_that_mail_goes_to(
    answer: Lookup[Mx], hosts: frozenset[str] | None
) -> None:
    assert in_force_of(DOMAIN, dns(mx=answer), None).hosts == hosts


def test_hosts_that_were_not_examined_are_hosts() -> None:
    known = replace(dns(mx=found(Mx(preference=1, host="far.example.com"))), omitted=1)
    assert in_force_of(DOMAIN, known, None).hosts == frozenset({"far.example.com"})


@pytest.mark.parametrize("key", [b"[example.com]", b"example.com:587"])
def test_what_goes_past_the_mx_records_tells_nothing_of_them(key: bytes) -> None:
    assert in_force_of(parse_nexthop(key), dns(host(None)), None).hosts is None


def test_without_dns_a_policy_is_in_force_all_the_same() -> None:
    assert in_force_of(DOMAIN, None, CACHED) == InForce(sts=CACHED.policy, text=TEXT)


@pytest.mark.parametrize(
    ("known", "whole"),
    [
        (dns(host(found(FIRST)), host(None)), True),
        (dns(mx=Absent(secure=False, ttl=60)), True),
        (dns(mx=SILENT), False),
        (dns(host(SILENT)), False),
        (dns(host(None, addresses=SILENT)), False),
    ],
    ids=["all answered", "nothing there", "no MX records", "no TLSA records", "no address"],
)
def test_what_is_known_is_whole_where_all_was_answered(known: DnsFacts, whole: bool) -> None:  # noqa: FBT001 - a table
    assert is_whole(known) is whole


def test_a_day_ends_with_what_held_last_and_mail_went_to_the_hosts_of_all() -> None:
    begun = InForce(tlsa={"a.example": (FIRST,)}, hosts=frozenset({"a.example"}))
    ended = InForce(sts=CACHED.policy, text=TEXT, hosts=frozenset({"b.example"}))
    assert of_day([begun, ended]) == replace(ended, hosts=frozenset({"a.example", "b.example"}))


def test_hosts_of_a_day_are_unknown_where_they_were_at_any_time() -> None:
    known = InForce(hosts=frozenset({"a.example"}))
    assert of_day([InForce(), known]) == InForce()
    assert of_day([known, InForce()]) == InForce()

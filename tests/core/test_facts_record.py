"""`core.facts_record`: what is read back is what was written, and nothing else is read."""

import json
import timeit
from dataclasses import replace

import pytest

from postfix_mtasts.core import mta_sts, tlsa
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import (
    Absent,
    DnsFacts,
    HostFacts,
    Mx,
    Present,
    Unavailable,
)
from postfix_mtasts.core.facts_record import (
    MAX_RECORD_BYTES,
    VERSION,
    build_dns_facts,
    parse_dns_facts,
)

PIN = tlsa.Record(usage=3, selector=1, matching_type=1, data=bytes(range(32)))
BARE = Absent(secure=False, ttl=60)


def a_host(name: str) -> HostFacts:
    return HostFacts(
        name=name,
        preference=10,
        addresses=Present(records=("192.0.2.1", "2001:db8::1"), secure=True, ttl=300, owner=name),
        tlsa=Present(records=(PIN,), secure=True, ttl=60, owner=f"_25._tcp.{name}"),
    )


FULL = DnsFacts(
    gathered=1732200000.25,
    mx=Present(
        records=(Mx(preference=10, host="mx1.example.com"), Mx(preference=20, host="")),
        secure=True,
        ttl=3600,
        owner="example.com",
    ),
    hosts=(a_host("mx1.example.com"), a_host("mx2.example.com")),
    omitted=3,
    sts_record=Present(
        records=(mta_sts.Record(id="20240101T000000"),),
        secure=False,
        ttl=5,
        owner="_mta-sts.example.com",
    ),
)
POOR = DnsFacts(
    gathered=0.0,
    mx=None,
    hosts=(
        HostFacts(name="h.example", preference=0, addresses=Unavailable(why="étrange"), tlsa=None),
        HostFacts(name="i.example", preference=65535, addresses=BARE, tlsa=BARE),
    ),
    sts_record=None,
)
BROKEN_RECORD = DnsFacts(
    gathered=1.0,
    mx=Absent(secure=True, ttl=(1 << 32) - 1, nxdomain=True),
    hosts=(),
    sts_record=Absent(secure=False, ttl=0, why="the id is longer than 32 characters"),
)
# [version, gathered, mx, hosts, omitted, sts record], with nothing asked
PLAIN: list[object] = [VERSION, 1.5, None, [], 0, None]


def line(**changes: object) -> bytes:
    names = ("version", "gathered", "mx", "hosts", "omitted", "sts")
    return json.dumps([changes.get(n, v) for n, v in zip(names, PLAIN, strict=True)]).encode()


def built(facts: DnsFacts) -> bytes:
    data = build_dns_facts(facts)
    assert data is not None
    return data


@pytest.mark.parametrize("facts", [FULL, POOR, BROKEN_RECORD], ids=["full", "poor", "broken"])
def test_facts_come_back_as_they_were_written(facts: DnsFacts) -> None:
    assert parse_dns_facts(built(facts)) == facts


def with_why(length: int) -> DnsFacts:
    """Return facts of which the line has *length* bytes more than that of FULL."""
    line_of_full = len(built(FULL))
    short = replace(FULL, sts_record=Unavailable(why=""))
    return replace(
        FULL, sts_record=Unavailable(why="x" * (line_of_full + length - len(built(short))))
    )


def test_facts_of_any_length_that_is_read_are_written_and_longer_ones_are_not() -> None:
    most = MAX_RECORD_BYTES - len(built(FULL))
    assert len(built(with_why(most))) == MAX_RECORD_BYTES
    assert parse_dns_facts(built(with_why(most))).sts_record is not None
    assert build_dns_facts(with_why(most + 1)) is None


def test_as_many_hosts_as_are_examined_fit_with_as_much_as_honest_owners_publish() -> None:
    hosts = tuple(a_host(f"mx{number}.mail.protection.example.com") for number in range(32))
    assert 4 * len(built(replace(FULL, hosts=hosts))) < MAX_RECORD_BYTES


OURS = Unavailable(why="A h.example: too many DNS queries at once", ours=True)
BUSY = {
    "MX hosts": replace(FULL, mx=OURS),
    "an MTA-STS record": replace(FULL, sts_record=OURS),
    "addresses": replace(FULL, hosts=(FULL.hosts[0], replace(FULL.hosts[1], addresses=OURS))),
    "TLSA records": replace(FULL, hosts=(FULL.hosts[0], replace(FULL.hosts[1], tlsa=OURS))),
}


@pytest.mark.parametrize("facts", BUSY.values(), ids=BUSY)
def test_nothing_is_kept_where_we_were_too_busy_to_look_up(facts: DnsFacts) -> None:
    assert build_dns_facts(facts) is None


def test_a_line_is_short_and_ascii() -> None:
    data = built(FULL)
    assert len(data) < 600
    assert data.isascii()
    assert b" " not in data
    assert b"\n" not in data


def test_a_plain_line_is_read() -> None:
    expected = DnsFacts(gathered=1.5, mx=None, hosts=(), sts_record=None)
    assert parse_dns_facts(line()) == expected


def test_a_whole_second_is_a_time() -> None:
    gathered = parse_dns_facts(line(gathered=7)).gathered
    assert gathered == 7.0
    assert isinstance(gathered, float)


PRESENT = [["192.0.2.1"], True, 60, "h.example"]
HOST = ["h.example", 10, PRESENT, None]

REFUSED = {
    "nothing": b"",
    "no JSON": b"[1,",
    "bytes beyond ASCII": b'[1,1.5,["\xc3\xa9"],[],0,null]',
    "something behind the line": line() + b"[]",
    "an object": b"{}",
    "too few items": b"[1,1.5,null,[],0]",
    "too many items": b"[1,1.5,null,[],0,null,null]",
    "more nesting than Python can take": b"[" * 100_000,
    "a number longer than Python can take": b"[" + b"9" * 5000 + b"]",
    "more bytes than the limit": b" " * (MAX_RECORD_BYTES + 1),
    "another version": line(version=VERSION + 1),
    "a version that is no integer": line(version=float(VERSION)),
    "a version that is true": line(version=True),
    "a time that is text": line(gathered="1"),
    "a time that is true": line(gathered=True),
    "a time before the epoch": line(gathered=-1.0),
    "a time that is no number": b"[1,NaN,null,[],0,null]",
    "a time without end": b"[1,1e999,null,[],0,null]",
    "a count below zero": line(omitted=-1),
    "a count that is true": line(omitted=True),
    "a count that is a fraction": line(omitted=1.5),
    "a look-up that is text": line(mx="none"),
    "a look-up of no items": line(mx=[]),
    "a look-up of two items": line(mx=[True, 60]),
    "a failure without words": line(mx=[None]),
    "no records that exist": line(mx=[[], True, 60, "example.com"]),
    "an absence whose security is a number": line(mx=[1, 60, False, ""]),
    "an absence whose TTL is too high": line(mx=[True, 1 << 32, False, ""]),
    "an absence whose NXDOMAIN is a number": line(mx=[True, 60, 0, ""]),
    "an absence whose reason is a number": line(mx=[True, 60, False, 0]),
    "an MX record that is text": line(mx=[["mx.example"], True, 60, "example.com"]),
    "a preference that is too high": line(mx=[[[65536, "mx.example"]], True, 60, "example.com"]),
    "a host with a space": line(mx=[[[1, "mx .example"]], True, 60, "example.com"]),
    "a host with a line feed": line(mx=[[[1, "mx.example\n"]], True, 60, "example.com"]),
    "a host of 256 characters": line(mx=[[[1, "x" * 256]], True, 60, "example.com"]),
    "a host beyond ASCII": line(mx=[[[1, "mx.éxample"]], True, 60, "example.com"]),
    "an owner that is a number": line(mx=[[[1, "mx.example"]], True, 60, 5]),
    "hosts that are no list": line(hosts={}),
    "a host of three items": line(hosts=[HOST[:3]]),
    "a host without addresses asked": line(hosts=[["h.example", 10, None, None]]),
    "an address that is a number": line(hosts=[["h.example", 10, [[1], True, 60, "h"], None]]),
    "TLSA data that is not hexadecimal": line(hosts=[[*HOST[:3], [["0x01"], True, 60, "h"]]]),
    "TLSA data that is too short": line(hosts=[[*HOST[:3], [["0301"], True, 60, "h"]]]),
    "TLSA data that is a number": line(hosts=[[*HOST[:3], [[3], True, 60, "h"]]]),
    "an id with a hyphen": line(sts=[["a-b"], True, 60, "example.com"]),
    "an id of 33 characters": line(sts=[["x" * 33], True, 60, "example.com"]),
    "an id that is a number": line(sts=[[1], True, 60, "example.com"]),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_a_parse_error_is_all_that_comes_of(data: bytes) -> None:
    with pytest.raises(ParseError, match=r"^stored facts: |TLSA"):
        parse_dns_facts(data)


def test_the_version_in_a_refusal_is_named() -> None:
    with pytest.raises(ParseError, match=f"version 99, not {VERSION}"):
        parse_dns_facts(line(version=99))


def test_a_refusal_quotes_little_of_the_line() -> None:
    with pytest.raises(ParseError) as caught:
        parse_dns_facts(line(mx=["x" * 5000, 1]))
    assert len(str(caught.value)) < 200


def test_two_hosts_are_written_and_read_in_far_less_than_a_millisecond() -> None:
    data = built(FULL)
    writing = min(timeit.repeat(lambda: build_dns_facts(FULL), number=100, repeat=5))
    reading = min(timeit.repeat(lambda: parse_dns_facts(data), number=100, repeat=5))
    # 15 and 40 microseconds as measured; the bound allows for a slow machine.
    assert writing / 100 < 0.0005
    assert reading / 100 < 0.0005

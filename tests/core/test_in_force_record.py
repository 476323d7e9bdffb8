"""`core.in_force_record`: what is read back is what was written, and nothing else is read."""

import json
from typing import Any

import pytest

from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.in_force_record import MAX_BYTES, VERSION, build_in_force, parse_in_force
from postfix_mtasts.core.mta_sts import parse_policy
from postfix_mtasts.core.tlsa import Record

TEXT = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.com\r\nmax_age: 86400\r\nx: \xc3\xa9\r\n"
PIN = Record(usage=3, selector=1, matching_type=1, data=bytes(range(32)))
FULL = InForce(
    sts=parse_policy(TEXT),
    text=TEXT,
    tlsa={"b.example.com": (PIN,), "a.example.com": (PIN, PIN)},
    hosts=frozenset({"a.example.com", "b.example.com"}),
)


@pytest.mark.parametrize(
    "known", [FULL, InForce(), InForce(hosts=frozenset())], ids=["all", "nothing", "never asked"]
)
def test_what_was_in_force_comes_back(known: InForce) -> None:
    line = build_in_force(known)
    assert line is not None
    assert parse_in_force(line) == known


def test_the_same_knowledge_gives_the_same_line() -> None:
    turned = InForce(
        sts=FULL.sts,
        text=TEXT,
        tlsa={"a.example.com": (PIN, PIN), "b.example.com": (PIN,)},
        hosts=frozenset({"b.example.com", "a.example.com"}),
    )
    assert build_in_force(turned) == build_in_force(FULL)


def test_what_a_stranger_would_fill_the_disk_with_is_not_written() -> None:
    long = Record(usage=3, selector=0, matching_type=0, data=bytes(8000))
    assert build_in_force(InForce(tlsa={"mx.example.com": (long,)})) is not None
    assert build_in_force(InForce(tlsa={"mx.example.com": (long, long)})) is None


def line(*, version: Any = VERSION, text: Any = None, tlsa: Any = None, hosts: Any = None) -> bytes:
    return json.dumps([version, text, {} if tlsa is None else tlsa, hosts]).encode()


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 5000,
        b" " * (MAX_BYTES + 1),
        line(version=VERSION + 1),
        line(text="version: STSv1"),
        line(text="\u20ac"),
        line(text=7),
        line(tlsa=[]),
        line(tlsa={"mx.example.com": ["0301"]}),
        line(tlsa={"mx.example.com": ["zz"]}),
        line(tlsa={"mx.example.com": [3]}),
        line(tlsa={"mx.example.com": None}),
        line(tlsa={"mx example": []}),
        line(hosts=["", "a"]),
        line(hosts=[7]),
        line(hosts=7),
    ],
)
def test_what_was_not_written_by_this_version_is_refused(damaged: bytes) -> None:
    with pytest.raises(ParseError):
        parse_in_force(damaged)

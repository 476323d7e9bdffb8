"""Stored state: what comes back, what is refused, what is forgotten."""

import json
from collections import OrderedDict
from typing import Any

import pytest

from postfix_mtasts.core.attempt import Attempt, Process
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.log_line import Origin
from postfix_mtasts.core.session_state import (
    MAX_PROCESSES,
    State,
    build_state,
    parse_state,
    process_of,
)
from postfix_mtasts.core.tls_event import Attribution, DatagramFate, Fault, ResultType

EXPIRED = Fault(kind=ResultType.CERTIFICATE_EXPIRED, reason="why")
ORIGIN = Origin("mta", "postfix/smtp", "smtp", 7)


def full_state() -> State:
    attempt = Attempt(
        when=1.5,
        mx="mx.a.example",
        ip="192.0.2.1",
        port=25,
        connected=False,
        established=True,
        trusted=True,
        failed=True,
        fault=EXPIRED,
        told=EXPIRED,
        datagram=DatagramFate.LOST,
        nexthop="a.example",
        attribution=Attribution.TLSRPT,
        queue_id="ABC123",
        closed=True,
        joined=True,
    )
    process = Process(
        when=2.0,
        attempts=[attempt, Attempt(when=2, mx="", ip="")],
        nexthop="c.example",
        no_tlsproxy=True,
        unwanted=True,
        queue_id="ABC124",
        request="0.1/0.01",
        reached=["192.0.2.1"],
    )
    state = State()
    state.clients[ORIGIN] = process
    state.proxies[ORIGIN._replace(program="tlsproxy")] = Process(when=3)
    state.faults["mta", "192.0.2.1"] = EXPIRED
    state.own.active["mta", "ABC123"] = 4
    return state


def test_a_state_comes_back_from_json_as_it_was() -> None:
    state = full_state()
    assert parse_state(json.loads(json.dumps(build_state(state)))) == state
    assert parse_state(build_state(State())) == State()


def test_a_built_state_shares_nothing_with_the_living_one() -> None:
    state = full_state()
    built = build_state(state)
    before = json.dumps(built)
    state.clients[ORIGIN].reached.append("x")
    state.clients[ORIGIN].attempts.clear()
    assert json.dumps(built) == before


def damaged() -> list[Any]:
    """Return built states of which each has one thing wrong."""
    built = json.dumps(build_state(full_state()))
    changes = [
        ('"version": 2', '"version": 3'),
        ('"mta"', "7"),
        ("192.0.2.1", "\\u0000"),
        ('"certificate-expired"', '"of-tomorrow"'),
        ('"lost"', '"found"'),
        ("true", "1"),
        ("1.5", '"1.5"'),
        (", 25,", ", 25.0,"),
        ('"own"', '"owned"'),
        ('["certificate-expired", "why"]]', "null]"),
        ('4, "ABC123"', '4.0, "ABC123"'),
    ]
    return [json.loads(built.replace(old, new)) for old, new in changes]


@pytest.mark.parametrize(
    "value", [None, [], {}, {"version": 2}, "x", *damaged()[:2], *damaged()[3:]]
)
def test_a_damaged_state_is_refused_in_words(value: object) -> None:
    with pytest.raises(ParseError, match="the state of the log reader is"):
        parse_state(value)


def test_the_least_recently_heard_are_forgotten_first() -> None:
    table: OrderedDict[Origin, Process] = OrderedDict()
    for pid in range(MAX_PROCESSES):
        process_of(table, ORIGIN._replace(pid=pid), 0.0)
    process_of(table, ORIGIN._replace(pid=0), 0.0)
    process_of(table, ORIGIN._replace(pid=-1), 0.0)
    assert len(table) == MAX_PROCESSES
    assert ORIGIN._replace(pid=0) in table
    assert ORIGIN._replace(pid=1) not in table


def test_an_hour_of_silence_is_forgotten() -> None:
    table: OrderedDict[Origin, Process] = OrderedDict()
    old = process_of(table, ORIGIN, 0.0)
    assert process_of(table, ORIGIN, 3600.0) is old
    process_of(table, ORIGIN._replace(pid=8), 7200.0)
    assert ORIGIN in table
    process_of(table, ORIGIN._replace(pid=9), 7201.0)
    assert ORIGIN not in table

"""Counts: rows by who tells of a session, bounded, through a database and back."""

import json

import pytest

from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.detail import Bounds
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import (
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.mta_sts import parse_policy
from postfix_mtasts.core.tally import (
    Columns,
    Origin,
    Row,
    Tally,
    alike,
    build_columns,
    coarse,
    parse_columns,
    row_of_daemon,
    rows_of_datagram,
    rows_of_event,
)
from postfix_mtasts.core.tls_event import (
    Attribution,
    DatagramFate,
    Fault,
    Outcome,
    ResultType,
    TlsEvent,
)
from postfix_mtasts.core.tlsa import Record
from postfix_mtasts.core.tlsrpt_datagram import parse_datagram
from postfix_mtasts.core.utc import DAY

NOTHING = InForce()
TEXT = b"version: STSv1\nmode: testing\nmx: mx.example.com\nmax_age: 86400\n"
TESTING = InForce(sts=parse_policy(TEXT), text=TEXT)
NO_POLICY = build_policy(PolicyType.NO_POLICY_FOUND, "example.com")
STS = build_policy(PolicyType.STS, "example.com", ["mode: testing", "ü"], ["*.example.com"])
EXPIRED = build_failure(
    ResultType.CERTIFICATE_EXPIRED,
    sending_ip="192.0.2.1",
    mx_host="mx.example.com",
    helo="helo",
    receiving_ip="192.0.2.2",
    information="https://example.com/",
    reason="late",
)
FETCH = build_failure(ResultType.STS_POLICY_FETCH_ERROR)
GOOD = build_finding("example.com", NO_POLICY, failed=False)
BAD = build_finding("example.com", STS, [EXPIRED], failed=True)
DATAGRAM = parse_datagram(
    b'{"d":"example.com","policies":[{"policy-type":9,"f":0},{"policy-type":2,"f":1}]}'
)


def row(origin: Origin, finding: Finding = GOOD, day: int = 0) -> Row:
    return Row(day=day, origin=origin, finding=finding)


def event(
    outcome: Outcome = Outcome.SUCCESS,
    fault: Fault | None = None,
    *,
    when: float = 0.0,
    mx: str = "mx.example.com",
    connected: bool = True,
    datagram: DatagramFate = DatagramFate.NONE,
    ours: bool = False,
) -> TlsEvent:
    return TlsEvent(
        when=when,
        domain="example.com",
        outcome=outcome,
        fault=fault,
        mx=mx,
        connected=connected,
        datagram=datagram,
        ours=ours,
    )


def origins(session: TlsEvent, in_force: InForce = TESTING) -> list[Origin]:
    return [r.origin for r in rows_of_event(session, in_force, tls_logged=True)]


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (event(), [Origin.LOG]),
        (event(datagram=DatagramFate.SENT), [Origin.LOG_SENT]),
        (event(datagram=DatagramFate.LOST), [Origin.LOG]),
        (event(Outcome.PLAINTEXT), [Origin.LOG]),
        (event(Outcome.UNSEEN), [Origin.LOG]),
        (event(Outcome.PLAINTEXT, datagram=DatagramFate.SENT), [Origin.LOG_SENT]),
        (
            event(
                Outcome.FAILURE, Fault(kind=ResultType.VALIDATION_FAILURE), mx="x", connected=False
            ),
            [Origin.LOG],
        ),
        (event(mx="mx.evil.example"), [Origin.LOG]),
        (
            event(mx="mx.evil.example", datagram=DatagramFate.SENT),
            [Origin.LOG_SENT, Origin.LOG_BESIDE],
        ),
        (event(ours=True), []),
        (event(ours=True, datagram=DatagramFate.LOST), []),
        (event(ours=True, mx="x.example", datagram=DatagramFate.SENT), [Origin.OURS]),
    ],
)
def test_the_log_says_which_of_its_sessions_datagrams_tell_of(
    session: TlsEvent, expected: list[Origin]
) -> None:
    assert origins(session) == expected


def test_what_a_session_came_to_under_a_second_policy_is_told_apart() -> None:
    record = Record(usage=3, selector=1, matching_type=1, data=b"x" * 32)
    both = InForce(sts=TESTING.sts, text=TEXT, tlsa={"mx.example.com": (record,)})
    sent = DatagramFate.SENT
    assert origins(event(), both) == [Origin.LOG, Origin.LOG]
    assert origins(event(datagram=sent), both) == [Origin.LOG_SENT, Origin.LOG_SENT_FURTHER]
    assert origins(event(datagram=sent, ours=True), both) == [Origin.OURS, Origin.OURS_FURTHER]
    (first, further) = rows_of_event(event(datagram=sent, ours=True), both, tls_logged=True)
    assert first.finding.policy.type is PolicyType.TLSA
    assert further.finding.policy.type is PolicyType.STS


def test_a_session_belongs_to_the_utc_day_in_which_it_was() -> None:
    for when, day in ((DAY - 0.5, 0), (DAY * 1.0, 1)):
        (logged,) = rows_of_event(event(when=when), NOTHING, tls_logged=True)
        assert logged.day == day
        told = rows_of_datagram(DATAGRAM, NOTHING, when=when)
        assert [r.day for r in told] == [day, day]
        own = row_of_daemon("example.com", ResultType.DNSSEC_INVALID, "", NOTHING, when=when)
        assert own.day == day


def test_every_policy_of_a_datagram_has_its_row() -> None:
    told = rows_of_datagram(DATAGRAM, NOTHING, when=0.0)
    assert [r.finding for r in told] == list(DATAGRAM.findings)
    assert [r.origin for r in told] == [Origin.DATAGRAM, Origin.DATAGRAM_FURTHER]


def test_what_the_daemon_finds_out_is_a_row_of_its_own_origin() -> None:
    own = row_of_daemon(
        "example.com", ResultType.TLSA_INVALID, "why", NOTHING, when=1.0, host="mx.example.com"
    )
    assert own.origin is Origin.DAEMON
    assert own.finding.policy.domain == "mx.example.com"


def test_events_that_count_for_the_same_are_alike_and_others_are_not() -> None:
    one = TlsEvent(
        when=5.0,
        domain="example.com",
        outcome=Outcome.SUCCESS,
        queue_id="4ABC",
        service="postfix/smtp",
        attribution=Attribution.TLSRPT,
        beside="mx.example.com",
    )
    two = TlsEvent(when=DAY - 1.0, domain="example.com", outcome=Outcome.SUCCESS, queue_id="4DEF")
    assert alike(one) == alike(two)
    assert alike(one) != alike(event(when=5.0))
    assert alike(one) != alike(TlsEvent(when=1.0 * DAY, domain="example.com", outcome=one.outcome))
    assert rows_of_event(alike(one), NOTHING, tls_logged=True) == rows_of_event(
        one, NOTHING, tls_logged=True
    )


def test_a_tally_counts_until_it_is_taken() -> None:
    tally = Tally()
    tally.add(row(Origin.LOG))
    tally.add(row(Origin.LOG, BAD), 3)
    tally.add(row(Origin.LOG), 2)
    assert len(tally) == 2
    assert tally.octets == row(Origin.LOG).octets + row(Origin.LOG, BAD).octets
    assert tally.take() == ((row(Origin.LOG), 3), (row(Origin.LOG, BAD), 3))
    assert (len(tally), tally.octets, tally.take()) == (0, 0, ())
    tally.add(row(Origin.LOG))
    assert tally.take() == ((row(Origin.LOG), 1),)


def test_a_server_that_makes_every_session_differ_fills_no_memory() -> None:
    tally = Tally(bounds=Bounds(kinds=10, octets=10**9))
    for n in range(1000):
        failure = build_failure(ResultType.CERTIFICATE_EXPIRED, helo=f"h{n}")
        policy = build_policy(PolicyType.STS, "example.com", [f"id: {n}"], ["mx.example.com"])
        tally.add(
            row(Origin.LOG, build_finding("example.com", policy, [failure] * (n % 2), failed=True))
        )
    assert len(tally) == 42  # 40, and of what is told without details two kinds
    other = build_finding("other.example", NO_POLICY, [EXPIRED], failed=True)
    tally.add(row(Origin.LOG, other))
    taken = tally.take()
    assert sum(count for _, count in taken) == 1001
    assert (row(Origin.LOG, other), 1) in taken
    tally.add(row(Origin.LOG, BAD))
    assert tally.take() == ((row(Origin.LOG, BAD), 1),)


def test_a_coarse_row_has_nothing_of_a_strangers_choice() -> None:
    policy = build_policy(PolicyType.TLSA, "rotating.example.net", ["3 1 1 AB"])
    failures = [EXPIRED, build_failure(ResultType.CERTIFICATE_EXPIRED, reason="x")]
    found = build_finding("example.com", policy, failures, failed=None)
    assert coarse(row(Origin.LOG, found, day=3)) == Row(
        day=3,
        origin=Origin.LOG,
        finding=build_finding(
            "example.com",
            build_policy(PolicyType.TLSA, "example.com"),
            [build_failure(ResultType.CERTIFICATE_EXPIRED)],
            failed=None,
        ),
    )


def test_columns_are_small_and_give_the_row_back() -> None:
    known = row(Origin.LOG_SENT, BAD, day=20000)
    assert build_columns(known) == (
        20000,
        "example.com",
        "log-sent",
        '["sts","example.com",["mode: testing","ü"],["*.example.com"]]',
        (
            '[true,[["certificate-expired","192.0.2.1","mx.example.com","helo","192.0.2.2",'
            '"https://example.com/","late"]]]'
        ),
    )
    for failed in (True, False, None):
        for origin in Origin:
            one = row(origin, build_finding("example.com", STS, [EXPIRED, FETCH], failed=failed))
            assert parse_columns(build_columns(one)) == one


def test_rows_are_read_back_as_they_were_whatever_their_text_looks_like() -> None:
    failure = build_failure(ResultType.CERTIFICATE_EXPIRED, helo="250-250-x.example")
    one = row(Origin.LOG, build_finding("example.com", NO_POLICY, [failure], failed=True))
    assert failure.helo == "250-x.example"
    assert parse_columns(build_columns(one)) == one


SOUND = build_columns(row(Origin.LOG, BAD))


@pytest.mark.parametrize(
    "damaged",
    [
        *((*SOUND[:2], "rumour", *SOUND[3:]), (*SOUND[:3], "", SOUND[4]), (*SOUND[:4], "")),
        *((*SOUND[:3], "[]", SOUND[4]), (*SOUND[:3], "1", SOUND[4]), (*SOUND[:4], "[" * 99999)),
        (*SOUND[:3], '["sts",1,[],[]]', SOUND[4]),
        (*SOUND[:3], '["none","a",[],[]]', SOUND[4]),
        (*SOUND[:3], '["sts","a",[1],[]]', SOUND[4]),
        (*SOUND[:3], '["sts","a",[],[null]]', SOUND[4]),
        (*SOUND[:3], '["sts","a",1,[]]', SOUND[4]),
        *((*SOUND[:4], "[1,[]]"), (*SOUND[:4], "[true,[[]]]"), (*SOUND[:4], "[true,[1]]")),
        (*SOUND[:4], json.dumps([True, [["unheard-of", "", "", "", "", "", ""]]])),
        (*SOUND[:4], json.dumps([True, [["tlsa-invalid", "", "", "", "", "", 1]]])),
    ],
)
def test_a_damaged_row_is_refused(damaged: Columns) -> None:
    with pytest.raises(ParseError, match="damaged"):
        parse_columns(damaged)

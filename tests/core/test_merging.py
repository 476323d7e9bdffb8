"""What counts: each session once, whoever tells of it, and whatever is missing."""

import itertools

from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.finding import (
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.merging import merge
from postfix_mtasts.core.mta_sts import parse_policy
from postfix_mtasts.core.tally import Origin, Row, rows_of_datagram, rows_of_event
from postfix_mtasts.core.tls_event import DatagramFate, Outcome, ResultType, TlsEvent
from postfix_mtasts.core.tlsrpt_datagram import parse_datagram

NO_POLICY = build_policy(PolicyType.NO_POLICY_FOUND, "example.com")
TLSA = build_policy(PolicyType.TLSA, "mx.example.com", ["3 1 1 AB"])
STS = build_policy(PolicyType.STS, "example.com", ["mode: testing"], ["*.example.com"])
EXPIRED = build_failure(ResultType.CERTIFICATE_EXPIRED, mx_host="mx.example.com", helo="a greeting")
EXPIRED_IN_LOG = build_failure(ResultType.CERTIFICATE_EXPIRED, mx_host="mx.example.com")
UNTRUSTED = build_failure(ResultType.CERTIFICATE_NOT_TRUSTED, mx_host="mx.example.com")
OUTSIDE = build_failure(ResultType.VALIDATION_FAILURE, mx_host="mx.evil.example", reason="outside")
FETCH = build_failure(ResultType.STS_POLICY_FETCH_ERROR)
GOOD = build_finding("example.com", NO_POLICY, failed=False)
BAD = build_finding("example.com", STS, [EXPIRED], failed=True)
BAD_IN_LOG = build_finding("example.com", STS, [EXPIRED_IN_LOG], failed=True)
OTHERWISE_BAD = build_finding("example.com", STS, [UNTRUSTED], failed=True)
GOOD_TLSA = build_finding("example.com", TLSA, failed=False)
GOOD_STS = build_finding("example.com", STS, failed=False)
WENT_OUTSIDE = build_finding("example.com", STS, [OUTSIDE], failed=True)
BESIDE = build_finding("example.com", STS, [OUTSIDE], failed=None)


def merged(*counts: tuple[Origin, Finding, int]) -> dict[Finding, int]:
    """Return what counts of *counts*, summed."""
    result: dict[Finding, int] = {}
    for finding, count in merge((Row(day=0, origin=o, finding=f), n) for o, f, n in counts):
        assert count > 0
        result[finding] = result.get(finding, 0) + count
    return result


def test_where_both_are_whole_each_session_counts_once_as_the_datagram_tells_it() -> None:
    counts = merged(
        (Origin.DATAGRAM, GOOD, 5),
        (Origin.DATAGRAM, BAD, 2),
        (Origin.LOG_SENT, GOOD, 5),
        (Origin.LOG_SENT, BAD_IN_LOG, 2),
    )
    assert counts == {GOOD: 5, BAD: 2}


def test_what_no_datagram_tells_of_counts_in_any_case() -> None:
    assert merged((Origin.DATAGRAM, GOOD, 5), (Origin.LOG, GOOD, 7)) == {GOOD: 12}
    assert merged((Origin.LOG, GOOD, 7), (Origin.LOG, BAD, 1)) == {GOOD: 7, BAD: 1}
    assert merged() == {}


def test_where_no_datagrams_were_counted_the_log_is_the_count() -> None:
    counts = merged((Origin.LOG_SENT, GOOD, 7), (Origin.LOG_SENT, BAD_IN_LOG, 2))
    assert counts == {GOOD: 7, BAD_IN_LOG: 2}


def test_where_datagrams_were_lost_just_these_come_from_the_log() -> None:
    counts = merged(
        (Origin.DATAGRAM, GOOD, 4),
        (Origin.DATAGRAM, BAD, 1),
        (Origin.LOG_SENT, GOOD, 6),
        (Origin.LOG_SENT, BAD_IN_LOG, 2),
        (Origin.LOG_SENT, OTHERWISE_BAD, 3),
    )
    assert counts == {GOOD: 6, BAD: 1, BAD_IN_LOG: 1, OTHERWISE_BAD: 3}


def test_of_sessions_that_differ_by_what_only_one_source_tells_as_many_are_drawn() -> None:
    others = [build_failure(EXPIRED.result_type, mx_host=EXPIRED.mx_host, reason=r) for r in "ab"]
    findings = [build_finding("example.com", STS, [each], failed=True) for each in others]
    counts = merged((Origin.DATAGRAM, BAD, 2), *[(Origin.LOG_SENT, each, 2) for each in findings])
    assert counts == {BAD: 2, findings[0]: 2}


def test_where_lines_were_lost_the_datagrams_are_the_count() -> None:
    counts = merged(
        (Origin.DATAGRAM, GOOD, 6), (Origin.DATAGRAM, BAD, 2), (Origin.LOG_SENT, BAD_IN_LOG, 1)
    )
    assert counts == {GOOD: 6, BAD: 2}


def test_one_session_of_which_two_sources_tell_differently_counts_once() -> None:
    assert merged((Origin.DATAGRAM, BAD, 3), (Origin.LOG_SENT, OTHERWISE_BAD, 3)) == {BAD: 3}
    assert merged((Origin.DATAGRAM, GOOD_STS, 3), (Origin.LOG_SENT, GOOD, 3)) == {GOOD_STS: 3}
    assert merged((Origin.DATAGRAM, BAD, 3), (Origin.LOG_SENT, GOOD, 3)) == {BAD: 3}


def test_where_more_seem_to_be_missing_than_are_no_failure_is_made_up() -> None:
    counts = merged(
        (Origin.DATAGRAM, BAD, 3),
        (Origin.LOG_SENT, OTHERWISE_BAD, 3),
        (Origin.LOG_SENT, GOOD, 1),
    )
    assert counts == {BAD: 3, GOOD: 1}


def test_a_second_policy_counts_where_the_session_does() -> None:
    both = merged(
        (Origin.DATAGRAM, GOOD_TLSA, 4),
        (Origin.DATAGRAM_FURTHER, GOOD_STS, 4),
        (Origin.LOG_SENT, GOOD_TLSA, 6),
        (Origin.LOG_SENT_FURTHER, GOOD_STS, 6),
    )
    assert both == {GOOD_TLSA: 6, GOOD_STS: 6}
    # The daemon knew of TLSA records that Postfix did not go by: nothing is missing.
    unlike = merged(
        (Origin.DATAGRAM, GOOD_STS, 4),
        (Origin.LOG_SENT, GOOD_TLSA, 4),
        (Origin.LOG_SENT_FURTHER, GOOD_STS, 4),
    )
    assert unlike == {GOOD_STS: 4}


def test_a_datagram_about_our_own_report_is_taken_off_the_likeliest() -> None:
    counts = [(Origin.DATAGRAM, GOOD, 5), (Origin.DATAGRAM, BAD, 2), (Origin.LOG_SENT, GOOD, 4)]
    assert merged(*counts, (Origin.OURS, GOOD, 1)) == {GOOD: 4, BAD: 2}
    assert merged(*counts, (Origin.OURS, BAD_IN_LOG, 2)) == {GOOD: 5}
    assert merged(*counts, (Origin.OURS, OTHERWISE_BAD, 1)) == {GOOD: 5, BAD: 1}
    assert merged(*counts, (Origin.OURS, BAD_IN_LOG, 2), (Origin.OURS, GOOD, 1)) == {GOOD: 4}
    assert merged(*counts, (Origin.OURS, BAD_IN_LOG, 3)) == {GOOD: 4}
    further = [(Origin.DATAGRAM_FURTHER, GOOD_STS, 1), (Origin.OURS_FURTHER, GOOD_STS, 1)]
    assert merged(*counts, *further) == merged(*counts)


def test_where_datagrams_about_our_reports_were_lost_the_sessions_of_others_stay() -> None:
    lost = merged((Origin.DATAGRAM, GOOD, 5), (Origin.LOG_SENT, GOOD, 5), (Origin.OURS, GOOD, 3))
    assert lost == {GOOD: 5}
    assert merged((Origin.DATAGRAM, GOOD, 1), (Origin.OURS, GOOD, 3)) == {}
    assert merged((Origin.OURS, GOOD, 3)) == {}


def test_a_host_outside_the_policy_is_told_once_for_each_session() -> None:
    log = [(Origin.LOG_SENT, WENT_OUTSIDE, 5), (Origin.LOG_BESIDE, BESIDE, 5)]
    assert merged(*log) == {WENT_OUTSIDE: 5}
    assert merged((Origin.DATAGRAM, GOOD_STS, 5), *log) == {GOOD_STS: 5, BESIDE: 5}
    assert merged((Origin.DATAGRAM, GOOD_STS, 3), *log) == {
        GOOD_STS: 3,
        WENT_OUTSIDE: 2,
        BESIDE: 3,
    }


def test_a_host_outside_a_testing_policy_is_told_once_with_and_without_datagrams() -> None:
    text = b"version: STSv1\nmode: testing\nmx: mx.example.com\nmax_age: 86400\n"
    testing = InForce(sts=parse_policy(text), text=text)
    outside = TlsEvent(
        when=0.0,
        domain="example.com",
        outcome=Outcome.SUCCESS,
        mx="mx.evil.example",
        datagram=DatagramFate.SENT,
    )
    log = [(row, 1) for row in rows_of_event(outside, testing, tls_logged=True)]
    datagram = parse_datagram(b'{"d":"example.com","policies":[{"policy-type":9,"f":0}]}')
    sent = [(row, 1) for row in rows_of_datagram(datagram, testing, when=0)]
    for counts, failed in ((merge(log), [True]), (merge(log + sent), [False, None])):
        assert [finding.failed for finding, _ in counts] == failed
        assert sum(len(finding.failures) for finding, _ in counts) == 1


def test_what_the_daemon_finds_out_counts_where_nobody_tells_of_the_like() -> None:
    own = build_finding("example.com", STS, [FETCH], failed=True)
    told = build_finding("example.com", STS, [EXPIRED, FETCH], failed=True)
    found = (Origin.DAEMON, own, 3)
    assert merged(found, (Origin.LOG, GOOD, 1)) == {GOOD: 1, own: 3}
    assert merged(found, (Origin.DATAGRAM, told, 1)) == {told: 1}
    assert merged(found, (Origin.LOG, told, 1)) == {told: 1}
    # The log gives way to datagrams, and then says nothing against the daemon either.
    assert merged(found, (Origin.LOG_SENT, told, 1), (Origin.DATAGRAM, GOOD, 1)) == {
        GOOD: 1,
        own: 3,
    }


def test_in_whatever_order_the_sources_are_read_the_counts_are_the_same() -> None:
    counts = [
        (Origin.DATAGRAM, GOOD, 3),
        (Origin.LOG_SENT, GOOD, 4),
        (Origin.LOG_SENT, BAD_IN_LOG, 1),
        (Origin.OURS, GOOD, 1),
        (Origin.DAEMON, build_finding("example.com", STS, [FETCH], failed=True), 1),
    ]
    results = [merged(*order) for order in itertools.permutations(counts)]
    assert all(result == results[0] for result in results)

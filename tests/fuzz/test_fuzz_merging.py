"""Whatever sessions there are and whichever a source lacks, each counts at most once."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core.finding import (
    Failure,
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.merging import merge
from postfix_mtasts.core.tally import Origin, Row
from postfix_mtasts.core.tls_event import ResultType

FUZZ = settings(derandomize=True, deadline=None, max_examples=400)

STS = build_policy(PolicyType.STS, "example.com", ["mode: enforce"], ["mx.example.com"])
NONE = build_policy(PolicyType.NO_POLICY_FOUND, "example.com")
TLSA = build_policy(PolicyType.TLSA, "mx.example.com", ["3 1 1 AB"])


def failure(kind: ResultType, host: str, helo: str = "") -> Failure:
    return build_failure(kind, mx_host=host, helo=helo)


def told(*failures: Failure) -> Finding:
    return build_finding("example.com", STS, failures, failed=bool(failures))


EXPIRED, UNTRUSTED = ResultType.CERTIFICATE_EXPIRED, ResultType.CERTIFICATE_NOT_TRUSTED
# What the log says of a session, and what its datagram says.
SAME = (
    (build_finding("example.com", NONE, failed=False),) * 2,
    (build_finding("example.com", TLSA, failed=False),) * 2,
    (told(), told()),
    (told(failure(EXPIRED, "a.example.com")), told(failure(EXPIRED, "a.example.com", "greeting"))),
    (told(failure(EXPIRED, "b.example.com")), told(failure(EXPIRED, "b.example.com", "greeting"))),
)
UNLIKE = (
    *SAME,
    (told(failure(EXPIRED, "c.example.com")), told(failure(UNTRUSTED, "c.example.com"))),
    (build_finding("example.com", NONE, failed=False), told()),
    (told(), told(failure(UNTRUSTED, "c.example.com"))),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One of which a datagram was sent; *log* and *datagram*: which source has it."""

    kind: int
    log: bool = True
    datagram: bool = True
    ours: bool = False


def merged(sessions: list[Session], kinds: tuple[tuple[Finding, Finding], ...]) -> Counter[Finding]:
    rows: Counter[Row] = Counter()
    for session in sessions:
        log, datagram = kinds[session.kind]
        if session.log:
            origin = Origin.OURS if session.ours else Origin.LOG_SENT
            rows[Row(day=0, origin=origin, finding=log)] += 1
        if session.datagram:
            rows[Row(day=0, origin=Origin.DATAGRAM, finding=datagram)] += 1
    result: Counter[Finding] = Counter()
    for finding, count in merge(rows.items()):
        assert count > 0
        result[finding] += count
    return result


def seen(counts: Counter[Finding]) -> Counter[tuple[bool | None, str, tuple[str, ...]]]:
    """Return *counts* without what only datagrams tell."""
    known: Counter[tuple[bool | None, str, tuple[str, ...]]] = Counter()
    for finding, count in counts.items():
        hosts = tuple(each.mx_host for each in finding.failures)
        known[finding.failed, finding.policy.domain, hosts] += count
    return known


SESSIONS = st.lists(
    st.builds(
        Session,
        kind=st.integers(0, len(UNLIKE) - 1),
        log=st.booleans(),
        datagram=st.booleans(),
        ours=st.booleans(),
    ),
    max_size=30,
)
WHOLE_LOG = st.lists(
    st.builds(Session, kind=st.integers(0, len(SAME) - 1), datagram=st.booleans()), max_size=30
)
WHOLE_DATAGRAMS = st.lists(
    st.builds(Session, kind=st.integers(0, len(UNLIKE) - 1), log=st.booleans()), max_size=30
)


@FUZZ
@given(WHOLE_LOG)
def test_whichever_datagrams_are_lost_nothing_is_missing(sessions: list[Session]) -> None:
    whole = merged([Session(kind=each.kind) for each in sessions], SAME)
    assert seen(merged(sessions, SAME)) == seen(whole)
    assert seen(whole) == seen(Counter(SAME[each.kind][1] for each in sessions))


@FUZZ
@given(WHOLE_DATAGRAMS)
def test_whichever_lines_are_lost_the_datagrams_are_the_count(sessions: list[Session]) -> None:
    assert merged(sessions, UNLIKE) == Counter(UNLIKE[each.kind][1] for each in sessions)


@FUZZ
@given(SESSIONS)
def test_there_are_never_fewer_than_either_source_tells_of_nor_more_than_there_were(
    sessions: list[Session],
) -> None:
    others = [each for each in sessions if not each.ours]
    log = sum(each.log for each in others)
    ours = sum(each.log for each in sessions if each.ours)
    datagrams = max(0, sum(each.datagram for each in sessions) - ours)
    count = merged(sessions, UNLIKE).total()
    assert count == max(log, datagrams)
    if all(each.log for each in sessions if each.ours):
        assert count <= sum(each.log or each.datagram for each in others)

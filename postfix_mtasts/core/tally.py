"""Sessions folded into counts: each counted once, however many sources tell of it.

A count has a row: the UTC day, who told, and the finding.  A session that several
sources tell of is counted under each, in rows of different origin, and `merge`
decides when the report is made, and not before, which origins count.  So it does
not matter in what order the sources are read, nor that one lags behind:

* Where datagrams of a domain and day came, they are the count, and the log adds
  only what they never carry.  Where none came, the log is the count.
* What the policy daemon found out itself counts where neither tells of the like.

Rows become columns of a database: a number and short strings.  Equal sessions,
which most are, are told apart from different ones before anything is worked out:
`alike` makes equal events equal values, as the octets of datagrams are anyway.

A stranger's server can make every session differ, by its greeting alone.  Of one
domain and day a bounded number of rows is kept apart; what comes then is counted
without the details.

BUGS: On the day on which datagrams begin to come, what the log alone told of a
domain before that gives way to them.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeAlias

from postfix_mtasts.core.applied import (
    InForce,
    finding_of_daemon,
    findings_of_datagram,
    findings_of_event,
    news_for_datagrams,
)
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import (
    AppliedPolicy,
    Failure,
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.tls_event import (
    Attribution,
    ResultType,
    TlsEvent,
)
from postfix_mtasts.core.tlsrpt_datagram import Datagram
from postfix_mtasts.core.utc import day_of, day_start

MAX_ROWS = 1000
"""No more rows of one domain and day are kept apart (a security limit)."""

Columns: TypeAlias = tuple[int, str, str, str, str]
"""A row in a database: day, domain, origin, policy, result; the last two are JSON."""

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)


class Origin(Enum):
    """Who told of a session, and thereby when it counts."""

    DATAGRAM = "datagram"  # always
    LOG = "log"  # where no datagrams came
    LOG_ALONE = "log-alone"  # always: datagrams never carry it
    LOG_BESIDE = "log-beside"  # where datagrams came: they count the session, this what was wrong
    DAEMON = "daemon"  # where nobody else tells of the like


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is counted together.  *day*: as `utc` counts them."""

    day: int
    origin: Origin
    finding: Finding
    # Worked out once: a row of datagrams is counted thousands of times, and is deep.
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.day, self.origin.value, self.finding)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(slots=True, kw_only=True)
class Tally:
    """Rows counted in memory until they are taken to be stored.

    *most*: how many rows of one domain and day are kept apart between two takes;
    over the whole day that is for whoever stores them to bound, by `coarse`.
    """

    most: int = MAX_ROWS
    _counts: Counter[Row] = field(default_factory=Counter)
    _kinds: Counter[tuple[int, str]] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, row: Row, count: int = 1) -> None:
        """Count *row* *count* times."""
        if row not in self._counts:
            key = (row.day, row.finding.domain)
            if self._kinds[key] >= self.most:
                row = coarse(row)
            else:
                self._kinds[key] += 1
        self._counts[row] += count

    def take(self) -> tuple[tuple[Row, int], ...]:
        """Return all that was counted, in the order in which it first came, and begin anew."""
        taken = tuple(self._counts.items())
        self._counts.clear()
        self._kinds.clear()
        return taken


def alike(event: TlsEvent) -> TlsEvent:
    """Return *event* without what tells it from others that count for the same."""
    return replace(
        event,
        when=float(day_start(day_of(event.when))),
        queue_id="",
        service="",
        attribution=Attribution.RECIPIENT,
    )


def rows_of_event(event: TlsEvent, in_force: InForce, *, tls_logged: bool) -> tuple[Row, ...]:
    """Return the rows that *event*, from a log, counts in; see `findings_of_event`."""
    day = day_of(event.when)
    origin = Origin.LOG_ALONE if event.adds_to_datagrams else Origin.LOG
    findings = findings_of_event(event, in_force, tls_logged=tls_logged)
    news = news_for_datagrams(event, in_force)
    return (
        *(Row(day=day, origin=origin, finding=finding) for finding in findings),
        *(Row(day=day, origin=Origin.LOG_BESIDE, finding=finding) for finding in news),
    )


def rows_of_datagram(datagram: Datagram, in_force: InForce, *, when: float) -> tuple[Row, ...]:
    """Return the rows that *datagram*, which came at *when*, counts in."""
    day = day_of(when)
    return tuple(
        Row(day=day, origin=Origin.DATAGRAM, finding=found)
        for finding in datagram.findings
        for found in findings_of_datagram(finding, in_force)
    )


def row_of_daemon(
    domain: str, kind: ResultType, reason: str, in_force: InForce, *, when: float, host: str = ""
) -> Row:
    """Return the row of what the policy daemon found out at *when*; see `finding_of_daemon`.

    Raises ParseError where *domain* or *host* is no host name.
    """
    finding = finding_of_daemon(domain, kind, reason, in_force, host=host)
    return Row(day=day_of(when), origin=Origin.DAEMON, finding=finding)


def merge(counts: Iterable[tuple[Row, int]]) -> tuple[tuple[Finding, int], ...]:
    """Return what counts of all rows of one domain and day, each session once."""
    rows = tuple(counts)
    came = any(row.origin is Origin.DATAGRAM for row, _ in rows)
    left_out = {Origin.DAEMON, Origin.LOG if came else Origin.LOG_BESIDE}
    told = [(row.finding, count) for row, count in rows if row.origin not in left_out]
    known = {kind for finding, _ in told for kind in _kinds(finding)}
    own = [
        (row.finding, count)
        for row, count in rows
        if row.origin is Origin.DAEMON and known.isdisjoint(_kinds(row.finding))
    ]
    return (*told, *own)


def coarse(row: Row) -> Row:
    """Return *row* without all that is not drawn from a fixed list: few of a domain differ."""
    finding = row.finding
    failures = (build_failure(kind) for kind in _kinds(finding))
    policy = build_policy(finding.policy.type, finding.domain)
    kept = build_finding(finding.domain, policy, failures, failed=finding.failed)
    return replace(row, finding=kept)


def _kinds(finding: Finding) -> tuple[ResultType, ...]:
    return tuple(failure.result_type for failure in finding.failures)


def build_columns(row: Row) -> Columns:
    """Return *row* as the columns of a database; equal rows have equal columns."""
    policy, finding = row.finding.policy, row.finding
    described = (policy.type.value, policy.domain, policy.strings, policy.mx_hosts)
    result = (finding.failed, [failure.columns for failure in finding.failures])
    return (
        *(row.day, finding.domain, row.origin.value),
        *(_ENCODER.encode(described), _ENCODER.encode(result)),
    )


def parse_columns(columns: Columns) -> Row:
    """Return the row of which *columns* were built.

    Raises ParseError where they are damaged.
    """
    day, domain, origin, policy, result = columns
    try:
        kind, name, strings, mx_hosts = json.loads(policy)
        failed, failures = json.loads(result)
        return Row(
            day=day,
            origin=Origin(origin),
            finding=Finding(
                domain=domain,
                policy=AppliedPolicy(
                    type=PolicyType(kind),
                    domain=_text(name),
                    strings=tuple(map(_text, strings)),
                    mx_hosts=tuple(map(_text, mx_hosts)),
                ),
                failed=_flag(failed),
                failures=tuple(map(_failure, failures)),
            ),
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise ParseError(f"a damaged row of counts: {error}") from None


def _failure(columns: Any) -> Failure:
    kind, sending_ip, mx_host, helo, receiving_ip, information, reason = map(_text, columns)
    return Failure(
        result_type=ResultType(kind),
        sending_ip=sending_ip,
        mx_host=mx_host,
        helo=helo,
        receiving_ip=receiving_ip,
        information=information,
        reason=reason,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _flag(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError("neither true, false nor null")
    return value

"""Sessions folded into counts, in rows that a database keeps.

A count has a row: the UTC day, who told, and the finding.  A session that several
sources tell of is counted under each, in rows of different origin, and which of
these count is decided when the report is made, and not before: see `merging`.  So
it does not matter in what order the sources are read, nor that one lags behind.

Who told is said so that this can be decided.  Of a session of which Postfix's log
tells it also says whether Postfix sent a datagram about it.  A session may count
under two policies; the second finding has an origin of its own, so that sessions
can be told from findings.

Rows become columns of a database: a number and short strings.  Equal sessions,
which most are, are told apart from different ones before anything is worked out:
`alike` makes equal events equal values, as the octets of datagrams are anyway.

A stranger's server can make every session differ, so of one domain and day only so
much is told apart: see `detail`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, TypeAlias

from postfix_mtasts.core.applied import (
    InForce,
    finding_of_daemon,
    findings_of_datagram,
    findings_of_event,
    news_for_datagrams,
)
from postfix_mtasts.core.detail import COARSEST, Bounds, Room, octets_of, simplified
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import AppliedPolicy, Failure, Finding, PolicyType
from postfix_mtasts.core.tls_event import Attribution, DatagramFate, ResultType, TlsEvent
from postfix_mtasts.core.tlsrpt_datagram import Datagram
from postfix_mtasts.core.utc import day_of, day_start

BOUNDS: Final = Bounds(kinds=250, octets=1 << 18)
"""So much of one domain and day is told apart in memory, at each level of detail."""

Columns: TypeAlias = tuple[int, str, str, str, str]
"""A row in a database: day, domain, origin, policy, result; the last two are JSON."""

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)


class Origin(Enum):
    """Who told of a session, and what is known of its datagram.

    FURTHER: what the same session came to under a second policy.
    """

    DATAGRAM = "datagram"
    DATAGRAM_FURTHER = "datagram-further"
    LOG = "log"  # of which no datagram tells
    LOG_SENT = "log-sent"  # Postfix sent a datagram as well
    LOG_SENT_FURTHER = "log-sent-further"
    LOG_BESIDE = "log-beside"  # what was wrong with a session, which the datagram does not say
    OURS = "ours"  # the log tells of a datagram about a report of ours
    OURS_FURTHER = "ours-further"
    DAEMON = "daemon"  # what the policy daemon itself found out


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is counted together.  *day*: as `utc` counts them."""

    day: int
    origin: Origin
    finding: Finding
    octets: int = field(init=False, repr=False, compare=False)  # of memory, roughly
    # Both worked out once: a row of datagrams is counted thousands of times, and is deep.
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "octets", octets_of(self.finding))
        object.__setattr__(self, "_hash", hash((self.day, self.origin.value, self.finding)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(slots=True, kw_only=True)
class Tally:
    """Rows counted in memory until they are taken to be stored.

    *bounds*: how much of one domain and day is told apart between two takes; over the
    whole day that is for whoever stores them to bound.  *octets*: of memory that
    the rows take, roughly; of all domains together that is for the caller to bound.
    """

    bounds: Bounds = BOUNDS
    octets: int = field(default=0, init=False)
    _counts: dict[Row, int] = field(default_factory=dict)
    _rooms: dict[tuple[int, str], Room] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, row: Row, count: int = 1) -> None:
        """Count *row* *count* times."""
        counted = self._counts.get(row)
        if counted is None:
            row = self._fitting(row)
            counted = self._counts.get(row, 0)
        self._counts[row] = counted + count

    def take(self) -> tuple[tuple[Row, int], ...]:
        """Return all that was counted, in the order in which it first came, and begin anew."""
        taken = tuple(self._counts.items())
        self._counts.clear()
        self._rooms.clear()
        self.octets = 0
        return taken

    def _fitting(self, row: Row) -> Row:
        """Return *row*, which is new, with as much detail as there is room for."""
        key = (row.day, row.finding.domain)
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = Room(bounds=self.bounds)
        level = room.level(row.octets)
        if level:
            row = with_less(row, level)
            if row in self._counts:
                return row
        room.take(row.octets)
        self.octets += row.octets
        return row


def alike(event: TlsEvent) -> TlsEvent:
    """Return *event* without what tells it from others that count for the same."""
    return event._replace(
        when=float(day_start(day_of(event.when))),
        queue_id="",
        service="",
        attribution=Attribution.RECIPIENT,
        beside="",
    )


def rows_of_event(event: TlsEvent, in_force: InForce, *, tls_logged: bool) -> tuple[Row, ...]:
    """Return the rows that *event*, from a log, counts in; see `findings_of_event`.

    Of a report of ours that is what its datagram will have been counted for.
    """
    day = day_of(event.when)
    sent = event.datagram is DatagramFate.SENT
    if event.ours and not sent:
        return ()
    told = event._replace(ours=False) if event.ours else event
    findings = findings_of_event(told, in_force, tls_logged=tls_logged)
    if event.ours:
        return tuple(_rows(day, findings, Origin.OURS, Origin.OURS_FURTHER))
    if not sent:
        return tuple(_rows(day, findings, Origin.LOG, Origin.LOG))
    return (
        *_rows(day, findings, Origin.LOG_SENT, Origin.LOG_SENT_FURTHER),
        *_rows(day, news_for_datagrams(told, in_force), Origin.LOG_BESIDE, Origin.LOG_BESIDE),
    )


def rows_of_datagram(datagram: Datagram, in_force: InForce, *, when: float) -> tuple[Row, ...]:
    """Return the rows that *datagram*, which came at *when*, counts in."""
    findings = [
        found for finding in datagram.findings for found in findings_of_datagram(finding, in_force)
    ]
    return tuple(_rows(day_of(when), findings, Origin.DATAGRAM, Origin.DATAGRAM_FURTHER))


def _rows(day: int, findings: Iterable[Finding], first: Origin, further: Origin) -> Iterator[Row]:
    for number, finding in enumerate(findings):
        yield Row(day=day, origin=further if number else first, finding=finding)


def row_of_daemon(
    domain: str, kind: ResultType, reason: str, in_force: InForce, *, when: float, host: str = ""
) -> Row:
    """Return the row of what the policy daemon found out at *when*; see `finding_of_daemon`.

    Raises ParseError where *domain* or *host* is no host name.
    """
    finding = finding_of_daemon(domain, kind, reason, in_force, host=host)
    return Row(day=day_of(when), origin=Origin.DAEMON, finding=finding)


def with_less(row: Row, level: int) -> Row:
    """Return *row* without the details of the levels up to *level*; see `detail`."""
    finding = simplified(row.finding, level)
    return row if finding is row.finding else replace(row, finding=finding)


def coarse(row: Row) -> Row:
    """Return *row* without all that is not drawn from a fixed list: few of a domain differ."""
    return with_less(row, COARSEST)


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

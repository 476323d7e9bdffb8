"""What counts of all that was told of a domain and a day: each session once.

Postfix >= 3.10 tells of a session in its log and in a datagram, and the log tells
whether it sent one.  Neither need be whole: a collector that was killed has lost
datagrams which nobody sends again; a log may have been followed only since noon, or
its lines may have been lost on their way.  No line says which datagram it belongs to.
So, of one domain and day:

* What the log tells of sessions without a datagram counts: an MX host that policy
  forbids, mail in the clear, datagrams that could not be sent, connections and TLS
  sessions that Postfix was told not to report, and all that happened before it
  was told to send datagrams.
* Of the sessions with a datagram there were as many as there are datagrams or as
  the log tells of, whichever is more: either may lack some, neither makes any up.
  The datagrams count, and as many sessions as they are fewer are drawn from the log.
  Where only datagrams are missing, these are just the missing ones, and where only
  lines are, there are none.
* Drawn are first the sessions of which the datagrams tell less often, alike by
  success, by policy and by what went wrong, in this order: log and datagrams may
  name one and the same fault or policy differently, so more sessions may seem to be
  missing than are.  The number alone decides how many are drawn, and where it does
  not suffice, those that went well come first: no failure is made up.
* Sessions of our own reports do not count.  Postfix 3.10.0 to 3.10.3 sends datagrams
  about them all the same, and the log tells which: one datagram, as like as can be,
  is taken off for each.
* What a session came to under a second policy counts where the first does: it is
  drawn likewise, but not more often than there are sessions drawn.
* A fault that the log adds to a session counts where the session was not drawn from
  the log, for there it includes the fault.
* What the policy daemon found out itself counts where nobody tells of the like.

The result is the same in whatever order the sources are read.

BUGS: Where both sources lack sessions, but not the same, those are lost that both
could have told of together.  A collector that was down over midnight counts the
datagrams that waited for it under the day on which it took them, so these sessions
count on both days.  A TLSRPT line that cannot be joined to its session makes that
one count as one without a datagram.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from postfix_mtasts.core.finding import Failure, Finding
from postfix_mtasts.core.tally import Origin, Row
from postfix_mtasts.core.tls_event import ResultType

Counts: TypeAlias = Sequence[tuple[Finding, int]]

_TRAITS: Final = 5


def merge(counts: Iterable[tuple[Row, int]]) -> tuple[tuple[Finding, int], ...]:
    """Return what counts of all rows of one domain and day, each session once."""
    of: dict[Origin, list[tuple[Finding, int]]] = {origin: [] for origin in Origin}
    for row, count in counts:
        of[row.origin].append((row.finding, count))
    first = _less(of[Origin.DATAGRAM], of[Origin.OURS])
    further = _less(of[Origin.DATAGRAM_FURTHER], of[Origin.OURS_FURTHER])
    drawn = _drawn(of[Origin.LOG_SENT], first, _sum(of[Origin.LOG_SENT]))
    with_further = [*drawn, *_drawn(of[Origin.LOG_SENT_FURTHER], further, _sum(drawn))]
    beside = _beside(of[Origin.LOG_BESIDE], with_further)
    told = (*of[Origin.LOG], *first, *further, *with_further, *beside)
    known = {kind for finding, _ in told for kind in _kinds(finding)}
    own = (each for each in of[Origin.DAEMON] if known.isdisjoint(_kinds(each[0])))
    return (*told, *own)


def _drawn(log: Counts, others: Counts, most: int, depth: int = 0) -> Counts:
    """Return by as many sessions of *log* as it has more than *others*, at most *most*.

    Both share their first *depth* traits; the same holds for those that share more.
    """
    number = min(most, max(0, _sum(log) - _sum(others)))
    if not number or depth == _TRAITS:
        return _taken(log, number)
    drawn: list[tuple[Finding, int]] = []
    alike = _grouped(others, depth + 1)
    for traits, part in sorted(_grouped(log, depth + 1).items()):
        drawn += _drawn(part, alike.get(traits, ()), number - _sum(drawn), depth + 1)
    return drawn


def _taken(counts: Counts, number: int) -> Counts:
    """Return the first *number* of *counts*, in an order that is always the same."""
    taken = []
    for finding, count in sorted(counts, key=_order) if number else ():
        part = min(count, number)
        number -= part
        if part:
            taken.append((finding, part))
    return taken


def _less(counts: Counts, taken: Counts) -> Counts:
    """Return *counts* less as many as *taken* has, of those that are most alike."""
    owed = taken
    for depth in range(_TRAITS, -1, -1):
        if not owed:
            break
        counts, owed = _taken_off(counts, owed, depth)
    return counts


def _taken_off(counts: Counts, owed: Counts, depth: int) -> tuple[Counts, Counts]:
    """Return *counts* less those of *owed* that share *depth* traits, and what is owed still."""
    due = {traits: _sum(part) for traits, part in _grouped(owed, depth).items()}
    left: list[tuple[Finding, int]] = []
    for finding, count in sorted(counts, key=_order):
        traits = _traits(finding)[:depth]
        off = min(count, due.get(traits, 0))
        if off:
            due[traits] -= off
        if count > off:
            left.append((finding, count - off))
    owing: list[tuple[Finding, int]] = []
    for traits, part in _grouped(owed, depth).items():
        owing += _taken(part, due[traits])
    return left, owing


def _beside(counts: Counts, drawn: Counts) -> Counts:
    """Return *counts*, faults of sessions, without those that *drawn* tells of as well."""
    told: Counter[Failure] = Counter()
    for finding, count in drawn:
        for failure in finding.failures:
            told[failure] += count
    left = []
    for finding, count in counts:
        off = min([count, *(told[failure] for failure in finding.failures)])
        told.subtract(dict.fromkeys(finding.failures, off))
        if count > off:
            left.append((finding, count - off))
    return left


def _sum(counts: Counts) -> int:
    return sum(count for _, count in counts)


def _grouped(counts: Counts, depth: int) -> dict[tuple[Any, ...], Counts]:
    """Return *counts* by their first *depth* traits."""
    groups: dict[tuple[Any, ...], list[tuple[Finding, int]]] = {}
    for finding, count in counts:
        groups.setdefault(_traits(finding)[:depth], []).append((finding, count))
    return dict(groups)


def _traits(finding: Finding) -> tuple[Any, ...]:
    """Return what log and datagram can both tell of a session, the surest first."""
    policy, failures = finding.policy, finding.failures
    kinds = tuple(sorted(failure.result_type.value for failure in failures))
    hosts = tuple(sorted(failure.mx_host for failure in failures))
    return bool(finding.failed), policy.type.value, kinds, policy.domain, hosts


def _order(counted: tuple[Finding, int]) -> tuple[Any, ...]:
    finding, _ = counted
    columns = tuple(failure.columns for failure in finding.failures)
    return _traits(finding), finding.policy.strings, finding.policy.mx_hosts, columns


def _kinds(finding: Finding) -> tuple[ResultType, ...]:
    return tuple(failure.result_type for failure in finding.failures)

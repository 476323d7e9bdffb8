"""When the report on a day is sent, tried again, and given up (RFC 8460 sections 4.1 and 5).

A report is made when its UTC day has ended.  Reporters that all send at midnight
would flood their receivers, so each report waits for up to four hours, always
the same for a domain (section 4.1).  What could not be handed over is tried
again, less and less often, for 24 hours (section 5.5).  A reporter that was down
sends late, up to 48 hours after the day's end; what is older is told to nobody.

A report on a domain goes wherever the domain's record says, asked or not, so
whoever owns many domains could aim the reports of the world at one mailbox
(section 7).  A destination, one URI of a record, therefore gets a bounded number
of reports a day, and one that has refused everything for a week is set aside: it
is tried once a week until it takes a report.

All times are seconds since the epoch.  A clock that was set back delays what is
to be sent, and sends nothing twice.
"""

from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

from postfix_mtasts.core.utc import DAY, day_of, day_start

SPREAD_SECONDS = 4 * 3600
"""Reports are spread over so long after midnight (section 4.1)."""

LAST_COUNTS_SECONDS = 600
"""So long after midnight the sessions before it may still be on their way to the counts."""

LATE_SECONDS = 48 * 3600
"""So long after its end a day may be reported on for the first time."""

RETRY_SECONDS = 24 * 3600
"""So long after its first try a report is tried again (section 5.5)."""

FIRST_RETRY_SECONDS = 1800
"""The wait after the first failure; it doubles with every further one."""

SET_ASIDE_SECONDS = 7 * DAY
"""A destination that fails for so long is set aside, and then tried so rarely."""

MAX_REPORTS = 1000
"""No destination gets more in one UTC day; some providers collect for many domains."""


class Standing(Enum):
    """What is to be done with a report that has not been handed over."""

    UNFINISHED = "the day has not ended"
    SPREAD = "waits for its turn"
    DUE = "is to be sent now"
    WAITING = "is to be tried again later"
    GIVEN_UP = "could not be handed over within 24 hours"
    TOO_LATE = "is too old to be sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """The tries at handing a report over, all failed: how many, the first and the last."""

    count: int  # at least 1
    first: float  # seconds since the epoch
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """What is known of a destination.

    *failing_since*: when the first of an unbroken row of failures was, `None`
    where the last try succeeded or there was none.  *last*: when it was last
    tried.  *sent_on* and *sent*: how many reports it got on which UTC day.
    """

    failing_since: float | None = None
    last: float | None = None
    sent_on: int = 0
    sent: int = 0


def due_at(domain: str, day: int) -> int:
    """Return when the report on *domain* and *day* is first to be sent."""
    turn = int.from_bytes(sha256(domain.encode()).digest()[:8], "big")
    spread = SPREAD_SECONDS - LAST_COUNTS_SECONDS
    return day_start(day + 1) + LAST_COUNTS_SECONDS + turn % spread


def retry_at(tries: Tries) -> float | None:
    """Return when to try again after *tries*, `None` where 24 hours of trying are over.

    The last try of all is made when they end.
    """
    end = tries.first + RETRY_SECONDS
    if tries.last >= end:
        return None
    return min(tries.last + FIRST_RETRY_SECONDS * 2.0 ** min(tries.count - 1, 10), end)


def standing(
    domain: str, day: int, tries: Tries | None, *, now: float, at_once: bool = False
) -> Standing:
    """Return what is to be done at *now* with the report on *domain* and *day*.

    *tries*: those that failed, `None` before the first.  *at_once*: the operator
    wants neither the spreading nor the waits between tries.
    """
    end = day_start(day + 1)
    if now < end:
        return Standing.UNFINISHED
    if tries is not None:
        return _standing_after(tries, now=now, at_once=at_once)
    if now >= end + LATE_SECONDS:
        return Standing.TOO_LATE
    return Standing.DUE if at_once or now >= due_at(domain, day) else Standing.SPREAD


def _standing_after(tries: Tries, *, now: float, at_once: bool) -> Standing:
    again = retry_at(tries)
    if again is None:
        return Standing.GIVEN_UP
    return Standing.DUE if at_once or now >= again else Standing.WAITING


def tried(tries: Tries | None, now: float) -> Tries:
    """Return *tries* and one more that failed at *now*."""
    if tries is None:
        return Tries(count=1, first=now, last=now)
    return Tries(count=tries.count + 1, first=tries.first, last=now)


def is_set_aside(destination: Destination, now: float) -> bool:
    """Return whether *destination* has failed so long that it is to be left alone at *now*."""
    since, last = destination.failing_since, destination.last
    if since is None or last is None or last - since < SET_ASIDE_SECONDS:
        return False
    return now - last < SET_ASIDE_SECONDS


def has_room(destination: Destination, now: float, *, most: int = MAX_REPORTS) -> bool:
    """Return whether *destination* may get one more report in the UTC day of *now*."""
    return destination.sent_on != day_of(now) or destination.sent < most


def delivered(destination: Destination, now: float) -> Destination:
    """Return *destination* after it took a report at *now*."""
    today = day_of(now)
    sent = destination.sent + 1 if destination.sent_on == today else 1
    return Destination(failing_since=None, last=now, sent_on=today, sent=sent)


def failed(destination: Destination, now: float) -> Destination:
    """Return *destination* after it refused a report, or bounced one, at *now*."""
    since = destination.failing_since
    return Destination(
        failing_since=now if since is None else since,
        last=now,
        sent_on=destination.sent_on,
        sent=destination.sent,
    )

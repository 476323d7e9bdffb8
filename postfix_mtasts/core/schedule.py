"""When the report on a day is sent, tried again, and given up (RFC 8460 sections 4.1 and 5).

A report is made when its UTC day has ended.  Reporters that all send at midnight
would flood their receivers, so each report waits for up to four hours, always
the same for a domain (section 4.1).  What could not be handed over is tried
again, less and less often, for 24 hours (section 5.5).  A reporter that was down
sends late, up to 48 hours after the day's end; what is older is told to nobody.

What is logged late is counted late: a day's reports wait until every log was read
to its end, but no longer than 24 hours, so that a dead collector delays reports
and does not end them.

A report on a domain goes wherever the domain's record says, asked or not, so
whoever owns many domains could aim the reports of the world at one mailbox
(section 7).  A destination, one URI of a record, therefore gets a bounded number
of reports a day, and so does its domain, that of the mail address or the HTTPS
host, whatever stands before or behind it.  One that has failed for a week is set
aside: it is tried once a week until it takes a report.

All times are seconds since the epoch.  A clock that was set back delays what is
to be sent, and sends nothing twice.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import sha256

from postfix_mtasts.core.utc import DAY, day_of, day_start

SPREAD_SECONDS = 4 * 3600
"""Reports are spread over so long after midnight (section 4.1)."""

LAST_COUNTS_SECONDS = 600
"""So long after midnight the sessions before it may still be on their way to the counts."""

UNREAD_SECONDS = 24 * 3600
"""So long after its end a day waits for its logs to be read."""

LATE_SECONDS = 48 * 3600
"""So long after its end a day may be reported on for the first time."""

RETRY_SECONDS = 24 * 3600
"""So long after its first try a report is tried again (section 5.5)."""

FIRST_RETRY_SECONDS = 1800
"""The wait after the first failure; it doubles with every further one."""

MAX_UNSURE_TRIES = 4
"""A report of which nobody knows whether it was taken is not tried more often.

Each may have been a delivery.  Four, because a process that dies, or cannot note
what it did, four times in the four hours of the first tries will do so again.
"""

SET_ASIDE_SECONDS = 7 * DAY
"""A destination that fails for so long is set aside, and then tried so rarely."""

SET_ASIDE_DESTINATIONS = 3
"""A domain is set aside where so many destinations in it are known and all fail.

Fewer may be the mistakes of their owners, for which others there would pay.
"""

KEPT_SECONDS = 2 * SET_ASIDE_SECONDS
"""What is known of destinations is kept so long at least: a week of failing, and a week aside."""

MAX_REPORTS = 1000
"""No destination gets more in one UTC day; some providers collect for many domains."""

MAX_DOMAIN_REPORTS = 3000
"""No domain gets more in one UTC day, all its destinations together.

Providers that give each customer an address of its own must not starve: three
thousand of one provider's customers are more than all but the largest servers
write to on a day, and what is too much waits for the next.  To one who never
asked it is two small mails a minute, a nuisance but no flood.
"""


class Standing(Enum):
    """What is to be done with a report that has not been handed over."""

    UNFINISHED = "the day has not ended"
    SPREAD = "waits for its turn"
    UNREAD = "waits for the log to be read to the end of the day"
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
    """What is known of a destination, or of the domain of destinations.

    *failing_since*: when the first of an unbroken row of failures was, `None`
    where the last try succeeded or there was none.  *last*: when it was last
    tried.  *sent_on* and *sent*: how many reports it got on which UTC day.

    *told_since* and *told_last*: when the first and the last of an unbroken row of
    failures were that others tell of: the log of the bounces of a mail address, all
    its destinations of a domain.  No try changes them: a mail server takes what
    will bounce.
    """

    failing_since: float | None = None
    last: float | None = None
    sent_on: int = 0
    sent: int = 0
    told_since: float | None = None
    told_last: float | None = None


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


def is_read(day: int, read_to: float) -> bool:
    """Return whether logs that were read up to the moment *read_to* tell all of *day*."""
    return read_to >= day_start(day + 1) + LAST_COUNTS_SECONDS


def standing(
    domain: str,
    day: int,
    tries: Tries | None,
    *,
    now: float,
    read_to: float = math.inf,
    at_once: bool = False,
) -> Standing:
    """Return what is to be done at *now* with the report on *domain* and *day*.

    *tries*: those that failed, `None` before the first.  *read_to*: how far the
    logs were read, infinite where there are none.  *at_once*: the operator wants
    no waiting: for a turn, for logs, nor between tries.
    """
    end = day_start(day + 1)
    if now < end:
        return Standing.UNFINISHED
    if tries is not None:
        return _standing_after(tries, now=now, at_once=at_once)
    if now >= end + LATE_SECONDS:
        return Standing.TOO_LATE
    if at_once:
        return Standing.DUE
    if now < due_at(domain, day):
        return Standing.SPREAD
    waits = not is_read(day, read_to) and now < end + UNREAD_SECONDS
    return Standing.UNREAD if waits else Standing.DUE


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


def failing_since(destination: Destination) -> float | None:
    """Return since when *destination* fails, whoever tells; `None` where it does not."""
    known = (destination.failing_since, destination.told_since)
    return min((since for since in known if since is not None), default=None)


def last_known(destination: Destination) -> float | None:
    """Return when *destination* was last tried or told of; `None` where it never was."""
    known = (destination.last, destination.told_last)
    return max((last for last in known if last is not None), default=None)


def is_set_aside(destination: Destination, now: float) -> bool:
    """Return whether *destination* has failed so long that it is to be left alone at *now*.

    It is not where it was last tried in the future, when the clock was wrong.
    """
    last = last_known(destination)
    for_long = _is_long(destination.failing_since, destination.last) or _is_long(
        destination.told_since, destination.told_last
    )
    return for_long and last is not None and 0 <= now - last < SET_ASIDE_SECONDS


def _is_long(since: float | None, last: float | None) -> bool:
    return since is not None and last is not None and last - since >= SET_ASIDE_SECONDS


def has_room(destination: Destination, now: float, *, most: int) -> bool:
    """Return whether *destination* may get one more report in the UTC day of *now*.

    *most*: `MAX_REPORTS`, of a domain `MAX_DOMAIN_REPORTS`.
    """
    return destination.sent_on != day_of(now) or destination.sent < most


def delivered(destination: Destination, now: float) -> Destination:
    """Return *destination* after it took a report at *now*."""
    today = day_of(now)
    sent = destination.sent + 1 if destination.sent_on == today else 1
    return replace(destination, failing_since=None, last=now, sent_on=today, sent=sent)


def failed(destination: Destination, now: float) -> Destination:
    """Return *destination* after it refused a report at *now*."""
    since = destination.failing_since
    return replace(destination, failing_since=now if since is None else since, last=now)

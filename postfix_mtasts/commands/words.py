"""Numbers, times and strangers' texts in words for a terminal."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def printable(text: str) -> str:
    """Return *text* with "?" for what a terminal might obey instead of show."""
    return "".join(c if c.isprintable() else "?" for c in text)


def moment(seconds: float | None) -> str:
    """Return the epoch's *seconds* as RFC 3339 has it, in UTC; "-" for none."""
    if seconds is None:
        return "-"
    return (_EPOCH + timedelta(seconds=int(seconds))).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """Return *seconds* in the largest unit of which there are at least two, such as "36 hours"."""
    size, unit = next(((s, u) for s, u in _UNITS if seconds >= 2 * s), _UNITS[-1])
    return counted(int(seconds // size), unit)


def counted(number: int, noun: str) -> str:
    """Return *number* and *noun*, in the plural unless there is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(items: Sequence[str], most: int) -> str:
    """Return the first *most* of *items*, and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")

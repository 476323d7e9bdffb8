"""UTC days and how moments are written, as functions of seconds since the epoch.

Reports cover whole UTC days (RFC 8460 section 4.1).  A day is a number: days
since 1970-01-01, so that the next one is one more, whatever month or year ends.
Dates are those of the Gregorian calendar; leap seconds do not exist here, as in
POSIX.  Moments before 1970 are not needed and not meant.

The standard library's own functions stand beside a clock and a local time zone,
which nothing in `core` may read.
"""

import re

from postfix_mtasts.core.errors import ParseError

DAY = 86400  # seconds

_DAYS_OF_ERA = 146097  # 400 years
_DAYS_TO_EPOCH = 719468  # from 0000-03-01 to 1970-01-01
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", re.ASCII)
_WEEKDAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # 1970-01-01 was a Thursday
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day_of(moment: float) -> int:
    """Return the day in which *moment* lies; midnight belongs to the day it begins."""
    return int(moment // DAY)


def day_start(day: int) -> int:
    """Return the first second of *day*; its last is `DAY` - 1 later."""
    return day * DAY


def build_date(day: int) -> str:
    """Return *day* as "2026-08-01"."""
    year, month, date = _civil(day)
    return f"{year:04}-{month:02}-{date:02}"


def parse_date(text: str) -> int:
    """Return the day that *text*, such as "2026-08-01", names.

    Raises ParseError where it is not of that form or no such day exists.
    """
    match = _DATE.fullmatch(text)
    if not match:
        raise ParseError(f"{text[:20]!a} is no date of the form YYYY-MM-DD")
    day = _days_from_civil(*map(int, match.groups()))
    if build_date(day) != text:
        raise ParseError(f"there is no day {text!a}")
    return day


def build_rfc3339(moment: float) -> str:
    """Return *moment* as "2026-08-01T23:59:59Z" (RFC 3339 section 5.6)."""
    hour, minute, second = _clock(moment)
    return f"{build_date(day_of(moment))}T{hour:02}:{minute:02}:{second:02}Z"


def build_rfc5322(moment: float) -> str:
    """Return *moment* as "Sat, 01 Aug 2026 23:59:59 +0000" (RFC 5322 section 3.3)."""
    day = day_of(moment)
    year, month, date = _civil(day)
    hour, minute, second = _clock(moment)
    calendar = f"{_WEEKDAYS[day % 7]}, {date:02} {_MONTHS[month - 1]} {year:04}"
    return f"{calendar} {hour:02}:{minute:02}:{second:02} +0000"


def _clock(moment: float) -> tuple[int, int, int]:
    minutes, second = divmod(int(moment % DAY), 60)
    return *divmod(minutes, 60), second


def _civil(day: int) -> tuple[int, int, int]:
    """Return year, month and day of the month.

    Years are counted from March, so that the leap day is a year's last and a
    month's first day lies (153 * month + 2) // 5 days behind the year's.
    """
    era, of_era = divmod(day + _DAYS_TO_EPOCH, _DAYS_OF_ERA)
    of_cycle = of_era - of_era // 1460 + of_era // 36524 - of_era // 146096
    year = of_cycle // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    date = of_year - (153 * month + 2) // 5 + 1
    calendar_month = (month + 2) % 12 + 1
    return era * 400 + year + (calendar_month <= 2), calendar_month, date  # noqa: PLR2004 - February


def _days_from_civil(year: int, month: int, date: int) -> int:
    """Return the day of a date; the inverse of `_civil` for dates that exist."""
    era, of_era = divmod(year - (month <= 2), 400)  # noqa: PLR2004 - February
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + date - 1
    return (
        era * _DAYS_OF_ERA + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _DAYS_TO_EPOCH
    )

"""UTC days and dates, held against the standard library's own."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.utc import (
    DAY,
    build_date,
    build_rfc3339,
    build_rfc5322,
    day_of,
    day_start,
    parse_date,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_every_day_of_a_century_has_its_date() -> None:
    for day in range(140 * 366):
        date = (EPOCH + timedelta(days=day)).date().isoformat()
        assert build_date(day) == date
        assert parse_date(date) == day


@pytest.mark.parametrize(
    "text",
    [
        *("1970-01-01", "1999-12-31", "2000-02-29", "2023-02-28", "2024-02-29", "2024-12-31"),
        *("2026-08-01", "2100-02-28", "2100-03-01"),
    ],
)
@pytest.mark.parametrize("clock", ["00:00:00", "00:00:59", "11:59:01", "23:59:59"])
def test_a_moment_is_written_as_the_standard_library_writes_it(text: str, clock: str) -> None:
    moment = datetime.fromisoformat(f"{text}T{clock}+00:00")
    seconds = moment.timestamp()
    assert build_rfc3339(seconds) == f"{text}T{clock}Z"
    assert build_rfc3339(seconds + 0.999) == f"{text}T{clock}Z"
    assert build_rfc5322(seconds) == format_datetime(moment)


def test_midnight_belongs_to_the_day_that_it_begins() -> None:
    midnight = day_start(20000)
    assert day_of(midnight) == 20000
    assert day_of(midnight - 0.001) == 19999
    assert day_of(midnight + DAY - 0.001) == 20000
    assert day_start(20001) - midnight == DAY


@pytest.mark.parametrize(
    "text",
    [
        *("2023-02-29", "2100-02-29", "2026-04-31", "2026-13-01", "2026-00-10", "2026-01-00"),
        *("2026-8-1", "20260801", "2026-08-01 ", "\uff12026-08-01", "", "yesterday"),
    ],
)
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match=r"no date|no day"):
        parse_date(text)

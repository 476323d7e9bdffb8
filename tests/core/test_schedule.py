"""When reports are sent, at the edges of days, years, waits and weeks."""

import pytest

from postfix_mtasts.core.schedule import (
    FIRST_RETRY_SECONDS,
    LAST_COUNTS_SECONDS,
    LATE_SECONDS,
    MAX_DOMAIN_REPORTS,
    MAX_REPORTS,
    RETRY_SECONDS,
    SET_ASIDE_SECONDS,
    SPREAD_SECONDS,
    UNREAD_SECONDS,
    Destination,
    Standing,
    Tries,
    delivered,
    due_at,
    failed,
    failing_since,
    has_room,
    is_set_aside,
    last_known,
    retry_at,
    standing,
    tried,
)
from postfix_mtasts.core.utc import DAY, build_rfc3339, day_start, parse_date

DAYS = [
    pytest.param(parse_date(date), id=date)
    for date in ("2026-08-01", "2024-02-28", "2024-02-29", "2023-02-28", "2026-12-31")
]
HOUR = 3600


@pytest.mark.parametrize("day", DAYS)
def test_a_report_is_due_once_its_day_has_ended_and_its_turn_has_come(day: int) -> None:
    end = day_start(day) + DAY
    due = due_at("example.com", day)
    assert end <= due < end + SPREAD_SECONDS
    assert standing("example.com", day, None, now=end - 1) is Standing.UNFINISHED
    assert standing("example.com", day, None, now=end) is Standing.SPREAD
    assert standing("example.com", day, None, now=due - 1) is Standing.SPREAD
    assert standing("example.com", day, None, now=due) is Standing.DUE
    assert standing("example.com", day, None, now=end + LATE_SECONDS - 1) is Standing.DUE
    assert standing("example.com", day, None, now=end + LATE_SECONDS) is Standing.TOO_LATE


@pytest.mark.parametrize(
    ("date", "morning"),
    [
        ("2024-02-28", "2024-02-29T00"),
        ("2024-02-29", "2024-03-01T00"),
        ("2023-02-28", "2023-03-01T00"),
        ("2026-12-31", "2027-01-01T00"),
    ],
)
def test_the_day_after_the_last_of_a_month_is_the_next_months_first(
    date: str, morning: str
) -> None:
    end = due_at("example.com", parse_date(date)) // DAY * DAY
    assert build_rfc3339(end).startswith(morning)


def test_without_spreading_a_report_is_due_at_midnight_and_never_before() -> None:
    end = day_start(20001)
    assert standing("example.com", 20000, None, now=end - 1, at_once=True) is Standing.UNFINISHED
    assert standing("example.com", 20000, None, now=end, at_once=True) is Standing.DUE
    late = end + LATE_SECONDS
    assert standing("example.com", 20000, None, now=late, at_once=True) is Standing.TOO_LATE


def test_a_domain_keeps_its_turn_and_the_turns_of_all_are_spread_evenly() -> None:
    turns = [due_at(f"d{n}.example", 20000) - day_start(20001) for n in range(4000)]
    assert turns == [due_at(f"d{n}.example", 20365) - day_start(20366) for n in range(4000)]
    quarters = [sum(turn // HOUR == hour for turn in turns) for hour in range(4)]
    assert sum(quarters) == 4000
    assert min(quarters) > 800
    assert min(turns) >= LAST_COUNTS_SECONDS, "the last sessions may not be counted yet"
    assert due_at("example.com", 0) == 93709  # as every release must have it


def test_tries_grow_rarer_and_the_last_is_made_when_24_hours_have_passed() -> None:
    first = 1000.0
    tries = tried(None, first)
    moments = []
    while (again := retry_at(tries)) is not None:
        moments.append(again - first)
        tries = tried(tries, again)
    half = FIRST_RETRY_SECONDS
    assert moments == [half, 3 * half, 7 * half, 15 * half, 31 * half, RETRY_SECONDS]
    assert tries == Tries(count=7, first=first, last=first + RETRY_SECONDS)


def test_however_many_tries_there_were_the_wait_stays_a_number() -> None:
    assert retry_at(Tries(count=10**6, first=0, last=60)) == RETRY_SECONDS


def test_a_report_that_failed_waits_is_due_again_and_is_given_up() -> None:
    start = float(due_at("example.com", 20000))

    def at(now: float, tries: Tries, *, at_once: bool = False) -> Standing:
        return standing("example.com", 20000, tries, now=now, at_once=at_once)

    once = tried(None, start)
    assert at(start + FIRST_RETRY_SECONDS - 1, once) is Standing.WAITING
    assert at(start + FIRST_RETRY_SECONDS - 1, once, at_once=True) is Standing.DUE
    assert at(start + FIRST_RETRY_SECONDS, once) is Standing.DUE
    assert at(start + 10 * DAY, once) is Standing.DUE
    over = tried(once, start + RETRY_SECONDS)
    assert at(start + RETRY_SECONDS, over) is Standing.GIVEN_UP
    assert at(start + RETRY_SECONDS, over, at_once=True) is Standing.GIVEN_UP
    almost = tried(once, start + RETRY_SECONDS - 1)
    assert at(start + RETRY_SECONDS - 1, almost) is Standing.WAITING
    assert at(start + RETRY_SECONDS, almost) is Standing.DUE


def test_a_late_first_try_has_its_24_hours_all_the_same() -> None:
    late = float(day_start(20001) + LATE_SECONDS - 1)
    now = late + FIRST_RETRY_SECONDS
    assert standing("example.com", 20000, tried(None, late), now=now) is Standing.DUE


def test_a_clock_that_was_set_back_delays_and_repeats_nothing() -> None:
    start = float(due_at("example.com", 20000))
    tries = tried(None, start)
    assert standing("example.com", 20000, tries, now=start - 60) is Standing.WAITING
    assert standing("example.com", 20000, tries, now=day_start(20000)) is Standing.UNFINISHED


def test_a_destination_that_fails_for_a_week_is_set_aside_and_tried_once_a_week() -> None:
    destination = failed(Destination(), 0.0)
    assert not is_set_aside(destination, 1.0)
    destination = failed(destination, SET_ASIDE_SECONDS - 1.0)
    assert destination.failing_since == 0.0
    assert not is_set_aside(destination, SET_ASIDE_SECONDS)
    week = float(SET_ASIDE_SECONDS)
    destination = failed(destination, week)
    assert is_set_aside(destination, week + 1)
    assert is_set_aside(destination, 2 * week - 1)
    assert not is_set_aside(destination, 2 * week)
    assert is_set_aside(failed(destination, 2 * week), 2 * week + 1)


def test_one_delivery_ends_the_row_of_failures() -> None:
    week = float(SET_ASIDE_SECONDS)
    destination = delivered(failed(failed(Destination(), 0.0), week), week + 1)
    assert destination.failing_since is None
    assert not is_set_aside(destination, week + 2)
    assert not is_set_aside(failed(destination, week + 2), week + 3)


def test_a_destination_that_never_failed_is_not_set_aside() -> None:
    assert not is_set_aside(Destination(), 10.0**9)
    assert not is_set_aside(Destination(failing_since=1.0), 10.0**9)


def test_a_destination_gets_a_bounded_number_of_reports_a_day_and_its_domain_more() -> None:
    morning = float(day_start(20000))
    destination = Destination()
    for _ in range(MAX_REPORTS):
        assert has_room(destination, morning, most=MAX_REPORTS)
        destination = delivered(destination, morning)
    assert not has_room(destination, morning + DAY - 1, most=MAX_REPORTS)
    assert not has_room(failed(destination, morning), morning + DAY - 1, most=MAX_REPORTS)
    assert has_room(destination, morning, most=MAX_DOMAIN_REPORTS)
    assert has_room(destination, morning + DAY, most=MAX_REPORTS)
    assert delivered(destination, morning + DAY).sent == 1


def test_a_day_waits_until_its_logs_are_read_but_no_longer_than_a_day() -> None:
    end = day_start(20001)
    due = float(due_at("example.com", 20000))

    def at(now: float, read_to: float, *, at_once: bool = False) -> Standing:
        return standing("example.com", 20000, None, now=now, read_to=read_to, at_once=at_once)

    enough = end + LAST_COUNTS_SECONDS
    assert at(due, enough - 1) is Standing.UNREAD
    assert at(due, enough) is Standing.DUE
    assert at(due - 1, 0) is Standing.SPREAD
    assert at(end + UNREAD_SECONDS - 1, 0) is Standing.UNREAD
    assert at(end + UNREAD_SECONDS, 0) is Standing.DUE
    assert at(end, 0, at_once=True) is Standing.DUE
    assert at(end - 1, 0, at_once=True) is Standing.UNFINISHED


def test_a_destination_whose_mail_bounces_is_set_aside_though_a_mail_server_takes_it() -> None:
    week = float(SET_ASIDE_SECONDS)
    bouncing = Destination(told_since=0.0, told_last=week)
    assert is_set_aside(bouncing, week + 1)
    assert not is_set_aside(bouncing, 2 * week)
    tried_again = delivered(bouncing, 2 * week)
    assert failing_since(tried_again) == 0.0
    assert last_known(tried_again) == 2 * week
    assert is_set_aside(tried_again, 2 * week + 1), "whether it arrived is not known yet"
    assert not is_set_aside(Destination(told_since=0.0, told_last=week - 1), week)


def test_a_bounce_and_a_later_handover_make_no_week_of_failing() -> None:
    once = delivered(Destination(told_since=0.0, told_last=0.0), float(SET_ASIDE_SECONDS))
    assert not is_set_aside(once, SET_ASIDE_SECONDS + 1.0)


def test_who_was_last_tried_in_the_future_is_not_left_alone_until_then() -> None:
    year = 365.0 * DAY
    ahead = failed(failed(Destination(), year), year + SET_ASIDE_SECONDS)
    assert is_set_aside(ahead, year + SET_ASIDE_SECONDS)
    assert not is_set_aside(ahead, 100.0)


def test_nothing_is_known_of_who_was_never_tried() -> None:
    assert failing_since(Destination()) is None
    assert last_known(Destination()) is None
    assert failing_since(failed(Destination(told_since=5.0), 3.0)) == 3.0

"""The line for ``systemctl status``."""

from postfix_mtasts.services.activity import Activity
from postfix_mtasts.services.status import Pace, build_status


def test_the_line_says_what_is_kept_and_ends_with_what_is_wrong() -> None:
    line = build_status(
        pace="4.2 look-ups/s",
        answers=512,
        policies=20,
        dnssec="DNSSEC: 127.0.0.1 validates",
        problem="state.db: disk full",
    )
    assert line == (
        "4.2 look-ups/s; 512 answers in memory, 20 policies in force;"
        " DNSSEC: 127.0.0.1 validates; state.db: disk full"
    )


def test_what_is_unknown_or_well_is_left_out() -> None:
    line = build_status(pace="0.0 look-ups/s", answers=0, policies=None, dnssec="D", problem=None)
    assert line == "0.0 look-ups/s; 0 answers in memory; D"


def count(activity: Activity, number: int) -> None:
    for _ in range(number):
        activity.not_looked_up("policy")


def test_the_pace_is_that_of_the_last_minute() -> None:
    activity = Activity()
    pace = Pace(activity, 0.0)
    count(activity, 100)
    assert pace.text(10.0) == "10.0 look-ups/s"
    for now in range(20, 70, 10):
        pace.text(float(now))
    assert pace.text(70.0) == "0.0 look-ups/s"
    count(activity, 12_000)
    assert pace.text(80.0) == "200 look-ups/s"


def test_at_the_very_start_nothing_is_divided_by_nothing() -> None:
    activity = Activity()
    pace = Pace(activity, 5.0)
    count(activity, 3)
    assert pace.text(5.0) == "3.0 look-ups/s"


def test_temporary_errors_are_told_for_a_minute() -> None:
    activity = Activity()
    pace = Pace(activity, 0.0)
    activity.broke()
    assert pace.text(10.0) == "0.0 look-ups/s, 1 TEMP in the last minute"
    assert pace.text(60.0) == "0.0 look-ups/s, 1 TEMP in the last minute"
    assert pace.text(70.0) == "0.0 look-ups/s"

"""What was in force on a day: kept where it changed, bounded, forgotten after its time."""

import sqlite3
from collections.abc import Iterator

import pytest

from postfix_mtasts.adapters import policy_history
from postfix_mtasts.adapters.policy_history import MOST_A_DAY, Held
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.in_force_record import build_in_force
from postfix_mtasts.core.utc import day_start

DAY = 20000
NOON = day_start(DAY) + 43200.0
DOMAIN = "example.com"


def mx(*hosts: str) -> InForce:
    return InForce(hosts=frozenset(hosts))


@pytest.fixture(name="file")
def make_file() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    policy_history.make_tables(connection)
    yield connection
    connection.close()


def hold(
    file: sqlite3.Connection, known: InForce | None, when: float, domain: str = DOMAIN
) -> None:
    line = None if known is None else build_in_force(known)
    policy_history.hold(file, Held(domain=domain, when=when, line=line))


def on(file: sqlite3.Connection, day: int, domain: str = DOMAIN) -> tuple[InForce | None, ...]:
    return policy_history.held_on(file, domain, day)


def count(file: sqlite3.Connection, table: str) -> int:
    [number] = file.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - of the test
    return int(number)


def test_tables_that_are_not_there_are_told(file: sqlite3.Connection) -> None:
    assert policy_history.has_tables(file)
    policy_history.make_tables(file)  # again: nothing happens
    empty = sqlite3.connect(":memory:")
    assert not policy_history.has_tables(empty)
    empty.close()


def test_what_held_holds_until_something_else_does(file: sqlite3.Connection) -> None:
    hold(file, mx("a"), NOON)
    hold(file, mx("b"), NOON + 2 * 86400)
    assert on(file, DAY - 1) == ()
    assert on(file, DAY) == (mx("a"),)
    assert on(file, DAY + 1) == (mx("a"),)
    assert on(file, DAY + 2) == (mx("a"), mx("b"))
    assert on(file, DAY + 3) == (mx("b"),)
    assert on(file, DAY, "other.example") == ()


def test_midnight_belongs_to_the_day_that_it_begins(file: sqlite3.Connection) -> None:
    hold(file, mx("a"), day_start(DAY))
    assert on(file, DAY - 1) == ()
    assert on(file, DAY) == (mx("a"),)


def test_what_is_the_same_is_kept_once(file: sqlite3.Connection) -> None:
    for domain in (DOMAIN, "b.example"):
        for number in range(3):
            hold(file, mx("a"), NOON + number, domain)
    assert (count(file, "policies_known"), count(file, "policies_held")) == (1, 2)


def test_what_changes_and_changes_back_is_told_in_turn(file: sqlite3.Connection) -> None:
    for number, host in enumerate("aba"):
        hold(file, mx(host), NOON + number)
    assert on(file, DAY) == (mx("a"), mx("b"), mx("a"))


def test_what_cannot_be_told_is_told_as_that(file: sqlite3.Connection) -> None:
    hold(file, mx("a"), NOON)
    hold(file, None, NOON + 1)
    hold(file, None, NOON + 2)
    assert on(file, DAY) == (mx("a"), None)
    file.execute("UPDATE policies_known SET line = x'00'")
    assert on(file, DAY) == (None, None)


def test_of_a_domain_that_changes_all_the_time_the_first_and_the_last_are_kept(
    file: sqlite3.Connection,
) -> None:
    for number in range(MOST_A_DAY - 1):
        hold(file, mx(str(number)), NOON + number)
    assert None not in on(file, DAY)
    for number in range(MOST_A_DAY - 1, 100):
        hold(file, mx(str(number)), NOON + number)
    told = [*(mx(str(number)) for number in range(MOST_A_DAY - 1)), mx("99")]
    assert on(file, DAY) == (None, *told)
    assert count(file, "policies_held") == MOST_A_DAY
    hold(file, mx("next"), NOON + 86400)
    assert on(file, DAY + 1) == (mx("99"), mx("next"))


def test_what_was_noted_while_the_clock_was_wrong_gives_way(file: sqlite3.Connection) -> None:
    hold(file, mx("a"), NOON)
    hold(file, mx("wrong"), NOON + 1000 * 86400)
    hold(file, mx("b"), NOON + 1)
    assert on(file, DAY + 2000) == (mx("b"),)


def test_what_nobody_asks_for_any_more_is_forgotten(file: sqlite3.Connection) -> None:
    hold(file, mx("a"), NOON)
    hold(file, mx("a"), NOON, "b.example")
    hold(file, mx("c"), NOON, "c.example")
    hold(file, None, NOON, "d.example")
    hold(file, mx("a"), NOON + 86400, "b.example")  # still held, and still asked for
    assert policy_history.forget_before(file, DAY) == 0
    assert policy_history.forget_before(file, DAY + 1) == 3
    assert on(file, DAY + 1) == ()
    assert on(file, DAY + 1, "b.example") == (mx("a"),)
    assert count(file, "policies_known") == 1


def test_a_day_or_the_one_after_it_is_one_on_which_postfix_asked(file: sqlite3.Connection) -> None:
    policy_history.mark_days(file, {DAY: False})
    asked = [policy_history.is_asked(file, DAY + number) for number in (-1, 0, 1, 2)]
    assert asked == [False, True, True, False]


def test_a_day_on_which_something_was_missed_stays_one(file: sqlite3.Connection) -> None:
    for missed in (False, True, False):
        policy_history.mark_days(file, {DAY: missed})
    assert not policy_history.is_asked(file, DAY)
    policy_history.mark_days(file, {DAY + 1: False})
    assert not policy_history.is_asked(file, DAY + 1)  # it may have been asked for at midnight
    policy_history.forget_before(file, DAY + 1)
    assert policy_history.is_asked(file, DAY + 1)

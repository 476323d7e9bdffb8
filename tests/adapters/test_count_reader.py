"""Counts as the collector stored them, read for reports."""

import sqlite3
from pathlib import Path

import pytest

from postfix_mtasts.adapters import policy_history
from postfix_mtasts.adapters.count_reader import KEPT_DAYS, SqliteCountReader
from postfix_mtasts.adapters.tlsrpt_store import SqliteTlsrptStore
from postfix_mtasts.core.tally import Row
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import StoreUnusableError
from tests.report_samples import DAY, row, store_counts


@pytest.fixture(name="path")
def make_path(tmp_path: Path) -> Path:
    return tmp_path / "tlsrpt.db"


def rows_of(path: Path, day: int, domain: str) -> tuple[tuple[Row, int], ...]:
    reader = SqliteCountReader(path)
    try:
        return reader.counts_of(day, domain)
    finally:
        reader.close()


def test_each_day_and_domain_has_its_own_counts(path: Path) -> None:
    bad = row("b.example", kind=ResultType.CERTIFICATE_EXPIRED)
    store_counts(path, [(row("b.example"), 3), (bad, 2), (row("a.example", day=DAY + 1), 1)])
    store_counts(path, [(row("b.example"), 4)])
    reader = SqliteCountReader(path)
    assert reader.days_with_counts() == (DAY, DAY + 1)
    assert reader.domains_of(DAY) == ("b.example",)
    assert reader.domains_of(DAY + 1) == ("a.example",)
    assert reader.counts_of(DAY, "b.example") == ((row("b.example"), 7), (bad, 2))
    assert reader.counts_of(DAY, "a.example") == ()
    reader.close()


@pytest.mark.parametrize("damage", ["'['", "CAST(x'ff' AS TEXT)"])
def test_a_damaged_row_loses_itself_alone(path: Path, damage: str) -> None:
    bad = row("b.example", kind=ResultType.CERTIFICATE_EXPIRED)
    store_counts(path, [(row("b.example"), 3), (bad, 2)])
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE kinds SET result = {damage} WHERE id = 1")  # noqa: S608 - the damage
    connection.close()
    assert rows_of(path, DAY, "b.example") == ((bad, 2),)


def test_old_days_are_forgotten_and_the_collector_counts_on(path: Path) -> None:
    days = range(DAY, DAY + KEPT_DAYS + 1)
    store_counts(path, [(row("b.example", day=day), 3) for day in days])
    store_counts(path, [(row("old.example"), 1)])
    reader = SqliteCountReader(path)
    assert reader.forget_before(DAY + 1) == 2
    assert reader.days_with_counts() == tuple(days[1:])
    assert reader.forget_before(DAY + 1) == 0
    reader.close()
    store_counts(path, [(row("b.example", day=DAY + 1), 1)])
    assert rows_of(path, DAY + 1, "b.example") == ((row("b.example", day=DAY + 1), 4),)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM policies").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize("has_counts", [True, False])
def test_what_was_in_force_is_forgotten_like_the_counts(path: Path, *, has_counts: bool) -> None:
    days = range(DAY, DAY + KEPT_DAYS + 1)
    store_counts(path, [(row("b.example", day=day), 3) for day in days if has_counts])
    with sqlite3.connect(path) as connection:
        policy_history.make_tables(connection)
        policy_history.mark_days(connection, dict.fromkeys(days, False))
    reader = SqliteCountReader(path)
    reader.forget_before(DAY + 1)
    reader.close()
    assert [policy_history.is_asked(connection, day) for day in days[:2]] == [False, True]
    connection.close()


def test_a_file_that_is_not_there_is_not_made(path: Path) -> None:
    with pytest.raises(StoreUnusableError):
        SqliteCountReader(path)
    assert not path.exists()


@pytest.mark.parametrize("version", [0, 1, 99])
def test_a_file_of_another_version_is_refused_in_words(path: Path, version: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(StoreUnusableError, match=rf"tlsrpt\.db: .* version {version}, not 2"):
        SqliteCountReader(path)


def test_an_empty_file_of_the_collector_has_no_days(path: Path) -> None:
    store = SqliteTlsrptStore(path)
    store.place("x")
    store.close()
    reader = SqliteCountReader(path)
    assert reader.days_with_counts() == ()
    reader.close()

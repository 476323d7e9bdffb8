"""The counts in SQLite: added up, together with the place, through every fault of a disk."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfix_mtasts.adapters.tlsrpt_counts import SqliteCountStore
from postfix_mtasts.adapters.tlsrpt_store import SqliteTlsrptStore
from postfix_mtasts.core.finding import PolicyType, build_failure, build_finding, build_policy
from postfix_mtasts.core.tally import Origin, Row, coarse
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import Counted, Place, StoreUnusableError, Written

DAY = 20000


def row(domain: str = "a.example", *, day: int = DAY, host: str = "") -> Row:
    policy = build_policy(PolicyType.NO_POLICY_FOUND, domain)
    failures = [build_failure(ResultType.CERTIFICATE_EXPIRED, mx_host=host)] if host else []
    finding = build_finding(domain, policy, failures, failed=bool(host))
    return Row(day=day, origin=Origin.LOG, finding=finding)


def at(position: str) -> Place:
    return Place(position=position, memory=f"memory of {position}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tlsrpt.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteTlsrptStore]:
    opened = SqliteTlsrptStore(path, clock=lambda: 0.0, most=3)
    yield opened
    opened.close()


def counts(path: Path, domain: str = "a.example", day: int = DAY) -> dict[Row, int]:
    reader = SqliteCountStore(path)
    try:
        return dict(reader.counts_of(day, domain))
    finally:
        reader.close()


def test_counts_of_several_commits_are_added_up(store: SqliteTlsrptStore, path: Path) -> None:
    for count in (2, 3):
        assert store.add(Counted(source="s", counts=[(row(), count)])) is Written.DONE
    assert counts(path) == {row(): 5}


def test_days_and_domains_are_told_in_order(store: SqliteTlsrptStore, path: Path) -> None:
    rows = [row("b.example"), row("a.example"), row("c.example", day=DAY - 1)]
    store.add(Counted(source="s", counts=[(each, 1) for each in rows]))
    reader = SqliteCountStore(path)
    assert reader.days_with_counts() == (DAY - 1, DAY)
    assert reader.domains_of(DAY) == ("a.example", "b.example")
    assert reader.forget_before(DAY) == 1
    assert reader.days_with_counts() == (DAY,)
    assert counts(path) == {row(): 1}
    reader.close()


def test_a_place_is_stored_with_what_was_counted_up_to_it(store: SqliteTlsrptStore) -> None:
    assert store.place("s") == Place()
    store.add(Counted(source="s", place=at("7"), counts=[(row(), 1)]))
    assert store.place("s") == at("7")
    assert store.place("other") == Place()


def test_a_place_whose_text_is_damaged_is_no_fault_of_the_program(
    store: SqliteTlsrptStore, path: Path
) -> None:
    store.add(Counted(source="s", place=at("7"), counts=[(row(), 1)]))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sources SET memory = CAST(x'ff' AS TEXT)")
    connection.close()
    place = store.place("s")
    assert place is not None
    assert place.memory == "\ufffd"


def test_what_another_collector_has_read_meanwhile_is_not_counted_again(
    store: SqliteTlsrptStore, path: Path
) -> None:
    counted = Counted(source="s", before="", place=at("7"), counts=[(row(), 1)])
    assert store.add(counted) is Written.DONE
    assert store.add(counted) is Written.BEATEN
    assert counts(path) == {row(): 1}


def test_notes_are_added_up(store: SqliteTlsrptStore, path: Path) -> None:
    for _ in range(2):
        store.add(Counted(source="s", notes=[("datagram-json", 2)]))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT * FROM notes").fetchall() == [("datagram-json", 4)]
    connection.close()


def test_one_kind_too_many_of_a_domain_and_day_is_counted_without_details(
    store: SqliteTlsrptStore, path: Path
) -> None:
    rows = [row(host=f"mx{n}.a.example") for n in range(5)]
    store.add(Counted(source="s", counts=[(each, 1) for each in rows]))
    assert counts(path) == {**dict.fromkeys(rows[:3], 1), coarse(rows[0]): 2}
    store.add(Counted(source="s", counts=[(row("b.example", host="mx.b.example"), 1)]))
    assert coarse(row("b.example", host="mx.b.example")) not in counts(path, "b.example")


def test_what_was_there_before_a_restart_counts_towards_the_bound(path: Path) -> None:
    for n in range(5):
        store = SqliteTlsrptStore(path, most=3)
        store.add(Counted(source="s", counts=[(row(host=f"mx{n}.a.example"), 1)]))
        store.close()
    assert counts(path)[coarse(row(host="mx.a.example"))] == 2


def test_a_locked_file_delays_and_loses_nothing(
    store: SqliteTlsrptStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postfix_mtasts.adapters.tlsrpt_store._BUSY_TIMEOUT", 0.0)
    counted = Counted(source="s", place=at("7"), counts=[(row(), 1)])
    store.place("s")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert store.add(counted) is Written.LATER
    assert "locked" in store.problem
    blocker.execute("ROLLBACK")
    blocker.close()
    assert store.add(counted) is Written.DONE
    assert not store.problem
    assert counts(path) == {row(): 1}


def test_a_folder_that_cannot_be_made_delays(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = SqliteTlsrptStore(tmp_path / "file" / "tlsrpt.db")
    assert store.place("s") is None
    assert store.add(Counted(source="s")) is Written.LATER
    assert "file" in store.problem


def test_a_full_disk_delays_and_counts_nothing_twice(path: Path) -> None:
    store = SqliteTlsrptStore(path)
    store.place("s")
    assert store._connection is not None  # noqa: SLF001 - the limit is the connection's
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]  # noqa: SLF001
    store._connection.execute(f"PRAGMA max_page_count = {pages + 1}")  # noqa: SLF001
    rows = [row(host=f"mx{n}.a.example") for n in range(500)]
    counted = Counted(source="s", place=at("7"), counts=[(each, 1) for each in rows])
    assert store.add(counted) is Written.LATER
    assert "full" in store.problem
    assert store.add(counted) is Written.DONE  # by a new connection, without the limit
    assert counts(path) == dict.fromkeys(rows, 1)
    store.close()


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    store = SqliteTlsrptStore(path, clock=lambda: 0.0)
    assert store.add(Counted(source="s", counts=[(row(), 1)])) is Written.LATER
    assert "tlsrpt.db.corrupt-19700101T000000Z" in store.problem
    assert store.add(Counted(source="s", counts=[(row(), 1)])) is Written.DONE
    assert counts(path) == {row(): 1}
    store.close()


def test_a_file_of_another_version_is_left_alone(store: SqliteTlsrptStore, path: Path) -> None:
    store.place("s")
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert store.add(Counted(source="s")) is Written.LATER
    assert "version 99" in store.problem
    with pytest.raises(StoreUnusableError, match="version 99"):
        SqliteCountStore(path)


def test_a_damaged_row_is_left_out_of_the_counts(store: SqliteTlsrptStore, path: Path) -> None:
    store.add(Counted(source="s", counts=[(row(), 1), (row(host="mx.a.example"), 1)]))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE kinds SET result = '[' WHERE id = 1")
    connection.close()
    assert counts(path) == {row(host="mx.a.example"): 1}

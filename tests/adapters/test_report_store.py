"""What is known of reports on their way, in a real file."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from postfix_mtasts.adapters.report_store import KEPT_DAYS, SqliteReportStore, lock
from postfix_mtasts.core.schedule import Destination, Tries
from postfix_mtasts.core.utc import day_start
from postfix_mtasts.ports import Handover, ReportState, StoreUnusableError

DAY = 20_000
TO = "mailto:tlsrpt@example.com"


@pytest.fixture(name="path")
def make_file(tmp_path: Path) -> Path:
    """A database that the collector made."""
    path = tmp_path / "tlsrpt.db"
    sqlite3.connect(path).close()
    path.touch()
    return path


def handover(day: int = DAY, to: str = TO, state: ReportState = ReportState.DUE) -> Handover:
    return Handover(
        day=day, domain="example.com", to=to, report_id=f"{day}.example.com@s", state=state
    )


def test_what_was_stored_is_read_by_the_next_process(path: Path) -> None:
    tries = Tries(count=2, first=5.0, last=7.5)
    waiting = Handover(
        day=DAY,
        domain="example.com",
        to=TO,
        report_id="x@y",
        state=ReportState.WAITING,
        tries=tries,
        why="no",
    )
    known = Destination(failing_since=5.0, last=7.5, sent_on=19_999, sent=3)
    store = SqliteReportStore(path)
    store.settle(waiting, {TO: known})
    store.close()
    again = SqliteReportStore(path)
    assert again.handovers(DAY, "example.com") == (waiting,)
    assert again.destination(TO) == known
    assert again.failing() == ((TO, known),)
    again.close()


def test_a_sent_report_replaces_what_was_known_of_it(path: Path) -> None:
    store = SqliteReportStore(path)
    store.address(DAY, "example.com", [handover(to=""), handover()])
    store.address(DAY, "example.com", [handover()])
    sent = handover(state=ReportState.SENT)
    store.settle(sent, {TO: Destination(last=1.0, sent_on=1, sent=1)})
    assert store.handovers(DAY, "example.com") == (sent,)
    assert store.handovers(DAY + 1, "example.com") == ()
    assert store.failing() == ()
    store.close()


def test_old_days_are_forgotten_and_so_are_destinations_not_tried_since(path: Path) -> None:
    oldest, newest = DAY, DAY + KEPT_DAYS
    store = SqliteReportStore(path)
    other = "mailto:other@example.com"
    for day in range(oldest, newest + 1):
        midnight = float(day_start(day + 1))
        store.settle(handover(day), {TO: Destination(failing_since=1.0, last=midnight)})
    last = float(day_start(oldest + 1)) - 1
    store.settle(handover(oldest, to=other), {other: Destination(failing_since=1.0, last=last)})
    assert store.forget_before(oldest) == 0
    assert store.forget_before(oldest + 1) == 2
    assert store.handovers(oldest, "example.com") == ()
    assert len(store.handovers(newest, "example.com")) == 1
    assert store.destination(TO).last == midnight
    assert store.destination(other) == Destination()
    store.close()


def test_a_clock_that_is_years_ahead_ends_no_memory(path: Path) -> None:
    store = SqliteReportStore(path)
    for day in range(DAY, DAY + KEPT_DAYS - 1):
        known = Destination(failing_since=1.0, last=float(day_start(day)))
        store.settle(handover(day), {TO: known})
    ahead = DAY + 3650
    assert store.forget_before(ahead) == 0
    store.settle(handover(ahead), {})
    assert store.forget_before(ahead - 30) == 0
    assert len(store.handovers(DAY, "example.com")) == 1
    assert store.destination(TO).failing_since == 1.0
    store.close()


def test_without_reports_only_destinations_of_long_ago_are_forgotten(path: Path) -> None:
    store = SqliteReportStore(path)
    assert store.forget_before(DAY) == 0
    store.close()


def bounced(path: Path, *rows: tuple[object, ...]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE own_mail (recipient TEXT PRIMARY KEY, failing_since REAL, last REAL)"
        )
        connection.executemany("INSERT INTO own_mail VALUES (?, ?, ?)", rows)


def test_what_the_log_tells_of_bounces_is_known_and_no_handover_clears_it(path: Path) -> None:
    bounced(
        path,
        ("tlsrpt@EXAMPLE.com", 5.0, 9.0),
        ('"a,b"@example.com', 6.0, 9.0),
        ("fine@example.com", None, 9.0),
        (b"\xff@example.com", 7.0, 9.0),
    )
    store = SqliteReportStore(path)
    assert store.destination(TO) == Destination(told_since=5.0, told_last=9.0)
    taken = Destination(last=10.0, sent_on=1, sent=1, told_since=5.0, told_last=9.0)
    store.settle(handover(state=ReportState.SENT), {TO: taken})
    store.close()
    again = SqliteReportStore(path)
    assert again.destination(TO) == taken
    assert again.destination("mailto:fine@example.com") == Destination()
    assert again.destination("mailto:a%2Cb@example.com").told_since == 6.0
    assert [name for name, _ in again.failing()][:2] == [TO, "mailto:a%2Cb@example.com"]
    assert again.destination("example.com") == Destination(), "one of its addresses takes mail"
    again.close()


def test_a_domain_fails_where_several_of_its_addresses_are_known_and_all_do(path: Path) -> None:
    bounced(
        path,
        *((f"u{n}@bad.example", float(n), 10.0 + n) for n in range(1, 4)),
        *((f"u{n}@few.example", 1.0, 10.0) for n in range(2)),
    )
    store = SqliteReportStore(path)
    store.settle(handover(), {"bad.example": Destination(last=7.0, sent_on=3, sent=4)})
    assert store.destination("bad.example") == Destination(
        last=7.0, sent_on=3, sent=4, told_since=1.0, told_last=13.0
    )
    assert store.destination("few.example") == Destination()
    store.close()


def test_an_https_host_fails_where_several_of_its_uris_are_known_and_all_do(path: Path) -> None:
    def settle(host: str, number: int, since: float | None) -> None:
        to = f"https://{host}/{number}"
        store.settle(handover(to=to), {to: Destination(failing_since=since, last=9.0)})

    store = SqliteReportStore(path)
    for number in range(3):
        settle("bad.example", number, 2.0 + number)
        settle("good.example", number, None if number == 1 else 2.0)
    store.close()
    again = SqliteReportStore(path)
    assert again.destination("bad.example") == Destination(told_since=2.0, told_last=9.0)
    assert again.destination("good.example") == Destination()
    again.close()


def test_nothing_is_known_of_a_destination_that_was_never_tried(path: Path) -> None:
    store = SqliteReportStore(path)
    assert store.destination("mailto:new@example.com") == Destination()
    store.close()


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusableError, match="unable to open"):
        SqliteReportStore(tmp_path / "tlsrpt.db")
    assert not (tmp_path / "tlsrpt.db").exists()


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnusableError, match=r"tlsrpt\.db: file is not a database"):
        SqliteReportStore(path)


def test_a_full_disk_is_told_and_nothing_is_half_stored(path: Path) -> None:
    store = SqliteReportStore(path)
    store._connection.execute("PRAGMA max_page_count = 1")  # noqa: SLF001 - as if the disk were full
    many = [handover(to=f"mailto:{n}@example.com") for n in range(10_000)]
    with pytest.raises(StoreUnusableError, match="full"):
        store.address(DAY, "example.com", many)
    assert store.handovers(DAY, "example.com") == ()
    store.close()


def test_only_one_process_may_send_and_a_dead_one_does_not_hold_it(path: Path) -> None:
    code = (
        "import sys, pathlib, postfix_mtasts.adapters.report_store as s\n"
        "with s.lock(pathlib.Path(sys.argv[1])) as alone:\n"
        "    print(alone, flush=True); sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", code, os.fspath(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        with lock(path) as alone:
            assert not alone
        other.kill()
        other.wait()
    with lock(path) as alone:
        assert alone
    with lock(path) as alone:
        assert alone


def test_a_lock_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusableError, match="No such file"), lock(tmp_path / "no" / "db"):
        pass

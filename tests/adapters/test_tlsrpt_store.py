"""The counts in SQLite: added up, together with the place, through every fault of a disk."""

import math
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postfix_mtasts.adapters.count_reader import KEPT_DAYS, SqliteCountReader
from postfix_mtasts.adapters.tlsrpt_store import SqliteTlsrptStore
from postfix_mtasts.core.detail import Bounds
from postfix_mtasts.core.finding import PolicyType, build_failure, build_finding, build_policy
from postfix_mtasts.core.tally import Origin, Row, with_less
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import Counted, OwnMail, Place, StoreUnusableError, Written

DAY = 20000
NOW = 20000 * 86400.0
FEW = Bounds(kinds=3, octets=10**9)


def row(domain: str = "a.example", *, day: int = DAY, host: str = "") -> Row:
    policy = build_policy(PolicyType.NO_POLICY_FOUND, domain)
    failures = [build_failure(ResultType.CERTIFICATE_EXPIRED, mx_host=host)] if host else []
    finding = build_finding(domain, policy, failures, failed=bool(host))
    return Row(day=day, origin=Origin.LOG, finding=finding)


def distinct(number: int) -> Row:
    """Return a session unlike all others, in all that a stranger can choose."""
    policy = build_policy(PolicyType.TLSA, f"mx{number}.a.example", [f"3 1 1 {number:064X}"])
    failure = build_failure(
        ResultType.CERTIFICATE_EXPIRED, helo=f"{number:0255}", reason=f"{number:0255}"
    )
    finding = build_finding("a.example", policy, [failure], failed=True)
    return Row(day=DAY, origin=Origin.LOG, finding=finding)


def at(position: str, *, read_to: float = 0.0) -> Place:
    return Place(position=position, memory=f"memory of {position}", read_to=read_to)


def read_to(path: Path) -> float:
    reader = SqliteCountReader(path)
    try:
        return reader.read_to()
    finally:
        reader.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tlsrpt.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteTlsrptStore]:
    opened = SqliteTlsrptStore(path, clock=lambda: NOW, bounds=FEW)
    yield opened
    opened.close()


def counts(path: Path, domain: str = "a.example", day: int = DAY) -> dict[Row, int]:
    reader = SqliteCountReader(path)
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
    reader = SqliteCountReader(path)
    assert reader.days_with_counts() == (DAY - 1, DAY)
    assert reader.domains_of(DAY) == ("a.example", "b.example")
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


def test_the_more_kinds_of_a_domain_and_day_there_are_the_fewer_details_are_stored(
    store: SqliteTlsrptStore, path: Path
) -> None:
    rows = [row(host=f"mx{n}.a.example") for n in range(12)]
    store.add(Counted(source="s", counts=[(each, 1) for each in rows]))
    without_host = with_less(rows[0], 2)
    assert counts(path) == {**dict.fromkeys(rows[:6], 1), without_host: 6}
    store.add(Counted(source="s", counts=[(row("b.example", host="mx.b.example"), 1)]))
    assert counts(path, "b.example") == {row("b.example", host="mx.b.example"): 1}


def test_what_was_there_before_a_restart_counts_towards_the_bound(path: Path) -> None:
    for n in range(8):
        store = SqliteTlsrptStore(path, bounds=FEW)
        store.add(Counted(source="s", counts=[(row(host=f"mx{n}.a.example"), 1)]))
        store.close()
    assert counts(path)[with_less(row(host="mx.a.example"), 2)] == 2


def test_a_domain_that_makes_every_session_differ_fills_no_disk(path: Path) -> None:
    store = SqliteTlsrptStore(path)
    total = 5000
    for second in range(0, total, 500):
        store.add(Counted(source="s", counts=[(distinct(second + n), 1) for n in range(500)]))
    store.close()
    assert sum(counts(path).values()) == total
    assert path.stat().st_size < 1_000_000


def test_a_policy_is_stored_once(store: SqliteTlsrptStore, path: Path) -> None:
    rows = [row(host=f"mx{n}.a.example") for n in range(3)]
    store.add(Counted(source="s", counts=[(each, 1) for each in rows]))
    with sqlite3.connect(path) as connection:
        [policies] = connection.execute("SELECT policy FROM policies").fetchall()
    connection.close()
    assert policies == ('["no-policy-found","a.example",[],[]]',)


def test_a_source_that_is_new_holds_up_no_report_on_the_days_before(
    store: SqliteTlsrptStore, path: Path
) -> None:
    store.place("s")
    assert read_to(path) == math.inf
    store.follow(["s", "t"])
    assert read_to(path) == NOW
    store.add(Counted(source="s", place=at("1", read_to=NOW + 9.0)))
    assert read_to(path) == NOW
    store.add(Counted(source="t", place=at("1", read_to=NOW + 5.0)))
    assert read_to(path) == NOW + 5.0


def test_the_moment_up_to_which_a_source_was_read_never_goes_back(
    store: SqliteTlsrptStore, path: Path
) -> None:
    store.follow(["s"])
    store.add(Counted(source="s", place=at("1", read_to=NOW + 9.0)))
    store.add(Counted(source="s", before="1", place=at("2", read_to=5.0)))
    assert read_to(path) == NOW + 9.0
    assert store.place("s") == at("2", read_to=NOW + 9.0)


def test_reports_wait_for_the_sources_that_are_followed_and_no_others(
    store: SqliteTlsrptStore, path: Path
) -> None:
    store.add(Counted(source="once", place=at("1", read_to=1.0)))
    assert read_to(path) == math.inf
    store.follow(["s", "once"])
    assert read_to(path) == 1.0
    store.follow(["s"])
    assert read_to(path) == NOW
    store.follow([])
    assert read_to(path) == math.inf


def test_what_is_followed_is_noted_as_soon_as_the_file_can_be_used(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    store = SqliteTlsrptStore(blocker / "tlsrpt.db", clock=lambda: NOW)
    store.follow(["s"])
    assert "file" in store.problem
    blocker.unlink()
    assert store.add(Counted(source="s")) is Written.DONE
    store.close()
    assert read_to(blocker / "tlsrpt.db") == NOW


def own_mail(path: Path) -> dict[str, tuple[float | None, float]]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT recipient, failing_since, last FROM own_mail").fetchall()
    connection.close()
    return {recipient: (since, last) for recipient, since, last in rows}


def mail(when: float, *, delivered: bool, to: str = "a@a.example") -> OwnMail:
    return OwnMail(recipient=to, when=when, delivered=delivered)


def test_since_when_mail_to_a_recipient_fails_is_known_until_some_is_delivered(
    store: SqliteTlsrptStore, path: Path
) -> None:
    told = [mail(1.0, delivered=False), mail(2.0, delivered=False)]
    store.add(Counted(source="s", own_mail=[*told, mail(3.0, delivered=True, to="b@b.example")]))
    assert own_mail(path) == {"a@a.example": (1.0, 2.0), "b@b.example": (None, 3.0)}
    store.add(Counted(source="s", own_mail=[mail(4.0, delivered=False)]))
    assert own_mail(path)["a@a.example"] == (1.0, 4.0)
    store.add(Counted(source="s", own_mail=[mail(5.0, delivered=True)]))
    assert own_mail(path)["a@a.example"] == (None, 5.0)
    store.add(Counted(source="s", own_mail=[mail(6.0, delivered=False)]))
    assert own_mail(path)["a@a.example"] == (6.0, 6.0)


def test_recipients_are_bounded_and_the_oldest_go(
    store: SqliteTlsrptStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postfix_mtasts.adapters.tlsrpt_store.MAX_OWN_MAIL", 2)
    mails = [mail(float(n), delivered=False, to=f"{n}@a.example") for n in range(4)]
    odd = [mail(9.0, delivered=False, to="x" * 321), mail(8.0, delivered=False, to="\ud800")]
    store.add(Counted(source="s", own_mail=[*mails, *odd]))
    assert own_mail(path) == {"3@a.example": (3.0, 3.0), "?": (8.0, 8.0)}


def test_a_table_that_an_older_file_lacks_is_made(store: SqliteTlsrptStore, path: Path) -> None:
    store.place("s")
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE own_mail")
    connection.close()
    store.add(Counted(source="s", own_mail=[mail(1.0, delivered=False)]))
    assert own_mail(path) == {"a@a.example": (1.0, 1.0)}


def test_a_clock_that_is_far_ahead_does_not_forget_the_newest_days(
    store: SqliteTlsrptStore, path: Path
) -> None:
    days = [DAY - 30, DAY - 5, DAY - 2, DAY - 1, DAY, DAY + 9999]
    store.add(Counted(source="s", counts=[(row(day=day), 1) for day in days]))
    reader = SqliteCountReader(path)
    assert reader.forget_before(DAY - 6) == 1
    assert reader.days_with_counts() == tuple(days[1:])
    assert reader.forget_before(DAY + 9000) == 1
    assert reader.days_with_counts() == tuple(days[-KEPT_DAYS:])
    assert reader.forget_before(10**6) == 0
    reader.close()


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
    rows = [row(host=f"mx{n}.a.example") for n in range(300)]
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


def test_a_file_that_somebody_removes_is_begun_anew(store: SqliteTlsrptStore, path: Path) -> None:
    counted = Counted(source="s", counts=[(row(), 1)])
    assert store.add(counted) is Written.DONE
    for file in path.parent.iterdir():
        file.unlink()
    assert store.add(counted) is Written.DONE
    assert counts(path) == {row(): 1}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_that_root_makes_belongs_to_whom_the_folder_does(
    store: SqliteTlsrptStore, path: Path
) -> None:
    path.parent.mkdir()
    os.chown(path.parent, 65534, 65533)
    assert store.add(Counted(source="s", counts=[(row(), 1)])) is Written.DONE
    owners = {(file.stat().st_uid, file.stat().st_gid) for file in path.parent.iterdir()}
    assert owners == {(65534, 65533)}


def test_a_file_of_another_version_is_left_alone(store: SqliteTlsrptStore, path: Path) -> None:
    store.place("s")
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert store.add(Counted(source="s")) is Written.LATER
    assert "version 99" in store.problem
    with pytest.raises(StoreUnusableError, match="version 99"):
        SqliteCountReader(path)


def test_a_damaged_row_is_left_out_of_the_counts(store: SqliteTlsrptStore, path: Path) -> None:
    store.add(Counted(source="s", counts=[(row(), 1), (row(host="mx.a.example"), 1)]))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE kinds SET result = '[' WHERE id = 1")
    connection.close()
    assert counts(path) == {row(host="mx.a.example"): 1}


def test_what_was_seen_is_added_up_with_the_place_or_not_at_all(
    store: SqliteTlsrptStore, path: Path
) -> None:
    lines = [("lines", 7)]
    store.add(Counted(source="s", before="", place=Place(position="1"), seen=lines))
    store.add(Counted(source="s", before="1", place=Place(position="2"), seen=lines))
    store.add(Counted(source="s", before="1", place=Place(position="3"), seen=lines))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM seen").fetchall() == [("lines", 14)]


def test_a_file_from_before_something_was_seen_is_gone_on_with(
    store: SqliteTlsrptStore, path: Path
) -> None:
    store.add(Counted(source="s", notes=[("odd", 1)]))
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE seen")
    store.add(Counted(source="s", seen=[("lines", 1)]))
    assert not store.problem
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM seen").fetchall() == [("lines", 1)]

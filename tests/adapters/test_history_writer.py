"""What is in force, written as it changes, whatever the disk does."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postfix_mtasts.adapters import history_writer, policy_history
from postfix_mtasts.adapters.history_writer import HistoryWriter
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.facts import Absent, DnsFacts, Facts, Lookup, Mx, Present, StsFacts
from postfix_mtasts.core.facts import Unavailable as Silent
from postfix_mtasts.core.names import parse_nexthop
from postfix_mtasts.core.utc import day_of

NOW = 1_800_000_000.0
DAY = day_of(NOW)


def facts(key: str = "example.com", *, host: str = "mx", mx: Lookup[Mx] | None = None) -> Facts:
    record = Mx(preference=10, host=host)
    answer = mx or Present(records=(record,), secure=False, ttl=60, owner=key)
    absent = Absent(secure=False, ttl=60)
    dns = DnsFacts(gathered=NOW, mx=answer, hosts=(), sts_record=absent)
    return Facts(nexthop=parse_nexthop(key.encode()), dns=dns, sts=StsFacts())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tlsrpt.db"


@pytest.fixture(name="writer")
def make_writer(path: Path) -> Iterator[HistoryWriter]:
    made = HistoryWriter(path)
    yield made
    made.close()


def told(path: Path, domain: str = "example.com", day: int = DAY) -> tuple[InForce | None, ...]:
    with closing(sqlite3.connect(path)) as connection:
        return policy_history.held_on(connection, domain, day)


def is_asked(path: Path, day: int = DAY) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return policy_history.is_asked(connection, day)


def mx(*hosts: str) -> InForce:
    return InForce(hosts=frozenset(hosts))


def test_what_was_noted_is_written_with_its_moment(writer: HistoryWriter, path: Path) -> None:
    writer.note(facts(), NOW)
    writer.note(facts(host="b"), NOW + 86400)
    assert not path.exists()
    writer.write()
    assert told(path) == (mx("mx"),)
    assert told(path, day=DAY + 1) == (mx("mx"), mx("b"))
    assert is_asked(path)


def test_a_file_that_somebody_removes_is_begun_anew(writer: HistoryWriter, path: Path) -> None:
    writer.note(facts(), NOW)
    writer.write()
    for file in path.parent.iterdir():
        file.unlink()
    writer.asked(None, NOW + 86400)
    writer.write()
    writer.note(facts(), NOW)
    writer.write()
    assert told(path) == (mx("mx"),)
    assert is_asked(path)


def test_nothing_to_write_makes_no_file(writer: HistoryWriter, path: Path) -> None:
    writer.write()
    assert not path.exists()


@pytest.mark.parametrize("key", ["[example.com]", "example.com:587"])
def test_a_next_hop_past_the_mx_records_marks_the_day_alone(
    writer: HistoryWriter, path: Path, key: str
) -> None:
    writer.note(facts(key), NOW)
    writer.write()
    assert told(path) == ()
    assert is_asked(path)


def test_a_look_up_that_failed_changes_nothing(writer: HistoryWriter, path: Path) -> None:
    writer.note(facts(), NOW)
    writer.note(facts(mx=Silent(why="SERVFAIL")), NOW + 1)
    writer.write()
    assert told(path) == (mx("mx"),)


def test_of_what_was_asked_for_without_a_look_up_no_more_is_known(
    writer: HistoryWriter, path: Path
) -> None:
    writer.asked(parse_nexthop(b"example.com"), NOW)
    writer.asked(None, NOW + 2 * 86400)
    writer.write()
    assert told(path) == (InForce(),)
    assert is_asked(path, DAY + 2)


def test_what_is_written_is_not_written_again_on_the_same_day(
    writer: HistoryWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    monkeypatch.setattr(policy_history, "hold", lambda _file, held: written.append(held.when))
    for when in (NOW, NOW + 1, NOW + 86400):
        writer.note(facts(), when)
        writer.write()
    assert written == [NOW, NOW + 86400]


def test_what_is_too_much_is_left_out_and_its_day_marked(
    writer: HistoryWriter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_writer, "MAX_WAITING", 1)
    monkeypatch.setattr(history_writer, "_MAX_KNOWN", 1)
    writer.note(facts(), NOW)
    writer.note(facts("b.example"), NOW)
    writer.write()
    assert not is_asked(path)
    writer.note(facts("b.example"), NOW)
    writer.write()
    assert told(path, "b.example") == (mx("mx"),)
    assert not is_asked(path)


def test_what_a_file_in_trouble_cannot_take_waits(
    writer: HistoryWriter, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.touch()
    writer.note(facts(), NOW)
    for _ in range(3):
        writer.write()
    assert caplog.text.count("are not noted") == 1
    path.parent.unlink()
    writer.write()
    assert told(path) == (mx("mx"),)
    assert is_asked(path)


def test_a_locked_file_takes_all_or_nothing(
    writer: HistoryWriter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postfix_mtasts.adapters.tlsrpt_store._BUSY_TIMEOUT", 0.01)
    writer.note(facts(), NOW)
    writer.write()
    writer.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        writer.note(facts(host="b"), NOW + 1)
        writer.write()
        blocker.execute("ROLLBACK")
    assert told(path) == (mx("mx"),)
    writer.write()
    assert told(path) == (mx("mx"), mx("b"))


def test_what_is_given_up_marks_its_day_and_is_noted_anew(
    writer: HistoryWriter, path: Path
) -> None:
    writer.note(facts(), NOW)
    writer.give_up()
    writer.write()
    assert told(path) == ()
    assert not is_asked(path)
    writer.note(facts(), NOW)
    writer.write()
    assert told(path) == (mx("mx"),)

"""The state's databases, looked at from outside."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from postfix_mtasts.adapters import state_files, store_file
from postfix_mtasts.adapters.state_files import examine, read_to
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME, SqliteTlsrptStore


@pytest.fixture(name="path")
def make_database(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (a)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
    return path


def test_a_sound_file_has_no_problem(path: Path) -> None:
    database = examine(path)
    assert database is not None
    assert (database.problem, database.path) == ("", str(path))
    assert database.free > 0
    assert database.owners[0] == database.owners[1]


def test_no_file_is_no_database(tmp_path: Path) -> None:
    assert examine(tmp_path / "none.db") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0, 4096])
def test_damage_is_found(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 4096)
    database = examine(path)
    assert database is not None
    assert database.problem


def test_a_file_in_use_is_sound_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (1)")
        database = examine(path)
        connection.execute("COMMIT")
    assert database is not None
    assert database.problem == ""


def test_a_check_that_takes_too_long_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_files, "SECONDS", -1.0)
    monkeypatch.setattr(store_file, "_STEPS", 1)
    database = examine(path)
    assert database is not None
    assert (database.problem, database.why) == (None, "it is too large to be read whole")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_told(path: Path) -> None:
    os.chown(path, 65533, 65533)
    database = examine(path)
    assert database is not None
    assert database.owners[0] == "65533"


def test_how_far_the_sidecar_has_read_is_the_slowest_log_that_it_follows(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    assert read_to(path) is None
    with closing(SqliteTlsrptStore(path)) as store:
        assert read_to(path) is None
        store.follow(["file:/a", "file:/b"])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO sources VALUES ('gone', '', '', 3.5, 0, 0)")
        connection.execute("UPDATE sources SET read_to = 7.5 WHERE name = 'file:/a'")
        connection.execute("UPDATE sources SET read_to = 9.5 WHERE name = 'file:/b'")
    assert read_to(path) == 7.5


def test_what_is_no_regular_file_is_not_opened(path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # nobody ever writes to it
    (tmp_path / "link").symlink_to(path)
    for name in ("fifo", "link"):
        database = examine(tmp_path / name)
        assert database is not None
        assert (database.problem, database.why) == (None, "it is no regular file")
        assert read_to(tmp_path / name) is None


def test_a_table_that_never_ends_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE VIEW sources AS WITH RECURSIVE n(read_to, followed) AS"
            " (VALUES (1.0, 1) UNION ALL SELECT read_to + 1, 1 FROM n) SELECT * FROM n"
        )
    monkeypatch.setattr(state_files, "SECONDS", 0.1)
    assert read_to(path) is None

"""An SQLite database with the tables of the store: opening one, and its faults.

The file is in WAL mode and not synced at each commit (``synchronous=NORMAL``):
a killed process loses nothing, a power failure perhaps the last seconds, but
never the database (https://sqlite.org/pragma.html#pragma_synchronous).

BUGS: files set aside are never deleted.  A file that is deleted while it is
open is missed at the next start, not before.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote

from postfix_mtasts.adapters import store_tables
from postfix_mtasts.ports import StoreUnusableError

T = TypeVar("T")

_BUSY_TIMEOUT = 1.0  # seconds to wait for another process; look-ups wait as long
_CACHE_KIB = 4096  # of pages in memory
_STEPS = 10_000  # of SQLite's virtual machine between two looks at the clock

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNUSABLE = {
    *(sqlite3.SQLITE_AUTH, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_PERM),
    *(sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY),
}
_SUFFIXES = ("-wal", "-shm", "")  # the file last: without its journal it is no less damaged


class DamagedError(sqlite3.DatabaseError):
    """The file is a database, but holds other tables than those of this version."""


def open_file(path: Path) -> sqlite3.Connection:
    """Open the file at *path* to read and write; make it and its folder if need be.

    Raises `OSError` or `sqlite3.DatabaseError`, which `is_damage` tells apart.
    """
    make_file(path)
    return _prepared(sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None))


def make_file(path: Path) -> None:
    """Make an empty file at *path*, and its folder, where there is none; raises `OSError`.

    It belongs to whom the folder does: where root is the first to run a command, the
    services must be able to write to it.  To the journal SQLite gives the same owner.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:  # which is left to SQLite and its locks
        return
    try:
        folder = path.parent.stat()
        with suppress(PermissionError):  # only root may, and not in every container
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    finally:
        os.close(descriptor)


def open_memory() -> sqlite3.Connection:
    """Return an empty database in memory."""
    return _prepared(sqlite3.connect(":memory:", isolation_level=None))


def open_to_read(path: Path) -> sqlite3.Connection | None:
    """Open the file at *path* where it cannot be written; `None` where not even that.

    A read-only file system takes no locks either, which "immutable" does without;
    what stands in a journal that nobody has open is not seen then.
    """
    for parameters in ("mode=ro", "immutable=1"):
        uri = f"file:{quote(str(path))}?{parameters}"
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None)
        except sqlite3.DatabaseError:
            continue
        try:
            check_tables(connection)
        except sqlite3.DatabaseError:
            connection.close()
        else:
            return connection
    return None


def check_tables(connection: sqlite3.Connection) -> None:
    """Raise `DamagedError` unless *connection* has the tables of this version."""
    statements = _statements(connection)
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version != store_tables.VERSION:
        raise DamagedError(f"its version is {version}, not {store_tables.VERSION}")
    if not statements.issuperset(store_tables.SCHEMA):
        raise DamagedError("it lacks tables")


def check_pages(connection: sqlite3.Connection) -> None:
    """Raise `DamagedError` unless every page makes sense: slow, for copies only."""
    [verdict] = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedError(verdict)


def transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Return what *work* returns, its changes committed; undo them where it raises."""
    with transaction(connection):
        return work(connection)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what happens within; undo it where that raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.DatabaseError):  # SQLite may have undone it by itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Turn what SQLite raises of the file at *path* into `StoreUnusableError`, which names it."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnusableError(f"{path}: {error}") from error


def is_damage(error: Exception) -> bool:
    """Return whether *error* says that what the file holds makes no sense."""
    return isinstance(error, DamagedError) or _code(error) in _DAMAGED


def is_fault(error: Exception) -> bool:
    """Return whether *error* comes of the disk, not of a bug."""
    return is_damage(error) or _code(error) in _UNUSABLE


def which(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at *path* from one in its place; `None` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def set_aside(path: Path, now: float) -> Path:
    """Rename the file at *path* and its journal; return the file's new name.

    Raises `OSError` where that cannot be done.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
    return target


def _code(error: Exception) -> int | None:
    """Return the primary result code of SQLite, `None` where *error* has none."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF  # https://sqlite.org/rescode.html#pve


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return *connection* ready for use, its tables made where there are none.

    Raises `sqlite3.DatabaseError`, *connection* closed.
    """
    try:
        connection.text_factory = read_text
        _statements(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        transact(connection, _make_tables)
        check_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_existing(
    path: Path, *, timeout: float, mode: Literal["rw", "ro"] = "rw"
) -> sqlite3.Connection:
    """Open the database that another process has made at *path*, in autocommit.

    One made here might belong to root, and the other could not write to it.
    *timeout*: seconds to wait for a lock.  Raises `sqlite3.Error` where it is not there.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=timeout, isolation_level=None
    )
    connection.text_factory = read_text
    return connection


def interrupt_at(connection: sqlite3.Connection, ends: float) -> None:
    """Have *connection* end its work with an error when it is *ends* by the monotonic clock."""
    connection.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)


def read_text(data: bytes) -> str:
    """Return *data*, text of a database; damage must not look like a fault of the program."""
    return data.decode("utf-8", "replace")


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty database; fails where it cannot be written."""
    if not _statements(connection):
        for statement in store_tables.SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {store_tables.VERSION}")


def _statements(connection: sqlite3.Connection) -> set[str]:
    """Return the statements that made what is in the database."""
    try:
        return {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema")}
    except UnicodeDecodeError:  # the sqlite3 module cannot quote what SQLite complains of
        raise DamagedError("its schema is malformed") from None

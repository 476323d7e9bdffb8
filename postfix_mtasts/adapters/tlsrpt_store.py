"""Counts of TLS sessions in an SQLite database: what was counted, and how far each source was read.

::

    kinds     what is counted together: domain, origin, policy, result (`core.tally`)
    tally     how often each kind came on each day
    counts    a view of both: the columns of `core.tally.build_columns`, and `count`
    sources   how far each source was read, and what its reader remembers
    notes     how often something odd came, by kind

Kinds stand apart from their numbers because numbers change every second and
kinds hardly ever: a page holds hundreds of numbers, and ten kinds.

How far a source was read is committed together with what was counted up to there,
and only where nobody else has moved it meanwhile.  So nothing is lost and nothing
counted twice, whenever this process is killed and whoever else reads the source.

The file is in WAL mode and not synced at each commit: see `store_file`.  A file that
is locked, read-only, or on a full disk is a fault of the world: `problem` says so,
and whoever writes tries again later.  A damaged file is renamed, and a new one begun.

BUGS: a power failure can take back the last seconds, of the place as of the counts;
datagrams of these seconds are lost.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar

from postfix_mtasts.adapters.store_file import is_damage, is_fault, read_text, set_aside, transact
from postfix_mtasts.core.tally import MAX_ROWS, Columns, Row, build_columns, coarse
from postfix_mtasts.ports import Counted, Place, Written

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE_NAME = "tlsrpt.db"  # beside the database of the policy daemon
VERSION = 1
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS kinds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    domain TEXT NOT NULL,
    origin TEXT NOT NULL,
    policy TEXT NOT NULL,
    result TEXT NOT NULL
)""",
    "CREATE INDEX IF NOT EXISTS kinds_by_domain ON kinds (domain)",
    """CREATE TABLE IF NOT EXISTS tally (
    day INTEGER,
    kind INTEGER,
    count INTEGER NOT NULL,
    PRIMARY KEY (day, kind)
) WITHOUT ROWID""",
    """CREATE VIEW IF NOT EXISTS counts AS
    SELECT day, domain, origin, policy, result, count FROM tally JOIN kinds ON id = kind""",
    """CREATE TABLE IF NOT EXISTS sources (
    name TEXT PRIMARY KEY,
    position TEXT NOT NULL,
    memory TEXT NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS notes (
    name TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) WITHOUT ROWID""",
)

_BUSY_TIMEOUT: Final = 1.0  # seconds to wait for another process
_MAX_KNOWN: Final = 50_000  # rows whose kinds' ids are remembered
_DIGEST: Final = 16  # octets: two kinds in the world do not share one

_ADD = """INSERT INTO tally (day, kind, count) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET count = count + excluded.count"""
_ADD_KIND = """INSERT OR IGNORE INTO kinds (digest, domain, origin, policy, result)
    VALUES (?, ?, ?, ?, ?)"""
_KIND = "SELECT id FROM kinds WHERE digest = ?"
_IS_COUNTED = "SELECT 1 FROM tally WHERE day = ? AND kind = ?"
# CROSS JOIN: SQLite knows nothing of how many there are, and would go through the whole day.
_KINDS_OF_DAY = """SELECT count(*) FROM kinds CROSS JOIN tally ON kind = id
    WHERE domain = ? AND day = ?"""
_NOTE = """INSERT INTO notes (name, count) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET count = count + excluded.count"""


class _ForeignError(sqlite3.DatabaseError):
    """The file was made by another version of this program."""


class SqliteTlsrptStore:
    """The counts in the file at *path*, which is opened when it is first needed.

    *problem*: why the last attempt failed, "" where it did not.
    *most*: kinds of one domain and day that are kept apart.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, most: int = MAX_ROWS
    ) -> None:
        self.problem = ""
        self._path = path
        self._clock = clock
        self._most = most
        self._connection: sqlite3.Connection | None = None
        self._ids: dict[Row, int] = {}  # of kinds that are counted on the row's day

    def place(self, source: str) -> Place | None:
        """Return how far *source* was read; `None` where that cannot be told now."""
        return self._attempt(lambda connection: _read_place(connection, source))

    def add(self, counted: Counted) -> Written:
        """Add *counted* to what is stored, all of it or nothing."""
        added = self._attempt(
            lambda file: transact(file, lambda within: self._add(within, counted))
        )
        if added is None:
            return Written.LATER
        return Written.DONE if added else Written.BEATEN

    def close(self) -> None:
        """Let go of the file."""
        self._ids.clear()
        if self._connection is not None:
            with suppress(sqlite3.DatabaseError):
                self._connection.close()
        self._connection = None

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return what *work* returns, `None` where the file cannot be used now."""
        try:
            if self._connection is None:
                self._connection = open_counts(self._path)
            result = work(self._connection)
        except (OSError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.DatabaseError) and not _is_fault(error):
                raise
            self._fail(error)
            return None
        if self.problem:
            log.info("%s can be used again", self._path)
            self.problem = ""
        return result

    def _fail(self, error: OSError | sqlite3.DatabaseError) -> None:
        self.close()
        problem = f"{self._path}: {error}"
        if is_damage(error):
            problem = f"{problem}; {self._set_aside()}"
        if problem != self.problem:
            log.error("what is counted waits in memory: %s", problem)
        self.problem = problem

    def _set_aside(self) -> str:
        try:
            return f"it is now {set_aside(self._path, self._clock())}"
        except OSError as error:
            return f"nor can it be renamed: {error}"

    def _add(self, connection: sqlite3.Connection, counted: Counted) -> bool:
        if counted.place is not None:
            if _read_place(connection, counted.source).position != counted.before:
                return False
            _write_place(connection, counted.source, counted.place)
        connection.executemany(_ADD, self._numbers(connection, counted.counts))
        connection.executemany(_NOTE, counted.notes)
        return True

    def _numbers(
        self, connection: sqlite3.Connection, counts: Iterable[tuple[Row, int]]
    ) -> Iterable[tuple[int, int, int]]:
        """Return the rows of ``tally`` that *counts* come to, the kinds stored."""
        return [(row.day, self._id(connection, row), count) for row, count in counts]

    def _id(self, connection: sqlite3.Connection, row: Row) -> int:
        kind = self._ids.get(row)
        if kind is None:
            kind = self._look_up(connection, row)
            if len(self._ids) >= _MAX_KNOWN:
                self._ids.clear()
            self._ids[row] = kind
        return kind

    def _look_up(self, connection: sqlite3.Connection, row: Row) -> int:
        """Return the id of the kind of *row*, or of its coarse one where it is one too many."""
        columns = build_columns(row)
        digest = _digest(columns)
        found = connection.execute(_KIND, (digest,)).fetchone()
        if found is not None and connection.execute(_IS_COUNTED, (row.day, *found)).fetchone():
            return int(found[0])
        rough = coarse(row)
        if rough != row and self._is_full(connection, row):
            return self._id(connection, rough)
        connection.execute(_ADD_KIND, (digest, *columns[1:]))
        [kind] = connection.execute(_KIND, (digest,)).fetchone()
        # A number of its own at once, so that the next kind of this domain sees it.
        connection.execute(_ADD, (row.day, kind, 0))
        return int(kind)

    def _is_full(self, connection: sqlite3.Connection, row: Row) -> bool:
        """Return whether as many kinds of the domain of *row* as may be are counted on its day."""
        bounds = (row.finding.domain, row.day)
        [kinds] = connection.execute(_KINDS_OF_DAY, bounds).fetchone()
        return bool(kinds >= self._most)


def open_counts(path: Path) -> sqlite3.Connection:
    """Open the file at *path* to read and write, made with its tables where it is not there.

    Raises `OSError` or `sqlite3.DatabaseError`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):  # an existing file is left to SQLite and its locks
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
    try:
        connection.text_factory = read_text
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA trusted_schema = OFF")
        if _version(connection) != VERSION:
            transact(connection, _make_tables)
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _make_tables(connection: sqlite3.Connection) -> None:
    version = _version(connection)
    if version not in {0, VERSION}:
        raise _ForeignError(f"its tables are of version {version}, not {VERSION}")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _is_fault(error: sqlite3.DatabaseError) -> bool:
    return isinstance(error, _ForeignError) or is_fault(error)


def _digest(columns: Columns) -> bytes:
    return blake2b("\0".join(columns[1:]).encode(), digest_size=_DIGEST).digest()


def _read_place(connection: sqlite3.Connection, source: str) -> Place:
    query = "SELECT position, memory FROM sources WHERE name = ?"
    row = connection.execute(query, (source,)).fetchone()
    return Place() if row is None else Place(position=row[0], memory=row[1])


def _write_place(connection: sqlite3.Connection, source: str, place: Place) -> None:
    statement = "INSERT OR REPLACE INTO sources (name, position, memory) VALUES (?, ?, ?)"
    connection.execute(statement, (source, place.position, place.memory))

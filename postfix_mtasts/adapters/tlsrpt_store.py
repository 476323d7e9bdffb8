"""Counts of TLS sessions in an SQLite database: what was counted, and how far each source was read.

::

    policies  each policy that was applied, once
    kinds     what is counted together: domain, origin, policy, result (`count_kinds`)
    tally     how often each kind came on each day
    counts    a view of these: the columns of `core.tally.build_columns`, and `count`
    sources   how far each source was read, what its reader remembers, whether it is followed
    own_mail  what became of reports of ours that went by mail, by recipient
    notes     how often something odd came, by kind
    seen      how many lines and datagrams were read, for who watches

Kinds stand apart from their numbers because numbers change every second and
kinds hardly ever: a page holds hundreds of numbers, and ten kinds.

How far a source was read is committed together with what was counted up to there,
and only where nobody else has moved it meanwhile.  So nothing is lost and nothing
counted twice, whenever this process is killed and whoever else reads the source.

The file is in WAL mode and not synced at each commit: see `store_file`.  A file that
is locked, read-only, or on a full disk is a fault of the world: `problem` says so,
and whoever writes tries again later.  A damaged file is renamed, and a new one begun,
also in the place of one that somebody else renamed or removed; one of another version
of this program is left alone.

A source that is followed for the first time counts as read up to that moment: no
report on a day before has to wait for it.  The moment never goes back.  One that is
followed in the place of another, or beside it, begins where that was left.

LIMITS: `MAX_OWN_MAIL` recipients, of at most `MAX_RECIPIENT` characters.

BUGS: a power failure can take back the last seconds, of the place as of the counts;
datagrams of these seconds are lost.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from postfix_mtasts.adapters.count_kinds import BOUNDS, KindIds
from postfix_mtasts.adapters.store_file import (
    is_damage,
    is_fault,
    make_file,
    read_text,
    set_aside,
    transact,
    which,
)
from postfix_mtasts.core.detail import Bounds
from postfix_mtasts.ports import Counted, OwnMail, Place, Written

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE_NAME = "tlsrpt.db"  # beside the database of the policy daemon
VERSION = 2
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS policies (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    policy TEXT NOT NULL
)""",
    """CREATE TABLE IF NOT EXISTS kinds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE,
    domain TEXT NOT NULL,
    origin TEXT NOT NULL,
    policy INTEGER NOT NULL,
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
    SELECT day, domain, origin, policies.policy, result, count FROM tally
    JOIN kinds ON kinds.id = kind JOIN policies ON policies.id = kinds.policy""",
    """CREATE TABLE IF NOT EXISTS sources (
    name TEXT PRIMARY KEY,
    position TEXT NOT NULL,
    memory TEXT NOT NULL,
    read_to REAL NOT NULL,
    since REAL NOT NULL DEFAULT 0,
    followed INTEGER NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS own_mail (
    recipient TEXT PRIMARY KEY,
    failing_since REAL,
    last REAL NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS notes (
    name TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS seen (
    name TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) WITHOUT ROWID""",
)

MAX_OWN_MAIL: Final = 10_000
"""Recipients of reports of which is known what became of these; the oldest go."""

MAX_RECIPIENT: Final = 320
"""Characters of an address; longer ones are none (RFC 5321 section 4.5.3.1)."""

READ_TO: Final = "SELECT min(read_to) FROM sources WHERE followed"
"""Up to when all logs that are followed have been read, NULL where there is none."""

_BUSY_TIMEOUT: Final = 1.0  # seconds to wait for another process

_ADD: Final = """INSERT INTO tally (day, kind, count) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET count = count + excluded.count"""
_NOTE: Final = """INSERT INTO notes (name, count) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET count = count + excluded.count"""
_SEE: Final = """INSERT INTO seen (name, count) VALUES (?, ?)
    ON CONFLICT DO UPDATE SET count = count + excluded.count"""
_PLACE: Final = "SELECT position, memory, read_to, since FROM sources WHERE name = ?"
_PUT_PLACE: Final = """INSERT INTO sources (name, position, memory, read_to, followed)
    VALUES (?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET position = excluded.position,
    memory = excluded.memory, read_to = max(read_to, excluded.read_to)"""
_FOLLOW: Final = """INSERT INTO sources (name, position, memory, read_to, followed)
    VALUES (?, '', '', ?, 1) ON CONFLICT DO UPDATE SET followed = 1"""
_LEFT: Final = "SELECT max(read_to) FROM sources WHERE followed = 1 AND position != ''"
_BEGIN: Final = """UPDATE sources SET position = '', memory = '', since = :left,
    read_to = max(read_to, :left) WHERE name = :name AND (position = '' OR read_to < :left)"""
_OWN_MAIL: Final = """INSERT INTO own_mail (recipient, failing_since, last) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET last = excluded.last, failing_since = CASE
    WHEN excluded.failing_since IS NULL THEN NULL
    ELSE coalesce(failing_since, excluded.failing_since) END"""
_FORGET_OWN_MAIL: Final = """DELETE FROM own_mail WHERE recipient IN (
    SELECT recipient FROM own_mail ORDER BY last DESC, recipient LIMIT -1 OFFSET ?)"""


class _ForeignError(sqlite3.DatabaseError):
    """The file was made by another version of this program."""


class SqliteTlsrptStore:
    """The counts in the file at *path*, which is opened when it is first needed.

    *problem*: why the last attempt failed, "" where it did not.
    *bounds*: how much of one domain and day is told apart.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, bounds: Bounds = BOUNDS
    ) -> None:
        self.problem = ""
        self._path = path
        self._clock = clock
        self._bounds = bounds
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # which file that is
        self._kinds = KindIds(bounds)
        self._followed: tuple[str, ...] | None = None  # where it is for us to say

    def follow(self, sources: Sequence[str]) -> None:
        """Note that *sources*, and no others, are the ones that are followed from now on.

        Where that cannot be stored now, it is when the file can be used again, and
        also in one that takes the place of a damaged one.
        """
        self.close()
        self._followed = tuple(sources)
        self._attempt(_nothing)

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
        self._kinds = KindIds(self._bounds)
        if self._connection is not None:
            with suppress(sqlite3.DatabaseError):
                self._connection.close()
        self._connection = None

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return what *work* returns, `None` where the file cannot be used now."""
        if self._connection is not None and which(self._path) != self._opened:
            log.warning("%s is no longer the file that it was", self._path)
            self.close()
        try:
            if self._connection is None:
                self._connection = self._open()
                self._opened = which(self._path)
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

    def _open(self) -> sqlite3.Connection:
        connection = open_counts(self._path)
        try:
            if self._followed is not None:
                transact(connection, self._mark_followed)
        except BaseException:
            connection.close()
            raise
        return connection

    def _mark_followed(self, connection: sqlite3.Connection) -> None:
        now, names = self._clock(), self._followed or ()
        [left] = connection.execute(_LEFT).fetchone()
        before = connection.execute("SELECT name FROM sources WHERE followed = 1").fetchall()
        connection.execute("UPDATE sources SET followed = 0")
        connection.executemany(_FOLLOW, [(name, now) for name in names])
        if left is not None:
            new = [name for name in names if (name,) not in before]
            connection.executemany(_BEGIN, [{"name": name, "left": left} for name in new])

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
        kinds = self._kinds
        numbers = [(row.day, kinds.of(connection, row), count) for row, count in counted.counts]
        connection.executemany(_ADD, numbers)
        connection.executemany(_NOTE, counted.notes)
        connection.executemany(_SEE, counted.seen)
        _add_own_mail(connection, counted.own_mail)
        return True


def open_counts(path: Path) -> sqlite3.Connection:
    """Open the file at *path* to read and write, made with its tables where it is not there.

    Raises `OSError` or `sqlite3.DatabaseError`.
    """
    make_file(path)
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
    try:
        connection.text_factory = read_text
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA trusted_schema = OFF")
        check_version(connection, also=0)
        transact(connection, _make_tables)
    except BaseException:
        connection.close()
        raise
    return connection


def check_version(connection: sqlite3.Connection, *, also: int = VERSION) -> None:
    """Raise `sqlite3.DatabaseError` unless the tables are of this version, or of *also*."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version not in {VERSION, also}:
        raise _ForeignError(f"its tables are of version {version}, not {VERSION}")


def _make_tables(connection: sqlite3.Connection) -> None:
    check_version(connection, also=0)
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _is_fault(error: sqlite3.DatabaseError) -> bool:
    return isinstance(error, _ForeignError) or is_fault(error)


def _read_place(connection: sqlite3.Connection, source: str) -> Place:
    row = connection.execute(_PLACE, (source,)).fetchone()
    if row is None:
        return Place()
    return Place(position=row[0], memory=row[1], read_to=row[2], since=row[3])


def _write_place(connection: sqlite3.Connection, source: str, place: Place) -> None:
    values = (source, place.position, place.memory, place.read_to)
    connection.execute(_PUT_PLACE, values)


def _add_own_mail(connection: sqlite3.Connection, mails: Iterable[OwnMail]) -> None:
    known = [mail for mail in mails if len(mail.recipient) <= MAX_RECIPIENT]
    if known:
        connection.executemany(_OWN_MAIL, map(_own_mail_columns, known))
        connection.execute(_FORGET_OWN_MAIL, (MAX_OWN_MAIL,))


def _own_mail_columns(mail: OwnMail) -> tuple[str, float | None, float]:
    recipient = mail.recipient.encode("utf-8", "replace").decode()  # SQLite takes no surrogates
    return recipient, None if mail.delivered else mail.when, mail.when


def _nothing(_connection: sqlite3.Connection) -> bool:
    return True

"""Which reports were handed over: the port `ReportStore`, in the file of the counts.

``reports`` has a row for every report and destination, ``destinations`` one for
every destination that was ever tried.  They are made where they are not there
yet; the file itself is the collector's to make.

A method returns once its change is committed, which outlives the end of the
process at any moment.  The journal is synchronised at checkpoints only: a power
cut may lose the last moments, and the reports handed over in them are then sent
again, with the same Report-ID.

Only one process at a time may send: `lock` gives it the right to, until it ends,
in whatever way.  That cannot expire under a slow process nor outlive a dead one,
as a mark in the database could.

BUGS: The lock does not reach over a network file system.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from postfix_mtasts.adapters.store_file import open_existing
from postfix_mtasts.core.schedule import Destination, Tries
from postfix_mtasts.core.utc import day_start
from postfix_mtasts.ports import Handover, ReportState, StoreUnusableError

BUSY_SECONDS = 30.0
"""So long another process may hold the database."""

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS reports (
    day INTEGER NOT NULL,
    domain TEXT NOT NULL,
    destination TEXT NOT NULL,
    report_id TEXT NOT NULL,
    state TEXT NOT NULL,
    tries INTEGER NOT NULL,
    first_try REAL,
    last_try REAL,
    why TEXT NOT NULL,
    sent REAL,
    PRIMARY KEY (day, domain, destination)
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS destinations (
    destination TEXT PRIMARY KEY,
    failing_since REAL,
    last REAL,
    sent_on INTEGER NOT NULL,
    sent INTEGER NOT NULL
) WITHOUT ROWID""",
)
_COLUMNS = "day, domain, destination, report_id, state, tries, first_try, last_try, why, sent"
_PUT = f"INSERT OR REPLACE INTO reports ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
_READ = f"SELECT {_COLUMNS} FROM reports WHERE day = ? AND domain = ?"  # noqa: S608 - constants
_PUT_DESTINATION = "INSERT OR REPLACE INTO destinations VALUES (?, ?, ?, ?, ?)"
_READ_DESTINATION = "SELECT * FROM destinations WHERE destination = ?"
_FORGET_DESTINATIONS = "DELETE FROM destinations WHERE last IS NULL OR last < ?"
_FAILING = """SELECT * FROM destinations WHERE failing_since IS NOT NULL
    ORDER BY failing_since, destination"""


class SqliteReportStore:
    """Implements `postfix_mtasts.ports.ReportStore`; to be used from one thread.

    Raises `StoreUnusableError` where the file at *path* is not there or cannot
    be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._trouble():
            self._connection = open_existing(path, timeout=BUSY_SECONDS)
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
                for statement in _SCHEMA:
                    self._connection.execute(statement)
            except BaseException:
                self._connection.close()
                raise

    def handovers(self, day: int, domain: str) -> tuple[Handover, ...]:
        """Return all that is known of the report on *domain* and *day*, in order of destination."""
        with self._trouble():
            return tuple(map(_handover, self._connection.execute(_READ, (day, domain))))

    def address(self, day: int, domain: str, handovers: Iterable[Handover]) -> None:
        """Put *handovers* in the place of all that was known."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM reports WHERE day = ? AND domain = ?", (day, domain))
            connection.executemany(_PUT, map(_row, handovers))

    def settle(self, handover: Handover, destination: Destination) -> None:
        """Store what came of a try, and of its destination, both or neither."""
        known = destination
        row = (handover.to, known.failing_since, known.last, known.sent_on, known.sent)
        with self._transaction() as connection:
            connection.execute(_PUT, _row(handover))
            connection.execute(_PUT_DESTINATION, row)

    def destination(self, to: str) -> Destination:
        """Return what is known of the destination *to*."""
        with self._trouble():
            row = self._connection.execute(_READ_DESTINATION, (to,)).fetchone()
        return Destination() if row is None else _destination(row)

    def failing(self) -> tuple[tuple[str, Destination], ...]:
        """Return the destinations whose last try failed, those that fail longest first."""
        with self._trouble():
            rows = self._connection.execute(_FAILING).fetchall()
        return tuple((row[0], _destination(row)) for row in rows)

    def forget_before(self, day: int) -> int:
        """Remove what is known of the days before *day*; return how many rows there were.

        So are destinations that were not tried since.
        """
        with self._transaction() as connection:
            connection.execute(_FORGET_DESTINATIONS, (day_start(day),))
            return connection.execute("DELETE FROM reports WHERE day < ?", (day,)).rowcount

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._trouble():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite may have ended it, as when it is full
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnusableError(f"{self._path}: {error}") from error


@contextmanager
def lock(path: Path) -> Iterator[bool]:
    """Say whether this process alone may send, and keep others from it meanwhile.

    *path*: of the database.  Raises `StoreUnusableError` where no lock can be had.
    """
    file = path.with_name(f"{path.name}-sending")
    try:  # to read is enough to lock, so that root and the system's user can share it
        descriptor = os.open(file, os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreUnusableError(f"{file}: {error.strerror}") from error
    with closing(os.fdopen(descriptor)) as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _row(handover: Handover) -> tuple[object, ...]:
    tries = handover.tries
    return (
        *(handover.day, handover.domain, handover.to, handover.report_id, handover.state.value),
        *((0, None, None) if tries is None else (tries.count, tries.first, tries.last)),
        *(handover.why, handover.sent),
    )


def _handover(row: tuple[object, ...]) -> Handover:
    day, domain, to, report_id, state, count, first, last, why, sent = row
    return Handover(
        day=_integer(day),
        domain=str(domain),
        to=str(to),
        report_id=str(report_id),
        state=ReportState(state),
        tries=_tries(count, first, last),
        why=str(why),
        sent=sent if isinstance(sent, float) else None,
    )


def _tries(count: object, first: object, last: object) -> Tries | None:
    if not (isinstance(count, int) and isinstance(first, float) and isinstance(last, float)):
        return None
    return Tries(count=count, first=first, last=last) if count > 0 else None


def _destination(row: tuple[object, ...]) -> Destination:
    _, since, last, sent_on, sent = row
    return Destination(
        failing_since=since if isinstance(since, float) else None,
        last=last if isinstance(last, float) else None,
        sent_on=_integer(sent_on),
        sent=_integer(sent),
    )


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0

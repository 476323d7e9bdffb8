"""Which reports were handed over: the port `ReportStore`, in the file of the counts.

``reports`` has a row for every report and destination, ``destinations`` one for
every destination that was ever tried, and for its domain.  They are made where they
are not there yet; the file itself is the collector's to make, and so is ``own_mail``,
what became of report mails as the log tells, which may be missing.

What others tell of destinations and domains is summed up when it is first asked
for, and holds until the store is closed: bounces come days after the mail.

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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from postfix_mtasts.adapters.store_file import faults_of, open_existing, transaction
from postfix_mtasts.adapters.told_failures import sum_up
from postfix_mtasts.core import schedule
from postfix_mtasts.core.schedule import Destination, Tries
from postfix_mtasts.core.utc import DAY, day_start
from postfix_mtasts.ports import Handover, ReportState, StoreUnusableError

BUSY_SECONDS = 30.0
"""So long another process may hold the database."""

KEPT_DAYS = schedule.KEPT_SECONDS // DAY
"""So many of the newest days with reports are kept, whatever the clock says."""

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
_FAR = 1 << 62  # behind every day
_PUT = f"INSERT OR REPLACE INTO reports ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
_READ = f"SELECT {_COLUMNS} FROM reports WHERE day = ? AND domain = ?"  # noqa: S608 - constants
_PUT_DESTINATION = "INSERT OR REPLACE INTO destinations VALUES (?, ?, ?, ?, ?)"
_READ_DESTINATION = "SELECT * FROM destinations WHERE destination = ?"
_FORGET_REPORT = "DELETE FROM reports WHERE day = ? AND domain = ?"
_FORGET_REPORTS = "DELETE FROM reports WHERE day < ?"
_FORGET_DESTINATIONS = "DELETE FROM destinations WHERE last IS NULL OR last < ?"
_NEWEST_BEFORE = "SELECT max(day) FROM reports WHERE day < ?"

_READ_TOLD = "SELECT since, last FROM told WHERE name = ?"
_FAILING = """SELECT destination FROM destinations WHERE failing_since IS NOT NULL
    UNION SELECT name FROM told"""


class SqliteReportStore:
    """Implements `postfix_mtasts.ports.ReportStore`; to be used from one thread.

    Raises `StoreUnusableError` where the file at *path* is not there or cannot
    be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_told = False
        with faults_of(path):
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
        with faults_of(self._path):
            return tuple(map(_handover, self._connection.execute(_READ, (day, domain))))

    def address(self, day: int, domain: str, handovers: Iterable[Handover]) -> None:
        """Put *handovers* in the place of all that was known."""
        with faults_of(self._path), transaction(self._connection):
            self._connection.execute(_FORGET_REPORT, (day, domain))
            self._connection.executemany(_PUT, map(_row, handovers))

    def settle(self, handover: Handover, known: Mapping[str, Destination]) -> None:
        """Store how far *handover* is, and what is now *known* of whom, all or nothing.

        What others tell of a destination is not stored.
        """
        rows = [
            (name, it.failing_since, it.last, it.sent_on, it.sent) for name, it in known.items()
        ]
        with faults_of(self._path), transaction(self._connection):
            self._connection.execute(_PUT, _row(handover))
            self._connection.executemany(_PUT_DESTINATION, rows)

    def destination(self, name: str) -> Destination:
        """Return what is known of *name*: a destination, or the domain of some."""
        with faults_of(self._path):
            self._be_told()
            row = self._connection.execute(_READ_DESTINATION, (name,)).fetchone()
            told = self._connection.execute(_READ_TOLD, (name,)).fetchone()
        return _destination(row or (name, None, None, 0, 0), told or (None, None))

    def failing(self) -> tuple[tuple[str, Destination], ...]:
        """Return the destinations and domains that fail, those that fail longest first."""
        with faults_of(self._path):
            self._be_told()
            names = self._connection.execute(_FAILING).fetchall()
        known = [(str(name), self.destination(str(name))) for (name,) in names]
        return tuple(sorted(known, key=lambda it: (schedule.failing_since(it[1]) or 0, it[0])))

    def forget_before(self, day: int) -> int:
        """Remove what is known of the days before *day*; return how many rows there were.

        So are destinations that were not tried since.  The newest `KEPT_DAYS` with
        reports are kept, whatever *day* says: the clock may be wrong.
        """
        with faults_of(self._path), transaction(self._connection):
            oldest = min(day, _oldest_kept(self._connection))
            self._connection.execute(_FORGET_DESTINATIONS, (day_start(oldest),))
            return self._connection.execute(_FORGET_REPORTS, (oldest,)).rowcount

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _be_told(self) -> None:
        """Sum up what others tell, once."""
        if not self._is_told:
            with transaction(self._connection):
                sum_up(self._connection)
            self._is_told = True


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


def _destination(row: tuple[object, ...], told: tuple[object, ...]) -> Destination:
    _, since, last, sent_on, sent = row
    told_since, told_last = told
    return Destination(
        failing_since=_moment(since),
        last=_moment(last),
        sent_on=_integer(sent_on),
        sent=_integer(sent),
        told_since=_moment(told_since),
        told_last=_moment(told_last),
    )


def _oldest_kept(connection: sqlite3.Connection) -> int:
    """Return the oldest of the newest `KEPT_DAYS` days with reports."""
    day = _FAR
    for _ in range(KEPT_DAYS):
        [before] = connection.execute(_NEWEST_BEFORE, (day,)).fetchone()
        if before is None:
            break
        day = _integer(before)
    return day


def _moment(value: object) -> float | None:
    return value if isinstance(value, float) else None


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0

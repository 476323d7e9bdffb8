"""The counts as reports are made of them: the port `CountStore`.

The file and its tables are the collector's (see `tlsrpt_store`), which may be
writing at the same time.  Where the policy daemon has noted there what was in force,
that is forgotten with the counts (`policy_history`).
"""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from postfix_mtasts.adapters import policy_history
from postfix_mtasts.adapters.store_file import faults_of, open_existing, transact
from postfix_mtasts.adapters.tlsrpt_store import READ_TO, check_version
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.tally import Row, parse_columns
from postfix_mtasts.ports import StoreUnusableError

BUSY_SECONDS: Final = 30.0
"""So long another process may hold the database."""

KEPT_DAYS: Final = 4
"""The newest days that have counts, or a history, never forgotten, however wrong the clock is.

Today, the two days before, of which reports may still be sent, and one that is none:
a clock that was ahead once has counted something on it.
"""

_DAYS: Final = "SELECT DISTINCT day FROM tally ORDER BY day"
_OLDEST_KEPT: Final = "SELECT DISTINCT day FROM tally ORDER BY day DESC LIMIT 1 OFFSET ?"
_OLDEST_ASKED: Final = "SELECT day FROM days_asked ORDER BY day DESC LIMIT 1 OFFSET ?"
# CROSS JOIN: SQLite knows nothing of how many there are, and would go through the whole day.
_DOMAINS: Final = """SELECT DISTINCT domain FROM tally CROSS JOIN kinds ON id = kind
    WHERE day = ? AND count > 0 ORDER BY domain"""
_COUNTS: Final = """SELECT day, domain, origin, policies.policy, result, count FROM kinds
    CROSS JOIN tally ON kind = kinds.id AND day = ?
    CROSS JOIN policies ON policies.id = kinds.policy
    WHERE domain = ? AND count > 0 ORDER BY kinds.id"""
_FORGET_KINDS: Final = "DELETE FROM kinds WHERE id NOT IN (SELECT kind FROM tally)"
_FORGET_POLICIES: Final = "DELETE FROM policies WHERE id NOT IN (SELECT policy FROM kinds)"


class SqliteCountReader:
    """Implements `postfix_mtasts.ports.CountStore`; to be used from one thread.

    Raises `StoreUnusableError` where the file at *path* is not there or cannot
    be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with faults_of(path):
            self._connection = open_existing(path, timeout=BUSY_SECONDS)
        try:
            with faults_of(self._path):
                check_version(self._connection)
        except StoreUnusableError:
            self._connection.close()
            raise

    def days_with_counts(self) -> tuple[int, ...]:
        """Return the days of which there are counts, oldest first."""
        with faults_of(self._path):
            return tuple(int(day) for (day,) in self._connection.execute(_DAYS))

    def domains_of(self, day: int) -> tuple[str, ...]:
        """Return the domains to which there were sessions on *day*, in order of name."""
        with faults_of(self._path):
            return tuple(str(name) for (name,) in self._connection.execute(_DOMAINS, (day,)))

    def counts_of(self, day: int, domain: str) -> tuple[tuple[Row, int], ...]:
        """Return the rows of *day* and *domain* and how often each was counted.

        Rows that are damaged are left out.
        """
        with faults_of(self._path):
            rows = self._connection.execute(_COUNTS, (day, domain)).fetchall()
        return tuple(_parsed(rows))

    def read_to(self) -> float:
        """Return the moment up to which every source that is followed has been read.

        In seconds since the epoch; infinite where none is followed.
        """
        with faults_of(self._path):
            [moment] = self._connection.execute(READ_TO).fetchone()
        return math.inf if moment is None else float(moment)

    def forget_before(self, day: int) -> int:
        """Remove the counts of the days before *day*; return how many rows there were.

        The newest `KEPT_DAYS` are kept, whatever *day* says.
        """
        with faults_of(self._path):
            return transact(self._connection, lambda connection: _forget(connection, day))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def _forget(connection: sqlite3.Connection, day: int) -> int:
    if policy_history.has_tables(connection):
        policy_history.forget_before(connection, _oldest(connection, _OLDEST_ASKED, day))
    oldest = _oldest(connection, _OLDEST_KEPT, day)
    removed = connection.execute("DELETE FROM tally WHERE day < ?", (oldest,)).rowcount
    if removed:
        connection.execute(_FORGET_KINDS)
        connection.execute(_FORGET_POLICIES)
    return removed


def _oldest(connection: sqlite3.Connection, newest: str, day: int) -> int:
    """Return *day*, or an earlier one so that `KEPT_DAYS` of those that *newest* finds are kept."""
    kept = connection.execute(newest, (KEPT_DAYS - 1,)).fetchone()
    return 0 if kept is None else min(day, *kept)


def _parsed(rows: list[tuple[int, str, str, str, str, int]]) -> Iterator[tuple[Row, int]]:
    for row in rows:
        with suppress(ParseError):
            yield parse_columns(row[:5]), row[5]

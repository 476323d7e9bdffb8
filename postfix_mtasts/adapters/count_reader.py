"""The counts as reports are made of them: the port `CountStore`.

The file and its tables are the collector's (see `tlsrpt_store`), which may be
writing at the same time.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from postfix_mtasts.adapters.store_file import open_existing, transact
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.tally import Row, parse_columns
from postfix_mtasts.ports import StoreUnusableError

BUSY_SECONDS = 30.0
"""So long another process may hold the database."""

_DAYS = "SELECT DISTINCT day FROM tally ORDER BY day"
_DOMAINS = """SELECT DISTINCT domain FROM tally JOIN kinds ON id = kind
    WHERE day = ? AND count > 0 ORDER BY domain"""
_COUNTS = """SELECT day, domain, origin, policy, result, count FROM kinds
    JOIN tally ON kind = id AND day = ? WHERE domain = ? AND count > 0 ORDER BY id"""


class SqliteCountReader:
    """Implements `postfix_mtasts.ports.CountStore`; to be used from one thread.

    Raises `StoreUnusableError` where the file at *path* is not there or cannot
    be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._trouble():
            self._connection = open_existing(path, timeout=BUSY_SECONDS)

    def days_with_counts(self) -> tuple[int, ...]:
        """Return the days of which there are counts, oldest first."""
        with self._trouble():
            return tuple(int(day) for (day,) in self._connection.execute(_DAYS))

    def domains_of(self, day: int) -> tuple[str, ...]:
        """Return the domains to which there were sessions on *day*, in order of name."""
        with self._trouble():
            return tuple(str(name) for (name,) in self._connection.execute(_DOMAINS, (day,)))

    def counts_of(self, day: int, domain: str) -> tuple[tuple[Row, int], ...]:
        """Return the rows of *day* and *domain* and how often each was counted.

        Rows that are damaged are left out.
        """
        with self._trouble():
            rows = self._connection.execute(_COUNTS, (day, domain)).fetchall()
        return tuple(_parsed(rows))

    def forget_before(self, day: int) -> int:
        """Remove the counts of the days before *day*; return how many rows there were."""

        def forget(connection: sqlite3.Connection) -> int:
            removed = connection.execute("DELETE FROM tally WHERE day < ?", (day,)).rowcount
            if removed:
                connection.execute("DELETE FROM kinds WHERE id NOT IN (SELECT kind FROM tally)")
            return removed

        with self._trouble():
            return transact(self._connection, forget)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnusableError(f"{self._path}: {error}") from error


def _parsed(rows: list[tuple[int, str, str, str, str, int]]) -> Iterator[tuple[Row, int]]:
    for row in rows:
        with suppress(ParseError):
            yield parse_columns(row[:5]), row[5]

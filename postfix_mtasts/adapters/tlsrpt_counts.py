"""The counts of TLS sessions, read for reports: the port `CountStore`.

The collector writes them meanwhile; see `tlsrpt_store` for the tables.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postfix_mtasts.adapters.store_file import transact
from postfix_mtasts.adapters.tlsrpt_store import open_counts
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.tally import Row, parse_columns
from postfix_mtasts.ports import StoreUnusableError

log = logging.getLogger(__name__)

# CROSS JOIN: SQLite knows nothing of how many there are, and would go through the whole day.
_COUNTS = """SELECT day, domain, origin, policy, result, count
    FROM kinds CROSS JOIN tally ON kind = id
    WHERE day = ? AND domain = ? AND count > 0 ORDER BY origin, policy, result"""
_DOMAINS = """SELECT DISTINCT domain FROM tally CROSS JOIN kinds ON kind = id
    WHERE day = ? AND count > 0 ORDER BY domain"""


class SqliteCountStore:
    """Implements `postfix_mtasts.ports.CountStore`; to be used from one thread.

    Raises `StoreUnusableError` where the file at *path* cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._trouble():
            self._connection = open_counts(path)

    def days_with_counts(self) -> tuple[int, ...]:
        """Return the days of which there are counts, oldest first."""
        with self._trouble():
            rows = self._connection.execute("SELECT DISTINCT day FROM tally ORDER BY day")
            return tuple([int(day) for (day,) in rows])

    def domains_of(self, day: int) -> tuple[str, ...]:
        """Return the domains to which there were sessions on *day*, in order of name."""
        with self._trouble():
            return tuple([domain for (domain,) in self._connection.execute(_DOMAINS, (day,))])

    def counts_of(self, day: int, domain: str) -> tuple[tuple[Row, int], ...]:
        """Return the rows of *day* and *domain* and how often each was counted."""
        with self._trouble():
            rows = self._connection.execute(_COUNTS, (day, domain)).fetchall()
        return tuple(_parsed(rows))

    def forget_before(self, day: int) -> int:
        """Remove the counts of the days before *day*; return how many rows there were."""
        with self._trouble():
            return transact(self._connection, lambda connection: _forget(connection, day))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise StoreUnusableError(f"{self._path}: {error}") from error


def _parsed(rows: list[tuple[int, str, str, str, str, int]]) -> Iterator[tuple[Row, int]]:
    for day, domain, origin, policy, result, count in rows:
        try:
            yield parse_columns((day, domain, origin, policy, result)), count
        except ParseError as error:
            log.warning("a count of %s is left out: %s", domain, error)


def _forget(connection: sqlite3.Connection, day: int) -> int:
    removed = connection.execute("DELETE FROM tally WHERE day < ?", (day,)).rowcount
    if removed:
        connection.execute("DELETE FROM kinds WHERE id NOT IN (SELECT kind FROM tally)")
    return removed

"""The database of the store: a file as long as that can be used, else memory.

What may be wrong with the file, and what is done about it:

damaged
    Not a database, a page that makes no sense, tables of another version.  It
    is set aside under another name, with its journal, and a new one begun.
unusable
    An unwritable folder, a full disk, a read error, another process that holds
    it.  Memory takes over, filled with what can still be read, so that policies
    in force stay in force.  Every `RETRY` seconds the file is tried again; once
    it can be written, what was learnt meanwhile is written to it.

Either is told once, at level ERROR; whoever uses the database notices nothing.

BUGS: the file is tried again only when the database is used, and at `close`.
"""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TypeAlias, TypeVar

from postfix_mtasts.adapters import store_file, store_shelter
from postfix_mtasts.ports import Clock

T = TypeVar("T")

RETRY = 60
"""Seconds between attempts to use the file again, or to begin a new one."""

_FAULTS = (OSError, sqlite3.DatabaseError)

Work: TypeAlias = Callable[[sqlite3.Connection], None]

_logger = logging.getLogger(__name__)


def _nothing(_connection: sqlite3.Connection) -> None:
    pass


class Database:
    """One connection, replaced when need be; to be used from one thread.

    *problem* says what is wrong with the file while memory stands in for it.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        """Take the file at *path*, or memory alone where it is `None`."""
        self.problem: str | None = None
        self._path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._tried = 0.0  # when the file was last tried, if there is a problem
        self._renewed = float("-inf")  # when a file was last set aside

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what *work* returns, once its changes are committed.

        *work* is called again where the database failed under it.  Its own
        errors are raised, its changes undone.
        """
        while True:
            connection = self._usable()
            try:
                return store_file.transact(connection, work)
            except sqlite3.DatabaseError as error:
                if self._path is None or self.problem or not store_file.is_fault(error):
                    raise
                self._connection = self._replacement(self._path, connection, error)

    def close(self) -> None:
        """Close the file, after bringing to it what memory holds for it."""
        connection = self._usable()
        if self._path is not None and self.problem:
            connection = self._back_in_file(self._path, connection)
        connection.close()  # which moves the journal into the file

    def _usable(self) -> sqlite3.Connection:
        """Return the connection; open it first, or try the file again if it is time."""
        if self._path is None:
            self._connection = self._connection or store_file.open_memory()
        elif self._connection is None:
            self._connection = self._opened(self._path)
        elif self.problem and abs(self._clock() - self._tried) >= RETRY:
            self._connection = self._back_in_file(self._path, self._connection)
        return self._connection

    def _opened(self, path: Path) -> sqlite3.Connection:
        try:
            return self._open_or_renew(path)
        except _FAULTS as error:
            return self._shelter(path, None, error)

    def _open_or_renew(self, path: Path, work: Work = _nothing) -> sqlite3.Connection:
        """Open the file, or a new one in the place of one that is damaged; do *work* in it.

        Raises one of `_FAULTS` where that cannot be done.
        """
        try:
            return _open_and(path, work)
        except sqlite3.DatabaseError as error:
            if not self._may_renew(error):
                raise
            self._set_aside(path, error)
            return _open_and(path, work)

    def _may_renew(self, error: Exception) -> bool:
        """Return whether to begin a new file; not if the last one is hardly older."""
        return store_file.is_damage(error) and abs(self._clock() - self._renewed) >= RETRY

    def _set_aside(self, path: Path, error: Exception) -> None:
        self._renewed = self._clock()
        name = store_file.set_aside(path, self._renewed)
        _logger.error(
            "%s is damaged (%s): set aside as %s, and a new one begun;"
            " every MTA-STS policy must be learnt anew",
            *(path, error, name),
        )

    def _replacement(
        self, path: Path, connection: sqlite3.Connection, error: Exception
    ) -> sqlite3.Connection:
        """Return what is to be used instead of *connection*, which failed with *error*."""
        if not self._may_renew(error):
            return self._shelter(path, connection, error)
        connection.close()
        try:
            self._set_aside(path, error)
            return _open_and(path, _nothing)
        except _FAULTS as another:
            return self._shelter(path, None, another)

    def _shelter(
        self, path: Path, connection: sqlite3.Connection | None, error: Exception
    ) -> sqlite3.Connection:
        """Return memory with a copy of what *connection*, or else *path*, lets be read."""
        self._tried = self._clock()
        self.problem = f"{path}: {error}; what is learnt is kept in memory only"
        _logger.error(
            "%s cannot be used (%s): until it can, what is learnt is kept in memory,"
            " and lost at a restart",
            *(path, error),
        )
        source = connection or store_file.open_to_read(path)
        with nullcontext() if source is None else closing(source):
            return store_shelter.open_shelter(source)

    def _back_in_file(self, path: Path, shelter: sqlite3.Connection) -> sqlite3.Connection:
        """Return the file with what *shelter* has learnt, or else *shelter*."""
        now = self._tried = self._clock()
        try:
            connection = self._open_or_renew(
                path, lambda file: store_shelter.write_back(shelter, file, now)
            )
        except _FAULTS:
            return shelter
        shelter.close()
        self.problem = None
        _logger.warning("%s can be used again, and has what was learnt meanwhile", path)
        return connection


def _open_and(path: Path, work: Work) -> sqlite3.Connection:
    """Open the file and do *work* in it, in one transaction."""
    connection = store_file.open_file(path)
    try:
        store_file.transact(connection, work)
    except BaseException:
        connection.close()
        raise
    return connection

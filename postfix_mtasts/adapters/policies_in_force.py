"""What the policy daemon had in force, read from its files: the port `PoliciesInForce`.

Two files tell: what it knows now (``state.db``), and beside it what it has noted
as that changed (`policy_history`).

* Of today: what it knows now, or else what it noted last.
* Of a day gone by: what it had noted last when the day ended, or else what it
  knows now.
* The MX hosts: those of the whole day.

A domain of which neither file knows was never asked for, if the daemon noted on
that day, or the day before, what it was asked for, and missed nothing.  Otherwise
that cannot be told, and all the less where a file cannot be read: then nothing is
in force, and sessions count under "no-policy-found".

Files are opened to read only, and again where they are not what they were.  A
domain is looked up once in `HOLD` seconds, unless what was known is said to be too old.

BUGS: a table in main.cf that answers before the daemon is asked makes its domains
ones that were never asked for; so does a second Postfix that logs to the same place
and asks another daemon or none.  A policy that is new is not known for as long as
`HOLD`.
"""

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from postfix_mtasts.adapters import policy_history, store_tables
from postfix_mtasts.adapters.store_file import open_existing, open_to_read, which
from postfix_mtasts.adapters.store_rows import Row, parse_dns, parse_policy
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import CachedPolicy, DnsFacts
from postfix_mtasts.core.freshness import in_force
from postfix_mtasts.core.in_force import NEVER_ASKED, NOTHING, in_force_of, is_whole, of_day
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.core.utc import day_of

log = logging.getLogger(__name__)

HOLD: Final = 60.0  # seconds
_MAX_HELD: Final = 20_000  # domains and days
_BUSY_TIMEOUT: Final = 1.0  # seconds to wait for a lock

_COUNT = "SELECT count(*) FROM domains WHERE domain = ?"

T = TypeVar("T")


class PoliciesOfDaemon:
    """What the daemon's database at *path* says, and the file of counts beside it.

    *ticks*: a clock that never jumps.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._ticks = ticks
        self._daemon = _File(path, open_to_read)
        self._history = _File(path.with_name(FILE_NAME), _open_history)
        self._held: dict[tuple[str, int], tuple[float, InForce]] = {}  # when it was read
        self._edition = 0
        self._until = ticks() + HOLD

    def edition(self) -> int:
        """Return a number that changes every `HOLD` seconds, and with what was read anew."""
        if self._ticks() >= self._until:
            self._edition += 1
            self._until = self._ticks() + HOLD
            self._held.clear()
            self._renew()
        return self._edition

    def of(self, domain: str, when: float, *, since: float = 0.0) -> InForce:
        """Return what was in force for *domain* on the UTC day of *when*, read *since* a moment."""
        self.edition()
        key = (domain, day_of(when))
        read, known = self._held.get(key, (None, NOTHING))
        if read is None:
            if len(self._held) >= _MAX_HELD:
                self._held.clear()
            return self._hold(key)
        if read >= since:
            return known
        self._renew()
        fresh = self._hold(key)
        self._edition += fresh != known
        return fresh

    def close(self) -> None:
        """Let go of the files."""
        self._daemon.close()
        self._history.close()

    def _renew(self) -> None:
        self._daemon.renew()
        self._history.renew()

    def _hold(self, key: tuple[str, int]) -> InForce:
        read, known = self._clock(), self._read(*key)
        self._held[key] = (read, known)
        return known

    def _read(self, domain: str, day: int) -> InForce:
        stored = self._daemon.read(lambda file: store_tables.load(file, domain, domain))
        if stored is None:
            return NOTHING
        now = self._clock()
        dns, cached = _dns(stored[0]), _policy(stored[1], now)
        known = in_force_of(NextHop(form=Form.DOMAIN, name=domain), dns, cached)
        held = self._history.read(lambda file: policy_history.held_on(file, domain, day)) or ()
        if not held:
            return known if self._is_known(domain) or not self._is_asked(day) else NEVER_ASKED
        told = [NOTHING if each is None else each for each in held]
        is_newer = day >= day_of(now) and dns is not None and is_whole(dns)
        if held[-1] is None or is_newer:
            told.append(known)
        return of_day(told)

    def _is_known(self, domain: str) -> bool:
        count = self._daemon.read(lambda file: file.execute(_COUNT, (domain,)).fetchone())
        return count != (0,)

    def _is_asked(self, day: int) -> bool:
        return bool(self._history.read(lambda file: policy_history.is_asked(file, day)))


class _File:
    """A database that others write, opened by *opening* where it can be."""

    def __init__(self, path: Path, opening: Callable[[Path], sqlite3.Connection | None]) -> None:
        self._path = path
        self._opening = opening
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # which one is open: device and inode

    def read(self, reading: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return what *reading* returns, `None` where the file cannot be read."""
        if self._connection is None:
            self.renew()
        if self._connection is None:
            return None
        try:
            return reading(self._connection)
        except sqlite3.DatabaseError as error:
            log.warning("%s: %s", self._path, error)
            self.close()
            return None

    def renew(self) -> None:
        """Open the file unless it is open already."""
        found = which(self._path)
        if found is None or found != self._opened:
            self.close()
        if found is not None and self._connection is None:
            self._connection = self._opening(self._path)
            self._opened = found if self._connection else None

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._opened = None, None


def _open_history(path: Path) -> sqlite3.Connection | None:
    """Open the file of counts at *path*; `None` where it has no history yet, or cannot be read."""
    try:
        connection = open_existing(path, timeout=_BUSY_TIMEOUT, mode="ro")
    except sqlite3.DatabaseError:
        return None
    try:
        if policy_history.has_tables(connection):
            return connection
    except sqlite3.DatabaseError:
        pass
    connection.close()
    return None


def _dns(facts: object) -> DnsFacts | None:
    try:
        return parse_dns(facts)
    except ParseError:
        return None


def _policy(sts: Row, now: float) -> CachedPolicy | None:
    try:
        return in_force(parse_policy(sts), now)
    except ParseError:
        return None

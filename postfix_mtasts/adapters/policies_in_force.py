"""What the policy daemon has in force, read from its database: the port `PoliciesInForce`.

The file is opened to read only, and again where it is not what it was.  A domain is
looked up once in `HOLD` seconds.  Where there is no such file, or it cannot be read,
nothing is in force: sessions then count under "no-policy-found".
"""

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from postfix_mtasts.adapters import store_tables
from postfix_mtasts.adapters.store_file import open_to_read
from postfix_mtasts.adapters.store_rows import Row, parse_dns, parse_policy
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import DnsFacts, Present
from postfix_mtasts.core.freshness import in_force
from postfix_mtasts.core.tlsa import Record

log = logging.getLogger(__name__)

HOLD: Final = 60.0  # seconds
_MAX_HELD: Final = 20_000  # domains
_NOTHING: Final = InForce()


class PoliciesOfDaemon:
    """What the database at *path* says; *ticks*: a clock that never jumps."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._clock = clock
        self._ticks = ticks
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # which one is open: device and inode
        self._held: dict[str, InForce] = {}
        self._edition = 0
        self._until = ticks() + HOLD

    def edition(self) -> int:
        """Return a number that changes every `HOLD` seconds."""
        if self._ticks() >= self._until:
            self._edition += 1
            self._until = self._ticks() + HOLD
            self._held.clear()
            self._open()
        return self._edition

    def of(self, domain: str) -> InForce:
        """Return what is in force for *domain*."""
        self.edition()
        known = self._held.get(domain)
        if known is None:
            if len(self._held) >= _MAX_HELD:
                self._held.clear()
            known = self._held[domain] = self._read(domain)
        return known

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._file = None, None

    def _read(self, domain: str) -> InForce:
        if self._connection is None:
            self._open()
        if self._connection is None:
            return _NOTHING
        try:
            facts, sts = store_tables.load(self._connection, domain, domain)
        except sqlite3.DatabaseError as error:
            log.warning("%s: %s", self._path, error)
            self.close()
            return _NOTHING
        return self._parsed(facts, sts)

    def _parsed(self, facts: object, sts: Row) -> InForce:
        try:
            cached = in_force(parse_policy(sts), self._clock())
        except ParseError:
            cached = None
        try:
            tlsa = _tlsa(parse_dns(facts))
        except ParseError:
            tlsa = {}
        if cached is None:
            return InForce(tlsa=tlsa) if tlsa else _NOTHING
        return InForce(sts=cached.policy, text=cached.text, tlsa=tlsa)

    def _open(self) -> None:
        """Open the database unless it is open already."""
        try:
            found = self._path.stat()
        except OSError:
            self.close()
            return
        if (found.st_dev, found.st_ino) != self._file:
            self.close()
            self._connection = open_to_read(self._path)
            self._file = (found.st_dev, found.st_ino) if self._connection else None


def _tlsa(dns: DnsFacts | None) -> dict[str, tuple[Record, ...]]:
    """Return the secure TLSA records by MX host."""
    return {
        host.name: host.tlsa.records
        for host in (() if dns is None else dns.hosts)
        if isinstance(host.tlsa, Present) and host.tlsa.secure
    }

"""The store in an SQLite database: the port `Store`, for one mail server.

Every method runs in the transaction of a batch, on a thread of its own, so the
event loop never waits for the disk (see `store_thread`).  What a method returns
after is committed.  No trouble with the file is ever raised: it is logged, and
memory stands in (see `store_database`).

What cannot be read, damaged or of another version, is not there; what stands
beside it in its row is.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from postfix_mtasts.adapters import store_tables
from postfix_mtasts.adapters.store_database import Database
from postfix_mtasts.adapters.store_room import Room
from postfix_mtasts.adapters.store_rows import build_sts, parse_dns, parse_failure, parse_policy
from postfix_mtasts.adapters.store_thread import BatchThread, Job, Outcome
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import StsFacts
from postfix_mtasts.core.facts_record import build_dns_facts
from postfix_mtasts.core.names import NextHop
from postfix_mtasts.ports import Clock, Entry, Stored

MAX_DOMAINS = 100_000

_PIECE = 500  # domains that one job of a long list is about: look-ups go in between
_MAX_TOLD = 1000  # damaged rows that are logged, then no more

C = TypeVar("C")
T = TypeVar("T")

_logger = logging.getLogger(__name__)


class SqliteStore:
    """Implements `postfix_mtasts.ports.Store`."""

    def __init__(self, path: Path | None, *, clock: Clock, max_domains: int = MAX_DOMAINS) -> None:
        """Keep up to *max_domains* in the file at *path*, or in memory where it is `None`.

        The file is opened, or made, by the first use.
        """
        self._clock = clock
        self._database = Database(path, clock)
        self._room = Room(max_domains)
        self._told: set[str] = set()
        self._thread: BatchThread[sqlite3.Connection] = BatchThread("store", self._work)

    @property
    def problem(self) -> str | None:
        """What is wrong with the file, in words for an operator; `None` if nothing is."""
        return self._database.problem

    async def load(self, nexthop: NextHop) -> Stored:
        """Return what is stored of *nexthop* and of its domain's policy."""
        return await self._thread.submit(partial(self._load, nexthop))

    async def save(
        self, nexthop: NextHop, stored: Stored, *, asked: float | None, refresh: float | None
    ) -> None:
        """Store *stored*; once this returns, `kill -9` cannot lose it.

        It replaces what was there, but for a newer policy in force (see
        `store_tables`).  *asked* `None` leaves what was there, 0 where nothing was.
        """
        await self._thread.submit(partial(self._save, nexthop, stored, asked, refresh))

    async def due(self, now: float, limit: int) -> tuple[str, ...]:
        """Return up to *limit* domains to be refreshed, longest overdue first."""
        return await self._thread.submit(partial(store_tables.due, now=now, limit=limit))

    async def entries(self, *, after: str, limit: int) -> tuple[Entry, ...]:
        """Return up to *limit* domains that come after *after* in order of name."""
        return await self._thread.submit(partial(store_tables.entries, after=after, limit=limit))

    async def purge(self, domains: tuple[str, ...]) -> int:
        """Remove all that is stored of *domains*, of all where empty; return how many."""
        if not domains:
            return await self.forget(float("inf"))
        removed = 0
        for start in range(0, len(domains), _PIECE):
            piece = domains[start : start + _PIECE]
            removed += await self._thread.submit(partial(store_tables.remove, domains=piece))
        return removed

    async def forget(self, asked_before: float) -> int:
        """Remove what nobody has asked for since *asked_before*; return how many."""
        forgotten, piece = 0, _PIECE
        while piece == _PIECE:
            piece = await self._thread.submit(
                partial(store_tables.forget, asked_before=asked_before, limit=_PIECE)
            )
            forgotten += piece
        return forgotten

    async def close(self) -> None:
        """Write what is pending and let go of the file."""
        await self._thread.close(self._database.close)

    def _work(self, jobs: Sequence[Job[sqlite3.Connection]]) -> list[Outcome]:
        """Do *jobs* in one transaction, or each in its own where one of them raises."""
        try:
            return self._database.transact(
                lambda database: [Outcome(result=job(database)) for job in jobs]
            )
        except Exception as error:  # noqa: BLE001 - the thread's outermost loop; the task raises it
            if len(jobs) == 1:
                return [Outcome(error=error)]
            return [outcome for job in jobs for outcome in self._work([job])]

    def _load(self, nexthop: NextHop, database: sqlite3.Connection) -> Stored:
        facts, sts = store_tables.load(database, nexthop.name, str(nexthop))
        return Stored(
            dns=self._read(str(nexthop), parse_dns, facts),
            sts=StsFacts(
                cached=self._read(nexthop.name, parse_policy, sts),
                failure=self._read(nexthop.name, parse_failure, sts),
            ),
        )

    def _read(self, key: str, parse: Callable[[C], T | None], columns: C) -> T | None:
        """Return what *columns* say of *key*, `None` for nothing or what cannot be read."""
        try:
            return parse(columns)
        except ParseError as error:
            self._tell(key, error)
            return None

    def _tell(self, key: str, error: ParseError) -> None:
        """Log that a row is damaged, once."""
        if key not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(key)
            _logger.warning("what is stored of %s cannot be read and is ignored: %s", key, error)

    def _save(
        self,
        nexthop: NextHop,
        stored: Stored,
        asked: float | None,
        refresh: float | None,
        database: sqlite3.Connection,
    ) -> None:
        now = self._clock()
        sts = build_sts(stored.sts)
        is_new = store_tables.put_domain(
            database, nexthop.name, asked=asked, refresh=refresh, sts=sts, now=now
        )
        facts = None if stored.dns is None else build_dns_facts(stored.dns)
        store_tables.put_facts(database, nexthop.name, str(nexthop), facts)
        if is_new:
            self._room.added(database, now)

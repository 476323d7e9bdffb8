"""What is in force for the domains that Postfix asks for, written as it changes.

To be used from one thread, that of `findings_writer`.  What was written once is not
written again on the same day.  Where the file cannot be used what is to be written
waits, a bounded part of it; for what is left out the day is marked, so that nobody
takes a domain that is missing for one that was never asked for.

BUGS: `kill -9` loses the last seconds.  The database of the policy daemon, written
before Postfix is answered, has them.
"""

import logging
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from postfix_mtasts.adapters import policy_history
from postfix_mtasts.adapters.policy_history import Held, build_digest
from postfix_mtasts.adapters.store_file import transact, which
from postfix_mtasts.adapters.tlsrpt_store import open_counts
from postfix_mtasts.core.decision import policy_in_force
from postfix_mtasts.core.facts import Facts
from postfix_mtasts.core.in_force import NOTHING, in_force_of, is_domain, is_whole
from postfix_mtasts.core.in_force_record import build_in_force
from postfix_mtasts.core.names import NextHop
from postfix_mtasts.core.utc import day_of

log = logging.getLogger(__name__)

MAX_WAITING: Final = 2000
"""What waits to be written, up to `in_force_record.MAX_BYTES` each."""

_MAX_KNOWN: Final = 50_000  # domains of which is remembered what was written last


class HistoryWriter:
    """Writes into the file at *path*, which is opened when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # which file that is
        self._problem = ""
        self._known: dict[str, tuple[int, bytes]] = {}  # day and digest of what was noted last
        self._waiting: list[Held] = []
        self._days: dict[int, bool] = {}  # to be marked; true: something was missed
        self._marked: dict[int, bool] = {}

    def note(self, facts: Facts, when: float) -> None:
        """Note what is in force by *facts*, on which Postfix was answered at *when*.

        Nothing is noted where a look-up failed: what was known before is as good.
        """
        self._mark(day_of(when))
        if not is_domain(facts.nexthop) or not is_whole(facts.dns):
            return
        cached = policy_in_force(facts, when)
        line = build_in_force(in_force_of(facts.nexthop, facts.dns, cached))
        self._hold(Held(domain=facts.nexthop.name, when=when, line=line))

    def asked(self, nexthop: NextHop | None, when: float) -> None:
        """Note that Postfix was answered at *when* without a look-up of *nexthop*."""
        self._mark(day_of(when))
        if nexthop is not None and is_domain(nexthop):
            self._hold(Held(domain=nexthop.name, when=when, line=build_in_force(NOTHING)))

    def missed(self, when: float) -> None:
        """Note that it is not known what Postfix asked for at *when*."""
        self._mark(day_of(when), missed=True)

    def write(self) -> None:
        """Write what waits, all of it, or nothing where the file cannot be used."""
        if not self._waiting and not self._days:
            return
        if self._connection is not None and which(self._path) != self._opened:
            self._begin_anew()
        try:
            if self._connection is None:
                self._connection = open_counts(self._path)
                self._opened = which(self._path)
                transact(self._connection, policy_history.make_tables)
            transact(self._connection, self._put)
        except (OSError, sqlite3.DatabaseError) as error:
            self._fail(str(error))
            return
        self._problem = ""
        self._waiting.clear()
        self._marked = dict(sorted((self._marked | self._days).items())[-2:])
        self._days.clear()

    def give_up(self) -> None:
        """Forget what waits: what a bug cannot write must not hold up what comes."""
        for held in self._waiting:
            self.missed(held.when)
        self._waiting.clear()
        self._known.clear()

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            with suppress(sqlite3.DatabaseError):
                self._connection.close()
        self._connection = None

    def _begin_anew(self) -> None:
        """Let go of a file that was removed or renamed, and of what was written to it."""
        self.close()
        self._known.clear()
        self._marked.clear()

    def _put(self, connection: sqlite3.Connection) -> None:
        for held in self._waiting:
            policy_history.hold(connection, held)
        policy_history.mark_days(connection, self._days)

    def _hold(self, held: Held) -> None:
        digest = b"" if held.line is None else build_digest(held.line)
        news = (day_of(held.when), digest)
        if self._known.get(held.domain) == news:
            return
        if len(self._waiting) >= MAX_WAITING:
            self.missed(held.when)
            return
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[held.domain] = news
        self._waiting.append(held)

    def _mark(self, day: int, *, missed: bool = False) -> None:
        before = self._days.get(day, self._marked.get(day))
        if before is None or missed > before:
            self._days[day] = missed

    def _fail(self, problem: str) -> None:
        self.close()
        if problem != self._problem:
            log.error("%s: policies in force are not noted: %s", self._path, problem)
        self._problem = problem

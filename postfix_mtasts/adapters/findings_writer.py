"""What the policy daemon tells of domains, written beside what the collector counts.

The event loop only queues; a thread, begun with the first decision, folds what is
wrong into counts, and has `history_writer` note what is in force.  Both are written
every `WRITE_SECONDS`, into the file of `tlsrpt_store`.  Trouble with that file is
logged once and delays: what waits meanwhile is bounded, first its details go, then
what is too much is left out.  How often is among the ``notes`` of the file.

BUGS: `kill -9` loses the last seconds.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from postfix_mtasts.adapters.history_writer import HistoryWriter
from postfix_mtasts.core.daemon_findings import rows_of_facts
from postfix_mtasts.core.facts import Facts
from postfix_mtasts.core.names import NextHop
from postfix_mtasts.core.tally import Row, Tally, coarse
from postfix_mtasts.core.utc import day_of
from postfix_mtasts.ports import Counted, TlsrptStore, Written

log = logging.getLogger(__name__)

WRITE_SECONDS: Final = 2.0
CLOSE_SECONDS: Final = 1.5
"""No longer does `close` wait: the daemon has to leave within five seconds."""

SOURCE: Final = "daemon"
LEFT_OUT: Final = "daemon-findings-left-out"
MAX_WAITING: Final = 256
"""Decisions that wait for the thread; it is woken at half of them."""

MAX_DETAILED: Final = 500
"""Rows held with all details: a hostile domain makes them 100 KB each."""

MAX_ROWS: Final = 10_000
"""Rows held at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What the thread is told: facts, or else of what next-hop there are none.

    *counts*: what is wrong in the facts is to be counted.
    """

    when: float
    facts: Facts | None = None
    counts: bool = False
    nexthop: NextHop | None = None


class FindingsWriter:
    """Implements `postfix_mtasts.ports.Findings`; to be used from one thread.

    *store* and *history* are opened, used and closed by a thread of its own.
    """

    def __init__(
        self,
        store: TlsrptStore,
        *,
        history: HistoryWriter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._history = history
        self._clock = clock
        self._waiting: deque[_Told] = deque()
        self._wake = threading.Event()
        self._leaving = False
        self._thread: threading.Thread | None = None
        self._missed = 0  # decisions for which there was no room, counted by the event loop
        self._day = -1  # the last on which a question without a next-hop was noted
        # From here on the thread's own.
        self._tally = Tally()
        self._left_out = 0
        self._untold = 0  # how much of `_missed` the history has been told
        self._noted = 0  # how much of both is written, or about to be
        self._pending: Counted | None = None

    def note(self, facts: Facts) -> None:
        """Have what is wrong in *facts* counted, and what is in force noted."""
        self._queue(_Told(when=self._clock(), facts=facts, counts=True))

    def renewed(self, facts: Facts) -> None:
        """Have what is in force by *facts* noted."""
        self._queue(_Told(when=self._clock(), facts=facts))

    def asked(self, nexthop: NextHop | None) -> None:
        """Have it noted that Postfix asked for *nexthop*, of no domain once a day."""
        now = self._clock()
        if nexthop is not None:
            self._queue(_Told(when=now, nexthop=nexthop))
        elif day_of(now) != self._day:
            self._day = day_of(now)
            self._queue(_Told(when=now))

    def close(self) -> None:
        """Write what was noted; take no longer than `CLOSE_SECONDS`."""
        self._leaving = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _queue(self, told: "_Told") -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._missed += 1
            return
        self._waiting.append(told)
        if len(self._waiting) >= MAX_WAITING // 2:
            self._wake.set()
        if self._thread is None:
            self._begin()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._run, name="findings", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread for us: perhaps next time
            return
        self._thread = thread

    def _run(self) -> None:
        leaving = False
        while not leaving:
            self._wake.wait(WRITE_SECONDS)
            self._wake.clear()
            leaving = self._leaving  # before the last turn: what came until then is in it
            try:
                self._turn()
            except Exception:  # the outermost frame of a thread: a bug must not end it
                self._pending = None
                self._history.give_up()
                log.exception("writing findings: internal error, some are lost")
        self._history.close()
        self._store.close()

    def _turn(self) -> None:
        while self._waiting:
            self._take(self._waiting.popleft())
        if self._missed > self._untold:
            self._untold = self._missed
            self._history.missed(self._clock())
        self._history.write()
        while (counted := self._pending or self._taken()) is not None:
            self._pending = counted
            if self._store.add(counted) is not Written.DONE:
                return
            self._pending = None

    def _take(self, told: "_Told") -> None:
        if told.facts is None:
            self._history.asked(told.nexthop, told.when)
            return
        self._history.note(told.facts, told.when)
        if told.counts:
            for row in rows_of_facts(told.facts, told.when):
                self._count(row)

    def _count(self, row: Row) -> None:
        held = len(self._tally)
        if held >= MAX_ROWS:
            self._left_out += 1
        else:
            self._tally.add(row if held < MAX_DETAILED else coarse(row))

    def _taken(self) -> Counted | None:
        """Return what is to be written, `None` where there is nothing."""
        counts, left_out = self._tally.take(), self._missed + self._left_out
        notes = ((LEFT_OUT, left_out - self._noted),) if left_out > self._noted else ()
        self._noted = left_out
        return Counted(source=SOURCE, counts=counts, notes=notes) if counts or notes else None

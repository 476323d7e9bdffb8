"""What the policy daemon finds wrong with domains, written beside what the collector counts.

The event loop only queues; a thread, begun with the first that is wrong, folds it
into counts and writes these every `WRITE_SECONDS`, into the file of `tlsrpt_store`.
Trouble with that file is logged once and delays: what waits meanwhile is bounded,
first its details go, then what is too much is left out.  How often is among the
``notes`` of the file.

BUGS: `kill -9` loses the last seconds.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from postfix_mtasts.core.daemon_findings import flaws, rows_of_facts
from postfix_mtasts.core.facts import Facts
from postfix_mtasts.core.tally import Row, Tally, coarse
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


class FindingsWriter:
    """Implements `postfix_mtasts.ports.Findings`; to be used from one thread.

    *store* is opened, used and closed by a thread of its own.
    """

    def __init__(self, store: TlsrptStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._waiting: deque[tuple[Facts, float]] = deque()
        self._wake = threading.Event()
        self._leaving = False
        self._thread: threading.Thread | None = None
        self._missed = 0  # decisions for which there was no room, counted by the event loop
        # From here on the thread's own.
        self._tally = Tally()
        self._left_out = 0
        self._noted = 0  # how much of both is written, or about to be
        self._pending: Counted | None = None

    def note(self, facts: Facts) -> None:
        """Have what is wrong in *facts* counted; it takes no time and never fails."""
        if not flaws(facts):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._missed += 1
            return
        self._waiting.append((facts, self._clock()))
        if len(self._waiting) >= MAX_WAITING // 2:
            self._wake.set()
        if self._thread is None:
            self._begin()

    def close(self) -> None:
        """Write what was noted; take no longer than `CLOSE_SECONDS`."""
        self._leaving = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

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
                log.exception("writing findings: internal error, some are lost")
        self._store.close()

    def _turn(self) -> None:
        while self._waiting:
            facts, when = self._waiting.popleft()
            for row in rows_of_facts(facts, when):
                self._count(row)
        while (counted := self._pending or self._taken()) is not None:
            self._pending = counted
            if self._store.add(counted) is not Written.DONE:
                return
            self._pending = None

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

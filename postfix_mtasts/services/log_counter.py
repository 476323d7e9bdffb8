"""One log, counted: its lines joined into sessions, the sessions into rows.

What was counted, the position up to which that was, and what the tracker of
sessions remembers there make up one `Counted`, stored in one transaction.  Until
that has been done the position of before is kept, so that the store can tell
whether somebody else has read on; then this reader forgets what it has counted and
begins again at what is stored.

Sessions that are alike are counted before anything is worked out about them.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.log_line import LogLine
from postfix_mtasts.core.session_state import State, build_state, parse_state
from postfix_mtasts.core.sessions import SessionTracker
from postfix_mtasts.core.tally import Row, Tally, alike, rows_of_event
from postfix_mtasts.core.tls_event import Outcome, TlsEvent
from postfix_mtasts.ports import Counted, EventSource, Place, PoliciesInForce, TlsrptStore, Written

log = logging.getLogger(__name__)

MAX_ROWS: Final = 50_000
"""Rows that wait to be stored; beyond that a log is read no further for the time being."""

MAX_KNOWN: Final = 20_000
"""Events, each unlike the others, of which is remembered what they count for."""

TLS_LOGGED: Final = 7 * 86400.0
"""Seconds of log time after an "established" line in which those lines are known to be logged."""

_ESTABLISHED: Final = b"TLS connection established to "


class LogCounter:
    """Counts what *source* tells; *own_senders*: envelope senders of our own reports."""

    def __init__(
        self,
        source: EventSource,
        *,
        store: TlsrptStore,
        policies: PoliciesInForce,
        own_senders: Collection[str] = (),
    ) -> None:
        self.ended = False
        self.lines = 0  # of ours, read since the start
        self._source = source
        self._store = store
        self._policies = policies
        self._own_senders = own_senders
        self._ready = False
        self._news: Counter[str] = Counter()  # not asked for yet
        self._notes: Counter[str] = Counter()  # not stored yet
        self._known: dict[TlsEvent, tuple[Row, ...]] = {}
        self._edition = -1
        self._tally = Tally()
        self._forget(Place())

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    @property
    def pending(self) -> bool:
        """Whether there is anything to be stored."""
        return bool(len(self._tally) or self._notes or self._position != self._before)

    def read(self) -> bool:
        """Count what there is, a bounded part of it; return whether there is more."""
        if self.ended or len(self._tally) >= MAX_ROWS or not (self._ready or self._resume()):
            return False
        read = self._source.read()
        self._count(read.lines)
        self._position, self.ended = read.position, read.ended
        self.lines += len(read.lines)
        self._notes.update(dict(read.bad))
        self._news.update(dict(read.bad))
        return read.more

    def write(self) -> bool:
        """Store what was counted; return whether nothing is left to be stored."""
        if not self.pending:
            return True
        counted = self._counted()
        match self._store.add(counted):
            case Written.LATER:
                for row, count in counted.counts:
                    self._tally.add(row, count)
                return False
            case Written.BEATEN:
                log.warning("%s: another collector reads it as well", self.name)
                self._ready = self.ended = False
                self._forget(Place())
            case Written.DONE:
                self._before = self._position
                self._notes.clear()
        return True

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()

    def news(self) -> Counter[str]:
        """Return what was odd since this was last asked, by kind."""
        news, self._news = self._news, Counter()
        return news

    def _resume(self) -> bool:
        place = self._store.place(self.name)
        if place is None:
            return False
        self._forget(place)
        self._source.resume(place.position)
        self._ready = True
        return True

    def _forget(self, place: Place) -> None:
        """Begin at *place*, with nothing counted."""
        state, self._tls_logged = _parse_memory(place.memory, self.name)
        self._tracker = SessionTracker(state=state, own_senders=self._own_senders)
        self._before = self._position = place.position
        self._tally = Tally()
        self._notes = Counter()

    def _count(self, lines: Collection[LogLine]) -> None:
        events: Counter[TlsEvent] = Counter()
        feed: Callable[[LogLine], tuple[TlsEvent, ...]] = self._tracker.feed
        for line in lines:
            if _ESTABLISHED in line.text[:64]:
                self._tls_logged = line.when
            for event in feed(line):
                if event.outcome is not Outcome.UNSEEN or self._is_tls_logged(line.when):
                    events[alike(event)] += 1
        for event, count in events.items():
            for row in self._rows(event):
                self._tally.add(row, count)

    def _rows(self, event: TlsEvent) -> tuple[Row, ...]:
        """Return what *event* counts for, as long as the same policies are in force."""
        edition = self._policies.edition()
        if edition != self._edition or len(self._known) >= MAX_KNOWN:
            self._known.clear()
            self._edition = edition
        rows = self._known.get(event)
        if rows is None:
            in_force = self._policies.of(event.domain)
            rows = self._known[event] = rows_of_event(event, in_force, tls_logged=True)
        return rows

    def _is_tls_logged(self, when: float) -> bool:
        return self._tls_logged is not None and when - self._tls_logged <= TLS_LOGGED

    def _counted(self) -> Counted:
        place = None
        if self._position:
            memory = [build_state(self._tracker.state), self._tls_logged]
            text = json.dumps(memory, separators=(",", ":"), check_circular=False)
            place = Place(position=self._position, memory=text)
        return Counted(
            source=self.name,
            before=self._before,
            place=place,
            counts=self._tally.take(),
            notes=tuple(self._notes.items()),
        )


def _parse_memory(memory: str, name: str) -> tuple[State, float | None]:
    """Return the tracker's state in *memory*, and when "established" was last seen."""
    if not memory:
        return State(), None
    try:
        state, seen = json.loads(memory)
        return parse_state(state), None if seen is None else float(seen)
    except (ParseError, ValueError, TypeError) as error:
        log.warning("%s: sessions under way are forgotten: %s", name, error)
        return State(), None

"""One log, counted: its lines joined into sessions, the sessions into rows.

What was counted, the position up to which that was, and what the tracker of
sessions remembers there make up one `Counted`, stored in one transaction.  Until
that has been done the position of before is kept, so that the store can tell
whether somebody else has read on; then this reader forgets what it has counted and
begins again at what is stored.

Sessions that are alike are counted before anything is worked out about them.  One
whose domain is a guess counts only if it was with an MX host of that domain, as far as
the policy daemon knows them.  What that notes may be `SETTLE` seconds late: a session
that was with none of the hosts known then, or of which none were known, is in doubt
until then, and nothing further is read nor stored meanwhile; then all is stored before
more is read.  So nothing in doubt need be stored, a host that was new is seen, and mail
that constantly goes elsewhere costs a look at a domain every `SETTLE` seconds.  Who is
stopped meanwhile reads again what was in doubt, and what was counted beside it.

Nothing is waited for as long as no place in a log is stored: were it renamed and this
process killed, nobody could go on in it.

Up to when a log was read is the time of its last line, or the present where it had no
more; of a log that is silent that is stored every `READ_TO_SECONDS`.
"""

import json
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import Final

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.log_line import LogLine
from postfix_mtasts.core.session_state import State, build_state, parse_state
from postfix_mtasts.core.sessions import SessionTracker
from postfix_mtasts.core.tally import Row, Tally, alike, rows_of_event
from postfix_mtasts.core.tls_event import Outcome, TlsEvent
from postfix_mtasts.ports import (
    Clock,
    Counted,
    EventSource,
    LogRead,
    OwnMail,
    Place,
    PoliciesInForce,
    TlsrptStore,
    Written,
)

log = logging.getLogger(__name__)

MAX_ROWS: Final = 50_000
"""Rows that wait to be stored; beyond that a log is read no further for the time being."""

MAX_KNOWN: Final = 20_000
"""Events, each unlike the others, of which is remembered what they count for."""

TLS_LOGGED: Final = 7 * 86400.0
"""Seconds of log time after an "established" line in which those lines are known to be logged."""

SETTLE: Final = 5.0
"""Seconds after which the policy daemon has noted whom Postfix asked for, and was told."""

MAX_OWN_MAIL: Final = 10_000
"""Fates of our own reports that wait to be stored, the newest."""

READ_TO_SECONDS: Final = 60.0
"""So seldom is it stored that a log was silent."""

_MAX_TRIED: Final = 1000
_ESTABLISHED: Final = b"TLS connection established to "
_LATELY: Final = 60.0  # seconds in which it is not looked for such a line again


class LogCounter:
    """Counts what *source* tells; *own_senders*: envelope senders of our own reports."""

    def __init__(
        self,
        source: EventSource,
        *,
        store: TlsrptStore,
        policies: PoliciesInForce,
        clock: Clock,
        own_senders: Collection[str] = (),
    ) -> None:
        self.lines = 0  # of ours, read since the start
        self._seen = 0  # of these, not stored yet
        self._behind: float | None = None  # since when it has more to read, by its own stamps
        self._source = source
        self._store = store
        self._policies = policies
        self._clock = clock
        self._own_senders = own_senders
        self._ready = self._over = False
        self._news: Counter[str] = Counter()  # not asked for yet
        self._notes: Counter[str] = Counter()  # not stored yet
        self._known: dict[TlsEvent, tuple[Row, ...]] = {}
        self._edition = -1
        self._tally = Tally()
        self._read_to = self._stored_to = 0.0
        self._own_mail: deque[OwnMail] = deque(maxlen=MAX_OWN_MAIL)  # not stored yet
        self._tried: deque[str] = deque(maxlen=_MAX_TRIED)  # places that may have been stored
        self._before = self._position = ""  # up to where all is stored, and counted
        self._doubted: list[tuple[float, TlsEvent]]  # and from when on it can be told
        self._forget(Place())

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    @property
    def ended(self) -> bool:
        """Whether all was read that there will ever be, and can be stored."""
        return self._over and not self._doubted

    @property
    def pending(self) -> bool:
        """Whether there is anything to be stored."""
        late = self._read_to - self._stored_to >= READ_TO_SECONDS
        news = len(self._tally) or self._notes or self._own_mail
        return bool(news or late or self._position != self._before)

    def read(self) -> bool:
        """Count what there is, a bounded part of it; return whether there is more."""
        if self._doubted:
            self.write()  # before there is more in doubt, lest nothing is ever stored
        full = len(self._tally) >= MAX_ROWS
        if self._doubted or self._over or full or not (self._ready or self._resume()):
            return False
        now = self._clock()  # what comes while it is read may be left for the next time
        read = self._source.read()
        is_first = bool(read.position) and not self._before
        self._count(read.lines, now, 0.0 if is_first else SETTLE)
        self._read_to = max(self._read_to, _read_to(read, now))
        self._position = read.position
        self._over = read.ended
        self.lines += len(read.lines)
        self._seen += len(read.lines)
        if read.lines or not read.more:
            self._behind = read.lines[-1].when if read.more else None
        self._notes.update(dict(read.bad))
        self._news.update(dict(read.bad))
        return read.more

    def write(self) -> bool:
        """Store what was counted; return whether nothing is left to be stored."""
        if not self._settle(self._clock()):
            return False
        if not self.pending:
            return True
        counted = self._counted()
        match self._store.add(counted):
            case Written.LATER:
                for row, count in counted.counts:
                    self._tally.add(row, count)
                self._tried.append(self._position)
                return False
            case Written.BEATEN:
                self._say_who_read_on()
                self._ready = self._over = False
                self._forget(Place())
            case Written.DONE:
                self._before, self._stored_to = self._position, self._read_to
                self._notes.clear()
                self._seen = 0
                self._own_mail.clear()
                self._tried.clear()
        return True

    def close(self) -> None:
        """Let go of the source; what is in doubt is left to be read again, if it can be."""
        self._source.close()
        if self._doubted and self._before:
            self._forget(Place(position=self._before))
        now = self._clock()
        self._doubted = [(now, event) for _, event in self._doubted]

    def news(self) -> Counter[str]:
        """Return what was odd since this was last asked, by kind."""
        news, self._news = self._news, Counter()
        return news

    def progress(self, now: float) -> str:
        """Return how many lines it has read, and how far behind *now* it is."""
        if not self._ready:
            return "not read yet"
        behind = "" if self._behind is None else f", {max(0.0, now - self._behind):.0f} s behind"
        return f"{self.lines} lines{behind}"

    def _say_who_read_on(self) -> None:
        """Say why the place stored is another than the one of which was read on."""
        place = self._store.place(self.name)
        if place is None or place.position in self._tried:
            return  # what looked as if it had not been stored had been
        if place.position:
            log.warning("%s: another collector reads it as well", self.name)
        else:
            log.warning("%s: how far it was read is stored no more: begun anew", self.name)

    def _resume(self) -> bool:
        place = self._store.place(self.name)
        if place is None:
            return False
        self._forget(place)
        self._source.resume(place.position, place.since)
        self._ready = True
        return True

    def _forget(self, place: Place) -> None:
        """Begin at *place*, with nothing counted."""
        state, self._tls_logged = _parse_memory(place.memory, self.name)
        self._tracker = SessionTracker(state=state, own_senders=self._own_senders)
        self._before = self._position = place.position
        self._read_to = self._stored_to = place.read_to
        self._tally = Tally()
        self._doubted = []
        self._notes = Counter()
        self._seen = 0
        self._tried.clear()
        self._own_mail.clear()

    def _count(self, lines: Collection[LogLine], now: float, patience: float) -> None:
        events: Counter[TlsEvent] = Counter()
        feed: Callable[[LogLine], tuple[TlsEvent, ...]] = self._tracker.feed
        due = -math.inf if self._tls_logged is None else self._tls_logged + _LATELY
        for line in lines:
            if line.when >= due and _ESTABLISHED in line.text[:64]:
                self._tls_logged, due = line.when, line.when + _LATELY
            for event in feed(line):
                if event.outcome is Outcome.UNSEEN and not self._is_tls_logged(line.when):
                    continue
                since = min(event.when, now) + patience
                late = since > now
                held = self._policies.of(event.domain, event.when, since=0.0 if late else since)
                if event.is_with(held.hosts or () if late else held.hosts):
                    events[alike(event)] += 1
                elif late and event.is_with(None):  # else the hosts do not matter
                    self._doubted.append((since, event))
        self._own_mail.extend(OwnMail(**fate._asdict()) for fate in self._tracker.take_fates())
        for event, count in events.items():
            for row in self._rows(event):
                self._tally.add(row, count)

    def _settle(self, now: float) -> bool:
        """Count those in doubt that can be told *now*; return whether none is left in doubt."""
        left = []
        for since, event in self._doubted:
            if now < since <= now + SETTLE:  # further ahead: the clock was put back
                left.append((since, event))
            elif event.is_with(self._policies.of(event.domain, event.when, since=since).hosts):
                for row in self._rows(alike(event)):
                    self._tally.add(row)
        self._doubted = left
        return not left

    def _rows(self, event: TlsEvent) -> tuple[Row, ...]:
        """Return what *event* counts for, as long as the same policies are in force."""
        edition = self._policies.edition()
        if edition != self._edition or len(self._known) >= MAX_KNOWN:
            self._known.clear()
            self._edition = edition
        rows = self._known.get(event)
        if rows is None:
            in_force = self._policies.of(event.domain, event.when)
            rows = self._known[event] = rows_of_event(event, in_force, tls_logged=True)
        return rows

    def _is_tls_logged(self, when: float) -> bool:
        return self._tls_logged is not None and when - self._tls_logged <= TLS_LOGGED

    def _counted(self) -> Counted:
        memory = ""
        if self._position:  # what cannot be read again is not gone on with either
            parts = [build_state(self._tracker.state), self._tls_logged]
            memory = json.dumps(parts, separators=(",", ":"), check_circular=False)
        return Counted(
            source=self.name,
            before=self._before,
            place=Place(position=self._position, memory=memory, read_to=self._read_to),
            counts=self._tally.take(),
            notes=tuple(self._notes.items()),
            seen=(("lines", self._seen),),
            own_mail=tuple(self._own_mail),
        )


def _read_to(read: LogRead, now: float) -> float:
    """Return up to when a log has been read with *read*, which was begun at *now*."""
    if read.blind:
        return 0.0
    if not read.more:
        return now
    return min(read.lines[-1].when, now) if read.lines else 0.0


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

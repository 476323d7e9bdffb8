"""The datagrams of one socket, counted: octets into rows.

What came of octets is remembered until what the policy daemon has in force may have
changed, or the day has.  Bad datagrams are counted by kind.

Where nothing can be stored, and `MAX_OCTETS` of rows wait, no more is taken: the socket
then makes the senders wait.
"""

from collections import Counter
from typing import Final

from postfix_mtasts.core.recent import Recent
from postfix_mtasts.core.tally import Row, Tally, rows_of_datagram
from postfix_mtasts.core.tlsrpt_datagram import DatagramError, parse_datagram
from postfix_mtasts.core.utc import day_of
from postfix_mtasts.ports import (
    Counted,
    DatagramSource,
    PoliciesInForce,
    Received,
    TlsrptStore,
    Written,
)

MAX_OCTETS: Final = 64 << 20
"""Octets of memory of the rows that wait to be stored."""

_MEMORY: Final = 32 << 20  # octets of datagrams and what came of them
_WEIGHT: Final = 500  # octets of what came of one


class DatagramCounter:
    """Counts what *source* receives."""

    def __init__(
        self, source: DatagramSource, *, store: TlsrptStore, policies: PoliciesInForce
    ) -> None:
        self.received = 0  # since the start
        self._stored = 0  # of these
        self._source = source
        self._store = store
        self._policies = policies
        self._tally = Tally()
        self._notes: Counter[str] = Counter()  # not stored yet
        self._news: Counter[str] = Counter()  # not asked for yet
        self._recent: Recent[tuple[Row, ...]] = Recent(most=_MEMORY, weight=_WEIGHT)
        self._valid: tuple[int, int] | None = None  # for which edition and day `_recent` holds

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    @property
    def pending(self) -> bool:
        """Whether there is anything to be stored."""
        return bool(len(self._tally) or self._notes)

    def read(self) -> bool:
        """Count what came; return False: there is no more to be had at once."""
        if self._tally.octets < MAX_OCTETS:
            for received in self._source.take():
                self._count(received)
        return False

    def write(self) -> bool:
        """Store what was counted; return whether nothing is left to be stored."""
        if not self.pending:
            return True
        counts, received = self._tally.take(), self.received
        counted = Counted(
            source=self.name,
            counts=counts,
            notes=tuple(self._notes.items()),
            seen=(("datagrams", received - self._stored),),
        )
        if self._store.add(counted) is Written.LATER:
            for row, count in counts:
                self._tally.add(row, count)
            return False
        self._stored = received
        self._notes.clear()
        return True

    def close(self) -> None:
        """Receive no more; count what is there."""
        self._source.close()
        self.read()

    def news(self) -> Counter[str]:
        """Return what was odd since this was last asked, by kind."""
        news, self._news = self._news, Counter()
        return news

    def progress(self, _now: float) -> str:
        """Return how many datagrams it has received."""
        return f"{self.received} datagrams"

    def _count(self, received: Received) -> None:
        self.received += received.count
        valid = (self._policies.edition(), day_of(received.when))
        if valid != self._valid:
            self._recent.clear()
            self._valid = valid
        rows = self._recent.get(received.data)
        if rows is None:
            try:
                rows = self._rows(received)
            except DatagramError as error:
                kind = f"datagram-{error.kind}"
                self._notes[kind] += received.count
                self._news[kind] += received.count
                return
            self._recent.put(received.data, rows)
        for row in rows:
            self._tally.add(row, received.count)

    def _rows(self, received: Received) -> tuple[Row, ...]:
        datagram = parse_datagram(received.data)
        return rows_of_datagram(
            datagram, self._policies.of(datagram.domain, received.when), when=received.when
        )

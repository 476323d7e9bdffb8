"""Sources read in turn, and what they told written every second.

Nothing that a source says, nor a database that cannot be written, ends it: what
cannot be stored waits in memory, bounded, and is tried again every second.  What is
odd is counted by kind, stored with the counts, and logged when a kind is first seen.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from postfix_mtasts.ports import TlsrptStore

log = logging.getLogger(__name__)

WRITE_SECONDS: Final = 1.0
"""So often what was counted is stored; `kill -9` loses as much of what cannot be read again."""


class SourceCounter(Protocol):
    """A `LogCounter` or a `DatagramCounter`."""

    @property
    def name(self) -> str:
        """The source's."""
        ...

    @property
    def pending(self) -> bool:
        """Whether there is anything to be stored."""
        ...

    def read(self) -> bool:
        """Count what there is, a bounded part of it; return whether there is more."""
        ...

    def write(self) -> bool:
        """Store what was counted; return whether nothing is left to be stored."""
        ...

    def news(self) -> Counter[str]:
        """Return what was odd since this was last asked, by kind."""
        ...

    def progress(self, now: float) -> str:
        """Return how far it has come at *now*, such as "120 lines, 3 s behind"."""
        ...

    def close(self) -> None:
        """Let go of the source."""
        ...


class Collector:
    """Counts what the sources tell that it has adopted, and stores it in *store*.

    *ticks*: a clock that never jumps; *clock*: the wall's.
    """

    def __init__(
        self, *, store: TlsrptStore, ticks: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self.odd: Counter[str] = Counter()  # since the start, by kind
        self._sources: list[SourceCounter] = []
        self._leaving: list[SourceCounter] = []  # closed, with something to be stored
        self._store = store
        self._ticks = ticks
        self._clock = clock
        self._written = ticks()

    def adopt(self, sources: Sequence[SourceCounter]) -> None:
        """Read *sources* from now on; let go of all others once what they told is stored.

        A log that is among both, under one name, is to be read by the new counter from
        where the old one stored that it was: what that could not store is read again.
        """
        self.write()
        gone = [source for source in self._sources if source not in sources]
        for source in gone:
            source.close()
        self._leaving += gone
        self._sources = list(sources)

    def turn(self) -> bool:
        """Read each source once, and write where it is time; return whether there is more."""
        more = [source.read() for source in self._sources]
        if self._ticks() - self._written >= WRITE_SECONDS:
            self.write()
        return any(more)

    def write(self) -> bool:
        """Store all that was counted; return whether nothing is left to be stored."""
        for source in (*self._leaving, *self._sources):
            self._tell(source)
        self._leaving = [source for source in self._leaving if not source.write()]
        left = [source for source in self._sources if not source.write()]
        self._written = self._ticks()
        return not left and not self._leaving

    def close(self) -> bool:
        """Store what was counted and let go; return whether all was stored."""
        for source in self._sources:
            source.close()
        well = self.write()
        self._store.close()
        return well

    def status(self) -> str:
        """Return how it goes, for `systemctl status`."""
        now = self._clock()
        parts = [f"{source.name}: {source.progress(now)}" for source in self._sources]
        return "; ".join(filter(None, (*parts, self.trouble())))

    def trouble(self) -> str:
        """Return what was odd since the start, and why nothing can be stored; "" for nothing."""
        odd = ", ".join(f"{count} {kind}" for kind, count in sorted(self.odd.items()))
        parts = (
            f"odd: {odd}" if odd else "",
            f"cannot store: {self._store.problem}" if self._store.problem else "",
        )
        return "; ".join(filter(None, parts))

    def _tell(self, source: SourceCounter) -> None:
        for kind, count in source.news().items():
            if kind not in self.odd:
                log.warning("%s: %s, counted from now on and passed over", source.name, kind)
            self.odd[kind] += count

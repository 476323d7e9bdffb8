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

    def close(self) -> None:
        """Let go of the source."""
        ...


class Collector:
    """Counts what *sources* tell, and stores it in *store*; *ticks*: a clock that never jumps."""

    def __init__(
        self, sources: Sequence[SourceCounter], *, store: TlsrptStore, ticks: Callable[[], float]
    ) -> None:
        self.odd: Counter[str] = Counter()  # since the start, by kind
        self._sources = sources
        self._store = store
        self._ticks = ticks
        self._written = ticks()

    def turn(self) -> bool:
        """Read each source once, and write where it is time; return whether there is more."""
        more = [source.read() for source in self._sources]
        if self._ticks() - self._written >= WRITE_SECONDS:
            self.write()
        return any(more)

    def write(self) -> bool:
        """Store all that was counted; return whether nothing is left to be stored."""
        for source in self._sources:
            self._tell(source)
        left = [source for source in self._sources if not source.write()]
        self._written = self._ticks()
        return not left

    def close(self) -> bool:
        """Store what was counted and let go; return whether all was stored."""
        for source in self._sources:
            source.close()
        well = self.write()
        self._store.close()
        return well

    def status(self) -> str:
        """Return how it goes, for `systemctl status`."""
        odd = ", ".join(f"{count} {kind}" for kind, count in sorted(self.odd.items()))
        parts = (
            f"{len(self._sources)} sources",
            f"odd: {odd}" if odd else "",
            f"cannot store: {self._store.problem}" if self._store.problem else "",
        )
        return "; ".join(filter(None, parts))

    def _tell(self, source: SourceCounter) -> None:
        for kind, count in source.news().items():
            if kind not in self.odd:
                log.warning("%s: %s, counted from now on and passed over", source.name, kind)
            self.odd[kind] += count

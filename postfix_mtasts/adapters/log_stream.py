"""A log that comes through a pipe: standard input, or what a FIFO gives.

It may be compressed, which its first octets tell; see `log_packing`.  It is read as it
comes and holds no more than two chunks in memory, whatever it says or unpacks to.

A line longer than `CHUNK` is left out and counted as "log-long"; a stream that cannot
be unpacked any further has ended, which is "log-file".

BUGS: it cannot be read again, so what was counted within the last second before
`kill -9` is lost.
"""

import logging
import os
import select
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from postfix_mtasts.adapters.log_files import CHUNK, LineReader
from postfix_mtasts.adapters.log_packing import DAMAGED, LONGEST_MAGIC, Unpacker
from postfix_mtasts.ports import LogRead

log = logging.getLogger(__name__)

NAME: Final = "stdin"

PATIENCE: Final = 0.2
"""Seconds to wait for what a slower program at the other end is about to write.

There is no other source beside a stream, and whoever finds nothing rests for longer.
"""


class LogStream:
    """What comes from *descriptor*, to its end; an `EventSource`."""

    def __init__(
        self,
        descriptor: int,
        *,
        own_senders: Collection[str] = (),
        year: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = NAME
        self._descriptor = descriptor
        self._clock = clock
        self._reader = LineReader(own_senders, year)
        self._head: bytes | None = b""  # `None` once it was looked at
        self._unpacker: Unpacker | None = None
        self._over = False
        self._rest = b""
        self._amid = False  # an overlong line, whose end is to come

    def resume(self, position: str, since: float = 0.0) -> None:
        """Do nothing: there is one direction only."""

    def read(self) -> LogRead:
        """Return the next lines, none where none came within `PATIENCE`."""
        packed = self._unpacker is not None and not self._unpacker.hungry
        if not packed and not select.select([self._descriptor], [], [], PATIENCE)[0]:
            return LogRead(position="")
        bad = Counter[str]()
        try:
            text = self._more(b"" if packed else self._receive(), bad)
        except DAMAGED as error:
            log.warning("%s cannot be read any further: it is %s", self.name, _words(error))
            bad["log-file"] += 1
            text, self._over = b"", True
        return LogRead(
            position="",
            lines=self._reader.read(self._whole(text, bad), latest=self._clock(), bad=bad),
            bad=tuple(bad.items()),
            more=not self._over,
            ended=self._over,
        )

    def close(self) -> None:
        """Leave the stream to whoever opened it."""

    def _receive(self) -> bytes:
        octets = os.read(self._descriptor, CHUNK)
        self._over = not octets
        return octets

    def _more(self, octets: bytes, bad: Counter[str]) -> bytes:
        """Return the text that *octets* add; raises one of `DAMAGED`."""
        if self._head is not None:
            self._head += octets
            if len(self._head) < LONGEST_MAGIC and not self._over:
                return b""
            octets, self._head = self._head, None
            self._unpacker = Unpacker.of(octets)
        if self._unpacker is None:
            return octets
        if self._over and not octets:
            bad.update({} if self._unpacker.complete else {"log-file": 1})
            return b""
        return self._unpacker.unpack(octets, CHUNK)

    def _whole(self, text: bytes, bad: Counter[str]) -> bytes:
        """Return the lines that *text* makes whole, and keep the rest of it."""
        if self._amid:
            end = text.find(b"\n") + 1
            if not end:
                return b""
            text, self._amid = text[end:], False
        text = self._rest + text
        cut = len(text) if self._over else text.rfind(b"\n") + 1
        self._rest = text[cut:]
        if len(self._rest) > CHUNK:
            self._rest, self._amid = b"", True
            bad["log-long"] += 1
        return text[:cut]


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or f"damaged: {error}"

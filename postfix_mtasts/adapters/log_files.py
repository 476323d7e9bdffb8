"""Mail log files: followed through rotation, or read once; and standard input.

A followed file is read to its end, also after it was renamed, and for `GRACE`
seconds more, since its writer lets go of it a little later; then the file that
took its place is read from its beginning.  Where the file was emptied instead
(copytruncate), what was not read yet is read from the copy.  Only whole lines are
read; the last one of a file that is done with may lack its end.

A line longer than `CHUNK` is none of Postfix's: it is left out and counted as
"log-long".  What looks like a line of ours and cannot be read is "log-line".

BUGS: with copytruncate what is written between the copy and the truncation is
lost, as logrotate(8) says.
"""

import gzip
import logging
import os
import select
import time
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from postfix_mtasts.adapters import log_rotation
from postfix_mtasts.adapters.log_rotation import UNREADABLE, Mark
from postfix_mtasts.core.log_line import Calendar, LineParser, LogLine, build_filter
from postfix_mtasts.ports import LogRead

log = logging.getLogger(__name__)

CHUNK: Final = 1 << 20  # octets read at one go; about 7,000 lines
GRACE: Final = 2.0  # seconds in which a renamed file may still be written to
_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31  # zlib: gzip's header, the largest window


def local_time(shown: float) -> float:
    """Return the moment at which this host's clock showed *shown*, taken as if it were UTC."""
    return time.mktime((*time.gmtime(shown)[:8], -1)) + shown % 1


class LineReader:
    """Makes `LogLine`s of the octets of a log; *year*: of stamps that have none."""

    def __init__(self, own_senders: Collection[str], year: int | None) -> None:
        self._year = year
        self._matters = build_filter(own_senders)
        self._parser = LineParser(Calendar(latest=0.0, year=year, local=local_time))

    def read(self, octets: bytes, *, latest: float, bad: Counter[str]) -> list[LogLine]:
        """Return the lines of *octets*, none of them written after *latest*."""
        self._parser.calendar = Calendar(latest=latest, year=self._year, local=local_time)
        lines = []
        matters, parse = self._matters, self._parser.parse
        for raw in octets.split(b"\n"):
            if matters(raw):
                line = parse(raw)
                if line is None:
                    bad["log-line"] += 1
                else:
                    lines.append(line)
        return lines


class LogFile:
    """The log at *path*, an `EventSource`.

    *follow*: it is written to, so that there may always be more.
    """

    def __init__(
        self,
        path: Path,
        *,
        follow: bool,
        own_senders: Collection[str] = (),
        year: int | None = None,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = f"file:{path}"
        self._path = path
        self._follow = follow
        self._ticks = ticks
        self._reader = LineReader(own_senders, year)
        self._file: BinaryIO | None = None
        self._offset = 0
        self._mark = Mark(inode=0, offset=0, length=0, head="")
        self._replaced: float | None = None  # when it was first seen that another file is there
        self._why = ""

    def resume(self, position: str) -> None:
        """Go on behind *position*, in whichever file that is now."""
        mark = log_rotation.parse_mark(position)
        self.close()
        self._file, self._offset = None, 0
        if mark is not None:
            self._file = log_rotation.find(self._path, mark)
            if self._file is None:
                log.warning("%s: the file last read is gone; what it had more is lost", self._path)
            else:
                self._offset, self._mark = mark.offset, mark
        if self._file is None:
            self._open()

    def read(self) -> LogRead:
        """Return the next lines: at most `CHUNK` octets of them."""
        if self._file is None:
            self._open()
        if self._file is None:
            return LogRead(position="", ended=not self._follow)
        try:
            return self._read(self._file)
        except UNREADABLE as error:
            self._complain(error)
            if self._is_replaced(self._file):
                self._open()  # there is no more to be had of the old one
            return LogRead(
                position=self._position(), bad=(("log-file", 1),), ended=not self._follow
            )

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _open(self) -> None:
        """Begin with the file at the path, if there is one."""
        self.close()
        try:
            self._begin(log_rotation.open_log(self._path))
        except OSError as error:
            self._complain(error)

    def _begin(self, file: BinaryIO) -> None:
        self._file, self._offset, self._replaced, self._why = file, 0, None, ""
        self._mark = log_rotation.mark_of(file, 0)

    @property
    def _packed(self) -> bool:
        return isinstance(self._file, gzip.GzipFile)

    def _complain(self, error: Exception) -> None:
        why = f"{self._path}: {error}"
        if why != self._why:
            log.warning("cannot be read: %s", why)
        self._why = why

    def _position(self) -> str:
        return log_rotation.build_mark(self._mark) if self._file is not None else ""

    def _read(self, file: BinaryIO) -> LogRead:
        if not self._packed and not log_rotation.is_marked(file, self._mark):
            self.resume(self._position())  # emptied: what was not read yet is in the copy
            return LogRead(position=self._position(), more=self._file is not None)
        file.seek(self._offset)
        octets = file.read(CHUNK)
        whole, bad = octets[: octets.rfind(b"\n") + 1], Counter[str]()
        if not whole and len(octets) == CHUNK:
            bad["log-long"] += 1
            whole = octets
        elif not whole and octets and (self._packed or self._is_done(file)):
            whole = octets
        elif not octets and self._is_done(file):
            return self._turn(file)
        lines = self._reader.read(whole, latest=os.fstat(file.fileno()).st_mtime, bad=bad)
        self._offset += len(whole)
        self._mark = log_rotation.advanced(file, self._mark, self._offset)
        return LogRead(
            position=self._position(),
            lines=lines,
            bad=tuple(bad.items()),
            more=bool(whole),
            ended=not self._follow and not whole,
        )

    def _is_done(self, file: BinaryIO) -> bool:
        """Return whether *file*, all of whose lines were read, will not be written to again."""
        if not self._is_replaced(file):
            self._replaced = None
            return False
        if self._replaced is None:
            self._replaced = self._ticks()
        return not self._follow or self._ticks() - self._replaced >= GRACE

    def _is_replaced(self, file: BinaryIO) -> bool:
        with suppress(OSError):
            there, here = self._path.stat(), os.fstat(file.fileno())
            return (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev)
        return False

    def _turn(self, file: BinaryIO) -> LogRead:
        """Go on with the file that came after *file*, which is done with."""
        file.seek(self._offset)
        following = log_rotation.successor(self._path, file)
        if following is None:
            return LogRead(position=self._position())
        file.close()
        self._begin(following)
        return LogRead(position=self._position(), more=True)


class LogStream:
    """Standard input or the like, which cannot be read again; an `EventSource`.

    *descriptor*: of the stream, compressed or not, which is read to its end.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        own_senders: Collection[str] = (),
        year: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = "stdin"
        self._descriptor = descriptor
        self._clock = clock
        self._reader = LineReader(own_senders, year)
        self._unpacker: _Unpacker | None = None
        self._begun = False
        self._rest = b""

    def resume(self, position: str) -> None:
        """Do nothing: there is one direction only."""

    def read(self) -> LogRead:
        """Return the next lines, none where none have come yet."""
        if not select.select([self._descriptor], [], [], 0)[0]:
            return LogRead(position="")
        octets, bad = os.read(self._descriptor, CHUNK), Counter[str]()
        text = self._rest + self._unpacked(octets, bad)
        cut = text.rfind(b"\n") + 1 if octets else len(text)
        self._rest = text[cut:]
        if len(self._rest) > CHUNK:
            self._rest = b""
            bad["log-long"] += 1
        return LogRead(
            position="",
            lines=self._reader.read(text[:cut], latest=self._clock(), bad=bad),
            bad=tuple(bad.items()),
            more=bool(octets),
            ended=not octets,
        )

    def close(self) -> None:
        """Leave the stream to whoever opened it."""

    def _unpacked(self, octets: bytes, bad: Counter[str]) -> bytes:
        if octets and not self._begun:
            self._begun = True
            self._unpacker = _Unpacker() if octets.startswith(_GZIP) else None
        try:
            return octets if self._unpacker is None else self._unpacker.unpack(octets)
        except zlib.error:
            bad["log-file"] += 1
            return b""


class _Unpacker:
    """Unpacks a stream of one or more members (RFC 1952 section 2.2)."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_WINDOW)

    def unpack(self, octets: bytes) -> bytes:
        """Return what *octets* add; raises `zlib.error`."""
        text = self._member.decompress(octets)
        while self._member.eof and self._member.unused_data:
            rest, self._member = self._member.unused_data, zlib.decompressobj(_GZIP_WINDOW)
            text += self._member.decompress(rest)
        return text

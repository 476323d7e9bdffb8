"""Mail log files: followed through rotation, or read once; and standard input.

A followed file is read to its end, also after it was renamed, and for `GRACE`
seconds more, since its writer lets go of it a little later; then the file that
took its place is read from its beginning.  Where the file was emptied instead
(copytruncate), what was not read yet is read from the copy.  Only whole lines are
read; the last one of a file that is done with may lack its end.  A file that is not
there, or may not be read, is waited for.

Whoever never read a log before begins with the file that is there now, at its
beginning; or, where another source was read up to some moment, at that moment, in
a rotated file if need be.

A line longer than `CHUNK` is none of Postfix's: it is left out and counted as
"log-long".  What looks like a line of ours and cannot be read is "log-line".

BUGS: with copytruncate what is written between the copy and the truncation is
lost, as logrotate(8) says.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, Final

from postfix_mtasts.adapters import log_rotation
from postfix_mtasts.adapters.log_rotation import UNREADABLE, Mark
from postfix_mtasts.core.log_line import Calendar, LineParser, LogLine, build_filter, is_damaged
from postfix_mtasts.ports import LogRead

log = logging.getLogger(__name__)

CHUNK: Final = 1 << 20  # octets read at one go; about 7,000 lines
GRACE: Final = 2.0  # seconds in which a renamed file may still be written to


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
        for raw in filter(matters, octets.split(b"\n")):
            line = parse(raw)
            if line is not None:
                lines.append(line)
            elif is_damaged(raw):
                bad["log-line"] += 1
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
        self._left: Mark | None = None  # the place to go on from, not found yet
        self._position = ""  # the last that could be told
        self._offset = 0
        self._since = 0.0
        self._mark = Mark(inode=0, offset=0, length=0, head="")
        self._amid = False  # an overlong line, whose end is to come
        self._replaced: float | None = None  # when it was first seen that another file is there
        self._why = ""

    def resume(self, position: str, since: float = 0.0) -> None:
        """Go on behind *position*, in whichever file that is now."""
        self.close()
        self._position, self._since = position, since
        self._left = log_rotation.parse_mark(position)
        if self._left is not None:
            self._since = self._left.since
            self._go_on(self._left)
        if self._file is None:
            self._open()

    def read(self) -> LogRead:
        """Return the next lines: at most `CHUNK` octets of them."""
        if self._file is None:
            self._open()
        if self._file is None:
            return LogRead(position=self._position, ended=not self._follow, blind=True)
        try:
            return self._read(self._file)
        except UNREADABLE as error:
            bad = (("log-file", 1),) if self._complain(error) else ()
            replaced = self._is_replaced(self._file)
            if replaced:  # there is no more to be had of the old one
                self.close()
                self._open()
            ended = not self._follow and not replaced
            return LogRead(position=self._place(), bad=bad, more=replaced, ended=ended, blind=True)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _go_on(self, mark: Mark) -> None:
        """Go on at *mark*, if the file in which that is can be read."""
        file = log_rotation.find(self._path, mark)
        if file is None:
            return
        self._begin(file)
        self._offset, self._mark = mark.offset, mark
        if not self._packed and mark.offset:
            file.seek(mark.offset - 1)
            self._amid = file.read(1) != b"\n"

    def _open(self) -> None:
        """Begin with the file at the path, or one before it, if there is one.

        It may be the one in which one left off, if that was waited for.
        """
        try:
            file = log_rotation.beginning(self._path, self._since)
        except OSError as error:
            self._complain(error)
            return
        if self._left is not None and self._why:
            self._go_on(self._left)
        if self._file is not None:
            file.close()
            return
        if self._left is not None:
            log.warning("%s: the file last read is gone; what it had more is lost", self._path)
        self._begin(file)

    def _begin(self, file: BinaryIO) -> None:
        self._file, self._offset, self._left, self._replaced = file, 0, None, None
        self._why, self._amid = "", False
        self._mark = log_rotation.mark_of(file, 0)

    @property
    def _packed(self) -> bool:
        return not isinstance(self._file, RawIOBase)

    def _complain(self, error: Exception) -> bool:
        """Say what *error* is; return whether it is another than the last."""
        why = f"{self._path}: {getattr(error, 'strerror', None) or error}"
        new = why != self._why
        if new:
            log.warning("cannot be read: %s", why)
        self._why = why
        return new

    def _place(self) -> str:
        if self._file is not None:
            self._position = log_rotation.build_mark(replace(self._mark, since=self._since))
        return self._position

    def _read(self, file: BinaryIO) -> LogRead:
        file.seek(self._offset)
        octets = file.read(CHUNK)
        # Looked at after the reading: it may have been emptied at any time before.
        if not self._packed and not log_rotation.is_marked(file, self._mark):
            self.resume(self._place())  # what was not read yet is in the copy
            return LogRead(position=self._place(), more=self._file is not None)
        whole, bad = octets[: octets.rfind(b"\n") + 1], Counter[str]()
        if not whole and len(octets) == CHUNK:
            return self._pass_over(file, octets)
        if not whole and octets and (self._packed or self._is_done(file)):
            whole = octets
        elif not octets and self._is_done(file):
            return LogRead(position=self._place(), more=self._turn(file))
        text = whole.partition(b"\n")[2] if self._amid else whole
        lines = self._reader.read(text, latest=os.fstat(file.fileno()).st_mtime, bad=bad)
        self._advance(file, len(whole), amid=self._amid and not whole)
        return LogRead(
            position=self._place(),
            lines=self._unread(lines) if self._since else lines,
            bad=tuple(bad.items()),
            more=bool(whole),
            ended=not self._follow and not whole,
        )

    def _pass_over(self, file: BinaryIO, octets: bytes) -> LogRead:
        """Pass over *octets*, a part of an overlong line."""
        bad = () if self._amid else (("log-long", 1),)
        self._advance(file, len(octets), amid=True)
        return LogRead(position=self._place(), bad=bad, more=True)

    def _advance(self, file: BinaryIO, octets: int, *, amid: bool) -> None:
        self._amid = amid
        self._offset += octets
        self._mark = log_rotation.advanced(file, self._mark, self._offset)

    def _unread(self, lines: Sequence[LogLine]) -> Sequence[LogLine]:
        """Return *lines* from the first one that was logged at `_since` or later."""
        for at, line in enumerate(lines):
            if line.when >= self._since:
                self._since = 0.0
                return lines[at:]
        return ()

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

    def _turn(self, file: BinaryIO) -> bool:
        """Go on with the file that came after *file*, which is done with; return whether it can."""
        file.seek(self._offset)
        following = log_rotation.successor(self._path, file)
        if following is None:
            self._say_why()
            return False
        file.close()
        self._begin(following)
        return True

    def _say_why(self) -> None:
        """Complain if what is at the path now cannot be opened."""
        try:
            log_rotation.open_log(self._path).close()
        except OSError as error:
            self._complain(error)

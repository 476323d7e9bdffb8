"""Which of the files that rotation leaves behind is the one that was being read.

Names tell nothing: mail.log becomes mail.log.1 or mail.log-20261121, a copy of it
does with copytruncate, and mail.log.2.gz later; inode numbers are used again.  A
log file is known by how it begins: its first octets, of which the place where one
left off keeps a digest.  A file of which nothing was read yet is known by its inode.

BUGS: two logs in one folder that begin with the same `HEAD` octets are taken for
one.  A file that was rotated twice while nobody was reading is found again, but one
that was deleted is not: reading goes on with the newest.
"""

import errno
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final, cast

from postfix_mtasts.adapters import log_packing

log = logging.getLogger(__name__)

HEAD: Final = 1024  # octets by which a file is known
_DIGEST: Final = 16

UNREADABLE = log_packing.DAMAGED
"""What reading a file raises where it is gone, or compressed and damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in a file: *offset* octets in; *head*: a digest of the first *length*.

    *since*: what was logged before that moment, in seconds since the epoch, is to be
    passed over, up to the first line that was not.
    """

    inode: int
    offset: int
    length: int
    head: str
    since: float = 0.0


def build_mark(mark: Mark) -> str:
    """Return *mark* as JSON, which `parse_mark` reads."""
    since = [mark.since] if mark.since else []
    return json.dumps([mark.inode, mark.offset, mark.length, mark.head, *since])


def parse_mark(text: str) -> Mark | None:
    """Return the mark in *text*, `None` where there is none."""
    with suppress(ValueError, TypeError):
        inode, offset, length, head, *since = json.loads(text)
        return Mark(
            inode=int(inode),
            offset=int(offset),
            length=int(length),
            head=str(head),
            since=float(*since),
        )
    return None


def open_log(path: Path) -> BinaryIO:
    """Open the file at *path*, unpacked if it is compressed; raises `OSError`.

    Nothing else than a file is opened.  One that is not compressed is not buffered
    either: what was read before may have been written over since.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO makes one wait
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", str(path))
    if log_packing.is_packed(path):
        os.close(descriptor)
        return log_packing.open_packed(path)
    return cast("BinaryIO", os.fdopen(descriptor, "rb", buffering=0))


def advanced(file: BinaryIO, mark: Mark, offset: int) -> Mark:
    """Return *mark* moved to *offset* of *file*, read again only where it does not know enough."""
    return replace(mark, offset=offset) if mark.length == HEAD else mark_of(file, offset)


def mark_of(file: BinaryIO, offset: int) -> Mark:
    """Return the mark of *file* at *offset*; raises one of `UNREADABLE`."""
    length = min(offset, HEAD)
    inode = os.fstat(file.fileno()).st_ino
    return Mark(inode=inode, offset=offset, length=length, head=digest_of(file, length))


def digest_of(file: BinaryIO, length: int) -> str:
    """Return a digest of the first *length* octets of *file*, "" where it has fewer."""
    if not length:
        return ""
    file.seek(0)
    head = file.read(length)
    return blake2b(head, digest_size=_DIGEST).hexdigest() if len(head) == length else ""


def is_marked(file: BinaryIO, mark: Mark) -> bool:
    """Return whether *mark* is a place in *file*; raises one of `UNREADABLE`."""
    if not mark.length:
        return os.fstat(file.fileno()).st_ino == mark.inode
    return digest_of(file, mark.length) == mark.head and _reaches(file, mark.offset)


def _reaches(file: BinaryIO, offset: int) -> bool:
    """Return whether *file* is *offset* octets long, or longer."""
    return file.seek(offset - 1) == offset - 1 and len(file.read(1)) == 1


def find(path: Path, mark: Mark) -> BinaryIO | None:
    """Open the file in which *mark* is a place: at *path*, or what rotation made of it."""
    return _first((path, *_newest_first(path)), lambda file: is_marked(file, mark))


def successor(path: Path, done: BinaryIO) -> BinaryIO | None:
    """Open the file that was begun after *done*: at *path*, or rotated since as well.

    `None` where none is there yet.
    """
    known = mark_of(done, done.tell())
    age = os.fstat(done.fileno()).st_mtime_ns
    newer = [each for each in _newest_first(path) if _modified(each) > age]
    return _first((*reversed(newer), path), lambda file: not is_marked(file, known))


def beginning(path: Path, since: float) -> BinaryIO:
    """Open the oldest file with lines that may have been logged at *since* or later.

    That is the one at *path* where *since* is 0.  Raises `OSError` where it cannot be opened.
    """
    rotated = _newest_first(path) if since else []
    newer = [each for each in rotated if _modified(each) >= since * 1e9]
    return _first(reversed(newer), lambda _file: True) or open_log(path)


def _first(candidates: Iterable[Path], fits: Callable[[BinaryIO], bool]) -> BinaryIO | None:
    """Open the first of *candidates* that *fits*; say so once if one cannot be unpacked."""
    told = False
    for candidate in candidates:
        try:
            file = open_log(candidate)
        except OSError as error:
            if error.errno == errno.ENOTSUP and not told:
                log.warning("%s is passed over: it is %s", candidate, error.strerror)
                told = True
            continue
        with suppress(*UNREADABLE):
            if fits(file):
                return file
        file.close()
    return None


def _newest_first(path: Path) -> list[Path]:
    """Return what rotation made of *path*, and of the file to which it is a link.

    That ends in a number or a date; "mail.info" beside "mail" is another log.
    """
    found = [each for name in {path: 0, path.resolve(): 0} for each in _rotated(name)]
    return sorted(found, key=_modified, reverse=True)


def _rotated(path: Path) -> Iterator[Path]:
    name = re.compile(rf"{re.escape(path.name)}[.-][0-9][0-9T:_-]*(\.[a-z0-9]+)?")
    with suppress(OSError):
        yield from (
            each for each in path.parent.iterdir() if name.fullmatch(each.name) and each.is_file()
        )


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0

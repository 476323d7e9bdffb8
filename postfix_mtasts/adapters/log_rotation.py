"""Which of the files that rotation leaves behind is the one that was being read.

Names tell nothing: mail.log becomes mail.log.1 or mail.log-20261121, a copy of it
does with copytruncate, and mail.log.2.gz later; inode numbers are used again.  A
log file is known by how it begins: its first octets, of which the place where one
left off keeps a digest.  A file of which nothing was read yet is known by its inode.

BUGS: two logs in one folder that begin with the same `HEAD` octets are taken for
one.  A file that was rotated twice while nobody was reading is found again, but one
that was deleted is not: reading goes on with the newest.
"""

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final, cast

HEAD: Final = 1024  # octets by which a file is known
_DIGEST: Final = 16

UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading a file raises where it is gone, or compressed and damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in a file: *offset* octets in; *head*: a digest of the first *length*."""

    inode: int
    offset: int
    length: int
    head: str


def build_mark(mark: Mark) -> str:
    """Return *mark* as JSON, which `parse_mark` reads."""
    return json.dumps([mark.inode, mark.offset, mark.length, mark.head])


def parse_mark(text: str) -> Mark | None:
    """Return the mark in *text*, `None` where there is none."""
    with suppress(ValueError, TypeError):
        inode, offset, length, head = json.loads(text)
        return Mark(inode=int(inode), offset=int(offset), length=int(length), head=str(head))
    return None


def open_log(path: Path) -> BinaryIO:
    """Open the file at *path*, unpacked if it is compressed; raises `OSError`."""
    if is_packed(path):
        return cast("BinaryIO", gzip.open(path))
    return path.open("rb")


def is_packed(path: Path) -> bool:
    """Return whether the file at *path* is compressed, which none is that is written to."""
    return path.suffix == ".gz"


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
    for candidate in (path, *_newest_first(path)):
        with suppress(*UNREADABLE):
            file = open_log(candidate)
            if is_marked(file, mark):
                return file
            file.close()
    return None


def successor(path: Path, done: BinaryIO) -> BinaryIO | None:
    """Open the file that was begun after *done*: at *path*, or rotated since as well.

    `None` where none is there yet.
    """
    known = mark_of(done, done.tell())
    age = os.fstat(done.fileno()).st_mtime_ns
    newer = [each for each in _newest_first(path) if _modified(each) > age]
    for candidate in (*reversed(newer), path):
        with suppress(*UNREADABLE):
            file = open_log(candidate)
            if not is_marked(file, known):
                return file
            file.close()
    return None


def _newest_first(path: Path) -> list[Path]:
    """Return what rotation made of *path*.

    That ends in a number or a date; "mail.info" beside "mail" is another log.
    """
    rotated = re.compile(rf"{re.escape(path.name)}[.-][0-9][0-9T:_-]*(\.[a-z0-9]+)?")
    with suppress(OSError):
        found = [each for each in _files(path.parent) if rotated.fullmatch(each.name)]
        return sorted(found, key=_modified, reverse=True)
    return []


def _files(folder: Path) -> Iterator[Path]:
    return (each for each in folder.iterdir() if each.is_file())


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0

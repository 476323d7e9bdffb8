"""Compressed logs: those that logrotate(8) leaves behind, and compressed streams.

Read are gzip, bzip2 and xz, and zstd where Python can (3.14 and later); what cannot
be read raises an `OSError` that says so.  A file is compressed where its name ends
so, as logrotate names it; a stream where it begins with the octets that tell.

LIMITS: however far a stream unpacks, `Unpacker.unpack` returns as much as was asked for.
"""

import bz2
import errno
import gzip
import importlib
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

LONGEST_MAGIC: Final = 6
"""Octets by which `Unpacker.of` knows how a stream is compressed."""

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What unpacking raises; `OSError` for what cannot be read at all as well."""

_GZIP_WINDOW: Final = 31  # zlib: gzip's header, the largest window
_ZSTD: Final = ".zst"
_NO_ZSTD: Final = "compressed with zstd, which Python reads from 3.14 on; gzip and xz can be read"


class _Decompressor(Protocol):
    """The way of `bz2.BZ2Decompressor`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _GzipDecompressor:
    """`zlib`'s in the same way."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        text = self._member.decompress(self._member.unconsumed_tail + data, max_length)
        self.needs_input = len(text) < max_length and not self._member.unconsumed_tail
        return text


_MAGIC: Final[tuple[tuple[bytes, Callable[[], _Decompressor]], ...]] = (
    (b"\x1f\x8b", _GzipDecompressor),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\0", lzma.LZMADecompressor),
    (b"\x28\xb5\x2f\xfd", lambda: _zstd().ZstdDecompressor()),
)


def is_packed(path: Path) -> bool:
    """Return whether the file at *path* is compressed, which none is that is written to."""
    return path.suffix in {".gz", ".bz2", ".xz", _ZSTD}


def open_packed(path: Path) -> BinaryIO:
    """Open the compressed file at *path* to read what it holds.

    Raises `OSError`; reading from it raises one of `DAMAGED`.
    """
    match path.suffix:
        case ".bz2":
            return cast("BinaryIO", bz2.open(path))
        case ".xz":
            return cast("BinaryIO", lzma.open(path))
        case ".zst":
            return cast("BinaryIO", _zstd().open(path))
    return cast("BinaryIO", gzip.open(path))


class Unpacker:
    """Unpacks a stream of one or more members, such as RFC 1952 section 2.2 allows."""

    def __init__(self, member: Callable[[], _Decompressor]) -> None:
        self._new = member
        self._member = member()
        self._packed = b""

    @classmethod
    def of(cls, head: bytes) -> "Unpacker | None":
        """Return one for a stream that begins with *head*, `None` where that is not compressed.

        Raises `OSError` where it is compressed so that this Python cannot read it.
        """
        for magic, member in _MAGIC:
            if head.startswith(magic):
                return cls(member)
        return None

    @property
    def hungry(self) -> bool:
        """Whether there is no more to be had of the octets given so far."""
        return not self._packed and (self._member.eof or self._member.needs_input)

    @property
    def complete(self) -> bool:
        """Whether the octets given so far end where a member does."""
        return not self._packed and self._member.eof

    def unpack(self, octets: bytes, most: int) -> bytes:
        """Return at most *most* octets of what *octets* hold, behind those given before.

        Raises one of `DAMAGED`.
        """
        packed, self._packed = self._packed + octets, b""
        if self._member.eof:
            packed = packed.lstrip(b"\0")  # members may be padded
            if not packed:
                return b""
            self._member = self._new()
        text = self._member.decompress(packed, most)
        if self._member.eof:
            self._packed = self._member.unused_data.lstrip(b"\0")
        return text


def _zstd() -> Any:
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        raise OSError(errno.ENOTSUP, _NO_ZSTD) from None

"""Standard input as a log, compressed or not, and what nobody should send."""

import bz2
import gzip
import lzma
import os
import select
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postfix_mtasts.adapters import log_stream
from postfix_mtasts.adapters.log_packing import Unpacker
from postfix_mtasts.adapters.log_stream import LogStream
from postfix_mtasts.ports import LogRead
from tests.adapters.test_log_files import line, lines, numbers


@contextmanager
def stream_of(path: Path, data: bytes) -> Iterator[LogStream]:
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    stream = LogStream(descriptor, clock=lambda: 0.0)
    stream.resume("")
    yield stream
    stream.close()
    os.close(descriptor)


def whole(stream: LogStream) -> tuple[list[int], Counter[str]]:
    """Return the numbers of all lines to the end, and what was odd."""
    found, bad = [], Counter[str]()
    while True:
        read = stream.read()
        found += numbers(read)
        bad.update(dict(read.bad))
        if read.ended:
            return found, bad


def plain(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize(
    "pack", [plain, gzip.compress, bz2.compress, lzma.compress], ids=["plain", "gz", "bz2", "xz"]
)
def test_a_stream_is_read_to_its_end(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    text = lines(1, 20000).rstrip("\n").encode()
    with stream_of(tmp_path / "in", pack(text)) as stream:
        assert whole(stream) == (list(range(1, 20001)), {})


@pytest.mark.parametrize("padding", [b"", b"\0" * 512])
def test_members_are_read_one_after_the_other(tmp_path: Path, padding: bytes) -> None:
    data = gzip.compress(lines(1, 2).encode()) + gzip.compress(line(3).encode()) + padding
    with stream_of(tmp_path / "in", data) as stream:
        assert whole(stream) == ([1, 2, 3], {})


def test_an_empty_stream_ends(tmp_path: Path) -> None:
    with stream_of(tmp_path / "in", b"") as stream:
        assert whole(stream) == ([], {})


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_stream_ends_with_a_note(tmp_path: Path, damage: str) -> None:
    data = bytearray(gzip.compress(lines(1, 20000).encode()))
    if damage == "cut":
        del data[-12:]
    else:
        data[-4] ^= 255
    with stream_of(tmp_path / "in", bytes(data)) as stream:
        assert whole(stream)[1] == {"log-file": 1}


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads zstd")
def test_a_stream_that_this_python_cannot_unpack_ends_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stream_of(tmp_path / "in", b"\x28\xb5\x2f\xfd and more") as stream:
        assert whole(stream) == ([], {"log-file": 1})
    assert "zstd" in caplog.text


def test_news_are_not_waited_for() -> None:
    reader, writer = os.pipe()
    stream = LogStream(reader)
    assert stream.read() == LogRead(position="")
    os.write(writer, b"\x1f")
    assert stream.read().more
    os.write(writer, b"\x8bno gzip")
    assert dict(stream.read().bad) == {"log-file": 1}
    os.close(reader)
    os.close(writer)


def test_a_slower_writer_is_waited_for_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    really = select.select
    reading, writing = os.pipe()

    def meanwhile_written(
        r: list[int], w: list[int], x: list[int], seconds: float
    ) -> tuple[list[int], list[int], list[int]]:
        if seconds > 0:
            os.write(writing, line(7).encode())
        return really(r, w, x, seconds)

    monkeypatch.setattr(select, "select", meanwhile_written)
    assert numbers(LogStream(reading).read()) == [7]
    os.close(writing)
    os.close(reading)


def test_an_overlong_line_is_passed_over_with_all_that_stands_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "CHUNK", 200)
    text = line(1) + "x" * 2000 + line(7) + line(2)
    with stream_of(tmp_path / "in", text.encode()) as stream:
        assert whole(stream) == ([1, 2], {"log-long": 1})


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_what_unpacks_to_a_thousand_times_its_size_is_had_in_parts(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(b"x" * (8 << 20))
    unpacker = Unpacker.of(data)
    assert unpacker is not None
    sizes = [len(unpacker.unpack(data, 1 << 20))]
    while not unpacker.hungry:
        sizes.append(len(unpacker.unpack(b"", 1 << 20)))
    assert (max(sizes), sum(sizes), unpacker.complete) == (1 << 20, 8 << 20, True)
    with stream_of(tmp_path / "in", data + pack(f"\n{line(1)}".encode())) as stream:
        assert whole(stream) == ([1], {"log-long": 1})


def test_a_slow_writer_loses_nothing() -> None:
    reader, writer = os.pipe()
    data = bz2.compress(lines(1, 300).encode())

    def write() -> None:
        for octet in data:
            os.write(writer, bytes([octet]))
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    assert whole(LogStream(reader)) == (list(range(1, 301)), {})
    thread.join()
    os.close(reader)

"""Mail log files through rotation of every kind, and standard input."""

import gzip
import os
import shutil
from pathlib import Path

import pytest

from postfix_mtasts.adapters import log_files
from postfix_mtasts.adapters.log_files import GRACE, LogFile, LogStream
from postfix_mtasts.ports import LogRead


def line(number: int) -> str:
    stamp = f"2026-11-21T{17 + number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}"
    return f"{stamp}.000000+00:00 mta1 postfix/smtp[{number + 100}]: text {number}\n"


def lines(first: int, last: int) -> str:
    return "".join(map(line, range(first, last + 1)))


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def numbers(read: LogRead) -> list[int]:
    return [each.origin.pid - 100 for each in read.lines]


def drain(log: LogFile) -> list[int]:
    """Return the numbers of all lines to be had."""
    found = []
    while True:
        read = log.read()
        found += numbers(read)
        if not read.more:
            return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mail.log"


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


def followed(path: Path, ticks: Ticks, position: str = "") -> LogFile:
    log = LogFile(path, follow=True, ticks=ticks)
    log.resume(position)
    return log


def test_whole_lines_are_read_as_they_come(path: Path, ticks: Ticks) -> None:
    path.write_text(lines(1, 3))
    log = followed(path, ticks)
    assert drain(log) == [1, 2, 3]
    assert drain(log) == []
    append(path, line(4)[:20])
    assert drain(log) == []
    append(path, line(4)[20:] + line(5))
    assert drain(log) == [4, 5]
    log.close()


def test_a_file_that_is_not_there_yet_is_read_once_it_is(path: Path, ticks: Ticks) -> None:
    log = followed(path, ticks)
    assert log.read() == LogRead(position="")
    path.write_text(lines(1, 2))
    assert drain(log) == [1, 2]
    log.close()


def test_reading_goes_on_from_the_position_of_any_read(path: Path, ticks: Ticks) -> None:
    path.write_text(lines(1, 40))
    log = followed(path, ticks)
    position = log.read().position
    append(path, lines(41, 42))
    log.close()
    again = followed(path, ticks, position)
    assert drain(again) == [41, 42]
    again.close()


def test_a_renamed_file_is_drained_before_the_new_one(path: Path, ticks: Ticks) -> None:
    path.write_text(lines(1, 2))
    log = followed(path, ticks)
    assert drain(log) == [1, 2]
    old = path.rename(path.with_name("mail.log.1"))
    append(old, line(3))
    assert drain(log) == [3]  # nothing is there yet in its place
    path.write_text(line(5))
    assert drain(log) == []
    append(old, line(4))
    assert drain(log) == [4]
    ticks.now += GRACE
    assert drain(log) == [5]
    log.close()


def test_another_log_beside_it_is_not_taken_for_a_rotation(tmp_path: Path, ticks: Ticks) -> None:
    path = tmp_path / "mail"
    path.write_text(lines(1, 2))
    log = followed(path, ticks)
    assert drain(log) == [1, 2]
    path.rename(tmp_path / "mail-20261121")
    (tmp_path / "mail.info").write_text(lines(1, 4))
    path.write_text(line(3))
    assert drain(log) == []
    ticks.now += GRACE
    assert drain(log) == [3]
    log.close()


def test_the_last_line_of_a_file_that_is_done_with_may_lack_its_end(
    path: Path, ticks: Ticks
) -> None:
    path.write_text(line(1) + line(2).rstrip("\n"))
    log = followed(path, ticks)
    assert drain(log) == [1]
    path.rename(path.with_name("mail.log.1"))
    path.write_text(line(3))
    assert drain(log) == []
    ticks.now += GRACE
    assert drain(log) == [2, 3]
    log.close()


def test_several_rotations_while_nobody_looked_lose_nothing(path: Path, ticks: Ticks) -> None:
    path.write_text(lines(1, 20))
    log = followed(path, ticks)
    assert len(drain(log)) == 20
    position = log.read().position
    log.close()
    append(path, line(21))
    os.utime(path, ns=(1, 1_000_000_000))
    first = path.rename(path.with_name("mail.log.2"))
    with gzip.open(f"{first}.gz", "wb") as packed:
        packed.write(first.read_bytes())
    os.utime(f"{first}.gz", ns=(1, 1_000_000_000))
    first.unlink()
    middle = path.with_name("mail.log.1")
    middle.write_text(lines(22, 23))
    os.utime(middle, ns=(2, 2_000_000_000))
    path.write_text(line(24))
    older = path.with_name("mail.log.3")
    older.write_text(line(0))
    os.utime(older, ns=(0, 500_000_000))
    again = followed(path, ticks, position)
    found = []
    for _ in range(3):
        found += drain(again)
        ticks.now += GRACE
    assert found == [21, 22, 23, 24]
    again.close()


def test_an_emptied_file_is_read_anew_and_what_was_missed_from_its_copy(
    path: Path, ticks: Ticks
) -> None:
    path.write_text(lines(1, 20))
    log = followed(path, ticks)
    assert len(drain(log)) == 20
    append(path, line(21))
    shutil.copy2(path, path.with_name("mail.log.1"))
    with path.open("r+") as file:
        file.truncate()
    append(path, line(22))
    found = drain(log)
    ticks.now += GRACE
    assert found + drain(log) == [21, 22]
    log.close()


def test_a_file_emptied_and_grown_beyond_where_it_was_is_not_taken_for_the_old_one(
    path: Path, ticks: Ticks
) -> None:
    path.write_text(lines(1, 3))
    log = followed(path, ticks)
    assert drain(log) == [1, 2, 3]
    with path.open("r+") as file:
        file.truncate()
    append(path, lines(4, 30))
    assert drain(log) == list(range(4, 31))
    log.close()


def test_a_new_file_with_the_old_ones_inode_is_read_from_its_beginning(
    path: Path, ticks: Ticks
) -> None:
    path.write_text(lines(1, 3))
    log = followed(path, ticks)
    assert drain(log) == [1, 2, 3]
    position = log.read().position
    log.close()
    with path.open("r+") as file:  # the same inode, as after deletion and re-use
        file.truncate()
        file.write(lines(4, 30))
    again = followed(path, ticks, position)
    assert drain(again) == list(range(4, 31))
    again.close()


def test_reading_once_ends_at_the_end(path: Path) -> None:
    path.write_text(lines(1, 2))
    log = LogFile(path, follow=False)
    log.resume("")
    first, second = log.read(), log.read()
    assert (numbers(first), first.ended) == ([1, 2], False)
    assert (numbers(second), second.ended) == ([], True)
    log.close()


def test_a_packed_file_is_read_and_known_again(path: Path) -> None:
    packed = path.with_name("mail.log.2.gz")
    with gzip.open(packed, "wb") as file:
        file.write(lines(1, 20000).rstrip("\n").encode())
    log = LogFile(packed, follow=False)
    log.resume("")
    assert drain(log) == list(range(1, 20001))
    position = log.read().position
    log.close()
    again = LogFile(packed, follow=False)
    again.resume(position)
    assert drain(again) == []
    again.close()


def test_a_cut_packed_file_ends_with_a_note(path: Path) -> None:
    packed = path.with_name("mail.log.2.gz")
    packed.write_bytes(gzip.compress(lines(1, 3).encode())[:-12])
    log = LogFile(packed, follow=False)
    log.resume("")
    read = log.read()
    assert read.ended
    assert dict(read.bad) == {"log-file": 1}
    log.close()


def test_an_overlong_line_and_a_line_out_of_shape_are_counted_and_passed_over(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "CHUNK", 200)
    path.write_text(line(1) + "x" * 500 + "\nSomeday mta1 postfix/smtp[7]: text\n" + line(2))
    log = followed(path, ticks)
    bad: dict[str, int] = {}
    found = []
    while (read := log.read()).more:
        found += numbers(read)
        for kind, count in read.bad:
            bad[kind] = bad.get(kind, 0) + count
    assert found == [1, 2]
    assert bad == {"log-long": 2, "log-line": 1}
    log.close()


def test_stamps_without_a_year_are_of_the_year_told(path: Path) -> None:
    path.write_text("Nov 21 17:00:00 mta1 postfix/smtp[7]: text\n")
    log = LogFile(path, follow=False, year=2020)
    log.resume("")
    [only] = log.read().lines
    assert log_files.local_time(1605978000.0) == only.when
    log.close()


@pytest.mark.parametrize("members", [0, 1, 2], ids=["plain", "packed", "two packed members"])
def test_standard_input_is_read_to_its_end(tmp_path: Path, members: int) -> None:
    text = lines(1, 2).encode()
    data = b"".join(gzip.compress(text) for _ in range(members)) or text
    data = data if members else text + line(3).rstrip("\n").encode()
    (tmp_path / "in").write_bytes(data)
    descriptor = os.open(tmp_path / "in", os.O_RDONLY)
    stream = LogStream(descriptor, clock=lambda: 0.0)
    stream.resume("")
    found = []
    while not (read := stream.read()).ended:
        found += numbers(read)
    found += numbers(read)
    assert found == [[1, 2, 3], [1, 2], [1, 2, 1, 2]][members]
    os.close(descriptor)


def test_standard_input_without_news_does_not_wait() -> None:
    reader, writer = os.pipe()
    stream = LogStream(reader)
    assert stream.read() == LogRead(position="")
    os.write(writer, b"\x1f\x8bno gzip")
    assert dict(stream.read().bad) == {"log-file": 1}
    stream.close()
    os.close(reader)
    os.close(writer)

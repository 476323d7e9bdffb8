"""Mail log files through rotation of every kind, and through what is worse."""

import bz2
import gzip
import lzma
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from postfix_mtasts.adapters import log_files, log_rotation
from postfix_mtasts.adapters.log_files import GRACE, LogFile
from postfix_mtasts.adapters.log_rotation import Mark
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
    assert log.read() == LogRead(position="", blind=True)
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
    assert bad == {"log-long": 1, "log-line": 1}
    log.close()


def test_stamps_without_a_year_are_of_the_year_told(path: Path) -> None:
    path.write_text("Nov 21 17:00:00 mta1 postfix/smtp[7]: text\n")
    log = LogFile(path, follow=False, year=2020)
    log.resume("")
    [only] = log.read().lines
    assert log_files.local_time(1605978000.0) == only.when
    log.close()


def test_a_line_that_stands_amid_an_overlong_one_is_not_read(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "CHUNK", 200)
    path.write_text(line(1) + "x" * 399 + line(7) + line(2))
    log = followed(path, ticks)
    found: list[int] = []
    position = ""
    for _ in range(3):  # within the line
        read = log.read()
        found, position = found + numbers(read), read.position
    log.close()
    again = followed(path, ticks, position)
    assert (found, drain(again)) == ([1], [2])
    again.close()


def test_a_file_without_any_end_of_line_is_passed_over_in_little_memory(
    path: Path, ticks: Ticks
) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)
    append(path, "\n" + line(1))
    log = followed(path, ticks)
    assert drain(log) == [1]
    log.close()


def test_a_log_that_may_not_be_read_yet_is_waited_for_and_told_of_once(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(lines(1, 20))
    log = followed(path, ticks)
    position = log.read().position
    log.close()
    append(path, line(21))
    really_open = os.open

    def refuse(name: Path, flags: int) -> int:
        if name == path:
            raise PermissionError(13, "Permission denied", str(name))
        return really_open(name, flags)

    monkeypatch.setattr("os.open", refuse)
    again = followed(path, ticks, position)
    for _ in range(3):
        assert again.read() == LogRead(position=position, blind=True)
    assert [each.message for each in caplog.records] == [
        f"cannot be read: {path}: Permission denied"
    ]
    monkeypatch.undo()
    assert drain(again) == [21]
    again.close()


def test_a_place_is_kept_where_no_file_is_there(path: Path, ticks: Ticks) -> None:
    path.write_text(lines(1, 3))
    log = followed(path, ticks)
    position = log.read().position
    log.close()
    path.unlink()
    again = followed(path, ticks, position)
    assert again.read().position == position
    path.write_text(line(4))
    assert drain(again) == [4]
    again.close()


def test_a_place_out_of_shape_is_kept_until_there_is_another(path: Path, ticks: Ticks) -> None:
    log = followed(path, ticks, "{")
    assert log.read().position == "{"
    path.write_text(line(1))
    assert drain(log) == [1]
    log.close()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_waited_out(
    path: Path, ticks: Ticks, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(lines(1, 2))
    log = followed(path, ticks)
    assert drain(log) == [1, 2]
    path.rename(path.with_name("mail.log.1"))
    make(path)
    for _ in range(3):
        assert drain(log) == []
        ticks.now += GRACE
    assert len([each for each in caplog.records if "no regular file" in each.message]) == 1
    path.rename(path.with_name("something"))
    path.write_text(line(3))
    assert drain(log) == [3]
    log.close()
    unread = followed(path.with_name("something"), ticks)
    assert unread.read() == LogRead(position="", blind=True)


def test_a_link_is_followed_to_where_the_file_is_rotated(tmp_path: Path, ticks: Ticks) -> None:
    (tmp_path / "data").mkdir()
    path, real = tmp_path / "mail.log", tmp_path / "data" / "mail"
    path.symlink_to(real)
    real.write_text(lines(1, 20))
    log = followed(path, ticks)
    position = log.read().position
    log.close()
    append(real, line(21))
    real.rename(tmp_path / "data" / "mail-20261121")
    real.write_text(line(22))
    again = followed(path, ticks, position)
    found = drain(again)
    ticks.now += GRACE
    assert found + drain(again) == [21, 22]
    again.close()


def test_a_file_emptied_while_it_is_read_is_read_anew(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(lines(1, 20))
    log = followed(path, ticks)
    assert len(drain(log)) == 20
    append(path, line(21))
    is_marked = log_rotation.is_marked
    copy = path.with_name("mail.log.1")

    def just_before(file: BinaryIO, mark: Mark) -> bool:
        if not copy.exists():
            shutil.copy2(path, copy)
            path.write_text(lines(22, 60))
        return is_marked(file, mark)

    monkeypatch.setattr(log_rotation, "is_marked", just_before)
    found = drain(log)
    ticks.now += GRACE
    assert found + drain(log) == list(range(21, 61))
    log.close()


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)],
    ids=["gzip", "bzip2", "xz"],
)
def test_a_rotation_is_found_however_it_is_compressed(
    path: Path, ticks: Ticks, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    path.write_text(lines(1, 20))
    log = followed(path, ticks)
    position = log.read().position
    log.close()
    path.with_name(f"mail.log.1.{suffix}").write_bytes(pack(lines(1, 21).encode()))
    path.write_text(line(22))
    again = followed(path, ticks, position)
    found = drain(again)
    ticks.now += GRACE
    assert found + drain(again) == [21, 22]
    again.close()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads zstd")
def test_a_rotation_that_this_python_cannot_unpack_is_told_of_once(
    path: Path, ticks: Ticks, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(lines(1, 20))
    log = followed(path, ticks)
    position = log.read().position
    log.close()
    for number in (1, 2):
        path.with_name(f"mail.log.{number}.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    path.write_text(line(22))
    again = followed(path, ticks, position)
    assert drain(again) == [22]
    again.close()
    assert len([each for each in caplog.records if "zstd" in each.message]) == 1


def test_a_damaged_rotation_is_passed_over_with_a_note(path: Path, ticks: Ticks) -> None:
    path.write_text(lines(1, 20))
    log = followed(path, ticks)
    position = log.read().position
    log.close()
    packed = gzip.compress(lines(1, 20000).encode())
    path.with_name("mail.log.1.gz").write_bytes(packed[:-12])
    path.write_text(line(7))
    again = followed(path, ticks, position)
    bad: dict[str, int] = {}
    found: list[int] = []
    while (read := again.read()).more or read.bad:
        found += numbers(read)
        bad.update(dict(read.bad))
    assert (found[-1], bad) == (7, {"log-file": 1})
    again.close()


def moment(number: int) -> float:
    return 1795280400.0 + number  # of `line`


def test_who_read_elsewhere_up_to_a_moment_begins_there_also_in_a_rotated_file(
    path: Path, ticks: Ticks
) -> None:
    older, old = path.with_name("mail.log.2"), path.with_name("mail.log.1")
    for file, first, last in ((older, 1, 10), (old, 11, 20), (path, 21, 30)):
        file.write_text(lines(first, last))
        os.utime(file, (moment(last), moment(last)))
    log = LogFile(path, follow=True, ticks=ticks)
    log.resume("", moment(16))
    position = log.read().position
    found: list[int] = []
    for _ in range(3):
        found += drain(log)
        ticks.now += GRACE
    assert found == list(range(21, 31))
    log.close()
    again = followed(path, ticks, position)
    found = []
    for _ in range(3):
        found += drain(again)
        ticks.now += GRACE
    assert found == list(range(21, 31))
    again.close()
    anew = LogFile(path, follow=False)
    anew.resume("", moment(16))
    assert drain(anew) == list(range(16, 31))
    anew.close()


def test_lines_of_before_that_moment_are_passed_over_also_after_a_restart(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "CHUNK", 200)
    path.write_text(lines(1, 20))
    log = LogFile(path, follow=True, ticks=ticks)
    log.resume("", moment(10))
    read = log.read()
    assert not read.lines
    log.close()
    again = followed(path, ticks, read.position)
    assert drain(again) == list(range(10, 21))
    again.close()

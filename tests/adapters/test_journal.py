"""The journal through a journalctl by script, and through the real one on real journal files."""

import itertools
import json
import os
import shutil
import stat
import struct
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from postfix_mtasts.adapters.journal import Journal, find_journalctl
from postfix_mtasts.ports import LogRead

SOON = 20.0  # seconds
NOW = 1_795_280_000.0


def entry(number: int, *, program: str = "smtp") -> str:
    fields = {
        "__CURSOR": f"s=1;i={number}",
        "__REALTIME_TIMESTAMP": str(int(NOW * 1e6) + number),
        "SYSLOG_IDENTIFIER": f"postfix/{program}",
        "SYSLOG_PID": str(number),
        "_HOSTNAME": "mta1",
        "MESSAGE": f"text {number}",
    }
    return json.dumps(fields, separators=(",", ":"))


class Script:
    """A journalctl that notes its words, prints *text* and ends, or stays where it follows."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journalctl"
        self.words_file = folder / "words"

    def does(self, text: str, *, status: int = 0, stays: bool = False) -> None:
        data = self.path.with_name("data")
        data.write_text(text)
        stay = 'case "$*" in *--follow*) exec sleep 3600 ;; esac' if stays else ""
        self.path.write_text(
            f'#!/bin/sh\necho "$*" > {self.words_file}\n{stay}\ncat {data}\nexit {status}\n'
        )
        self.path.chmod(stat.S_IRWXU)

    def words(self) -> list[str]:
        return self.words_file.read_text().split()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def journal(script: Script, *, follow: bool = False, position: str = "") -> Journal:
    opened = Journal([str(script.path)], follow=follow, clock=lambda: NOW)
    opened.resume(position)
    return opened


def drain(source: Journal) -> tuple[list[int], dict[str, int], LogRead]:
    """Return the process ids of all lines to the end, what was bad, and the last read."""
    found, bad = [], {}
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        read = source.read()
        found += [line.origin.pid for line in read.lines]
        bad.update(dict(read.bad))
        if read.ended:
            return found, bad, read
    raise AssertionError("journalctl did not end")


def test_entries_of_ours_are_read_and_others_passed_over(script: Script) -> None:
    entries = [entry(1), entry(2, program="smtpd"), entry(3), "-- No entries --", ""]
    script.does("\n".join(entries))
    found, bad, last = drain(journal(script))
    assert (found, bad) == ([1, 3], {})
    assert json.loads(last.position)[0] == "s=1;i=3"
    assert f"--since=@{NOW - 172800:.6f}" in script.words()
    assert "SYSLOG_FACILITY=2" in script.words()
    assert "--follow" not in script.words()


def test_reading_goes_on_behind_the_cursor(script: Script) -> None:
    script.does(entry(1) + "\n")
    position = drain(journal(script))[2].position
    script.does(entry(2) + "\n")
    assert drain(journal(script, position=position))[0] == [2]
    assert "--after-cursor=s=1;i=1" in script.words()


def test_a_cursor_that_the_journal_forgot_gives_way_to_the_time(script: Script) -> None:
    script.does(entry(5) + "\n")
    position = drain(journal(script))[2].position
    script.does("", status=1)
    again = journal(script, position=position)
    deadline = time.monotonic() + SOON
    while not (read := again.read()).more and time.monotonic() < deadline:
        assert not read.lines
    assert read.position == position
    script.does("\n".join([entry(4), entry(5), entry(6), ""]))
    assert drain(again)[0] == [6]
    assert f"--since=@{NOW + 5e-6:.6f}" in script.words()


def test_a_journal_that_cannot_be_read_is_told_of_once(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    script.does("", status=1)
    now = itertools.count(step=10.0)
    source = Journal([str(script.path)], follow=True, clock=lambda: NOW, ticks=lambda: next(now))
    deadline = time.monotonic() + SOON
    ended = 0
    while ended < 2 and time.monotonic() < deadline:
        ended += dict(source.read().bad).get("journal-ended", 0)
    source.close()
    assert (ended, caplog.messages) == (
        2,
        ["journalctl gave nothing (status 1): may this user read it?"],
    )


def test_bad_entries_are_counted(script: Script) -> None:
    broken = entry(1).replace('"SYSLOG_PID":"1"', '"SYSLOG_PID":"x"')
    script.does(f"{broken}\n{entry(2)[:-1]}\n{entry(3)}\n")
    found, bad, _ = drain(journal(script))
    assert (found, bad) == ([3], {"journal-entry": 2})


def test_what_is_followed_does_not_make_anybody_wait(script: Script) -> None:
    script.does(entry(1) + "\n" + entry(2)[:30], stays=True)
    source = journal(script, follow=True)
    deadline = time.monotonic() + SOON
    lines: list[int] = []
    while not lines and time.monotonic() < deadline:
        lines += [line.origin.pid for line in source.read().lines]
    assert lines == [1]
    while source.read().blind and time.monotonic() < deadline:
        assert "--follow" not in script.words()
    assert source.read() == LogRead(position=json.dumps(["s=1;i=1", int(NOW * 1e6) + 1]))
    source.close()


def test_an_empty_pipe_is_not_taken_for_the_present_before_all_was_read(script: Script) -> None:
    gate = script.path.with_name("gate")
    os.mkfifo(gate)
    script.does("", stays=True)
    script.path.write_text(script.path.read_text().replace("cat ", f"cat {gate} "))
    source = journal(script, follow=True)
    assert [source.read() for _ in range(3)] == [LogRead(position="", blind=True)] * 3
    gate.write_text(entry(1) + "\n")
    deadline = time.monotonic() + SOON
    while (read := source.read()).blind or read.more:
        assert time.monotonic() < deadline
    assert json.loads(read.position)[0] == "s=1;i=1"
    source.close()


def test_a_journalctl_that_ends_is_started_again_after_a_while(script: Script) -> None:
    script.does(entry(1) + "\n")
    now = [0.0]
    source = Journal([str(script.path)], follow=True, clock=lambda: NOW, ticks=lambda: now[0])
    deadline = time.monotonic() + SOON
    bad: dict[str, int] = {}
    while not bad and time.monotonic() < deadline:
        bad = dict(source.read().bad)
    assert bad == {"journal-ended": 1}
    script.does(entry(2) + "\n")
    assert source.read().lines == ()
    now[0] += 5
    lines: list[int] = []
    while not lines and time.monotonic() < deadline:
        lines += [line.origin.pid for line in source.read().lines]
    assert lines == [2]
    source.close()


def test_a_program_that_is_not_there_is_no_end(tmp_path: Path) -> None:
    source = Journal([str(tmp_path / "nothing")], follow=True)
    assert source.read() == LogRead(position="", blind=True)
    once = Journal([str(tmp_path / "nothing")], follow=False)
    assert once.read().ended


def test_journalctl_is_looked_for(monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    script.does("")
    monkeypatch.setenv("PATH", str(script.path.parent))
    assert find_journalctl() == str(script.path)


REMOTE = Path("/lib/systemd/systemd-journal-remote")  # writes journal files
real = pytest.mark.skipif(
    shutil.which("journalctl") is None or not REMOTE.exists(),
    reason="journalctl and systemd-journal-remote are not installed",
)


class RealJournal:
    """Journal files in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, *entries: tuple[int, bytes], name: str = "system.journal") -> None:
        """Append entries to the file *name*: process ids, which tell the time, and messages."""
        given = self.folder.parent / "export"
        given.write_bytes(b"".join(exported(number, message) for number, message in entries))
        subprocess.run(
            [REMOTE, f"--output={self.folder / name}", given], check=True, capture_output=True
        )

    def opened(self, *, follow: bool = False, position: str = "") -> Journal:
        program = ["journalctl", f"--directory={self.folder}"]
        source = Journal(program, follow=follow, clock=lambda: NOW)
        source.resume(position)
        return source


def exported(number: int, message: bytes) -> bytes:
    """Return an entry in systemd's Journal Export Format."""
    fields = {
        "__REALTIME_TIMESTAMP": str(int((NOW + number) * 1e6)),
        "__MONOTONIC_TIMESTAMP": str(number),
        "_BOOT_ID": "0123456789abcdef0123456789abcdef",
        "_HOSTNAME": "mta1",
        "SYSLOG_FACILITY": "2",
        "SYSLOG_IDENTIFIER": "postfix/smtp",
        "SYSLOG_PID": str(number),
    }
    plain = "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
    return plain + b"MESSAGE\n" + struct.pack("<Q", len(message)) + message + b"\n\n"


def await_lines(source: Journal, count: int) -> list[int]:
    found: list[int] = []
    deadline = time.monotonic() + SOON
    while len(found) < count and time.monotonic() < deadline:
        found += [line.origin.pid for line in source.read().lines]
    return found


@pytest.fixture
def files(tmp_path: Path) -> RealJournal:
    (tmp_path / "journal").mkdir()
    return RealJournal(tmp_path / "journal")


@real
def test_real_entries_are_read_whatever_is_in_them(files: RealJournal) -> None:
    huge = b"x" * 3_000_000
    files.write(
        (1, b"text"), (2, b"\xff\x00 binary \n two"), (3, huge), (4, b"x" * 9000), (5, b"five")
    )
    source = files.opened()
    texts: dict[int, bytes] = {}
    bad: Counter[str] = Counter()
    while not (read := source.read()).ended:
        texts |= {line.origin.pid: line.text for line in read.lines}
        bad += Counter(dict(read.bad))
    assert texts.pop(4) == b"x" * 4000
    assert texts == {1: b"text", 2: b"\xff\x00 binary \n two", 5: b"five"}
    assert bad == {"journal-long": 1}


@real
def test_a_real_journal_is_gone_on_with_behind_the_cursor(files: RealJournal) -> None:
    files.write((1, b"a"), (2, b"b"))
    found, _, last = drain(files.opened())
    files.write((3, b"c"))
    assert (found, drain(files.opened(position=last.position))[0]) == ([1, 2], [3])


@real
def test_a_real_journal_is_gone_on_with_in_the_file_that_came_after(files: RealJournal) -> None:
    files.write((1, b"a"), (2, b"b"))
    position = drain(files.opened())[2].position
    (files.folder / "system.journal").rename(files.folder / "system@1.journal")
    files.write((3, b"c"), (4, b"d"))
    assert drain(files.opened(position=position))[0] == [3, 4]


@real
def test_a_real_journal_that_was_vacuumed_is_gone_on_with_by_the_time(files: RealJournal) -> None:
    files.write((1, b"a"), (2, b"b"))
    position = drain(files.opened())[2].position
    (files.folder / "system.journal").unlink()
    files.write((1, b"a"), (2, b"b"), (3, b"c"))
    assert drain(files.opened(position=position))[0] == [3]


@real
def test_a_real_journal_is_followed_through_rotation(files: RealJournal) -> None:
    files.write((1, b"a"))
    source = files.opened(follow=True)
    assert await_lines(source, 1) == [1]
    files.write((2, b"b"))
    assert await_lines(source, 1) == [2]
    (files.folder / "system.journal").rename(files.folder / "system@1.journal")
    files.write((3, b"c"))
    assert await_lines(source, 1) == [3]
    source.close()


@real
def test_a_real_journal_is_begun_at_the_moment_up_to_which_another_log_was_read(
    files: RealJournal,
) -> None:
    files.write((1, b"a"), (2, b"b"), (3, b"c"))
    source = files.opened()
    source.resume("", NOW + 2)
    assert drain(source)[0] == [2, 3]

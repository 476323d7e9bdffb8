"""The journal through a journalctl by script."""

import json
import stat
import time
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
    """A journalctl that notes its words, prints *text* and ends, or stays."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journalctl"
        self.words_file = folder / "words"

    def does(self, text: str, *, status: int = 0, stays: bool = False) -> None:
        data = self.path.with_name("data")
        data.write_text(text)
        end = "exec sleep 3600" if stays else f"exit {status}"
        self.path.write_text(f'#!/bin/sh\necho "$*" > {self.words_file}\ncat {data}\n{end}\n')
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
    assert source.read().lines == ()
    assert "--follow" in script.words()
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

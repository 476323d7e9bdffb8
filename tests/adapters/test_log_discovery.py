"""What "auto" stands for on hosts of several kinds."""

import os
import stat
from pathlib import Path

import pytest

from postfix_mtasts.adapters.log_discovery import STALE, find_log, postconf
from postfix_mtasts.core.endpoints import EventSource

NOW = 1_795_280_000.0
JOURNAL = EventSource(kind="journal")


def host(files: list[Path], *, maillog_file: str = "", journal: bool = True) -> EventSource | None:
    return find_log(
        files=list(map(str, files)),
        setting=lambda name: maillog_file if name == "maillog_file" else "",
        journalctl=lambda: "/usr/bin/journalctl" if journal else None,
        clock=lambda: NOW,
    )


def file(path: Path, age: float) -> Path:
    path.touch()
    os.utime(path, (NOW - age, NOW - age))
    return path


def test_what_postfix_itself_writes_to_comes_first(tmp_path: Path) -> None:
    fresh = file(tmp_path / "mail.log", 0)
    own = EventSource(kind="file", path="/var/log/postfix.log")
    assert host([fresh], maillog_file="/var/log/postfix.log") == own
    assert host([fresh], maillog_file="/dev/stdout") != own


def test_a_file_that_is_written_to_comes_before_the_journal(tmp_path: Path) -> None:
    missing, fresh = tmp_path / "mail.log", file(tmp_path / "maillog", 60)
    assert host([missing, fresh]) == EventSource(kind="file", path=str(fresh))


def test_the_journal_comes_before_a_file_left_over_from_before(tmp_path: Path) -> None:
    old = file(tmp_path / "mail.log", STALE + 1)
    assert host([old]) == JOURNAL
    assert host([old], journal=False) == EventSource(kind="file", path=str(old))


def test_a_host_without_any_has_none(tmp_path: Path) -> None:
    assert host([], journal=False) is None
    assert host([tmp_path], journal=False) is None


def test_postfix_is_asked_by_postconf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "postconf"
    script.write_text('#!/bin/sh\necho "$*"\n')
    script.chmod(stat.S_IRWXU)
    monkeypatch.setattr("shutil.which", lambda *_, **__: str(script))
    assert postconf("maillog_file") == "-h maillog_file"
    script.unlink()
    assert not postconf("maillog_file")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert not postconf("maillog_file")

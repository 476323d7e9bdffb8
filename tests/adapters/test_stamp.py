"""A moment in a file's time stamp."""

import os
from pathlib import Path

import pytest

from postfix_mtasts.adapters.stamp import Stamp


def test_a_moment_outlives_the_one_who_noted_it_until_it_is_cleared(tmp_path: Path) -> None:
    stamp = Stamp(tmp_path / "stamp")
    assert stamp.age(1000.0) is None
    assert stamp.put(1000.0)
    assert Stamp(tmp_path / "stamp").age(1060.0) == 60.0
    stamp.clear()
    assert stamp.age(1060.0) is None


def test_a_moment_to_come_is_none(tmp_path: Path) -> None:
    stamp = Stamp(tmp_path / "stamp")
    assert stamp.put(1000.0)
    assert stamp.age(999.0) is None


def test_a_file_of_another_user_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, whole = tmp_path / "stamp", os.utime
    theirs.touch()
    of_theirs = theirs.stat().st_ino
    (tmp_path / "link").hardlink_to(theirs)  # its inode stays taken

    def utime(path: Path, times: tuple[float, float]) -> None:
        if path.stat().st_ino == of_theirs:
            raise PermissionError
        whole(path, times)

    monkeypatch.setattr(os, "utime", utime)
    stamp = Stamp(theirs)
    assert stamp.put(1000.0)
    assert stamp.age(1000.0) == 0


def test_where_nothing_can_be_noted_that_is_told(tmp_path: Path) -> None:
    assert not Stamp(tmp_path / "missing" / "stamp").put(1000.0)

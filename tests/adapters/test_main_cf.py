"""A copy of main.cf before a change, and the way back."""

import os
import stat
from pathlib import Path

import pytest

from postfix_mtasts.adapters import main_cf
from postfix_mtasts.adapters.main_cf import (
    Backup,
    BackupError,
    change_with_backup,
    difference,
    edited_since,
    last_backup,
    restore,
)

BEFORE = b"# own words \xff\na = 1\n"
AFTER = b"a = 2\n"


@pytest.fixture(name="folder")
def make_folder(tmp_path: Path) -> Path:
    (tmp_path / "main.cf").write_bytes(BEFORE)
    (tmp_path / "main.cf").chmod(0o640)
    return tmp_path


def changed(folder: Path, after: bytes = AFTER, when: float = 0.0) -> Backup:
    path = folder / "main.cf"
    return change_with_backup(folder, lambda: _write(path, after), clock=lambda: when)


def _write(path: Path, octets: bytes) -> None:
    path.write_bytes(octets)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_change_leaves_a_copy_of_before_named_after_its_time(folder: Path) -> None:
    backup = changed(folder)
    assert backup.path.read_bytes() == BEFORE
    assert backup.path.name.startswith("main.cf.postfix-mtasts.19700101T000000Z.")
    assert last_backup(folder) == backup


def test_the_way_back_is_octet_for_octet_and_leaves_no_trace(folder: Path) -> None:
    backup = changed(folder)
    assert not edited_since(backup)
    restore(backup)
    assert (folder / "main.cf").read_bytes() == BEFORE
    assert (folder / "main.cf").stat().st_mode & 0o777 == 0o640
    assert names(folder) == ["main.cf"]


def test_an_edit_since_is_seen_and_shown(folder: Path) -> None:
    backup = changed(folder)
    (folder / "main.cf").write_bytes(b"a = 3\n")
    assert edited_since(backup)
    lines = difference(backup)
    assert "-a = 3" in lines
    assert "+a = 1" in lines


def test_a_change_that_fails_is_put_back(folder: Path) -> None:
    def fail() -> None:
        (folder / "main.cf").write_bytes(AFTER)
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        change_with_backup(folder, fail)
    assert (folder / "main.cf").read_bytes() == BEFORE
    assert names(folder) == ["main.cf"]


def test_the_last_of_several_copies_is_the_newest(folder: Path) -> None:
    first = changed(folder, b"a = 2\n", when=1e9)
    second = changed(folder, b"a = 3\n", when=1.1e9)
    assert last_backup(folder) == second
    restore(second)
    assert last_backup(folder) == first
    assert not edited_since(first)


def test_files_of_other_names_are_no_copies(folder: Path) -> None:
    (folder / "main.cf.postfix-mtasts.19700101T000000Z.unfinishedx").touch()
    (folder / "main.cf.postfix-mtasts.old").touch()
    assert last_backup(folder) is None


def test_a_folder_without_main_cf_and_a_huge_one_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackupError, match="cannot be copied: No such file"):
        changed(tmp_path)
    monkeypatch.setattr(main_cf, "MAX_BYTES", 3)
    (tmp_path / "main.cf").write_bytes(BEFORE)
    with pytest.raises(BackupError, match="larger than any"):
        changed(tmp_path)


def test_a_copy_that_is_gone_is_an_error(folder: Path) -> None:
    backup = changed(folder)
    backup.path.unlink()
    with pytest.raises(BackupError, match="cannot be restored"):
        restore(backup)


def rewritten(path: Path, octets: bytes = AFTER) -> None:
    """Do as postconf(1) does."""
    new = path.with_name("main.cf.tmp")
    new.write_bytes(octets)
    new.chmod(0o644)
    new.replace(path)


def kept(path: Path) -> tuple[int, int]:
    status = path.stat()
    return stat.S_IMODE(status.st_mode), status.st_gid


def test_the_way_back_leads_to_the_time_of_before(folder: Path) -> None:
    os.utime(folder / "main.cf", (1e9, 1e9))
    restore(changed(folder))
    assert (folder / "main.cf").stat().st_mtime == 1e9


def test_owner_and_mode_outlive_the_change_and_the_way_back(folder: Path) -> None:
    main_cf = folder / "main.cf"
    if os.geteuid() == 0:
        os.chown(main_cf, -1, 4)
    before = kept(main_cf)
    backup = change_with_backup(folder, lambda: rewritten(main_cf))
    assert kept(main_cf) == kept(backup.path) == before
    rewritten(main_cf)  # somebody's postconf that changes nothing
    restore(backup)
    assert kept(main_cf) == before


def test_a_symbolic_link_is_left_to_its_owner(folder: Path) -> None:
    (folder / "main.cf").rename(folder / "managed.cf")
    (folder / "main.cf").symlink_to("managed.cf")
    with pytest.raises(BackupError, match=r"symbolic link.*managed\.cf"):
        changed(folder)
    assert names(folder) == ["main.cf", "managed.cf"]


def test_of_two_changes_at_once_the_second_is_refused(folder: Path) -> None:
    def meanwhile() -> None:
        changed(folder)

    with pytest.raises(BackupError, match="another doctor"):
        change_with_backup(folder, meanwhile)
    assert names(folder) == ["main.cf"]


def test_what_a_killed_change_left_can_be_put_back(folder: Path) -> None:
    unfinished = folder / "main.cf.postfix-mtasts.19700101T000000Z.unfinished"
    unfinished.write_bytes(BEFORE)
    backup = last_backup(folder)
    assert backup == Backup(folder=folder, path=unfinished)
    assert not edited_since(backup)
    (folder / "main.cf").write_bytes(AFTER)
    assert edited_since(backup)
    restore(backup)
    assert names(folder) == ["main.cf"]


def test_a_full_disk_leaves_the_copy_and_says_where(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill() -> None:
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
        raise ValueError("refused")

    with pytest.raises(BackupError, match=r"put back \(full\): as it was is .*unfinished"):
        change_with_backup(folder, fill)
    left = last_backup(folder)
    assert left is not None
    assert left.path.read_bytes() == BEFORE

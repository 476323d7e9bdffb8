"""A copy of main.cf from before it was changed, and the way back.

The copy lies beside it, ``main.cf.postfix-mtasts.WHEN.DIGEST``: WHEN in UTC, DIGEST
the beginning of the SHA-256 of main.cf as it was left.  So it can be told whether
somebody has edited it since, and nothing else need be kept.  While the change is
being made DIGEST is "unfinished", and so it stays where that is killed.

postconf(1) writes a new main.cf: its owner and mode become those of before again, and
one that is a symbolic link, which would become a file, is left to its owner.  Of two
changes at once the second is refused.

BUGS: POSIX ACLs and other attributes of main.cf are not kept; postconf drops them too.
"""

import difflib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from postfix_mtasts.core.errors import MtastsError

MAX_BYTES = 10_000_000
"""Of a main.cf that is dealt with (a limit for files that are none)."""

_PREFIX = "main.cf.postfix-mtasts."
_UNFINISHED = "unfinished"
_COPY = re.compile(re.escape(_PREFIX) + rf"[0-9]{{8}}T[0-9]{{6}}Z\.([0-9a-f]{{16}}|{_UNFINISHED})")


class BackupError(MtastsError):
    """main.cf cannot be copied or put back; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A copy, of the instance of *folder*."""

    folder: Path
    path: Path


def change_with_backup(
    folder: Path, change: Callable[[], None], *, clock: Callable[[], float] = time.time
) -> Backup:
    """Copy main.cf of *folder*, then call *change*, whose failure puts everything back.

    Raises `BackupError`, and what *change* raises.
    """
    main_cf = folder / "main.cf"
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock()))
    unfinished = folder / f"{_PREFIX}{stamp}.{_UNFINISHED}"
    with _alone(folder):
        try:
            before, status = _read(main_cf), main_cf.stat()
            _write(unfinished, before, status)
        except OSError as error:
            raise BackupError(f"{main_cf} cannot be copied: {error.strerror}") from None
        try:
            change()
            os.chown(main_cf, status.st_uid, status.st_gid)
            main_cf.chmod(status.st_mode & 0o7777)
            copy = folder / f"{_PREFIX}{stamp}.{_digest(_read(main_cf))}"
            unfinished.rename(copy)
        except BaseException:
            _put_back(main_cf, before, status, unfinished)
            raise
    return Backup(folder=folder, path=copy)


def last_backup(folder: Path) -> Backup | None:
    """Return the newest copy in *folder*; `None` where there is none."""
    names = sorted(path.name for path in folder.glob(f"{_PREFIX}*") if _COPY.fullmatch(path.name))
    return Backup(folder=folder, path=folder / names[-1]) if names else None


def edited_since(backup: Backup) -> bool:
    """Return whether main.cf is another than the one that was left when *backup* was made.

    What a change that was killed would have left is not known: then, another than *backup*.
    """
    left = backup.path.name.rpartition(".")[2]
    if left == _UNFINISHED:
        left = _digest(_read(backup.path))
    return _digest(_read(backup.folder / "main.cf")) != left


def difference(backup: Backup) -> list[str]:
    """Return the lines that would go and come with *backup*, as diff -u shows them."""
    target = backup.folder / "main.cf"
    before, now = (
        _read(path).decode("utf-8", "replace").splitlines() for path in (backup.path, target)
    )
    return list(difflib.unified_diff(now, before, str(target), str(backup.path), lineterm="", n=1))


def restore(backup: Backup) -> None:
    """Put main.cf back as it was, octet for octet, and let go of the copy; raises `BackupError`."""
    main_cf = backup.folder / "main.cf"
    with _alone(backup.folder):
        try:
            _write(main_cf, _read(backup.path), backup.path.stat())
            backup.path.unlink()
        except OSError as error:
            raise BackupError(f"{main_cf} cannot be restored: {error.strerror}") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other changes of the main.cf of *folder* away; raises `BackupError`."""
    main_cf = folder / "main.cf"
    if main_cf.is_symlink():
        target = main_cf.resolve()
        raise BackupError(f"it is a symbolic link, which postconf would undo: edit {target}")
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BackupError(f"{folder}: {error.strerror}") from None
    try:
        _lock(lock)
        yield
    finally:
        os.close(lock)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise BackupError("another doctor is changing it") from None


def _put_back(main_cf: Path, octets: bytes, status: os.stat_result, copy: Path) -> None:
    try:
        _write(main_cf, octets, status)
    except OSError as error:
        why = f"cannot be put back ({error.strerror}): as it was is {copy}"
        raise BackupError(why) from None
    copy.unlink()


def _write(path: Path, octets: bytes, status: os.stat_result) -> None:
    """Let *path* have *octets* all at once, with the owner, mode and times of *status*.

    Of the times too: Postfix waits two seconds for the end of an edit just made.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
            file.write(octets)
            file.flush()
            os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        octets = file.read(MAX_BYTES + 1)
    if len(octets) > MAX_BYTES:
        raise BackupError(f"{path} is larger than any main.cf")
    return octets


def _digest(octets: bytes) -> str:
    return sha256(octets).hexdigest()[:16]

"""A moment that outlives the process: the time stamp of an empty file.

It needs no room on a disk that is full, and no database that may be the trouble.
A file of another user, left by root, is replaced.
"""

import os
from contextlib import suppress
from pathlib import Path


class Stamp:
    """The moment that the file at *path* stands for, if it is there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def age(self, now: float) -> float | None:
        """Return the seconds from the moment to *now*; `None` for none, or one to come."""
        try:
            age = now - self._path.stat().st_mtime
        except OSError:
            return None
        return age if age >= 0 else None

    def put(self, now: float) -> bool:
        """Make *now* the moment; return whether it could be noted."""
        try:
            try:
                self._set(now)
            except PermissionError:
                self.clear()
                self._set(now)
        except OSError:
            return False
        return True

    def clear(self) -> None:
        """Let there be no moment."""
        with suppress(OSError):
            self._path.unlink()

    def _set(self, now: float) -> None:
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        os.utime(self._path, (now, now))

"""The health of the state's databases, from outside: read only, while others use them.

SQLite's quick_check reads the whole file; it is stopped after `SECONDS`, and so is
every other look.  The folder is another user's, who may have put anything there: only
a regular file is opened, and no link is followed.
"""

import os
import pwd
import shutil
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

from postfix_mtasts.adapters.store_file import interrupt_at, open_existing
from postfix_mtasts.adapters.tlsrpt_store import READ_TO
from postfix_mtasts.core.daemon_diagnosis import Database

SECONDS = 5.0
_BUSY_SECONDS = 2.0


def examine(path: Path) -> Database | None:
    """Return how the database at *path* is, `None` where there is none."""
    try:
        status, folder = path.lstat(), path.parent.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return Database(path=str(path), problem=None, why=error.strerror or str(error))
    if stat.S_ISREG(status.st_mode):
        problem, why = _checked(path)
    else:
        problem, why = None, "it is no regular file"
    return Database(
        path=str(path),
        problem=problem,
        why=why,
        free=shutil.disk_usage(path.parent).free,
        owners=(_user_name(status.st_uid), _user_name(folder.st_uid)),
    )


def read_to(path: Path) -> float | None:
    """Return up to when the sidecar has read each log that it follows, seconds since the epoch.

    `None` where the counts at *path* do not tell.
    """
    if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
        return None
    try:
        with closing(_opened(path, time.monotonic() + SECONDS)) as connection:
            (moment,) = connection.execute(READ_TO).fetchone()
    except sqlite3.DatabaseError:
        return None
    return moment if isinstance(moment, float) and moment > 0 else None


def _checked(path: Path) -> tuple[str | None, str]:
    """Return what is damaged, and why that is not known."""
    if not os.access(path, os.R_OK):
        return None, "Permission denied"
    ends = time.monotonic() + SECONDS
    try:
        with closing(_opened(path, ends)) as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        timed_out = time.monotonic() > ends
        return (None, "it is too large to be read whole") if timed_out else (None, str(error))
    except sqlite3.DatabaseError as error:
        return str(error), ""
    return ("" if said == "ok" else str(said)[:200]), ""


def _opened(path: Path, ends: float) -> sqlite3.Connection:
    """Return the database, which is interrupted when it is *ends* by the monotonic clock."""
    connection = open_existing(path, timeout=_BUSY_SECONDS, mode="ro")
    interrupt_at(connection, ends)
    return connection


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

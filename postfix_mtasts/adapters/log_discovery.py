"""Where this host has its mail log: what the source "auto" stands for.

Postfix's own maillog_file comes first; then the files into which syslog daemons
write mail, if one was written to in the last `STALE` seconds; then the journal; then
a file in which nothing was written lately.  One log only: the same lines stand in
several, and would be counted as often.

BUGS: of several Postfix instances only the maillog_file of the first is asked for.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from postfix_mtasts.adapters.journal import find_journalctl
from postfix_mtasts.core.endpoints import EventSource

FILES: Final = ("/var/log/mail.log", "/var/log/maillog", "/var/log/mail")
STALE: Final = 3 * 86400.0  # seconds: a host that sends mail at all writes more often
_POSTCONF_SECONDS: Final = 10.0


def find_log(
    *,
    files: Sequence[str] = FILES,
    setting: Callable[[str], str] | None = None,
    journalctl: Callable[[], str | None] = find_journalctl,
    clock: Callable[[], float] = time.time,
) -> EventSource | None:
    """Return the log that Postfix's lines go to, `None` where none is to be found."""
    own = (postconf if setting is None else setting)("maillog_file")
    if own.startswith("/") and not own.startswith("/dev/"):
        return EventSource(kind="file", path=own)
    there = [path for path in files if os.access(path, os.R_OK) and Path(path).is_file()]
    for path in there:
        if clock() - Path(path).stat().st_mtime <= STALE:
            return EventSource(kind="file", path=path)
    if journalctl() is not None:
        return EventSource(kind="journal")
    return EventSource(kind="file", path=there[0]) if there else None


def postconf(name: str) -> str:
    """Return Postfix's setting *name*, "" where Postfix cannot tell."""
    program = shutil.which("postconf", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - no part of it is a stranger's
            [program, "-h", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_POSTCONF_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").strip()

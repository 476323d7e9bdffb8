"""resolv.conf: which DNS servers this machine asks (resolv.conf(5)).

Read are the ``nameserver`` lines, the first three as in glibc.  ``options``,
``search`` and ``domain`` are not: the configuration has its own time-out, and
only full names are asked.  Without a usable line, and without the file, the
server is 127.0.0.1, as in glibc.

The file is watched: networks come and go, and a daemon lives long.

BUGS: a change that leaves time, size and inode as they were goes unnoticed.
"""

from collections.abc import Callable
from pathlib import Path

from postfix_mtasts.adapters.name_server import Server, parse_server
from postfix_mtasts.core.errors import ParseError

MAX_SERVERS = 3  # MAXNS of glibc's <resolv.h>
MAX_BYTES = 65536
"""Read of the file (a limit for files that are no resolv.conf)."""

STAT_INTERVAL = 1.0
"""Seconds between two looks at the file."""

_DEFAULT: tuple[Server, ...] = (Server(host="127.0.0.1"),)


def parse_resolv_conf(text: str) -> tuple[Server, ...]:
    """Return the servers of *text* in order; never empty.

    A line that cannot be read is passed over, as glibc does: the file is
    written by programs, and the good lines beside it still hold.
    """
    found: list[Server] = []
    for line in text.split("\n"):
        keyword, *values = line.split() or [""]
        if keyword != "nameserver" or not values or line[0].isspace():
            continue
        try:
            found.append(parse_server(values[0]))
        except ParseError:
            continue
    return tuple(found[:MAX_SERVERS]) or _DEFAULT


class ResolvConf:
    """The servers of the file *path*, up to date to within `STAT_INTERVAL`.

    *monotonic* gives seconds.  While the file is away, as in the middle of a
    careless rewrite, what was last read holds.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._monotonic = monotonic
        self._looked = float("-inf")
        self._signature: tuple[int, int, int] | None = None
        self._servers = _DEFAULT

    def servers(self) -> tuple[Server, ...]:
        """Return the servers; the same object as long as the file does not change."""
        now = self._monotonic()
        if now - self._looked >= STAT_INTERVAL:
            self._looked = now
            self._refresh()
        return self._servers

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            signature = (status.st_mtime_ns, status.st_size, status.st_ino)
            if signature == self._signature:
                return
            with self._path.open("rb") as file:
                text = file.read(MAX_BYTES).decode("ascii", "replace")
        except OSError:
            return
        self._servers = parse_resolv_conf(text)
        self._signature = signature

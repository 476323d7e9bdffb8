"""A Unix socket left behind by a process that died, out of the way of a new one.

Who binds a path finds the socket of its forerunner there, unless that removed it.
One that somebody still serves is left alone: two processes on one path would leave
the clients with the one that came last, and the other without any.
"""

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

PROBE_SECONDS: Final = 1.0


def remove_stale(path: str, kind: socket.SocketKind) -> None:
    """Remove the socket of *kind* at *path* where nobody serves it.

    Raises OSError for anything else in its place, with EADDRINUSE where somebody does.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError("there is a file that is no socket")
    if _is_served(path, kind):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    Path(path).unlink(missing_ok=True)


def _is_served(path: str, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True  # and so busy that its queue is full
    return True

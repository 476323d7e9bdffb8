"""Listening sockets: bound here or handed over by systemd, Unix and TCP.

A Unix socket left behind by a process that died is replaced; one on which
somebody still listens is not: two daemons on one path would leave Postfix with
the one that knows less.  Sockets handed over by systemd are taken as they are,
sd_listen_fds(3).
"""

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from struct import Struct

from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.errors import ConfigError

BACKLOG = 4096
FIRST_FD = 3  # SD_LISTEN_FDS_START
EVERYONE = 0o666  # Postfix's smtp(8) runs as a user of its own
PROBE_SECONDS = 1.0
_UCRED = Struct("iII")  # pid, uid, gid: unix(7)


def bind(listen: Listen) -> socket.socket:
    """Return a socket listening as *listen* says; raises ConfigError where it cannot."""
    if listen.kind == "unix":
        return bind_unix(listen.path)
    return bind_inet(listen.host, listen.port)


def inherited(environment: Mapping[str, str]) -> list[socket.socket]:
    """Return the stream sockets that systemd handed over (socket activation)."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(environment.get("LISTEN_FDS", "0"))
    return [_adopt(fd) for fd in range(FIRST_FD, FIRST_FD + count)]


def _adopt(fd: int) -> socket.socket:
    adopted = socket.socket(fileno=fd)
    adopted.settimeout(0)
    os.set_inheritable(fd, False)  # noqa: FBT003 - os has no other way to say it
    return adopted


def bind_unix(path: str) -> socket.socket:
    """Return a socket listening at *path*, open to every local user.

    Raises ConfigError where that is not possible, such as when another process
    listens there.
    """
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        listener.bind(path)
        Path(path).chmod(EVERYONE)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on unix:{path}: {error.strerror or error}") from None
    listener.settimeout(0)
    return listener


def _remove_stale(path: str) -> None:
    """Remove a Unix socket that nobody listens on; refuse anything else in its place."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"cannot listen on unix:{path}: there is a file that is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_SECONDS)
            probe.connect(path)
        raise ConfigError(f"cannot listen on unix:{path}: another process listens there")
    except (FileNotFoundError, NotADirectoryError):
        return
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot listen on unix:{path}: {error.strerror or error}") from None


def bind_inet(host: str, port: int) -> socket.socket:
    """Return a socket listening at *host* and *port*.

    Raises ConfigError where that is not possible.
    """
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=BACKLOG,
        )
    except OSError as error:
        reason = (
            "another process listens there"
            if error.errno == errno.EADDRINUSE
            else error.strerror or error
        )
        raise ConfigError(f"cannot listen on inet:{host}:{port}: {reason}") from None


async def accept(
    listeners: Sequence[socket.socket], factory: Callable[[], asyncio.Protocol]
) -> list[asyncio.Server]:
    """Accept connections on *listeners*, each with a protocol from *factory*."""
    loop = asyncio.get_running_loop()
    return [
        await loop.create_unix_server(factory, sock=listener, backlog=BACKLOG)
        if listener.family == socket.AF_UNIX
        else await loop.create_server(factory, sock=listener, backlog=BACKLOG)
        for listener in listeners
    ]


def peer_uid(transport: asyncio.Transport) -> int | None:
    """Return the user id at the other end of a Unix socket, `None` over TCP."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(credentials)[1]
    return uid

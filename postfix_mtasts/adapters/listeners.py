"""Listening sockets: bound here or handed over by systemd, Unix and TCP.

A Unix socket left behind by a process that died is replaced; one on which
somebody still listens is not: two daemons on one path would leave Postfix with
the one that knows less.  Sockets handed over by systemd are taken as they are,
sd_listen_fds(3).

Connections are accepted here, not by asyncio's servers: uvloop's ends for good
at an error of accept(2) that it does not know, and from Python 3.13 on both
remove a Unix socket when they end, even one that systemd still listens on.

BUGS: a Unix socket stays behind when the process ends; the next start replaces it.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from struct import Struct
from typing import NoReturn

from postfix_mtasts.adapters.stale_socket import remove_stale
from postfix_mtasts.core.endpoints import Listen, build_listen
from postfix_mtasts.core.errors import ConfigError

log = logging.getLogger(__name__)

BACKLOG = 4096
FIRST_FD = 3  # SD_LISTEN_FDS_START
EVERYONE = 0o666  # Postfix's smtp(8) runs as a user of its own
RETRY_SECONDS = 0.5  # after accept(2) failed, as it does for lack of file descriptors
_UCRED = Struct("iII")  # pid, uid, gid: unix(7)


def bind(listen: Listen) -> socket.socket:
    """Return a socket listening as *listen* says, a Unix socket open to every local user.

    Raises ConfigError where that is not possible, such as when another process
    listens there.
    """
    try:
        if listen.kind == "unix":
            return _bind_unix(listen.path)
        return _bind_inet(listen.host, listen.port)
    except OSError as error:
        raise ConfigError(f"cannot listen on {build_listen(listen)}: {_words(error)}") from None


def _words(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there"
    # create_server adds the address, which is said already.
    return str(error.strerror or error).partition(" (while")[0]


def inherited(environment: Mapping[str, str]) -> list[socket.socket]:
    """Return the stream sockets that systemd handed over (socket activation)."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(environment.get("LISTEN_FDS", "0"))
    return [_adopt(fd) for fd in range(FIRST_FD, FIRST_FD + count)]


def _adopt(fd: int) -> socket.socket:
    adopted = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)  # noqa: FBT003 - os has no other way to say it
    return _prepared(adopted)


def _prepared(listener: socket.socket) -> socket.socket:
    """Return *listener* as the event loop wants it."""
    listener.settimeout(0)
    if listener.family != socket.AF_UNIX:
        # Inherited by what is accepted; asyncio sets it on sockets of its own making alone.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _bind_unix(path: str) -> socket.socket:
    remove_stale(path, socket.SOCK_STREAM)
    Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        Path(path).chmod(EVERYONE)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return _prepared(listener)


def _bind_inet(host: str, port: int) -> socket.socket:
    listener = socket.create_server(
        (host, port),
        family=socket.AF_INET6 if ":" in host else socket.AF_INET,
        backlog=BACKLOG,
    )
    return _prepared(listener)


async def accept(listener: socket.socket, factory: Callable[[], asyncio.Protocol]) -> NoReturn:
    """Accept connections on *listener*, each with a protocol from *factory*.

    Only being cancelled ends it, which closes *listener*.
    """
    loop = asyncio.get_running_loop()
    with listener:
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
                await loop.connect_accepted_socket(factory, connection)
            except OSError as error:
                log.warning("cannot accept a connection: %s", _words(error))
                await asyncio.sleep(RETRY_SECONDS)


def peer_uid(transport: asyncio.Transport) -> int | None:
    """Return the user id at the other end of a Unix socket, `None` over TCP."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(credentials)[1]
    return uid

"""A question to the running daemon, over its socketmap sockets.

The other side of what Postfix does (socketmap_table(5)): one connection, one
request, one reply.  It blocks, for the commands have nothing else to do.

LIMITS: a reply may have `MAX_REPLY_BYTES`.

BUGS: looking up the name of an "inet" socket is not under the time-out.
"""

import socket
import time
from collections.abc import Sequence

from postfix_mtasts.core.endpoints import Listen, build_listen
from postfix_mtasts.core.errors import MtastsError, ParseError
from postfix_mtasts.core.netstring import Decoder, build_netstring
from postfix_mtasts.core.socketmap import Reply, Request, build_request, parse_reply

MAX_REPLY_BYTES = 1_000_000  # more than Postfix reads, so that the limit is never the daemon's
_CHUNK = 65536


class DaemonError(MtastsError):
    """No reply was to be had; says of each socket why, and what to look at.

    *why*: of the last socket, without its name.
    """

    def __init__(self, message: str, why: str = "") -> None:
        super().__init__(message)
        self.why = why


def ask(listens: Sequence[Listen], map_name: str, key: bytes, timeout: float) -> Reply:
    """Return the reply to *key* in *map_name* from the first of *listens* that gives one.

    *timeout*: seconds for all of them together.  Raises `DaemonError`.
    """
    request = build_netstring(build_request(Request(map=map_name, key=key)))
    ends = time.monotonic() + timeout
    faults, last = [], ""
    for listen in listens:
        try:
            return _ask_at(listen, request, ends)
        except (OSError, ParseError) as error:
            last = _reason(error)
            faults.append(f"{build_listen(listen)}: {last}")
    why = "; ".join(faults) or "no socket to ask at"
    raise DaemonError(f"cannot ask the daemon ({why}); is postfix-mtasts.service running?", last)


def _ask_at(listen: Listen, request: bytes, ends: float) -> Reply:
    """Raise OSError, also when time is up, and ParseError for what is no reply."""
    with _connect(listen, ends) as connection:
        connection.settimeout(_left(ends))
        connection.sendall(request)
        decoder = Decoder(MAX_REPLY_BYTES)
        while (payload := decoder.next()) is None:
            connection.settimeout(_left(ends))
            data = connection.recv(_CHUNK)
            if not data:
                raise ConnectionError("closed without an answer")
            decoder.feed(data)
    return parse_reply(payload)


def _connect(listen: Listen, ends: float) -> socket.socket:
    if listen.kind == "inet":
        return socket.create_connection((listen.host, listen.port), _left(ends))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(ends))
        connection.connect(listen.path)
    except OSError:
        connection.close()
        raise
    return connection


def _left(ends: float) -> float:
    """Return the seconds until *ends*; raises TimeoutError where there are none."""
    seconds = ends - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


def _reason(error: OSError | ParseError) -> str:
    return getattr(error, "strerror", None) or str(error)

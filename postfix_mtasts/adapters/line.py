"""A TCP connection to one of several addresses, which another thread can cut.

A blocking call in a thread cannot be cancelled, and a time-out of the socket
counts anew with every byte that a slow server sends.  So the thread dials, and
whoever waits for it cuts: the socket is shut down under the thread, whose call
then returns at once, be it in connect(), the TLS handshake or a read.

Addresses are tried in their order, each with its share of the time, so that a
dead one leaves some to the next.  Nothing is resolved here.

All that is received is counted below TLS, whose own messages have no end
either; what is sent beyond `MAX_BYTES` ends the line.

BUGS: no happy eyeballs (RFC 8305): a dead first address costs up to
`CONNECT_SECONDS` before the second is tried.
"""

import contextlib
import errno
import os
import socket
import threading
import time

from postfix_mtasts.core.errors import MtastsError
from postfix_mtasts.core.mta_sts import MAX_POLICY_BYTES

MAX_ADDRESSES = 3  # tried of one host: a thread is held meanwhile, and we are no port scanner
CONNECT_SECONDS = 5.0  # for one address: TCP has sent its SYN three times by then
MAX_BYTES = MAX_POLICY_BYTES + 96 * 1024  # received: certificates, headers and chunks have the rest
_OUT_OF_SOCKETS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class LineError(MtastsError):
    """No address could be reached, or too much came from it; the text says why."""


class Line:
    """One connection, to be dialled once, in one thread, and cut from any.

    *addresses*: IPv4 or IPv6, numeric, of which `MAX_ADDRESSES` are tried.
    *seconds*: for all that is to happen on the line, counted from now; `dial`
    keeps to it by itself, the rest is up to whoever cuts.
    """

    def __init__(self, host: str, addresses: tuple[str, ...], port: int, seconds: float) -> None:
        self.host = host
        self.seconds = seconds
        self.address = ""  # the one last dialled
        self.ours = False  # whether a failure is our own: says nothing of the host
        self._addresses = _choose(addresses)
        self._port = port
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cut = False
        self._held: socket.socket | None = None

    @property
    def where(self) -> str:
        """The host with the address last dialled: "mta-sts.example.com [192.0.2.1]"."""
        return f"{self.host} [{self.address}]" if self.address else self.host

    def dial(self) -> socket.socket:
        """Return a socket connected to the first address that answers.

        The caller closes both it and the line.  Raises `LineError` where none
        answers in time, or after `cut`; so does the socket's recv(), by which
        alone it may be read, beyond `MAX_BYTES`.

        A line that nobody had time for in the first half of its own is not
        dialled at all: what would fail for want of the rest is our failure.
        """
        failed = []
        if self._deadline - time.monotonic() <= self.seconds / 2:
            self.ours = True
            raise LineError(f"{self.host}: not tried, too many fetches at once")
        for tried, address in enumerate(self._addresses):
            left = self._deadline - time.monotonic()
            share = min(CONNECT_SECONDS, left / (len(self._addresses) - tried))
            if share <= 0:
                break
            try:
                return self._connect(address, share)
            except OSError as error:
                failed.append(f"[{address}]: {words_of(error)}")
                if error.errno in _OUT_OF_SOCKETS:
                    self.ours = True
                    break
        raise LineError(f"{self.host} {', '.join(failed) or 'has no address'}")

    def cut(self) -> None:
        """End all that happens on the line, now and later; harmless when repeated."""
        with self._lock:
            self._cut = self.ours = True
            if self._held is not None:
                with contextlib.suppress(OSError):  # it may not be connected any more, or yet
                    self._held.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket; the connection ends once `dial`'s is closed too."""
        with self._lock:
            if self._held is not None:
                self._held.close()
            self._held = None

    def _connect(self, address: str, seconds: float) -> socket.socket:
        """Return a socket connected to *address*, or raise `OSError` or `LineError`."""
        self.address = address
        family = socket.AF_INET6 if _is_ipv6(address) else socket.AF_INET
        sock = _Bounded(family, socket.SOCK_STREAM)
        try:
            self._hold(sock)
            sock.settimeout(seconds)
            sock.connect((address, self._port))
            self._refuse_if_cut()  # connect() takes a socket shut down before for connected
        except BaseException:
            sock.close()
            raise
        sock.settimeout(self.seconds)
        sock.where = self.where
        return sock

    def _hold(self, sock: socket.socket) -> None:
        """Keep a duplicate of *sock* to cut it by, which nobody else closes meanwhile."""
        self.close()
        with self._lock:
            self._held = sock.dup()
        self._refuse_if_cut()

    def _refuse_if_cut(self) -> None:
        if self._cut:
            raise LineError(f"{self.where}: cut off")


def _choose(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first few of *addresses*, with one of either kind: we may lack the other."""
    few = addresses[:MAX_ADDRESSES]
    kinds = {_is_ipv6(address) for address in few}
    others = [address for address in addresses if _is_ipv6(address) not in kinds]
    return (*few[:-1], others[0]) if others else few


def _is_ipv6(address: str) -> bool:
    return ":" in address


class _Bounded(socket.socket):
    """A socket that receives `MAX_BYTES` and no more."""

    where = ""
    _left = MAX_BYTES

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return what came, or raise `LineError` where it was too much."""
        data = super().recv(min(bufsize, self._left + 1), flags)
        self._left -= len(data)
        if self._left < 0:
            limit = MAX_BYTES // 1024
            raise LineError(f"{self.where}: more than {limit} KiB were sent for one policy")
        return data


def words_of(error: OSError) -> str:
    """Return what the system says of *error*, such as "connection refused"."""
    if isinstance(error, TimeoutError) or error.errno is None:
        return "no answer in time"
    words = os.strerror(error.errno)
    return words[:1].lower() + words[1:]

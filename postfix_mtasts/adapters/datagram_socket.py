"""The socket to which Postfix >= 3.10 writes about each TLS session, emptied by a thread.

libtlsrpt sends and never waits: what the kernel's queue has no room for
(``net.unix.max_dgram_qlen``, 10 by default, 512 with systemd) is lost, and Postfix
logs that.  So a thread does nothing but receive, whatever the rest is busy with.
Most datagrams are the same octets as others: they are counted, and only what is
new is kept.  Where more is kept than `MAX_KEPT` the thread waits until it was taken:
then the queue fills up, Postfix logs what it could not send, and the log counts it.

The socket is bound here, or handed over by systemd, whose queue outlives a restart.
Everyone may write to it: Postfix's smtp(8) runs as a user of its own.  One left
behind by a process that died is replaced; one that somebody receives from is not.

BUGS: what was received and not stored is lost by `kill -9`: about a second's.
"""

import errno
import logging
import math
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from struct import Struct
from typing import Final

from postfix_mtasts.adapters.datagram_batch import BATCH, DatagramBatch
from postfix_mtasts.adapters.listeners import EVERYONE, FIRST_FD
from postfix_mtasts.adapters.stale_socket import remove_stale
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.tlsrpt_datagram import MAX_DATAGRAM
from postfix_mtasts.core.utc import day_of, day_start
from postfix_mtasts.ports import Received

log = logging.getLogger(__name__)

MAX_KEPT: Final = 64 << 20
"""Octets of memory of the datagrams that are kept until they are taken, roughly."""

OVERHEAD: Final = 200
"""Octets of memory of an empty one; a local user may send nothing but such."""

_WAKE_MICROSECONDS: Final = 200_000  # after which the thread looks whether it is to end
_TIMEVAL: Final = Struct("ll")
_FASTEST: Final = 20_000  # datagrams a second for which the queue has room while the thread rests
_SWITCH_SECONDS: Final = 0.0005  # Python's own 0.005 are 20 datagrams, several times over
_LONGEST_REST: Final = 0.02  # seconds
_QUEUE: Final = Path("/proc/sys/net/unix/max_dgram_qlen")
_ERROR_SECONDS: Final = 0.5  # after an error of recv(2), lest it repeats at full speed


def bind(path: str) -> socket.socket:
    """Return the socket at *path*, open to every local user.

    Raises ConfigError where that is not possible, such as when another process
    receives there.
    """
    try:
        remove_stale(path, socket.SOCK_DGRAM)
        Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            bound.bind(path)
            Path(path).chmod(EVERYONE)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ConfigError(f"cannot receive at {path}: {_words(error)}") from None
    return bound


def inherited(environment: Mapping[str, str]) -> list[socket.socket]:
    """Return the sockets that systemd handed over (sd_listen_fds(3)).

    Raises ConfigError where one is no datagram socket.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(environment.get("LISTEN_FDS", "0"))
    return [_adopt(descriptor) for descriptor in range(FIRST_FD, FIRST_FD + count)]


def _adopt(descriptor: int) -> socket.socket:
    adopted = socket.socket(fileno=descriptor)
    adopted.set_inheritable(False)
    if adopted.type != socket.SOCK_DGRAM or adopted.family != socket.AF_UNIX:
        adopted.close()
        raise ConfigError("systemd handed over a socket that is none for datagrams")
    return adopted


def _words(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process receives there"
    return str(error.strerror or error)


class DatagramSocket:
    """Receives at *bound* from now on; a `DatagramSource`.

    *most*: octets of memory that are kept until they are taken.
    """

    def __init__(
        self,
        bound: socket.socket,
        *,
        clock: Callable[[], float] = time.time,
        most: int = MAX_KEPT,
    ) -> None:
        self.name = f"datagram:{bound.getsockname()}"
        self._socket = bound
        self._clock = clock
        self._most = most
        self._kept: list[tuple[float, Counter[bytes]]] = []
        self._octets = 0
        self._lock = threading.Lock()
        self._room = threading.Event()
        self._room.set()
        self._ending = False
        self._midnight = -math.inf
        # Not Python's own time-out, which would ask poll(2) before each datagram.
        bound.settimeout(None)
        bound.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(0, _WAKE_MICROSECONDS)
        )
        sys.setswitchinterval(
            _SWITCH_SECONDS
        )  # of the process: whoever counts has time, this has not
        self._thread = threading.Thread(target=self._receive, name=self.name, daemon=True)
        self._thread.start()

    def take(self) -> list[Received]:
        """Return what came since it was last asked."""
        with self._lock:
            kept, self._kept, self._octets = self._kept, [], 0
            self._room.set()
        return [
            Received(when=when, data=data, count=count)
            for when, counts in kept
            for data, count in counts.items()
        ]

    def close(self) -> None:
        """Receive what is in the queue, and no more; let go of the socket."""
        self._ending = True
        self._room.set()
        self._thread.join()
        self._empty_queue()
        self._socket.close()

    def _receive(self) -> None:
        batch = DatagramBatch(MAX_DATAGRAM + 1)  # one more than is read: a cut one is seen
        rest = _rest()
        while not self._ending:
            try:
                came = batch.receive(self._socket)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                log.warning("%s: cannot receive: %s", self.name, _words(error))
                time.sleep(_ERROR_SECONDS)
                continue
            self._keep(came)
            self._room.wait()
            if len(came) < BATCH:
                time.sleep(rest)  # waking up costs more than all else: let some come together

    def _empty_queue(self) -> None:
        """Keep what is in the queue already, as much as there is room for."""
        self._socket.settimeout(0)
        try:
            while self._octets <= self._most:
                self._keep([self._socket.recv(MAX_DATAGRAM + 1)])
        except OSError:
            return

    def _keep(self, came: Sequence[bytes]) -> None:
        now = self._clock()
        with self._lock:
            if not self._kept or now >= self._midnight:
                self._kept.append((now, Counter()))
                self._midnight = day_start(day_of(now) + 1)
            counts = self._kept[-1][1]
            for data in came:
                if data not in counts:
                    self._octets += len(data) + OVERHEAD
                counts[data] += 1
            if self._octets > self._most:
                self._room.clear()


def queue_length() -> int | None:
    """Return how many datagrams the kernel keeps of a socket bound now, `None` if it hides that."""
    try:
        return int(_QUEUE.read_text())
    except (OSError, ValueError):
        return None


def _rest() -> float:
    """Return for how many seconds the kernel's queue can be left alone."""
    return min(_LONGEST_REST, (queue_length() or 0) / _FASTEST)

"""Which logs and sockets a collector reads, and how they are opened.

Each session is to be counted once.  One Postfix writes the same lines to the journal
and, by way of a syslog daemon, to files: so the journal and a file together are
refused, and one file under two names.  Several files are right where several Postfix
instances write one each (``maillog_file``).  "auto" looks for a log only where none is
named; it always receives at the usual place, if that is there.

BUGS: two files into which a syslog daemon writes the same lines cannot be told from
those of two instances, and count twice.
"""

import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from postfix_mtasts.adapters import datagram_socket, log_rotation
from postfix_mtasts.adapters.journal import MAIL, Journal, find_journalctl
from postfix_mtasts.adapters.log_discovery import find_log, postconf
from postfix_mtasts.adapters.log_files import LogFile
from postfix_mtasts.adapters.log_stream import LogStream
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.core import endpoints
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.ports import EventSource

log = logging.getLogger("postfix_mtasts")

DATAGRAMS: Final = "/var/spool/postfix/postfix-mtasts/tlsrpt.sock"
"""Where "auto" receives, if the package has made the folder."""

ENOUGH_QUEUE: Final = 512  # datagrams: what systemd sets
_FACILITIES: Final = {"user": "1", "mail": MAIL, "daemon": "3"} | {
    f"local{number}": str(16 + number) for number in range(8)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How logs are read; *year*: of stamps that have none."""

    follow: bool
    own_senders: tuple[str, ...]
    year: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The sources to read; *sockets*: paths, of which `DATAGRAMS` alone one can do without."""

    logs: tuple[endpoints.EventSource, ...]
    sockets: tuple[str, ...]


def choose(
    configured: Sequence[endpoints.EventSource],
    *,
    handed: Sequence[str] = (),
    find: Callable[[], endpoints.EventSource | None] = find_log,
) -> Chosen:
    """Return what *configured* comes to on this host; *handed*: sockets that systemd bound.

    Raises ConfigError where sessions would count twice.
    """
    logs = [source for source in configured if source.kind in {"journal", "file"}]
    auto = any(source.kind == "auto" for source in configured)
    if auto and not logs:
        found = find()
        logs = [] if found is None else [found]
    _refuse_twins(logs)
    sockets = [*handed, *(source.path for source in configured if source.kind == "datagram")]
    if auto and not handed:
        sockets.append(DATAGRAMS)
    return Chosen(logs=tuple(logs), sockets=tuple(dict.fromkeys(sockets)))


def _refuse_twins(logs: Sequence[endpoints.EventSource]) -> None:
    kinds = {source.kind for source in logs}
    if len(kinds) > 1:
        raise ConfigError(
            "tlsrpt.sources: the journal has the lines of log files as well, and each session "
            'would be counted twice: name "journal" or files, not both'
        )
    places: dict[str, endpoints.EventSource] = {}
    for source in logs:
        other = places.setdefault(str(Path(source.path).resolve()), source)
        if other is not source:
            names = " and ".join(map(endpoints.build_event_source, (other, source)))
            raise ConfigError(f"tlsrpt.sources: {names} are the same: name one of them")


def open_log(source: endpoints.EventSource, reading: Reading) -> EventSource:
    """Return the log *source*, the journal or a file; raises ConfigError."""
    if source.kind == "file":
        return _file(source.path, reading)
    program = find_journalctl()
    if program is None:
        raise ConfigError("tlsrpt.sources: there is no journalctl on this host")
    facility = _FACILITIES.get(postconf("syslog_facility"), MAIL)
    return Journal(
        [program], follow=reading.follow, own_senders=reading.own_senders, facility=facility
    )


def open_named(name: str, reading: Reading) -> EventSource:
    """Return the log that ``--log`` names; raises CommandError where there is none."""
    if name == "-":
        return _stream(sys.stdin.fileno(), reading)
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116 - a name, of whatever it is
        if stat.S_ISFIFO(mode):
            return _stream(os.open(name, os.O_RDONLY), reading)
        log_rotation.open_log(Path(name)).close()
    except OSError as error:
        raise CommandError(ExitStatus.USAGE, f"{name}: {error.strerror}") from None
    return _file(os.path.abspath(name), reading)  # noqa: PTH100 - links stay: rotation is by name


def _file(path: str, reading: Reading) -> EventSource:
    return LogFile(
        Path(path), follow=reading.follow, own_senders=reading.own_senders, year=reading.year
    )


def _stream(descriptor: int, reading: Reading) -> EventSource:
    return LogStream(descriptor, own_senders=reading.own_senders, year=reading.year)


def bind_sockets(chosen: Chosen, bound: Collection[str]) -> list[socket.socket]:
    """Return those sockets of *chosen* that are not *bound* yet.

    Raises ConfigError, with none of them bound.
    """
    opened: list[socket.socket] = []
    try:
        for path in chosen.sockets:
            if path not in bound:
                opened += _bind(path)
    except ConfigError:
        for each in opened:
            each.close()
        raise
    return opened


def _bind(path: str) -> list[socket.socket]:
    """Return the socket at *path*; none at the usual place if that cannot be had.

    Postfix may know nothing of it, and only the package makes its folder.
    """
    if path != DATAGRAMS:
        return [datagram_socket.bind(path)]
    try:
        return [datagram_socket.bind(path)] if os.access(Path(path).parent, os.W_OK) else []
    except ConfigError as error:
        log.warning("%s", error)
        return []


def warn_of_short_queue() -> None:
    """Say how to make the kernel's queue of datagrams longer where it is short."""
    length = datagram_socket.queue_length()
    if length is not None and length < ENOUGH_QUEUE:
        log.warning(
            "net.unix.max_dgram_qlen is %d: of datagrams that come at once, more are lost. "
            "Mend: sysctl -w net.unix.max_dgram_qlen=%d, also in /etc/sysctl.d, then restart",
            length,
            ENOUGH_QUEUE,
        )

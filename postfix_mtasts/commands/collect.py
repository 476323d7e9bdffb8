"""The verb `collect`: counts TLS sessions for the reports, in the foreground.

It follows the sources that the configuration names until SIGTERM, which writes what
is pending.  With ``--log`` it reads that file, or standard input for ``-``, instead.
``--once`` reads what there is, and prints a line that says what that was.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from postfix_mtasts.adapters import datagram_socket
from postfix_mtasts.adapters.datagram_socket import DatagramSocket
from postfix_mtasts.adapters.journal import Journal, find_journalctl
from postfix_mtasts.adapters.log_discovery import find_log, postconf
from postfix_mtasts.adapters.log_files import LogFile
from postfix_mtasts.adapters.log_stream import LogStream
from postfix_mtasts.adapters.policies_in_force import PoliciesOfDaemon
from postfix_mtasts.adapters.systemd import Notifier, log_formatter
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME, SqliteTlsrptStore
from postfix_mtasts.commands.configuration import Source
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.commands.terminal import result
from postfix_mtasts.config import Config
from postfix_mtasts.core import endpoints
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.ports import EventSource
from postfix_mtasts.services.collector import Collector, SourceCounter
from postfix_mtasts.services.datagram_counter import DatagramCounter
from postfix_mtasts.services.log_counter import LogCounter

log = logging.getLogger("postfix_mtasts")

DATAGRAMS: Final = "/var/spool/postfix/postfix-mtasts/tlsrpt.sock"
"""Where "auto" receives, if the package has made the folder."""

IDLE_SECONDS: Final = 0.25  # between two looks at logs in which there was nothing new
STATUS_SECONDS: Final = 10.0
WATCHDOG_SECONDS: Final = 1.0
_FACILITIES: Final = {"user": "1", "mail": "2", "daemon": "3"} | {
    f"local{number}": str(16 + number) for number in range(8)
}


def run(args: argparse.Namespace) -> int:
    """Collect until told to stop, or once; return the exit status."""
    source = Source.from_arguments(args)
    config = source.load()
    _start_log(config)
    if not config.tlsrpt.enabled:
        raise ConfigError("tlsrpt.enabled is false: there is nothing to collect for")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    sidecar = _Sidecar(config, args)
    return sidecar.once(stop) if args.once else sidecar.follow(stop)


def _start_log(config: Config) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(log_formatter())
    logging.basicConfig(handlers=[handler], level=config.logging.level.upper(), force=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """How logs are read."""

    follow: bool
    own_senders: tuple[str, ...]
    year: int | None


class _Sidecar:
    """Everything that lives as long as the process does.

    Raises ConfigError where *config* names what cannot be used.
    """

    def __init__(self, config: Config, args: argparse.Namespace) -> None:
        state = Path(config.store.url.path)
        self._store = SqliteTlsrptStore(state.with_name(FILE_NAME))
        self._policies = PoliciesOfDaemon(state)
        own = (config.tlsrpt.sender,) if config.tlsrpt.sender else ()
        self._reading = _Reading(follow=not args.once, own_senders=own, year=args.year)
        self._notifier = Notifier()
        self._logs: list[LogCounter] = []
        self._sockets: list[DatagramCounter] = []
        if args.log is not None:
            self._add_log(self._named(args.log))
        else:
            self._add_sources(config)
        sources: list[SourceCounter] = [*self._sockets, *self._logs]
        if not sources:
            raise ConfigError("no mail log was found: name it in tlsrpt.sources")
        self._names = ", ".join(source.name for source in sources)
        self._collector = Collector(sources, store=self._store, ticks=time.monotonic)

    def once(self, stop: threading.Event) -> int:
        """Read what there is; return the exit status."""
        log.info("reading %s", self._names)
        unread = ""
        while not stop.is_set() and not all(each.ended for each in self._logs):
            if not self._collector.turn():
                if self._store.problem:
                    unread = f"not all was read: {self._store.problem}"
                    break
                stop.wait(IDLE_SECONDS)
        self._end()
        if unread:
            raise CommandError(ExitStatus.LATER, unread)
        result(self._summary())
        return ExitStatus.WELL

    def follow(self, stop: threading.Event) -> int:
        """Collect until *stop*; return the exit status."""
        self._notifier.ready(self._collector.status())
        log.info("collecting from %s", self._names)
        told = alive = 0.0
        while not stop.is_set():
            more = self._collector.turn()
            now = time.monotonic()
            if now - alive >= WATCHDOG_SECONDS:
                self._notifier.alive()
                alive = now
            if now - told >= STATUS_SECONDS:
                self._notifier.status(self._collector.status())
                told = now
            if not more:
                stop.wait(IDLE_SECONDS)
        self._notifier.stopping()
        self._end()
        log.info("stopped")
        return ExitStatus.WELL

    def _end(self) -> None:
        well = self._collector.close()
        self._policies.close()
        if not well:
            raise CommandError(ExitStatus.LATER, f"not all was stored: {self._store.problem}")

    def _summary(self) -> str:
        lines = sum(each.lines for each in self._logs)
        datagrams = sum(each.received for each in self._sockets)
        return f"{lines} lines and {datagrams} datagrams read; {self._collector.status()}"

    def _add_sources(self, config: Config) -> None:
        handed = datagram_socket.inherited(os.environ)
        for each in handed:
            self._add_socket(each)
        for configured in config.tlsrpt.sources:
            self._add(configured, handed)

    def _add(self, configured: endpoints.EventSource, handed: Sequence[socket.socket]) -> None:
        match configured.kind:
            case "auto":
                if not handed:
                    self._add_usual_socket()
                found = find_log()
                if found is not None:
                    self._add(found, handed)
            case "journal":
                self._add_log(self._journal())
            case "file":
                self._add_log(self._file(configured.path))
            case "datagram":
                if configured.path not in [each.getsockname() for each in handed]:
                    self._add_socket(datagram_socket.bind(configured.path))

    def _add_usual_socket(self) -> None:
        """Receive at the usual place, if there is one: Postfix may know nothing of it."""
        if os.access(Path(DATAGRAMS).parent, os.W_OK):
            try:
                self._add_socket(datagram_socket.bind(DATAGRAMS))
            except ConfigError as error:
                log.warning("%s", error)

    def _add_socket(self, bound: socket.socket) -> None:
        received = DatagramSocket(bound)
        self._sockets.append(DatagramCounter(received, store=self._store, policies=self._policies))

    def _add_log(self, source: EventSource) -> None:
        self._logs.append(
            LogCounter(
                source,
                store=self._store,
                policies=self._policies,
                own_senders=self._reading.own_senders,
            )
        )

    def _named(self, name: str) -> EventSource:
        """Return the log that ``--log`` names; raises CommandError where there is none."""
        if name == "-":
            reading = self._reading
            return LogStream(sys.stdin.fileno(), own_senders=reading.own_senders, year=reading.year)
        try:
            Path(name).open("rb").close()
        except OSError as error:
            raise CommandError(ExitStatus.USAGE, f"{name}: {error.strerror}") from None
        return self._file(os.path.abspath(name))  # noqa: PTH100 - links stay: rotation is by name

    def _file(self, path: str) -> EventSource:
        reading = self._reading
        return LogFile(
            Path(path),
            follow=reading.follow,
            own_senders=reading.own_senders,
            year=reading.year,
        )

    def _journal(self) -> EventSource:
        program = find_journalctl()
        if program is None:
            raise ConfigError("tlsrpt.sources: there is no journalctl on this host")
        return Journal(
            [program],
            follow=self._reading.follow,
            own_senders=self._reading.own_senders,
            facility=_FACILITIES.get(postconf("syslog_facility"), _FACILITIES["mail"]),
        )

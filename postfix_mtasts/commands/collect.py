"""The verb `collect`: counts TLS sessions for the reports, in the foreground.

It follows the sources that the configuration names until SIGTERM, which writes what
is pending.  With ``--log`` it reads that file, or standard input for ``-``, instead.
``--once`` reads what there is, and prints a line that says what that was.

SIGHUP reads the configuration again and opens the logs anew; one that is bad is
refused and logged, and the old one stays in force.  The store is that of the start,
and so are the sockets that systemd handed over, and what ``--log`` names.

Where `tlsrpt.enabled` is false it rests (see `collect_resting`) until SIGHUP.
"""

import argparse
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Final

from postfix_mtasts.adapters import datagram_socket, log_stream
from postfix_mtasts.adapters.datagram_socket import DatagramSocket
from postfix_mtasts.adapters.journal_log import log_handler
from postfix_mtasts.adapters.policies_in_force import PoliciesOfDaemon
from postfix_mtasts.adapters.systemd import Notifier
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME, SqliteTlsrptStore
from postfix_mtasts.commands import event_sources
from postfix_mtasts.commands.collect_resting import rest
from postfix_mtasts.commands.configuration import Source
from postfix_mtasts.commands.event_sources import Reading
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.commands.terminal import result
from postfix_mtasts.config import Config
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.ports import EventSource
from postfix_mtasts.services.collector import Collector, SourceCounter
from postfix_mtasts.services.datagram_counter import DatagramCounter
from postfix_mtasts.services.log_counter import LogCounter

log = logging.getLogger("postfix_mtasts")

IDLE_SECONDS: Final = 0.25  # between two looks at logs in which there was nothing new
STATUS_SECONDS: Final = 10.0
WATCHDOG_SECONDS: Final = 1.0


def run(args: argparse.Namespace) -> int:
    """Collect until told to stop, or once; return the exit status."""
    source = Source.from_arguments(args)
    config = source.load()
    _start_log(config)
    stop, again = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    if args.once:
        return _Sidecar(_wanted(config), args).once(stop)
    signal.signal(signal.SIGHUP, lambda _number, _frame: again.set())
    counting = config if config.tlsrpt.enabled else rest(source, stop, again)
    return (
        ExitStatus.WELL
        if counting is None
        else _Sidecar(counting, args).follow(stop, again, source)
    )


def _wanted(config: Config) -> Config:
    if not config.tlsrpt.enabled:
        raise ConfigError("tlsrpt.enabled is false: there is nothing to collect for")
    return config


def _start_log(config: Config) -> None:
    logging.basicConfig(handlers=[log_handler()], level=config.logging.level.upper(), force=True)


class _Sidecar:
    """Everything that lives as long as the process does.

    Raises ConfigError where *config* names what cannot be used.
    """

    def __init__(self, config: Config, args: argparse.Namespace) -> None:
        state = Path(config.store.url.path)
        self._args = args
        self._config = config
        self._store = SqliteTlsrptStore(state.with_name(FILE_NAME))
        self._policies = PoliciesOfDaemon(state)
        self._notifier = Notifier()
        self._logs: list[LogCounter] = []
        self._sockets: dict[str, DatagramCounter] = {}
        self._handed: tuple[str, ...] = ()
        self._collector = Collector(store=self._store, ticks=time.monotonic, clock=time.time)
        if args.log is not None:
            reading = self._reading(config)
            self._adopt([event_sources.open_named(args.log, reading)], reading)
            return
        handed = datagram_socket.inherited(os.environ)
        self._handed = tuple(str(each.getsockname()) for each in handed)
        for each in handed:
            self._add_socket(each)
        self._choose(config)
        if self._sockets:
            event_sources.warn_of_short_queue()

    def once(self, stop: threading.Event) -> int:
        """Read what there is; return the exit status."""
        log.info("reading %s", self._names())
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

    def follow(self, stop: threading.Event, again: threading.Event, source: Source) -> int:
        """Collect until *stop*, by a new configuration after *again*; return the exit status."""
        self._notifier.ready(self._collector.status())
        log.info("collecting from %s", self._names())
        told = alive = 0.0
        while not stop.is_set():
            if again.is_set() and self._is_stored():
                again.clear()  # the logs go on from where that ends
                self._read_again(source)
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

    def _is_stored(self) -> bool:
        """Store what was counted; return whether that went well, whatever is still in doubt."""
        return not self._store.problem and (self._collector.write() or not self._store.problem)

    def _read_again(self, source: Source) -> None:
        self._notifier.reloading()
        try:
            config = source.load()
            if self._args.log is None:
                self._choose(config)
        except ConfigError as error:
            log.error("the new configuration is refused, the old one stays: %s", error)  # noqa: TRY400 - the operator's mistake, no traceback
        else:
            if config.store != self._config.store:
                log.warning("a change of store waits for a restart")
            if not config.tlsrpt.enabled:
                log.warning("tlsrpt.enabled is false: that waits for a restart")
            logging.getLogger().setLevel(config.logging.level.upper())
            log.info("configuration read again: collecting from %s", self._names())
        self._notifier.ready(self._collector.status())

    def _choose(self, config: Config) -> None:
        """Read what *config* names from now on; raises ConfigError and changes nothing."""
        reading = self._reading(config)
        chosen = event_sources.choose(config.tlsrpt.sources, handed=self._handed)
        logs = [event_sources.open_log(each, reading) for each in chosen.logs]
        bound = event_sources.bind_sockets(chosen, self._sockets)
        kept = {path: each for path, each in self._sockets.items() if path in chosen.sockets}
        if not (logs or bound or kept):
            raise ConfigError("no mail log was found: name it in tlsrpt.sources")
        self._sockets = kept
        for each in bound:
            self._add_socket(each)
        self._adopt(logs, reading)

    def _adopt(self, logs: list[EventSource], reading: Reading) -> None:
        """Go on with *logs* and the sockets, from where each was left."""
        lines = {each.name: each.lines for each in self._logs}
        self._logs = [self._counter(each, reading) for each in logs]
        for each in self._logs:
            each.lines = lines.get(each.name, 0)
        self._collector.adopt([*self._sockets.values(), *self._logs])
        if reading.follow:
            self._store.follow([each.name for each in self._logs if each.name != log_stream.NAME])

    def _reading(self, config: Config) -> Reading:
        own = (config.tlsrpt.sender,) if config.tlsrpt.sender else ()
        return Reading(follow=not self._args.once, own_senders=own, year=self._args.year)

    def _counter(self, source: EventSource, reading: Reading) -> LogCounter:
        return LogCounter(
            source,
            store=self._store,
            policies=self._policies,
            clock=time.time,
            own_senders=reading.own_senders,
        )

    def _add_socket(self, bound: socket.socket) -> None:
        received = DatagramSocket(bound)
        counter = DatagramCounter(received, store=self._store, policies=self._policies)
        self._sockets[str(bound.getsockname())] = counter

    def _names(self) -> str:
        sources: list[SourceCounter] = [*self._sockets.values(), *self._logs]
        return ", ".join(each.name for each in sources)

    def _end(self) -> None:
        well = self._collector.close()
        self._policies.close()
        if not well:
            raise CommandError(ExitStatus.LATER, f"not all was stored: {self._store.problem}")

    def _summary(self) -> str:
        lines = sum(each.lines for each in self._logs)
        datagrams = sum(each.received for each in self._sockets.values())
        read = f"{lines} lines and {datagrams} datagrams read"
        return "; ".join(filter(None, (read, self._collector.trouble())))

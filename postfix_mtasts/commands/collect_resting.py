"""The sidecar where `tlsrpt.enabled` is false: it is up, and counts nothing.

A service that ended would be started again and again, and datagrams that nobody
takes would make Postfix warn: so what systemd's socket receives is thrown away.
"""

import logging
import os
import socket
import threading
from contextlib import suppress
from typing import Final

from postfix_mtasts.adapters import datagram_socket
from postfix_mtasts.adapters.systemd import Notifier
from postfix_mtasts.commands.configuration import Source
from postfix_mtasts.config import Config
from postfix_mtasts.core.errors import ConfigError

log = logging.getLogger("postfix_mtasts")

_WHY: Final = "tlsrpt.enabled is false: nothing is counted"
_TURN_SECONDS: Final = 1.0
_AT_ONCE: Final = 10_000  # datagrams thrown away in one turn, so that no sender keeps us there


def rest(source: Source, stop: threading.Event, again: threading.Event) -> Config | None:
    """Wait until *again* and a configuration that wants sessions counted, and return it.

    `None` after *stop*.  Sockets of systemd stay open for whoever counts.
    """
    notifier = Notifier()
    log.info(_WHY)
    notifier.ready(_WHY)
    handed = datagram_socket.inherited(os.environ)
    try:
        while not stop.is_set():
            for each in handed:
                _throw_away(each)
            if again.is_set():
                again.clear()
                notifier.reloading()
                config = _read_again(source)
                if config is not None:
                    return config
                notifier.ready(_WHY)
            notifier.alive()
            stop.wait(_TURN_SECONDS)
    finally:
        for each in handed:
            each.detach()
    notifier.stopping()
    return None


def _throw_away(received: socket.socket) -> None:
    with suppress(BlockingIOError):
        for _ in range(_AT_ONCE):
            received.recv(1, socket.MSG_DONTWAIT)


def _read_again(source: Source) -> Config | None:
    try:
        config = source.load()
    except ConfigError as error:
        log.error("the new configuration is refused: %s", error)  # noqa: TRY400 - the operator's mistake, no traceback
        return None
    log.info("configuration read again%s", "" if config.tlsrpt.enabled else f": {_WHY}")
    return config if config.tlsrpt.enabled else None

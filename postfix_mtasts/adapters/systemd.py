"""systemd: telling it how the service is, and the form of log lines that it reads.

See sd_notify(3) and sd-daemon(3).  Without systemd all of it does nothing.
"""

import logging
import os
import time
from collections.abc import Mapping

import sdnotify

_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class Notifier:
    """Speaks to the service manager, where there is one, and never waits for it."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._status = ""
        self._notifier = None
        if "NOTIFY_SOCKET" in environment:
            notifier = sdnotify.SystemdNotifier()
            if notifier.socket is not None:  # somebody is there
                notifier.socket.settimeout(0)
                self._notifier = notifier

    def ready(self, status: str) -> None:
        """Say that the service is up, or up again after a reload."""
        self._status = status
        self._say(f"READY=1\nSTATUS={_one_line(status)}")

    def reloading(self) -> None:
        """Say that the configuration is being read anew."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def status(self, status: str) -> None:
        """Give the line that `systemctl status` shows."""
        if status != self._status:
            self._status = status
            self._say(f"STATUS={_one_line(status)}")

    def alive(self) -> None:
        """Keep the watchdog quiet."""
        self._say("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service is about to leave."""
        self._say("STOPPING=1")

    def _say(self, state: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(state)


def _one_line(status: str) -> str:
    """Return *status* without line ends, behind which systemd sees another variable."""
    return " ".join(status.split())


def priority(record: logging.LogRecord) -> int:
    """Return what syslog(3) calls the level of *record*."""
    return _PRIORITIES.get(record.levelno, 6)


class JournalFormatter(logging.Formatter):
    """Lines with the priority that journald takes from their beginning."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of *record*, each of its lines with the priority."""
        prefix = f"<{priority(record)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def log_formatter(environment: Mapping[str, str] = os.environ) -> logging.Formatter:
    """Return the form of log lines: for the journal where it listens, else with the time."""
    if "JOURNAL_STREAM" in environment:
        return JournalFormatter("%(message)s")
    return logging.Formatter("%(asctime)s %(levelname)s %(message)s")

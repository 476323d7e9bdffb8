"""The log, told to systemd's journal with fields, so that it can be asked for them.

::

    journalctl -u postfix-mtasts POSTFIX_MTASTS_DOMAIN=example.com
    journalctl -u postfix-mtasts POSTFIX_MTASTS_LEVEL=temp

An entry is one datagram in the journal's native protocol
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): NAME=VALUE and a line end, or where the
value has line ends the name, its length and the value.  A record's ``extra={"fields":
{"domain": …}}`` becomes POSTFIX_MTASTS_DOMAIN and so on; other names are not told.

Only where stderr is the journal, which JOURNAL_STREAM says (systemd.exec(5)); elsewhere
lines go to stderr.  So does, as a plain line, an entry that cannot be sent: one that is
too long for a datagram, or when the journal is behind or away.  Nothing waits for it:
where a journal that hangs has filled stderr too, lines are lost, and counted.

BUGS: a single line that is too long for a datagram and for what stderr has room for
waits for the journal.
"""

import logging
import os
import select
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from struct import Struct
from typing import Final, TextIO

from postfix_mtasts.adapters.systemd import log_formatter, priority

SOCKET: Final = Path("/run/systemd/journal/socket")
FIELDS: Final = ("domain", "map", "level", "source")
IDENTIFIER: Final = "postfix-mtasts"  # as systemd takes it from the name of the command

_LENGTH: Final = Struct("<Q")


def log_handler(
    environment: Mapping[str, str] = os.environ, *, journal: Path = SOCKET
) -> logging.Handler:
    """Return where the log goes: to the journal where stderr does, else to stderr."""
    stderr = logging.StreamHandler()
    stderr.setFormatter(log_formatter(environment))
    if not _is_journal(environment.get("JOURNAL_STREAM", "")):
        return stderr
    return JournalHandler(journal, stderr)


def _is_journal(stream: str) -> bool:
    """Return whether stderr is *stream*, which is its device and inode."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """Sends records to the socket at *path*, and those that it does not take to *otherwise*."""

    def __init__(self, path: Path, otherwise: "logging.StreamHandler[TextIO]") -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))  # or basicConfig sets one with a prefix
        self._path = str(path)
        self._otherwise = otherwise
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)  # noqa: FBT003 - socket has no other way to say it

    def emit(self, record: logging.LogRecord) -> None:
        """Send *record*."""
        try:
            entry = build_entry(_fields(record, self.format(record)))
        except Exception:  # noqa: BLE001 - a record that cannot be formatted, as in every handler
            self.handleError(record)
            return
        if self._lost and self._send(build_entry(_fields_of_loss(self._lost))):
            self._lost = 0
        if self._send(entry):
            return
        if _has_room(self._otherwise.stream):
            self._otherwise.handle(record)
        else:
            self._lost += 1

    def _send(self, entry: bytes) -> bool:
        """Return whether the journal took *entry*."""
        try:
            self._socket.sendto(entry, self._path)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        super().close()


def _has_room(stream: TextIO) -> bool:
    """Return whether *stream* takes a line at once."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # closed, or no file at all
        return True
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(0))


def build_entry(fields: Mapping[str, str]) -> bytes:
    """Return the datagram of an entry with *fields*."""
    return b"".join(_build_field(name, value) for name, value in fields.items())


def _build_field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return b"%b=%b\n" % (name.encode(), data)
    return b"%b\n%b%b\n" % (name.encode(), _LENGTH.pack(len(data)), data)


def _fields_of_loss(lines: int) -> dict[str, str]:
    text = f"{lines} lines of the log are lost: the journal did not take them"
    record = logging.makeLogRecord({"levelno": logging.WARNING})
    return _fields(record, text)


def _fields(record: logging.LogRecord, text: str) -> dict[str, str]:
    told: Mapping[str, str] = getattr(record, "fields", {})
    return {
        "MESSAGE": text,
        "PRIORITY": str(priority(record)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        **{f"POSTFIX_MTASTS_{name.upper()}": told[name] for name in FIELDS if name in told},
    }

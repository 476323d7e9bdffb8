"""The systemd journal as a log: ``journalctl -o json``, read through a pipe.

The place is the cursor of the last entry that was read, and its time.  Where the
journal has no such entry any more, as after it was vacuumed, reading goes on behind
that time.  Without a place it begins `FIRST` ago: older sessions are reported on no
more; or at the moment, if that is later, up to which another source was read.  The
entries asked for are those of the syslog facility of mail, Postfix's own by default:
whose Postfix uses another has to say so here.

What is there is read to its end before anything is followed: a pipe that is empty for a
moment does not tell whether journalctl(1) has reached the present, its end does.

journalctl(1) is read only when it is this process's turn, so it waits meanwhile and
holds nothing in memory.  If it ends it is started again, after a while.  It does all
that python3-systemd would do here, and is there wherever the journal is.

BUGS: journald drops lines beyond its rate limit (10,000 in 30 s of one service), and
says so in the journal only.
"""

import json
import logging
import os
import re
import select
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

from postfix_mtasts.core.log_line import LogLine, build_journal_filter, parse_journal
from postfix_mtasts.ports import LogRead

log = logging.getLogger(__name__)

FIRST: Final = 2 * 86400  # seconds: reports are sent up to 48 hours late
CHUNK: Final = 1 << 20  # octets read at one go
MAX_ENTRY: Final = 1 << 20  # octets; Postfix's have about 500
RESTART_SECONDS: Final = 5.0
MAIL: Final = "2"  # the syslog facility (RFC 5424 section 6.2.1)

_FIELDS: Final = "MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID,_HOSTNAME"
_CURSOR: Final = re.compile(rb'"__CURSOR" ?: ?"([^"\\]*)"')
_REALTIME: Final = re.compile(rb'"__REALTIME_TIMESTAMP" ?: ?"([0-9]+)"')


def find_journalctl() -> str | None:
    """Return where journalctl(1) is, `None` on hosts without systemd."""
    return shutil.which("journalctl")


class Journal:
    """The journal, an `EventSource`; *program*: journalctl, and options for it.

    *follow*: wait for what is to come, too.
    """

    def __init__(
        self,
        program: Sequence[str],
        *,
        follow: bool,
        own_senders: Collection[str] = (),
        facility: str = MAIL,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = "journal"
        self._program = tuple(program)
        self._follow = follow
        self._facility = facility
        self._clock = clock
        self._ticks = ticks
        self._matters = build_journal_filter(own_senders)
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._overlong = False  # what comes next is the rest of an entry that was too long
        self._given, self._since = "", 0.0  # where to go on
        self._cursor, self._realtime = "", 0  # of the last entry read; microseconds
        self._lost = False  # the journal does not know the cursor
        self._present = not follow  # all was read that there was when this began to follow
        self._heard = False  # journalctl has printed anything since it was started
        self._not_before = -1.0
        self._told = False  # that it cannot be read

    def resume(self, position: str, since: float = 0.0) -> None:
        """Go on behind *position*, or begin at *since*."""
        self.close()
        self._given, self._since = position, since
        self._present = not self._follow
        self._cursor, self._realtime, self._lost = "", 0, False
        with suppress(ValueError, TypeError):
            cursor, realtime = json.loads(position)
            self._cursor, self._realtime = str(cursor), int(realtime)

    def read(self) -> LogRead:
        """Return the next entries, none where none have come yet."""
        if self._process is None and not self._start():
            return LogRead(position=self._position(), ended=not self._follow, blind=True)
        process = self._process
        assert process is not None and process.stdout is not None  # noqa: S101, PT018 - of `_start`
        wait = None if not self._follow else 0
        if not select.select([process.stdout], [], [], wait)[0]:
            return LogRead(position=self._position(), blind=not self._present)
        octets = os.read(process.stdout.fileno(), CHUNK)
        if not octets:
            return self._end(process)
        self._heard = True
        return self._read(octets)

    def close(self) -> None:
        """Let go of journalctl."""
        process, self._process, self._rest = self._process, None, b""
        if process is not None:
            process.terminate()
            with process:
                pass  # closes the pipe and waits

    def _start(self) -> bool:
        if self._ticks() < self._not_before:
            return False
        command = [
            *self._program,
            *("--output=json", f"--output-fields={_FIELDS}", "--all", "--quiet", "--no-pager"),
            *(["--follow", "--no-tail"] if self._follow and self._present else []),
            self._beginning(),
            f"SYSLOG_FACILITY={self._facility}",
        ]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - no part of it is a stranger's
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            log.warning("%s: %s", self._program[0], error.strerror)
            self._not_before = self._ticks() + RESTART_SECONDS
            return False
        self._heard = self._overlong = False
        return True

    def _beginning(self) -> str:
        if self._cursor and not self._lost:
            return f"--after-cursor={self._cursor}"
        first = max(self._since, self._clock() - FIRST)
        since = self._realtime / 1e6 if self._realtime else first
        return f"--since=@{since:.6f}"

    def _position(self) -> str:
        return json.dumps([self._cursor, self._realtime]) if self._cursor else self._given

    def _read(self, octets: bytes) -> LogRead:
        *entries, self._rest = (self._rest + octets).split(b"\n")
        bad: Counter[str] = Counter()
        if self._overlong and entries:
            entries, self._overlong = entries[1:], False  # its tail looks like an entry
        if len(self._rest) > MAX_ENTRY:
            bad["journal-long"] += not self._overlong
            self._rest, self._overlong = b"", True
        lines = []
        for entry in entries:
            if self._note(entry) and self._matters(entry):
                line = _parse(entry)
                if line is None:
                    bad["journal-entry"] += 1
                else:
                    lines.append(line)
        return LogRead(position=self._position(), lines=lines, bad=tuple(bad.items()), more=True)

    def _note(self, entry: bytes) -> bool:
        """Take the place of *entry*; return whether it has one, and was not read before."""
        cursor, realtime = _CURSOR.search(entry), _REALTIME.search(entry)
        if cursor is None or realtime is None:
            return False
        microseconds = int(realtime[1])
        if self._lost and microseconds <= self._realtime:
            return False
        self._cursor, self._realtime = cursor[1].decode("ascii", "replace"), microseconds
        self._lost = False
        return True

    def _end(self, process: subprocess.Popen[bytes]) -> LogRead:
        """Note that journalctl ended, and why."""
        status = process.wait()
        self.close()
        refused = status != 0 and not self._heard
        if refused and self._cursor and not self._lost:
            log.warning("the journal does not know where it was left; going on by the time")
            self._lost = True
            return LogRead(position=self._position(), more=True)
        if not self._present and status == 0:
            self._present = True
            return LogRead(position=self._position(), more=True)
        self._present = not self._follow
        if refused and not self._told:
            log.warning("journalctl gave nothing (status %d): may this user read it?", status)
            self._told = True
        bad = (("journal-ended", 1),) if self._follow or status else ()
        self._not_before = self._ticks() + RESTART_SECONDS
        return LogRead(position=self._position(), bad=bad, ended=not self._follow, blind=True)


def _parse(entry: bytes) -> LogLine | None:
    try:
        fields = json.loads(entry)
    except (ValueError, RecursionError):
        return None
    return parse_journal(fields) if isinstance(fields, dict) else None

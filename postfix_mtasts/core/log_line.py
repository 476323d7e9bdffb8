"""One line of a mail log: when, which host, which process, what it said.

Read are the shapes in which Postfix's lines reach files and the journal:

* ``2026-11-21T17:10:51.082954+00:00 mta1 postfix/smtp[123]: TEXT``: rsyslog's
  default, and ``journalctl -o short-iso`` and ``short-iso-precise``;
* ``Nov  1 17:10:51 mta1 postfix/smtp[123]: TEXT``: RFC 3164, Postfix's own
  maillog_file, ``journalctl -o short``: local time, without year and zone;
* ``1795280590.663189 mta1 ...`` and ``Sat 2026-11-21 17:03:10 UTC mta1 ...``:
  ``journalctl -o short-unix`` and ``short-full``;
* the fields of a journal entry.

Most lines of a mail log are none of our business.  What `build_filter` makes
tells which, as far as the first bracket does; `LineParser` looks at the whole head.
What the one lets pass and the other refuses is another's line after all, or, as
`is_damaged` tells, a line of ours that is damaged, or has a stamp that is not read here.

Whoever sends mail can put any text into a line, behind the tag: so the tag is
taken from its place at the head and never searched for.

BUGS: a line that is in the hour which a change to winter time repeats is
placed in one of the two.  "last message repeated N times" is not unfolded.
"""

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.utc import DAY, day_start, parse_date

MAX_TEXT = 4000  # bytes: Postfix itself cuts at 2000
_MEAN_YEAR: Final = 31556952  # seconds
_LEAP_GAP: Final = 10  # years; from one 29 February to the next at most eight
_LAST_HOUR: Final = 23
_LAST_MINUTE: Final = 59
_MAX_ORIGINS: Final = 4096  # remembered processes
_MAX_SECOND: Final = 61  # a leap second is 60
_MONTHS: Final = tuple(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())

_CLIENTS = rb"smtp|lmtp|tlsproxy|master"
_PROGRAM = rb"(?:" + _CLIENTS + rb"|qmgr)"
# The tag ends at the first bracket: looking no further takes a third of the time.
_TO_BRACKET = rb"[^\[]*+"
_IN_BRACKETS = rb"\[[0-9]{1,10}\]"
_BEHIND_CLIENT = rb"(?:" + b"|".join(b"(?<=/%s)" % p for p in _CLIENTS.split(b"|")) + b")"
_TAG = re.compile(r"[^\s\[\]]+/(smtp|lmtp|tlsproxy|qmgr|master)", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,17}", re.ASCII)
_HEAD = re.compile(
    rb"(?:<[0-9]{1,3}>)?"
    rb"(?:([0-9]{4}-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]"  # 1: up to the minute
    rb"|[A-Z][a-z][a-z] [ 0-9][0-9] [0-9][0-9]:[0-9][0-9]"
    rb"|[A-Z][a-z][a-z] [0-9]{4}-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9])"
    rb":([0-9][0-9](?:\.[0-9]{1,9})?)"  # 2: seconds
    rb"(Z|[+-][0-9][0-9]:?[0-9][0-9]| [A-Z]{1,5})?"  # 3: zone
    rb"|([0-9]{9,11}(?:\.[0-9]{1,9})?))"  # 4: since the epoch
    rb" (([^\s]*[^\s:]) "  # 5: host, tag and process id; 6: host, which is no tag
    rb"([^\s\[\]]+/(" + _PROGRAM + rb"))"  # 7: tag, 8: program
    rb"\[([0-9]{1,10})\]): "  # 9: process id
)

# The same for the commonest stamp; enough to find what `_HEAD` has made of such a line before.
_AGAIN = re.compile(
    rb"([0-9T:-]{16}):([0-5][0-9](?:\.[0-9]{1,9})?)([Z0-9:+-]++) ([^ ]++ [^ \]]++\]): "
)

LocalTime: TypeAlias = Callable[[float], float]
"""Turns what the host's clock showed, read as if it were UTC, into seconds since the epoch."""


def in_utc(shown: float) -> float:
    """Return *shown* itself: the host's clock shows UTC."""
    return shown


class Origin(NamedTuple):
    """A process of Postfix.

    *host*: the logging host.  *tag*: such as "postfix/relay/smtp".  *program*:
    its last element: smtp, lmtp, tlsproxy, qmgr or master.
    """

    host: str
    tag: str
    program: str
    pid: int


class LogLine(NamedTuple):
    """A line of one of the programs that matter here.

    *when*: seconds since the epoch.  *text*: the bytes behind the tag, at most
    `MAX_TEXT`.  A plain tuple, for there are 100,000 a second.
    """

    when: float
    origin: Origin
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """What stamps leave out.

    *latest*: seconds since the epoch after which no line was written, a day of
    grace apart: the present, or when the file was last changed.  A stamp
    without a year is in the latest year that this allows, so that December
    read in January is last year's.
    *year*: the year of all stamps without one, where it is known.
    *local*: what stamps without a zone mean.
    """

    latest: float
    year: int | None = None
    local: LocalTime = in_utc


class LineParser:
    """Parses the lines of one log.

    *calendar* may be replaced at any time, and must be where a log is followed
    past New Year.  Remembered are the minute that was last worked out and the
    processes that were last heard, which saves two thirds of the time.
    """

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._minute = b""
        self._zone: bytes | None = None
        self._start: float | None = None
        self._origins: dict[bytes, Origin] = {}

    def parse(self, line: bytes) -> LogLine | None:
        """Return what *line* says, `None` where it is no line of ours."""
        again = _AGAIN.match(line)
        if again is not None:
            minute, seconds, zone, heard = again.groups()
            known = self._origins.get(heard)
            if known and minute == self._minute and zone == self._zone and self._start is not None:
                text = line[again.end() :].rstrip(b"\r\n")[:MAX_TEXT]
                return LogLine(self._start + float(seconds), known, text)
        return self._parse_anew(line)

    def _parse_anew(self, line: bytes) -> LogLine | None:
        head = _HEAD.match(line)
        if head is None:
            return None
        minute, seconds, zone, unix, heard = head.group(1, 2, 3, 4, 5)
        when = float(unix) if unix is not None else self._when(minute, seconds, zone)
        if when is None:
            return None
        origin = self._origins.get(heard) or self._origin(heard, head)
        return LogLine(when, origin, line[head.end() :].rstrip(b"\r\n")[:MAX_TEXT])

    def _origin(self, heard: bytes, head: re.Match[bytes]) -> Origin:
        if len(self._origins) >= _MAX_ORIGINS:
            self._origins.clear()
        host, tag, program, pid = head.group(6, 7, 8, 9)
        origin = Origin(
            host=host.decode("utf-8", "replace"),
            tag=tag.decode("utf-8", "replace"),
            program=program.decode("ascii"),
            pid=int(pid),
        )
        self._origins[heard] = origin
        return origin

    def _when(self, minute: bytes, seconds: bytes, zone: bytes | None) -> float | None:
        if minute != self._minute or zone != self._zone:
            self._minute, self._zone = minute, zone
            self._start = _parse_minute(minute, zone, self.calendar)
        second = float(seconds)
        return None if self._start is None or second >= _MAX_SECOND else self._start + second


def build_filter(own_senders: Collection[str] = ()) -> Callable[[bytes], object]:
    """Return what tells, by what is true or false, whether a line may matter here.

    Of the queue manager's lines only those of messages from *own_senders* do, and
    where there are such senders those that say that a message is gone.

    It looks at most lines no further than the first bracket, and is the pattern itself
    since a function around it would take longer than that.
    """
    tagged = _BEHIND_CLIENT + _IN_BRACKETS + b": " + _own(own_senders)
    return re.compile(_TO_BRACKET + rb"(?:" + tagged + rb")").match


def is_damaged(line: bytes) -> bool:
    """Return whether *line*, passed by the filter and refused by `LineParser`, is one of ours.

    Behind the first ": " whatever looks like a tag is somebody's text.
    """
    return b": " not in line[: line.find(b"[")]


def build_journal_filter(own_senders: Collection[str] = ()) -> Callable[[bytes], bool]:
    """Return the same for lines of ``journalctl -o json``, before they are decoded."""
    programs = _CLIENTS + (b"|qmgr" if own_senders else b"")
    search = re.compile(rb"/(?:" + programs + rb')"').search
    return lambda entry: search(entry) is not None


def _own(own_senders: Collection[str]) -> bytes:
    if not own_senders:
        return b""
    senders = b"|".join(re.escape(sender.encode()) for sender in sorted(own_senders))
    told = rb"(?:from=<(?i:" + senders + rb")>|removed$)"
    return rb"|(?<=/qmgr)" + _IN_BRACKETS + rb"(?=: [0-9A-Za-z]+: " + told + rb")"


def parse_journal(fields: Mapping[str, object]) -> LogLine | None:
    """Return the journal entry *fields*, `None` where it is no line of ours.

    Takes what ``journalctl -o json`` prints for one entry: a field is a string,
    an array of byte numbers where it is not UTF-8, null where it is too long.
    """
    tag = fields.get("SYSLOG_IDENTIFIER")
    known = _TAG.fullmatch(tag) if isinstance(tag, str) else None
    text = _parse_field(fields.get("MESSAGE"))
    host = fields.get("_HOSTNAME")
    pid = _parse_number(fields.get("SYSLOG_PID")) or _parse_number(fields.get("_PID"))
    microseconds = _parse_number(fields.get("__REALTIME_TIMESTAMP"))
    if known is None or text is None or pid is None or microseconds is None:
        return None
    name = host if isinstance(host, str) else ""
    origin = Origin(host=name, tag=known.group(), program=known.group(1), pid=pid)
    return LogLine(when=microseconds / 1e6, origin=origin, text=text[:MAX_TEXT])


def _parse_field(value: object) -> bytes | None:
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, list):
        try:
            return bytes(value)
        except (TypeError, ValueError):
            return None
    return None


def _parse_number(value: object) -> int | None:
    return int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def _parse_minute(minute: bytes, zone: bytes | None, calendar: Calendar) -> float | None:
    """Return when *minute* began, `None` where there is no such minute."""
    hour, past = int(minute[-5:-3]), int(minute[-2:])
    if hour > _LAST_HOUR or past > _LAST_MINUTE:
        return None
    date, of_day = minute[:-6], hour * 3600 + past * 60
    try:
        if date[-3:-2] == b" ":
            return _parse_traditional(date, of_day, calendar)
        shown = _shown(int(date[-10:-6]), int(date[-5:-3]), int(date[-2:])) + of_day
    except ParseError:
        return None
    named = zone is not None and zone not in {b" UTC", b" GMT"} and zone[:1] == b" "
    return calendar.local(shown) if zone is None or named else shown - _offset(zone)


def _parse_traditional(date: bytes, of_day: int, calendar: Calendar) -> float | None:
    """Return the time of "Nov  1" in the latest year that *calendar* allows."""
    if date[:3] not in _MONTHS:
        return None
    month, day = _MONTHS.index(date[:3]) + 1, int(date[-2:])
    if calendar.year is not None:
        return calendar.local(_shown(calendar.year, month, day) + of_day)
    newest = 1970 + int(calendar.latest // _MEAN_YEAR) + 1
    for year in range(newest, newest - _LEAP_GAP, -1):
        with suppress(ParseError):
            when = calendar.local(_shown(year, month, day) + of_day)
            if when <= calendar.latest + DAY:
                return when
    return None


def _shown(year: int, month: int, day: int) -> int:
    """Return when a day begins in UTC; raises ParseError where there is none such."""
    return day_start(parse_date(f"{year:04}-{month:02}-{day:02}"))


def _offset(zone: bytes) -> int:
    """Return how many seconds *zone* ("Z", " UTC", "+01:00", "-0330") is ahead of UTC."""
    if zone[:1] not in b"+-":
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
    return -seconds if zone[:1] == b"-" else seconds

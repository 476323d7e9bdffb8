"""All that is remembered between two lines of a log, bounded, and its JSON form.

The place in the log, the counts and this state are committed together, so that
a collector which is cut off at any line goes on as if it had not been.  The
JSON form is small: what has been told and cannot matter any more is not kept.

Limits: `MAX_PROCESSES` processes, the least recently heard forgotten first, and
each after `FORGET` seconds of log time without a line, since process ids are
used again; `MAX_FAULTS` hosts whose certificates did not pass, for sessions
resumed later; reports of our own as `core/own_mail.py` says.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from postfix_mtasts.core.attempt import Attempt, Process
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.log_line import Origin
from postfix_mtasts.core.own_mail import OwnQueue, build_own_queue, parse_own_queue
from postfix_mtasts.core.tls_event import Attribution, DatagramFate, Fault, ResultType

MAX_PROCESSES = 4096
MAX_FAULTS = 256
FORGET = 3600.0  # seconds
_VERSION: Final = 2

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class State:
    """The memory of a `SessionTracker`; each table has its newest entry last.

    *faults*: by logging host and address.  *own*: reports of ours in the queues.
    """

    clients: OrderedDict[Origin, Process] = field(default_factory=OrderedDict)
    proxies: OrderedDict[Origin, Process] = field(default_factory=OrderedDict)
    faults: OrderedDict[tuple[str, str], Fault] = field(default_factory=OrderedDict)
    own: OwnQueue = field(default_factory=OwnQueue)


def process_of(table: OrderedDict[Origin, Process], key: Origin, when: float) -> Process:
    """Return what *table* has of the process *key*, which speaks at *when*."""
    process = table.get(key)
    if process is None or when - process.when > FORGET:
        process = table[key] = Process(when=when)
        _forget(table, when)
    process.when = when
    table.move_to_end(key)
    return process


def _forget(table: OrderedDict[Origin, Process], when: float) -> None:
    oldest = next(iter(table))
    while len(table) > MAX_PROCESSES or when - table[oldest].when > FORGET:
        del table[oldest]
        oldest = next(iter(table))


class _Field(NamedTuple, Generic[T]):
    """How one field is written and read; reading raises for what was never written."""

    name: str
    build: Callable[[T], object]
    parse: Callable[[Any], T]


def _same(value: T) -> T:
    return value


def _exactly(kind: type[T]) -> Callable[[object], T]:
    def parse(value: object) -> T:
        if type(value) is not kind:
            raise TypeError
        return value

    return parse


def _number(value: object) -> float:
    if type(value) not in {int, float}:
        raise TypeError
    return float(value)  # type: ignore[arg-type]  # an int or a float, as was just seen


def _build_enum(value: Enum) -> object:
    return value.value


def _build_fault(fault: Fault | None) -> object:
    return None if fault is None else [fault.kind.value, fault.reason]


def _parse_fault(value: object) -> Fault | None:
    if value is None:
        return None
    kind, reason = _exactly(list)(value)
    return Fault(kind=ResultType(kind), reason=_exactly(str)(reason))


def _text(name: str) -> _Field[str]:
    return _Field(name, _same, _exactly(str))


def _flag(name: str) -> _Field[bool]:
    return _Field(name, _same, _exactly(bool))


_ATTEMPT: tuple[_Field[Any], ...] = (
    _Field("when", _same, _number),
    _text("mx"),
    _text("ip"),
    _Field("port", _same, _exactly(int)),
    _flag("connected"),
    _flag("established"),
    _flag("trusted"),
    _flag("failed"),
    _Field("fault", _build_fault, _parse_fault),
    _Field("told", _build_fault, _parse_fault),
    _Field("datagram", _build_enum, DatagramFate),
    _text("nexthop"),
    _Field("attribution", _build_enum, Attribution),
    _text("queue_id"),
    _flag("closed"),
    _flag("joined"),
)


def _build_fields(fields: tuple[_Field[Any], ...], value: object) -> list[object]:
    return [part.build(getattr(value, part.name)) for part in fields]


def _parse_fields(fields: tuple[_Field[Any], ...], value: object) -> dict[str, Any]:
    pairs = zip(fields, _exactly(list)(value), strict=True)
    return {part.name: part.parse(item) for part, item in pairs}


def _build_attempts(attempts: list[Attempt]) -> object:
    return [_build_fields(_ATTEMPT, attempt) for attempt in attempts]


def _parse_attempts(value: object) -> list[Attempt]:
    return [Attempt(**_parse_fields(_ATTEMPT, item)) for item in _exactly(list)(value)]


def _parse_texts(value: object) -> list[str]:
    return [_exactly(str)(item) for item in _exactly(list)(value)]


_PROCESS: tuple[_Field[Any], ...] = (
    _Field("when", _same, _number),
    _Field("attempts", _build_attempts, _parse_attempts),
    _text("nexthop"),
    _flag("no_tlsproxy"),
    _flag("unwanted"),
    _text("queue_id"),
    _text("request"),
    _Field("reached", list, _parse_texts),
)


def build_state(state: State) -> dict[str, object]:
    """Return *state* as a value that `json.dumps` takes, of which nothing is shared."""
    return {
        "version": _VERSION,
        "clients": _build_processes(state.clients),
        "proxies": _build_processes(state.proxies),
        "faults": [[*key, _build_fault(fault)] for key, fault in state.faults.items()],
        "own": build_own_queue(state.own),
    }


def parse_state(value: object) -> State:
    """Return the state that `build_state` made *value* of.

    Raises ParseError for anything else; the collector then begins anew.
    """
    try:
        table = _exactly(dict)(value)
        if table["version"] != _VERSION:
            raise ParseError("the state of the log reader is of another version")
        return State(
            clients=_parse_processes(table["clients"]),
            proxies=_parse_processes(table["proxies"]),
            faults=OrderedDict(map(_parse_known_fault, _exactly(list)(table["faults"]))),
            own=parse_own_queue(table["own"]),
        )
    except (KeyError, TypeError, ValueError):
        raise ParseError("the state of the log reader is damaged") from None


def _build_processes(table: OrderedDict[Origin, Process]) -> object:
    return [[*key, _build_fields(_PROCESS, process)] for key, process in table.items()]


def _parse_processes(value: object) -> OrderedDict[Origin, Process]:
    table: OrderedDict[Origin, Process] = OrderedDict()
    for item in _exactly(list)(value):
        host, tag, program, pid, process = _exactly(list)(item)
        text = _exactly(str)
        key = Origin(text(host), text(tag), text(program), _exactly(int)(pid))
        table[key] = Process(**_parse_fields(_PROCESS, process))
    return table


def _parse_known_fault(value: object) -> tuple[tuple[str, str], Fault]:
    host, ip, fault = _exactly(list)(value)
    known = _parse_fault(fault)
    if known is None:
        raise TypeError
    return (_exactly(str)(host), _exactly(str)(ip)), known

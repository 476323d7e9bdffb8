"""Which messages are our own reports, and what became of them.

Were the sessions of reports counted, reports would be answered with reports for
ever.  qmgr(8) names a message's sender each time that it puts it to work, before
smtp(8) speaks of it; from then until ``removed`` its queue id is ours.  Queue ids are
used again, so one is ours for `OWN_HOURS` at most, in case that line was lost: no
message waits as long between two tries.

A report that was sent or bounced is told of by smtp(8); that one expired is told by
qmgr(8), which names no recipient: that is the one whom smtp(8) had to put off.

Limits: `MAX_OWN` messages, as many as may be queued at once on a busy night, and
`MAX_WAITING` recipients, the oldest forgotten first.  The JSON form is written every
second, so it is compact: 50,000 messages are 700 KB, and take 15 to 20 ms to write.

BUGS: What became of a report that an agent other than smtp(8) or lmtp(8) dealt with
is not told.  Of a message to several who were put off, the last one is told expired.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple, TypeAlias, TypeVar

from postfix_mtasts.core.postfix_log import Delivery, Sender, Status

MAX_OWN: Final = 50_000
MAX_WAITING: Final = 5_000
OWN_HOURS: Final = 24
_HOUR: Final = 3600

QueueId: TypeAlias = tuple[str, str]
"""The logging host and the id of a message in its queue."""

K = TypeVar("K")
V = TypeVar("V")


class Fate(NamedTuple):
    """What became of a report of ours.

    *recipient*: as submitted, without angle brackets; *when*: seconds since the epoch;
    *delivered*: the next server took it; or else it bounced or expired.
    """

    recipient: str
    when: float
    delivered: bool


@dataclass(slots=True, kw_only=True)
class OwnQueue:
    """What is remembered of our own messages; each table has its newest entry last.

    *active*: the hour, since the epoch, in which each was last put to work.
    *waiting*: to whom one could not be delivered yet.
    """

    active: OrderedDict[QueueId, int] = field(default_factory=OrderedDict)
    waiting: OrderedDict[QueueId, str] = field(default_factory=OrderedDict)

    def has(self, key: QueueId, when: float) -> bool:
        """Return whether what is said of *key* at *when* is said of a message of ours."""
        hour = self.active.get(key)
        return hour is not None and when // _HOUR - hour <= OWN_HOURS

    def hear_sender(self, key: QueueId, message: Sender, when: float) -> Fate | None:
        """Note that *key* is ours; return its fate where it expired."""
        if message.expired:
            recipient = self.waiting.get(key)
            return None if recipient is None else Fate(recipient, when, delivered=False)
        remember(self.active, key, int(when // _HOUR), MAX_OWN)
        return None

    def hear_delivery(self, key: QueueId, message: Delivery, when: float) -> Fate | None:
        """Return what became of the message of ours at *key*, `None` while that is open."""
        recipient = message.original or message.recipient
        if message.status is Status.DEFERRED:
            remember(self.waiting, key, recipient, MAX_WAITING)
        if message.status not in {Status.SENT, Status.BOUNCED}:
            return None
        return Fate(recipient, when, delivered=message.status is Status.SENT)

    def forget(self, key: QueueId) -> None:
        """Note that *key* is not, or no longer, a message of ours."""
        self.active.pop(key, None)
        self.waiting.pop(key, None)


def remember(table: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    """Put *value* into *table* as its newest, at the cost of the oldest."""
    table[key] = value
    table.move_to_end(key)
    if len(table) > limit:
        table.popitem(last=False)


def build_own_queue(own: OwnQueue) -> list[object]:
    """Return *own* as a value that `json.dumps` takes, of which nothing is shared."""
    runs = groupby(own.active.items(), lambda entry: (entry[0][0], entry[1]))
    active = [[host, hour, " ".join(key[1] for key, _ in run)] for (host, hour), run in runs]
    return [active, [[*key, recipient] for key, recipient in own.waiting.items()]]


def parse_own_queue(value: object) -> OwnQueue:
    """Return the memory that `build_own_queue` made *value* of.

    Raises TypeError or ValueError for anything else.
    """
    active, waiting = _items(value)
    own = OwnQueue()
    for run in _items(active):
        host, hour, ids = _items(run)
        own.active.update(
            ((_text(host), queue_id), _whole(hour)) for queue_id in _text(ids).split(" ")
        )
    for entry in _items(waiting):
        host, queue_id, recipient = map(_text, _items(entry))
        own.waiting[host, queue_id] = recipient
    return own


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value

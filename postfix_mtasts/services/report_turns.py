"""Whose turn it is: reports that wait to be handed over, given out so that none holds up the rest.

One *place*, a mail address or an HTTPS host, gets one report at a time, and so does,
where `Turns` is told so, one *owner*, the policy domain that the report is on: who
names ten hosts that never answer would otherwise hold ten hands.  A place or an owner
at which `MAX_FAILURES` in a row failed is left alone; what waits there is dropped.
"""

import asyncio
from collections import Counter, deque

from postfix_mtasts.core.report_uri import domain_of, is_mailto
from postfix_mtasts.ports import Handover

MAX_FAILURES = 3
"""After so many in a row a place or an owner is left alone."""


class Turns:
    """What waits; *by_owner*: whether owners, too, wait for their turn."""

    def __init__(self, *, by_owner: bool) -> None:
        self._by_owner = by_owner
        self._waiting: dict[str, list[Handover]] = {}  # by place; a deque of one takes 700 octets
        self._ready: deque[str] = deque()  # places at which nothing is under way
        self._owners: set[str] = set()  # for whom something is under way
        self._under_way = 0
        self._in_a_row: Counter[str] = Counter()  # failures of each place
        self._of_owner: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def add(self, handover: Handover) -> None:
        """Let *handover* wait for its turn."""
        place = _place(handover)
        if place not in self._waiting:
            self._waiting[place] = []
            self._ready.append(place)
        self._waiting[place].append(handover)

    def names(self) -> tuple[str, ...]:
        """Return the destinations of all that waits."""
        return tuple(handover.to for queue in self._waiting.values() for handover in queue)

    async def take(self) -> Handover | None:
        """Return what has its turn, `None` once nothing is left; `done` is to be told of it."""
        while (handover := self._next()) is None:
            if not self._under_way:
                return None
            self._changed.clear()
            await self._changed.wait()
        self._under_way += 1
        if self._by_owner:
            self._owners.add(handover.domain)
        return handover

    def done(self, handover: Handover, *, failed: bool | None) -> None:
        """Hear that *handover*, which was taken, is over; *failed*: `None` where not tried."""
        place = _place(handover)
        self._under_way -= 1
        self._owners.discard(handover.domain)
        if failed is not None:
            self._in_a_row[place] = self._in_a_row[place] + 1 if failed else 0
            self._of_owner[handover.domain] = self._of_owner[handover.domain] + 1 if failed else 0
        if self._waiting[place] and self._in_a_row[place] < MAX_FAILURES:
            self._ready.append(place)
        else:
            del self._waiting[place]
        self._changed.set()

    def _next(self) -> Handover | None:
        """Take away and return the first whose place and owner are free."""
        for _ in range(len(self._ready)):
            place = self._ready.popleft()
            queue = self._waiting[place]
            while queue and self._is_left_alone(queue[0].domain):
                queue.pop(0)
            if not queue:
                del self._waiting[place]
            elif queue[0].domain in self._owners:
                self._ready.append(place)
            else:
                return queue.pop(0)
        return None

    def _is_left_alone(self, owner: str) -> bool:
        return self._by_owner and self._of_owner[owner] >= MAX_FAILURES


def _place(handover: Handover) -> str:
    return handover.to if is_mailto(handover.to) else domain_of(handover.to)

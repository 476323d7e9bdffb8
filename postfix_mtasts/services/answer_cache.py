"""Answers kept in memory, ready to be sent: one dictionary look-up on the request's bytes.

An answer is found by the very bytes of its request, netstring and all, so that
a cached answer costs no parsing.  Time is looked at once a second, not at each
request: answers are filed by the second in which they run out and dropped at
its start, so that none is ever sent after its time.

Answers asked for at least `HOT_HITS` times are named shortly before they run
out, so that they can be refreshed while they still serve.

All times are seconds of a clock that only goes forward.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from postfix_mtasts.core.meters import Meter

BYTES_EACH = 600
"""What requests and replies may take on average; most take a fifth of it."""

HOT_HITS = 2
AHEAD_SHARE = 0.08
"""The last part of its life in which a hot answer is refreshed."""


@dataclass(slots=True)
class Answer:
    """A reply as sent, netstring and all, and how often it was.

    *meter* counts the hits of all answers of its kind, also of those that are gone.
    """

    reply: bytes
    ends: int  # the second at whose start it is dropped
    due: int  # the second in which to look at it next: `ends`, or a little sooner
    protects: bool  # a level of its own; the last to go when memory is short
    meter: Meter
    hits: int = 0


class AnswerCache:
    """At most *limit* answers, and `BYTES_EACH` times as many bytes of them.

    Strangers choose how long an answer is and in how many ways its domain is spelt,
    so that a number of answers alone would bound nothing.  `answers` is the
    dictionary that the hot path reads.
    """

    def __init__(self, *, limit: int) -> None:
        self.answers: dict[bytes, Answer] = {}
        self._limit = limit
        self._most_bytes = BYTES_EACH * limit
        self._bytes = 0
        self._timetable: dict[int, dict[bytes, None]] = {}  # second -> requests due in it

    def put(
        self,
        request: bytes,
        reply: bytes,
        *,
        lifetime: float,
        protects: bool,
        now: float,
        meter: Meter | None = None,
    ) -> None:
        """Keep *reply* for *request*; not at all where less than a second is left."""
        self._remove(request)
        ends = math.floor(now + lifetime)
        size = len(request) + len(reply)
        if ends <= now or size > self._most_bytes:
            return
        while len(self.answers) >= self._limit or self._bytes + size > self._most_bytes:
            self._make_room()
        self._bytes += size
        ahead = math.floor(ends - AHEAD_SHARE * lifetime)
        due = ahead if ahead > now else ends
        self.answers[request] = Answer(
            reply=reply, ends=ends, due=due, protects=protects, meter=meter or Meter()
        )
        self._file(request, due)

    def tick(self, now: float) -> list[bytes]:
        """Drop what has run out; return the requests whose answers to refresh."""
        hot = []
        for second in sorted(second for second in self._timetable if second <= now):
            for request in self._timetable.pop(second):
                answer = self.answers[request]
                if answer.ends <= now:
                    self._forget(request, answer)
                    continue
                answer.due = answer.ends
                self._file(request, answer.due)
                if answer.hits >= HOT_HITS:
                    hot.append(request)
        return hot

    def drop(self, concerns: Callable[[bytes], bool]) -> int:
        """Drop every answer whose request *concerns* is true of; return how many."""
        found = [request for request in self.answers if concerns(request)]
        for request in found:
            self._remove(request)
        return len(found)

    def clear(self) -> None:
        """Drop all; the dictionary itself stays, since connections hold it."""
        self.answers.clear()
        self._timetable.clear()
        self._bytes = 0

    def _file(self, request: bytes, second: int) -> None:
        self._timetable.setdefault(second, {})[request] = None

    def _remove(self, request: bytes) -> None:
        answer = self.answers.get(request)
        if answer is None:
            return
        self._forget(request, answer)
        due = self._timetable[answer.due]
        del due[request]
        if not due:
            del self._timetable[answer.due]

    def _forget(self, request: bytes, answer: Answer) -> None:
        del self.answers[request]
        self._bytes -= len(request) + len(answer.reply)

    def _make_room(self) -> None:
        """Drop one answer in a hundred: those that protect nothing first, soonest due first."""
        count = max(1, len(self.answers) // 100)
        order = chain(self._by_time(protects=False), self._by_time(protects=True))
        for request in list(islice(order, count)):
            self._remove(request)

    def _by_time(self, *, protects: bool) -> Iterator[bytes]:
        for second in sorted(self._timetable):
            for request in self._timetable[second]:
                if self.answers[request].protects is protects:
                    yield request

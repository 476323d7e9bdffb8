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

HOT_HITS = 2
AHEAD_SHARE = 0.08
"""The last part of its life in which a hot answer is refreshed."""


@dataclass(slots=True)
class Answer:
    """A reply as sent, netstring and all, and how often it was."""

    reply: bytes
    ends: int  # the second at whose start it is dropped
    due: int  # the second in which to look at it next: `ends`, or a little sooner
    protects: bool  # a level of its own; the last to go when memory is short
    hits: int = 0


class AnswerCache:
    """At most *limit* answers; `answers` is the dictionary that the hot path reads."""

    def __init__(self, *, limit: int) -> None:
        self.answers: dict[bytes, Answer] = {}
        self._limit = limit
        self._timetable: dict[int, list[bytes]] = {}  # second -> requests to look at

    def put(
        self, request: bytes, reply: bytes, *, lifetime: float, protects: bool, now: float
    ) -> None:
        """Keep *reply* for *request*; not at all where less than a second is left."""
        ends = math.floor(now + lifetime)
        if ends <= now:
            self.answers.pop(request, None)
            return
        if len(self.answers) >= self._limit and request not in self.answers:
            self._make_room()
        ahead = math.floor(ends - AHEAD_SHARE * lifetime)
        due = ahead if ahead > now else ends
        self.answers[request] = Answer(reply=reply, ends=ends, due=due, protects=protects)
        self._timetable.setdefault(due, []).append(request)

    def tick(self, now: float) -> list[bytes]:
        """Drop what has run out; return the requests whose answers to refresh."""
        hot = []
        for second in sorted(second for second in self._timetable if second <= now):
            for request in self._timetable.pop(second):
                answer = self.answers.get(request)
                if answer is None or answer.due != second:
                    continue  # gone, or replaced by one that is filed elsewhere
                if answer.ends <= now:
                    del self.answers[request]
                    continue
                answer.due = answer.ends
                self._timetable.setdefault(answer.ends, []).append(request)
                if answer.hits >= HOT_HITS:
                    hot.append(request)
        return hot

    def drop(self, concerns: Callable[[bytes], bool]) -> int:
        """Drop every answer whose request *concerns* is true of; return how many."""
        found = [request for request in self.answers if concerns(request)]
        for request in found:
            del self.answers[request]
        return len(found)

    def clear(self) -> None:
        """Drop all; the dictionary itself stays, since connections hold it."""
        self.answers.clear()
        self._timetable.clear()

    def _make_room(self) -> None:
        """Drop one answer in a hundred: those that protect nothing first, soonest to end first."""
        goal = max(1, self._limit // 100)
        for protects in (False, True):
            for request in list(self._soonest(goal, protects=protects)):
                del self.answers[request]
                goal -= 1
            if goal <= 0:
                return

    def _soonest(self, count: int, *, protects: bool) -> Iterator[bytes]:
        seen: set[bytes] = set()
        for second in sorted(self._timetable):
            for request in self._timetable[second]:
                answer = self.answers.get(request)
                if answer is None or answer.protects is not protects or request in seen:
                    continue
                if len(seen) == count:
                    return
                seen.add(request)
                yield request

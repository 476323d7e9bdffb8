"""The daily reports: each domain's, built and handed over (RFC 8460 sections 4 and 5).

A run has two parts, so that nobody waits for a stranger's slow server:

`plan`
    finds out to whom reports go, many domains at a time;
`send`
    hands them over, mail and HTTPS side by side, each to many destinations at a
    time; `report_turns` says who comes next.

Both end when their time is up, and the rest goes with the next run: a run an hour
must never meet the one before it.  `stop` lets a run end between reports.

One failing domain holds up no other, even where it is our fault.  A store that
cannot be written to ends the run.

BUGS: HTTPS hosts are told apart by name, so many names of one server, or one
wildcard, are many hosts.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeVar

from postfix_mtasts.core.report_uri import is_mailto
from postfix_mtasts.ports import Handover, StoreUnusableError
from postfix_mtasts.services.report_addressing import NOBODY, OPEN, Addressing
from postfix_mtasts.services.report_courier import Courier, Outcome, Ways
from postfix_mtasts.services.report_turns import Turns

LOOKUPS_AT_ONCE: Final = 64
"""Domains looked up at one time: dead name servers cost no more than waiting."""

MAILS_AT_ONCE: Final = 16
POSTS_AT_ONCE: Final = 32
"""Reports handed over at one time; a silent host holds a post for 20 s, so there are more."""

PLAN_SECONDS: Final = 20 * 60.0
"""So long after its begin a run looks up to whom reports go, ..."""

RUN_SECONDS: Final = 50 * 60.0
"""... and so long it hands over; what is then under way takes some minutes at most."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Reporter:
    """Sends what is due.

    *ticks*: seconds on a clock that nobody sets, to tell when time is up.
    """

    def __init__(
        self,
        *,
        addressing: Addressing,
        ways: Ways,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.outcome = Outcome()
        self._addressing = addressing
        self._courier = Courier(addressing=addressing, ways=ways, outcome=self.outcome)
        self._ticks = ticks
        self._began = ticks()
        self._stopped = False
        self._mails = Turns(by_owner=False)
        self._posts = Turns(by_owner=True)

    def stop(self) -> None:
        """Begin nothing more; what is being handed over is finished."""
        self._stopped = True

    @property
    def planned(self) -> tuple[str, ...]:
        """The destinations of all reports that there are to send."""
        return self._mails.names() + self._posts.names()

    async def plan(self, day: int, domains: Iterable[str]) -> None:
        """Find out to whom the reports on *domains* and *day* go, where it is time to."""
        left = iter(domains)
        async with asyncio.TaskGroup() as group:
            for _ in range(LOOKUPS_AT_ONCE):
                group.create_task(self._look_up(day, left))

    async def send(self, progress: Iterable[object] = ()) -> None:
        """Hand over what was planned, and take one of *progress* for each."""
        steps = iter(progress)
        async with asyncio.TaskGroup() as group:
            for turns, hands in ((self._mails, MAILS_AT_ONCE), (self._posts, POSTS_AT_ONCE)):
                for _ in range(hands):
                    group.create_task(self._work_off(turns, steps))

    def _is_over(self, seconds: float) -> bool:
        """Return whether to begin nothing more, *seconds* being what there is for it."""
        if self._ticks() - self._began >= seconds:
            self.outcome.unfinished = True
            return True
        return self._stopped

    async def _look_up(self, day: int, domains: Iterator[str]) -> None:
        """Look up to whom the reports on some of *domains* go, one after the other."""
        for domain in domains:
            if self._is_over(PLAN_SECONDS):
                return
            for handover in await self._guarded(
                domain, self._addressing.handovers(day, domain), ()
            ):
                self._plan(handover)

    def _plan(self, handover: Handover) -> None:
        if handover.state not in OPEN or handover.to == NOBODY:
            self.outcome.note(handover)
        else:
            (self._mails if is_mailto(handover.to) else self._posts).add(handover)

    async def _work_off(self, turns: Turns, steps: Iterator[object]) -> None:
        """Hand over what has its turn, one after the other."""
        while (handover := await turns.take()) is not None:
            next(steps, None)
            failed = None
            if not self._is_over(RUN_SECONDS):
                failed = await self._guarded(handover.to, self._courier.send(handover), None)
            turns.done(handover, failed=failed)

    async def _guarded(self, name: str, work: Awaitable[T], otherwise: T) -> T:
        """Await *work*, whose errors hold up nothing else, but for those of the store."""
        try:
            return await work
        except StoreUnusableError as error:
            self.outcome.unusable = str(error)
            self.stop()
        except Exception:  # noqa: BLE001 - the task's outermost loop, with traceback
            self.outcome.broken += 1
            _log.exception("the report on or to %s cannot be sent", name)
        return otherwise

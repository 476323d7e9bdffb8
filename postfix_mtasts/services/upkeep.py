"""What happens unasked: answers that run out, policies that must be fetched again.

Once a second the answer cache is told the time.  Once a minute the policies that
are due are fetched again, a few at a time and in no order that anyone could
foresee (RFC 8461 sections 3.3 and 10.2).  Once a day what nobody has asked for in
half a year is forgotten.
"""

import asyncio
import logging
from collections.abc import Callable

from postfix_mtasts.core import freshness
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.ports import Clock, Store
from postfix_mtasts.services.answers import Answers
from postfix_mtasts.services.lookups import Unanswered

log = logging.getLogger(__name__)

JUMP_SECONDS = 5
"""A wall clock that moves by more than this against the steady one was set."""

BATCH = 500
"""Policies fetched again in one minute at the most."""

AT_ONCE = 8
DAY = 86400


class Upkeep:
    """Keeps *answers* and *store* fresh; *ticks* counts seconds and only goes forward."""

    def __init__(
        self, *, answers: Answers, store: Store, clock: Clock, ticks: Callable[[], float]
    ) -> None:
        self._answers = answers
        self._store = store
        self._clock = clock
        self._ticks = ticks
        self._offset = clock() - ticks()
        self._forgotten = ticks()
        self._renewing = asyncio.Semaphore(AT_ONCE)
        self._fetching = asyncio.Semaphore(AT_ONCE)

    def tick(self, group: asyncio.TaskGroup) -> None:
        """Drop the answers that have run out, renew in *group* those often asked for."""
        self._notice_a_clock_that_was_set()
        for framed in self._answers.cache.tick(self._ticks()):
            group.create_task(self._renew(framed.partition(b":")[2][:-1]))

    async def refresh_due(self) -> None:
        """Fetch the policies that are due again, and forget what nobody asks for."""
        now = self._clock()
        async with asyncio.TaskGroup() as group:
            for domain in await self._store.due(now, BATCH):
                group.create_task(self._refresh(domain))
        if self._ticks() - self._forgotten >= DAY:
            self._forgotten = self._ticks()
            gone = await self._store.forget(now - freshness.FORGET_SECONDS)
            if gone:
                log.info("forgot %d domains that nobody asked for in 180 days", gone)

    def _notice_a_clock_that_was_set(self) -> None:
        offset = self._clock() - self._ticks()
        if abs(offset - self._offset) > JUMP_SECONDS:
            log.warning("the clock was set by %+.0f s: deciding all anew", offset - self._offset)
            self._answers.cache.clear()
            self._forgotten = self._ticks()  # a clock that was wrong forgets nothing
        self._offset = offset

    async def _renew(self, payload: bytes) -> None:
        async with self._renewing:
            try:
                await self._answers.refresh(payload)
            except Exception:  # the outermost frame of a task: a bug must not end the daemon
                log.exception("renewing an answer: internal error")

    async def _refresh(self, domain: str) -> None:
        async with self._fetching:
            try:
                await self._fetch_again(domain)
            except Unanswered as error:
                log.warning("refresh domain=%s: %s", domain, error)
            except Exception:  # the outermost frame of a task: a bug must not end the daemon
                log.exception("refresh domain=%s: internal error", domain)

    async def _fetch_again(self, domain: str) -> None:
        before = (await self._store.load(NextHop(form=Form.DOMAIN, name=domain))).sts.cached
        after = (await self._answers.plan.lookups.refresh(domain)).cached
        if before is None or after is None or before.policy != after.policy:
            # A policy that changed binds from now on, not from the next TTL.
            self._answers.forget((domain,))

"""The facts of a next-hop: from the store while they are fresh, else from the network.

However many ask for one next-hop, it is looked up once, and what was learnt is
stored before anyone is told.  Whoever waits waits no longer than `DEADLINE`;
the look-up itself goes on, so that the next to ask finds it done.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from postfix_mtasts.core import decision, freshness
from postfix_mtasts.core.facts import DnsFacts, Facts, Lookup, StsFacts
from postfix_mtasts.core.mta_sts import Record
from postfix_mtasts.core.names import NextHop
from postfix_mtasts.ports import Clock, Resolver, Store, Stored
from postfix_mtasts.services.gathering import (
    gather_hosts,
    gather_mx,
    gather_record,
    has_policy_domain,
)
from postfix_mtasts.services.policies import Policies

log = logging.getLogger(__name__)

DEADLINE = 15.0
"""Seconds until whoever waits is told to try again; Postfix itself gives up after 100."""


class Why(Enum):
    """What a look-up is for."""

    ASKED = "asked"  # Postfix waits: what is stored and fresh will do
    AHEAD = "ahead"  # the answer is about to run out: ask DNS again
    REFRESH = "refresh"  # the daily refresh: ask DNS and fetch the policy


class Unanswered(Exception):  # noqa: N818 - the state of a look-up, not an error of this program
    """No facts in time, or a bug on the way; the text is for the mail log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flight:
    """A look-up on its way; *facts* may be there before it is over."""

    facts: asyncio.Future[Facts]


class Lookups:
    """Gathers facts, once per next-hop at a time.

    *chance* returns a number from 0 up to 1.  *refresh_interval*: seconds.
    *concurrent*: look-ups under way at once; more wait their turn.  *dane*: off
    where the operator says so, then only MX records are asked for.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        policies: Policies,
        store: Store,
        clock: Clock,
        chance: Callable[[], float],
        group: asyncio.TaskGroup,
        refresh_interval: float,
        dane: bool,
        concurrent: int,
    ) -> None:
        self._resolver = resolver
        self._policies = policies
        self._store = store
        self._clock = clock
        self._chance = chance
        self._group = group
        self._refresh_interval = refresh_interval
        self._dane = dane
        self._slots = asyncio.Semaphore(concurrent)
        self._flights: dict[NextHop, _Flight] = {}

    async def facts(self, nexthop: NextHop, why: Why = Why.ASKED) -> Facts:
        """Return the facts of *nexthop*.

        Raises `Unanswered` after `DEADLINE` seconds, or when the look-up broke.
        """
        flight = self._flights.get(nexthop) or self._begin(nexthop, why)
        try:
            async with asyncio.timeout(DEADLINE):
                return await asyncio.shield(flight.facts)
        except TimeoutError:
            message = f"still looking {nexthop} up after {DEADLINE:.0f} s"
            raise Unanswered(message) from None

    def under_way(self) -> int:
        """Return how many look-ups are under way."""
        return len(self._flights)

    def _begin(self, nexthop: NextHop, why: Why) -> _Flight:
        flight = _Flight(facts=asyncio.get_running_loop().create_future())
        self._flights[nexthop] = flight
        self._group.create_task(self._run(nexthop, why, flight.facts))
        return flight

    async def _run(self, nexthop: NextHop, why: Why, told: asyncio.Future[Facts]) -> None:
        try:
            async with self._slots:
                await self._look_up(nexthop, why, told)
        except Exception:  # the outermost frame of a task: a bug must not end the daemon
            log.exception("lookup domain=%s: internal error", nexthop)
            if not told.done():
                told.set_exception(Unanswered(f"internal error looking {nexthop} up, see the log"))
                told.exception()  # nobody may be waiting any more
        finally:
            del self._flights[nexthop]
            told.cancel()

    async def _look_up(self, nexthop: NextHop, why: Why, told: asyncio.Future[Facts]) -> None:
        stored = await self._store.load(nexthop)
        dns = stored.dns
        if why is Why.ASKED and dns is not None and self._is_fresh(dns, stored.sts):
            told.set_result(Facts(nexthop=nexthop, dns=dns, sts=stored.sts))
            return
        dns = await self._gather(nexthop, stored.sts)
        if self._dane and decision.all_hosts_authenticate(dns):
            # No policy can change the answer: do not wait for a web server.
            await self._tell(nexthop, Stored(dns=dns, sts=stored.sts), why, told)
        sts = await self._policy(nexthop, dns.sts_record, stored.sts, why)
        if not told.done() or sts != stored.sts:
            await self._tell(nexthop, Stored(dns=dns, sts=sts), why, told)

    def _is_fresh(self, dns: DnsFacts, sts: StsFacts) -> bool:
        return freshness.remaining(dns, sts, self._clock()) > 0

    async def _gather(self, nexthop: NextHop, known: StsFacts) -> DnsFacts:
        gathered = self._clock()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self._record(nexthop, known))
            mx = await gather_mx(self._resolver, nexthop)
            hosts, omitted = (
                await gather_hosts(self._resolver, nexthop, mx) if self._dane else ((), 0)
            )
            record = await asking
        return DnsFacts(gathered=gathered, mx=mx, hosts=hosts, omitted=omitted, sts_record=record)

    async def _record(self, nexthop: NextHop, known: StsFacts) -> Lookup[Record] | None:
        """Look the MTA-STS record up and start the fetch that it calls for at once."""
        if not has_policy_domain(nexthop):
            return None
        record = await gather_record(self._resolver, nexthop.name)
        self._policies.begin(nexthop.name, record, known)
        return record

    async def _policy(
        self, nexthop: NextHop, record: Lookup[Record] | None, known: StsFacts, why: Why
    ) -> StsFacts:
        if record is None:
            return known  # another port of a host: the policy of its name stays untouched
        if why is Why.REFRESH:
            return await self._policies.refresh(nexthop.name, record, known)
        return await self._policies.update(nexthop.name, record, known)

    async def _tell(
        self, nexthop: NextHop, learnt: Stored, why: Why, told: asyncio.Future[Facts]
    ) -> None:
        """Store what was *learnt*, then let those know who wait."""
        now = self._clock()
        await self._store.save(
            nexthop,
            learnt,
            asked=None if why is Why.REFRESH else now,
            refresh=freshness.refresh_at(learnt.sts, self._refresh_interval, self._chance()),
        )
        if not told.done() and learnt.dns is not None:
            told.set_result(Facts(nexthop=nexthop, dns=learnt.dns, sts=learnt.sts))

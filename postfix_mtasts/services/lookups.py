"""The facts of a next-hop: from the store while they are fresh, else from the network.

However many ask for one next-hop, it is looked up once, and what was learnt is
stored before anyone is told.  Whoever waits waits no longer than `DEADLINE`;
the look-up itself goes on, so that the next to ask finds it done.

BUGS: a look-up takes as long as the slowest of its servers, and one whose client
has gone goes on.  Whoever may connect can so keep others' new look-ups waiting
by asking for many slow domains; answers in memory are not affected.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from postfix_mtasts.core import decision, freshness
from postfix_mtasts.core.facts import DnsFacts, Facts, Lookup, StsFacts, mx_hosts, overload
from postfix_mtasts.core.mta_sts import Record
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.ports import Clock, Resolver, Store, Stored
from postfix_mtasts.services.activity import Trouble
from postfix_mtasts.services.gathering import (
    gather_hosts,
    gather_mx,
    gather_record,
    has_policy_domain,
)
from postfix_mtasts.services.policies import Busy, Fetching, Policies

log = logging.getLogger(__name__)

DEADLINE = 15.0
"""Seconds until whoever waits is told to try again; Postfix itself gives up after 100."""

EARLY = 5.0
"""Seconds that a new policy is waited for while an older one is in force."""

QUEUE = 4
"""Look-ups that may wait for their turn, in multiples of those under way."""


class Why(Enum):
    """What a look-up is for."""

    ASKED = "asked"  # Postfix waits: what is stored and fresh will do
    AHEAD = "ahead"  # the answer is about to run out: ask DNS again


class Unanswered(Exception):  # noqa: N818 - the state of a look-up, not an error of this program
    """No facts in time, or a bug on the way; the text is for the mail log."""

    def __init__(self, text: str, trouble: Trouble = Trouble.OVERLOAD) -> None:
        super().__init__(text)
        self.trouble = trouble


class Lookups:
    """Gathers facts, once per next-hop at a time.

    *chance* returns a number from 0 up to 1.  *refresh_interval*: seconds.
    *concurrent*: look-ups that ask DNS at once; `QUEUE` times as many may wait.  *dane*: off
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
        self._refreshing = 0
        self.most = (1 + QUEUE) * concurrent  # look-ups; one more is refused
        self._flights: dict[NextHop, asyncio.Future[Facts]] = {}

    async def facts(self, nexthop: NextHop, why: Why = Why.ASKED) -> Facts:
        """Return the facts of *nexthop*.

        Raises `Unanswered` after `DEADLINE` seconds, where too many wait already,
        where we are too busy to ask, or when the look-up broke.
        """
        told = self._flights.get(nexthop) or self._begin(nexthop, why)
        try:
            async with asyncio.timeout(DEADLINE):
                return await asyncio.shield(told)
        except TimeoutError:
            message = f"still looking {nexthop} up after {DEADLINE:.0f} s"
            raise Unanswered(message, Trouble.DEADLINE) from None

    async def refresh(self, domain: str) -> StsFacts:
        """Fetch the policy of *domain* anew, whatever its record says; return what is known now.

        This is apart from the look-ups, so that no mail waits for the policy host
        while a policy is in force.  Raises `Unanswered` where we are too busy.
        """
        self._refreshing += 1
        try:
            return await self._refresh(domain)
        finally:
            self._refreshing -= 1

    async def _refresh(self, domain: str) -> StsFacts:
        nexthop = NextHop(form=Form.DOMAIN, name=domain)
        known = (await self._store.load(nexthop)).sts
        record = await gather_record(self._resolver, domain)
        try:
            sts = await self._policies.refresh(domain, record, known)
        except Busy as error:
            raise Unanswered(str(error)) from None
        dns = (await self._store.load(nexthop)).dns  # of now: a fetch takes up to a minute
        await self._save(nexthop, Stored(dns=dns, sts=sts), asked=None)
        return sts

    def under_way(self) -> int:
        """Return how many look-ups and refreshes are under way."""
        return len(self._flights) + self._refreshing

    def _begin(self, nexthop: NextHop, why: Why) -> asyncio.Future[Facts]:
        if len(self._flights) >= self.most:
            raise Unanswered("too many look-ups at once")
        told: asyncio.Future[Facts] = asyncio.get_running_loop().create_future()
        self._flights[nexthop] = told
        self._group.create_task(self._run(nexthop, why, told))
        return told

    async def _run(self, nexthop: NextHop, why: Why, told: asyncio.Future[Facts]) -> None:
        try:
            await self._answer(nexthop, why, told)
        except Busy as error:
            _fail(told, Unanswered(str(error)))
        except Unanswered as error:
            _fail(told, error)
        except Exception:  # the outermost frame of a task: a bug must not end the daemon
            log.exception("lookup domain=%s: internal error", nexthop)
            text = f"internal error looking {nexthop} up, see the log"
            _fail(told, Unanswered(text, Trouble.INTERNAL))
        finally:
            del self._flights[nexthop]
            told.cancel()

    async def _answer(self, nexthop: NextHop, why: Why, told: asyncio.Future[Facts]) -> None:
        """Tell the facts, from the store where these will do."""
        stored = await self._store.load(nexthop)
        if why is Why.ASKED and stored.dns is not None and self._is_fresh(nexthop, stored):
            told.set_result(Facts(nexthop=nexthop, dns=stored.dns, sts=stored.sts))
            return
        async with self._slots:
            # Waiting for a turn may take long: another may have learnt more meanwhile.
            known = (await self._store.load(nexthop)).sts
            dns, begun = await self._gather(nexthop, known)
        await self._conclude(Facts(nexthop=nexthop, dns=dns, sts=known), begun, told)

    async def _conclude(
        self, facts: Facts, begun: Fetching | None, told: asyncio.Future[Facts]
    ) -> None:
        """Tell *facts* together with the policy that was *begun* to be fetched, or without it."""
        if busy := overload(facts.dns):
            # What we did not ask says nothing of the domain: it is neither told nor kept.
            raise Unanswered(busy)
        if self._dane and decision.all_hosts_authenticate(facts.dns):
            # No policy can change the answer: do not wait for a web server.
            await self._tell(facts, told)
        elif begun is not None and decision.policy_in_force(facts, self._clock()) is not None:
            await asyncio.wait((begun,), timeout=EARLY)
            if not begun.done():
                await self._tell(facts, told)
        sts = await self._policy(facts, begun)
        if not told.done() or sts != facts.sts:
            await self._tell(replace(facts, sts=sts), told)

    def _is_fresh(self, nexthop: NextHop, stored: Stored) -> bool:
        """Return whether what is *stored* will do, which without hosts is not enough for DANE."""
        dns = stored.dns
        if dns is None or not freshness.is_fresh(dns, stored.sts, self._clock()):
            return False
        return bool(dns.hosts) or not (self._dane and mx_hosts(dns.mx, nexthop))

    async def _gather(self, nexthop: NextHop, known: StsFacts) -> tuple[DnsFacts, Fetching | None]:
        """Return what DNS says, and the fetch that its record called for."""
        gathered = self._clock()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self._record(nexthop, known))
            mx = await gather_mx(self._resolver, nexthop)
            hosts, omitted = (
                await gather_hosts(self._resolver, nexthop, mx) if self._dane else ((), 0)
            )
            record, begun = await asking
        dns = DnsFacts(gathered=gathered, mx=mx, hosts=hosts, omitted=omitted, sts_record=record)
        return dns, begun

    async def _record(
        self, nexthop: NextHop, known: StsFacts
    ) -> tuple[Lookup[Record] | None, Fetching | None]:
        """Look the MTA-STS record up and start the fetch that it calls for at once."""
        if not has_policy_domain(nexthop):
            return None, None
        record = await gather_record(self._resolver, nexthop.name)
        return record, self._policies.begin(nexthop.name, record, known)

    async def _policy(self, facts: Facts, begun: Fetching | None) -> StsFacts:
        dns, known = facts.dns, facts.sts
        if dns.sts_record is None:
            return known  # another port of a host: the policy of its name stays untouched
        try:
            return await self._policies.update(
                facts.nexthop.name, dns.sts_record, known, asked=dns.gathered, begun=begun
            )
        except Busy:
            if freshness.in_force(known.cached, self._clock()) is None:
                raise
            return known

    async def _tell(self, facts: Facts, told: asyncio.Future[Facts]) -> None:
        """Store *facts*, then let those know who wait."""
        learnt = Stored(dns=facts.dns, sts=facts.sts)
        await self._save(facts.nexthop, learnt, asked=self._clock())
        if not told.done():
            told.set_result(facts)

    async def _save(self, nexthop: NextHop, learnt: Stored, *, asked: float | None) -> None:
        await self._store.save(
            nexthop,
            learnt,
            asked=asked,
            refresh=freshness.refresh_at(
                learnt.sts, self._refresh_interval, self._chance(), self._clock()
            ),
        )


def _fail(told: asyncio.Future[Facts], error: Unanswered) -> None:
    if not told.done():
        told.set_exception(error)
        told.exception()  # nobody may be waiting any more

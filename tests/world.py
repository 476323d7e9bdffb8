"""A scripted world: DNS, policy hosts and a clock that tests turn by hand.

`World` answers as `Resolver` and `PolicyFetcher` do, from dictionaries that a
test changes while time passes.  Everything else is the real thing: look-ups,
policies, decisions, answers, upkeep, and the SQLite store.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from postfix_mtasts.adapters.store_sqlite import SqliteStore
from postfix_mtasts.core import mta_sts, tlsa
from postfix_mtasts.core.decision import Settings
from postfix_mtasts.core.facts import Absent, Lookup, Mx, Present, Unavailable
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import FetchFailed, Findings, Store
from postfix_mtasts.services.activity import Activity
from postfix_mtasts.services.answer_cache import AnswerCache
from postfix_mtasts.services.answers import Answers, Plan
from postfix_mtasts.services.lookups import Lookups
from postfix_mtasts.services.policies import Policies
from postfix_mtasts.services.upkeep import Upkeep

P = ParamSpec("P")

START = 1_800_000_000.0
TTL = 300
PATIENCE = 30.0
"""Seconds of real time after which a test that hangs is given up."""
NXDOMAIN = Absent(secure=False, ttl=TTL, nxdomain=True)


@dataclass(kw_only=True)
class World:
    """What there is to be known, and how often it was asked for."""

    now: float = START
    dns: dict[tuple[str, str], Lookup[Any]] = field(default_factory=dict)
    https: dict[str, mta_sts.Response | FetchFailed] = field(default_factory=dict)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    fetched: Counter[str] = field(default_factory=Counter)
    dns_down: bool = False
    stuck: set[tuple[str, str]] = field(default_factory=set)  # what hangs, see `sticks`
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def clock(self) -> float:
        """Return the seconds since the epoch."""
        return self.now

    async def _ask(self, name: str, kind: str) -> Lookup[Any]:
        self.asked[name, kind] += 1
        await self._hang(name, kind)
        if self.dns_down:
            return Unavailable(why=f"{kind} {name}: no answer")
        return self.dns.get((name, kind), NXDOMAIN)

    async def mx(self, name: str) -> Lookup[Mx]:
        """Answer as `Resolver.mx` does."""
        return await self._ask(name, "MX")

    async def a(self, name: str) -> Lookup[str]:
        """Answer as `Resolver.a` does."""
        return await self._ask(name, "A")

    async def aaaa(self, name: str) -> Lookup[str]:
        """Answer as `Resolver.aaaa` does."""
        return await self._ask(name, "AAAA")

    async def cname(self, name: str) -> Lookup[str]:
        """Answer as `Resolver.cname` does."""
        return await self._ask(name, "CNAME")

    async def tlsa(self, name: str) -> Lookup[tlsa.Record]:
        """Answer as `Resolver.tlsa` does."""
        return await self._ask(name, "TLSA")

    async def txt(self, name: str) -> Lookup[bytes]:
        """Answer as `Resolver.txt` does."""
        return await self._ask(name, "TXT")

    async def fetch(self, host: str, addresses: tuple[str, ...]) -> mta_sts.Response | FetchFailed:
        """Answer as `PolicyFetcher.fetch` does."""
        assert addresses, "a fetch without an address"
        self.fetched[host] += 1
        await self._hang(host, "HTTPS")
        return self.https.get(host, refused(host))

    async def _hang(self, name: str, kind: str) -> None:
        if (name, kind) in self.stuck:
            await self._released.wait()
        await asyncio.sleep(0)

    # --- making the world ---------------------------------------------------------------

    def has(
        self, name: str, kind: str, *records: object, secure: bool = False, ttl: int = TTL
    ) -> None:
        """Let *name* have *records*; none at all is a denial."""
        self.dns[name, kind] = (
            Present(records=records, secure=secure, ttl=ttl, owner=name)
            if records
            else Absent(secure=secure, ttl=ttl)
        )

    def fails(self, name: str, kind: str, why: str = "SERVFAIL from 127.0.0.1") -> None:
        """Let DNS not answer for *name*."""
        self.dns[name, kind] = Unavailable(why=f"{kind} {name}: {why}")

    def sticks(self, name: str, kind: str) -> None:
        """Let questions for *name* hang, of *kind* "HTTPS" a policy host, until `lets_go`."""
        self.stuck.add((name, kind))

    def lets_go(self) -> None:
        """Let all that hangs be answered."""
        self.stuck.clear()
        self._released.set()
        self._released = asyncio.Event()

    def aliased(self, name: str, target: str, *, secure: bool = True) -> None:
        """Let *name* be an alias of *target* for all that *target* has now."""
        self.has(name, "CNAME", target, secure=secure)
        for (owner, kind), found in list(self.dns.items()):
            if owner == target:
                if not isinstance(found, Unavailable):
                    found = replace(found, secure=found.secure and secure)  # noqa: PLW2901 - as a resolver does
                self.dns[name, kind] = found

    def receives_mail(self, domain: str, *hosts: str, secure: bool = False, ttl: int = TTL) -> None:
        """Let mail for *domain* go to *hosts*, best preference first."""
        records = (Mx(preference=n + 1, host=host) for n, host in enumerate(hosts))
        self.has(domain, "MX", *records, secure=secure, ttl=ttl)
        for host in hosts:
            self.has(host, "A", "192.0.2.1", secure=secure, ttl=ttl)

    def has_tlsa(self, host: str, *, usable: bool = True, ttl: int = TTL) -> None:
        """Let *host* have a TLSA record below a secure address."""
        record = tlsa.Record(usage=3 if usable else 1, selector=1, matching_type=1, data=bytes(32))
        self.has(f"_25._tcp.{host}", "TLSA", record, secure=True, ttl=ttl)

    def publishes(
        self,
        domain: str,
        *,
        mode: mta_sts.Mode = "enforce",
        mx: tuple[str, ...] = ("*.example.com",),
        max_age: int = 86400,
        record_id: str = "1",
        ttl: int = TTL,
    ) -> None:
        """Let *domain* have an MTA-STS record and policy."""
        self.has(f"_mta-sts.{domain}", "TXT", f"v=STSv1; id={record_id};".encode(), ttl=ttl)
        self.has(f"mta-sts.{domain}", "A", "192.0.2.80", ttl=ttl)
        lines = ("version: STSv1", f"mode: {mode}", *(f"mx: {name}" for name in mx))
        body = "\n".join((*lines, f"max_age: {max_age}\n")).encode()
        self.https[f"mta-sts.{domain}"] = mta_sts.Response(
            status=200, content_type="text/plain", body=body
        )


def refused(host: str) -> FetchFailed:
    """Return what a closed port gives."""
    kind = ResultType.STS_POLICY_FETCH_ERROR
    return FetchFailed(kind=kind, why=f"{host}: connection refused")


@dataclass(kw_only=True)
class Daemon:
    """The daemon's services in a `World`, without sockets."""

    world: World
    store: Store
    group: asyncio.TaskGroup
    chance: Callable[[], float]
    refresh: float
    findings: Findings | None = None
    activity: Activity = field(default_factory=Activity)
    answers: Answers = field(init=False)
    upkeep: Upkeep = field(init=False)

    async def ask(self, key: str, map_name: str = "policy") -> str:
        """Return the reply to a request, from the cache where there is one."""
        payload = f"{map_name} {key}".encode()
        answer = self.answers.cache.answers.get(b"%d:%b," % (len(payload), payload))
        if answer is not None:
            answer.hits += 1
            answer.meter.count += 1
            return answer.reply.partition(b":")[2][:-1].decode()
        reply = self.answers.immediate(payload)
        return (reply or await self.answers.eventual(payload)).decode()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and what it brings happen; nothing may be stuck meanwhile."""
        self.world.now += seconds
        self.upkeep.tick(self.group)
        await self.upkeep.refresh_due()
        await self.idle()

    async def idle(self) -> None:
        """Let everything come to an end that is under way."""
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let what is under way go on until *condition* holds; `story` sees to the end of it."""
        while not condition():  # noqa: ASYNC110 - what it waits for knows of no event
            await asyncio.sleep(0)

    def plan(self, settings: Settings) -> Plan:
        """Return what answers by *settings*, as a start or a reload makes it."""
        policies = Policies(
            resolver=self.world,
            fetcher=self.world,
            clock=self.world.clock,
            group=self.group,
            activity=self.activity,
        )
        lookups = Lookups(
            resolver=self.world,
            policies=policies,
            store=self.store,
            clock=self.world.clock,
            chance=self.chance,
            group=self.group,
            refresh_interval=self.refresh,
            dane=settings.dane,
            concurrent=100,
        )
        return Plan(settings=settings, lookups=lookups, resolver=self.world, findings=self.findings)


@asynccontextmanager
async def daemon(
    world: World,
    *,
    settings: Settings | None = None,
    path: Path | None = None,
    refresh: float = 86400,
    chance: Callable[[], float] = lambda: 0.5,
    ticks: Callable[[], float] | None = None,
    limit: int = 1000,
    findings: Findings | None = None,
) -> AsyncIterator[Daemon]:
    """Run the daemon's services in *world*, the store at *path* or in memory.

    *limit*: answers kept in memory.
    """
    store = SqliteStore(path, clock=world.clock)
    steady = ticks or world.clock
    try:
        async with asyncio.TaskGroup() as group:
            running = Daemon(
                world=world,
                store=store,
                group=group,
                chance=chance,
                refresh=refresh,
                findings=findings,
            )
            running.answers = Answers(
                plan=running.plan(settings or Settings()),
                cache=AnswerCache(limit=limit),
                clock=world.clock,
                ticks=steady,
                activity=running.activity,
            )
            running.upkeep = Upkeep(
                answers=running.answers, store=store, clock=world.clock, ticks=steady
            )
            yield running
            await running.idle()
    finally:
        await store.close()


def story(told: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Make a test of a coroutine; one that hangs fails."""

    async def within_patience(telling: Coroutine[None, None, None]) -> None:
        async with asyncio.timeout(PATIENCE):
            await telling

    @wraps(told)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(within_patience(told(*args, **kwargs)))

    return test

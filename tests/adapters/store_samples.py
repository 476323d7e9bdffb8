"""What the tests of the store put into it, and a process that does so until it is killed."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from postfix_mtasts.adapters.store_sqlite import SqliteStore
from postfix_mtasts.core.facts import (
    Absent,
    CachedPolicy,
    DnsFacts,
    FailedFetch,
    HostFacts,
    Mx,
    Present,
    StsFacts,
)
from postfix_mtasts.core.mta_sts import parse_policy
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import Stored

NOW = 1_732_200_000.0
DAY = 86400.0
WEEK = 7 * DAY
NOTHING = Stored(dns=None, sts=StsFacts())


class SetClock:
    """A wall clock that stands until it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    path: Path | None, clock: SetClock | None = None, max_domains: int = 1000
) -> AsyncIterator[SqliteStore]:
    """A store that is closed at the end."""
    store = SqliteStore(path, clock=clock or SetClock(), max_domains=max_domains)
    try:
        yield store
    finally:
        await store.close()


def nexthop(name: str) -> NextHop:
    return NextHop(form=Form.DOMAIN, name=name)


def dns(host: str = "mx.example.com", gathered: float = NOW) -> DnsFacts:
    return DnsFacts(
        gathered=gathered,
        mx=Present(
            records=(Mx(preference=10, host=host),), secure=False, ttl=60, owner="example.com"
        ),
        hosts=(
            HostFacts(
                name=host,
                preference=10,
                addresses=Present(records=("192.0.2.1",), secure=False, ttl=60, owner=host),
                tlsa=None,
            ),
        ),
        sts_record=Absent(secure=False, ttl=60),
    )


def policy(
    record_id: str = "1", *, mode: str = "enforce", checked: float = NOW, max_age: float = WEEK
) -> CachedPolicy:
    lines = ("version: STSv1", f"mode: {mode}", "mx: mx.example.com", f"max_age: {max_age:.0f}")
    text = "\r\n".join(lines).encode() + b"\r\n"
    return CachedPolicy(
        record_id=record_id,
        policy=parse_policy(text),
        text=text,
        fetched=checked - 5,
        checked=checked,
    )


def failure(why: str = "timed out", at: float = NOW) -> FailedFetch:
    kind = ResultType.STS_POLICY_FETCH_ERROR
    return FailedFetch(record_id="2", at=at, retry_at=at + 300, kind=kind, why=why)


def stored(cached: CachedPolicy | None = None, failed: FailedFetch | None = None) -> Stored:
    return Stored(dns=dns(), sts=StsFacts(cached=cached, failure=failed))


async def save(store: SqliteStore, name: str, what: Stored, asked: float | None = NOW) -> None:
    await store.save(nexthop(name), what, asked=asked, refresh=NOW + DAY)


async def names(store: SqliteStore) -> list[str]:
    return [entry.domain for entry in await store.entries(after="", limit=10_000)]


async def _save_for_ever(path: Path) -> None:
    """Save domain after domain, many at once; print the number of each that is stored."""
    numbers = count()
    async with opened(path, max_domains=100_000) as store, asyncio.TaskGroup() as group:

        async def work() -> None:
            for number in numbers:
                await save(store, f"d{number}.example", stored(policy(str(number))))
                print(number, flush=True)  # noqa: T201 - the test reads it

        for _ in range(16):
            group.create_task(work())


if __name__ == "__main__":
    asyncio.run(_save_for_ever(Path(sys.argv[1])))

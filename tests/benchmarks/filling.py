"""A store with many domains in it."""

import asyncio
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from postfix_mtasts.adapters.store_sqlite import SqliteStore
from postfix_mtasts.core.names import NextHop
from postfix_mtasts.ports import Stored

TOGETHER = 500


def fill(path: Path, rows: Iterable[tuple[NextHop, Stored]]) -> None:
    """Store *rows* in a new database at *path*."""
    asyncio.run(_fill(path, iter(rows)))


async def _fill(path: Path, rows: "Iterable[tuple[NextHop, Stored]]") -> None:
    store = SqliteStore(path, clock=time.time)
    remaining = iter(rows)
    while batch := tuple(islice(remaining, TOGETHER)):
        async with asyncio.TaskGroup() as group:
            for nexthop, stored in batch:
                group.create_task(store.save(nexthop, stored, asked=time.time(), refresh=None))
    await store.close()

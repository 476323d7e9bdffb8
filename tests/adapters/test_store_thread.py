"""The thread of the store: jobs in batches, none lost, none in another's way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from postfix_mtasts.adapters.store_thread import MAX_BATCH, BatchThread, Job, Outcome


class Workshop:
    """Does jobs, but waits for `door` first; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.began = threading.Event()
        self.door = threading.Event()

    def work(self, jobs: Sequence[Job[str]]) -> list[Outcome]:
        self.batches.append(len(jobs))
        self.began.set()
        assert self.door.wait(10)
        return [Outcome(result=job("tool")) for job in jobs]


def answer(number: int, _tool: str) -> int:
    return number


@asynccontextmanager
async def busy(workshop: Workshop, limit: int = 4096) -> AsyncIterator[BatchThread[str]]:
    """A thread that is kept at its first job until the door is opened."""
    thread = BatchThread("test", workshop.work, limit=limit)
    first = asyncio.create_task(thread.submit(partial(answer, 0)))
    await asyncio.to_thread(workshop.began.wait, 10)
    try:
        yield thread
    finally:
        workshop.door.set()
        await first
        await thread.close(lambda: None)


def scenario(test: Callable[[Workshop], Any]) -> Workshop:
    workshop = Workshop()
    asyncio.run(test(workshop))
    return workshop


def test_jobs_that_come_while_one_is_done_are_done_together_and_in_order() -> None:
    async def test(workshop: Workshop) -> None:
        async with busy(workshop) as thread:
            tasks = [asyncio.create_task(thread.submit(partial(answer, n))) for n in range(50)]
            await asyncio.sleep(0)
            workshop.door.set()
            assert await asyncio.gather(*tasks) == list(range(50))

    assert scenario(test).batches == [1, 50]


def test_a_batch_has_a_limit() -> None:
    async def test(workshop: Workshop) -> None:
        async with busy(workshop) as thread:
            tasks = [
                asyncio.create_task(thread.submit(partial(answer, n))) for n in range(MAX_BATCH + 1)
            ]
            await asyncio.sleep(0)
            workshop.door.set()
            await asyncio.gather(*tasks)

    assert scenario(test).batches == [1, MAX_BATCH, 1]


def test_no_more_tasks_wait_here_than_the_limit_says() -> None:
    async def test(workshop: Workshop) -> None:
        async with busy(workshop, limit=4) as thread:
            tasks = [asyncio.create_task(thread.submit(partial(answer, n))) for n in range(9)]
            await asyncio.sleep(0)
            workshop.door.set()
            assert await asyncio.gather(*tasks) == list(range(9))

    assert max(scenario(test).batches) <= 4


def test_a_cancelled_task_takes_its_job_back() -> None:
    done: list[str] = []

    async def test(workshop: Workshop) -> None:
        async with busy(workshop) as thread:
            task = asyncio.create_task(thread.submit(done.append))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    assert scenario(test).batches == [1]
    assert done == []


def test_a_task_that_is_cancelled_during_its_batch_leaves_the_others_their_results() -> None:
    async def test(workshop: Workshop) -> None:
        thread = BatchThread("test", workshop.work)
        tasks = [asyncio.create_task(thread.submit(partial(answer, n))) for n in range(3)]
        await asyncio.to_thread(workshop.began.wait, 10)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        workshop.door.set()
        assert [await tasks[0], await tasks[2]] == [0, 2]
        await thread.close(lambda: None)

    scenario(test)


def test_closing_does_what_waits_then_the_last_job() -> None:
    order: list[str] = []

    async def test(workshop: Workshop) -> None:
        async with busy(workshop) as thread:
            task = asyncio.create_task(thread.submit(lambda _: order.append("job")))
            await asyncio.sleep(0)
            closing = asyncio.create_task(thread.close(lambda: order.append("last")))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="closed"):
                await thread.submit(partial(answer, 1))
            workshop.door.set()
            await task
            await closing

    scenario(test)
    assert order == ["job", "last"]


def test_what_the_work_itself_raises_reaches_every_task() -> None:
    def broken(_jobs: Sequence[Job[str]]) -> list[Outcome]:
        raise LookupError("broken")

    async def test(_: Workshop) -> None:
        thread = BatchThread("test", broken)
        submitted = (thread.submit(partial(answer, n)) for n in range(3))
        results = await asyncio.gather(*submitted, return_exceptions=True)
        assert [type(result) for result in results] == [LookupError] * 3
        await thread.close(lambda: None)

    scenario(test)


def test_a_job_is_refused_where_the_system_has_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def test(workshop: Workshop) -> None:
        thread = BatchThread("test", workshop.work)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                await thread.submit(partial(answer, 1))
        await thread.close(lambda: None)

    scenario(test)

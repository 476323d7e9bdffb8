"""A thread that does in one go all that many tasks are waiting for.

Group commit: a transaction costs the same whether it holds one change or a
hundred.  While one batch of jobs is being done, the next gathers; so a lone job
waits for nobody, and under load batches grow by themselves.

The event loop only queues jobs and waits, so a slow disk stops the tasks that
ask for it and nothing else.  No more than *limit* tasks wait here (a bound on
memory); who comes later waits for a place.

A task that is cancelled takes its job back, unless its batch has begun.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")
ContextT = TypeVar("ContextT")
Job: TypeAlias = Callable[[ContextT], Any]

MAX_BATCH = 256
"""Jobs done in one go: more would make the first of them wait for the last."""

MAX_WAITING = 4096
"""Tasks that may wait at once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: a result, or the error that it raised."""

    result: Any = None
    error: BaseException | None = None


class BatchThread(Generic[ContextT]):
    """Has *work* called with batches of jobs, always on the same thread.

    A job is a function of what *work* has for it, a database for instance.
    *work* returns one outcome for each job, in order; what it raises is raised
    to every task of the batch.  To be used from one event loop.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Job[ContextT]]], Sequence[Outcome]],
        *,
        limit: int = MAX_WAITING,
    ) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._places = asyncio.Semaphore(limit)
        self._waiting: dict[asyncio.Future[Any], Job[ContextT]] = {}  # in order of arrival
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def submit(self, job: Callable[[ContextT], T]) -> T:
        """Have *job* done; return its result or raise its error.

        Raises `RuntimeError` after `close`.
        """
        async with self._places:
            if self._closed:
                raise RuntimeError("the store is closed")
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            self._waiting[future] = job
            if self._idle.is_set():
                self._idle.clear()
                loop.call_soon(self._begin)
            try:
                result: T = await future
            finally:
                self._waiting.pop(future, None)
            return result

    async def close(self, last: Callable[[], None]) -> None:
        """Take no more jobs, do those that wait, then *last*, and end the thread."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        await asyncio.get_running_loop().run_in_executor(self._thread, last)
        self._thread.shutdown()

    def _begin(self) -> None:
        futures = list(islice(self._waiting, MAX_BATCH))
        if not futures:
            self._idle.set()
            return
        jobs = [self._waiting.pop(future) for future in futures]
        loop = asyncio.get_running_loop()
        try:
            running = loop.run_in_executor(self._thread, self._work, jobs)
        except RuntimeError as error:  # the system has no thread for us
            self._settle(futures, [Outcome(error=error)] * len(futures))
        else:
            running.add_done_callback(partial(self._end, futures))

    def _end(
        self,
        futures: list["asyncio.Future[Any]"],
        running: "asyncio.Future[Sequence[Outcome]]",
    ) -> None:
        error = running.exception()
        outcomes = [Outcome(error=error)] * len(futures) if error else running.result()
        self._settle(futures, outcomes)

    def _settle(self, futures: list["asyncio.Future[Any]"], outcomes: Sequence[Outcome]) -> None:
        """Wake the tasks of a batch, and let them submit anew before the next begins."""
        for future, outcome in zip(futures, outcomes, strict=True):
            if future.done():
                continue  # cancelled
            if outcome.error is None:
                future.set_result(outcome.result)
            else:
                future.set_exception(outcome.error)
        asyncio.get_running_loop().call_soon(self._begin)

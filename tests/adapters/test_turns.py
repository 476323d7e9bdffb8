"""Turns, taken by tasks whose every step is decided here."""

import asyncio
from collections.abc import Awaitable, Callable

from postfix_mtasts.adapters.turns import Turns


class Crowd:
    """Tasks that take turns, and leave when they are told to."""

    def __init__(self, at_once: int) -> None:
        self.turns = Turns(at_once)
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._leave: dict[str, asyncio.Event] = {}

    async def come(self, *names: str, thing: str = "192.0.2.1") -> None:
        for name in names:
            self._leave[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._take(name, thing))
        await settle()

    async def go(self, name: str) -> None:
        self._leave[name].set()
        await settle()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self.tasks[name].cancel()
        await settle()

    async def _take(self, name: str, thing: str) -> None:
        async with self.turns.turn(thing):
            self.inside.append(name)
            try:
                await self._leave[name].wait()
            finally:
                self.inside.remove(name)


async def settle() -> None:
    for _ in range(9):  # more steps than any of the tasks takes without being told
        await asyncio.sleep(0)


def play(story: Callable[[Crowd], Awaitable[None]], at_once: int = 2) -> None:
    async def run() -> None:
        crowd = Crowd(at_once)
        await story(crowd)
        await crowd.cancel(*crowd.tasks)
        assert len(crowd.turns) == 0

    asyncio.run(run())


def test_no_more_than_so_many_have_a_thing_at_once() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come("a", "b", "c", "d")
        assert crowd.inside == ["a", "b"]

    play(story)


def test_those_who_wait_come_in_their_order() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come("a", "b", "c", "d")
        await crowd.go("b")
        assert crowd.inside == ["a", "c"]
        await crowd.go("a")
        assert crowd.inside == ["c", "d"]

    play(story)


def test_another_thing_is_not_waited_for() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come("a", "b", "c")
        await crowd.come("x", thing="2001:db8::1")
        assert crowd.inside == ["a", "b", "x"]
        assert len(crowd.turns) == 2

    play(story)


def test_who_is_cancelled_while_it_waits_loses_its_place_only() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come("a", "b", "c")
        await crowd.cancel("b")
        await crowd.go("a")
        assert crowd.inside == ["c"]

    play(story, at_once=1)


def test_who_is_cancelled_during_its_turn_lets_the_next_have_it() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come("a", "b")
        await crowd.cancel("a")
        assert crowd.inside == ["b"]

    play(story, at_once=1)


def test_nothing_is_kept_of_what_nobody_wants() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come("a", "b")
        await crowd.go("a")
        assert len(crowd.turns) == 1  # b has it
        await crowd.go("b")
        assert len(crowd.turns) == 0

    play(story, at_once=1)

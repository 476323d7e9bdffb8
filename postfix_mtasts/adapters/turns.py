"""Turns: of those who want the same thing, so many at once, the others in order.

Whoever waits holds nothing but a place in the line, and whoever is cancelled
while it waits loses it.  Nothing is kept of what nobody wants any more, so that
the names of things may be a stranger's choice.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(slots=True)
class _Gate:
    """The way to one thing."""

    free: asyncio.Semaphore
    wanted: int = 0  # by how many, those included who have it


class Turns:
    """Lets *at_once* tasks at a time have each thing (a security limit)."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._gates: dict[str, _Gate] = {}

    def __len__(self) -> int:
        """Return how many things are wanted."""
        return len(self._gates)

    @contextlib.asynccontextmanager
    async def turn(self, thing: str) -> AsyncIterator[None]:
        """Wait for a turn at *thing*, first come, first served; it ends with the block."""
        gate = self._gates.setdefault(thing, _Gate(asyncio.Semaphore(self._at_once)))
        gate.wanted += 1
        try:
            async with gate.free:
                yield
        finally:
            gate.wanted -= 1
            if not gate.wanted:
                del self._gates[thing]

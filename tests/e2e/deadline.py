"""Waiting for the outside world: a question asked again until a deadline, no sleep in hope."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.02  # seconds between two questions


def wait_until(probe: Callable[[], T | None], what: str, seconds: float = 15.0) -> T:
    """Return the first value of *probe* that is neither `None` nor false.

    Raises `TimeoutError` naming *what* after *seconds*.
    """
    end = time.monotonic() + seconds
    while not (value := probe()):
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds:g} s still no {what}")
        time.sleep(PAUSE)
    return value


def holds_for(probe: Callable[[], bool], what: str, seconds: float) -> None:
    """Assert that *probe* is true at every moment of the next *seconds*."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert probe(), f"no longer: {what}"
        time.sleep(PAUSE)

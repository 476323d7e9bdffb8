"""A log collected by a process that is killed anywhere, and one that is not: the same counts."""

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from postfix_mtasts.adapters import log_files
from postfix_mtasts.adapters.log_files import LogFile
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME, SqliteTlsrptStore
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.services import collector
from postfix_mtasts.services.collector import Collector
from postfix_mtasts.services.log_counter import LogCounter
from tests.core.log_scenarios import LOGS

SCENARIOS = ("3.10/encrypt-ok", "3.10/dane-ee-mismatch", "3.7/dane-nostarttls", "3.11/encrypt-ok")
POINTS = 60  # of a run at which it is killed
NOTHING = InForce()


class Nowhere:
    """A policy daemon that knows nothing."""

    def of(self, domain: str, _when: float, *, since: float = 0.0) -> InForce:
        assert domain
        assert since >= 0
        return NOTHING

    def edition(self) -> int:
        return 0


@pytest.fixture(autouse=True)
def many_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "CHUNK", 3000)
    monkeypatch.setattr(log_files, "GRACE", 0.0)
    monkeypatch.setattr(collector, "WRITE_SECONDS", 0.0)


@pytest.fixture
def text() -> bytes:
    return b"".join((LOGS / f"{name}.log").read_bytes() for name in SCENARIOS)


def collect(path: Path) -> None:
    """Read the log at *path* to its end."""
    store = SqliteTlsrptStore(path.parent / FILE_NAME)
    source = LogFile(path, follow=False)
    counter = LogCounter(source, store=store, policies=Nowhere(), clock=time.time)
    sidecar = Collector(store=store, ticks=time.monotonic, clock=time.time)
    sidecar.adopt([counter])
    while not counter.ended:
        sidecar.turn()
    assert sidecar.close()


def in_child(work: Callable[[], None]) -> int:
    """Run *work* in a process of its own; return how that ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the status says it
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_after(calls: int, work: Callable[[], None]) -> Callable[[], None]:
    """Return *work*, killed before the call that comes behind *calls* ones."""
    left = calls

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal left
        if event in {"call", "c_call"}:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        sys.setprofile(count)
        work()
        sys.setprofile(None)

    return run


def calls_of_a_run(tmp_path: Path, text: bytes) -> int:
    """Return how many functions are called while *text* is read, and nothing for the first time."""
    collect(folder_with(tmp_path, "first", text))
    counted = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in {"call", "c_call"}

    path = folder_with(tmp_path, "second", text)
    sys.setprofile(count)
    try:
        collect(path)
    finally:
        sys.setprofile(None)
    return counted


def stored(folder: Path) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(folder / FILE_NAME)
    try:
        return connection.execute("SELECT * FROM counts ORDER BY 1, 2, 3, 4, 5").fetchall()
    finally:
        connection.close()


def folder_with(tmp_path: Path, name: str, text: bytes) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "mail.log").write_bytes(text)
    return folder / "mail.log"


def test_wherever_it_is_killed_the_counts_are_those_of_an_undisturbed_run(
    tmp_path: Path, text: bytes
) -> None:
    calm = folder_with(tmp_path, "calm", text)
    calls = calls_of_a_run(tmp_path, text)
    collect(calm)
    expected = stored(calm.parent)
    assert sum(row[-1] for row in expected) >= len(SCENARIOS)
    for point in range(POINTS):
        path = folder_with(tmp_path, f"killed-{point}", text)
        work = killed_after(calls * point // (POINTS + 1), lambda path=path: collect(path))  # type: ignore[misc]
        assert in_child(work) == -signal.SIGKILL
        assert in_child(lambda path=path: collect(path)) == 0  # type: ignore[misc]
        assert stored(path.parent) == expected, f"killed after {point}/{POINTS} of the calls"


def test_killed_over_and_over_with_rotations_between_it_counts_each_session_once(
    tmp_path: Path, text: bytes
) -> None:
    calm = folder_with(tmp_path, "calm", text)
    calls = calls_of_a_run(tmp_path, text)
    collect(calm)
    lines = text.splitlines(keepends=True)
    path = folder_with(tmp_path, "stormy", b"")
    collect(path)  # of a log in which no place is stored what was rotated is not looked for
    kills = 0
    for part in range(5):
        share = lines[len(lines) * part // 5 : len(lines) * (part + 1) // 5]
        with path.open("ab") as log:
            log.writelines(share)
        for attempt in range(4):
            work = killed_after(calls * (attempt + 1) // 20, lambda: collect(path))
            kills += in_child(work) == -signal.SIGKILL
        if part % 2:
            for number in range(part, 0, -1):
                older = path.with_name(f"mail.log.{number}")
                if older.exists():
                    older.rename(path.with_name(f"mail.log.{number + 1}"))
            path.rename(path.with_name("mail.log.1"))
            path.touch()
    assert kills > 5
    for _ in range(2):
        assert in_child(lambda: collect(path)) == 0
    assert stored(path.parent) == stored(calm.parent)

"""The store on a bad disk: nothing is raised, policies in force stay, and it comes back."""

import asyncio
import ctypes
import logging
import os
import random
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from postfix_mtasts.adapters import store_file
from postfix_mtasts.adapters.store_database import RETRY
from tests.adapters.store_samples import (
    DAY,
    NOTHING,
    NOW,
    SetClock,
    dns,
    failure,
    names,
    nexthop,
    opened,
    policy,
    save,
    stored,
)
from tests.e2e.namespace import CLONE_NEWNS

KNOWN = nexthop("known.example")
LEARNT = nexthop("learnt.example")

P = ParamSpec("P")
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_file, "_BUSY_TIMEOUT", 0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a store is that knows one policy."""
    path = tmp_path / "state.db"
    asyncio.run(fill(path))
    return path


async def fill(path: Path, number: int = 1) -> None:
    async with opened(path) as store:
        await save(store, KNOWN.name, stored(policy()))
        for n in range(1, number):
            await save(store, f"d{n}.example", stored(policy()))


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


@contextmanager
def no_file_may_grow(size: int) -> Iterator[None]:
    """Let this process write no file beyond *size* bytes: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def set_aside(folder: Path) -> int:
    """Return how many databases in *folder* are set aside."""
    return len(list(folder.glob("*.corrupt-*Z")))


# Damage: set aside, begun anew


def rubbish(path: Path) -> None:
    path.write_bytes(b"this was a database once\n" * 1000)


def half_a_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def another_version(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()


def a_missing_table(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE nexthops")
    other.close()


def damage_pages(path: Path) -> None:
    """Overwrite every page but the first, under whoever has the database open."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


@pytest.mark.parametrize("damage", [rubbish, half_a_page, another_version, a_missing_table])
def test_a_damaged_file_is_set_aside_told_and_begun_anew(
    path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(path)
    damaged = path.read_bytes()

    async def scenario() -> None:
        async with opened(path) as store:
            assert await store.load(KNOWN) == NOTHING
            await save(store, LEARNT.name, stored(policy()))
            assert store.problem is None
        async with opened(path) as store:
            assert await store.load(LEARNT) == stored(policy())

    asyncio.run(scenario())
    [message] = errors(caplog)
    aside = path.with_name("state.db.corrupt-20241121T144000Z")
    assert f"{path} is damaged" in message
    assert f"set aside as {aside}" in message
    assert "must be learnt anew" in message
    assert aside.read_bytes() == damaged


def test_a_journal_goes_with_the_file_that_is_set_aside(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).write_text(suffix)
    aside = store_file.set_aside(path, NOW)
    assert sorted(file.name for file in path.parent.iterdir()) == [
        aside.name,
        f"{aside.name}-shm",
        f"{aside.name}-wal",
    ]
    assert aside.with_name(f"{aside.name}-wal").read_text() == "-wal"


def test_damage_in_the_middle_loses_no_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"

    async def scenario() -> None:
        await fill(path, 500)
        async with opened(path) as store:
            await store.load(KNOWN)
            damage_pages(path)
            async with asyncio.TaskGroup() as group:
                for number in range(500):
                    group.create_task(save(store, f"d{number}.example", stored(policy("new"))))
            for number in range(500):
                found = await store.load(nexthop(f"d{number}.example"))
                assert found == stored(policy("new"))

    asyncio.run(scenario())
    assert len(errors(caplog)) == 1


def test_a_disk_that_damages_one_file_after_the_other_is_left_alone_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "state.db", SetClock()
    rubbish(path)

    async def scenario() -> None:
        async with opened(path, clock) as store:
            for number in range(500):
                await save(store, f"d{number}.example", stored(policy()))
            with sqlite3.connect(path) as other:  # out of the journal, whose pages are sound
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            other.close()
            damage_pages(path)
            await names(store)
            assert store.problem is not None
            await save(store, LEARNT.name, stored(policy()))
            assert set_aside(tmp_path) == 1
            clock.now += RETRY
            assert await store.load(LEARNT) == stored(policy())
            assert store.problem is None
        async with opened(path, clock) as store:
            assert await names(store) == [LEARNT.name]

    asyncio.run(scenario())
    assert set_aside(tmp_path) == 2
    assert len(errors(caplog)) == 3


def test_a_damaged_file_that_cannot_be_renamed_is_left_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"

    def refuse(_path: Path, _now: float) -> Path:
        raise PermissionError("not your folder")

    async def scenario() -> None:
        await fill(path, 500)
        async with opened(path) as store:
            await store.load(KNOWN)
            damage_pages(path)
            monkeypatch.setattr(store_file, "set_aside", refuse)
            await names(store)
            assert "not your folder" in str(store.problem)
            await save(store, LEARNT.name, stored(policy()))
            assert await store.load(LEARNT) == stored(policy())

    asyncio.run(scenario())
    assert set_aside(tmp_path) == 0


@pytest.mark.parametrize("seed", range(60))
def test_damage_at_any_place_is_never_raised(tmp_path: Path, seed: int) -> None:
    path, chance = tmp_path / "state.db", random.Random(seed)
    asyncio.run(fill(path, 60))
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice((1, 20, 400))):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path.write_bytes(content)

    async def scenario() -> None:
        async with opened(path, max_domains=50) as store:
            for number in range(60):
                await store.load(nexthop(f"d{number}.example"))
            await store.entries(after="", limit=100)
            await store.due(NOW + 10 * DAY, 100)
            for number in range(60):
                what = stored(policy("new", checked=NOW), failure())
                await save(store, f"d{number}.example", what, asked=NOW + 1)
            await store.purge(("d7.example",))
            await store.forget(NOW)
            await save(store, LEARNT.name, stored(policy("new")), asked=NOW + 2)
            assert await store.load(LEARNT) == stored(policy("new"))

    asyncio.run(scenario())


# Unusable: memory stands in


def test_without_a_folder_memory_stands_in_until_there_is_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.write_text("a file is in the way")
    path, clock = folder / "state.db", SetClock()

    async def scenario() -> None:
        async with opened(path, clock) as store:
            assert await store.load(LEARNT) == NOTHING
            assert str(path) in str(store.problem)
            await save(store, LEARNT.name, stored(policy()))
            clock.now += RETRY - 1
            folder.unlink()
            assert await store.load(LEARNT) == stored(policy())
            assert not path.exists()
            clock.now += 1
            assert await store.load(LEARNT) == stored(policy())
            assert store.problem is None
            await save(store, KNOWN.name, stored(policy()))
        async with opened(path, clock) as store:
            assert await names(store) == [KNOWN.name, LEARNT.name]

    asyncio.run(scenario())
    [message] = errors(caplog)
    assert f"{path} cannot be used" in message
    assert "kept in memory" in message


def test_without_a_file_memory_takes_one_domain_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def scenario() -> list[str]:
        async with opened(tmp_path / "file" / "state.db") as store:
            for hour in range(3):  # what DNS says is other each time
                learnt = replace(stored(policy()), dns=dns(gathered=NOW + 3600 * hour))
                await save(store, LEARNT.name, learnt)
            return await names(store)

    assert asyncio.run(scenario()) == [LEARNT.name]


def test_closing_is_the_last_attempt_to_write_what_memory_holds(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.write_text("a file is in the way")

    async def scenario() -> None:
        async with opened(folder / "state.db") as store:
            await save(store, LEARNT.name, stored(policy()))
            folder.unlink()
        async with opened(folder / "state.db") as store:
            assert await store.load(LEARNT) == stored(policy())

    asyncio.run(scenario())


def test_closing_gives_up_what_no_file_takes(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.write_text("a file is in the way")

    async def scenario() -> None:
        async with opened(folder / "state.db") as store:
            await save(store, LEARNT.name, stored(policy()))

    asyncio.run(scenario())


def test_a_disk_that_fills_up_loses_nothing_and_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SetClock()

    async def scenario() -> None:
        async with opened(path, clock) as store:
            await save(store, "before.example", stored(policy()))
            with no_file_may_grow(path.with_name("state.db-wal").stat().st_size):
                await save(store, LEARNT.name, stored(policy()))
                assert store.problem is not None
                for _ in range(3):
                    clock.now += RETRY
                    await save(store, KNOWN.name, stored(policy("new", checked=NOW + 1)))
                assert await names(store) == ["before.example", KNOWN.name, LEARNT.name]
                assert await store.purge(("before.example",)) == 1
                assert len(errors(caplog)) == 1
            clock.now += RETRY
            await store.load(LEARNT)
            assert store.problem is None
        async with opened(path, clock) as store:
            assert await names(store) == [KNOWN.name, LEARNT.name]
            assert await store.load(KNOWN) == stored(policy("new", checked=NOW + 1))
            assert await store.load(LEARNT) == stored(policy())

    asyncio.run(scenario())
    assert "can be used again" in caplog.records[-1].getMessage()


def test_a_new_file_gets_all_that_memory_holds(path: Path) -> None:
    clock = SetClock()

    async def scenario() -> None:
        async with opened(path, clock) as store:
            await store.load(KNOWN)
            with no_file_may_grow(0):
                await save(store, LEARNT.name, stored(policy()))
                assert store.problem is not None
            rubbish(path)
            clock.now += RETRY
            await store.load(KNOWN)
            assert store.problem is None
        async with opened(path, clock) as store:
            assert await store.load(KNOWN) == stored(policy())
            assert await store.load(LEARNT) == stored(policy())

    asyncio.run(scenario())


def test_a_database_that_another_process_holds_is_waited_for_in_memory(path: Path) -> None:
    clock = SetClock()

    async def scenario() -> None:
        async with opened(path, clock) as store:
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            assert await store.load(KNOWN) == stored(policy())
            assert "locked" in str(store.problem)
            await save(store, LEARNT.name, stored(policy()))
            clock.now += RETRY
            assert await store.load(LEARNT) == stored(policy())
            assert store.problem is not None
            other.execute("ROLLBACK")
            other.close()
            clock.now += RETRY
            assert await store.load(LEARNT) == stored(policy())
            assert store.problem is None

    asyncio.run(scenario())


def test_what_memory_never_saw_is_not_overwritten_by_it(path: Path) -> None:
    """The file is out of reach, not gone, while the domain's policy host is down."""
    clock, hidden = SetClock(), path.with_name("hidden")

    def hide() -> None:
        path.rename(hidden)
        path.mkdir()  # no file can be made here

    def show() -> None:
        path.rmdir()
        hidden.rename(path)

    async def scenario() -> None:
        async with opened(path, clock) as store:
            assert await store.load(KNOWN) == NOTHING
            await save(store, KNOWN.name, stored(None, failure()))
            show()
            clock.now += RETRY
            assert await store.load(KNOWN) == stored(policy(), failure())

    hide()
    asyncio.run(scenario())


def test_the_loop_goes_on_while_the_disk_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_file, "_BUSY_TIMEOUT", 0.5)

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        async with opened(path) as store:
            loading = asyncio.create_task(store.load(KNOWN))
            longest, last = 0.0, loop.time()
            while not loading.done():
                await asyncio.sleep(0)
                longest, last = max(longest, loop.time() - last), loop.time()
            other.close()
            return longest

    assert asyncio.run(scenario()) < 0.25


# A real full disk and a real read-only file system


class Mounts:
    """A thread that has mounts of its own, as have the threads and processes it starts."""

    def __init__(self) -> None:
        self._inside = ThreadPoolExecutor(max_workers=1)
        self.call(_unshare_mounts)
        self.call(mount, "--make-rprivate", "/")

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._inside.submit(function, *args, **kwargs).result()

    def close(self) -> None:
        self._inside.shutdown()


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _unshare_mounts() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk and a read-only one")
    mounts = Mounts()
    try:
        yield mounts
    finally:
        mounts.close()


def test_a_file_system_without_a_free_block_stops_nobody(
    tmp_path: Path, mounts: Mounts, caplog: pytest.LogCaptureFixture
) -> None:
    mounts.call(mount, "-t", "tmpfs", "-o", "size=512k", "tmpfs", tmp_path)
    path, clock = tmp_path / "state.db", SetClock()

    async def scenario() -> None:
        async with opened(path, clock, max_domains=10_000) as store:
            await save(store, KNOWN.name, stored(policy()))
            (tmp_path / "log").write_bytes(b"x" * 150_000)
            for number in range(2000):
                await save(store, f"d{number}.example", stored(policy()))
            assert store.problem is not None
            assert "full" in store.problem
            assert len(await names(store)) == 2001
            assert await store.load(KNOWN) == stored(policy())
        assert len(errors(caplog)) == 1

    mounts.call(asyncio.run, scenario())


def test_a_file_system_that_is_read_only_lets_known_policies_be_read(
    path: Path, mounts: Mounts
) -> None:
    mounts.call(mount, "--bind", path.parent, path.parent)
    mounts.call(mount, "-o", "remount,bind,ro", path.parent)
    clock = SetClock()

    async def scenario() -> None:
        async with opened(path, clock) as store:
            assert await store.load(KNOWN) == stored(policy())
            assert store.problem is not None
            await save(store, LEARNT.name, stored(policy()))
            await asyncio.to_thread(mount, "-o", "remount,bind,rw", path.parent)
            clock.now += RETRY
            assert await names(store) == [KNOWN.name, LEARNT.name]
            assert store.problem is None

    mounts.call(asyncio.run, scenario())


def test_a_read_only_file_system_shows_what_a_killed_process_left_in_its_journal(
    path: Path, mounts: Mounts
) -> None:
    left = path.parent / "left"
    left.mkdir()

    async def kill() -> None:
        async with opened(path) as store:
            await save(store, LEARNT.name, stored(policy()))
            for file in path.parent.glob("state.db*"):
                shutil.copy(file, left)

    asyncio.run(kill())
    mounts.call(mount, "--bind", left, left)
    mounts.call(mount, "-o", "remount,bind,ro", left)

    async def scenario() -> None:
        async with opened(left / path.name) as store:
            assert await names(store) == [KNOWN.name, LEARNT.name]

    mounts.call(asyncio.run, scenario())

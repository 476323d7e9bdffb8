"""Thousands of connections: they cost memory, never service."""

import resource
import select
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.hostile.daemon_process import LOOPS, DaemonProcess, running

IDLE = 5000
LIMIT = 5100
SPARE = 200  # files of pytest's own
PER_CONNECTION = 16 << 10  # bytes of memory


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = LIMIT + SPARE
    if hard < wanted:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(name="daemon", params=LOOPS)
def make_daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    with running(
        tmp_path_factory.mktemp("daemon"),
        loop=request.param,
        limits={"connections": LIMIT},
        logging={"level": "warning"},
    ) as daemon:
        yield daemon


def test_five_thousand_idle_connections_slow_nobody_and_newcomers_are_served_beyond_the_limit(
    daemon: DaemonProcess,
) -> None:
    request, reply = b"nosuch x", b"PERM unknown map nosuch"
    before, descriptors = daemon.memory, daemon.descriptors()
    with ExitStack() as stack:
        idle = [stack.enter_context(daemon.client(tcp=bool(n % 2))) for n in range(2)]
        for first in idle:  # two listeners accept in any order: these two surely before the rest
            assert first.ask(request) == reply
        idle += [stack.enter_context(daemon.client(tcp=bool(n % 2))) for n in range(2, IDLE)]
        assert daemon.is_prompt()
        assert daemon.memory - before < IDLE * PER_CONNECTION
        assert idle[0].ask(request) == reply  # so the second was idle longest

        for _ in range(LIMIT - IDLE + 1):
            newcomer = stack.enter_context(daemon.client())
            assert newcomer.ask(request) == reply
        assert idle[1].is_closed()
        assert daemon.descriptors() <= descriptors + LIMIT + 16  # and what look-ups had open
        assert idle[0].ask(request) == reply
        others = [client.sock for client in idle[2:]]
        poll = select.poll()
        for sock in others:
            poll.register(sock, select.POLLIN)
        assert len(poll.poll(0)) <= 2  # those in whose place bystanders came

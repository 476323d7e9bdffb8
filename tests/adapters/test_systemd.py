"""What systemd is told, heard on a real notification socket."""

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfix_mtasts.adapters.systemd import Notifier, log_formatter

# sdnotify never closes its socket, nor does a daemon until it ends.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(name="manager")
def make_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Yield the service manager's end."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield manager


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def hears_nothing(manager: socket.socket) -> bool:
    manager.settimeout(0)
    try:
        manager.recv(4096)
    except BlockingIOError:
        return True
    return False


def test_ready_comes_with_the_status(manager: socket.socket) -> None:
    Notifier().ready("5 answers")
    assert heard(manager) == ["READY=1", "STATUS=5 answers"]


def test_a_reload_is_told_with_its_time_as_systemd_253_wants_it(manager: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    Notifier().reloading()
    reloading, when = heard(manager)
    assert reloading == "RELOADING=1"
    name, _, value = when.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


def test_the_watchdog_and_the_end_are_told(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.alive()
    notifier.stopping()
    assert [heard(manager), heard(manager)] == [["WATCHDOG=1"], ["STOPPING=1"]]


def test_a_status_is_told_when_it_changes(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready("one")
    for status in ("one", "two", "two", "three"):
        notifier.status(status)
    assert heard(manager) == ["READY=1", "STATUS=one"]
    assert [heard(manager), heard(manager)] == [["STATUS=two"], ["STATUS=three"]]
    assert hears_nothing(manager)


def test_a_status_of_several_lines_sets_no_other_variable(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.status("disk full\nMAINPID=1\r\nSTOPPING=1")
    notifier.ready("still\nSTOPPING=1")
    assert heard(manager) == ["STATUS=disk full MAINPID=1 STOPPING=1"]
    assert heard(manager) == ["READY=1", "STATUS=still STOPPING=1"]


def test_a_manager_that_does_not_read_stops_nobody(manager: socket.socket) -> None:
    notifier = Notifier()
    for _ in range(10_000):  # no queue of datagrams is as long
        notifier.alive()
    assert heard(manager) == ["WATCHDOG=1"]


def test_an_abstract_socket_is_reached(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    name = f"postfix-mtasts-{time.monotonic_ns()}-{request.node.name}"[:100]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        Notifier().stopping()
        assert heard(manager) == ["STOPPING=1"]


@pytest.mark.parametrize("path", [None, "", "/nonexistent/notify"])
def test_without_a_manager_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if path is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", path)
    notifier = Notifier()
    notifier.ready("up")
    notifier.reloading()
    notifier.stopping()


def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("postfix_mtasts", level, __file__, 1, message, None, None)


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, 7),
        (logging.INFO, 6),
        (logging.WARNING, 4),
        (logging.ERROR, 3),
        (logging.CRITICAL, 2),
        (logging.INFO + 1, 6),
    ],
)
def test_each_line_for_the_journal_begins_with_its_priority(level: int, priority: int) -> None:
    formatter = log_formatter({"JOURNAL_STREAM": "8:1"})
    text = formatter.format(record(level, "one\ntwo"))
    assert text == f"<{priority}>one\n<{priority}>two"


def test_elsewhere_lines_begin_with_the_time_and_the_level() -> None:
    text = log_formatter({}).format(record(logging.WARNING, "words"))
    time_of_day, level, words = text.rsplit(" ", 2)
    assert (level, words) == ("WARNING", "words")
    assert time.strptime(time_of_day.partition(",")[0], "%Y-%m-%d %H:%M:%S")

"""The socket that Postfix writes to: bound, handed over, emptied, and never overrun unheard."""

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfix_mtasts.adapters import datagram_socket
from postfix_mtasts.adapters.datagram_batch import DatagramBatch
from postfix_mtasts.adapters.datagram_socket import OVERHEAD, DatagramSocket, bind, inherited
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.tlsrpt_datagram import MAX_DATAGRAM
from postfix_mtasts.ports import Received

SOON = 10.0  # seconds


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "postfix-mtasts" / "tlsrpt.sock")


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        yield opened


def closed(received: DatagramSocket) -> list[Received]:
    """Return all that came until now."""
    received.close()
    return received.take()


def test_equal_datagrams_are_counted_and_kept_once(path: str, sender: socket.socket) -> None:
    received = DatagramSocket(bind(path), clock=lambda: 7.0)
    for data in (b"a", b"b", b"a"):
        sender.sendto(data, path)
    assert closed(received) == [
        Received(when=7.0, data=b"a", count=2),
        Received(when=7.0, data=b"b", count=1),
    ]
    assert received.take() == []


def test_midnight_parts_equal_datagrams(path: str, sender: socket.socket) -> None:
    now = [86399.0]
    received = DatagramSocket(bind(path), clock=lambda: now[0])
    sender.sendto(b"a", path)
    deadline = time.monotonic() + SOON
    first: list[Received] = []
    while not first and time.monotonic() < deadline:
        first = received.take()
    now[0] = 86400.0
    sender.sendto(b"a", path)
    assert [each.when for each in first + closed(received)] == [86399.0, 86400.0]


def test_everyone_may_write_to_it(path: str) -> None:
    bound = bind(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666  # noqa: PTH116 - the path is a str
    bound.close()


def test_a_stale_socket_is_replaced_and_a_heard_one_is_not(path: str) -> None:
    bind(path).close()
    bound = bind(path)
    with pytest.raises(ConfigError, match="another process receives there"):
        bind(path)
    bound.close()


def test_a_file_in_its_place_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ConfigError, match="no socket"):
        bind(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot receive at .*/file/x"):
        bind(str(tmp_path / "file" / "x"))


def test_a_datagram_that_is_too_long_is_one_octet_too_long(
    path: str, sender: socket.socket
) -> None:
    bound = bind(path)
    received = DatagramSocket(bound)
    sender.setsockopt(socket.SOL_SOCKET, 32, 4 * MAX_DATAGRAM)  # SO_SNDBUFFORCE
    sender.sendto(b"x" * (2 * MAX_DATAGRAM), path)
    [only] = closed(received)
    assert len(only.data) == MAX_DATAGRAM + 1


def test_more_than_may_be_kept_waits_in_the_queue(path: str, sender: socket.socket) -> None:
    received = DatagramSocket(bind(path), most=10)
    sender.settimeout(0)
    sent = 0
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:  # until Postfix would be told that it is full
        try:
            sender.sendto(b"%011d" % sent, path)
            sent += 1
        except BlockingIOError:
            break
    kept: list[Received] = []
    while len(kept) < sent and time.monotonic() < deadline:
        kept += received.take()
    assert [each.data for each in kept] == [b"%011d" % number for number in range(sent)]
    assert closed(received) == []


def test_a_tiny_datagram_takes_the_room_that_it_needs_in_memory(
    path: str, sender: socket.socket
) -> None:
    came = threading.Event()

    def clock() -> float:
        came.set()
        return 0.0

    received = DatagramSocket(bind(path), clock=clock, most=OVERHEAD)
    sender.sendto(b"1", path)
    assert came.wait(SOON)
    sender.sendto(b"2", path)
    assert [each.data for each in closed(received)] == [b"1"]


def test_none_of_a_burst_is_lost_however_busy_the_rest_is(path: str) -> None:
    received = DatagramSocket(bind(path))
    total = 20_000

    def send() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            for number in range(total):
                sender.sendto(b"%d" % (number % 50), path)

    thread = threading.Thread(target=send)
    thread.start()
    counted = 0
    while thread.is_alive():
        counted += sum(each.count for each in received.take())
    thread.join()
    assert counted + sum(each.count for each in closed(received)) == total


def test_an_error_of_the_socket_does_not_end_the_thread(
    path: str, sender: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagram_socket, "_ERROR_SECONDS", 0.0)
    faults = [OSError(12, "Cannot allocate memory")]
    receive = DatagramBatch.receive

    def faulty(batch: DatagramBatch, bound: socket.socket) -> list[bytes]:
        if faults:
            raise faults.pop()
        return receive(batch, bound)

    monkeypatch.setattr(DatagramBatch, "receive", faulty)
    received = DatagramSocket(bind(path))
    sender.sendto(b"a", path)
    deadline = time.monotonic() + SOON
    came: list[Received] = []
    while not came and time.monotonic() < deadline:
        came = received.take()
    assert [each.data for each in came] == [b"a"]
    assert closed(received) == []


def test_one_call_takes_what_is_there_each_whole_and_in_order(
    path: str, sender: socket.socket
) -> None:
    bound, batch = bind(path), DatagramBatch(5000)
    sent = [b"first", b"", b"x" * 5000, b"y" * 6000]
    for data in sent:
        sender.sendto(data, path)
    assert batch.receive(bound) == [*sent[:3], b"y" * 5000]
    bound.settimeout(0)
    with pytest.raises(BlockingIOError):
        batch.receive(bound)
    bound.close()


def test_what_systemd_hands_over_is_for_its_addressee_alone() -> None:
    assert inherited({}) == []
    assert inherited({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []
    assert inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) == []


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_datagram_socket_of_systemd_is_taken_and_another_is_refused(
    path: str, kind: socket.SocketKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(path).parent.mkdir()
    handed = socket.socket(socket.AF_UNIX, kind)
    handed.bind(path)
    monkeypatch.setattr(datagram_socket, "FIRST_FD", handed.detach())
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    if kind is socket.SOCK_STREAM:
        with pytest.raises(ConfigError, match="none for datagrams"):
            inherited(environment)
        return
    [adopted] = inherited(environment)
    assert adopted.getsockname() == path
    adopted.close()

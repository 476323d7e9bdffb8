"""Dialling and cutting, with sockets of loopback that never answer."""

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from postfix_mtasts.adapters.line import (
    CONNECT_SECONDS,
    MAX_ADDRESSES,
    MAX_BYTES,
    Line,
    LineError,
    words_of,
)
from tests.adapters.https_server import deaf_port

LONG = 20.0  # seconds, of what must not take so long
MOMENTS = 2.0  # seconds within which a cut must work, on a busy machine


@contextlib.contextmanager
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_line_says_where_it_leads() -> None:
    with open_port() as port:
        line = Line("host.example", ("127.0.0.1",), port, LONG)
        assert line.where == "host.example"
        with line.dial(), contextlib.closing(line):
            assert line.where == "host.example [127.0.0.1]"


def test_the_socket_may_block_for_no_longer_than_the_whole() -> None:
    with open_port() as port:
        line = Line("host.example", ("127.0.0.1",), port, LONG)
        with line.dial() as sock, contextlib.closing(line):
            assert sock.gettimeout() == LONG


def test_a_line_carries_so_many_bytes_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line("host.example", ("127.0.0.1",), listener.getsockname()[1], LONG)
        with line.dial() as sock, contextlib.closing(line):
            with listener.accept()[0] as far:
                far.sendall(b"x" * (MAX_BYTES + 1))
            left = MAX_BYTES
            while left:
                left -= len(sock.recv(min(left, 65536)))
            with pytest.raises(LineError, match=r"host\.example .*more than 160 KiB"):
                sock.recv(65536)


def test_each_address_has_its_share_of_the_time() -> None:
    with deaf_port() as port:
        line = Line("host.example", ("127.0.0.1", "127.0.0.1", "127.0.0.2"), port, 0.3)
        begun = time.monotonic()
        with pytest.raises(LineError) as caught, contextlib.closing(line):
            line.dial()
    assert time.monotonic() - begun < 0.3 + MOMENTS
    assert str(caught.value) == (
        "host.example [127.0.0.1]: no answer in time, [127.0.0.1]: no answer in time, "
        "[127.0.0.2]: connection refused"
    )


def test_addresses_without_number_are_not_all_tried() -> None:
    with open_port() as port:
        line = Line("host.example", ("127.0.0.2",) * MAX_ADDRESSES + ("127.0.0.1",), port, LONG)
        with pytest.raises(LineError) as caught, contextlib.closing(line):
            line.dial()
    assert str(caught.value).count("connection refused") == MAX_ADDRESSES


def test_a_silent_host_holds_a_thread_for_a_quarter_of_a_minute_at_most() -> None:
    assert MAX_ADDRESSES * CONNECT_SECONDS <= 15


def test_one_of_each_kind_is_among_the_addresses_tried() -> None:
    with open_port() as port:
        line = Line("host.example", ("127.0.0.2",) * 9 + ("::1", "::2"), port, LONG)
        with pytest.raises(LineError) as caught, contextlib.closing(line):
            line.dial()
    assert str(caught.value) == (
        "host.example [127.0.0.2]: connection refused, [127.0.0.2]: connection refused, "
        "[::1]: connection refused"
    )


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_socket_that_the_system_has_not_is_our_own_failure(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none_left(_sock: socket.socket) -> None:
        raise OSError(number, "x")

    monkeypatch.setattr(socket.socket, "dup", none_left)
    with open_port() as port:
        line = Line("host.example", ("127.0.0.1", "127.0.0.1"), port, LONG)
        with pytest.raises(LineError) as caught, contextlib.closing(line):
            line.dial()
    assert line.ours
    assert str(caught.value).count("[127.0.0.1]") == 1


def test_what_a_host_refuses_is_no_failure_of_ours() -> None:
    with open_port() as port:
        line = Line("host.example", ("127.0.0.2",), port, LONG)
        with pytest.raises(LineError), contextlib.closing(line):
            line.dial()
    assert not line.ours


@pytest.mark.parametrize("waited", [0.5, 0.6, 1.0, 2.0])
def test_a_line_that_has_waited_for_half_its_time_is_not_dialled(waited: float) -> None:
    with open_port() as port, pytest.MonkeyPatch.context() as patch:
        line = Line("host.example", ("127.0.0.1",), port, LONG)
        now = time.monotonic() + waited * LONG
        patch.setattr(time, "monotonic", lambda: now)
        with pytest.raises(LineError), contextlib.closing(line):
            line.dial()
    assert line.address == ""
    assert line.ours


def test_a_line_cut_before_it_is_dialled_stays_cut() -> None:
    with deaf_port() as port:
        line = Line("host.example", ("127.0.0.1", "127.0.0.1"), port, LONG)
        line.cut()
        cut = pytest.raises(LineError, match=r"^host\.example \[127\.0\.0\.1\]: cut off$")
        begun = time.monotonic()
        with cut, contextlib.closing(line):
            line.dial()
    assert time.monotonic() - begun < MOMENTS
    assert line.ours


def test_cutting_wakes_a_thread_that_reads() -> None:
    with open_port() as port, ThreadPoolExecutor(1) as threads:
        line = Line("host.example", ("127.0.0.1",), port, LONG)
        with line.dial() as sock, contextlib.closing(line):
            reading = threads.submit(sock.recv, 1)
            line.cut()
            line.cut()
            assert reading.result(MOMENTS) == b""


@pytest.mark.parametrize("moment", ["before", "during"])
def test_cutting_ends_a_connect_that_hangs(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    connecting = threading.Event()
    connect = socket.socket.connect

    def connect_and_tell(sock: socket.socket, address: tuple[str, int]) -> None:
        if moment == "before":  # the thread holds the socket, but has not called connect() yet
            line.cut()
        connecting.set()
        connect(sock, address)

    with deaf_port() as port, ThreadPoolExecutor(1) as threads:
        monkeypatch.setattr(socket.socket, "connect", connect_and_tell)
        line = Line("host.example", ("127.0.0.1", "127.0.0.1"), port, LONG)
        dialling = threads.submit(line.dial)
        assert connecting.wait(LONG)
        line.cut()
        error = dialling.exception(MOMENTS)
        line.close()
    assert isinstance(error, LineError)


def test_errors_are_told_in_the_words_of_the_system() -> None:
    assert words_of(ConnectionRefusedError(111, "x")) == "connection refused"
    assert words_of(OSError(113, "x")) == "no route to host"
    assert words_of(TimeoutError("timed out")) == "no answer in time"

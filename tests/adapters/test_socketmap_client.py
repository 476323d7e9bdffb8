"""Questions to the daemon."""

import socket
import time
from pathlib import Path

import pytest

from postfix_mtasts.adapters.socketmap_client import MAX_REPLY_BYTES, DaemonError, ask
from postfix_mtasts.core.endpoints import Listen, build_listen
from postfix_mtasts.core.netstring import build_netstring
from postfix_mtasts.core.socketmap import Reply, Status
from tests.adapters.socketmap_server import (
    STUCK_SECONDS,
    Script,
    SocketmapServer,
    inet,
    unix,
    wait_for_end,
)


def sends(data: bytes) -> Script:
    return lambda connection, _: connection.sendall(data)


@pytest.fixture(params=["unix", "inet"])
def listen(request: pytest.FixtureRequest, tmp_path: Path) -> Listen:
    return unix(tmp_path / "sock") if request.param == "unix" else inet()


def test_a_question_gets_its_reply_over_either_kind_of_socket(listen: Listen) -> None:
    with SocketmapServer(listen, {"policy example.com": "OK dane-only"}) as server:
        reply = ask([listen], "policy", b"example.com", STUCK_SECONDS)
    assert reply == Reply(status=Status.OK, text="dane-only")
    assert server.requests == ["policy example.com"]


def test_a_reply_may_come_in_pieces(listen: Listen) -> None:
    def drip(connection: socket.socket, _: bytes) -> None:
        for byte in build_netstring(b"NOTFOUND "):
            connection.sendall(bytes([byte]))

    with SocketmapServer(listen, drip):
        assert ask([listen], "policy", b"x", STUCK_SECONDS) == Reply(status=Status.NOTFOUND)


def test_a_reply_may_be_longer_than_postfix_takes(listen: Listen) -> None:
    text = "x" * (MAX_REPLY_BYTES - 3)
    with SocketmapServer(listen, {"policy x": f"OK {text}"}):
        assert ask([listen], "policy", b"x", STUCK_SECONDS).text == text


def test_the_first_socket_that_answers_is_enough(tmp_path: Path) -> None:
    missing, present = unix(tmp_path / "missing"), unix(tmp_path / "present")
    unused = inet()
    with SocketmapServer(present, {"policy x": "OK may"}):
        assert ask([missing, present, unused], "policy", b"x", STUCK_SECONDS).text == "may"


def test_where_nobody_listens_each_socket_is_named_with_its_reason(tmp_path: Path) -> None:
    missing, closed = unix(tmp_path / "missing"), inet()
    with pytest.raises(DaemonError) as caught:
        ask([missing, closed], "policy", b"x", STUCK_SECONDS)
    assert str(caught.value) == (
        f"cannot ask the daemon ({build_listen(missing)}: No such file or directory; "
        f"{build_listen(closed)}: Connection refused); is postfix-mtasts.service running?"
    )


def test_without_sockets_it_says_so() -> None:
    with pytest.raises(DaemonError, match="no socket to ask at"):
        ask([], "policy", b"x", STUCK_SECONDS)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "closed without an answer"),
        (b"12:NOTFOUND", "closed without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "netstring without a length"),
        (b"1000001:", "netstring longer than 1000000 bytes"),
        (b"5:HELLO,", "unknown reply b'HELLO'"),
    ],
)
def test_what_is_no_reply_is_an_error(listen: Listen, data: bytes, why: str) -> None:
    with SocketmapServer(listen, sends(data)), pytest.raises(DaemonError, match=why):
        ask([listen], "policy", b"x", STUCK_SECONDS)


def test_a_daemon_that_does_not_answer_is_not_waited_for(listen: Listen) -> None:
    def is_silent(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"12:NOT")
        wait_for_end(connection)

    begun = time.monotonic()
    with SocketmapServer(listen, is_silent), pytest.raises(DaemonError, match="timed out"):
        ask([listen], "policy", b"x", 0.1)
    assert time.monotonic() - begun < STUCK_SECONDS


def test_the_deadline_is_that_of_all_sockets_together(listen: Listen, tmp_path: Path) -> None:
    second = unix(tmp_path / "second")
    with (
        SocketmapServer(listen, lambda connection, _: wait_for_end(connection)),
        SocketmapServer(second, {"policy x": "OK may"}) as unasked,
        pytest.raises(DaemonError, match=r"timed out; unix:.*: timed out"),
    ):
        ask([listen, second], "policy", b"x", 0.1)
    assert unasked.requests == []


def test_a_drip_of_bytes_does_not_move_the_deadline(listen: Listen) -> None:
    def drip(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"500000:")
        try:
            while True:
                connection.sendall(b"x")
                time.sleep(0.01)  # the pace of a slow server
        except OSError:
            pass

    with SocketmapServer(listen, drip), pytest.raises(DaemonError, match="timed out"):
        ask([listen], "policy", b"x", 0.2)

"""What is in the way of a new socket: removed where it is dead, and nothing else."""

import errno
import socket
from pathlib import Path

import pytest

from postfix_mtasts.adapters.stale_socket import remove_stale

KINDS = [socket.SOCK_DGRAM, socket.SOCK_STREAM]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sock"


def bound(path: Path, kind: socket.SocketKind) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, kind)
    opened.bind(str(path))
    if kind is socket.SOCK_STREAM:
        opened.listen(0)
    return opened


@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_that_nobody_serves_is_removed(path: Path, kind: socket.SocketKind) -> None:
    bound(path, kind).close()
    remove_stale(str(path), kind)
    assert not path.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_that_somebody_serves_stays(path: Path, kind: socket.SocketKind) -> None:
    with bound(path, kind):
        with pytest.raises(OSError, match="in use") as caught:
            remove_stale(str(path), kind)
        assert caught.value.errno == errno.EADDRINUSE
    assert path.exists()


def test_a_listener_whose_queue_is_full_stays(path: Path) -> None:
    with bound(path, socket.SOCK_STREAM), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        with pytest.raises(OSError, match="in use"):
            remove_stale(str(path), socket.SOCK_STREAM)


def test_what_is_no_socket_of_that_kind_stays(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="no socket"):
        remove_stale(str(path), socket.SOCK_DGRAM)
    assert path.read_text() == "precious"
    path.unlink()
    with bound(path, socket.SOCK_STREAM), pytest.raises(OSError, match="wrong type"):
        remove_stale(str(path), socket.SOCK_DGRAM)
    assert path.exists()


def test_where_nothing_is_in_the_way_nothing_happens(path: Path) -> None:
    remove_stale(str(path), socket.SOCK_DGRAM)

"""A child that looks with another user's eyes, from within a chroot."""

import os
import socket
from pathlib import Path

import pytest

from postfix_mtasts.adapters.other_eyes import Eyes, NoEyesError, Orders, look
from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.map_line import Reach
from tests.adapters.socketmap_server import SocketmapServer, inet, unix

NOBODY = 65534
EXPLAINED = {"explain .doctor": 'OK {"verdict": {}}'}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@pytest.fixture(name="queue")
def make_queue(tmp_path: Path) -> Path:
    """Return a folder to which everybody has access, and so have the folders above it."""
    of_pytest = (it for it in tmp_path.parents if it.name.startswith(("pytest-", "popen-")))
    for folder in (tmp_path, *of_pytest):
        folder.chmod(0o755)
    return tmp_path


def own(folder: Path) -> Eyes:
    return Eyes(
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=tuple(os.getgroups()),
        root="/",
        folder=str(folder),
    )


def stranger(root: Path) -> Eyes:
    return Eyes(uid=NOBODY, gid=NOBODY, groups=(NOBODY,), root=str(root), folder="/")


def at(path: str) -> Listen:
    return Listen(kind="unix", path=path)


def test_who_answers_is_found_out_by_asking(queue: Path) -> None:
    with (
        SocketmapServer(unix(queue / "ours"), EXPLAINED),
        SocketmapServer(unix(queue / "peer"), {"explain .doctor": "PERM unknown map"}),
        SocketmapServer(unix(queue / "odd"), {"explain .doctor": "OK secure"}),
        SocketmapServer(unix(queue / "deep"), {"explain .doctor": f"OK {'[' * 90_000}"}),
        SocketmapServer(inet(), EXPLAINED) as over_tcp,
    ):
        places = (*map(at, ("ours", "peer", "odd", "deep")), over_tcp.listen, at("none"))
        orders = Orders(ask=places)
        asked = look(own(queue), orders).asked
    assert [reach for reach, _ in asked] == [
        *(Reach.OURS, *[Reach.FOREIGN] * 3, Reach.OURS, Reach.NOBODY)
    ]
    assert asked[-1][1] == "No such file or directory"


@needs_root
def test_in_a_chroot_an_absolute_path_is_another(queue: Path) -> None:
    with SocketmapServer(unix(queue / "s"), EXPLAINED):
        (queue / "s").chmod(0o666)
        orders = Orders(ask=(at("s"), at("/s"), at(str(queue / "s"))))
        asked = look(stranger(queue), orders).asked
    assert [reach for reach, _ in asked] == [Reach.OURS, Reach.OURS, Reach.NOBODY]


@needs_root
def test_another_user_is_not_let_in_where_root_is(queue: Path) -> None:
    with SocketmapServer(unix(queue / "s"), EXPLAINED):
        (queue / "s").chmod(0o600)
        ((reach, why),) = look(stranger(queue), Orders(ask=(at("s"),))).asked
    assert (reach, why) == (Reach.NOBODY, "Permission denied")


@needs_root
def test_files_are_read_by_groups_too(queue: Path) -> None:
    log = queue / "log"
    log.touch(0o640)
    os.chown(log, 0, 4)
    alone, member = (
        Eyes(uid=NOBODY, gid=NOBODY, groups=groups, root="/", folder="/")
        for groups in ((NOBODY,), (NOBODY, 4))
    )
    orders = Orders(read=(str(log), str(queue / "none")))
    assert look(alone, orders).read == ("Permission denied", "No such file or directory")
    assert look(member, orders).read == ("", "No such file or directory")


def test_a_datagram_socket_is_tried_and_nothing_is_sent(queue: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(queue / "d"))
        end.settimeout(0)
        sight = look(own(queue), Orders(write=("d", "none")))
        with pytest.raises(BlockingIOError):
            end.recv(10)
    assert sight.written == ("", "No such file or directory")


def test_authorities_of_a_folder_are_counted_by_their_hashes(queue: Path) -> None:
    for name in ("5ed36f99.0", "5ed36f99.1", "mine.pem"):
        (queue / name).touch()
    assert look(own(queue), Orders(authorities=(".", "none"))).authorities == (2, 0)


def test_eyes_that_cannot_be_had_are_an_error(tmp_path: Path) -> None:
    nowhere = Eyes(uid=NOBODY, gid=NOBODY, groups=(), root=str(tmp_path / "none"), folder="/")
    with pytest.raises(NoEyesError):
        look(nowhere, Orders())


def test_a_module_in_the_callers_folder_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert look(own(tmp_path), Orders()).asked == ()

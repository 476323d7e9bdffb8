"""Sockets: bound, refused, inherited, and accepted on come what may."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from postfix_mtasts.adapters import listeners
from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.errors import ConfigError
from tests.adapters import dns_server

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]

DEADLINE = 20.0
FACTORIES: dict[str, LoopFactory] = {"asyncio": asyncio.SelectorEventLoop}
with contextlib.suppress(ImportError):
    import uvloop

    FACTORIES["uvloop"] = uvloop.new_event_loop

ANYWHERE = Listen(kind="inet", host="127.0.0.1", port=0)


@pytest.fixture(params=list(FACTORIES.values()), ids=list(FACTORIES), name="loop")
def each_loop(request: pytest.FixtureRequest) -> LoopFactory:
    factory: LoopFactory = request.param
    return factory


@pytest.fixture(name="path")
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "policy.sock"


def at(path: Path) -> Listen:
    return Listen(kind="unix", path=str(path))


def run(scenario: Coroutine[Any, Any, None], loop: LoopFactory) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(DEADLINE):
            await scenario

    dns_server.run(in_time(), loop)


# --- binding --------------------------------------------------------------------------------


def test_a_unix_socket_is_open_to_every_local_user_whatever_the_umask(path: Path) -> None:
    before = os.umask(0o077)
    try:
        with listeners.bind(at(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
    finally:
        os.umask(before)


def test_the_folder_of_a_unix_socket_is_made(tmp_path: Path) -> None:
    with listeners.bind(at(tmp_path / "new" / "folder" / "policy.sock")) as listener:
        assert listener.family == socket.AF_UNIX


def test_a_unix_socket_left_behind_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listeners.bind(at(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("backlog", [0, 8], ids=["busy", "idle"])
def test_a_unix_socket_on_which_somebody_listens_is_left_to_him(path: Path, backlog: int) -> None:
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(socket.socket(socket.AF_UNIX))
        other.bind(str(path))
        other.listen(backlog)
        if not backlog:
            caller = stack.enter_context(socket.socket(socket.AF_UNIX))
            caller.connect(str(path))
        with pytest.raises(ConfigError) as refused:
            listeners.bind(at(path))
        assert str(refused.value) == f"cannot listen on unix:{path}: another process listens there"
        assert path.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "fifo"])
def test_what_is_no_socket_is_left_alone(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("elsewhere")
    else:
        os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(ConfigError) as refused:
        listeners.bind(at(path))
    assert str(refused.value) == f"cannot listen on unix:{path}: there is a file that is no socket"
    assert path.lstat() == before


def test_a_socket_of_datagrams_is_left_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(ConfigError, match=r"cannot listen on unix:.*: Protocol wrong type"):
            listeners.bind(at(path))
        assert path.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "s", tmp_path / "file" / "folder" / "s"):
        with pytest.raises(ConfigError, match=f"^cannot listen on unix:{path}: "):
            listeners.bind(at(path))


def test_a_stale_socket_that_may_not_be_removed_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    def refuse(_path: Path, **_options: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ConfigError, match=f"^cannot listen on unix:{path}: Permission denied$"):
        listeners.bind(at(path))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_tcp_is_listened_on_at_addresses_of_both_kinds_and_names(host: str) -> None:
    with listeners.bind(Listen(kind="inet", host=host, port=0)) as listener:
        with socket.create_connection(listener.getsockname()[:2], timeout=5):
            pass
        assert listener.gettimeout() == 0


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_a_port_that_is_taken_is_told(host: str, shown: str) -> None:
    with listeners.bind(Listen(kind="inet", host=host, port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError) as refused:
            listeners.bind(Listen(kind="inet", host=host, port=port))
    why = f"cannot listen on inet:{shown}:{port}: another process listens there"
    assert str(refused.value) == why


def test_an_address_of_another_machine_is_told_once() -> None:
    with pytest.raises(ConfigError) as refused:
        listeners.bind(Listen(kind="inet", host="192.0.2.1", port=8461))
    why = "cannot listen on inet:192.0.2.1:8461: Cannot assign requested address"
    assert str(refused.value) == why


# --- what systemd hands over ----------------------------------------------------------------

HEIR = """
import os, socket, subprocess, sys
from postfix_mtasts.adapters.listeners import inherited
environment = dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
sockets = inherited(environment)
names = [(s.family.name, s.fileno(), s.gettimeout()) for s in sockets]
print(names)
subprocess.run(["/bin/ls", "/proc/self/fd"], close_fds=False, check=True)
"""


@pytest.fixture(name="handed_over")
def make_handed_over(path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    with listeners.bind(at(path)) as unix, listeners.bind(ANYWHERE) as inet:
        yield unix, inet


def test_sockets_of_both_kinds_are_inherited_and_not_passed_on(
    handed_over: tuple[socket.socket, socket.socket],
) -> None:
    unix, inet = (each.fileno() for each in handed_over)
    # As systemd does it: the sockets become descriptors 3 and 4.
    high = 50
    lines = [f"exec {high}<&{unix} {high + 1}<&{inet} 3<&{high} 4<&{high + 1}"]
    lines += [f"exec {high}<&- {high + 1}<&-", 'exec "$@"']
    shell = ["bash", "-c", "; ".join(lines), "sh", sys.executable, "-c", HEIR]
    done = subprocess.run(
        shell, pass_fds=(unix, inet), capture_output=True, text=True, check=True, timeout=20
    )
    names, *descriptors = done.stdout.splitlines()
    assert names == "[('AF_UNIX', 3, 0.0), ('AF_INET', 4, 0.0)]"
    assert "4" not in descriptors  # 3 is the folder that ls reads
    assert len(set(descriptors) - {str(unix), str(inet)}) == 4


OURS = "the number of this process"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "2"},
        {"LISTEN_FDS": "2", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "2", "LISTEN_PID": ""},
        {"LISTEN_PID": OURS},
        {"LISTEN_FDS": "0", "LISTEN_PID": OURS},
    ],
    ids=str,
)
def test_what_is_meant_for_another_process_is_not_taken(environment: dict[str, str]) -> None:
    if environment.get("LISTEN_PID") == OURS:
        environment = {**environment, "LISTEN_PID": str(os.getpid())}
    assert listeners.inherited(environment) == []


# --- accepting ------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        peer = self.transport.get_extra_info("socket")
        nodelay = "unix"
        if peer.family != socket.AF_UNIX:
            nodelay = str(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        uid = listeners.peer_uid(self.transport)
        self.transport.write(f"{data.decode()} {uid} {nodelay}".encode())
        self.transport.close()


async def exchange(listener: socket.socket) -> bytes:
    """Return what comes back for a "ping" sent to *listener*."""
    address = listener.getsockname()
    opening = (
        asyncio.open_unix_connection(address)
        if listener.family == socket.AF_UNIX
        else asyncio.open_connection(*address)
    )
    reader, writer = await opening
    writer.write(b"ping")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@contextlib.asynccontextmanager
async def accepting(listener: socket.socket) -> Any:
    task = asyncio.create_task(listeners.accept(listener, Echo))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def test_who_is_at_the_other_end_is_known_over_a_unix_socket_alone(
    loop: LoopFactory, handed_over: tuple[socket.socket, socket.socket]
) -> None:
    unix, inet = handed_over

    async def scenario() -> None:
        async with accepting(unix), accepting(inet):
            assert await exchange(unix) == f"ping {os.getuid()} unix".encode()
            assert await exchange(inet) == b"ping None 1"

    run(scenario(), loop)


def test_at_the_end_newcomers_are_refused_and_the_unix_socket_stays(
    loop: LoopFactory, handed_over: tuple[socket.socket, socket.socket], path: Path
) -> None:
    unix, inet = handed_over
    address = inet.getsockname()

    async def scenario() -> None:
        async with accepting(unix), accepting(inet):
            assert await exchange(unix)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(str(path))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)

    run(scenario(), loop)
    assert path.exists()  # systemd, if it is its own, still listens there


@pytest.mark.parametrize(
    "number",
    [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EPERM, errno.ECONNABORTED, errno.EPROTO],
    ids=errno.errorcode.__getitem__,
)
def test_no_error_of_accept_stops_the_server(
    loop: LoopFactory,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(listeners, "RETRY_SECONDS", 0.01)

    class Failing(socket.socket):
        failures = 3

        def accept(self) -> tuple[socket.socket, Any]:
            if self.failures:
                self.failures -= 1
                raise OSError(number, os.strerror(number))
            return super().accept()

    async def scenario() -> None:
        listener = Failing(socket.AF_INET)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0)
        async with accepting(listener):
            assert (await exchange(listener)).startswith(b"ping ")

    run(scenario(), loop)
    assert caplog.text.count(f"cannot accept a connection: {os.strerror(number)}") == 3


SHORT_OF_FILES = """
import asyncio, logging, os, resource, socket, sys
from postfix_mtasts.adapters import listeners
from tests.adapters.test_listeners import ANYWHERE, FACTORIES, Echo, exchange

class Failed(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), file=sys.stderr)
        failed.set()

failed = asyncio.Event()
listeners.log.addHandler(Failed())

async def scenario():
    listener = listeners.bind(ANYWHERE)
    task = asyncio.create_task(listeners.accept(listener, Echo))
    print(await exchange(listener))
    client = socket.socket()
    client.settimeout(0)
    hogs = []
    try:
        while True:
            hogs.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    client.connect_ex(listener.getsockname())
    client.send(b"pong")
    await failed.wait()
    for hog in hogs:
        os.close(hog)
    print(await asyncio.get_running_loop().sock_recv(client, 100))
    client.close()
    task.cancel()
    await asyncio.wait([task])

resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
with asyncio.Runner(loop_factory=FACTORIES[sys.argv[1]]) as runner:
    runner.run(asyncio.wait_for(scenario(), 15))
"""


@pytest.mark.parametrize("name", FACTORIES)
def test_who_came_while_there_were_no_descriptors_left_is_served_later(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_FILES, name],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.split("\n")[:2] == ["b'ping None 1'", "b'pong None 1'"]
    assert "cannot accept a connection: Too many open files" in done.stderr


def test_of_a_user_unknown_nothing_is_assumed() -> None:
    class Nameless(asyncio.Transport):
        pass

    assert listeners.peer_uid(Nameless()) is None


def test_the_credentials_are_those_of_unix_7() -> None:
    here, there = socket.socketpair()
    with here, there:
        raw = here.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    assert struct.unpack("iII", raw) == (os.getpid(), os.getuid(), os.getgid())

"""The whole daemon as a process of its own, with DNS, HTTPS and a service manager of the test.

::

    with DnsThread() as dns, running(tmp_path, resolver=dns) as daemon:
        assert daemon.ask(b"policy example.com") == b"NOTFOUND "
    assert daemon.status == 0

It is the command as users run it, but for two things that a test on loopback
needs: the port of HTTPS servers, and which event loop.
"""

import asyncio
import contextlib
import functools
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from postfix_mtasts.core.netstring import Decoder, build_netstring
from postfix_mtasts.core.socketmap import MAX_REPLY_BYTES
from tests.adapters.dns_server import DnsServer

SOURCES = Path(__file__).parents[2]
STUCK_SECONDS = 20.0  # after which a test that waits has failed
PROMPT = 0.1  # seconds within which bystanders are answered, whatever goes on
SAMPLES = 9
TRIES = 10

LAUNCHER = """
import sys
loop, port, *arguments = sys.argv[1:]
if loop == "asyncio":
    sys.modules["uvloop"] = None  # as where it is not installed
from postfix_mtasts.adapters.fetcher import HttpsFetcher
HttpsFetcher.__init__.__kwdefaults__["port"] = int(port)
from postfix_mtasts.cli import main
sys.exit(main(arguments))
"""

try:
    import uvloop as _  # noqa: F401 - is it there?
except ImportError:
    LOOPS = ["asyncio"]
else:
    LOOPS = ["asyncio", "uvloop"]


def until(condition: Callable[[], bool], seconds: float = STUCK_SECONDS) -> None:
    """Wait until *condition* holds; after *seconds* the test has failed."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


class DnsThread:
    """A `DnsServer` in a thread of its own."""

    def __init__(self) -> None:
        self.server = DnsServer()
        self.says = self.server.says
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self.server:
            self._up.set()
            await self._stop.wait()

    def asked(self, name: str) -> int:
        """Return how many questions there were about *name* or below it."""
        return sum(f".{query.name}".endswith(f".{name}") for query in self.server.queries)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(STUCK_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


class Client:
    """A connection to the daemon."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._decoder = Decoder(MAX_REPLY_BYTES)

    def send(self, *payloads: bytes) -> None:
        self.sock.sendall(b"".join(map(build_netstring, payloads)))

    def reply(self) -> bytes:
        """Return the next reply; raises EOFError at the end."""
        while (payload := self._decoder.next()) is None:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError
            self._decoder.feed(data)
        return payload

    def ask(self, payload: bytes) -> bytes:
        self.send(payload)
        return self.reply()

    def is_closed(self) -> bool:
        """Wait for the end; return whether nothing came before it."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class DaemonProcess:
    """A daemon that was started; `running` makes one that is ready."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.config = folder / "config.yaml"
        self.path = folder / "policy.sock"
        self._folder = folder
        self._log = folder / "log"
        self._notified: list[str] = []
        self._fresh = 0

    # --- asking -----------------------------------------------------------------------------

    def client(self, *, tcp: bool = False) -> Client:
        if tcp:
            return Client(socket.create_connection(("127.0.0.1", self.port), STUCK_SECONDS))
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(STUCK_SECONDS)
        sock.connect(str(self.path))
        return Client(sock)

    def ask(self, payload: bytes, *, tcp: bool = False) -> bytes:
        with self.client(tcp=tcp) as client:
            return client.ask(payload)

    def is_prompt(self) -> bool:
        """Return whether both cached and fresh look-ups are answered within `PROMPT`.

        The median of some samples, and the best of some tries: the machine has
        other work, too, but a daemon that is blocked is blocked in every try.
        """
        return any(self._sample() < PROMPT for _ in range(TRIES))

    def _sample(self) -> float:
        with self.client() as client, self.client(tcp=True) as other:
            client.ask(b"policy bystander.example")
            cached = [duration(client, b"policy bystander.example") for _ in range(SAMPLES)]
            fresh = [duration(other, self._fresh_request()) for _ in range(SAMPLES)]
        return max(statistics.median(cached), statistics.median(fresh))

    def _fresh_request(self) -> bytes:
        self._fresh += 1
        return b"policy fresh-%d.bystander.example" % self._fresh

    # --- watching ---------------------------------------------------------------------------

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def memory(self) -> int:
        """Bytes of memory in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match
        return int(match[1]) * 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208 - as many as open

    # --- the service manager ----------------------------------------------------------------

    def listen_to(self, manager: socket.socket) -> None:
        self._manager = manager

    def hears(self, word: str) -> str:
        """Wait until the daemon tells its service manager *word*; return all of that message."""
        self._manager.settimeout(STUCK_SECONDS)
        while True:
            message = self._manager.recv(4096).decode()
            self._notified.append(message)
            if word in message.split("\n"):
                return message

    # --- changing its mind, and the end -----------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def write_config(self, document: Mapping[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump(dict(document)))

    def wait(self, seconds: float = STUCK_SECONDS) -> int:
        """Wait for the end; return the exit status."""
        return self.process.wait(seconds)


def duration(client: Client, payload: bytes) -> float:
    """Return the seconds until the answer to *payload*."""
    started = time.perf_counter()
    client.ask(payload)
    return time.perf_counter() - started


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def configuration(port: int, resolver: DnsThread | None, **sections: Any) -> dict[str, Any]:
    """Return a configuration that leads nowhere but to the test, *sections* over it."""
    servers = [resolver.server.address] if resolver else [f"127.0.0.1:{free_port()}"]
    document: dict[str, Any] = {
        "server": {"listen": [f"inet:127.0.0.1:{port}", "unix:policy.sock"]},
        "dns": {"servers": servers, "timeout": "2s"},
        "store": {"url": "sqlite:///state.db"},
    }
    for name, section in sections.items():
        merged = {**document.get(name, {}), **section} if isinstance(section, dict) else section
        document[name] = merged
    return document


def command(config: Path, loop: str, https_port: int) -> list[str]:
    return [
        *(sys.executable, "-c", LAUNCHER, loop, str(https_port)),
        *("serve", "--config", str(config)),
    ]


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    resolver: DnsThread | None = None,
    loop: str = LOOPS[-1],
    https_port: int = 9,
    before: list[str] | None = None,
    descriptors: tuple[int, ...] = (),
    **sections: Any,
) -> Iterator[DaemonProcess]:
    """Run the daemon until the block ends; it must then end well, if it has not yet.

    *before*: words of a command before its own; *descriptors*: passed on.
    """
    port = free_port()
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(configuration(port, resolver, **sections)))
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        manager.bind(str(folder / "notify"))
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(
            [*(before or []), *command(config, loop, https_port)],
            cwd=SOURCES,
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "PYTHONDEVMODE": ""},
            stderr=log,
            pass_fds=descriptors,
        )
        stack.callback(functools.partial(_end, process))
        daemon = DaemonProcess(folder, process, port)
        daemon.listen_to(manager)
        daemon.hears("READY=1")
        yield daemon
        if process.poll() is None:
            process.terminate()
            assert daemon.wait() == 0, daemon.log
        assert "Traceback" not in daemon.log, daemon.log


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()

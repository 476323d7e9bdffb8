"""A socketmap server in this process that answers by a script.

::

    with SocketmapServer(unix(tmp_path / "s"), {"policy example.com": "OK may"}) as server:
        ...  # ask at server.listen
    assert server.requests == ["policy example.com"]
"""

import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.netstring import Decoder, build_netstring

STUCK_SECONDS = 20.0  # after which a test that waits has failed

Script = Callable[[socket.socket, bytes], None]


def unix(path: Path) -> Listen:
    return Listen(kind="unix", path=str(path))


def inet() -> Listen:
    """Return a port of loopback at which nobody listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Listen(kind="inet", host="127.0.0.1", port=listener.getsockname()[1])


class SocketmapServer:
    """Answers each connection's one request, "NOTFOUND " to what is not in the script.

    A script that is a function gets the connection and the request, to answer
    as it likes.
    """

    def __init__(self, listen: Listen, script: Mapping[str, str] | Script) -> None:
        self.listen = listen
        self.requests: list[str] = []
        self._script = script
        if listen.kind == "unix":
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(listen.path)
            self._listener.listen()
        else:
            self._listener = socket.create_server((listen.host, listen.port))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._thread.join(STUCK_SECONDS)
        self._listener.close()
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(STUCK_SECONDS)
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        request = read_request(connection)
        self.requests.append(request.decode())
        if callable(self._script):
            self._script(connection, request)
        else:
            reply = self._script.get(request.decode(), "NOTFOUND ")
            connection.sendall(build_netstring(reply.encode()))


def read_request(connection: socket.socket) -> bytes:
    decoder = Decoder(10_000)
    while (payload := decoder.next()) is None:
        decoder.feed(connection.recv(4096))
    return payload


def wait_for_end(connection: socket.socket) -> None:
    """Wait until the other side has closed."""
    while connection.recv(4096):
        pass

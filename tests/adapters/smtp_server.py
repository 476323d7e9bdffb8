"""An SMTP server on loopback that takes every message, or says what it is told to say.

::

    with SmtpServer() as server:
        ...  # 127.0.0.1, server.port
    assert server.messages == [Taken(sender=..., recipients=(...), data=b"...")]
"""

import contextlib
import socketserver
import ssl
import threading
from dataclasses import dataclass
from io import BufferedIOBase
from types import TracebackType
from typing import Self, cast


@dataclass(frozen=True, kw_only=True)
class Taken:
    sender: str
    recipients: tuple[str, ...]
    data: bytes  # with CR LF, dots unstuffed


class SmtpServer:
    """*says*: replies by verb, instead of the usual ones; "" hangs up.

    *tls*: for STARTTLS, which *offers* has to name.
    """

    def __init__(
        self,
        says: dict[str, str] | None = None,
        offers: tuple[str, ...] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.tls = tls
        self.says = says or {}
        self.offers = offers
        self.messages: list[Taken] = []
        self.lines: list[str] = []
        self._tcp = _Tcp(("127.0.0.1", 0), _Conversation)
        self._tcp.owner = self
        self._thread = threading.Thread(target=self._tcp.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return int(self._tcp.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tcp.shutdown()
        self._thread.join()
        self._tcp.server_close()


class _Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False
    owner: SmtpServer


class _Conversation(socketserver.StreamRequestHandler):
    timeout = 20

    def handle(self) -> None:
        self.owner = cast("_Tcp", self.server).owner
        self.sender, self.recipients = "", list[str]()
        with contextlib.suppress(OSError):
            self._say("220 mx.example.com ESMTP")
            while line := self.rfile.readline().decode().rstrip("\r\n"):
                self.owner.lines.append(line)
                if not self._obey(line):
                    return

    def _obey(self, line: str) -> bool:
        """Answer *line*; return whether the conversation goes on."""
        verb = line.partition(" ")[0].upper()
        said = self.owner.says.get(verb)
        if said is not None:
            self._say(said)
            return bool(said)
        match verb:
            case "EHLO":
                self._say("\r\n".join(f"250-{it}" for it in ("mx", *self.owner.offers)))
                self._say("250 HELP")
            case "MAIL":
                self.sender = _address(line)
                self._say("250 Ok")
            case "RCPT":
                self.recipients.append(_address(line))
                self._say("250 Ok")
            case "DATA":
                self._take()
            case "STARTTLS" if self.owner.tls is not None:
                self._say("220 Go on")
                self._encrypt(self.owner.tls)
            case "QUIT":
                self._say("221 Bye")
                return False
            case _:
                self._say("250 Ok")
        return True

    def _encrypt(self, tls: ssl.SSLContext) -> None:
        secured = tls.wrap_socket(self.connection, server_side=True)
        self.rfile = secured.makefile("rb")
        self.wfile = cast("BufferedIOBase", secured.makefile("wb", buffering=0))
        secured.close()  # which it is once both files are

    def _take(self) -> None:
        self._say("354 Go on")
        lines = list[bytes]()
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line.removeprefix(b"."))
        message = Taken(sender=self.sender, recipients=tuple(self.recipients), data=b"".join(lines))
        self.owner.messages.append(message)
        self._say(self.owner.says.get("END", "250 Ok: taken"))

    def _say(self, line: str) -> None:
        if line:
            self.wfile.write(f"{line}\r\n".encode())


def _address(line: str) -> str:
    return line.partition("<")[2].rpartition(">")[0]

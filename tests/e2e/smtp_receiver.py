"""An MX host: an SMTP server with STARTTLS that remembers what it was told (RFC 5321, 3207).

BUGS: knows only what Postfix says to it; a bare LF ends a line, as it may not.
"""

import contextlib
import socket
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from typing import cast

from tests.e2e.certificates import Certificate
from tests.e2e.namespace import Namespace
from tests.e2e.serving import Serving


@dataclass(slots=True, kw_only=True)
class Session:
    """One connection, from its first byte on; *tls* and *sni* are `None` in the clear."""

    tls: str | None = None  # such as "TLSv1.3"
    sni: str | None = None  # the host name asked for
    sender: str = ""
    requiretls: bool = False  # said with the sender (RFC 8689)
    recipients: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message that was taken for one recipient, and how it came."""

    sender: str
    recipient: str
    tls: str | None
    sni: str | None
    requiretls: bool
    data: bytes  # headers and body, lines ended by CR LF


class Receiver:
    """The MX host *host*; what it offers may change between two sessions.

    *starttls* false is what a man in the middle makes of it, who strips the
    offer; *handshakes* false, one who cuts the connection after it is taken.
    *requiretls*: whether it knows of RFC 8689.  *refuses*: every recipient.
    """

    def __init__(
        self, namespace: Namespace, *, host: str, address: str, certificate: Certificate
    ) -> None:
        self.host = host
        self.address = address
        self.certificate = certificate
        self.starttls = True
        self.handshakes = True
        self.requiretls = False
        self.refuses = False
        self.begun: list[Session] = []
        self.messages: list[Message] = []
        server = namespace.call(_Server, (address, 25), _Conversation)
        server.receiver = self
        self._serving = Serving(server)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Every connection so far; waits for the end of each, for Postfix may log first."""
        for session in self.begun:
            assert session.over.wait(timeout=15), f"{self.host}: Postfix keeps its connection"
        return tuple(self.begun)

    def close(self) -> None:
        """Stop; connections are refused from now on."""
        self._serving.close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    receiver: Receiver


class _Conversation(socketserver.BaseRequestHandler):
    """The server's side of one connection."""

    def setup(self) -> None:
        self.receiver = cast("_Server", self.server).receiver
        self.session = Session()
        self.receiver.begun.append(self.session)
        self._speak_over(self.request)

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # whom the certificate displeases may just leave
            self._reply(f"220 {self.receiver.host} ESMTP")
            while (line := self._line()) and line.upper() != "QUIT":
                self._obey(line)
            self._reply("221 2.0.0 Bye")

    def finish(self) -> None:
        self._reader.close()
        self._socket.close()
        self.session.over.set()

    def _obey(self, line: str) -> None:
        match line.partition(" ")[0].upper().partition(":")[0]:
            case "EHLO":
                self._greet()
            case "STARTTLS" if self.receiver.starttls:
                self._reply("220 2.0.0 Go ahead")
                self._start_tls()
            case "MAIL":
                self.session.sender = _address(line)
                self.session.requiretls = line.upper().endswith(" REQUIRETLS")
                self._reply("250 2.1.0 Ok")
            case "RCPT" if self.receiver.refuses:
                self._reply("550 5.1.1 No such user here")
            case "RCPT":
                self.session.recipients.append(_address(line))
                self._reply("250 2.1.5 Ok")
            case "DATA":
                self._take_message()
            case "RSET" | "NOOP":
                self._reply("250 2.0.0 Ok")
            case _:
                self._reply("502 5.5.2 Command not recognized")

    def _greet(self) -> None:
        offers = ["8BITMIME", "SMTPUTF8"]
        if self.receiver.starttls and self.session.tls is None:
            offers.append("STARTTLS")
        if self.receiver.requiretls and self.session.tls is not None:
            offers.append("REQUIRETLS")
        for offer in (self.receiver.host, *offers):
            self._reply(f"250-{offer}")
        self._reply("250 ENHANCEDSTATUSCODES")

    def _start_tls(self) -> None:
        if not self.receiver.handshakes:
            raise ConnectionAbortedError
        context = self.receiver.certificate.server_context()
        context.sni_callback = self._note_sni
        self._reader.close()
        secured = context.wrap_socket(self._socket, server_side=True)
        self._speak_over(secured)
        self.session.tls = secured.version()

    def _note_sni(self, _tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self.session.sni = name

    def _take_message(self) -> None:
        self._reply("354 End data with <CR><LF>.<CR><LF>")
        data = self._data()
        self.receiver.messages += [
            Message(
                sender=self.session.sender,
                recipient=recipient,
                tls=self.session.tls,
                sni=self.session.sni,
                requiretls=self.session.requiretls,
                data=data,
            )
            for recipient in self.session.recipients
        ]
        self._reply("250 2.0.0 Ok: taken")

    def _data(self) -> bytes:
        """Return the lines up to the lone dot, as they were before dots were doubled."""
        lines = []
        while (line := self._reader.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)

    def _speak_over(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb")

    def _line(self) -> str:
        """Return the next line without its end, "" when the client is gone."""
        return self._reader.readline().decode().rstrip("\r\n")

    def _reply(self, line: str) -> None:
        self._socket.sendall(f"{line}\r\n".encode())


def _address(line: str) -> str:
    """Return the address of ``RCPT TO:<user@example.com> ...``."""
    return line.partition("<")[2].partition(">")[0]

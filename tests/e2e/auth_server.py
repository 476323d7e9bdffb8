"""Who judges passwords: the service "auth" of Dovecot, as far as Postfix asks of it.

https://doc.dovecot.org/main/developers/design/auth_protocol.html, version 1, the
mechanism PLAIN (RFC 4616) alone.

BUGS: believes that whoever connects is Postfix.
"""

import base64
import os
import socketserver
from pathlib import Path

from tests.e2e.serving import Serving

USER = "user@mail.test"
PASSWORD = "correct horse"

_HANDSHAKE = (
    b"VERSION\t1\t1\n"
    b"MECH\tPLAIN\tplaintext\n"
    b"SPID\t1\n"
    b"CUID\t1\n"
    b"COOKIE\t00000000000000000000000000000000\n"
    b"DONE\n"
)


class AuthServer:
    """Listens at *path* and knows one user."""

    def __init__(self, path: Path) -> None:
        server = _Server(os.fspath(path), _Conversation)
        path.chmod(0o666)  # smtpd(8) connects as the user postfix
        self._serving = Serving(server)

    def close(self) -> None:
        """Stop."""
        self._serving.close()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(_HANDSHAKE)
        for line in self.rfile:
            command, *words = line.decode().rstrip("\n").split("\t")
            if command == "AUTH":
                self.wfile.write(_judged(*words).encode())


def _judged(number: str, _mechanism: str, *attributes: str) -> str:
    named = dict(attribute.partition("=")[::2] for attribute in attributes)
    _, user, password = base64.b64decode(named["resp"]).decode().split("\0")
    verdict = "OK" if (user, password) == (USER, PASSWORD) else "FAIL"
    return f"{verdict}\t{number}\tuser={user}\n"

"""An HTTPS endpoint that takes TLS reports (RFC 8460 section 5.4)."""

import contextlib
import http.server
import ssl
from dataclasses import dataclass
from typing import cast

from tests.e2e.certificates import Certificate
from tests.e2e.namespace import Namespace
from tests.e2e.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One report as it was posted."""

    path: str
    media_type: str
    data: bytes


class ReportEndpoint:
    """One server at *address*; *posts* are all that came to it, in order."""

    def __init__(self, namespace: Namespace, address: str, certificate: Certificate) -> None:
        self.address = address
        self.posts: list[Post] = []
        server = namespace.call(_Server, (address, 443), _Request)
        server.endpoint = self
        server.context = certificate.server_context()
        self._serving = Serving(server)

    def close(self) -> None:
        """Stop; connections are refused from now on."""
        self._serving.close()


class _Server(http.server.ThreadingHTTPServer):
    endpoint: ReportEndpoint
    context: ssl.SSLContext

    def get_request(self) -> tuple[ssl.SSLSocket, tuple[str, int]]:
        """Accept a connection; its handshake is left to its own thread."""
        plain, client = super().get_request()
        secured = self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        return secured, client


class _Request(http.server.BaseHTTPRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):  # whom the certificate displeases may just leave
            super().handle()

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        post = Post(path=self.path, media_type=self.headers["Content-Type"], data=data)
        cast("_Server", self.server).endpoint.posts.append(post)
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Say nothing: `ReportEndpoint.posts` is the log."""

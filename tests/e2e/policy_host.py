"""The HTTPS server of every domain's MTA-STS policy (RFC 8461 section 3.3), told apart by SNI."""

import contextlib
import http.server
import ssl
from dataclasses import dataclass
from typing import cast

from tests.e2e.certificates import Certificate
from tests.e2e.namespace import Namespace
from tests.e2e.serving import Serving

PATH = "/.well-known/mta-sts.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one policy host answers, and the certificate that it shows."""

    body: str
    certificate: Certificate
    status: int = 200
    content_type: str = "text/plain"


class PolicyHost:
    """One server at *address* for every ``mta-sts.`` host of *pages*.

    A host that has no page gets no TLS session either.  *asked* holds the
    host of each request, in order.
    """

    def __init__(self, namespace: Namespace, address: str) -> None:
        self.address = address
        self.pages: dict[str, Page] = {}
        self.asked: list[str] = []
        server = namespace.call(_Server, (address, 443), _Request)
        server.policy_host = self
        self._serving = Serving(server)

    def close(self) -> None:
        """Stop; connections are refused from now on."""
        self._serving.close()


class _Server(http.server.ThreadingHTTPServer):
    policy_host: PolicyHost

    def get_request(self) -> tuple[ssl.SSLSocket, tuple[str, int]]:
        """Accept a connection; its handshake is left to its own thread."""
        plain, client = super().get_request()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = self._choose_certificate
        return context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), client

    def _choose_certificate(
        self, tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext
    ) -> int | None:
        page = self.policy_host.pages.get(name or "")
        if page is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = page.certificate.server_context()
        return None


class _Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # whom the certificate displeases may just leave
            super().handle()

    def do_GET(self) -> None:
        policy_host = cast("_Server", self.server).policy_host
        host = self.headers.get("Host", "")
        policy_host.asked.append(host)
        page = policy_host.pages.get(host)
        if page is None or self.path != PATH:
            self.send_error(404)
            return
        body = page.body.encode()
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing: `PolicyHost.asked` is the log."""

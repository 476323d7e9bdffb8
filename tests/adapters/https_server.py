"""An HTTPS server on loopback that does what a script says, and a private CA.

::

    authority = Authority(tmp_path)
    with HttpsServer(authority.good("mta-sts.example.com"), answers(b"version: STSv1")) as server:
        ...  # 127.0.0.1, server.port, trusting authority.ca_file
    assert server.requests == [...]

A script is called with each connection's `Conversation`, in a thread of its
own; the client's leaving ends it, and so does the end of the ``with`` block,
which fails by any other exception.
"""

import contextlib
import ipaddress
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DRIP_SECONDS = 0.01  # between two bytes of a slow server: well below the tests' time-outs
STUCK_SECONDS = 20.0  # after which a test that waits has failed


class Authority:
    """A private CA with the certificates that a server may be found with.

    Each method that makes a certificate returns the path of a PEM file with
    key and certificate, as `ssl.SSLContext.load_cert_chain` takes it.
    """

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        self.ca_file = folder / f"{name.replace(' ', '-')}.pem"
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(self._name, self._name, self._key, -1, 3650)
        usage = _key_usage(signs_certificates=True)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def good(self, host: str) -> Path:
        """Return a certificate with which nothing is wrong."""
        return self.issue((host,))

    def wildcard(self, host: str) -> Path:
        """Return a good certificate for ``*.`` and the parent of *host*."""
        return self.issue((f"*.{host.partition('.')[2]}",))

    def expired(self, host: str) -> Path:
        return self.issue((host,), from_day=-30, to_day=-1)

    def not_valid_yet(self, host: str) -> Path:
        return self.issue((host,), from_day=1, to_day=30)

    def wrong_name(self, host: str) -> Path:
        return self.issue((f"not-{host}",))

    def common_name_only(self, host: str) -> Path:
        """Return a certificate that names *host* as browsers of old would take it."""
        return self.issue((), common_name=host)

    def self_signed(self, host: str) -> Path:
        return self.issue((host,), self_signed=True)

    def issue(
        self,
        names: tuple[str, ...],
        *,
        common_name: str = "A Server",
        from_day: float = -1,
        to_day: float = 30,
        self_signed: bool = False,
    ) -> Path:
        """Return a certificate for *names*, DNS or addresses, valid between days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        issuer, issuer_key = (subject, key) if self_signed else (self._name, self._key)
        builder = _builder(subject, issuer, key, from_day, to_day)
        extensions: list[x509.ExtensionType] = [
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
        ]
        if names:
            extensions.append(x509.SubjectAlternativeName([_general_name(n) for n in names]))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        certificate = builder.sign(issuer_key, hashes.SHA256())
        path = self._folder / f"{certificate.serial_number:x}.pem"
        path.write_bytes(_pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
        return path


class Conversation:
    """One connection, as its script sees it: plain TCP until `handshake`."""

    def __init__(self, server: "HttpsServer", sock: socket.socket) -> None:
        self._server = server
        self.sock = sock

    def handshake(self) -> None:
        self.sock = self._server.context.wrap_socket(self.sock, server_side=True)

    def read_request(self) -> bytes:
        """Read up to the empty line after the header; remember it in `HttpsServer.requests`."""
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            if not (part := self.sock.recv(65536)):
                raise ConnectionResetError
            request += part
        self._server.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes) -> None:
        """Send *data* byte by byte, then again, until the client leaves."""
        while True:
            for octet in data:
                self.sock.sendall(bytes([octet]))
                self._server.leaving.wait(DRIP_SECONDS)

    def flood(self, data: bytes) -> None:
        """Send *data* again and again, as fast as the client takes it, until it leaves."""
        while True:
            self.sock.sendall(data)

    def wait_until_client_leaves(self) -> None:
        while self.sock.recv(65536):
            pass

    def hang_up(self) -> None:
        """Close TCP without a word in TLS; wakes the script's thread."""
        with contextlib.suppress(OSError):  # the client was faster
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close_tls(self) -> None:
        """Say in TLS that nothing follows (close_notify)."""
        assert isinstance(self.sock, ssl.SSLSocket)
        self.sock = self.sock.unwrap()


Script = Callable[[Conversation], None]


class HttpsServer:
    """Serves at *address* and `port` by *script* for as long as its ``with`` block runs.

    *certificate*: from an `Authority`.  *port*: 0 for any that is free.
    """

    def __init__(
        self, certificate: Path, script: Script, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.context.sni_callback = self._note_sni
        self.script = script
        self.requests: list[bytes] = []
        self.server_names: list[str | None] = []  # as in SNI
        self.connections = 0
        self.leaving = threading.Event()
        self._talks: set[Conversation] = set()
        self._failures: list[BaseException] = []
        self._tcp = _TcpServer(self, address, port)
        self._thread = threading.Thread(target=self._tcp.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return int(self._tcp.server_address[1])

    def converse(self, sock: socket.socket) -> None:
        """Let the script have one connection."""
        self.connections += 1
        sock.settimeout(STUCK_SECONDS)
        talk = Conversation(self, sock)
        self._talks.add(talk)
        try:
            self.script(talk)
        except TimeoutError as error:  # an OSError too, but nobody left
            self._failures.append(error)
        except OSError:
            pass  # the client left
        except Exception as error:  # noqa: BLE001 -- told to the test, at the end of its block
            self._failures.append(error)
        finally:
            self._talks.discard(talk)
            talk.sock.close()

    def _note_sni(self, _sock: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self.server_names.append(name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leaving.set()
        self._tcp.shutdown()
        self._thread.join()
        for talk in self._talks.copy():
            talk.hang_up()
        self._tcp.server_close()  # joins the connections' threads
        if self._failures and error is None:
            raise self._failures[0]


def answers(
    body: bytes = b"", *, status: str = "200 OK", headers: tuple[str, ...] = ("Content-Length: {}",)
) -> Script:
    """Return a script that answers with *body*; "{}" in *headers* is its length."""
    lines = "\r\n".join((f"HTTP/1.1 {status}", "Content-Type: text/plain", *headers))
    return sends(lines.format(len(body)).encode("latin-1") + b"\r\n\r\n" + body)


def sends(answer: bytes, *, then: Script = Conversation.close_tls) -> Script:
    """Return a script that sends *answer*, HTTP or not, to a request, and goes on with *then*."""

    def script(talk: Conversation) -> None:
        talk.handshake()
        talk.read_request()
        talk.send(answer)
        then(talk)

    return script


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 whose queue is full: a connect() to it hangs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.settimeout(0)
            caller.connect_ex(("127.0.0.1", port))
        yield port


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, server: HttpsServer, address: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.owner = server
        super().__init__((address, port), _Handler)


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _TcpServer)
        self.server.owner.converse(self.request)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    from_day: float,
    to_day: float,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=from_day))
        .not_valid_after(now + timedelta(days=to_day))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

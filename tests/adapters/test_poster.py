"""Reports posted to a real HTTPS server that means no good."""

import asyncio
import gzip
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from postfix_mtasts.adapters import poster
from postfix_mtasts.adapters.line import Line
from postfix_mtasts.adapters.poster import HttpsPoster
from postfix_mtasts.core.tlsrpt_report import Document
from postfix_mtasts.ports import Refused
from tests.adapters.https_server import Authority, Conversation, HttpsServer, Script, deaf_port

HOST = "reports.example.com"
REPORT = b'{"report-id":"x"}' * 5000
DOCUMENT = Document(
    name="x.json.gz", media_type="application/tlsrpt+gzip", data=gzip.compress(REPORT)
)
LONG = 20.0
SHORT = 0.5


@pytest.fixture(scope="module", name="authority")
def make_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module", name="good")
def make_good_certificate(authority: Authority) -> Path:
    return authority.good(HOST)


def post(
    authority: Authority,
    port: int,
    *,
    target: str = "/tlsrpt?a=b%2Cc",
    host: str = HOST,
    seconds: float = LONG,
    addresses: tuple[str, ...] = ("127.0.0.1",),
    private_addresses: bool = True,
) -> Refused | None:
    async def posting() -> Refused | None:
        https = HttpsPoster(
            str(authority.ca_file), seconds=seconds, private_addresses=private_addresses
        )
        try:
            return await https.post(f"https://{host}:{port}{target}", addresses, DOCUMENT)
        finally:
            await https.close()

    return asyncio.run(posting())


def read_post(talk: Conversation) -> tuple[bytes, bytes]:
    """Return header and body of a request."""
    talk.handshake()
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += talk.sock.recv(65536)
    header, _, body = seen.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: ([0-9]+)", header)
    assert length is not None
    while len(body) < int(length[1]):
        body += talk.sock.recv(65536)
    return header, body


def says(answer: bytes) -> Script:
    def script(talk: Conversation) -> None:
        read_post(talk)
        talk.send(answer)

    return script


def test_the_report_arrives_as_it_is(authority: Authority, good: Path) -> None:
    got: list[tuple[bytes, bytes]] = []

    def script(talk: Conversation) -> None:
        got.append(read_post(talk))
        talk.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    with HttpsServer(good, script) as server:
        assert post(authority, server.port) is None
    [(header, body)] = got
    assert body == DOCUMENT.data
    lines = header.decode().split("\r\n")
    assert lines[0] == "POST /tlsrpt?a=b%2Cc HTTP/1.1"
    assert f"Host: {HOST}:{server.port}" in lines
    assert "Content-Type: application/tlsrpt+gzip" in lines
    assert "content-encoding" not in header.decode().lower()
    assert server.server_names == [HOST]


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "299 X"])
def test_any_2xx_is_success_without_its_body(authority: Authority, good: Path, status: str) -> None:
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 999999999\r\n\r\n".encode()
    with HttpsServer(good, says(answer)) as server:
        assert post(authority, server.port) is None


@pytest.mark.parametrize("status", [103, 204 + 96, 301, 307, 308, 400, 404, 429, 500, 503])
def test_any_other_status_is_a_failure_and_nothing_is_redirected(
    authority: Authority, good: Path, status: int
) -> None:
    answer = f"HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".encode()
    with HttpsServer(good, says(answer)) as server:
        refused = post(authority, server.port)
    assert refused == Refused(why=f"{HOST} [127.0.0.1]: HTTP status {status}")
    assert server.connections == 1


@pytest.mark.parametrize("kind", ["expired", "wrong_name", "self_signed", "common_name_only"])
def test_a_certificate_that_is_not_valid_gets_no_report(authority: Authority, kind: str) -> None:
    def script(talk: Conversation) -> None:
        read_post(talk)

    with HttpsServer(getattr(authority, kind)(HOST), script) as server:
        refused = post(authority, server.port)
    assert refused is not None
    assert refused.why.startswith(f"certificate of {HOST} [127.0.0.1]: ")


def test_an_address_may_stand_for_the_host(authority: Authority) -> None:
    ok = says(b"HTTP/1.1 200 OK\r\n\r\n")
    with HttpsServer(authority.issue(("127.0.0.1",)), ok) as server:
        assert post(authority, server.port, host="127.0.0.1", target="") is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "connection closed before the answer was complete"),
        (b"\x00\x01\r\n\r\n", "the answer is not proper HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", "the answer is not proper HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 99999 + b"\r\n", "the answer is not proper HTTP"),
    ],
    ids=["nothing", "garbage", "many-fields", "long-field"],
)
def test_a_broken_answer_is_a_failure(
    authority: Authority, good: Path, answer: bytes, why: str
) -> None:
    with HttpsServer(good, says(answer)) as server:
        refused = post(authority, server.port)
    assert refused == Refused(why=f"{HOST} [127.0.0.1]: {why}")


def test_what_does_not_speak_tls_is_told(authority: Authority, good: Path) -> None:
    def script(talk: Conversation) -> None:
        talk.send(b"220 mx.example.com ESMTP\r\n")
        talk.wait_until_client_leaves()

    with HttpsServer(good, script) as server:
        refused = post(authority, server.port)
    assert refused is not None
    assert refused.why.startswith(f"{HOST} [127.0.0.1]: TLS failed: ")


def drips_fields(talk: Conversation) -> None:
    read_post(talk)
    talk.send(b"HTTP/1.1 200 OK\r\nX: ")
    talk.drip(b"y")


def goes_on_for_ever(talk: Conversation) -> None:
    read_post(talk)
    talk.flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def never_shakes_hands(talk: Conversation) -> None:
    talk.wait_until_client_leaves()


@pytest.mark.parametrize("script", [drips_fields, goes_on_for_ever, never_shakes_hands])
def test_a_slow_server_is_cut_off_at_the_deadline(
    authority: Authority, good: Path, script: Script
) -> None:
    with HttpsServer(good, script) as server:
        began = time.monotonic()
        refused = post(authority, server.port, seconds=SHORT)
    assert refused is not None
    assert "in time" in refused.why or f"within {SHORT:g} s" in refused.why
    assert time.monotonic() - began < SHORT + 5


def test_a_server_that_does_not_read_is_cut_off_too(authority: Authority, good: Path) -> None:
    def script(talk: Conversation) -> None:
        talk.handshake()
        talk.wait_until_client_leaves()

    with HttpsServer(good, script) as server:
        assert post(authority, server.port, seconds=SHORT) is not None


def test_nobody_listening_is_told(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    refused = post(authority, port)
    assert refused is not None
    assert "connection refused" in refused.why


def test_a_host_that_does_not_answer_is_told(authority: Authority) -> None:
    with deaf_port() as port:
        assert post(authority, port, seconds=SHORT) is not None


def test_no_proxy_is_taken_from_the_environment(
    authority: Authority, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with HttpsServer(good, says(b"HTTP/1.1 200 OK\r\n\r\n")) as server:
        assert post(authority, server.port) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"])
def test_an_address_that_is_not_public_is_not_dialled(authority: Authority, address: str) -> None:
    began = time.monotonic()
    refused = post(authority, 8443, addresses=(address,), private_addresses=False)
    assert refused == Refused(why=f"{HOST} [{address}]: not a public address")
    assert time.monotonic() - began < LONG / 2


def test_of_several_addresses_the_private_ones_are_left_out(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[tuple[str, ...]] = []

    class NoLine(Line):
        def __init__(self, host: str, addresses: tuple[str, ...], *rest: Any) -> None:
            dialled.append(addresses)
            super().__init__(host, (), *rest)

    monkeypatch.setattr(poster, "Line", NoLine)
    mixed = ("127.0.0.1", "198.41.0.4", "fe80::1")
    assert post(authority, 443, addresses=mixed, private_addresses=False) is not None
    assert dialled == [("198.41.0.4",)]

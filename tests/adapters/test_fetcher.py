"""The fetcher against a real HTTPS server that means no good."""

import asyncio
import contextlib
import gzip
import importlib
import logging
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from postfix_mtasts import __version__
from postfix_mtasts.adapters.fetcher import SAME_ADDRESS, HttpsFetcher
from postfix_mtasts.adapters.line import MAX_BYTES
from postfix_mtasts.core.mta_sts import MAX_POLICY_BYTES, Response, parse_response
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import FetchFailed
from tests.adapters.https_server import (
    Authority,
    Conversation,
    HttpsServer,
    Script,
    answers,
    deaf_port,
    sends,
)

HOST = "mta-sts.example.com"
POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.com\r\nmax_age: 604800\r\n"
SHORT = 0.6  # seconds until a fetch that must fail has failed
LONG = 20.0  # seconds, of a fetch that must not fail
MOMENTS = 2.0  # seconds within which a thread must be free, on a busy machine

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CLOSED_EARLY = "connection closed before the answer was complete"
NOT_HTTP = "the answer is not proper HTTP"


@pytest.fixture(scope="session", name="authority")
def make_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session", name="good")
def make_good_certificate(authority: Authority) -> Path:
    return authority.good(HOST)


@pytest.fixture(scope="session", autouse=True)
def requests_is_imported() -> None:
    """Import what a first fetch would, which a fetch of `SHORT` has no time for."""
    importlib.import_module("postfix_mtasts.adapters.https_get")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("fetch")] == []


@contextlib.asynccontextmanager
async def fetching(
    authority: Authority, port: int, seconds: float = LONG, max_concurrent: int = 32
) -> AsyncIterator[HttpsFetcher]:
    fetcher = HttpsFetcher(str(authority.ca_file), seconds, max_concurrent, port=port)
    try:
        yield fetcher
    finally:
        await fetcher.close()


def fetch(
    authority: Authority,
    server: HttpsServer,
    addresses: tuple[str, ...] = ("127.0.0.1",),
    seconds: float = LONG,
) -> Response | FetchFailed:
    async def once() -> Response | FetchFailed:
        async with fetching(authority, server.port, seconds) as fetcher:
            return await fetcher.fetch(HOST, addresses)

    return asyncio.run(once())


def fetch_from(authority: Authority, certificate: Path, script: Script) -> Response | FetchFailed:
    with HttpsServer(certificate, script) as server:
        return fetch(authority, server)


def failure(
    why: str, kind: ResultType = ResultType.STS_POLICY_FETCH_ERROR, *, ours: bool = False
) -> FetchFailed:
    return FetchFailed(kind=kind, why=why, ours=ours)


def never(_talk: Conversation) -> None:
    pytest.fail("the client came this far")


# What is asked


def test_a_policy_is_fetched_as_it_was_published(authority: Authority, good: Path) -> None:
    answer = fetch_from(authority, good, answers(POLICY))
    assert answer == Response(status=200, content_type="text/plain", body=POLICY)


def test_the_request_names_host_and_program_and_asks_for_no_compression(
    authority: Authority, good: Path
) -> None:
    with HttpsServer(good, answers(POLICY)) as server:
        fetch(authority, server)
    assert server.server_names == [HOST]
    request_line, *headers = server.requests[0].decode().rstrip().split("\r\n")
    assert request_line == "GET /.well-known/mta-sts.txt HTTP/1.1"
    assert sorted(headers) == [
        "Accept-Encoding: identity",
        "Accept: text/plain",
        "Connection: close",
        f"Host: {HOST}",
        f"User-Agent: postfix-mtasts/{__version__}",
    ]


def test_proxies_and_passwords_of_the_environment_are_not_for_us(
    authority: Authority, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/dev/null")
    with HttpsServer(good, answers(POLICY)) as server:
        assert isinstance(fetch(authority, server), Response)
    assert b"Authorization" not in server.requests[0]


def test_cookies_are_neither_kept_nor_connections_used_again(
    authority: Authority, good: Path
) -> None:
    script = answers(POLICY, headers=("Content-Length: {}", "Set-Cookie: a=b", "Keep-Alive: 99"))

    async def twice(server: HttpsServer) -> None:
        async with fetching(authority, server.port) as fetcher:
            for _ in range(2):
                assert isinstance(await fetcher.fetch(HOST, ("127.0.0.1",)), Response)

    with HttpsServer(good, script) as server:
        asyncio.run(twice(server))
    assert server.connections == 2
    assert b"Cookie" not in server.requests[1]


# Where it goes


def test_only_the_given_addresses_are_tried_in_their_order(
    authority: Authority, good: Path
) -> None:
    with HttpsServer(good, answers(POLICY), address="127.0.0.2") as server:
        assert isinstance(fetch(authority, server, ("127.0.0.3", "127.0.0.2")), Response)
        assert fetch(authority, server, ("127.0.0.3", "::1")) == failure(
            f"{HOST} [127.0.0.3]: connection refused, [::1]: connection refused"
        )
    assert server.connections == 1


def test_a_server_is_reached_over_ipv6(authority: Authority, good: Path) -> None:
    with HttpsServer(good, answers(POLICY), address="::1") as server:
        assert isinstance(fetch(authority, server, ("::1",)), Response)


def test_without_addresses_nothing_is_tried(authority: Authority, good: Path) -> None:
    with HttpsServer(good, never) as server:
        assert fetch(authority, server, ()) == failure(f"{HOST} has no address")


def test_requests_is_imported_by_the_first_fetch_and_not_before() -> None:
    code = (
        "import sys; from postfix_mtasts.adapters import fetcher; fetcher.HttpsFetcher();"
        "sys.exit('requests' in sys.modules or 'urllib3' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Who it is


def test_a_wildcard_for_the_parent_domain_is_valid(authority: Authority) -> None:
    answer = fetch_from(authority, authority.wildcard(HOST), answers(POLICY))
    assert isinstance(answer, Response)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Authority.expired, "expired"),
        (Authority.not_valid_yet, "not valid yet"),
        (Authority.wrong_name, "not valid for this name (no such subjectAltName)"),
        (Authority.common_name_only, "not valid for this name (no such subjectAltName)"),
        (Authority.self_signed, "self-signed"),
    ],
)
def test_a_certificate_that_is_not_valid_is_refused_in_words(
    authority: Authority, make: Callable[[Authority, str], Path], words: str
) -> None:
    answer = fetch_from(authority, make(authority, HOST), answers(POLICY))
    why = f"certificate of {HOST} [127.0.0.1]: {words}"
    assert answer == failure(why, ResultType.STS_WEBPKI_INVALID)


def test_only_the_authorities_of_the_ca_file_are_trusted(
    authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "Another CA")
    answer = fetch_from(authority, stranger.good(HOST), answers(POLICY))
    assert isinstance(answer, FetchFailed)
    assert answer.kind is ResultType.STS_WEBPKI_INVALID
    assert "issued by an authority that is not trusted here" in answer.why


def test_the_authorities_that_requests_brings_along_are_not_needed(
    authority: Authority, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", "/nonexistent")
    assert isinstance(fetch_from(authority, good, answers(POLICY)), Response)


def test_the_system_store_is_trusted_without_a_ca_file(
    authority: Authority, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once(server: HttpsServer) -> Response | FetchFailed:
        fetcher = HttpsFetcher(None, LONG, port=server.port)
        answer = await fetcher.fetch(HOST, ("127.0.0.1",))
        await fetcher.close()
        return answer

    with HttpsServer(good, answers(POLICY)) as server:
        refused = asyncio.run(once(server))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))  # where OpenSSL's store is
        accepted = asyncio.run(once(server))
    assert isinstance(refused, FetchFailed)
    assert refused.kind is ResultType.STS_WEBPKI_INVALID
    assert isinstance(accepted, Response)


def test_a_ca_file_that_cannot_be_used_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HttpsFetcher(str(tmp_path / "none.pem"))
    (tmp_path / "empty.pem").touch()
    with pytest.raises(OSError, match="certificate"):
        HttpsFetcher(str(tmp_path / "empty.pem"))


def test_tls_older_than_1_2_is_refused_by_us(
    authority: Authority, good: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with HttpsServer(good, never) as server:
        server.context.set_ciphers("ALL:@SECLEVEL=0")
        server.context.minimum_version = ssl.TLSVersion.TLSv1
        server.context.maximum_version = ssl.TLSVersion.TLSv1_1
        server.script = Conversation.handshake
        answer = fetch(authority, server)
    assert recwarn
    assert isinstance(answer, FetchFailed)
    assert answer.kind is ResultType.STS_POLICY_FETCH_ERROR
    assert answer.why.startswith(f"{HOST} [127.0.0.1]: TLS failed: ")


def test_a_server_is_told_what_is_wrong_with_its_certificate(authority: Authority) -> None:
    told = []

    def script(talk: Conversation) -> None:
        try:
            talk.handshake()
        except ssl.SSLError as error:
            told.append(error.reason)

    fetch_from(authority, authority.expired(HOST), script)
    assert told == ["SSLV3_ALERT_CERTIFICATE_EXPIRED"]


# How long it takes


def drips(begin: bytes, data: bytes) -> Script:
    return sends(begin, then=lambda talk: talk.drip(data))


def stalls_in_the_handshake(talk: Conversation) -> None:
    talk.send(b"\x16\x03\x03\x40\x00")  # a handshake record of 16 KiB, which never ends
    talk.drip(b"\x02")


def says_nothing(talk: Conversation) -> None:
    talk.wait_until_client_leaves()


SLOW = {
    "says nothing": says_nothing,
    "drips in the handshake": stalls_in_the_handshake,
    "drips in the header": drips(HEAD, b"X-Header: x\r\n"),
    "drips in the body": drips(HEAD + b"Content-Length: 9999\r\n\r\n", b"version: STSv1\r\n"),
    "drips in the size of a chunk": drips(HEAD + CHUNKED, b"0"),
    "drips trailers": drips(HEAD + CHUNKED + b"0\r\n", b"X: x\r\n"),
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
def test_a_slow_server_is_cut_off_at_the_deadline_and_its_thread_freed(
    authority: Authority, good: Path, script: Script
) -> None:
    async def once(server: HttpsServer) -> tuple[Response | FetchFailed, float]:
        async with fetching(authority, server.port, SHORT, max_concurrent=1) as fetcher:
            begun = time.monotonic()
            answer = await fetcher.fetch(HOST, ("127.0.0.1",))
            taken = time.monotonic() - begun
        return answer, taken

    with HttpsServer(good, script) as server:
        begun = time.monotonic()
        answer, taken = asyncio.run(once(server))
        assert time.monotonic() - begun < SHORT + MOMENTS  # with the thread joined
    assert answer == failure(f"{HOST} [127.0.0.1]: no complete answer within 0.6 s")
    assert SHORT <= taken < SHORT + MOMENTS


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
def test_cancelling_the_task_frees_its_thread(
    authority: Authority, good: Path, script: Script
) -> None:
    async def cancel(server: HttpsServer) -> float:
        async with fetching(authority, server.port) as fetcher:
            task = asyncio.create_task(fetcher.fetch(HOST, ("127.0.0.1",)))
            await asyncio.to_thread(begun.wait, LONG)
            task.cancel()
            cancelled = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
        return time.monotonic() - cancelled

    def signalling(talk: Conversation) -> None:
        begun.set()
        script(talk)

    begun = threading.Event()
    with HttpsServer(good, signalling) as server:
        assert asyncio.run(cancel(server)) < MOMENTS


def test_a_dead_address_leaves_time_for_the_next(authority: Authority, good: Path) -> None:
    with (
        deaf_port() as port,
        HttpsServer(good, answers(POLICY), address="127.0.0.2", port=port) as server,
    ):
        answer = fetch(authority, server, ("127.0.0.1", "127.0.0.2"), seconds=2)
    assert isinstance(answer, Response)


def test_a_fetch_from_dead_addresses_ends_at_its_deadline(authority: Authority) -> None:
    async def once(port: int) -> tuple[Response | FetchFailed, float]:
        fetcher = HttpsFetcher(str(authority.ca_file), SHORT, port=port)
        begun = time.monotonic()
        answer = await fetcher.fetch(HOST, ("127.0.0.1",) * 99)
        await fetcher.close()
        return answer, time.monotonic() - begun

    with deaf_port() as port:
        answer, taken = asyncio.run(once(port))
    assert isinstance(answer, FetchFailed)
    assert answer.kind is ResultType.STS_POLICY_FETCH_ERROR
    assert answer.why.startswith(f"{HOST} [127.0.0.1]: no ")
    assert len(answer.why) < 500
    assert taken < SHORT + MOMENTS


def test_cancelling_ends_a_connect_that_hangs(authority: Authority) -> None:
    async def cancel(port: int) -> float:
        fetcher = HttpsFetcher(str(authority.ca_file), LONG, port=port)
        task = asyncio.create_task(fetcher.fetch(HOST, ("127.0.0.1",)))
        async with asyncio.timeout(LONG):
            # no other sign that the connect has begun
            while not any(line.address for line in fetcher._lines):  # noqa: ASYNC110, SLF001
                await asyncio.sleep(0)
        cancelled = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await fetcher.close()
        return time.monotonic() - cancelled

    with deaf_port() as port:
        assert asyncio.run(cancel(port)) < MOMENTS


def test_the_deadline_covers_the_wait_for_a_thread(authority: Authority, good: Path) -> None:
    async def crowd(server: HttpsServer) -> list[Response | FetchFailed]:
        async with fetching(authority, server.port, SHORT, max_concurrent=1) as fetcher:
            first = asyncio.create_task(fetcher.fetch(HOST, ("127.0.0.1",)))
            second = asyncio.create_task(fetcher.fetch(HOST, ("127.0.0.1",)))
            return [await first, await second]

    with HttpsServer(good, says_nothing) as server:
        first, second = asyncio.run(crowd(server))
    assert first == failure(f"{HOST} [127.0.0.1]: no complete answer within 0.6 s")
    assert second == failure(f"{HOST}: not tried, too many fetches at once", ours=True)
    assert server.connections == 1


def test_no_more_than_so_many_fetches_share_one_address(authority: Authority, good: Path) -> None:
    async def crowd(server: HttpsServer) -> list[Response | FetchFailed]:
        async with fetching(authority, server.port, SHORT) as fetcher:
            addresses = ("127.0.0.1", "127.0.0.2")
            fetches = (fetcher.fetch(HOST, addresses) for _ in range(SAME_ADDRESS + 2))
            return await asyncio.gather(*fetches)

    with HttpsServer(good, says_nothing) as server:
        answers = asyncio.run(crowd(server))
    cut_off = failure(f"{HOST} [127.0.0.1]: no complete answer within 0.6 s")
    not_tried = failure(f"{HOST}: not tried, too many fetches at once", ours=True)
    assert answers == [cut_off] * SAME_ADDRESS + [not_tried] * 2
    assert server.connections == SAME_ADDRESS


def test_silent_hosts_at_one_address_do_not_delay_another(authority: Authority, good: Path) -> None:
    async def crowd(port: int) -> Response | FetchFailed:
        async with fetching(authority, port, max_concurrent=SAME_ADDRESS + 1) as fetcher:
            silent = [
                asyncio.create_task(fetcher.fetch(f"{name}.example", ("127.0.0.1",)))
                for name in range(20)
            ]
            await asyncio.sleep(0)  # all have begun
            answer = await fetcher.fetch(HOST, ("127.0.0.2",))
            assert not any(task.done() for task in silent)
            for task in silent:
                task.cancel()
            return answer

    with (
        deaf_port() as port,
        HttpsServer(good, answers(POLICY), address="127.0.0.2", port=port),
    ):
        assert isinstance(asyncio.run(crowd(port)), Response)


def test_a_thread_that_the_system_has_not_is_our_own_failure(
    authority: Authority, good: Path
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def twice(server: HttpsServer) -> tuple[Response | FetchFailed, ...]:
        async with fetching(authority, server.port) as fetcher:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                first = await fetcher.fetch(HOST, ("127.0.0.1",))
            return first, await fetcher.fetch(HOST, ("127.0.0.1",))

    with HttpsServer(good, answers(POLICY)) as server:
        first, second = asyncio.run(twice(server))
    assert first == failure(f"{HOST}: not tried, no thread could be started", ours=True)
    assert isinstance(second, Response)
    assert server.connections == 1


def test_closing_cuts_fetches_short(authority: Authority, good: Path) -> None:
    async def close(server: HttpsServer) -> tuple[Response | FetchFailed, float]:
        async with fetching(authority, server.port) as fetcher:
            task = asyncio.create_task(fetcher.fetch(HOST, ("127.0.0.1",)))
            await asyncio.to_thread(connected.wait, LONG)
            begun = time.monotonic()
        return await task, time.monotonic() - begun

    def script(talk: Conversation) -> None:
        connected.set()
        talk.wait_until_client_leaves()

    connected = threading.Event()
    with HttpsServer(good, script) as server:
        answer, taken = asyncio.run(close(server))
    assert isinstance(answer, FetchFailed)
    assert answer.ours
    assert taken < MOMENTS


# How much it may send


def floods(begin: bytes, data: bytes) -> Script:
    return sends(begin, then=lambda talk: talk.flood(data))


FLOODS = {
    "interim answers": floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "headers of interim answers": floods(b"", b"HTTP/1.1 100 Continue\r\nX: x\r\n\r\n" * 100),
    "long header lines": floods(HEAD, b"X: " + b"x" * 65_000 + b"\r\n"),
    "long extensions of chunks": floods(HEAD + CHUNKED, b"1;" + b"x" * 60_000 + b"\r\nx\r\n"),
    "chunks of one byte": floods(HEAD + CHUNKED, b"1\r\nx\r\n" * 1000),
    "trailers": floods(HEAD + CHUNKED + b"0\r\n", b"X: x\r\n" * 1000),
}


@pytest.mark.parametrize("script", FLOODS.values(), ids=FLOODS)
def test_a_server_that_floods_is_cut_off(authority: Authority, good: Path, script: Script) -> None:
    answer = fetch_from(authority, good, script)
    assert answer == failure(f"{HOST} [127.0.0.1]: more than 160 KiB were sent for one policy")


def test_what_tls_sends_of_its_own_counts_too(authority: Authority, good: Path) -> None:
    with HttpsServer(good, answers(POLICY)) as server:
        server.context.num_tickets = MAX_BYTES // 200  # none is shorter
        answer = fetch(authority, server)
    assert answer == failure(f"{HOST} [127.0.0.1]: more than 160 KiB were sent for one policy")


# What it may say


def test_a_chunked_policy_is_put_together(authority: Authority, good: Path) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (POLICY[:20], POLICY[20:]))
    script = sends(HEAD + CHUNKED + chunks + b"0\r\n\r\n")
    answer = fetch_from(authority, good, script)
    assert answer == Response(status=200, content_type="text/plain", body=POLICY)


@pytest.mark.parametrize("status", [204, 301, 302, 304, 404, 500])
def test_another_status_is_told_without_its_body_and_never_followed(
    authority: Authority, good: Path, status: int
) -> None:
    script = answers(
        POLICY,
        status=f"{status} Whatever",
        headers=("Content-Length: 99999999", f"Location: https://{HOST}/elsewhere"),
    )
    with HttpsServer(good, script) as server:
        answer = fetch(authority, server)
    assert answer == Response(status=status, content_type="text/plain", body=b"")
    assert server.connections == 1


@pytest.mark.parametrize(
    "header",
    [b"Content-Length: 99999999999", b"Transfer-Encoding: chunked", b"X-Length: until the close"],
)
def test_a_policy_without_end_is_read_to_one_byte_too_many(
    authority: Authority, good: Path, header: bytes
) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    script = sends(HEAD + header + b"\r\n\r\n", then=lambda talk: talk.flood(chunk))
    answer = fetch_from(authority, good, script)
    assert isinstance(answer, Response)
    assert len(answer.body) == MAX_POLICY_BYTES + 1
    with pytest.raises(Exception, match="longer than 65536"):
        parse_response(answer)


def test_a_policy_of_the_greatest_length_is_whole(authority: Authority, good: Path) -> None:
    answer = fetch_from(authority, good, answers(b"x" * MAX_POLICY_BYTES))
    assert isinstance(answer, Response)
    assert len(answer.body) == MAX_POLICY_BYTES


def test_nothing_is_decompressed(authority: Authority, good: Path) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    headers = ("Content-Length: {}", "Content-Encoding: gzip")
    answer = fetch_from(authority, good, answers(bomb, headers=headers))
    assert isinstance(answer, Response)
    assert answer.body == bomb[: MAX_POLICY_BYTES + 1]


def test_no_decoders_are_built_for_codings_without_number(authority: Authority, good: Path) -> None:
    headers = ("Content-Length: {}", "Content-Encoding: " + "gzip, " * 10_000 + "gzip")
    answer = fetch_from(authority, good, answers(POLICY, headers=headers))
    assert answer == Response(status=200, content_type="text/plain", body=POLICY)


BROKEN = {
    "no answer": (b"", Conversation.close_tls, CLOSED_EARLY),
    "no answer, aborted": (b"", Conversation.hang_up, CLOSED_EARLY),
    "a header cut off": (HEAD[:20], Conversation.hang_up, CLOSED_EARLY),
    "less than its Content-Length": (
        HEAD + b"Content-Length: %d\r\n\r\n" % (len(POLICY) + 1) + POLICY,
        Conversation.close_tls,
        CLOSED_EARLY,
    ),
    "less than its Content-Length, aborted": (
        HEAD + b"Content-Length: 9\r\n\r\nversion",
        Conversation.hang_up,
        CLOSED_EARLY,
    ),
    "a chunk cut off": (
        HEAD + CHUNKED + b"99\r\nversion",
        Conversation.close_tls,
        CLOSED_EARLY,
    ),
    "chunks without the last": (
        HEAD + CHUNKED + b"7\r\nversion\r\n",
        Conversation.close_tls,
        CLOSED_EARLY,
    ),
    "a chunk of a size that is none": (
        HEAD + CHUNKED + b"\x1b[31m\r\n",
        Conversation.close_tls,
        CLOSED_EARLY,
    ),
    "a body that ends neither by length nor by TLS": (
        HEAD + b"\r\n" + POLICY,
        Conversation.hang_up,
        CLOSED_EARLY,
    ),
    "another protocol": (
        b"220 \x1b[2J\x07 mx.example.com ESMTP " + b"x" * 9999 + b"\r\n",
        Conversation.close_tls,
        NOT_HTTP,
    ),
    "a status that is no number": (
        b"HTTP/1.1 2\x1b[0 OK\r\n\r\n",
        Conversation.close_tls,
        NOT_HTTP,
    ),
    "a version unheard of": (
        b"HTTP/7\x1b 200 OK\r\n\r\n",
        Conversation.close_tls,
        NOT_HTTP,
    ),
    "two lengths": (
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        Conversation.close_tls,
        NOT_HTTP,
    ),
    "a header line too long": (
        HEAD + b"X: " + b"x" * 70_000,
        Conversation.wait_until_client_leaves,
        NOT_HTTP,
    ),
    "too many header lines": (
        HEAD + b"X: x\r\n" * 101,
        Conversation.wait_until_client_leaves,
        NOT_HTTP,
    ),
    "a status line too long": (
        b"HTTP/1.1 200 " + b"x" * 70_000,
        Conversation.wait_until_client_leaves,
        NOT_HTTP,
    ),
}


@pytest.mark.parametrize(("answer", "then", "why"), BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_is_never_a_policy_and_told_in_our_words(
    authority: Authority, good: Path, answer: bytes, then: Script, why: str
) -> None:
    result = fetch_from(authority, good, sends(answer, then=then))
    assert result == failure(f"{HOST} [127.0.0.1]: {why}")


def test_a_body_that_ends_with_the_connection_is_whole_where_tls_says_so(
    authority: Authority, good: Path
) -> None:
    answer = fetch_from(authority, good, sends(HEAD + b"\r\n" + POLICY))
    assert answer == Response(status=200, content_type="text/plain", body=POLICY)


def test_an_answer_without_a_media_type_says_so(authority: Authority, good: Path) -> None:
    script = sends(b"HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nversion")
    answer = fetch_from(authority, good, script)
    assert answer == Response(status=200, content_type=None, body=b"version")


def test_a_server_without_tls_is_no_failure_of_the_certificate(
    authority: Authority, good: Path
) -> None:
    def plain(talk: Conversation) -> None:
        talk.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        talk.wait_until_client_leaves()

    answer = fetch_from(authority, good, plain)
    assert isinstance(answer, FetchFailed)
    assert answer.kind is ResultType.STS_POLICY_FETCH_ERROR
    assert answer.why.startswith(f"{HOST} [127.0.0.1]: TLS failed: ")


def test_a_server_that_hangs_up_in_the_handshake_is_no_failure_of_the_certificate(
    authority: Authority, good: Path
) -> None:
    answer = fetch_from(authority, good, Conversation.hang_up)
    assert isinstance(answer, FetchFailed)
    assert answer.kind is ResultType.STS_POLICY_FETCH_ERROR


def test_nothing_is_logged_of_what_a_server_does_wrong(
    authority: Authority, good: Path, caplog: pytest.LogCaptureFixture
) -> None:
    headers = ("Content-Length: {}", "Transfer-Encoding: chunked", "\x00no header", ": :")
    with caplog.at_level(logging.DEBUG):
        fetch_from(authority, good, answers(b"0\r\n\r\n", headers=headers))
    assert [record for record in caplog.records if record.name != "asyncio"] == []

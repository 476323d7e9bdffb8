"""The listener for Prometheus: what it answers, and what strangers cannot do to it."""

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from postfix_mtasts.adapters import listeners, metrics_server
from postfix_mtasts.adapters.metrics_server import MetricsServer, Page, load_exposition
from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.meters import Histogram, Metric
from tests.world import story

PAGE = b"up 1\n"


class Served:
    """A server under test."""

    def __init__(self, address: tuple[str, int], server: MetricsServer) -> None:
        self.address = address
        self.server = server
        self.asked = 0
        self.fails = False

    async def page(self) -> bytes:
        self.asked += 1
        if self.fails:
            raise ZeroDivisionError
        return PAGE

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    async def ask(self, request: bytes) -> bytes:
        """Return all that comes until the connection ends."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    listener = listeners.bind(Listen(kind="inet", host="127.0.0.1", port=0))
    async with asyncio.TaskGroup() as group:
        served: Served

        async def page() -> bytes:
            return await served.page()

        server = MetricsServer(page, content_type="text/x", group=group)
        served = Served(listener.getsockname(), server)
        accepting = group.create_task(listeners.accept(listener, server.connection))
        yield served
        accepting.cancel()
        server.close()


def status_of(response: bytes) -> int:
    return int(response.split(b" ")[1])


@story
async def test_get_metrics_is_answered_with_the_page_and_the_end_of_the_connection() -> None:
    async with serving() as served:
        response = await served.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    header, _, body = response.partition(b"\r\n\r\n")
    assert body == PAGE
    assert header.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/x",
        b"Content-Length: 5",
        b"Connection: close",
    ]


@story
async def test_head_is_answered_with_the_header_alone() -> None:
    async with serving() as served:
        response = await served.ask(b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert response.endswith(b"Content-Length: 5\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics?x=y HTTP/1.0", 200),
        (b"GET / HTTP/1.1", 404),
        (b"GET /metrics/ HTTP/1.1", 404),
        (b"GET //metrics HTTP/1.1", 404),
        (b"GET http://x/metrics HTTP/1.1", 404),
        (b"POST /metrics HTTP/1.1", 405),
        (b"get /metrics HTTP/1.1", 405),
        (b"GET /metrics", 400),
        (b"GET /metrics HTTP/2.0", 400),
        (b"GET  /metrics HTTP/1.1", 400),
        (b"", 400),
        (b"\x16\x03\x01\xff\xff", 400),
    ],
)
@story
async def test_nothing_else_is_served(request_line: bytes, status: int) -> None:
    async with serving() as served:
        response = await served.ask(request_line + b"\r\n\r\n")
        assert status_of(response) == status
        assert served.asked == (status == 200)
        assert (b"\r\nAllow: GET, HEAD\r\n" in response) == (status == 405)


@story
async def test_a_request_in_pieces_is_one_and_what_follows_it_is_none() -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        for octet in b"GET /metrics HTTP/1.1\r\n\r\n":
            writer.write(bytes([octet]))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert status_of(await reader.read()) == 200
        writer.close()
        assert served.asked == 1


@story
async def test_a_request_that_is_too_long_is_refused() -> None:
    async with serving() as served:
        request = b"GET /metrics HTTP/1.1\r\nX: ".ljust(metrics_server.MAX_REQUEST + 1, b"x")
        assert status_of(await served.ask(request)) == 431


@story
async def test_who_does_not_ask_is_hung_up_on_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "SECONDS", 0.01)
    async with serving() as served:
        assert await served.ask(b"GET /metrics HTTP/1.1\r\nX: ") == b""
        assert not served.server.clients


@story
async def test_beyond_the_most_connections_the_oldest_gives_way() -> None:
    async with serving() as served:
        first, writer = await served.connect()
        others = [await served.connect() for _ in range(metrics_server.MAX_CLIENTS)]
        assert await ended(first)
        assert len(served.server.clients) == metrics_server.MAX_CLIENTS
        assert status_of(await served.ask(b"GET /metrics HTTP/1.1\r\n\r\n")) == 200
        for _, each in [(first, writer), *others]:
            each.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


@story
async def test_a_bug_in_a_page_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        served.fails = True
        assert status_of(await served.ask(b"GET /metrics HTTP/1.1\r\n\r\n")) == 500
        served.fails = False
        assert status_of(await served.ask(b"GET /metrics HTTP/1.1\r\n\r\n")) == 200
    assert "metrics: internal error" in caplog.text


@story
async def test_who_leaves_before_the_page_is_made_disturbs_nobody() -> None:
    async with serving() as served:
        making, made = asyncio.Event(), asyncio.Event()

        async def slowly() -> bytes:
            making.set()
            await made.wait()
            return PAGE

        served.page = slowly  # type: ignore[method-assign] # a page that takes its time
        _, writer = await served.connect()
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        await making.wait()
        sock: socket.socket = writer.get_extra_info("socket")
        assert sock.fileno() >= 0
        writer.transport.abort()
        made.set()


class FakeExposition:
    """Pages that tell which they are, and where they were made."""

    CONTENT_TYPE = "text/x"

    def __init__(self) -> None:
        self.pages: list[list[Metric | Histogram]] = []
        self.threads: set[int] = set()

    def build_page(self, metrics: list[Metric | Histogram]) -> bytes:
        self.pages.append(metrics)
        self.threads.add(threading.get_ident())
        return b"%d" % len(self.pages)


@story
async def test_a_page_is_made_in_a_thread_and_once_a_second_however_many_ask() -> None:
    now = 0.0
    exposition = FakeExposition()
    counted = Metric(name="a", kind="gauge", help="A.", samples=())
    read = Metric(name="b", kind="gauge", help="B.", samples=())
    page = Page(exposition, counted=lambda: [counted], read=lambda: [read], ticks=lambda: now)
    assert set(await asyncio.gather(*(page() for _ in range(100)))) == {b"1"}
    now = 0.9
    assert await page() == b"1"
    now = 1.0
    assert await page() == b"2"
    assert exposition.pages == [[counted, read]] * 2
    assert threading.get_ident() not in exposition.threads


@story
async def test_a_disk_that_hangs_holds_one_thread_and_is_told_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_server, "PAGE_SECONDS", 0.01)
    hangs, begun = threading.Event(), []

    def read() -> list[Metric]:
        begun.append(1)
        hangs.wait()
        return []

    ticks = iter(range(0, 1000, 10))
    page = Page(FakeExposition(), counted=list, read=read, ticks=lambda: float(next(ticks)))
    async with serving() as served:
        served.page = page.__call__  # type: ignore[method-assign] # the real thing
        for _ in range(3):
            assert status_of(await served.ask(b"GET /metrics HTTP/1.1\r\n\r\n")) == 503
        hangs.set()
        assert await page() == b"1"
        assert len(begun) == 1


def test_a_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "postfix_mtasts.adapters.exposition", raising=False)
    with pytest.raises(ConfigError, match="install python3-prometheus-client"):
        load_exposition()

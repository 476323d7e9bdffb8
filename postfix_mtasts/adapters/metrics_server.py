"""``GET /metrics``: a listener of its own for Prometheus, as small as HTTP allows.

The library's own server has a thread for each client, as many as come, and waits for
each as long as it likes.  This one lives on the event loop and is bounded: requests of
`MAX_REQUEST` octets, `MAX_CLIENTS` connections, beyond which the oldest is closed,
`SECONDS` for all of one, and one page in `HOLD` seconds, however many ask.  One
request a connection (RFC 9112 section 9.6), of which only the first line is read: what
follows changes nothing here.  GET and HEAD of ``/metrics``; else 404, 405, or 400.

A page is made in a thread (`Page`), for it reads databases, and no look-up waits for
that.  Where the disk hangs it is one thread that does, and whoever asks has 503 after
`PAGE_SECONDS`.

BUGS: there is no TLS, nor a password: listen on loopback, or where a firewall lets
Prometheus alone in.
"""

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, cast

from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.meters import Histogram, Metric

log = logging.getLogger(__name__)

MAX_REQUEST: Final = 8192
MAX_CLIENTS: Final = 16
SECONDS: Final = 10.0
PAGE_SECONDS: Final = 8.0
HOLD: Final = 1.0

_END_OF_HEADER: Final = b"\r\n\r\n"
_WORDS_OF_REQUEST_LINE: Final = 3  # RFC 9112 section 3
_PATH: Final = b"/metrics"
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Exposition(Protocol):
    """The module `exposition`."""

    CONTENT_TYPE: str

    def build_page(self, metrics: list[Metric | Histogram]) -> bytes:
        """Return the page that tells *metrics*."""
        ...


def load_exposition() -> Exposition:
    """Return the module that makes pages; raises ConfigError where its library is missing."""
    try:
        module = importlib.import_module("postfix_mtasts.adapters.exposition")
    except ImportError as error:
        raise ConfigError(
            "metrics.listen is set, but prometheus-client is not there:"
            f" install python3-prometheus-client ({error})"
        ) from None
    return cast("Exposition", module)


class Page:
    """The page, made anew at most once in `HOLD` seconds.

    *counted*: what there is on the event loop, told at once.  *read*: what must be
    read from elsewhere, called in a thread.  *ticks*: a clock that never jumps.
    """

    def __init__(
        self,
        exposition: Exposition,
        *,
        counted: Callable[[], list[Metric | Histogram]],
        read: Callable[[], list[Metric]],
        ticks: Callable[[], float],
    ) -> None:
        self.content_type = exposition.CONTENT_TYPE
        self._exposition = exposition
        self._counted = counted
        self._read = read
        self._ticks = ticks
        self._begun = float("-inf")
        self._made: asyncio.Future[bytes] | None = None

    async def __call__(self) -> bytes:
        """Return the page; one that is still being made is waited for, whoever began it."""
        now = self._ticks()
        if self._made is None or (self._made.done() and now - self._begun >= HOLD):
            self._begun = now
            loop = asyncio.get_running_loop()
            self._made = loop.run_in_executor(None, self._make, self._counted())
        return await asyncio.shield(self._made)

    def _make(self, counted: list[Metric | Histogram]) -> bytes:
        return self._exposition.build_page([*counted, *self._read()])


class MetricsServer:
    """Answers with what *page* returns, which is of *content_type*; its tasks live in *group*."""

    def __init__(
        self, page: Callable[[], Awaitable[bytes]], *, content_type: str, group: asyncio.TaskGroup
    ) -> None:
        self.clients: dict[_Client, None] = {}  # the oldest first
        self._page = page
        self._content_type = content_type
        self._group = group

    def connection(self) -> asyncio.Protocol:
        """Return a new connection: the factory of asyncio's protocols."""
        return _Client(self)

    def opened(self, client: "_Client") -> None:
        """Count *client* in, and the oldest out where there are too many."""
        if len(self.clients) >= MAX_CLIENTS:
            next(iter(self.clients)).abort()
        self.clients[client] = None

    def close(self) -> None:
        """Close all connections."""
        for client in tuple(self.clients):
            client.abort()

    def begin(self, answering: Coroutine[Any, Any, None]) -> None:
        """Let *answering* go on by itself."""
        self._group.create_task(answering)

    async def answer(self, header: bytes) -> bytes:
        """Return the response to a request with *header*."""
        words = header.partition(b"\r\n")[0].split(b" ")
        if len(words) != _WORDS_OF_REQUEST_LINE or not words[2].startswith(b"HTTP/1."):
            return build_response(400)
        method, target, _ = words
        if target.partition(b"?")[0] != _PATH:
            return build_response(404)
        if method not in (b"GET", b"HEAD"):
            return build_response(405)
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                page = await self._page()
        except TimeoutError:
            return build_response(503)
        except Exception:  # the outermost frame of a task: a bug must not end the daemon
            log.exception("metrics: internal error")
            return build_response(500)
        response = build_response(200, page, self._content_type)
        return response if method == b"GET" else response[: len(response) - len(page)]


def build_response(status: int, body: bytes = b"", content_type: str = "text/plain") -> bytes:
    """Return a whole response (RFC 9112 section 4), after which the connection ends."""
    reason = _REASONS[status]
    content = body or f"{reason}\n".encode()
    allow = "Allow: GET, HEAD\r\n" if status == 405 else ""  # noqa: PLR2004 - RFC 9110 section 15.5.6
    head = (
        f"HTTP/1.1 {status} {reason}\r\n{allow}Content-Type: {content_type}\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: MetricsServer) -> None:
        self._server = server
        self._received = b""
        self._answered = False
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._deadline = asyncio.get_running_loop().call_later(SECONDS, self.abort)
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        self._deadline.cancel()
        self._server.clients.pop(self, None)

    def data_received(self, data: bytes) -> None:
        if self._answered:
            return
        self._received += data
        header, end, _ = self._received.partition(_END_OF_HEADER)
        if end:
            self._answered = True
            self._transport.pause_reading()
            self._server.begin(self._answer(header))
        elif len(self._received) > MAX_REQUEST:
            self._answered = True
            self._end(build_response(431))

    def abort(self) -> None:
        """Close at once."""
        self._server.clients.pop(self, None)
        self._transport.abort()

    async def _answer(self, header: bytes) -> None:
        self._end(await self._server.answer(header))

    def _end(self, response: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(response)
            self._transport.close()

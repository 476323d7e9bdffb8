"""The socketmap server: connections, their limits, and how they end.

Postfix keeps one connection per smtp(8) process, asks one thing at a time and
waits (socketmap_table(5)).  So does this server: requests of one connection are
answered in order, and while one of them is being looked up its connection is not
read.  Other connections do not notice.

A cached answer is one look-up in a dictionary with the bytes as they came, in
`Connection.data_received`; everything else is the way round it.

Limits (security): `socketmap.MAX_REQUEST_BYTES` per request; *limit*
connections, beyond which the one that was idle longest is closed, so that new
clients are always served; a client that does not read its replies is not read.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, cast

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.netstring import Decoder, build_netstring
from postfix_mtasts.core.socketmap import MAX_REQUEST_BYTES, Reply, Status, build_reply
from postfix_mtasts.services.answers import Answers
from postfix_mtasts.services.control import Control

log = logging.getLogger(__name__)


class Server:
    """Answers on at most *limit* connections.

    *peer_uid* tells which local user is at the other end, `None` for unknown.
    """

    def __init__(
        self,
        *,
        answers: Answers,
        control: Control,
        group: asyncio.TaskGroup,
        limit: int,
        peer_uid: Callable[[asyncio.Transport], int | None],
    ) -> None:
        self.answers = answers
        self.control = control
        self.group = group
        self.peer_uid = peer_uid
        self.connections: OrderedDict[Connection, None] = OrderedDict()  # longest idle first
        self._limit = limit
        self._none_left = asyncio.Event()
        self._none_left.set()

    def connection(self) -> "Connection":
        """Return a new connection: the factory of asyncio's servers."""
        return Connection(self)

    def opened(self, connection: "Connection") -> None:
        """Count *connection* in, and another one out where there are too many."""
        self._none_left.clear()
        if len(self.connections) >= self._limit:
            idle = (other for other in self.connections if not other.busy)
            next(idle, next(iter(self.connections))).close()
        self.connections[connection] = None

    def closed(self, connection: "Connection") -> None:
        """Count *connection* out."""
        self.connections.pop(connection, None)
        if not self.connections:
            self._none_left.set()

    async def close(self, patience: float) -> None:
        """Finish what is being answered, within *patience* seconds, and close all."""
        for connection in list(self.connections):
            connection.finish()
        try:
            async with asyncio.timeout(patience):
                await self._none_left.wait()
        except TimeoutError:
            log.warning("stopping with %d requests unanswered", len(self.connections))
            for connection in list(self.connections):
                connection.abort()


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server) -> None:
        self.busy = False  # a request is being looked up
        self._server = server
        self._cached = server.answers.cache.answers.get
        self._used = server.connections.move_to_end
        self._decoder = Decoder(MAX_REQUEST_BYTES)
        self._direct = True  # what comes next begins a request
        self._finishing = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection up."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Let go of the connection."""
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Answer *data* from the cache if it is one whole request that is in it."""
        answer = self._cached(data)
        if answer is None or not self._direct:
            self._decoder.feed(data)
            self._proceed()
            return
        answer.hits += 1
        self._transport.write(answer.reply)
        self._used(self)

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on once the client has read."""
        if not self.busy:
            self._transport.resume_reading()

    def finish(self) -> None:
        """Close as soon as nothing is being answered."""
        self._finishing = True
        if not self.busy:
            self._transport.close()

    def close(self) -> None:
        """Close; what was written is still sent."""
        self._server.closed(self)
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _proceed(self) -> None:
        """Answer the requests that are complete, up to one that must be looked up."""
        self._direct = False
        while not self.busy and not self._transport.is_closing():
            try:
                payload = self._decoder.next()
            except ParseError as error:
                self._write(build_reply(Reply(status=Status.PERM, text=str(error))))
                self._transport.close()
                return
            if payload is None:
                self._direct = not self._decoder.pending
                return
            self._answer(payload)

    def _answer(self, payload: bytes) -> None:
        if self in self._server.connections:
            self._used(self)
        cached = self._cached(build_netstring(payload))
        if cached is not None:
            cached.hits += 1
            self._transport.write(cached.reply)
            return
        if self._server.control.is_for(payload):
            self._later(
                self._server.control.answer(payload, self._server.peer_uid(self._transport))
            )
            return
        reply = self._server.answers.immediate(payload)
        if reply is None:
            self._later(self._server.answers.eventual(payload))
        else:
            self._write(reply)

    def _later(self, answering: Coroutine[Any, Any, bytes]) -> None:
        self.busy = True
        self._transport.pause_reading()
        self._server.group.create_task(self._finish_later(answering))

    async def _finish_later(self, answering: Coroutine[Any, Any, bytes]) -> None:
        try:
            reply = await answering
        except Exception:  # the outermost frame of a task: a bug must not end the daemon
            log.exception("request: internal error")
            text = "internal error, see the log of postfix-mtasts"
            reply = build_reply(Reply(status=Status.TEMP, text=text))
        self.busy = False
        if self._transport.is_closing():
            return
        self._write(reply)
        if self._finishing:
            self._transport.close()
            return
        self._proceed()
        if not self.busy and not self._transport.is_closing():
            self._transport.resume_reading()

    def _write(self, reply: bytes) -> None:
        self._transport.write(build_netstring(reply))

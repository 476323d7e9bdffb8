"""The socketmap server: connections, their limits, and how they end.

Postfix keeps one connection per smtp(8) process, asks one thing at a time and
waits (socketmap_table(5)).  So does this server: requests of one connection are
answered in order, and while one of them is being looked up its connection is not
read.  Other connections do not notice.

A cached answer is one look-up in a dictionary with the bytes as they came, in
`Connection.data_received`; everything else is the way round it.

Limits (security): `socketmap.MAX_REQUEST_BYTES` per request; *limit*
connections, beyond which the one that was idle longest is closed, so that new
clients are always served; a client that does not read its replies is not read,
nor is it answered what it asked ahead.

BUGS: what one read of the event loop brings, up to 256 KiB, is held while its
first request is being looked up.
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

AT_ONCE = 100
"""Requests of one connection that are answered before it is others' turn."""


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
        self.idle: OrderedDict[Connection, None] = OrderedDict()  # the longest idle first
        self.busy: OrderedDict[Connection, None] = OrderedDict()  # the longest busy first
        self._limit = limit
        self._closing = False
        self._none_left = asyncio.Event()
        self._none_left.set()

    def connection(self) -> "Connection":
        """Return a new connection: the factory of asyncio's protocols."""
        return Connection(self)

    def opened(self, connection: "Connection") -> None:
        """Count *connection* in, and another one out where there are too many."""
        if len(self.idle) + len(self.busy) >= self._limit:
            surplus = next(iter(self.idle or self.busy))
            surplus.abort()
            self.closed(surplus)
        self._none_left.clear()
        self.idle[connection] = None
        if self._closing:
            connection.finish()

    def began(self, connection: "Connection") -> None:
        """Note that *connection* waits for a look-up."""
        del self.idle[connection]
        self.busy[connection] = None

    def ended(self, connection: "Connection") -> None:
        """Note that *connection* waits for its client again."""
        del self.busy[connection]
        self.idle[connection] = None

    def closed(self, connection: "Connection") -> None:
        """Count *connection* out."""
        self.idle.pop(connection, None)
        self.busy.pop(connection, None)
        if not self.idle and not self.busy:
            self._none_left.set()

    async def close(self, patience: float) -> None:
        """Finish what is being answered, within *patience* seconds, and close all."""
        self._closing = True
        for connection in (*self.idle, *self.busy):
            connection.finish()
        try:
            async with asyncio.timeout(patience):
                await self._none_left.wait()
        except TimeoutError:
            left = (*self.idle, *self.busy)
            log.warning("stopping with %d clients still to be answered", len(left))
            for connection in left:
                connection.abort()


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cached = server.answers.cache.answers.get
        self._used = server.idle.move_to_end
        self._decoder = Decoder(MAX_REQUEST_BYTES)
        self._direct = True  # what comes next begins a request
        self._busy = False  # a request is being looked up
        self._clogged = False  # the client does not read
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
        answer.meter.count += 1
        self._transport.write(answer.reply)
        self._used(self)

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self._clogged = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on once the client has read."""
        self._clogged = False
        self._proceed()

    def finish(self) -> None:
        """Close as soon as nothing is being answered."""
        self._finishing = True
        if not self._busy:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _proceed(self) -> None:
        """Answer the requests that are complete, up to one that must be looked up; read on."""
        self._direct = False
        for _ in range(AT_ONCE):
            if self._busy or self._clogged or self._transport.is_closing():
                return
            try:
                payload = self._decoder.next()
            except ParseError as error:
                self._write(build_reply(Reply(status=Status.PERM, text=str(error))))
                self._transport.close()
                return
            if payload is None:
                self._direct = not self._decoder.pending
                self._transport.resume_reading()
                return
            self._answer(payload)
        self._transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._proceed)

    def _answer(self, payload: bytes) -> None:
        self._used(self)
        cached = self._cached(build_netstring(payload))
        if cached is not None:
            cached.hits += 1
            cached.meter.count += 1
            self._transport.write(cached.reply)
            return
        if self._server.control.is_for(payload):
            uid = self._server.peer_uid(self._transport)
            self._later(self._server.control.answer(payload, uid))
            return
        reply = self._server.answers.immediate(payload)
        if reply is None:
            self._later(self._server.answers.eventual(payload))
        else:
            self._write(reply)

    def _later(self, answering: Coroutine[Any, Any, bytes]) -> None:
        self._busy = True
        self._server.began(self)
        self._transport.pause_reading()
        self._server.group.create_task(self._finish_later(answering))

    async def _finish_later(self, answering: Coroutine[Any, Any, bytes]) -> None:
        try:
            reply = await answering
        except Exception:  # the outermost frame of a task: a bug must not end the daemon
            log.exception("request: internal error")
            self._server.answers.activity.broke()
            text = "internal error, see the log of postfix-mtasts"
            reply = build_reply(Reply(status=Status.TEMP, text=text))
        if self._transport.is_closing():
            return
        self._busy = False
        self._server.ended(self)
        self._write(reply)
        if self._finishing:
            self._transport.close()
            return
        self._proceed()

    def _write(self, reply: bytes) -> None:
        self._transport.write(build_netstring(reply))

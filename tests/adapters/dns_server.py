"""A DNS server on loopback, UDP and TCP, that says what a script tells it to.

::

    async with DnsServer() as server:
        server.says("example.com", "MX", record("example.com", "MX", "10 mx.example.com."))
        server.says("slow.example", "A", delay=5)
        ...  # asked at server.address, such as "127.0.0.1:40123"
        assert [query.name for query in server.queries] == ["example.com"]

What the script does not know is NXDOMAIN with an SOA record.  A name and type
may have several replies: each is given once, the last for ever after.  What
goes wrong on the wire is a function from the true message to the messages that
are sent instead: `lost`, `forged_first`, or any other.

The server lives in the event loop of the test.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype

T = TypeVar("T")

Wire: TypeAlias = Callable[[bytes], tuple[bytes, ...]]

HEADER_SIZE = 12
BIND_TRIES = 5
SOA_TTL = 900
SOA_MINIMUM = 300


def record(
    owner: str,
    rdtype: str,
    data: str | bytes,
    *,
    ttl: int = 3600,
    rdclass: str = "IN",
) -> bytes:
    """Return a record in wire format; *data* as bytes is taken as it is, however broken."""
    kind = dns.rdatatype.from_text(rdtype)
    if isinstance(data, str):
        data = dns.rdata.from_text("IN", kind, data).to_wire() or b""
    name = dns.name.from_text(owner).to_digestable()
    return (
        name + struct.pack("!HHIH", kind, dns.rdataclass.from_text(rdclass), ttl, len(data)) + data
    )


def soa(zone: str, *, ttl: int = SOA_TTL, minimum: int = SOA_MINIMUM) -> bytes:
    """Return the SOA record of *zone*."""
    return record(zone, "SOA", f"ns.invalid. mail.invalid. 1 2 3 4 {minimum}", ttl=ttl)


def as_it_is(message: bytes) -> tuple[bytes, ...]:
    """Send the true message."""
    return (message,)


def lost(_message: bytes) -> tuple[bytes, ...]:
    """Send nothing; a TCP connection is closed without an answer."""
    return ()


def with_other_id(message: bytes) -> bytes:
    """Return *message* with an id that was not asked for."""
    return bytes((message[0] ^ 0x55,)) + message[1:]


def with_other_question(message: bytes) -> bytes:
    """Return *message* as an answer to a question of another first letter."""
    return message[: HEADER_SIZE + 1] + bytes((message[HEADER_SIZE + 1] ^ 1,)) + message[14:]


def forged_first(*forgeries: Callable[[bytes], bytes]) -> Wire:
    """Send what *forgeries* make of the true message, then the true one."""
    return lambda message: (*(forge(message) for forge in forgeries), message)


def run(
    scenario: Coroutine[Any, Any, T],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Run *scenario*; what the loop complains of, such as a lost exception, is an error."""
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        result = runner.run(scenario)
    assert complaints == []
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the server says to one question."""

    answers: tuple[bytes, ...] = ()
    authority: tuple[bytes, ...] = ()
    additional: tuple[bytes, ...] = ()
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    ad: bool = False
    truncated: bool = False  # over UDP: TC and no records; over TCP the whole
    truncated_tcp: bool = False
    delay: float = 0.0  # seconds
    udp: Wire = as_it_is
    tcp: Wire = as_it_is


NO_SUCH_NAME = Reply(rcode=dns.rcode.NXDOMAIN, authority=(soa("."),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What the server was asked."""

    name: str  # no trailing dot, as it was spelt
    rdtype: str
    transport: str  # "udp" or "tcp"
    message: dns.message.Message
    port: int  # the client's


def build_reply(wire: bytes, reply: Reply, *, transport: str) -> bytes:
    """Return the message by which *reply* answers the query *wire*."""
    query = dns.message.from_wire(wire)
    question = wire[HEADER_SIZE : _question_end(wire)]
    truncated = reply.truncated if transport == "udp" else reply.truncated_tcp
    flags = int(dns.flags.QR | dns.flags.RD | dns.flags.RA)
    flags |= reply.ad * dns.flags.AD | truncated * dns.flags.TC | int(reply.rcode)
    sections = ((), (), ()) if truncated else (reply.answers, reply.authority, reply.additional)
    counts = (len(section) for section in sections)
    header = struct.pack("!6H", query.id, flags, 1, *counts)
    return header + question + b"".join(b"".join(section) for section in sections)


def _question_end(wire: bytes) -> int:
    _, size = dns.name.from_wire(wire, HEADER_SIZE)
    return HEADER_SIZE + size + 4


@dataclass(slots=True)
class DnsServer(asyncio.DatagramProtocol):
    """The server; a context manager that holds the port.  *port* 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    has_tcp: bool = True
    script: dict[tuple[str, str], list[Reply]] = field(default_factory=dict)
    queries: list[Query] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)  # set by the first query
    _udp: asyncio.DatagramTransport | None = None
    _tcp: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Host and port as the configuration spells them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def says(self, name: str, rdtype: str, *replies: bytes | Reply, ad: bool = False) -> None:
        """Answer *name* and *rdtype* by records in one reply, or by these replies in turn."""
        records = tuple(reply for reply in replies if isinstance(reply, bytes))
        whole = [reply for reply in replies if isinstance(reply, Reply)]
        assert not (records and whole)
        self.script[name.lower(), rdtype] = whole or [Reply(answers=records, ad=ad)]

    async def __aenter__(self) -> Self:
        for _ in range(BIND_TRIES - 1):
            with contextlib.suppress(OSError):  # the port may be free for UDP alone
                return await self._bind(self.port)
        return await self._bind(self.port)

    async def _bind(self, port: int) -> Self:
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(self.host, port)
        )
        bound: int = self._udp.get_extra_info("sockname")[1]
        if self.has_tcp:
            try:
                self._tcp = await asyncio.start_server(self._converse, self.host, bound)
            except OSError:
                self._udp.close()
                await asyncio.sleep(0)  # the transport closes its socket in the next round
                raise
        self.port = bound
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._udp:
            self._udp.close()
        if self._tcp:
            self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tcp:
            await self._tcp.wait_closed()
        await asyncio.sleep(0)  # the transports close their sockets in the next round

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._hear(data, "udp", addr[1])
        loop = asyncio.get_running_loop()
        for message in reply.udp(build_reply(data, reply, transport="udp")):
            loop.call_later(reply.delay, self._send, message, addr)

    def _send(self, message: bytes, addr: tuple[str, int]) -> None:
        if self._udp and not self._udp.is_closing():
            self._udp.sendto(message, addr)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            # Python 3.11 reports a handler that is cancelled as failed; only we cancel it.
            with contextlib.suppress(
                asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError
            ):
                await self._answer_stream(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            data = await reader.readexactly(size)
            reply = self._hear(data, "tcp", writer.get_extra_info("peername")[1])
            await asyncio.sleep(reply.delay)
            messages = reply.tcp(build_reply(data, reply, transport="tcp"))
            for message in messages:
                writer.write(struct.pack("!H", len(message)) + message)
            await writer.drain()
            if not messages:
                return

    def _hear(self, data: bytes, transport: str, port: int) -> Reply:
        message = dns.message.from_wire(data)
        asked = message.question[0]
        name = asked.name.to_text(omit_final_dot=True)
        rdtype = dns.rdatatype.to_text(asked.rdtype)
        self.queries.append(
            Query(name=name, rdtype=rdtype, transport=transport, message=message, port=port)
        )
        self.heard.set()
        replies = self.script.get((name.lower(), rdtype), [NO_SUCH_NAME])
        again = replies[0].truncated and transport == "udp"
        return replies[0] if again or len(replies) == 1 else replies.pop(0)

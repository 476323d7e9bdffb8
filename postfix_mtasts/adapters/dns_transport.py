"""One question to one DNS server: a datagram out, the right datagram back.

A query goes out with a random id from a socket of its own, so from a port that
the kernel chose at random; the socket is connected, so the kernel drops what
comes from elsewhere.  A datagram whose id or question differs is passed over
and waiting goes on: whoever cannot see our traffic can neither answer for the
server nor end the query (RFC 5452).

Queries carry EDNS with a payload of 1232 octets, which no path has to fragment,
and the AD bit, which asks for the AD bit in the answer without the signatures
(RFC 6840 section 5.7).

`dns.asyncquery` would do, at half the speed: it makes and parses whole messages
where comparing bytes is enough.
"""

import asyncio
import secrets
import socket
import struct
from dataclasses import dataclass
from typing import TypeAlias

import dns.flags
import dns.rcode
import dns.rdataclass
from dns.rdatatype import RdataType

from postfix_mtasts.adapters.dns_name import DnsName
from postfix_mtasts.adapters.name_server import Server

HEADER_SIZE = 12
EDNS_PAYLOAD = 1232
_MAX_DATAGRAM = 4096  # more than was asked for: a server that errs is still heard

_FLAGS = int(dns.flags.RD | dns.flags.AD)
_QR = int(dns.flags.QR)
_OPT = struct.pack("!BHHIH", 0, RdataType.OPT, EDNS_PAYLOAD, 0, 0)  # RFC 6891 section 6.1.2
_OPCODE_MASK = 0x7800  # zero: QUERY
_RCODE_MASK = 0x000F
_REFUSALS = (dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED)

_Outcome: TypeAlias = bytes | OSError


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked; only `build_question` makes one."""

    name: DnsName
    rdtype: RdataType
    wire: bytes  # the question section (RFC 1035 section 4.1.2)


def build_question(name: DnsName, rdtype: RdataType) -> Question:
    """Return the question for the records of *rdtype* at *name*."""
    wire = name + struct.pack("!HH", rdtype, dns.rdataclass.IN)
    return Question(name=name, rdtype=rdtype, wire=wire)


def build_query(ident: int, question: Question) -> bytes:
    """Return the query message with the id *ident*, 0..65535."""
    return struct.pack("!6H", ident, _FLAGS, 1, 0, 0, 1) + question.wire + _OPT


def is_reply(message: bytes, ident: int, question: Question) -> bool:
    """Return whether *message* answers the query of *ident* and *question*.

    Servers that cannot read a query may refuse it without repeating the
    question; only such a refusal is taken without one.
    """
    if len(message) < HEADER_SIZE:
        return False
    its_ident, flags, questions = struct.unpack_from("!3H", message)
    if its_ident != ident or flags & (_QR | _OPCODE_MASK) != _QR:
        return False
    if questions == 0:
        return flags & _RCODE_MASK in _REFUSALS
    its_question = message[HEADER_SIZE : HEADER_SIZE + len(question.wire)]
    return questions == 1 and _same_question(its_question, question.wire)


def _same_question(one: bytes, other: bytes) -> bool:
    """Compare the names without regard to case, type and class exactly."""
    return one[:-4].lower() == other[:-4].lower() and one[-4:] == other[-4:]


async def ask_udp(server: Server, question: Question, seconds: float) -> bytes:
    """Return the message by which *server* answers *question*; it may be truncated.

    Raises `TimeoutError` after *seconds*, `OSError` where the server cannot be
    reached or the kernel says that nobody listens.
    """
    loop = asyncio.get_running_loop()
    ident = secrets.randbits(16)
    outcome: asyncio.Future[_Outcome] = loop.create_future()
    with socket.socket(server.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0)
        sock.connect(server.socket_address())
        sock.send(build_query(ident, question))
        loop.add_reader(sock.fileno(), _receive, sock, ident, question, outcome)
        timer = loop.call_later(seconds, _settle, outcome, TimeoutError())
        try:
            result = await outcome
        finally:
            timer.cancel()
            loop.remove_reader(sock.fileno())
    if isinstance(result, OSError):
        raise result
    return result


def _receive(
    sock: socket.socket, ident: int, question: Question, outcome: asyncio.Future[_Outcome]
) -> None:
    """Take one datagram; the loop calls again while there are more."""
    try:
        message = sock.recv(_MAX_DATAGRAM)
    except (BlockingIOError, InterruptedError):
        return
    except OSError as error:
        _settle(outcome, error)
    else:
        if is_reply(message, ident, question):
            _settle(outcome, message)


def _settle(outcome: asyncio.Future[_Outcome], result: _Outcome) -> None:
    # An error is set as a result: as an exception it would be reported as
    # never retrieved where the caller was cancelled in the same moment.
    if not outcome.done():
        outcome.set_result(result)


async def ask_tcp(server: Server, question: Question, seconds: float) -> bytes:
    """Return the message by which *server* answers *question* over TCP (RFC 7766).

    Raises as `ask_udp` does.
    """
    ident = secrets.randbits(16)
    query = build_query(ident, question)
    loop = asyncio.get_running_loop()
    with socket.socket(server.family, socket.SOCK_STREAM) as sock:
        sock.settimeout(0)
        async with asyncio.timeout(seconds):
            await loop.sock_connect(sock, server.socket_address())
            await loop.sock_sendall(sock, struct.pack("!H", len(query)) + query)
            while True:
                (size,) = struct.unpack("!H", await _read(sock, 2))
                message = await _read(sock, size)
                if is_reply(message, ident, question):
                    return message


async def _read(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < size:
        part = await loop.sock_recv(sock, size - len(received))
        if not part:
            raise ConnectionResetError("the server hung up")
        received += part
    return bytes(received)

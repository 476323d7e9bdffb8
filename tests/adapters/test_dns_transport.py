"""Datagrams and connections: which reply is taken, and that nothing is left behind."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import dns.flags
import dns.rcode
import pytest
import uvloop
from dns.rdatatype import RdataType

from postfix_mtasts.adapters.dns_name import parse_dns_name
from postfix_mtasts.adapters.dns_transport import (
    EDNS_PAYLOAD,
    Question,
    ask_tcp,
    ask_udp,
    build_query,
    build_question,
    is_reply,
)
from postfix_mtasts.adapters.name_server import Server, parse_server
from tests.adapters.dns_server import (
    DnsServer,
    Reply,
    forged_first,
    lost,
    record,
    run,
    with_other_id,
    with_other_question,
)

LOOPS = pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
Ask: TypeAlias = Callable[[Server, Question, float], Awaitable[bytes]]
Loop: TypeAlias = Callable[[], asyncio.AbstractEventLoop]

QUESTION = build_question(parse_dns_name("x.example"), RdataType.A)
ADDRESS = record("x.example", "A", "192.0.2.1")
PLENTY = 5.0  # seconds; no test waits that long
SOON = 0.05


@contextlib.asynccontextmanager
async def leaving_no_socket_open() -> AsyncIterator[None]:
    """Check that as many sockets are open at the end as at the start."""
    before = open_sockets()
    yield
    for _ in range(100):  # the server's end of a connection closes a moment later
        if open_sockets() <= before:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a socket stays open")


def open_sockets() -> int:
    """Return how many sockets this process has."""
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the directory itself was one
            count += str(file.readlink()).startswith("socket:")
    return count


def asked(reply: Reply, seconds: float, loop: Loop, ask: Ask = ask_udp) -> bytes:
    """Return the message that *ask* gets where the server says *reply*."""

    async def scenario() -> bytes | OSError:
        async with leaving_no_socket_open(), DnsServer() as server:
            server.says("x.example", "A", reply)
            try:
                return await ask(parse_server(server.address), QUESTION, seconds)
            except OSError as error:
                return error

    outcome = run(scenario(), loop)
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


@LOOPS
def test_the_query_asks_for_the_ad_bit_and_has_an_edns_payload(loop: Loop) -> None:
    async def scenario() -> None:
        async with DnsServer() as server:
            await ask_udp(parse_server(server.address), QUESTION, PLENTY)
        message = server.queries[0].message
        assert message.flags == dns.flags.RD | dns.flags.AD
        assert (message.edns, message.payload) == (0, EDNS_PAYLOAD)
        assert not message.ednsflags & dns.flags.DO

    run(scenario(), loop)


@LOOPS
def test_each_query_has_another_id_and_another_port(loop: Loop) -> None:
    async def scenario() -> None:
        async with DnsServer() as server:
            for _ in range(16):
                await ask_udp(parse_server(server.address), QUESTION, PLENTY)
        assert len({query.message.id for query in server.queries}) > 12
        assert len({query.port for query in server.queries}) > 12

    run(scenario(), loop)


def without_qr(message: bytes) -> bytes:
    return message[:2] + bytes((message[2] & 0x7F,)) + message[3:]


def with_other_type(message: bytes) -> bytes:
    end = 12 + len(QUESTION.wire)
    return message[: end - 4] + b"\0\x1c" + message[end - 2 :]


def with_two_questions(message: bytes) -> bytes:
    return message[:4] + b"\0\2" + message[6:]


def without_question(message: bytes) -> bytes:
    return message[:4] + b"\0\0" + message[6:12]


FORGERIES = [
    with_other_id,
    with_other_question,
    with_other_type,
    with_two_questions,
    without_qr,
    without_question,
    lambda message: message[:11],
    lambda message: message[:20],
    lambda _message: b"",
    lambda _message: b"\xff" * 600,
    lambda message: message[:2] + b"\x28" + message[3:],  # an UPDATE
]


@LOOPS
def test_forgeries_are_passed_over_and_the_true_reply_is_taken(loop: Loop) -> None:
    reply = Reply(answers=(ADDRESS,), udp=forged_first(*FORGERIES))
    assert asked(reply, PLENTY, loop).endswith(ADDRESS)


@pytest.mark.parametrize("forge", FORGERIES)
def test_a_forgery_alone_ends_in_a_time_out(forge: Callable[[bytes], bytes]) -> None:
    reply = Reply(answers=(ADDRESS,), udp=lambda message: (forge(message),))
    with pytest.raises(TimeoutError):
        asked(reply, SOON, asyncio.new_event_loop)


@LOOPS
def test_a_true_reply_from_another_socket_is_passed_over(loop: Loop) -> None:
    async def scenario() -> None:
        async with DnsServer() as server:
            ports: list[int] = []

            def from_elsewhere(message: bytes) -> tuple[bytes, ...]:
                ports.append(server.queries[-1].port)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                    other.sendto(message, ("127.0.0.1", ports[-1]))
                return ()

            server.says("x.example", "A", Reply(answers=(ADDRESS,), udp=from_elsewhere))
            with pytest.raises(TimeoutError):
                await ask_udp(parse_server(server.address), QUESTION, SOON)
            assert ports

    run(scenario(), loop)


def test_the_question_may_come_back_in_other_letters() -> None:
    message = build_query(7, QUESTION).replace(b"example", b"eXaMpLe")
    assert is_reply(message[:2] + b"\x81\x80" + message[4:], 7, QUESTION)


@pytest.mark.parametrize(
    ("rcode", "taken"),
    [
        (dns.rcode.NOERROR, False),
        (dns.rcode.FORMERR, True),
        (dns.rcode.SERVFAIL, True),
        (dns.rcode.NXDOMAIN, False),
        (dns.rcode.NOTIMP, True),
        (dns.rcode.REFUSED, True),
    ],
)
def test_only_a_refusal_may_come_without_the_question(rcode: int, taken: bool) -> None:  # noqa: FBT001  parameters of the table
    assert is_reply(struct.pack("!6H", 7, 0x8180 | rcode, 0, 0, 0, 0), 7, QUESTION) is taken


@LOOPS
@pytest.mark.parametrize("ask", [ask_udp, ask_tcp])
def test_where_nobody_listens_the_refusal_comes_at_once(ask: Ask, loop: Loop) -> None:
    async def scenario() -> None:
        async with DnsServer() as server:
            pass
        with pytest.raises(ConnectionRefusedError):
            await ask(parse_server(server.address), QUESTION, PLENTY)

    run(scenario(), loop)


@LOOPS
def test_a_silent_server_is_a_time_out(loop: Loop) -> None:
    with pytest.raises(TimeoutError):
        asked(Reply(udp=lost), SOON, loop)


@LOOPS
def test_over_tcp_a_long_answer_comes_whole(loop: Loop) -> None:
    records = tuple(record("x.example", "A", bytes((10, 0, i // 256, i % 256))) for i in range(900))
    message = asked(Reply(answers=records), PLENTY, loop, ask_tcp)
    assert message.endswith(b"".join(records))


@LOOPS
def test_over_tcp_too_only_the_true_reply_is_taken(loop: Loop) -> None:
    reply = Reply(answers=(ADDRESS,), tcp=forged_first(with_other_id, with_other_question))
    assert asked(reply, PLENTY, loop, ask_tcp).endswith(ADDRESS)


@LOOPS
def test_over_tcp_a_silent_server_is_a_time_out(loop: Loop) -> None:
    with pytest.raises(TimeoutError):
        asked(Reply(delay=PLENTY), SOON, loop, ask_tcp)


@LOOPS
def test_over_tcp_a_server_that_hangs_up_is_an_error(loop: Loop) -> None:
    with pytest.raises(ConnectionResetError):
        asked(Reply(tcp=lost), PLENTY, loop, ask_tcp)


@LOOPS
@pytest.mark.parametrize("ask", [ask_udp, ask_tcp])
def test_a_cancelled_question_leaves_no_socket_behind(ask: Ask, loop: Loop) -> None:
    async def scenario() -> None:
        async with leaving_no_socket_open(), DnsServer() as server:
            server.says("x.example", "A", Reply(delay=PLENTY))
            question = ask(parse_server(server.address), QUESTION, PLENTY)
            task = asyncio.ensure_future(question)
            await server.heard.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(scenario(), loop)


@LOOPS
def test_a_server_is_reached_over_ipv6(loop: Loop) -> None:
    async def scenario() -> bytes:
        async with DnsServer(host="::1") as server:
            server.says("x.example", "A", ADDRESS)
            first = await ask_udp(parse_server(server.address), QUESTION, PLENTY)
            second = await ask_tcp(parse_server(server.address), QUESTION, PLENTY)
            assert first[2:] == second[2:]
            return first

    assert run(scenario(), loop).endswith(ADDRESS)

"""Fail-over between servers, TCP, deadlines, and what the mail log is told."""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import dns.rcode
import pytest
from dns.rdatatype import RdataType

from postfix_mtasts.adapters import dns_query
from postfix_mtasts.adapters.dns_name import parse_dns_name
from postfix_mtasts.adapters.dns_query import Answer, Failure, NoAnswer, Querier, in_words
from postfix_mtasts.adapters.dns_transport import build_question
from postfix_mtasts.adapters.name_server import parse_server
from postfix_mtasts.adapters.resolver import DnsResolver, DnsSettings
from postfix_mtasts.adapters.server_choice import ServerChoice
from postfix_mtasts.core.dns_outcome import DnsOutcome
from postfix_mtasts.core.facts import Absent, Lookup, Present, Unavailable
from postfix_mtasts.core.meters import Meters
from tests.adapters.dns_server import (
    HEADER_SIZE,
    DnsServer,
    Reply,
    Wire,
    forged_first,
    lost,
    record,
    run,
    soa,
    with_other_id,
    with_other_question,
)

GOOD = Reply(answers=(record("x.example", "A", "192.0.2.1"),))
PLENTY = 5.0  # seconds; no test waits that long
SHORT_TRY = 0.2
NONE = Reply(authority=(soa("x.example"),))
SERVFAIL = Reply(rcode=dns.rcode.SERVFAIL)
SILENT = Reply(udp=lost)
REFERRAL = Reply(authority=(record("example", "NS", "ns.example."),))
FOUND = Present(records=("192.0.2.1",), secure=False, ttl=3600, owner="x.example")


@pytest.fixture(autouse=True)
def _short_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_query, "FIRST_TRY", SHORT_TRY)


def cut(message: bytes) -> tuple[bytes, ...]:
    """Send all but the last byte."""
    return (message[:-1],)


def cut_to(size: int) -> Wire:
    return lambda message: (message[:size],)


def claiming_another_record(message: bytes) -> tuple[bytes, ...]:
    return (message[:7] + bytes((message[7] + 1,)) + message[8:],)


def header_alone(message: bytes) -> tuple[bytes, ...]:
    return (message[:4] + bytes(8),)


async def with_servers(
    replies: tuple[Reply | None, ...],
    ask: Callable[[DnsResolver, list[DnsServer]], Awaitable[Any]],
    meters: Meters | None = None,
    **settings: Any,
) -> Any:
    """Return what *ask* gets from servers that say *replies*; None is one that is down."""
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for number, reply in enumerate(replies, start=1):
            server = await stack.enter_async_context(DnsServer(host=f"127.0.0.{number}"))
            server.says("x.example", "A", reply or GOOD)
            if reply is None:
                await server.__aexit__(None, None, None)
            servers.append(server)
        addresses = tuple(server.address for server in servers)
        resolver = DnsResolver(DnsSettings(servers=addresses, **settings), meters=meters)
        return await ask(resolver, servers)


def look_up(*replies: Reply | None, **settings: Any) -> Lookup[str]:
    """Return the A look-up of x.example, its words without ports and seconds."""
    answer: Lookup[str] = run(
        with_servers(replies, lambda resolver, _: resolver.a("x.example"), **settings)
    )
    if isinstance(answer, Unavailable):
        why = re.sub(r":[0-9]{4,5}\b", "", answer.why)
        return replace(answer, why=re.sub(r"within [0-9.]+ s", "within N s", why))
    return answer


@pytest.mark.parametrize(
    "first",
    [
        SERVFAIL,
        Reply(rcode=dns.rcode.REFUSED),
        Reply(rcode=dns.rcode.Rcode(11)),
        Reply(rcode=dns.rcode.SERVFAIL, udp=header_alone),
        SILENT,
        REFERRAL,
        Reply(answers=GOOD.answers, udp=cut),
        Reply(answers=GOOD.answers, udp=claiming_another_record),
        None,
    ],
)
def test_a_server_that_does_not_say_hands_the_question_to_the_next(first: Reply | None) -> None:
    assert look_up(first, GOOD, timeout=PLENTY) == FOUND


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ((SERVFAIL,), "SERVFAIL from 127.0.0.1"),
        ((SERVFAIL, SERVFAIL), "SERVFAIL from 127.0.0.1, 127.0.0.2"),
        ((SILENT,), "no answer from 127.0.0.1 within N s"),
        ((SILENT, SILENT), "no answer from 127.0.0.1, 127.0.0.2 within N s"),
        ((SERVFAIL, SILENT), "SERVFAIL from 127.0.0.1, no answer from 127.0.0.2 within N s"),
        ((None,), "no answer from 127.0.0.1 (Connection refused)"),
        ((REFERRAL,), "referral from 127.0.0.1, which does not recurse"),
        ((Reply(answers=GOOD.answers, udp=cut),), "malformed reply from 127.0.0.1"),
        ((Reply(rcode=dns.rcode.Rcode(11)),), "RCODE11 from 127.0.0.1"),
    ],
)
def test_the_log_is_told_what_each_server_did(replies: tuple[Reply | None, ...], why: str) -> None:
    why = why.replace("RCODE11", dns.rcode.to_text(dns.rcode.Rcode(11)))
    assert look_up(*replies, timeout=0.3) == Unavailable(why=f"A x.example: {why}")


@pytest.mark.parametrize(
    ("elapsed", "words"), [(5.004, "within 5 s"), (1.52, "within 1.5 s"), (10.0, "within 10 s")]
)
def test_the_log_is_told_how_long_was_waited(elapsed: float, words: str) -> None:
    silence = Failure(what="no answer", is_silence=True)
    failures = {parse_server(f"127.0.0.{i}"): silence for i in (1, 2)}
    assert in_words(failures, elapsed) == f"no answer from 127.0.0.1, 127.0.0.2 {words}"


def test_an_error_that_only_edns_spells_is_not_absence() -> None:
    badvers = b"\0" + b"\0\x29" + b"\x04\xd0" + b"\1\0\0\0" + b"\0\0"  # RFC 6891 section 6.1.3
    found = look_up(Reply(additional=(badvers,)))
    assert found == Unavailable(why="A x.example: BADVERS from 127.0.0.1")


def test_absence_with_edns_is_absence() -> None:
    opt = b"\0" + b"\0\x29" + b"\x04\xd0" + b"\0\0\0\0" + b"\0\0"
    beside = record("ns.example", "A", "192.0.2.2")
    assert isinstance(look_up(Reply(authority=NONE.authority, additional=(beside, opt))), Absent)


def test_a_lost_query_is_sent_again_within_the_time_out() -> None:
    assert look_up_in_turn(SILENT, GOOD, timeout=PLENTY) == (FOUND, ["udp", "udp"])


def look_up_in_turn(*replies: Reply, **settings: Any) -> tuple[Lookup[str], list[str]]:
    """Return the look-up at one server that says *replies* in turn, and how it was asked."""

    async def ask(resolver: DnsResolver, servers: list[DnsServer]) -> tuple[Lookup[str], list[str]]:
        servers[0].says("x.example", "A", *replies)
        answer = await resolver.a("x.example")
        return answer, [query.transport for query in servers[0].queries]

    result: tuple[Lookup[str], list[str]] = run(with_servers((GOOD,), ask, **settings))
    return result


def test_a_truncated_answer_is_asked_for_over_tcp() -> None:
    whole = Reply(answers=GOOD.answers, truncated=True, ad=True)
    answer, transports = look_up_in_turn(whole)
    assert isinstance(answer, Present)
    assert answer.secure
    assert transports == ["udp", "tcp"]


@pytest.mark.parametrize(
    "broken",
    [
        Reply(truncated=True, truncated_tcp=True),
        Reply(truncated=True, tcp=lost),
        Reply(truncated=True, tcp=cut),
        Reply(truncated=True, tcp=lambda _: (b"",)),
    ],
)
def test_what_fails_over_tcp_is_a_failure_of_that_server(broken: Reply) -> None:
    assert look_up(broken, GOOD, timeout=PLENTY) == FOUND


def test_forged_replies_do_not_end_the_query() -> None:
    forged = Reply(answers=GOOD.answers, udp=forged_first(with_other_id, with_other_question))
    assert look_up_in_turn(forged) == (FOUND, ["udp"])


def test_a_flood_of_forged_replies_does_not_outlast_the_time_out() -> None:
    flood = Reply(udp=lambda message: tuple(with_other_id(message) for _ in range(300)))
    start = time.monotonic()
    assert isinstance(look_up(flood, timeout=0.2), Unavailable)
    assert time.monotonic() - start < PLENTY / 2


def test_more_records_than_the_limit_are_refused() -> None:
    records = tuple(record("x.example", "A", bytes((10, 0, i // 256, i % 256))) for i in range(501))
    assert look_up(Reply(answers=records, truncated=True)) == Unavailable(
        why="A x.example: malformed reply from 127.0.0.1"
    )


def test_a_server_that_answers_nothing_is_asked_last_from_then_on() -> None:
    async def ask(resolver: DnsResolver, servers: list[DnsServer]) -> list[int]:
        for _ in range(3):
            assert await resolver.a("x.example") == FOUND
        return [len(server.queries) for server in servers]

    assert run(with_servers((SILENT, GOOD), ask, timeout=PLENTY)) == [1, 3]


def test_a_server_that_says_servfail_is_asked_first_again() -> None:
    async def ask(resolver: DnsResolver, servers: list[DnsServer]) -> list[int]:
        for _ in range(3):
            assert await resolver.a("x.example") == FOUND
        return [len(server.queries) for server in servers]

    assert run(with_servers((SERVFAIL, GOOD), ask)) == [3, 3]


def test_no_more_questions_are_under_way_than_allowed() -> None:
    async def ask(resolver: DnsResolver, servers: list[DnsServer]) -> int:
        under_way = most = 0

        def begin(message: bytes) -> tuple[bytes, ...]:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            asyncio.get_running_loop().call_later(0.01, end)
            return (message,)

        def end() -> None:
            nonlocal under_way
            under_way -= 1

        servers[0].says("x.example", "A", Reply(answers=GOOD.answers, udp=begin, delay=0.02))
        answers = await asyncio.gather(*(resolver.a("x.example") for _ in range(12)))
        assert answers == [FOUND] * 12
        return most

    assert run(with_servers((GOOD,), ask, max_concurrent=3)) == 3


def test_a_question_that_finds_no_place_in_time_is_told_so() -> None:
    async def scenario() -> Answer | NoAnswer:
        async with DnsServer() as server:
            server.says("x.example", "A", SILENT)
            servers = (parse_server(server.address),)
            querier = Querier(ServerChoice(lambda: servers, "auto", time.monotonic), 1)
            question = build_question(parse_dns_name("x.example"), RdataType.A)
            now = asyncio.get_running_loop().time()
            first = asyncio.ensure_future(querier.ask(question, now + 5))
            await server.heard.wait()
            second = await querier.ask(question, now + 0.05)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            return second

    assert run(scenario()) == NoAnswer(why="too many DNS queries at once", ours=True)


def look_up_after_a_wait(reply: Reply, wait: float) -> Lookup[str]:
    """Return a look-up of half a second that gets the only place after *wait* seconds."""

    async def ask(resolver: DnsResolver, servers: list[DnsServer]) -> Lookup[str]:
        servers[0].says("slow.example", "A", SILENT)
        first = asyncio.ensure_future(resolver.a("slow.example"))
        await servers[0].heard.wait()
        asyncio.get_running_loop().call_later(wait, first.cancel)
        answer = await resolver.a("x.example")
        await asyncio.gather(first, return_exceptions=True)
        return answer

    result: Lookup[str] = run(with_servers((reply,), ask, timeout=0.6, max_concurrent=1))
    return result


@pytest.mark.parametrize(
    ("reply", "wait", "ours"),
    [(SILENT, 0.4, True), (SILENT, 0.0, False), (SERVFAIL, 0.4, False)],
)
def test_silence_after_a_long_wait_for_a_place_is_our_own_doing(
    reply: Reply,
    wait: float,
    ours: bool,  # noqa: FBT001  parameters of the table
) -> None:
    answer = look_up_after_a_wait(reply, wait)
    assert isinstance(answer, Unavailable)
    assert answer.ours is ours


def test_a_cancelled_look_up_gives_its_place_back() -> None:
    async def ask(resolver: DnsResolver, servers: list[DnsServer]) -> Lookup[str]:
        task = asyncio.ensure_future(resolver.a("x.example"))
        waiting = asyncio.ensure_future(resolver.a("x.example"))
        await servers[0].heard.wait()
        task.cancel()
        waiting.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
        servers[0].says("x.example", "A", GOOD)
        return await resolver.a("x.example")

    assert run(with_servers((SILENT,), ask, max_concurrent=1)) == FOUND


def test_a_question_without_time_left_is_not_asked() -> None:
    assert look_up(GOOD, timeout=0) == Unavailable(
        why="A x.example: no time left to ask", ours=True
    )


def test_a_reply_cut_anywhere_is_never_taken_for_absence() -> None:
    message_size = HEADER_SIZE + len(b"\1x\7example\0") + 4 + len(GOOD.answers[0])

    async def ask(resolver: DnsResolver, servers: list[DnsServer]) -> list[object]:
        answers: list[object] = []
        for size in range(HEADER_SIZE + 15, message_size):
            servers[0].says("x.example", "A", Reply(answers=GOOD.answers, udp=cut_to(size)))
            answers.append(await resolver.a("x.example"))
        return answers

    answers = run(with_servers((GOOD,), ask))
    assert len(answers) == len(GOOD.answers[0])
    assert all(isinstance(answer, Unavailable) for answer in answers)


@pytest.mark.parametrize(
    ("replies", "outcomes"),
    [
        ((GOOD,), {"answered": 1}),
        ((NONE,), {"answered": 1}),
        ((SERVFAIL, GOOD), {"servfail": 1, "answered": 1}),
        ((Reply(rcode=dns.rcode.REFUSED),), {"refused": 1}),
        ((Reply(rcode=dns.rcode.Rcode(11)),), {"other": 1}),
        ((REFERRAL,), {"referral": 1}),
        ((Reply(answers=GOOD.answers, udp=cut),), {"malformed": 1}),
        ((SILENT, GOOD), {"timeout": 1, "answered": 1}),
        ((None, GOOD), {"unreachable": 1, "answered": 1}),
    ],
)
def test_what_comes_of_each_question_is_counted(
    replies: tuple[Reply | None, ...], outcomes: dict[str, int]
) -> None:
    meters = Meters("queries", "Queries.", ("result",))
    run(with_servers(replies, lambda resolver, _: resolver.a("x.example"), meters=meters))
    assert {result: count for (result,), count in meters.metric().samples} == outcomes


def test_a_question_for_which_there_was_no_place_is_counted() -> None:
    async def ask() -> None:
        choice = ServerChoice(lambda: (parse_server("127.0.0.1"),), "auto", time.monotonic)
        question = build_question(parse_dns_name("x.example"), RdataType.A)
        querier = Querier(choice, 0, meters)
        assert isinstance(await querier.ask(question, 0.0), NoAnswer)

    meters = Meters("queries", "Queries.", ("result",))
    asyncio.run(ask())
    assert meters.metric().samples == (((DnsOutcome.NOT_ASKED.value,), 1.0),)

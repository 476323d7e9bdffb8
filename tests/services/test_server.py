"""The server over real sockets on both event loops, and connection by connection without.

What must hold at every cut of the stream is tried on a `Connection` whose
transport is a `Wire`, so that each byte arrives when the test says so.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest

from postfix_mtasts.adapters import listeners
from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.facts import Lookup, Mx
from postfix_mtasts.core.netstring import Decoder, build_netstring
from postfix_mtasts.core.socketmap import MAX_REPLY_BYTES, MAX_REQUEST_BYTES
from postfix_mtasts.services import server
from postfix_mtasts.services.control import Control
from postfix_mtasts.services.server import AT_ONCE, Connection, Server
from tests.adapters import dns_server
from tests.world import World, daemon

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]

DEADLINE = 20.0  # seconds, after which a test hangs
PATIENCE = 0.2  # seconds, of a server that is closed while something is stuck
MANY = 1000  # connections, where their number is not the point
FACTORIES: dict[str, LoopFactory] = {"asyncio": asyncio.SelectorEventLoop}
with contextlib.suppress(ImportError):
    import uvloop

    FACTORIES["uvloop"] = uvloop.new_event_loop


@pytest.fixture(params=list(FACTORIES.values()), ids=list(FACTORIES), name="loop")
def each_loop(request: pytest.FixtureRequest) -> LoopFactory:
    factory: LoopFactory = request.param
    return factory


def run(scenario: Coroutine[Any, Any, None], loop: LoopFactory | None = None) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(DEADLINE):
            await scenario

    dns_server.run(in_time(), loop)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the loop itself is what is watched
        await asyncio.sleep(0)


# --- the world and its server ---------------------------------------------------------------


@dataclass(kw_only=True)
class SlowWorld(World):
    """A world in which some domains take until the test says so."""

    slow: dict[str, asyncio.Event] = field(default_factory=dict)
    wanted: list[str] = field(default_factory=list)
    broken: str = ""  # the domain at which the resolver has a bug

    async def mx(self, name: str) -> Lookup[Mx]:
        self.wanted.append(name)
        if name == self.broken:
            raise AssertionError("a bug")
        if name in self.slow:
            await self.slow[name].wait()
        return await super().mx(name)

    def is_stuck(self, name: str) -> asyncio.Event:
        """Let *name* hang until the event is set."""
        return self.slow.setdefault(name, asyncio.Event())


class Watched(Connection):
    """A connection that tells the test of its ways."""

    def __init__(self, site: "Site") -> None:
        super().__init__(site.server)
        self.transport: asyncio.Transport
        self.clogged = asyncio.Event()
        self.gone = False
        site.connections.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self.clogged.set()
        super().pause_writing()


@dataclass(kw_only=True)
class Site:
    """A server, where it listens, and all connections that it ever had."""

    world: SlowWorld
    server: Server
    address: tuple[str, int]
    path: str
    connections: list[Watched] = field(default_factory=list)
    clients: list["Client"] = field(default_factory=list)
    leaving: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    async def client(self, *, unix: bool = False) -> "Client":
        opening = (
            asyncio.open_unix_connection(self.path)
            if unix
            else asyncio.open_connection(*self.address)
        )
        client = Client(*await opening)
        self.clients.append(client)
        return client

    @property
    def held(self) -> int:
        return len(self.server.idle) + len(self.server.busy)


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    world: SlowWorld | None = None,
    *,
    limit: int = MANY,
    uid: int | None = None,
) -> AsyncIterator[Site]:
    """Serve *world* to clients of user *uid*, where `None` the one that they are of."""
    world = world or SlowWorld()
    async with daemon(world) as running:
        control = Control(store=running.store, answers=running.answers, own_uid=os.getuid())
        running_server = Server(
            answers=running.answers,
            control=control,
            group=running.group,
            limit=limit,
            peer_uid=listeners.peer_uid if uid is None else lambda _: uid,
        )
        path = str(folder / "policy.sock")
        sockets = [
            listeners.bind(Listen(kind="unix", path=path)),
            listeners.bind(Listen(kind="inet", host="127.0.0.1", port=0)),
        ]
        site = Site(world=world, server=running_server, address=sockets[1].getsockname(), path=path)
        accepting = [
            running.group.create_task(listeners.accept(listener, lambda: Watched(site)))
            for listener in sockets
        ]
        try:
            yield site
        finally:
            for event in world.slow.values():
                event.set()
            for task in accepting:
                task.cancel()
            for client in site.clients:
                client.writer.close()
            site.leaving.close()
            await running_server.close(PATIENCE)


@dataclass
class Client:
    """The other end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, *payloads: bytes) -> None:
        self.writer.write(b"".join(map(build_netstring, payloads)))

    async def reply(self) -> bytes:
        """Return the next reply; raises IncompleteReadError at the end."""
        size = await self.reader.readuntil(b":")
        payload = await self.reader.readexactly(int(size[:-1]) + 1)
        assert payload.endswith(b",")
        return payload[:-1]

    async def ask(self, payload: bytes) -> bytes:
        self.send(payload)
        return await self.reply()

    async def is_closed(self) -> bool:
        """Wait for the end; return whether nothing came before it."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


BIG = b"policy big.example"
BIG_REPLY = b"OK ".ljust(MAX_REPLY_BYTES, b"x")
NOTHING = b"NOTFOUND "
UNKNOWN = b"PERM unknown map nosuch"


def remember_big_reply(site: Site) -> None:
    request, reply = build_netstring(BIG), build_netstring(BIG_REPLY)
    cache = site.server.answers.cache
    cache.put(request, reply, lifetime=1000, protects=False, now=site.world.now)


# --- requests and their replies -------------------------------------------------------------


def test_requests_on_one_connection_are_answered_in_order(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            site.world.publishes("b.example", mx=("b.example",))
            client = await site.client()
            client.send(b"policy a.example", b"nosuch x", b"policy b.example", b"policy a.example")
            replies = [await client.reply() for _ in range(4)]
            assert replies == [
                NOTHING,
                UNKNOWN,
                b"OK secure match=b.example servername=hostname",
                NOTHING,
            ]

    run(scenario(), loop)


def test_a_slow_key_blocks_nobody_else_and_what_was_asked_behind_it_follows(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            release = site.world.is_stuck("slow.example")
            waiting, other = await site.client(), await site.client(unix=True)
            waiting.send(b"policy slow.example", b"nosuch x")
            await until(lambda: site.world.wanted == ["slow.example"])
            assert await other.ask(b"policy quick.example") == NOTHING
            assert await other.ask(b"policy quick.example") == NOTHING
            assert not waiting.reader._buffer  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio shows it nowhere
            release.set()
            assert [await waiting.reply(), await waiting.reply()] == [NOTHING, UNKNOWN]

    run(scenario(), loop)


def test_many_who_ask_for_one_slow_key_all_get_its_answer_by_one_look_up(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            release = site.world.is_stuck("slow.example")
            clients = [await site.client() for _ in range(20)]
            for client in clients:
                client.send(b"policy slow.example")
            await until(lambda: len(site.server.busy) == 20)
            release.set()
            assert {await client.reply() for client in clients} == {NOTHING}
            assert site.world.wanted == ["slow.example"]

    run(scenario(), loop)


def test_an_unknown_map_is_refused_and_the_connection_goes_on(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            client = await site.client()
            assert await client.ask(b"nosuch example.com") == UNKNOWN
            assert (await client.ask(b"nospace")).startswith(b"PERM request is not a map name")
            assert await client.ask(b"policy example.com") == NOTHING

    run(scenario(), loop)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", b"without a length"),
        (b":policy x,", b"without a length"),
        (b"-1:policy x,", b"without a length"),
        (b"8:policy x;", b"without its final comma"),
        (b"10001:", b"longer than 10000 bytes"),
        (b"9999999999", b"longer than 10000 bytes"),
        (b"1000000:" + b"x" * 1_000_000 + b",", b"longer than 10000 bytes"),
    ],
    ids=["http", "no length", "negative", "no comma", "too long", "digits", "a million bytes"],
)
@pytest.mark.parametrize("unix", [True, False], ids=["unix", "tcp"])
def test_bad_framing_gets_one_reason_after_the_answers_to_what_was_good_and_then_the_end(
    loop: LoopFactory, tmp_path: Path, broken: bytes, reason: bytes, *, unix: bool
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            client = await site.client(unix=unix)
            client.send(b"policy a.example")
            client.writer.write(broken)
            assert await client.reply() == NOTHING
            refusal = await client.reply()
            assert refusal.startswith(b"PERM netstring ")
            assert refusal.endswith(reason)
            assert await client.is_closed()

    run(scenario(), loop)


def test_a_request_of_the_longest_length_is_taken(loop: LoopFactory, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            client = await site.client()
            assert await client.ask(b"nosuch ".ljust(MAX_REQUEST_BYTES, b"x")) == UNKNOWN
            assert await client.ask(b"policy ".ljust(MAX_REQUEST_BYTES, b"x")) == NOTHING

    run(scenario(), loop)


def test_half_a_request_waits_for_its_other_half_while_others_are_answered(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            half, other = await site.client(), await site.client()
            half.writer.write(b"16:policy a.exa")
            await until(lambda: site.held == 2)
            assert await other.ask(b"policy a.example") == NOTHING
            half.writer.write(b"mple,")
            assert await half.reply() == NOTHING

    run(scenario(), loop)


def test_a_client_that_has_nothing_more_to_ask_still_gets_its_answers(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            release = site.world.is_stuck("slow.example")
            client = await site.client()
            client.send(b"policy slow.example", b"nosuch x")
            client.writer.write_eof()
            await until(lambda: bool(site.server.busy))
            release.set()
            assert [await client.reply(), await client.reply()] == [NOTHING, UNKNOWN]
            assert await client.is_closed()

    run(scenario(), loop)


def test_a_bug_defers_the_mail_and_ends_nothing(
    loop: LoopFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            site.world.broken = "a.example"
            client = await site.client()
            assert (await client.ask(b"policy a.example")).startswith(b"TEMP internal error")
            assert await client.ask(b"policy b.example") == NOTHING

    run(scenario(), loop)
    assert "a bug" in caplog.text


def test_a_bug_outside_a_look_up_is_counted_and_ends_nothing(
    loop: LoopFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_payload: bytes) -> bytes:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with serving(tmp_path) as site:
            monkeypatch.setattr(site.server.answers, "eventual", broken)
            client = await site.client()
            assert (await client.ask(b"policy a.example")).startswith(b"TEMP internal error, see")
            assert site.server.answers.activity.temporary_errors() == 1

    run(scenario(), loop)


def test_the_look_up_of_a_client_that_left_still_ends_and_is_remembered(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            release = site.world.is_stuck("slow.example")
            client = await site.client()
            client.send(b"policy slow.example")
            await until(lambda: bool(site.server.busy))
            client.writer.transport.abort()
            release.set()
            await until(lambda: bool(site.server.answers.cache.answers))
            await until(lambda: site.connections[0].gone)
            assert site.held == 0
            assert await (await site.client()).ask(b"policy slow.example") == NOTHING
            assert site.world.wanted == ["slow.example"]

    run(scenario(), loop)


# --- how many, and who has to go ------------------------------------------------------------


@pytest.mark.parametrize("how", ["from memory", "at once", "by a look-up"])
def test_beyond_the_limit_the_connection_that_was_idle_longest_goes(
    loop: LoopFactory, tmp_path: Path, how: str
) -> None:
    request, reply = {
        "from memory": (b"policy big.example", BIG_REPLY),
        "at once": (b"nosuch x", UNKNOWN),
        "by a look-up": (b"control purge a.example", b"PERM control: only for root"),
    }[how]

    async def scenario() -> None:
        async with serving(tmp_path, limit=3) as site:
            remember_big_reply(site)
            first, second, third = [await site.client() for _ in range(3)]
            for client in (first, second, third, first):
                assert (await client.ask(request)).startswith(reply)
            newcomer = await site.client()
            assert (await newcomer.ask(request)).startswith(reply)
            assert await second.is_closed()
            for client in (first, third, newcomer):
                assert (await client.ask(request)).startswith(reply)
            assert site.held == 3

    run(scenario(), loop)


def test_who_waits_for_an_answer_stays_when_somebody_idle_can_go(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, limit=20) as site:
            release = site.world.is_stuck("slow.example")
            waiting = [await site.client() for _ in range(19)]
            for client in waiting:
                client.send(b"policy slow.example")
            await until(lambda: len(site.server.busy) == 19)
            for _ in range(40):
                newcomer = await site.client()
                assert await newcomer.ask(b"nosuch x") == UNKNOWN
            release.set()
            assert {await client.reply() for client in waiting} == {NOTHING}

    run(scenario(), loop)


def test_where_all_wait_for_answers_a_newcomer_is_served_and_the_longest_wait_ends(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, limit=2) as site:
            release = site.world.is_stuck("slow.example")
            first, second = await site.client(), await site.client()
            for count, client in enumerate((first, second), start=1):
                client.send(b"policy slow.example")
                await until(lambda count=count: len(site.server.busy) == count)  # type: ignore[misc]
            newcomer = await site.client()
            assert await newcomer.ask(b"nosuch x") == UNKNOWN
            assert await first.is_closed()
            release.set()
            assert await second.reply() == NOTHING
            assert site.held == 2

    run(scenario(), loop)


def test_a_client_that_reads_nothing_has_to_go_like_any_other(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, limit=1) as site:
            connection, _ = await flooding(site)
            newcomer = await site.client()
            assert await newcomer.ask(b"nosuch x") == UNKNOWN
            await until(lambda: connection.gone)

    run(scenario(), loop)


def test_a_wave_of_connections_never_holds_more_than_the_limit(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, limit=10) as site:
            wave = [await site.client() for _ in range(200)]
            await until(lambda: len(site.connections) == 200)
            assert site.held == 10
            await until(lambda: sum(not each.gone for each in site.connections) == 10)
            assert await wave[-1].ask(b"policy a.example") == NOTHING

    run(scenario(), loop)


# --- a client that does not read ------------------------------------------------------------

BIG_REPLIES = 600  # more than any socket holds


async def flooding(site: Site) -> tuple[Watched, socket.socket]:
    """Let a client ask for `BIG_REPLIES` big replies at once, and read none."""
    remember_big_reply(site)
    before = len(site.connections)
    deaf = site.leaving.enter_context(socket.create_connection(site.address))
    deaf.settimeout(0)
    deaf.send(build_netstring(BIG) * BIG_REPLIES)
    await until(lambda: len(site.connections) > before)
    connection = site.connections[before]
    await connection.clogged.wait()
    return connection, deaf


def test_a_client_that_does_not_read_is_not_answered_until_it_does(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            connection, deaf = await flooding(site)
            assert connection.transport.get_write_buffer_size() <= 3 * MAX_REPLY_BYTES
            assert not connection.transport.is_reading()
            other = await site.client()
            assert await other.ask(b"policy a.example") == NOTHING
            running = asyncio.get_running_loop()
            decoder, replies = Decoder(MAX_REPLY_BYTES), 0
            while replies < BIG_REPLIES:
                decoder.feed(await running.sock_recv(deaf, 1 << 20))
                while decoder.next() is not None:
                    replies += 1
            assert connection.transport.is_reading()

    run(scenario(), loop)


# --- the end --------------------------------------------------------------------------------


def test_at_the_end_what_is_being_answered_is_finished(loop: LoopFactory, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            release = site.world.is_stuck("slow.example")
            idle, waiting = await site.client(), await site.client()
            assert await idle.ask(b"nosuch x") == UNKNOWN
            waiting.send(b"policy slow.example", b"nosuch x")
            await until(lambda: bool(site.server.busy))
            closing = asyncio.create_task(site.server.close(DEADLINE))
            assert await idle.is_closed()
            late = await site.client()
            assert await late.is_closed()
            release.set()
            assert await waiting.reply() == NOTHING
            assert await waiting.is_closed()
            await closing

    run(scenario(), loop)


def test_at_the_end_patience_with_what_is_stuck_is_short(
    loop: LoopFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            site.world.is_stuck("slow.example")
            waiting = await site.client()
            waiting.send(b"policy slow.example")
            await until(lambda: bool(site.server.busy))
            await flooding(site)
            await site.server.close(PATIENCE)
            assert await waiting.is_closed()
            await until(lambda: all(each.gone for each in site.connections))

    run(scenario(), loop)
    assert "stopping with 2 clients still to be answered" in caplog.text


# --- the map "control" ----------------------------------------------------------------------


def test_control_is_refused_over_tcp(loop: LoopFactory, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            client = await site.client()
            refusal = await client.ask(b"control purge *")
            assert refusal.startswith(b"PERM control: only for root")
            assert await client.ask(b"nosuch x") == UNKNOWN

    run(scenario(), loop)


def test_control_over_the_unix_socket_is_for_root_and_the_own_user_alone(
    loop: LoopFactory, tmp_path: Path
) -> None:
    async def answered_to(uid: int | None) -> bytes:
        async with serving(tmp_path, uid=uid) as site:
            return await (await site.client(unix=True)).ask(b"control purge a.example")

    async def scenario() -> None:
        assert await answered_to(None) == b'OK {"purged": 0}'  # as the kernel says
        assert await answered_to(0) == b'OK {"purged": 0}'
        assert (await answered_to(os.getuid() + 12345)).startswith(b"PERM control: only for root")

    run(scenario(), loop)


# --- byte by byte, without a socket ---------------------------------------------------------


class Wire(asyncio.Transport):
    """A transport of which the test is the other end."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.reading = True
        self.closing = False

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def replies(self) -> list[bytes]:
        decoder = Decoder(MAX_REPLY_BYTES)
        decoder.feed(self.sent)
        return list(iter(decoder.next, None))


async def pieces_come(site: Site, *pieces: bytes) -> Wire:
    """Return what was sent on a connection to which *pieces* came, as it took them."""
    wire = Wire()
    connection = site.server.connection()
    connection.connection_made(wire)
    for piece in pieces:
        await until(lambda: wire.reading)
        connection.data_received(piece)
    await until(lambda: wire.reading)
    connection.connection_lost(None)
    return wire


def test_however_the_stream_is_cut_the_replies_are_the_same(tmp_path: Path) -> None:
    requests = (b"policy a.example", b"nosuch x", b"policy b.example", b"explain", b"nosuch y")
    stream = b"".join(map(build_netstring, requests))

    async def scenario() -> None:
        async with serving(tmp_path) as site:
            site.world.publishes("b.example", mx=("b.example",))
            whole = await pieces_come(site, stream)
            assert len(whole.replies) == len(requests)
            for forgotten in (True, False):
                for cut in range(1, len(stream)):
                    if forgotten:
                        site.server.answers.cache.clear()
                    wire = await pieces_come(site, stream[:cut], stream[cut:])
                    assert wire.sent == whole.sent, cut
                single = (stream[i : i + 1] for i in range(len(stream)))
                assert (await pieces_come(site, *single)).sent == whole.sent

    run(scenario())


def test_a_whole_request_within_another_is_not_taken_for_one(tmp_path: Path) -> None:
    inner = build_netstring(b"policy a.example")

    async def scenario() -> None:
        async with serving(tmp_path) as site:
            await pieces_come(site, inner)
            assert inner in site.server.answers.cache.answers
            outer = build_netstring(b"nosuch " + inner)
            start = outer.index(inner)
            wire = await pieces_come(site, outer[:start], inner, outer[start + len(inner) :], inner)
            assert wire.replies == [UNKNOWN, NOTHING]

    run(scenario())


def test_while_the_client_does_not_read_nothing_is_written_nor_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            release = site.world.is_stuck("slow.example")
            wire, connection = Wire(), site.server.connection()
            connection.connection_made(wire)
            connection.data_received(build_netstring(b"policy slow.example") * 2)
            connection.pause_writing()
            release.set()
            await until(lambda: not site.server.busy)
            assert wire.replies == [NOTHING]  # what was asked before the client stopped reading
            assert not wire.reading
            connection.resume_writing()
            assert wire.replies == [NOTHING] * 2
            assert wire.reading
            connection.connection_lost(None)

    run(scenario())


def test_a_client_that_reads_again_does_not_overtake_its_own_slow_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            release = site.world.is_stuck("slow.example")
            wire, connection = Wire(), site.server.connection()
            connection.connection_made(wire)
            connection.data_received(
                build_netstring(b"policy slow.example") + build_netstring(b"nosuch x")
            )
            connection.pause_writing()
            connection.resume_writing()
            assert not wire.sent
            assert not wire.reading
            release.set()
            await until(lambda: wire.reading)
            assert wire.replies == [NOTHING, UNKNOWN]
            connection.connection_lost(None)

    run(scenario())


def test_one_client_takes_no_more_than_its_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            wire, connection = Wire(), site.server.connection()
            connection.connection_made(wire)
            connection.data_received(build_netstring(b"nosuch x") * (3 * AT_ONCE))
            assert wire.replies == [UNKNOWN] * AT_ONCE
            assert not wire.reading
            await until(lambda: wire.reading)
            assert wire.replies == [UNKNOWN] * (3 * AT_ONCE)
            connection.connection_lost(None)

    run(scenario())


def test_an_answer_in_memory_is_counted_by_either_way_to_it(tmp_path: Path) -> None:
    request = build_netstring(b"policy a.example")

    async def scenario() -> None:
        async with serving(tmp_path) as site:
            await pieces_come(site, request, request, request[:5], request[5:], request * 2)
            assert site.server.answers.cache.answers[request].hits == 4

    run(scenario())


def test_bytes_that_come_although_nothing_is_read_wait_their_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as site:
            remember_big_reply(site)
            release = site.world.is_stuck("slow.example")
            wire, connection = Wire(), site.server.connection()
            connection.connection_made(wire)
            connection.data_received(build_netstring(b"policy slow.example"))
            connection.data_received(build_netstring(BIG))
            assert not wire.sent
            release.set()
            await until(lambda: wire.reading)
            assert wire.replies == [NOTHING, BIG_REPLY]
            connection.connection_lost(None)

    run(scenario())


def test_behind_a_request_that_took_longer_an_answer_in_memory_takes_no_parsing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(_: bytes) -> bytes:
        pytest.fail("not by the short way")

    async def scenario() -> None:
        async with serving(tmp_path) as site:
            remember_big_reply(site)
            wire, connection = Wire(), site.server.connection()
            connection.connection_made(wire)
            connection.data_received(build_netstring(b"policy a.example") + b"8:")
            await until(lambda: wire.reading)
            connection.data_received(b"nosuch x,")
            monkeypatch.setattr(server, "build_netstring", parsed)
            connection.data_received(build_netstring(BIG))
            assert wire.replies == [NOTHING, UNKNOWN, BIG_REPLY]
            connection.connection_lost(None)

    run(scenario())

"""What strangers may publish or send while the daemon goes on answering others.

Every attack is really going on when bystanders ask: see `DaemonProcess.is_prompt`
for how promptness is measured on a machine that has other work, too.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from postfix_mtasts.adapters.dns_reply import MAX_RECORDS
from postfix_mtasts.adapters.fetcher import SAME_ADDRESS
from postfix_mtasts.core.decision import MAX_MATCH_NAMES
from tests.adapters.dns_server import Reply, Wire, forged_first, record, with_other_question
from tests.adapters.https_server import Authority, Conversation, HttpsServer
from tests.hostile.daemon_process import (
    LOOPS,
    Client,
    DaemonProcess,
    DnsThread,
    running,
    until,
)

GROWTH = 64 << 20  # bytes that no attack here may cost for good
MAIL_HOSTS = 2900  # MX records: the longest message of DNS, 64 KiB, holds few more
NOTHING = b"NOTFOUND "

DRIPPING = [f"drip-{number}.example" for number in range(8)]
MANY_LINES = "many-lines.example"


@pytest.fixture(name="dns", scope="module")
def make_dns() -> Iterator[DnsThread]:
    with DnsThread() as dns:
        yield dns


@pytest.fixture(name="https", scope="module")
def make_https(
    tmp_path_factory: pytest.TempPathFactory, dns: DnsThread
) -> Iterator[tuple[Authority, HttpsServer]]:
    """Yield the server of those that drip; the other policy hosts have one at another address.

    The certificate names them all.
    """
    authority = Authority(tmp_path_factory.mktemp("authority"))
    domains = [*DRIPPING, MANY_LINES, "good.example"]
    certificate = authority.issue(tuple(f"mta-sts.{domain}" for domain in domains))
    for domain in domains:
        txt = record(f"_mta-sts.{domain}", "TXT", '"v=STSv1; id=1;"')
        dns.says(f"_mta-sts.{domain}", "TXT", txt)
        address = "127.0.0.1" if domain in DRIPPING else "127.0.0.2"
        dns.says(f"mta-sts.{domain}", "A", record(f"mta-sts.{domain}", "A", address))
    with (
        HttpsServer(certificate, publish) as server,
        HttpsServer(certificate, publish, "127.0.0.2", server.port),
    ):
        yield authority, server


def publish(talk: Conversation) -> None:
    """Publish policies, each of its kind."""
    talk.handshake()
    request = talk.read_request()
    if b"Host: mta-sts.drip-" in request:
        talk.drip(b"x")
    count = 500 if MANY_LINES.encode() in request else 1
    lines = ["version: STSv1", "mode: enforce", "max_age: 86400"]
    lines += [f"mx: mx-{number}.good.example" for number in range(count)]
    body = "\r\n".join(lines).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    talk.send(head.encode() + body)
    talk.close_tls()


@pytest.fixture(name="daemon", scope="module", params=LOOPS)
def make_daemon(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    dns: DnsThread,
    https: tuple[Authority, HttpsServer],
) -> Iterator[DaemonProcess]:
    authority, server = https
    with running(
        tmp_path_factory.mktemp("daemon"),
        resolver=dns,
        loop=request.param,
        https_port=server.port,
        mta_sts={"ca_file": str(authority.ca_file), "timeout": "4s"},
        dns={"timeout": "3s"},
        logging={"level": "warning"},
    ) as daemon:
        assert daemon.is_prompt()
        yield daemon


def begins(daemon: DaemonProcess, stack: ExitStack, *payloads: bytes) -> list[Client]:
    """Ask each of *payloads* on a connection of its own and wait for no answer."""
    clients = [stack.enter_context(daemon.client()) for _ in payloads]
    for client, payload in zip(clients, payloads, strict=True):
        client.send(payload)
    return clients


# --- HTTPS ----------------------------------------------------------------------------------


def test_policy_hosts_that_drip_for_ever_keep_nobody_waiting(
    daemon: DaemonProcess, https: tuple[Authority, HttpsServer]
) -> None:
    before = len(https[1].requests)
    with ExitStack() as stack:
        begins(daemon, stack, *(f"policy {domain}".encode() for domain in DRIPPING))
        until(lambda: len(https[1].requests) >= before + SAME_ADDRESS)
        assert daemon.is_prompt()
        daemon.ask(b"control purge good.example")
        answer = b"OK secure match=mx-0.good.example servername=hostname"
        assert daemon.ask(b"policy good.example") == answer


def test_a_policy_of_five_hundred_lines_is_answered_and_keeps_nobody_waiting(
    daemon: DaemonProcess,
) -> None:
    daemon.ask(f"control purge {MANY_LINES}".encode())
    with ExitStack() as stack:
        [client] = begins(daemon, stack, f"policy {MANY_LINES}".encode())
        assert daemon.is_prompt()
        reply = client.reply()
    assert reply.startswith(b"OK secure match=mx-0.good.example:mx-1.good.example:")
    assert reply.count(b".good.example") == MAX_MATCH_NAMES


# --- local clients --------------------------------------------------------------------------


def pour(daemon: DaemonProcess, kind: str, stop: threading.Event, counted: list[int]) -> None:
    """Send ten thousand bad requests a second, or as many as there is time for."""
    batch, started = 100, time.monotonic()
    with daemon.client(tcp=True) as client:
        while not stop.is_set():
            if kind == "framing":
                with daemon.client() as other:
                    other.sock.sendall(b"?")
                    other.reply()
                counted[0] += 1
                continue
            client.send(*[b"nosuch map" if kind == "unknown map" else b"?"] * batch)
            for _ in range(batch):
                assert client.reply().startswith(b"PERM ")
            counted[0] += batch
            stop.wait(started + counted[0] / 10_000 - time.monotonic())


@pytest.mark.parametrize("kind", ["unknown map", "no request", "framing"])
def test_ten_thousand_bad_requests_a_second_keep_nobody_waiting(
    daemon: DaemonProcess, kind: str
) -> None:
    before, stop, counted = daemon.memory, threading.Event(), [0]
    attack = threading.Thread(target=pour, args=(daemon, kind, stop, counted))
    attack.start()
    try:
        until(lambda: counted[0] >= 100)
        assert daemon.is_prompt()
        until(lambda: counted[0] >= 1000)
    finally:
        stop.set()
        attack.join()
    assert daemon.memory - before < GROWTH


def test_a_thousand_half_requests_keep_nobody_waiting(daemon: DaemonProcess) -> None:
    before = daemon.memory
    with ExitStack() as stack:
        for number in range(1000):
            client = stack.enter_context(daemon.client(tcp=bool(number % 2)))
            client.sock.sendall(b"9999:policy " + b"x" * 9000)
        assert daemon.is_prompt()
        assert daemon.memory - before < GROWTH


def test_clients_that_read_nothing_cost_little_and_keep_nobody_waiting(
    daemon: DaemonProcess,
) -> None:
    assert daemon.ask(f"policy {MANY_LINES}".encode()).startswith(b"OK secure match=mx-0")
    before = daemon.memory
    with ExitStack() as stack:
        request = f"policy {MANY_LINES}".encode()
        for _ in range(50):
            client = stack.enter_context(daemon.client())
            client.sock.settimeout(0)
            sent = 0
            try:
                while sent < 100:
                    client.send(*[request] * 100)
                    sent += 1
            except BlockingIOError:
                pass
            assert sent < 100, "somebody reads what nobody answers"
        assert daemon.is_prompt()
        assert daemon.memory - before < GROWTH


def test_clients_that_leave_at_once_leave_nothing_behind(daemon: DaemonProcess) -> None:
    before = daemon.descriptors()
    for number in range(300):
        with daemon.client(tcp=bool(number % 2)) as client:
            client.sock.sendall(b"18:policy gone-%04d.x," % number if number % 3 else b"1")
    assert daemon.is_prompt()
    until(lambda: daemon.descriptors() <= before)


def test_what_a_client_asked_that_left_is_looked_up_and_remembered(
    daemon: DaemonProcess, dns: DnsThread
) -> None:
    name = f"left-{daemon.port}.example"
    dns.says(name, "MX", Reply(answers=(record(name, "MX", "10 mx.x."),), delay=0.3))
    with daemon.client() as client:
        client.send(f"policy {name}".encode())
        until(lambda: dns.asked(name) > 0)
    until(lambda: dns.asked("mx.x") > 0)
    with daemon.client() as client:
        assert client.ask(f"policy {name}".encode()) == NOTHING
    assert sum(query.name == name for query in dns.server.queries) == 1


# --- DNS ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "answer"), [(MAX_RECORDS, b"OK dane"), (MAIL_HOSTS, b"TEMP ")], ids=["most", "more"]
)
def test_a_domain_with_thousands_of_mail_hosts_keeps_nobody_waiting(
    daemon: DaemonProcess, dns: DnsThread, count: int, answer: bytes
) -> None:
    name = f"many-{daemon.port}-{count}.example"
    data = [
        b"\0\5" + b"\3m%02x" % (number % 256) + b"\2x%x\0" % (number // 256)
        for number in range(count)
    ]
    owner = b"\xc0\x0c"  # the name in the question
    answers = tuple(owner + b"\0\x0f\0\1\0\0\1\0" + len(each).to_bytes(2) + each for each in data)
    dns.says(name, "MX", Reply(answers=answers, truncated=True))
    with ExitStack() as stack:
        [client] = begins(daemon, stack, f"policy {name}".encode())
        assert daemon.is_prompt()
        assert client.reply().startswith(answer)
        assert client.ask(f"explain {name}".encode()).startswith(b"OK ")


@pytest.mark.parametrize("length", [1, 2, 5, 100])
def test_a_ring_of_aliases_is_given_up_and_keeps_nobody_waiting(
    daemon: DaemonProcess, dns: DnsThread, length: int
) -> None:
    ring = [f"ring-{daemon.port}-{length}-{number}.example" for number in range(length)]
    for name, following in zip(ring, [*ring[1:], ring[0]], strict=True):
        for rdtype in ("MX", "A", "AAAA", "TXT"):
            dns.says(name, rdtype, record(name, "CNAME", f"{following}."))
    with ExitStack() as stack:
        [client] = begins(daemon, stack, f"policy {ring[0]}".encode())
        assert daemon.is_prompt()
        assert client.reply().startswith(b"TEMP ")
    assert dns.asked(ring[0]) < 50


def test_a_resolver_that_answers_other_questions_or_none_keeps_nobody_waiting(
    daemon: DaemonProcess, dns: DnsThread
) -> None:
    lied_to, silent = f"lied-{daemon.port}.example", f"silent-{daemon.port}.example"
    mx = record(lied_to, "MX", "10 mx.x.")
    lies = [with_other_question] * 50
    true_last = forged_first(*lies)
    dns.says(lied_to, "MX", Reply(answers=(mx,), udp=true_last, tcp=true_last))
    dns.says(f"ever.{lied_to}", "MX", Reply(answers=(mx,), udp=only(lies), tcp=only(lies)))
    names = [f"{number}.{silent}" for number in range(200)]
    for name in names:
        dns.says(name, "MX", Reply(delay=3600))
    with ExitStack() as stack:
        asked = [lied_to, f"ever.{lied_to}", *names]
        first, *others = begins(daemon, stack, *(f"policy {name}".encode() for name in asked))
        assert daemon.is_prompt()
        assert first.reply() == NOTHING
        assert all(client.reply().startswith(b"TEMP DNS: MX ") for client in others)


def only(lies: Sequence[Callable[[bytes], bytes]]) -> Wire:
    return lambda message: tuple(lie(message) for lie in lies)

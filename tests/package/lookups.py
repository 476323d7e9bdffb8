"""Look-ups and datagrams that do not stop, whatever happens to the services meanwhile.

A look-up is what Postfix makes of one: a connection that ends without an answer is
made again once (dict_sockmap.c).  A connection that is refused is counted as wrong.
"""

import json
import os
import socket
import threading
import time
from types import TracebackType
from typing import Self

from postfix_mtasts.core.netstring import Decoder, build_netstring
from postfix_mtasts.core.socketmap import MAX_REPLY_BYTES
from tests.e2e.deadline import wait_until
from tests.package.machine import SOCKETS, Machine

PAUSE = 0.005  # seconds between two of one thread
MORE = 50
DATAGRAM_PAUSE = 0.03  # a queue of 512 has room for those of 15 seconds


class Askers:
    """Two threads that ask for *domain*, who enforces a policy, and one that sends datagrams.

    *wrong*: what was not the answer; *answered*: how often there was the right one.
    *datagrams*: how many were sent about *told_of*.
    """

    def __init__(self, machine: Machine, domain: str, *, datagrams: bool = True) -> None:
        self.wrong: list[str] = []
        self.answered = 0
        self.datagrams = 0
        self.told_of = f"datagrams.{domain}"
        self._machine = machine
        self._domain = domain
        self._lock = threading.Lock()
        self._stop = threading.Event()
        work = (self._ask_on, self._ask_on, *((self._send_on,) if datagrams else ()))
        self._threads = [threading.Thread(target=each) for each in work]

    def wait_for_more(self) -> None:
        """Wait until there were some more answers, or one that was wrong."""
        enough = self.answered + MORE
        wait_until(lambda: self.wrong or self.answered >= enough, "answers", 30)

    def __enter__(self) -> Self:
        first = self._ask()
        assert " secure " in f" {first} ", first
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self) -> None:
        while not self._stop.wait(PAUSE):
            try:
                reply = self._ask()
            except OSError as error:
                reply = repr(error)
            with self._lock:
                if reply.startswith("OK secure match="):
                    self.answered += 1
                else:
                    self.wrong.append(reply)

    def _ask(self) -> str:
        try:
            return ask(self._machine, self._domain)
        except (EOFError, ConnectionResetError, BrokenPipeError):
            return ask(self._machine, self._domain)

    def _send_on(self) -> None:
        path = os.fspath(self._machine.path(f"{SOCKETS}/tlsrpt.sock"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            while not self._stop.wait(DATAGRAM_PAUSE):
                try:
                    sender.sendto(_datagram(self.told_of), path)
                    self.datagrams += 1
                except OSError as error:
                    with self._lock:
                        self.wrong.append(f"datagram: {error!r}")


def ask(machine: Machine, domain: str, *, within: float = 20.0) -> str:
    """Return the daemon's answer about *domain*."""
    with machine.policy_socket() as connection:
        connection.settimeout(within)
        return _exchange(connection, domain)


def _exchange(connection: socket.socket, domain: str) -> str:
    connection.sendall(build_netstring(f"policy {domain}".encode()))
    decoder = Decoder(MAX_REPLY_BYTES)
    while (payload := decoder.next()) is None:
        data = connection.recv(1 << 16)
        if not data:
            raise EOFError("no answer")
        decoder.feed(data)
    return payload.decode()


def seconds_of(machine: Machine, domain: str) -> float:
    """Return how long the answer about *domain* takes."""
    started = time.monotonic()
    ask(machine, domain)
    return time.monotonic() - started


def _datagram(domain: str) -> bytes:
    """Return what libtlsrpt sends of a session that went well."""
    policy = {
        "policy-type": 2,
        "policy-domain": domain,
        "policy-string": ["version: STSv1", "mode: enforce", f"mx: mx.{domain}", "max_age: 86400"],
        "mx-host": [f"mx.{domain}"],
        "t": 0,
        "f": 0,
    }
    record = f"v=TLSRPTv1; rua=mailto:tlsrpt@{domain}"
    return json.dumps({"dpv": "1", "d": domain, "pr": record, "policies": [policy]}).encode()

"""MTA-STS policies over HTTPS, for the event loop (RFC 8461 section 3.3).

Each fetch runs in a thread of its own, of which there is a bounded number, and
under a deadline that covers all of it: the wait for its turn and a thread,
connecting, the TLS handshake, the header and the body.  At the deadline, or
when the awaiting task is cancelled, the connection is cut and the thread ends
within moments.

Each fetch has a connection of its own; nothing is kept between fetches: no
cookies, no cache, no kept-alive connections.

Limits, against hosts that mean no good: 3 addresses are tried, 5 s each
(`line.MAX_ADDRESSES`, `line.CONNECT_SECONDS`); 160 KiB are received, TLS
included (`line.MAX_BYTES`); `SAME_ADDRESS` fetches at once share the first of
their addresses, so that all names of a domain at one silent address hold no
more threads than that; others wait for their turn without a thread.

A fetch that failed because we were too busy (half its time passed before a
thread had it) or short of threads or sockets says so (`FetchFailed.ours`).

Addresses are not judged: private ones and loopback are fetched like all, which
a stranger's DNS may ask for (SSRF).  This is deliberate: mail domains within an
organisation have policies at such addresses.  Nothing is sent but a GET of one
fixed path at one port, and that only to a server that has shown a valid
certificate for the name, which is the stranger's own; of the answer nothing
reaches the stranger, to whom a TLS report may say only why a fetch failed, and
so whether anything answers at that port.

BUGS: who has silent hosts at many addresses can still hold all threads, each for
15 s, or where a host accepts connections, until the deadline.
"""

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor

from postfix_mtasts.adapters.line import Line
from postfix_mtasts.adapters.trust import Authorities
from postfix_mtasts.adapters.turns import Turns
from postfix_mtasts.core import mta_sts
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import FetchFailed

SAME_ADDRESS = 4
"""Fetches at once whose first address is the same (a security limit)."""


class HttpsFetcher:
    """The `PolicyFetcher` of the real world.

    *ca_file*: PEM certificates of the authorities to trust, `None` for the
    system's.  *timeout*: seconds for a whole fetch; a minute is what RFC 8461
    section 3.3 suggests.  *max_concurrent*: threads at most; they are started
    as needed.  *port*: of all servers, another than 443 only for tests.

    Raises `OSError` (`ssl.SSLError` is one) where *ca_file* cannot be used.
    """

    def __init__(
        self,
        ca_file: str | None = None,
        timeout: float = 60.0,
        max_concurrent: int = 32,
        *,
        port: int = 443,
    ) -> None:
        self._authorities = Authorities(ca_file)
        self._timeout = timeout
        self._port = port
        self._threads = ThreadPoolExecutor(max_concurrent, thread_name_prefix="fetch")
        self._turns = Turns(SAME_ADDRESS)
        self._lines: set[Line] = set()

    @property
    def trusts_nobody(self) -> bool:
        """Whether there is no authority at all, so that every fetch must fail."""
        return self._authorities.trusts_nobody

    async def fetch(self, host: str, addresses: tuple[str, ...]) -> mta_sts.Response | FetchFailed:
        """Get ``https://HOST/.well-known/mta-sts.txt`` from the first of *addresses* that answers.

        *host*: A-labels, no trailing dot.  *addresses*: numeric, IPv4 or IPv6.

        Whatever its status, a whole answer is a `Response`; the body of one
        other than 200 is left out, one that is too long ends one byte after
        `mta_sts.MAX_POLICY_BYTES`.
        """
        line = Line(host, addresses, self._port, self._timeout)
        self._lines.add(line)
        try:
            async with asyncio.timeout(self._timeout), self._turns.turn(next(iter(addresses), "")):
                return await self._in_a_thread(line)
        except TimeoutError:
            return _too_late(line)
        finally:
            line.cut()
            self._lines.discard(line)

    async def _in_a_thread(self, line: Line) -> mta_sts.Response | FetchFailed:
        loop = asyncio.get_running_loop()
        try:
            context = self._authorities.context
            answer = loop.run_in_executor(self._threads, _get_policy, line, context)
        except RuntimeError:  # "can't start new thread"
            return _not_tried(line, "no thread could be started")
        return await answer

    async def close(self) -> None:
        """Cut all fetches short and wait for their threads.

        Cancel the tasks that await a fetch before; what they would still get
        is a `FetchFailed` of ours.
        """
        for line in self._lines:
            line.cut()
        await asyncio.to_thread(self._threads.shutdown)


def _get_policy(line: Line, context: ssl.SSLContext) -> mta_sts.Response | FetchFailed:
    # `requests` costs memory and start-up time that a host without MTA-STS mail never needs.
    from postfix_mtasts.adapters import https_get  # noqa: PLC0415 -- hence late

    return https_get.get_policy(line, context)


def _too_late(line: Line) -> FetchFailed:
    if not line.address:
        return _not_tried(line, "too many fetches at once")
    why = f"{line.where}: no complete answer within {line.seconds:g} s"
    return FetchFailed(kind=ResultType.STS_POLICY_FETCH_ERROR, why=why)


def _not_tried(line: Line, why: str) -> FetchFailed:
    kind = ResultType.STS_POLICY_FETCH_ERROR
    return FetchFailed(kind=kind, why=f"{line.host}: not tried, {why}", ours=True)

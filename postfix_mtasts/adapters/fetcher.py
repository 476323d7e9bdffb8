"""MTA-STS policies over HTTPS, for the event loop (RFC 8461 section 3.3).

Each fetch runs in a thread of its own, of which there is a bounded number, and
under a deadline that covers all of it: the wait for a thread, connecting, the
TLS handshake, the header and the body.  At the deadline, or when the awaiting
task is cancelled, the connection is cut and the thread ends within moments.

Each fetch has a connection of its own; nothing is kept between fetches: no
cookies, no cache, no kept-alive connections.

BUGS: the authorities are read once; a changed *ca_file* needs a new fetcher.
"""

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor

from postfix_mtasts.adapters.line import Line
from postfix_mtasts.core import mta_sts
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import FetchFailed


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
        self._context = client_context(ca_file)
        self._timeout = timeout
        self._port = port
        self._threads = ThreadPoolExecutor(max_concurrent, thread_name_prefix="fetch")
        self._lines: set[Line] = set()

    async def fetch(self, host: str, addresses: tuple[str, ...]) -> mta_sts.Response | FetchFailed:
        """Get ``https://HOST/.well-known/mta-sts.txt`` from the first of *addresses* that answers.

        *host*: A-labels, no trailing dot.  *addresses*: numeric, IPv4 or IPv6.

        Whatever its status, a whole answer is a `Response`; the body of one
        other than 200 is left out, one that is too long ends one byte after
        `mta_sts.MAX_POLICY_BYTES`.
        """
        line = Line(host, addresses, self._port, self._timeout)
        loop = asyncio.get_running_loop()
        answer = loop.run_in_executor(self._threads, _get_policy, line, self._context)
        self._lines.add(line)
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            return FetchFailed(kind=ResultType.STS_POLICY_FETCH_ERROR, why=_too_late(line))
        finally:
            line.cut()
            self._lines.discard(line)

    async def close(self) -> None:
        """Cut all fetches short and wait for their threads.

        Cancel the tasks that await a fetch before; what they would still get
        is a `FetchFailed` that is no fault of the server.
        """
        for line in self._lines:
            line.cut()
        await asyncio.to_thread(self._threads.shutdown)


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the context under which servers must show who they are.

    TLS 1.2 at least; the name must be among the certificate's subjectAltNames:
    its CN does not count (RFC 8461 section 3.3).  A connection that ends
    without a word in TLS is broken, whatever Python's default (3.11) thinks.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # unknown before OpenSSL 3
    context.set_alpn_protocols(["http/1.1"])
    return context


def _get_policy(line: Line, context: ssl.SSLContext) -> mta_sts.Response | FetchFailed:
    # `requests` costs memory and start-up time that a host without MTA-STS mail never needs.
    from postfix_mtasts.adapters import https_get  # noqa: PLC0415 -- hence late

    return https_get.get_policy(line, context)


def _too_late(line: Line) -> str:
    if line.address:
        return f"{line.where}: no complete answer within {line.seconds:g} s"
    return f"{line.host}: not tried within {line.seconds:g} s, too many fetches at once"

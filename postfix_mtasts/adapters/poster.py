"""Reports posted over HTTPS (RFC 8460 section 5.4).

Where to is a stranger's word in DNS, so as little as can be is believed and read:

* The certificate must be valid for the host; the RFC would allow to ignore that.
* Only the addresses given are dialled, and of these only public ones (see
  `public_address`): nobody is to reach this host or its network through us.
  Nothing here resolves, and no proxy is taken from the environment.
* Of the answer the status is read, bounded as `http.client` bounds lines and
  header fields.  Nothing is redirected, and no body is read.
* The whole runs in a thread under a deadline, at which the connection is cut
  (see `line`).
"""

import asyncio
import http.client
import ssl
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import SplitResult, urlsplit

from postfix_mtasts import __version__
from postfix_mtasts.adapters.line import Line, LineError, words_of
from postfix_mtasts.adapters.trust import client_context
from postfix_mtasts.core.public_address import is_public
from postfix_mtasts.core.report_mail import build_post_fields, is_accepted
from postfix_mtasts.core.report_uri import domain_of, port_of
from postfix_mtasts.core.tlsrpt_report import Document
from postfix_mtasts.ports import Refused

SECONDS = 20.0
"""So long a whole POST may take; a report is small, and who is silent keeps others waiting."""


class HttpsPoster:
    """The `postfix_mtasts.ports.Poster` of the real world.

    *ca_file*: PEM certificates of the authorities to trust, `None` for the
    system's.  *at_once*: connections at one time.  *seconds*: see `SECONDS`.
    *private_addresses*: whether addresses that are not public are dialled, too.

    Raises `OSError` (`ssl.SSLError` is one) where *ca_file* cannot be used.
    """

    def __init__(
        self,
        ca_file: str | None = None,
        at_once: int = 32,
        *,
        seconds: float = SECONDS,
        private_addresses: bool = False,
    ) -> None:
        self._context = client_context(ca_file)
        self._seconds = seconds
        self._private = private_addresses
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="post")

    async def post(
        self, uri: str, addresses: tuple[str, ...], document: Document
    ) -> Refused | None:
        """Post *document* to *uri*, https, at the first of *addresses* that answers."""
        parts = urlsplit(uri)
        host = domain_of(uri)
        allowed = tuple(it for it in addresses if self._private or is_public(it))
        if addresses and not allowed:
            return Refused(why=f"{host} [{addresses[0]}]: not a public address")
        line = Line(host, allowed, port_of(uri), self._seconds)
        loop = asyncio.get_running_loop()
        answer = loop.run_in_executor(
            self._threads, _post, line, self._context, _target(parts), parts.netloc, document
        )
        try:
            async with asyncio.timeout(self._seconds):
                return await answer
        except TimeoutError:
            return Refused(why=f"{line.where}: no complete answer within {self._seconds:g} s")
        finally:
            line.cut()

    async def close(self) -> None:
        """Wait for the threads, whose connections are all cut or done."""
        await asyncio.to_thread(self._threads.shutdown)


class _Connection(http.client.HTTPSConnection):
    """Connects by its line."""

    def __init__(self, line: Line, context: ssl.SSLContext) -> None:
        super().__init__(line.host, timeout=line.seconds, context=context)
        self._line = line
        self._tls = context

    def connect(self) -> None:
        """Connect and check the certificate; raises `LineError` and `OSError`."""
        sock = self._line.dial()
        try:
            self.sock = self._tls.wrap_socket(sock, server_hostname=self._line.host)
        except BaseException:
            sock.close()
            raise


def _post(
    line: Line, context: ssl.SSLContext, target: str, authority: str, document: Document
) -> Refused | None:
    """Post *document* to *target* on *line*, which is closed afterwards."""
    connection = _Connection(line, context)
    fields = {
        "Host": authority,
        "User-Agent": f"postfix-mtasts/{__version__}",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **dict(build_post_fields(document)),
    }
    try:
        connection.request("POST", target, document.data, fields)
        status = connection.getresponse().status
    except LineError as error:
        return Refused(why=str(error))
    except ssl.SSLCertVerificationError as error:
        return Refused(why=f"certificate of {line.where}: {error.verify_message}")
    except (OSError, http.client.HTTPException) as error:
        return Refused(why=f"{line.where}: {_words(error)}")
    finally:
        connection.close()
        line.close()
    return None if is_accepted(status) else Refused(why=f"{line.where}: HTTP status {status}")


def _words(error: OSError | http.client.HTTPException) -> str:
    match error:
        case http.client.RemoteDisconnected() | ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return "connection closed before the answer was complete"
        case ssl.SSLError(reason="UNEXPECTED_EOF_WHILE_READING"):  # of older Pythons
            return "connection closed before the answer was complete"
        case ssl.SSLError():
            return f"TLS failed: {(error.reason or 'unknown').replace('_', ' ').lower()}"
        case OSError():
            return words_of(error)
    return "the answer is not proper HTTP"


def _target(parts: SplitResult) -> str:
    """Return path and query, which is all that goes into the request line."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

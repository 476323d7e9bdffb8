"""One HTTPS GET of a policy on a given line, in the thread that calls (RFC 8461 section 3.3).

The server is a stranger's, found through DNS that may be forged: it is read as
little as can be, and none of its text gets into what the postmaster reads.

* The certificate is checked for the host's own name under our own context.
* A status other than 200 is reported without its body; nothing is redirected.
* The body is read as it comes, never decompressed whatever Content-Encoding
  says, up to one byte more than a policy may have: `mta_sts.parse_response`
  then refuses it for its length.
* A body shorter than announced is a failure, never a policy: a policy cut off
  within its max_age would expire at an attacker's wish.  Where neither
  Content-Length nor chunks tell the end, TLS must (RFC 9112 section 9.8).

`requests` is used below its `Session`, whose comforts would all have to be
refused: redirects (it reads their bodies whole even when told not to follow),
cookies, netrc, proxies from the environment.  From its adapter downwards only
HTTP is left to it and to urllib3; addresses and TLS are ours.

TLS is read through memory, by the `SSLTransport` that urllib3 has for TLS
within TLS: so all that the server sends passes the line, which counts it.

This module imports `requests`: import it late (see `fetcher`).
"""

import contextlib
import http.client
import logging
import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPSConnectionPool
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util.ssltransport import SSLTransport

from postfix_mtasts import __version__
from postfix_mtasts.adapters.line import Line, LineError, words_of
from postfix_mtasts.core import mta_sts
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import FetchFailed

PATH = "/.well-known/mta-sts.txt"

# It would log a stranger's broken headers, with traceback; `FetchFailed` says what matters.
logging.getLogger("urllib3").setLevel(logging.CRITICAL)

# OpenSSL's verification results (x509_vfy.h) in a postmaster's words.
_CERTIFICATE = {
    9: "not valid yet",
    10: "expired",
    18: "self-signed",
    19: "issued by an authority that is not trusted here",
    20: "issued by an authority that is not trusted here, or sent without its intermediate",
    21: "issued by an authority that is not trusted here, or sent without its intermediate",
    62: "not valid for this name (no such subjectAltName)",
}


def get_policy(line: Line, context: ssl.SSLContext) -> mta_sts.Response | FetchFailed:
    """Get ``https://HOST/.well-known/mta-sts.txt`` on *line*, which is closed afterwards.

    Returns when the answer is whole, broken or too long, or *line* is cut.
    """
    adapter = _Adapter(line, context)
    request = requests.Request("GET", f"https://{line.host}{PATH}", headers=_headers(line.host))
    try:
        with adapter.send(request.prepare(), stream=True, timeout=line.seconds) as response:
            return _read(response)
    except (_CertificateError, LineError) as error:
        certificate = isinstance(error, _CertificateError)
        kind = ResultType.STS_WEBPKI_INVALID if certificate else ResultType.STS_POLICY_FETCH_ERROR
        return FetchFailed(kind=kind, why=str(error), ours=line.ours)
    except (OSError, HTTPError, http.client.HTTPException) as error:
        why = f"{line.where}: {_words(error)}"
        return FetchFailed(kind=ResultType.STS_POLICY_FETCH_ERROR, why=why, ours=line.ours)
    finally:
        adapter.close()
        line.close()


class _CertificateError(Exception):
    """The server is not who it should be; the text says why."""


class _Connection(HTTPSConnection):
    """Connects by the line and the context it is given, whatever its library would do.

    `connect` replaces urllib3's as a whole: some versions resolve, some add
    the authorities of certifi or names of their own making to the context.
    """

    def __init__(self, *args: Any, line: Line, context: ssl.SSLContext, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line = line
        self._context = context

    def connect(self) -> None:
        """Connect and check the certificate.

        Raises `LineError` and `_CertificateError`, which urllib3 and requests
        do not know and so let through, and `OSError`.
        """
        sock = self._line.dial()
        try:
            self.sock = _Tls(sock, self._context, self._line.host, suppress_ragged_eofs=False)
        except ssl.SSLCertVerificationError as error:
            words = _CERTIFICATE.get(error.verify_code, error.verify_message)
            raise _CertificateError(f"certificate of {self._line.where}: {words}") from error
        finally:
            if self.sock is None:
                sock.close()
        self.is_verified = True


class _Tls(SSLTransport):
    """Tells the server, too, what it does wrong."""

    def _ssl_io_loop(self, *args: Any) -> Any:
        try:
            return super()._ssl_io_loop(*args)
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self.socket.sendall(self.outgoing.read())  # the alert, if there is one
            raise


class _Pool(HTTPSConnectionPool):
    """Makes the one connection."""

    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    """Sends by the one pool, and leaves TLS to it."""

    def __init__(self, line: Line, context: ssl.SSLContext) -> None:
        super().__init__()
        self._pool = _Pool(line.host, line=line, context=context)

    def get_connection(self, *_args: object, **_kwargs: object) -> _Pool:
        """Return the pool; asked by requests < 2.32."""
        return self._pool

    def get_connection_with_tls_context(self, *_args: object, **_kwargs: object) -> _Pool:
        """Return the pool; asked by requests >= 2.32."""
        return self._pool

    def cert_verify(self, *_args: object, **_kwargs: object) -> None:
        """Do nothing: requests would look for the authorities of certifi, and fail without."""

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()
        super().close()


def _headers(host: str) -> dict[str, str]:
    return {
        "Host": host,
        "User-Agent": f"postfix-mtasts/{__version__}",
        "Accept": "text/plain",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def _read(response: requests.Response) -> mta_sts.Response:
    """Return *response* with its body, if it has one that counts."""
    return mta_sts.Response(
        status=response.status_code,
        content_type=response.headers.get("Content-Type"),
        body=_read_body(response.raw) if response.status_code == http.HTTPStatus.OK else b"",
    )


def _read_body(raw: Any) -> bytes:
    """Return the body of *raw*, urllib3's response, up to one byte too many.

    Raises `HTTPError` or `http.client.IncompleteRead` where it is cut short.
    """
    # urllib3 < 2.6 builds a decoder for each coding named here, thousands if so
    # told, even where it is not to decode.
    raw.headers.pop("Content-Encoding", None)
    body = bytearray()
    limit = mta_sts.MAX_POLICY_BYTES + 1
    # Not stream(): urllib3 < 2.6 reads chunk sizes and trailers of any length.
    while len(body) < limit and (part := raw.read(limit - len(body), decode_content=False)):
        body += part
    if len(body) < limit and raw.length_remaining:
        raise http.client.IncompleteRead(b"", raw.length_remaining)  # urllib3 < 2 does not
    return bytes(body)


def _words(error: BaseException) -> str:
    """Return what is at the bottom of *error*, in words of ours or the system's."""
    causes = [error]
    while (cause := causes[-1].__context__) is not None:
        causes.append(cause)
    for cause in reversed(causes):
        match cause:
            case requests.RequestException():
                pass  # an OSError by birth, which wraps what was before
            case http.client.RemoteDisconnected() | http.client.IncompleteRead():
                return "connection closed before the answer was complete"
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
                return "connection closed before the answer was complete"
            case ssl.SSLError(reason="UNEXPECTED_EOF_WHILE_READING"):  # the same to Python 3.11.2
                return "connection closed before the answer was complete"
            case ssl.SSLError():
                return f"TLS failed: {(cause.reason or 'unknown').replace('_', ' ').lower()}"
            case OSError():
                return words_of(cause)
    return "the answer is not proper HTTP"

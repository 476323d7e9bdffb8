"""Report mail signed here by DKIM (RFC 6376, RFC 8460 section 3), with dkimpy.

Needed only where the mail server does not sign what leaves.  Signed are the
fields of `report_mail.SIGNED_FIELDS`, without "l=".

BUGS: dkimpy computes RSA in Python: some 10 to 50 ms for each mail.  Ed25519 is
for whoever signs a second time; few receivers know it.
"""

import importlib
import re
from pathlib import Path
from typing import Any

from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.report_mail import SIGNED_FIELDS


class DkimSigner:
    """Signs for *domain* by the RSA key in the PEM file *key_file*.

    Raises ConfigError where dkimpy is not installed, or the key cannot be read or
    used.
    """

    def __init__(self, *, domain: str, selector: str, key_file: str) -> None:
        self._dkim = _load_dkim()
        self._domain = domain.encode("ascii")
        self._selector = selector.encode("ascii")
        self._key = _read_key(key_file)
        try:
            self(b"From: a@example.com\r\n\r\n")
        except Exception as error:  # whatever dkimpy makes of what is no key
            raise ConfigError(f"tlsrpt.dkim.key_file {key_file}: no RSA key in PEM") from error

    def __call__(self, message: bytes) -> bytes:
        """Return *message*, with CR LF, under a field DKIM-Signature."""
        there = {name.lower() for name in re.findall(rb"(?m)^([!-9;-~]+):", _header(message))}
        names = [name.encode("ascii") for name in SIGNED_FIELDS]
        signature: bytes = self._dkim.sign(
            message,
            self._selector,
            self._domain,
            self._key,
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=[name for name in names if name.lower() in there],
        )
        return signature + message


def _load_dkim() -> Any:
    try:
        return importlib.import_module("dkim")
    except ImportError:
        why = "needs dkimpy: install python3-dkim, or let the mail server sign and remove the key"
        raise ConfigError(f"tlsrpt.dkim {why}") from None


def _read_key(key_file: str) -> bytes:
    try:
        return Path(key_file).read_bytes()
    except OSError as error:
        raise ConfigError(f"tlsrpt.dkim.key_file {key_file}: {error.strerror}") from None


def _header(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[0]

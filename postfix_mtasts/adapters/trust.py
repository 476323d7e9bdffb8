"""Whom a TLS client believes (RFC 8461 section 3.3).

The system's authorities are a file, which OpenSSL reads at once, and folders,
of which it looks into those files that it needs, when it needs them; where
both are missing or empty nothing is said of it, and nobody is trusted.  A file
that changes, as by update-ca-certificates(8), is read again.
"""

import contextlib
import logging
import os
import re
import ssl
from collections.abc import Iterator

_log = logging.getLogger(__name__)

_HASH_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""How OpenSSL finds an authority in a folder, "5ed36f99.0" (openssl-rehash(1))."""


class Authorities:
    """Those to trust, as they are now.

    *ca_file*: PEM certificates, `None` for the system's.  Raises `OSError`
    (`ssl.SSLError` is one) where it cannot be used; one that cannot be used
    later is warned of, and those that were known are trusted on.
    """

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file = ca_file
        self._edition = self._present_edition()
        self._context = client_context(ca_file)

    @property
    def context(self) -> ssl.SSLContext:
        """The context under which servers must show who they are."""
        edition = self._present_edition()
        if edition not in {None, self._edition}:
            self._edition = edition
            try:
                self._context = client_context(self._ca_file)
            except OSError as error:
                _log.warning("%s: %s; the authorities of before stay", self._file, error)
        return self._context

    @property
    def trusts_nobody(self) -> bool:
        """Whether there is no authority at all, so that all must fail."""
        return trusts_nobody(self.context, self._ca_file)

    @property
    def _file(self) -> str:
        paths = ssl.get_default_verify_paths()
        return self._ca_file or os.environ.get(paths.openssl_cafile_env, paths.openssl_cafile)

    def _present_edition(self) -> tuple[int, ...] | None:
        """Return what changes with the file, `None` where there is none."""
        try:
            found = os.stat(self._file)  # noqa: PTH116 - paths here are str
        except OSError:
            return None
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the context under which servers must show who they are.

    *ca_file*: PEM certificates of the authorities to trust, `None` for the
    system's.  Raises `OSError` (`ssl.SSLError` is one) where it cannot be used.

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


def trusts_nobody(context: ssl.SSLContext, ca_file: str | None) -> bool:
    """Return whether *context*, made for *ca_file*, has no authority, so that all must fail.

    Looks for files in the system's folders, which OpenSSL would read later.
    """
    if context.cert_store_stats()["x509"]:
        return False
    return ca_file is not None or not any(map(_has_authorities, _system_folders()))


def _system_folders() -> Iterator[str]:
    paths = ssl.get_default_verify_paths()
    named = os.environ.get(paths.openssl_capath_env, paths.openssl_capath)
    yield from filter(None, named.split(os.pathsep))


def _has_authorities(folder: str) -> bool:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return any(_HASH_NAME.fullmatch(entry.name) and entry.is_file() for entry in entries)
    return False

"""The TXT record that says where TLS reports go (RFC 8460 section 3).

A domain that wants reports publishes one record at ``_smtp._tls.DOMAIN``, of
which the field "rua" lists URIs, separated by commas: mailto for mail, https
for a POST.  What is not one of these two, or could not be used, is left out: one
bad URI must not lose the report for the good ones beside it.

The URIs are kept as published.  "!", "," and ";" must be percent-encoded in
them; `parse_addresses` decodes.  User names in https URIs are refused, as
RFC 9110 section 4.2.4 advises for URIs from strangers.

BUGS: The number of URIs is bounded only by the size of a TXT record.  Who is
written to need not have asked for it: whoever sends has to limit that (section
7).  Local parts that are quoted strings, recipients in the header fields of a
mailto URI ("?to=") and address literals behind the "@" are not supported.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.names import Form, parse_domain, parse_nexthop
from postfix_mtasts.core.taglist import find_field

_SECTION = "RFC 8460 section 3"
_MAX_LOCAL_PART = 64  # octets (RFC 5321 section 4.5.3.1.1)

# RFC 3986 section 2 without what RFC 8460 wants encoded: "!", "," and ";".
_URI = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@$&'()*+=-]|%[0-9A-Fa-f]{2})+")
_HTTPS = re.compile(
    # In brackets IPv6 alone (RFC 3986 section 3.2.2): `urllib` raises for anything else.
    r"https://(?P<authority>(?:\[[0-9a-f.]*:[0-9a-f.:]*\]|[^/?#:@\[\]]+)(?::[0-9]{0,5})?)"
    r"(?:[/?#].*)?",
    re.ASCII | re.IGNORECASE,
)
_MAILTO = re.compile(r"mailto:(?P<to>[^?#]*).*", re.ASCII | re.IGNORECASE)
_DOT_ATOM = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A wish for reports; only `parse_record` makes one."""

    rua: tuple[str, ...]  # mailto and https URIs that can be used, as and in the order published


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A recipient, decoded.

    *local*: as it is meant, 1 to 64 octets in UTF-8, printable, without spaces,
    "@", quotes and backslashes; may begin with a hyphen.  *domain*: A-labels,
    lower case.  `str` gives what an SMTP server may be told, the local part in
    quotes where it needs them (RFC 5321 section 4.1.2, RFC 6531 section 3.3).
    """

    local: str
    domain: str

    def __str__(self) -> str:
        plain = _DOT_ATOM.fullmatch(self.local)
        return f"{self.local}@{self.domain}" if plain else f'"{self.local}"@{self.domain}'


def parse_record(rrset: Sequence[bytes]) -> Record | None:
    """Return the TLSRPT record among the TXT records of ``_smtp._tls.DOMAIN``.

    Each element of *rrset* has its character-strings concatenated.  `None`: there
    is no TLSRPT record among them.  A record of which no URI can be used is a
    record.

    Raises ParseError where there are several records or the one is malformed; a
    sender then assumes that no reports are wanted.
    """
    rua = find_field(rrset, version=b"TLSRPTv1", name=b"rua", section=_SECTION)
    if rua is None:
        return None
    if not rua:
        raise ParseError("the record's rua is empty", _SECTION)
    uris = (item.strip(b" \t").decode("latin-1") for item in rua.split(b","))
    return Record(rua=tuple(uri for uri in uris if _usable(uri)))


def parse_addresses(uri: str) -> tuple[Address, ...]:
    """Return whom the mailto *uri* names: one address, or several between commas.

    Raises ParseError where *uri* is no mailto URI (RFC 6068), or an address in
    it is none that could be written to.
    """
    match = _MAILTO.fullmatch(uri)
    if not match or not _URI.fullmatch(uri):
        raise ParseError(f"{uri[:60]!a} is no mailto URI", _SECTION)
    try:
        to = unquote_to_bytes(match["to"]).decode("utf-8")
    except UnicodeDecodeError:
        raise ParseError(f"{uri[:60]!a} is not UTF-8", _SECTION) from None
    # A comma stands between two addresses or in the local part of the only one.
    parts = to.split(",") if to.count("@") > 1 else [to]
    return tuple(_parse_address(part) for part in parts)


def _parse_address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    sound = local.isprintable() and not set(local) & set(' @"\\')
    if not sound or not 0 < len(local.encode()) <= _MAX_LOCAL_PART:
        raise ParseError(f"{text[:60]!a} is no mail address", _SECTION)
    return Address(local=local, domain=parse_domain(domain))


def _usable(uri: str) -> bool:
    return bool(_URI.fullmatch(uri)) and (_is_mailto(uri) or _is_https(uri))


def _is_mailto(uri: str) -> bool:
    try:
        parse_addresses(uri)
    except ParseError:
        return False
    return True


def _is_https(uri: str) -> bool:
    match = _HTTPS.fullmatch(uri)
    if not match:
        return False
    try:  # host, port and brackets are spelled as in a next-hop
        authority = parse_nexthop(match["authority"].encode())
    except ParseError:
        return False
    return authority.form in {Form.DOMAIN, Form.LITERAL}

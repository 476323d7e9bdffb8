"""TLSA records: what one says and whether it may be used (RFC 6698, 7671, 7672).

A TLSA record pins a mail server's key.  It says *what* is pinned (usage 3: the
server's own certificate, usage 2: an authority above it), *which part* (selector
0: the whole certificate, 1: its public key) and *how* (matching type 0: the
bytes themselves, 1: their SHA2-256, 2: their SHA2-512).

A record that a client does not understand, or whose data is malformed, is
unusable and is left out (RFC 6698 section 4.1).  A host whose records are all
unusable still gets TLS, only unauthenticated; it never falls back to the clear
(RFC 7672 section 2.2).  Usages 0 and 1 are unusable in SMTP, as RFC 7672 section
3.1.3 allows and as Postfix has it.  The judgement is that of OpenSSL's
``SSL_dane_tlsa_add``, which Postfix asks; a record of type 0 is thus usable
where its data parses, and is never compared with what else is known.

A stranger writes these records, and each of them takes time to judge and room
to remember: of one answer only some are kept (`bounded`).  That weakens nothing.
What is left out can only have been usable, and fewer usable records turn the
answer ``dane-only`` into ``dane``, with which Postfix looks the records up and
judges all of them by itself.

BUGS: type 0 data is read by `core.der`, which knows the keys of today's mail
servers and refuses rarer ones that OpenSSL would take.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from postfix_mtasts.core.der import is_certificate, is_public_key
from postfix_mtasts.core.errors import ParseError

MAX_RECORDS = 32
"""Records of one answer that are kept (a security limit); mail servers have one to ten."""

MAX_WHOLE = 4
"""Of these, records of matching type 0: they take a hundred times as long to judge."""

MAX_DATA = 8192
"""Bytes of data, of a record that is kept (a security limit); certificates have 500 to 3000."""

_USAGES = (2, 3)  # DANE-TA, DANE-EE
_DIGEST_SIZES = {1: 32, 2: 64}  # matching type: bytes (RFC 6698 section 2.1.3)
_WELL_FORMED = {0: is_certificate, 1: is_public_key}
_HEADER_SIZE = 3
_MAX_OCTET = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A TLSA record as published; it need not be usable.

    `str` gives the presentation format of RFC 6698 section 2.2, such as
    "3 1 1 518D11BE…", hexadecimal digits in capitals.
    """

    usage: int  # 0..255
    selector: int  # 0..255
    matching_type: int  # 0..255
    data: bytes

    def __str__(self) -> str:
        fields = f"{self.usage} {self.selector} {self.matching_type} {self.data.hex().upper()}"
        return fields.rstrip()


MALFORMED = Record(usage=_MAX_OCTET, selector=_MAX_OCTET, matching_type=_MAX_OCTET, data=b"")
"""Stands for a record that cannot be read, so that its set is not taken for empty."""


class Stance(Enum):
    """What a host's secure TLSA records ask of the client (RFC 7672 section 2.2)."""

    AUTHENTICATE = "authenticate"  # some are usable: the host must match one
    ENCRYPT = "encrypt"  # there are some, none usable: TLS, unauthenticated
    MAY = "may"  # there are none: opportunistic


def parse_record(rdata: bytes) -> Record:
    """Return the record in *rdata*, the wire format of RFC 6698 section 2.1.

    Raises `ParseError` where the three octets before the data are incomplete.
    """
    if len(rdata) < _HEADER_SIZE:
        raise ParseError(f"TLSA record of {len(rdata)} bytes", "RFC 6698 section 2.1")
    usage, selector, matching_type = rdata[:_HEADER_SIZE]
    return Record(
        usage=usage, selector=selector, matching_type=matching_type, data=rdata[_HEADER_SIZE:]
    )


def parse_text(text: str) -> Record:
    """Return the record whose presentation format *text* is: what `str` gave.

    White space is allowed within the hexadecimal data (RFC 6698 section 2.2).
    Raises `ParseError` for anything else.
    """
    usage, selector, matching_type, *digits = text.split() + [""] * _HEADER_SIZE
    try:
        data = bytes.fromhex("".join(digits))
    except ValueError:
        raise ParseError("TLSA data is not hexadecimal", "RFC 6698 section 2.2") from None
    return Record(
        usage=_octet(usage),
        selector=_octet(selector),
        matching_type=_octet(matching_type),
        data=data,
    )


def bounded(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return what is kept of *records*, those of one answer, in their order.

    The first `MAX_RECORDS`, of which the first `MAX_WHOLE` of matching type 0;
    one with more than `MAX_DATA` bytes is kept as `MALFORMED`.  Of one record or
    more at least one is kept, so that the host still gets TLS.
    """
    kept: list[Record] = []
    whole = 0
    for record in records:
        if len(record.data) > MAX_DATA:
            kept.append(MALFORMED)
        elif record.matching_type != 0 or whole < MAX_WHOLE:
            kept.append(record)
            whole += record.matching_type == 0
    return tuple(kept[:MAX_RECORDS])


def is_usable(record: Record) -> bool:
    """Return whether *record* is understood and its data well-formed."""
    if record.usage not in _USAGES or record.selector not in _WELL_FORMED:
        return False
    if record.matching_type == 0:
        return _is_well_formed(record.selector, record.data)
    return len(record.data) == _DIGEST_SIZES.get(record.matching_type)


@lru_cache(maxsize=256)  # one decision asks several times; of MAX_DATA bytes: 2 MB
def _is_well_formed(selector: int, data: bytes) -> bool:
    return _WELL_FORMED[selector](data)


def usable(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the usable ones of *records*, in their order."""
    return tuple(record for record in records if is_usable(record))


def stance(records: Iterable[Record]) -> Stance:
    """Return what *records* ask for; they must be secure, else they mean nothing."""
    known = tuple(records)
    if usable(known):
        return Stance.AUTHENTICATE
    return Stance.ENCRYPT if known else Stance.MAY


def _octet(digits: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", digits) or int(digits) > _MAX_OCTET:
        raise ParseError("TLSA field is no number from 0 to 255", "RFC 6698 section 2.2")
    return int(digits)

"""Reading a DNS reply: its records, and how long "none" holds.

A message is read record by record, because `dns.message.from_wire` gives up the
whole for one malformed record, or, told to go on, loses sight of what it left
out.  Here the frame is read first, and the data of those records that matter
afterwards, each by itself.  Where the frame is broken (a name, a length),
nothing after it can be trusted and the reply is refused.

RFC 1035 section 4.1 (format), RFC 2181 section 8 (TTLs), RFC 2308 (negative
answers), RFC 6604 (the status is that of the last name of a chain).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import dns.exception
import dns.flags
import dns.name
import dns.rcode
import dns.rdataclass
import dns.wire
from dns.rdatatype import RdataType

from postfix_mtasts.adapters.dns_transport import HEADER_SIZE, Question
from postfix_mtasts.core.errors import ParseError

T = TypeVar("T")

MAX_TTL = 86400
"""Seconds that anything is believed (a limit against a slip of the pen)."""

NEGATIVE_TTL = 30
"""Seconds that a "none" without SOA is believed; RFC 2308 section 5 would not keep it."""

MAX_RECORDS = 1000
"""Records of a reply that are read (a security limit)."""

_AD = int(dns.flags.AD)
_TC = int(dns.flags.TC)
_TOP_BIT = 0x80000000
_POINTER_TO_QUESTION = struct.pack("!H", 0xC000 | HEADER_SIZE)  # RFC 1035 section 4.1.4
_SOA_TIMES = struct.Struct("!5I")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRecord:
    """The frame of one record of class IN; its data is *size* octets from *start*."""

    owner: dns.name.Name
    rdtype: int
    ttl: int  # seconds, 0..MAX_TTL
    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server said; without sections unless it is definite and whole."""

    message: bytes
    rcode: dns.rcode.Rcode
    authenticated: bool  # the AD bit
    truncated: bool
    answers: tuple[ResourceRecord, ...] = ()
    authority: tuple[ResourceRecord, ...] = ()

    @property
    def is_definite(self) -> bool:
        """Whether the server says "these" or "none", rather than that it cannot tell."""
        return is_definite(self.rcode)

    @property
    def is_referral(self) -> bool:
        """Whether the server only points at others (RFC 2308 section 2.2)."""
        if self.answers or self.rcode != dns.rcode.NOERROR:
            return False
        kinds = {record.rdtype for record in self.authority}
        return RdataType.NS in kinds and RdataType.SOA not in kinds

    def at(self, owner: dns.name.Name, rdtype: RdataType) -> tuple[ResourceRecord, ...]:
        """Return the answer's records of *rdtype* at *owner*, malformed ones included."""
        return tuple(
            record
            for record in self.answers
            if record.rdtype == rdtype and (record.owner is owner or record.owner == owner)
        )

    def read(self, record: ResourceRecord, reader: Callable[[dns.wire.Parser], T]) -> T | None:
        """Return what *reader* makes of the data of *record*, None where it is malformed.

        *reader* must consume the data whole, and may raise `DNSException`,
        `ParseError` or `ValueError`.
        """
        parser = dns.wire.Parser(self.message, record.start)
        try:
            with parser.restrict_to(record.size):
                return reader(parser)
        except (dns.exception.DNSException, ParseError, ValueError):
            return None

    def negative_ttl(self, name: dns.name.Name) -> int | None:
        """Return the seconds that *name* has none (RFC 2308 section 5).

        None without an SOA of a zone that *name* can be in.
        """
        for record in self.authority:
            if record.rdtype == RdataType.SOA and name.is_subdomain(record.owner):
                minimum = self.read(record, _read_minimum)
                return min(record.ttl, NEGATIVE_TTL if minimum is None else minimum)
        return None


def is_definite(rcode: dns.rcode.Rcode) -> bool:
    """Return whether *rcode* says that there are records, or that there are none."""
    return rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


def _read_minimum(parser: dns.wire.Parser) -> int:
    """Return the last field of an SOA record (RFC 1035 section 3.3.13)."""
    dns.name.from_wire_parser(parser)
    dns.name.from_wire_parser(parser)
    *_, minimum = _SOA_TIMES.unpack(parser.get_bytes(_SOA_TIMES.size))
    return _believed(minimum)


def read_reply(message: bytes, question: Question) -> Reply:
    """Return what *message* says to *question*, which it repeats.

    Raises `ParseError` where its frame is broken.
    """
    parser = dns.wire.Parser(message)
    try:
        _, flags, _, answers, authority, additional = parser.get_struct("!6H")
        rcode = dns.rcode.from_flags(flags, 0)
        truncated = bool(flags & _TC)
        sections: list[tuple[ResourceRecord, ...]] = [(), ()]
        if is_definite(rcode) and not truncated:
            if answers + authority + additional > MAX_RECORDS:
                raise ParseError(f"a reply of more than {MAX_RECORDS} records")
            parser.seek(HEADER_SIZE + len(question.wire))
            sections = [
                _read_section(parser, question.name, count) for count in (answers, authority)
            ]
            # An error that only EDNS can spell must not pass for "none".
            rcode = rcode if answers else _extended_rcode(parser, flags, additional)
    except dns.exception.DNSException as error:
        raise ParseError("malformed reply", "RFC 1035 section 4.1") from error
    return Reply(
        message=message,
        rcode=rcode,
        authenticated=bool(flags & _AD),
        truncated=truncated,
        answers=sections[0],
        authority=sections[1],
    )


def _read_section(
    parser: dns.wire.Parser, asked: dns.name.Name, count: int
) -> tuple[ResourceRecord, ...]:
    records = (_read_record(parser, asked) for _ in range(count))
    return tuple(record for record in records if record)


def _read_record(parser: dns.wire.Parser, asked: dns.name.Name) -> ResourceRecord | None:
    """Return the next record, None where it is of another class than IN."""
    owner = _read_owner(parser, asked)
    rdtype, rdclass, ttl, size = parser.get_struct("!HHIH")
    start = parser.current
    parser.seek(start + size)
    if rdclass != dns.rdataclass.IN:
        return None
    return ResourceRecord(owner=owner, rdtype=rdtype, ttl=_believed(ttl), start=start, size=size)


def _read_owner(parser: dns.wire.Parser, asked: dns.name.Name) -> dns.name.Name:
    """Return the next name; the commonest by far is known without reading it."""
    position = parser.current
    if parser.wire[position : position + 2] == _POINTER_TO_QUESTION:
        parser.seek(position + 2)
        return asked
    return dns.name.from_wire_parser(parser)


def _extended_rcode(parser: dns.wire.Parser, flags: int, count: int) -> dns.rcode.Rcode:
    """Return the status with the eight bits that EDNS adds (RFC 6891 section 6.1.3)."""
    for _ in range(count):
        dns.name.from_wire_parser(parser)
        rdtype, _, ednsflags, size = parser.get_struct("!HHIH")
        parser.seek(parser.current + size)
        if rdtype == RdataType.OPT:
            return dns.rcode.from_flags(flags, ednsflags)
    return dns.rcode.from_flags(flags, 0)


def _believed(ttl: int) -> int:
    """Return *ttl* within bounds; with the top bit set it is 0 (RFC 2181 section 8)."""
    return 0 if ttl & _TOP_BIT else min(ttl, MAX_TTL)

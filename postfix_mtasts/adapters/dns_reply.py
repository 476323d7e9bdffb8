"""Reading a DNS reply: its records, and how long "none" holds.

A message is read record by record, because `dns.message.from_wire` gives up the
whole for one malformed record, or, told to go on, loses sight of what it left
out.  Here the frame is read first, and the data of those records that matter
afterwards, each by itself.  Where the frame is broken (a name, a length),
nothing after it can be trusted and the reply is refused.

RFC 1035 section 4.1 (format), RFC 2181 section 8 (TTLs), RFC 2308 (negative
answers), RFC 6604 (the status is that of the last name of a chain).

A stranger writes what is read here: the records are counted, and sorted once by
name and type, so that a reply of 64 KB takes milliseconds whatever it holds.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias, TypeVar

import dns.flags
import dns.rcode
import dns.rdataclass
from dns.rdatatype import RdataType

from postfix_mtasts.adapters.dns_name import DnsName, Names, ancestors
from postfix_mtasts.adapters.dns_rdata import RecordData, read_soa_minimum
from postfix_mtasts.adapters.dns_transport import HEADER_SIZE, Question
from postfix_mtasts.core.errors import ParseError

T = TypeVar("T")

MAX_TTL = 86400
"""Seconds that anything is believed (a limit against a slip of the pen)."""

NEGATIVE_TTL = 30
"""Seconds that a "none" without SOA is believed; RFC 2308 section 5 would not keep it."""

MAX_RECORDS = 500
"""Records of a reply that are read (a security limit)."""

_AD = int(dns.flags.AD)
_TC = int(dns.flags.TC)
_TOP_BIT = 0x80000000
_SECTION = "RFC 1035 section 4.1.3"
_HEADER = struct.Struct("!6H")
_FRAME = struct.Struct("!HHIH")  # type, class, TTL, size (RFC 1035 section 4.1.3)


class ResourceRecord(NamedTuple):  # made by the hundred, in half the time of a dataclass
    """The frame of one record of class IN; its data is *size* octets from *start*."""

    owner: DnsName
    rdtype: int
    raw_ttl: int  # as it is written; in an OPT record, other things (RFC 6891 section 6.1.3)
    start: int
    size: int

    @property
    def ttl(self) -> int:
        """Seconds, 0..MAX_TTL, that the record may be believed."""
        return _believed(self.raw_ttl)


Places: TypeAlias = Mapping[tuple[DnsName, int], list[ResourceRecord]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server said; without sections unless it is definite and whole."""

    names: Names
    rcode: dns.rcode.Rcode
    authenticated: bool  # the AD bit
    truncated: bool
    answers: Places = field(default_factory=dict)  # by owner and type, in the order of the reply
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

    def at(self, owner: DnsName, rdtype: RdataType) -> Sequence[ResourceRecord]:
        """Return the answer's records of *rdtype* at *owner*, malformed ones included."""
        return self.answers.get((owner, rdtype), ())

    def read(self, record: ResourceRecord, reader: Callable[[RecordData], T]) -> T | None:
        """Return what *reader* makes of the data of *record*, None where it is malformed.

        *reader* must consume the data whole, and may raise `ParseError` or
        `ValueError`.
        """
        data = RecordData(self.names, record.start, record.start + record.size)
        try:
            value = reader(data)
        except (ParseError, ValueError):
            return None
        return None if data.left else value

    def negative_ttl(self, name: DnsName) -> int | None:
        """Return the seconds that *name* has none (RFC 2308 section 5).

        None without an SOA of a zone that *name* can be in.
        """
        zones = ancestors(name)
        for record in self.authority:
            if record.rdtype == RdataType.SOA and record.owner in zones:
                minimum = self.read(record, read_soa_minimum)
                return min(record.ttl, NEGATIVE_TTL if minimum is None else _believed(minimum))
        return None


def is_definite(rcode: dns.rcode.Rcode) -> bool:
    """Return whether *rcode* says that there are records, or that there are none."""
    return rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


def read_reply(message: bytes, question: Question) -> Reply:
    """Return what *message* says to *question*, which it repeats.

    Raises `ParseError` where its frame is broken.
    """
    if len(message) < HEADER_SIZE:
        raise ParseError("message cut short", "RFC 1035 section 4.1.1")
    _, flags, _, answers, authority, additional = _HEADER.unpack_from(message)
    frames = _Frames(Names(message, HEADER_SIZE, question.name), HEADER_SIZE + len(question.wire))
    reply = Reply(
        names=frames.names,
        rcode=dns.rcode.from_flags(flags, 0),
        authenticated=bool(flags & _AD),
        truncated=bool(flags & _TC),
    )
    if reply.truncated or not reply.is_definite:
        return reply
    if answers + authority + additional > MAX_RECORDS:
        raise ParseError(f"a reply of more than {MAX_RECORDS} records")
    found = frames.take(answers)
    authorities = frames.take(authority)
    # An error that only EDNS can spell must not pass for "none".
    rcode = reply.rcode if answers else frames.extended_rcode(flags, additional)
    return replace(reply, rcode=rcode, answers=_by_place(found), authority=authorities)


class _Frames:
    """Takes records from *position* on; raises `ParseError` where a frame is broken."""

    def __init__(self, names: Names, position: int) -> None:
        self.names = names
        self._at = position

    def take(self, count: int) -> tuple[ResourceRecord, ...]:
        """Take *count* records and return those of class IN."""
        taken = [self._next() for _ in range(count)]
        return tuple(record for rdclass, record in taken if rdclass == dns.rdataclass.IN)

    def extended_rcode(self, flags: int, count: int) -> dns.rcode.Rcode:
        """Return the status with the eight bits that EDNS adds (RFC 6891 section 6.1.3)."""
        for _ in range(count):
            _, record = self._next()
            if record.rdtype == RdataType.OPT:
                return dns.rcode.from_flags(flags, record.raw_ttl)
        return dns.rcode.from_flags(flags, 0)

    def _next(self) -> tuple[int, ResourceRecord]:
        """Take a record; return its class, and the record."""
        message = self.names.message
        owner, at = self.names.read(self._at)
        start = at + _FRAME.size
        if start > len(message):
            raise ParseError("record cut short", _SECTION)
        rdtype, rdclass, ttl, size = _FRAME.unpack_from(message, at)
        self._at = start + size
        if self._at > len(message):
            raise ParseError("record data cut short", _SECTION)
        return rdclass, ResourceRecord(owner, rdtype, ttl, start, size)


def _by_place(records: Iterable[ResourceRecord]) -> Places:
    places: dict[tuple[DnsName, int], list[ResourceRecord]] = {}
    for record in records:
        places.setdefault((record.owner, record.rdtype), []).append(record)
    return places


def _believed(ttl: int) -> int:
    """Return *ttl* within bounds; with the top bit set it is 0 (RFC 2181 section 8)."""
    return 0 if ttl & _TOP_BIT else min(ttl, MAX_TTL)

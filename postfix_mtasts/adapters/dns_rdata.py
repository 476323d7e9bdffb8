"""The data of the record types that a policy is made of, as values of the core.

Each reader takes the data of one record (`RecordData`) and consumes it whole.
Each raises where the data is malformed: `ParseError`, or `ValueError` for an
address of the wrong size.
"""

import ipaddress

from postfix_mtasts.adapters.dns_name import ROOT, DnsName, Names, dotted, host_name
from postfix_mtasts.core import tlsa
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import Mx
from postfix_mtasts.core.names import parse_domain


class RecordData:
    """Takes values from the front of the octets from *start* to *end* of a message.

    Every method raises `ParseError` where there is less than it takes.
    """

    def __init__(self, names: Names, start: int, end: int) -> None:
        self._names = names
        self._at = start
        self._end = end

    @property
    def left(self) -> int:
        """How many octets are left."""
        return self._end - self._at

    def octets(self, count: int) -> bytes:
        """Take *count* octets."""
        start = self._at
        self._move_to(start + count)
        return self._names.message[start : self._at]

    def number(self, size: int) -> int:
        """Take a number of *size* octets."""
        return int.from_bytes(self.octets(size), "big")

    def counted(self) -> bytes:
        """Take a character-string (RFC 1035 section 3.3)."""
        return self.octets(self.number(1))

    def name(self) -> DnsName:
        """Take a name."""
        name, end = self._names.read(self._at)
        self._move_to(end)
        return name

    def _move_to(self, position: int) -> None:
        if position > self._end:
            raise ParseError("record data cut short", "RFC 1035 section 4.1.3")
        self._at = position


def read_mx(data: RecordData) -> Mx:
    """Read an MX record (RFC 1035 section 3.3.9); the null MX has the host "" (RFC 7505).

    A host that is written as an IPv4 address is let through: Postfix delivers
    to it, and DNS has nothing of it that could protect the delivery.
    """
    preference = data.number(2)
    name = data.name()
    if name == ROOT:
        return Mx(preference=preference, host="")
    text = dotted(name)
    try:
        return Mx(preference=preference, host=parse_domain(text))
    except ParseError:
        return Mx(preference=preference, host=str(ipaddress.IPv4Address(text)))


def read_preference(data: RecordData) -> int:
    """Read the preference of an MX record and pass over its host."""
    preference = data.number(2)
    data.octets(data.left)
    return preference


def read_a(data: RecordData) -> str:
    """Read an IPv4 address (RFC 1035 section 3.4.1)."""
    return str(ipaddress.IPv4Address(data.octets(data.left)))


def read_aaaa(data: RecordData) -> str:
    """Read an IPv6 address (RFC 3596 section 2.2)."""
    return str(ipaddress.IPv6Address(data.octets(data.left)))


def read_target(data: RecordData) -> DnsName:
    """Read what a CNAME record is an alias of (RFC 1035 section 3.3.1)."""
    return data.name()


def read_cname(data: RecordData) -> str:
    """Read what a CNAME record is an alias of, which must be a host name."""
    return host_name(read_target(data))


def read_tlsa(data: RecordData) -> tlsa.Record:
    """Read a TLSA record (RFC 6698 section 2.1)."""
    return tlsa.parse_record(data.octets(data.left))


def read_txt(data: RecordData) -> bytes:
    """Read a TXT record, its strings concatenated (RFC 1035 section 3.3.14)."""
    strings = [data.counted()]
    while data.left:
        strings.append(data.counted())
    return b"".join(strings)


def read_soa_minimum(data: RecordData) -> int:
    """Read the last field of an SOA record (RFC 1035 section 3.3.13)."""
    data.name()
    data.name()
    data.octets(16)  # serial, refresh, retry, expire
    return data.number(4)

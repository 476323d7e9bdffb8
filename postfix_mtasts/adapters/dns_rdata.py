"""The data of the record types that a policy is made of, as values of the core.

Each reader takes a parser that is restricted to the data of one record, and
consumes it whole.  Each raises where the data is malformed: `DNSException` for
broken names and lengths, `ParseError` for what is no host name or no TLSA
record, `ValueError` for an address of the wrong size.
"""

import ipaddress

import dns.name
import dns.wire

from postfix_mtasts.core import tlsa
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import Mx
from postfix_mtasts.core.names import parse_domain


def read_mx(parser: dns.wire.Parser) -> Mx:
    """Read an MX record (RFC 1035 section 3.3.9); the null MX has the host "" (RFC 7505).

    A host that is written as an IPv4 address is let through: Postfix delivers
    to it, and DNS has nothing of it that could protect the delivery.
    """
    preference = parser.get_uint16()
    name = dns.name.from_wire_parser(parser)
    if name == dns.name.root:
        return Mx(preference=preference, host="")
    text = name.to_text(omit_final_dot=True)
    try:
        return Mx(preference=preference, host=parse_domain(text))
    except ParseError:
        return Mx(preference=preference, host=str(ipaddress.IPv4Address(text)))


def read_a(parser: dns.wire.Parser) -> str:
    """Read an IPv4 address (RFC 1035 section 3.4.1)."""
    return str(ipaddress.IPv4Address(parser.get_remaining()))


def read_aaaa(parser: dns.wire.Parser) -> str:
    """Read an IPv6 address (RFC 3596 section 2.2)."""
    return str(ipaddress.IPv6Address(parser.get_remaining()))


def read_target(parser: dns.wire.Parser) -> dns.name.Name:
    """Read what a CNAME record is an alias of (RFC 1035 section 3.3.1)."""
    return dns.name.from_wire_parser(parser)


def read_cname(parser: dns.wire.Parser) -> str:
    """Read what a CNAME record is an alias of, which must be a host name."""
    return host_name(read_target(parser))


def read_tlsa(parser: dns.wire.Parser) -> tlsa.Record:
    """Read a TLSA record (RFC 6698 section 2.1)."""
    return tlsa.parse_record(parser.get_remaining())


def read_txt(parser: dns.wire.Parser) -> bytes:
    """Read a TXT record, its strings concatenated (RFC 1035 section 3.3.14)."""
    strings = [parser.get_counted_bytes()]
    while parser.remaining():
        strings.append(parser.get_counted_bytes())
    return b"".join(strings)


def host_name(name: dns.name.Name) -> str:
    """Return *name* as A-labels, lower case; raises `ParseError` where it is no host name."""
    return parse_domain(name.to_text(omit_final_dot=True))

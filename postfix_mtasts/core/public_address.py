"""Which addresses are of the internet at large, and not of this host or its network.

Where a report is posted to is a stranger's word in DNS.  One who writes 127.0.0.1
there, or an address behind our firewall, would have us knock where he cannot.

What the standard library calls global is not enough: to it multicast is, and so are
IPv6 addresses that stand for an IPv4 address which is not.  It also differs from one
version of Python to the next, so the ranges of IPv6 are narrowed here to those from
which the registries allocate.

BUGS: a public address of our own, or of our own network, is public.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_UNICAST = IPv6Network("2000::/3")  # all that is allocated (IANA's IPv6 address space registry)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1: IPv4, for hosts that have none
_6TO4 = IPv6Network("2002::/16")  # RFC 3056: IPv4 within, out of use
_NOT_OURS_TO_DIAL = (
    IPv6Network("2001::/23"),  # of the IETF's protocols, Teredo among them (RFC 2928)
    IPv6Network("2001:db8::/32"),  # for documents (RFC 3849)
    IPv6Network("3fff::/20"),  # for documents (RFC 9637)
)


def is_public(text: str) -> bool:
    """Return whether *text* is a unicast address, IPv4 or IPv6, of the internet at large."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return _is_public_4(address) if isinstance(address, IPv4Address) else _is_public_6(address)


def _is_public_4(address: IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _is_public_6(address: IPv6Address) -> bool:
    if address in _NAT64:
        return _is_public_4(IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _UNICAST or address in _6TO4:
        return False
    return not any(address in network for network in _NOT_OURS_TO_DIAL)

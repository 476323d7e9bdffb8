"""One DNS server: where its socket is, and whether that is on this machine.

An address alone means port 53; with a port it is "192.0.2.1:5353" or
"[2001:db8::1]:5353".  A link-local address carries its interface after "%"
(RFC 4007 section 11), such as "fe80::1%eth0".
"""

import ipaddress
import socket
from dataclasses import dataclass
from typing import TypeAlias

from postfix_mtasts.core.endpoints import DNS_PORT, parse_dns_server

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One DNS server; `str` gives what `parse_server` takes."""

    host: str  # an IP address without its scope
    scope: str = ""  # of a link-local IPv6 address: an interface or its number
    port: int = DNS_PORT

    @property
    def family(self) -> socket.AddressFamily:
        """The kind of socket that reaches the server."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def is_on_this_machine(self) -> bool:
        """Whether nobody else's network lies between the server and us (loopback)."""
        return ipaddress.ip_address(self.host).is_loopback

    def socket_address(self) -> SocketAddress:
        """Return what `socket.connect` takes.

        Raises `OSError` where there is no interface of that scope (any more).
        """
        if not self.scope:
            return (self.host, self.port)
        number = int(self.scope) if self.scope.isdecimal() else socket.if_nametoindex(self.scope)
        return (self.host, self.port, 0, number)

    def __str__(self) -> str:
        host = f"{self.host}%{self.scope}" if self.scope else self.host
        if self.port == DNS_PORT:
            return host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def parse_server(text: str) -> Server:
    """Return the server that *text* names, as `endpoints.parse_dns_server` takes it.

    Raises `ParseError` for anything but an IP address with or without a port:
    a name would need the very DNS that it is to provide.
    """
    endpoint = parse_dns_server(text)
    address = ipaddress.ip_address(endpoint.address)
    if isinstance(address, ipaddress.IPv4Address):
        return Server(host=str(address), port=endpoint.port)
    host = str(ipaddress.IPv6Address(int(address)))
    return Server(host=host, scope=address.scope_id or "", port=endpoint.port)

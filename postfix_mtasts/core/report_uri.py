"""Destinations of reports: each mail address and each https URI is one (RFC 8460 section 3).

A destination is always spelled the same way, so that it is recognised whatever
record it stands in: "mailto:" with one address, its domain as A-labels in lower
case and its local part percent-encoded where it must be, or "https:" with the
rest as published, without a fragment.
"""

from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from postfix_mtasts.core.tlsrpt_record import Address, parse_addresses

HTTPS_PORT = 443

FIRST_FREE_PORT = 1024
"""Below it, 443 apart, no report is posted (a security limit).

There live the services of other protocols (SSH, SMTP, IMAP), which take TLS from
a stranger for an attack, and nobody's HTTPS but by mistake.
"""

_PLAIN = "$&'*+/=~"  # beside letters and digits: what stands for itself in a URI of a record


def destinations(rua: Iterable[str]) -> tuple[str, ...]:
    """Return the destinations that the URIs of a record name, each once, in order.

    *rua*: as `tlsrpt_record.Record` has them.
    """
    found: dict[str, None] = {}
    for uri in rua:
        if uri[:6].lower() == "https:":
            found[f"https:{uri[6:].partition('#')[0]}"] = None
        else:
            found |= dict.fromkeys(map(build_mailto, parse_addresses(uri)))
    return tuple(found)


def build_mailto(address: Address) -> str:
    """Return the destination *address*; `tlsrpt_record.parse_addresses` reads it back."""
    return f"mailto:{quote(address.local, safe=_PLAIN)}@{address.domain}"


def is_mailto(to: str) -> bool:
    """Return whether the destination *to* is a mail address."""
    return to.startswith("mailto:")


def domain_of(to: str) -> str:
    """Return the domain of the mail address, or the host of the https URI, *to*."""
    if is_mailto(to):
        return to.rpartition("@")[2]
    return (urlsplit(to).hostname or "").rstrip(".")


def port_of(to: str) -> int:
    """Return the port of the https URI *to*."""
    return urlsplit(to).port or HTTPS_PORT


def is_fit(port: int) -> bool:
    """Return whether reports may be posted to *port*."""
    return port == HTTPS_PORT or port >= FIRST_FREE_PORT


def build_logged(recipient: str) -> str:
    """Return the destination that a mail log calls *recipient*, without angle brackets.

    Postfix logs a local part that needs quotes with or without them
    (info_log_address_format), and a domain as it was given.
    """
    local, _, domain = recipient.rpartition("@")
    if local.startswith('"') and local.endswith('"'):
        local = local[1:-1]
    return build_mailto(Address(local=local, domain=domain.lower()))

"""Asking DNS all that a decision needs, in no more than three round trips.

First MX and the MTA-STS record side by side, then the addresses of every MX
host, then TLSA records, only below secure addresses: name servers below
unsigned zones are known to fail at TLSA questions (RFC 7672 section 2.2.2).

BUGS: at most `MAX_HOSTS` MX hosts are examined, in the order in which Postfix
would try them; Postfix itself tries five addresses.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address
from typing import TypeVar

from postfix_mtasts.core import mta_sts, tlsa, tlsrpt_record
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import (
    Absent,
    HostFacts,
    Lookup,
    Mx,
    Present,
    Unavailable,
    merge_addresses,
    mx_hosts,
)
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.ports import Resolver

T = TypeVar("T")

MAX_HOSTS = 16
"""MX hosts examined for one next-hop (a security limit)."""

MAX_TTL = 86400
"""Seconds; for what does not come from DNS and so does not run out."""

MTA_STS_PORT = 25
"""MTA-STS speaks of relaying between servers, which happens on this port alone."""


def has_policy_domain(nexthop: NextHop) -> bool:
    """Return whether MTA-STS applies to *nexthop* (RFC 8461 section 3.4 for ``[host]``)."""
    return nexthop.port == MTA_STS_PORT


async def gather_mx(resolver: Resolver, nexthop: NextHop) -> Lookup[Mx] | None:
    """Look the MX records of *nexthop* up, where they apply."""
    return None if nexthop.form is Form.HOST else await resolver.mx(nexthop.name)


async def gather_record(resolver: Resolver, domain: str) -> Lookup[mta_sts.Record]:
    """Look the MTA-STS record of *domain* up (RFC 8461 section 3.1)."""
    return _parsed(await resolver.txt(f"_mta-sts.{domain}"), mta_sts.parse_record)


async def gather_tlsrpt(resolver: Resolver, domain: str) -> Lookup[tlsrpt_record.Record]:
    """Look the TLSRPT record of *domain* up (RFC 8460 section 3)."""
    return _parsed(await resolver.txt(f"_smtp._tls.{domain}"), tlsrpt_record.parse_record)


def _parsed(answer: Lookup[bytes], parse: Callable[[Sequence[bytes]], T | None]) -> Lookup[T]:
    """Return the one record that *parse* finds among the TXT records of *answer*."""
    if not isinstance(answer, Present):
        return answer
    try:
        record = parse(answer.records)
    except ParseError as error:
        return Absent(secure=answer.secure, ttl=answer.ttl, why=str(error))
    if record is None:
        return Absent(secure=answer.secure, ttl=answer.ttl)
    return Present(records=(record,), secure=answer.secure, ttl=answer.ttl, owner=answer.owner)


async def gather_hosts(
    resolver: Resolver, nexthop: NextHop, mx: Lookup[Mx] | None
) -> tuple[tuple[HostFacts, ...], int]:
    """Look up addresses and TLSA records of the hosts that *mx* leads to.

    Returns the hosts by preference, and how many more there are.
    """
    hosts = mx_hosts(mx, nexthop)
    examined = hosts[:MAX_HOSTS]
    found = await _all(_gather_host(resolver, host, nexthop.port) for host in examined)
    return tuple(found), len(hosts) - len(examined)


async def _gather_host(resolver: Resolver, mx: Mx, port: int) -> HostFacts:
    if _is_address(mx.host):
        itself = Present(records=(mx.host,), secure=False, ttl=MAX_TTL, owner=mx.host)
        return HostFacts(name=mx.host, preference=mx.preference, addresses=itself, tlsa=None)
    addresses = await gather_addresses(resolver, mx.host)
    answer = await _gather_tlsa(resolver, mx.host, port, addresses)
    return HostFacts(name=mx.host, preference=mx.preference, addresses=addresses, tlsa=answer)


def _is_address(host: str) -> bool:
    """Return whether an MX record names an address, which some do and Postfix takes."""
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True


async def gather_addresses(resolver: Resolver, host: str) -> Lookup[str]:
    """Look the addresses of *host* up, of both kinds at once."""
    return merge_addresses(await _all((resolver.a(host), resolver.aaaa(host))))


async def _gather_tlsa(
    resolver: Resolver, host: str, port: int, addresses: Lookup[str]
) -> Lookup[tlsa.Record] | None:
    """Look up the TLSA records that count for *host* (RFC 7672 sections 2.2.2, 2.2.3).

    The name at which the addresses were found is asked first, then the host's
    own.  Where aliases lead into an unsigned zone only the host's own name may
    have records, and only if the alias itself is secure.
    """
    if not isinstance(addresses, Present):
        return None
    own = f"_{port}._tcp.{host}"
    if addresses.owner == host:
        return await resolver.tlsa(own) if addresses.secure else None
    if not addresses.secure:
        return await _below_secure_alias(resolver, host, own)
    expanded = f"_{port}._tcp.{addresses.owner}"
    first, second = await _all((resolver.tlsa(expanded), resolver.tlsa(own)))
    return second if _is_none(first) else first


async def _below_secure_alias(
    resolver: Resolver, host: str, own: str
) -> Lookup[tlsa.Record] | None:
    """Ask for the alias and the records side by side; drop the records if it is insecure."""
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(resolver.tlsa(own))
        alias = await resolver.cname(host)
        if isinstance(alias, Present) and alias.secure:
            return await asking
        asking.cancel()
    return alias if isinstance(alias, Unavailable) else None


def _is_none(answer: Lookup[tlsa.Record]) -> bool:
    """Return whether *answer* sends the search on: no records, or insecure ones."""
    return isinstance(answer, Absent) or (isinstance(answer, Present) and not answer.secure)


async def _all(questions: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """Ask all *questions* at once; return the answers in their order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(question) for question in questions]
    return [task.result() for task in tasks]

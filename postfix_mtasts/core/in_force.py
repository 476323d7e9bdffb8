"""What facts put in force for a domain, and what held over a whole day.

Sessions are counted by day, so that what was in force is told by day, too: the
policy and the TLSA records that the day ended with, and every MX host that mail
may have gone to meanwhile.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.facts import (
    CachedPolicy,
    DnsFacts,
    HostFacts,
    Present,
    Unavailable,
    mx_hosts,
)
from postfix_mtasts.core.names import SMTP_PORT, Form, NextHop
from postfix_mtasts.core.tlsa import Record

NOTHING = InForce()
"""Nothing is known."""

NEVER_ASKED = InForce(hosts=frozenset())
"""Postfix never asked: no mail goes by the domain's own MX records."""


_TOO_MANY: Final = 128
"""MX records; of an answer with more no more are read (`adapters.dns_bounds`)."""


def is_domain(nexthop: NextHop) -> bool:
    """Return whether mail that goes to *nexthop* goes by the MX records of its domain."""
    return nexthop.form is Form.DOMAIN and nexthop.port == SMTP_PORT


def in_force_of(nexthop: NextHop, dns: DnsFacts | None, cached: CachedPolicy | None) -> InForce:
    """Return what *dns*, said of *nexthop*, and *cached*, a policy in force, come to.

    The hosts are unknown where *nexthop* is no domain, its MX records could not be
    looked up, or not all of them were read.  TLSA records are put in order: DNS tells
    them in any, and the same ones are the same policy.
    """
    known = InForce(
        tlsa={} if dns is None else dict(filter(None, map(_secure_records, dns.hosts))),
        hosts=_hosts(nexthop, dns),
    )
    return known if cached is None else replace(known, sts=cached.policy, text=cached.text)


def is_whole(dns: DnsFacts) -> bool:
    """Return whether no look-up of *dns* failed by which TLSA records or hosts are unknown."""
    lookups = (dns.mx, *(lookup for host in dns.hosts for lookup in (host.addresses, host.tlsa)))
    return not any(isinstance(lookup, Unavailable) for lookup in lookups)


def of_day(held: Sequence[InForce]) -> InForce:
    """Return what was in force on a day on which each of *held*, at least one, was, in turn.

    That is the last of them, with the hosts of all: a day's sessions are not
    lost because the MX records changed.  They are unknown where those of one are.
    """
    hosts: set[str] = set()
    for each in held:
        if each.hosts is None:
            return replace(held[-1], hosts=None)
        hosts |= each.hosts
    return replace(held[-1], hosts=frozenset(hosts))


def _hosts(nexthop: NextHop, dns: DnsFacts | None) -> frozenset[str] | None:
    if dns is None or isinstance(dns.mx, Unavailable) or not is_domain(nexthop):
        return None
    if isinstance(dns.mx, Present) and len(dns.mx.records) >= _TOO_MANY:
        return None
    return frozenset(mx.host for mx in mx_hosts(dns.mx, nexthop))


def _secure_records(host: HostFacts) -> tuple[str, tuple[Record, ...]] | None:
    if isinstance(host.tlsa, Present) and host.tlsa.secure:
        return host.name, tuple(sorted(host.tlsa.records, key=str))
    return None

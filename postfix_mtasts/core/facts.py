"""What was learnt of one next-hop: every look-up and its outcome.

"No record", "the record is broken" and "DNS would not answer" lead to
different answers (RFC 7672 section 2.1, RFC 8461 section 5), so a look-up is
one of three values and is never folded into a bool.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from postfix_mtasts.core import mta_sts, tlsa
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.core.tls_event import ResultType

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Present(Generic[T_co]):
    """Records exist.

    *secure*: the whole chain of CNAMEs and the records were DNSSEC-validated.
    *ttl*: seconds, the lowest of the chain.  *owner*: the name at which the
    records stand, A-labels, no trailing dot; differs from the name asked where
    CNAMEs were followed.
    """

    records: tuple[T_co, ...]
    secure: bool
    ttl: int
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """DNS says that there is none, or none that is valid.

    *ttl*: seconds that this may be believed (RFC 2308 section 5).  *nxdomain*:
    the name itself does not exist.  *why*: what is wrong, where there is a
    record that breaks its grammar; empty for plain absence.
    """

    secure: bool
    ttl: int
    nxdomain: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """DNS would not say: SERVFAIL (so also bogus), time-out, refusal, a CNAME loop.

    *why* is for the mail log, such as "MX example.com: SERVFAIL from 127.0.0.1".
    *ours*: we were too busy to ask, which says nothing of the name.
    """

    why: str
    ours: bool = False


Lookup: TypeAlias = Present[T_co] | Absent | Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Mx:
    """One MX record (RFC 5321 section 5.1); *host* is "" for a null MX (RFC 7505)."""

    preference: int
    host: str  # A-labels, lower case, no trailing dot


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """One MX host: its addresses and, where they may count, its TLSA records.

    *tlsa* is `None` where it was not asked: without a secure address TLSA
    records have no meaning (RFC 7672 section 2.2.2), and some name servers
    below unsigned zones do not answer the question.
    """

    name: str  # A-labels, lower case, no trailing dot
    preference: int
    addresses: Lookup[str]
    tlsa: Lookup[tlsa.Record] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsFacts:
    """What DNS said of a next-hop at one moment.

    *gathered*: seconds since the epoch.  *mx* is `None` where MX records do not
    apply (``[host]``).  *omitted*: MX hosts left unexamined because there were
    too many.  *sts_record* is `None` where MTA-STS does not apply.
    """

    gathered: float
    mx: Lookup[Mx] | None
    hosts: tuple[HostFacts, ...]  # by preference, then by name
    omitted: int = 0
    sts_record: Lookup[mta_sts.Record] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedPolicy:
    """An MTA-STS policy that was fetched with success (RFC 8461 section 3.3).

    *fetched* and *checked* are seconds since the epoch: when the document came,
    and when it was last known to be current (the record still had its id).
    """

    record_id: str  # "" when it was fetched while no record could be seen
    policy: mta_sts.Policy
    text: bytes  # the document as it came
    fetched: float
    checked: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedFetch:
    """The last fetch that failed: remembered so as not to try at every look-up."""

    record_id: str
    at: float  # seconds since the epoch
    retry_at: float  # seconds since the epoch: not before that for this id
    kind: ResultType  # one of the three sts-*
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StsFacts:
    """What is known of a domain's policy, from now and from before."""

    cached: CachedPolicy | None = None
    failure: FailedFetch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that was learnt of one next-hop."""

    nexthop: NextHop
    dns: DnsFacts
    sts: StsFacts


def merge_addresses(answers: Sequence[Lookup[str]]) -> Lookup[str]:
    """Return A and AAAA answers as one look-up.

    One kind of address is enough to reach a host, so a failure beside an
    address is no failure; a failure beside "none" is one, because the address
    may be of the kind that failed (RFC 7672 section 2.2.2).
    """
    present = [a for a in answers if isinstance(a, Present)]
    if present:
        return Present(
            records=tuple(address for a in present for address in a.records),
            secure=all(a.secure for a in present),
            ttl=min(a.ttl for a in answers if not isinstance(a, Unavailable)),
            owner=present[0].owner,
        )
    failed = [a for a in answers if isinstance(a, Unavailable)]
    if failed:
        return failed[0]
    absent = [a for a in answers if isinstance(a, Absent)]
    return Absent(
        secure=all(a.secure for a in absent),
        ttl=min(a.ttl for a in absent),
        nxdomain=any(a.nxdomain for a in absent),
    )


def mx_hosts(mx: Lookup[Mx] | None, nexthop: NextHop) -> tuple[Mx, ...]:
    """Return the hosts that mail for *nexthop* goes to, best preference first.

    Each host once, in an order that does not depend on the order of the answer.
    Without MX records the next-hop itself is the host (RFC 5321 section 5.1),
    also where they are not asked for (``[host]``); a null MX is no host.
    """
    if isinstance(mx, Present):
        best: dict[str, int] = {}
        for record in mx.records:
            best[record.host] = min(record.preference, best.get(record.host, record.preference))
        ordered = sorted((preference, host) for host, preference in best.items() if host)
        return tuple(Mx(preference=preference, host=host) for preference, host in ordered)
    implicit = nexthop.form is Form.HOST or (isinstance(mx, Absent) and not mx.nxdomain)
    return (Mx(preference=0, host=nexthop.name),) if implicit else ()


def every_lookup(dns: DnsFacts) -> Iterator[Lookup[object]]:
    """Yield each look-up that *dns* is made of."""
    for lookup in (dns.mx, dns.sts_record):
        if lookup is not None:
            yield lookup
    for host in dns.hosts:
        yield host.addresses
        if host.tlsa is not None:
            yield host.tlsa


def overload(dns: DnsFacts) -> str:
    """Return why we could not ask all that *dns* should tell, "" where we could."""
    lookups = (lookup for lookup in every_lookup(dns) if isinstance(lookup, Unavailable))
    return next((lookup.why for lookup in lookups if lookup.ours), "")

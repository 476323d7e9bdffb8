"""What the plan needs of the world, as protocols that adapters fulfil.

Facts of the world (no such name, no answer, a refused certificate) are
returned as values; an adapter raises only for a bug.
"""

from dataclasses import dataclass
from typing import Protocol

from postfix_mtasts.core import mta_sts, tlsa
from postfix_mtasts.core.facts import DnsFacts, Lookup, Mx, StsFacts
from postfix_mtasts.core.names import NextHop
from postfix_mtasts.core.tls_event import ResultType


class Clock(Protocol):
    """The wall clock."""

    def __call__(self) -> float:
        """Return the seconds since the epoch."""
        ...


class Resolver(Protocol):
    """DNS with the DNSSEC status of each answer.

    Names are A-labels without a trailing dot.  CNAMEs are followed.  Every
    method returns within the configured time-out, `Unavailable` if need be, and
    keeps the good records of a set in which some are malformed.
    """

    async def mx(self, name: str) -> Lookup[Mx]:
        """Look the MX records of *name* up; a null MX is a record."""
        ...

    async def a(self, name: str) -> Lookup[str]:
        """Look the IPv4 addresses of *name* up."""
        ...

    async def aaaa(self, name: str) -> Lookup[str]:
        """Look the IPv6 addresses of *name* up."""
        ...

    async def cname(self, name: str) -> Lookup[str]:
        """Look the alias at *name* itself up, following nothing."""
        ...

    async def tlsa(self, name: str) -> Lookup[tlsa.Record]:
        """Look the TLSA records at *name* up, such as "_25._tcp.mx.example.com"."""
        ...

    async def txt(self, name: str) -> Lookup[bytes]:
        """Look the TXT records of *name* up, each with its strings concatenated."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFailed:
    """No document could be had; *kind* is sts-policy-fetch-error or sts-webpki-invalid.

    *ours*: it was our own overload or end, which says nothing of the host.
    """

    kind: ResultType
    why: str
    ours: bool = False


class PolicyFetcher(Protocol):
    """HTTPS for policies (RFC 8461 section 3.3)."""

    async def fetch(self, host: str, addresses: tuple[str, ...]) -> mta_sts.Response | FetchFailed:
        """Get ``https://HOST/.well-known/mta-sts.txt`` from one of *addresses*.

        The certificate must be valid for *host*; nothing is redirected; the
        whole takes no longer than the configured time-out and no more memory
        than `mta_sts.MAX_POLICY_BYTES` and a little.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the store has of one next-hop; `None` and empty where it has nothing."""

    dns: DnsFacts | None
    sts: StsFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of `cache list`."""

    domain: str
    mode: str  # of the stored policy, "" without one
    record_id: str
    expires: float | None  # the policy's, seconds since the epoch
    asked: float  # when Postfix last asked, seconds since the epoch


class Store(Protocol):
    """Memory that outlives the process."""

    async def load(self, nexthop: NextHop) -> Stored:
        """Return what is stored of *nexthop* and of its domain's policy."""
        ...

    async def save(
        self, nexthop: NextHop, stored: Stored, *, asked: float | None, refresh: float | None
    ) -> None:
        """Store *stored*; once this returns, `kill -9` cannot lose it.

        *asked*: when Postfix asked, `None` where nobody did (a refresh).
        *refresh*: when the policy is next to be fetched unasked.
        """
        ...

    async def due(self, now: float, limit: int) -> tuple[str, ...]:
        """Return up to *limit* domains whose policy's refresh time has come."""
        ...

    async def entries(self, *, after: str, limit: int) -> tuple[Entry, ...]:
        """Return up to *limit* domains that come after *after* in order of name."""
        ...

    async def purge(self, domains: tuple[str, ...]) -> int:
        """Remove all that is stored of *domains*; return how many were there."""
        ...

    async def forget(self, asked_before: float) -> int:
        """Remove what nobody has asked for since *asked_before*; return how many."""
        ...

    async def close(self) -> None:
        """Write what is pending and let go."""
        ...

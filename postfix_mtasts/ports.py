"""What the plan needs of the world, as protocols that adapters fulfil.

Facts of the world (no such name, no answer, a refused certificate) are
returned as values; an adapter raises only for a bug.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from postfix_mtasts.core import mta_sts, tlsa
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.errors import MtastsError
from postfix_mtasts.core.facts import DnsFacts, Facts, Lookup, Mx, StsFacts
from postfix_mtasts.core.log_line import LogLine
from postfix_mtasts.core.names import NextHop
from postfix_mtasts.core.schedule import Destination, Tries
from postfix_mtasts.core.tally import Row
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.tlsrpt_record import Address
from postfix_mtasts.core.tlsrpt_report import Document


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


class Findings(Protocol):
    """Where the policy daemon leaves what it knows of domains, for the reports.

    No method takes time worth the name, and none fails.
    """

    def note(self, facts: Facts) -> None:
        """Count what *facts*, by which Postfix is answered, show to be wrong.

        What they put in force is noted, too.
        """
        ...

    def renewed(self, facts: Facts) -> None:
        """Note what *facts*, by which Postfix will be answered, put in force."""
        ...

    def asked(self, nexthop: NextHop | None) -> None:
        """Note that Postfix asked for *nexthop* and is answered without facts.

        `None` stands for all that is never looked up, such as addresses.
        """
        ...


class CountStore(Protocol):
    """The counts of TLS sessions, by UTC day (see `core.utc`) and policy domain.

    Every method raises `StoreUnusableError` where the disk is full, the database
    locked for long, or the like.
    """

    def days_with_counts(self) -> tuple[int, ...]:
        """Return the days of which there are counts, oldest first."""
        ...

    def domains_of(self, day: int) -> tuple[str, ...]:
        """Return the domains to which there were sessions on *day*, in order of name."""
        ...

    def counts_of(self, day: int, domain: str) -> tuple[tuple[Row, int], ...]:
        """Return the rows of *day* and *domain* and how often each was counted.

        Rows that are damaged are left out.
        """
        ...

    def read_to(self) -> float:
        """Return the moment up to which every source that is followed has been read.

        In seconds since the epoch; infinite where none is followed, so that there is
        nothing to wait for.
        """
        ...

    def forget_before(self, day: int) -> int:
        """Remove the counts of the days before *day*; return how many rows there were."""
        ...


class StoreUnusableError(MtastsError):
    """A database that cannot be used now; the text says which and why."""


class ReportState(Enum):
    """How far a report has come."""

    DUE = "due"  # to be handed over, and not tried yet
    TRYING = "trying"  # being handed over, or was when the process died: nobody knows
    SENT = "sent"
    WAITING = "waiting"  # tried in vain, to be tried again
    GIVEN_UP = "given-up"  # tried in vain for as long as is right
    LEFT_OUT = "left-out"  # not to be sent: nobody wants it, or the operator does not


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """The report on *domain* and *day* on its way to one destination.

    *to*: "mailto:" and one address, or an https URI; "" where it is not known to
    whom: the record could not be looked up, or there is nobody.  *why*: in words,
    of a failure or of what was left out.  *sent*: when, seconds since the epoch.
    """

    day: int
    domain: str
    to: str
    report_id: str
    state: ReportState
    tries: Tries | None = None
    why: str = ""
    sent: float | None = None


class ReportStore(Protocol):
    """Which reports were handed over, and how it goes with their destinations.

    What a method has stored outlives `kill -9`.  Every method raises
    `StoreUnusableError` where nothing can be stored now.
    """

    def handovers(self, day: int, domain: str) -> tuple[Handover, ...]:
        """Return all that is known of the report on *domain* and *day*."""
        ...

    def address(self, day: int, domain: str, handovers: Iterable[Handover]) -> None:
        """Put *handovers* in the place of all that was known."""
        ...

    def settle(self, handover: Handover, known: Mapping[str, Destination]) -> None:
        """Store how far *handover* is, and what is now *known* of whom, all or nothing.

        What others tell of a destination is not stored.
        """
        ...

    def destination(self, name: str) -> Destination:
        """Return what is known of *name*: a destination, or the domain of some."""
        ...

    def failing(self) -> tuple[tuple[str, Destination], ...]:
        """Return the destinations and domains that fail, those that fail longest first."""
        ...

    def forget_before(self, day: int) -> int:
        """Remove what is known of the days before *day*; return how many rows there were.

        So are destinations that were not tried since.  The newest days are kept,
        whatever *day* says: the clock may be wrong.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A report that was not taken, for whatever reason; *why* is in words of ours."""

    why: str


class Mailer(Protocol):
    """A way for report mail to leave (RFC 8460 section 5.3)."""

    async def send(self, message: bytes, *, sender: str, recipient: Address) -> Refused | None:
        """Hand *message*, with CR LF, over; `None` once somebody else answers for it."""
        ...


class Poster(Protocol):
    """HTTPS for reports (RFC 8460 section 5.4)."""

    async def post(
        self, uri: str, addresses: tuple[str, ...], document: Document
    ) -> Refused | None:
        """Post *document* to *uri* at one of *addresses*; `None` where it was accepted.

        The certificate must be valid for the host; nothing is redirected; the
        whole takes bounded time and memory.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRead:
    """What was read of a log at one go.

    *position*: of the end of it, as the source spells it; "" for a source that
    cannot be read again.  *bad*: how many lines could not be read, by kind.
    *blind*: it could not be looked into, so there may be more than was read.
    *more*: there is more to be had at once.  *ended*: there will never be more.
    """

    position: str
    lines: Sequence[LogLine] = ()
    bad: Sequence[tuple[str, int]] = ()
    more: bool = False
    ended: bool = False
    blind: bool = False


class EventSource(Protocol):
    """A log, read from where one left off.  Nothing in it, nor its absence, raises."""

    @property
    def name(self) -> str:
        """What the place is stored under; the same at every start."""
        ...

    def resume(self, position: str, since: float = 0.0) -> None:
        """Go on behind *position*; begin where that is "".

        Where *since* is not 0, what was logged before that moment, in seconds since the
        epoch, was read elsewhere: to begin is to begin there.
        """
        ...

    def read(self) -> LogRead:
        """Return what there is, a bounded part of it, without waiting."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Datagrams that were the same: when the first came, its octets, how many there were."""

    when: float
    data: bytes
    count: int


class DatagramSource(Protocol):
    """A socket to which Postfix writes, emptied all the while."""

    @property
    def name(self) -> str:
        """What it is called where something is odd."""
        ...

    def take(self) -> Sequence[Received]:
        """Return what came since it was last asked, without waiting.

        It is bounded: the senders of what exceeds that are told to wait.
        """
        ...

    def close(self) -> None:
        """Receive no more; what was received can still be taken."""
        ...


class PoliciesInForce(Protocol):
    """What the policy daemon knows."""

    def of(self, domain: str, when: float, *, since: float = 0.0) -> InForce:
        """Return what was in force for *domain* on the UTC day of *when*.

        Nothing where that cannot be told.  *since*: what was known before that moment,
        which is not in the future, will not do.
        """
        ...

    def edition(self) -> int:
        """Return a number that changes when anything that `of` returned may have changed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a source was read, and what its reader remembers, as JSON; "" for not at all.

    *read_to*: all that was logged before that moment has been read, seconds since the epoch.
    *since*: what was logged before that moment was read from another source; 0 for nothing.
    """

    position: str = ""
    memory: str = ""
    read_to: float = 0.0
    since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnMail:
    """What became of a report of ours that went by mail, as the log tells.

    *recipient*: as logged, without angle brackets; *when*: seconds since the epoch.
    """

    recipient: str
    when: float
    delivered: bool  # or else bounced or expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a source told between two positions.

    *place*: its end, `None` for a source that cannot be read again; *before*: the
    position of its beginning.  *notes*: how often something odd came, by name.  *seen*:
    how much was read, by name, such as "lines".
    *own_mail*: what became of our reports, in the order of the log.
    """

    source: str
    before: str = ""
    place: Place | None = None
    counts: Sequence[tuple[Row, int]] = ()
    notes: Sequence[tuple[str, int]] = ()
    seen: Sequence[tuple[str, int]] = ()
    own_mail: Sequence[OwnMail] = ()


class Written(Enum):
    """What became of `TlsrptStore.add`."""

    DONE = "done"
    BEATEN = "beaten"  # another collector has read on: this is to be read anew
    LATER = "later"  # nothing was stored: try again


class TlsrptStore(Protocol):
    """Counts that outlive the process."""

    problem: str
    """Why nothing can be stored at present, "" where it can."""

    def follow(self, sources: Sequence[str]) -> None:
        """Note that *sources*, and no others, are the ones that are followed from now on.

        A source that was not, and has not been read as far as those that were, is to
        begin where they were left: its `place` has no position then, and a `Place.since`.
        """
        ...

    def place(self, source: str) -> Place | None:
        """Return how far *source* was read; `None` where that cannot be told now."""
        ...

    def add(self, counted: Counted) -> Written:
        """Add *counted* to what is stored; once it is done, `kill -9` cannot lose it."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...

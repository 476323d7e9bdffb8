"""The resolver of the plan, by way of this machine's DNS servers.

Each look-up asks one question, follows aliases (`dns_alias`) and turns what
stands at their end into values of the core.  Validation is the DNS server's; it
says so by the AD bit, believed where `server_choice` says.

What cannot be read:

* beside records that can, a record is left out;
* an MX record that names no host is left out too, as Postfix passes over it;
* a set of which nothing can be read is `Unavailable`, never `Absent`: there is
  something, and an owner's slip must not take protection away;
* a malformed TLSA record is kept as `tlsa.MALFORMED`: it still asks for TLS (RFC
  7672 section 2.2).

Of long answers a part is read (`dns_bounds`, `tlsa.bounded`).

BUGS: MX records that name an address ("mx. 10 192.0.2.1.") are kept with the
address as host, for Postfix delivers to them; DNS knows no addresses of it.
A resolver on this machine that forwards to another and passes its AD bit on
unchecked (dnsmasq's ``proxy-dnssec``) is believed like one that validates.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import dns.rcode
from dns.rdatatype import RdataType

from postfix_mtasts.adapters.dns_alias import Chain, follow, is_unfinished
from postfix_mtasts.adapters.dns_bounds import bounded
from postfix_mtasts.adapters.dns_name import DnsName, host_name, parse_dns_name
from postfix_mtasts.adapters.dns_query import Answer, NoAnswer, Outcome, Querier, in_words
from postfix_mtasts.adapters.dns_rdata import (
    RecordData,
    read_a,
    read_aaaa,
    read_cname,
    read_mx,
    read_tlsa,
    read_txt,
)
from postfix_mtasts.adapters.dns_reply import MAX_TTL, NEGATIVE_TTL, Reply
from postfix_mtasts.adapters.dns_transport import build_question
from postfix_mtasts.adapters.name_server import Server, parse_server
from postfix_mtasts.adapters.resolv_conf import ResolvConf
from postfix_mtasts.adapters.server_choice import ServerChoice, TrustAd
from postfix_mtasts.core import tlsa
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import Absent, Lookup, Mx, Present, Unavailable
from postfix_mtasts.core.meters import Meters

T = TypeVar("T")

RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSettings:
    """How to ask; from the ``dns`` part of the configuration."""

    servers: tuple[str, ...] = ()  # as `parse_server` takes them; empty: resolv.conf
    trust_ad: TrustAd = "auto"
    timeout: float = 5.0  # seconds that a look-up takes at most, retries and all
    max_concurrent: int = 512  # questions under way at once; each has a socket


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """Whether DNSSEC can be relied on here, and why, in a sentence for the log."""

    ok: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The end of a chain, and the reply that tells of it.

    *secure*: every reply on the way was validated (RFC 7672 section 2.1.3).
    """

    chain: Chain
    reply: Reply
    secure: bool


class DnsResolver:
    """The `Resolver` of `ports`.

    *monotonic* gives seconds; it paces the looks at *resolv_conf* and the rest
    of servers that failed.  *meters* count the questions (see `Querier`).  Raises
    `ParseError` for a server that is no address.
    """

    def __init__(
        self,
        settings: DnsSettings,
        *,
        resolv_conf: Path = RESOLV_CONF,
        monotonic: Callable[[], float] = time.monotonic,
        meters: Meters | None = None,
    ) -> None:
        self._settings = settings
        servers = tuple(parse_server(text) for text in settings.servers)
        source = (lambda: servers) if servers else ResolvConf(resolv_conf, monotonic).servers
        self._choice = ServerChoice(source, settings.trust_ad, monotonic)
        self._querier = Querier(self._choice, settings.max_concurrent, meters)

    async def mx(self, name: str) -> Lookup[Mx]:
        """Look the MX records of *name* up; a null MX is a record."""
        return await self._look_up(name, RdataType.MX, read_mx)

    async def a(self, name: str) -> Lookup[str]:
        """Look the IPv4 addresses of *name* up."""
        return await self._look_up(name, RdataType.A, read_a)

    async def aaaa(self, name: str) -> Lookup[str]:
        """Look the IPv6 addresses of *name* up."""
        return await self._look_up(name, RdataType.AAAA, read_aaaa)

    async def cname(self, name: str) -> Lookup[str]:
        """Look the alias at *name* itself up, following nothing."""
        return await self._look_up(name, RdataType.CNAME, read_cname)

    async def tlsa(self, name: str) -> Lookup[tlsa.Record]:
        """Look the TLSA records at *name* up, such as "_25._tcp.mx.example.com"."""
        answer = await self._look_up(name, RdataType.TLSA, _read_tlsa)
        if isinstance(answer, Present):
            return replace(answer, records=tlsa.bounded(answer.records))
        return answer

    async def txt(self, name: str) -> Lookup[bytes]:
        """Look the TXT records of *name* up, each with its strings concatenated."""
        return await self._look_up(name, RdataType.TXT, read_txt)

    async def _look_up(
        self, name: str, rdtype: RdataType, reader: Callable[[RecordData], T]
    ) -> Lookup[T]:
        try:
            start = parse_dns_name(name)
        except ParseError:
            return Absent(secure=False, ttl=MAX_TTL, nxdomain=True)
        found = await self._resolve(start, rdtype)
        result = found if isinstance(found, NoAnswer) else _conclude(name, found, rdtype, reader)
        if isinstance(result, NoAnswer):
            return Unavailable(why=f"{rdtype.name} {name}: {result.why}", ours=result.ours)
        return result

    async def _resolve(self, name: DnsName, rdtype: RdataType) -> _Found | NoAnswer:
        """Ask for *name*, then for what it is an alias of."""
        deadline = asyncio.get_running_loop().time() + self._settings.timeout
        chain = Chain(names=(name,))
        secure = True
        while True:
            answer = await self._querier.ask(build_question(chain.end, rdtype), deadline)
            if isinstance(answer, NoAnswer):
                return answer
            before = chain
            secure = secure and answer.secure
            try:
                chain = follow(chain, answer.reply, rdtype)
            except ParseError as error:
                return NoAnswer(why=str(error))
            if not is_unfinished(before, chain, answer.reply, rdtype):
                return _Found(chain=chain, reply=answer.reply, secure=secure)

    async def validates(self, name: str = ".") -> SelfTest:
        """Ask every server in use for the SOA of *name*, which must be signed.

        Well only if all that answer have validated it: of two servers of which
        one does not validate, chance would decide whether DANE is seen.
        """
        question = build_question(parse_dns_name(name), RdataType.SOA)
        servers = self._choice.in_order()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._querier.ask_one(server, question, self._settings.timeout))
                for server in servers
            ]
        outcomes = [task.result() for task in tasks]
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        return SelfTest(
            ok=bool(answers) and all(answer.secure for answer in answers),
            why="; ".join(
                self._explain(server, outcome, name)
                for server, outcome in zip(servers, outcomes, strict=True)
            ),
        )

    def _explain(self, server: Server, outcome: Outcome, name: str) -> str:
        if not isinstance(outcome, Answer):
            return in_words({server: outcome}, self._settings.timeout)
        if server not in self._choice.trusted:
            return f"{server} is not trusted to validate (dns.trust_ad: {self._settings.trust_ad})"
        if not outcome.secure:
            return f"{server} does not validate: no AD bit for {name}"
        return f"{server} validates"


def _conclude(
    name: str, found: _Found, rdtype: RdataType, reader: Callable[[RecordData], T]
) -> Present[T] | Absent | NoAnswer:
    """Return what stands at the end of the chain, or why it cannot be read."""
    chain, reply = found.chain, found.reply
    records = reply.at(chain.end, rdtype)
    if not records:
        return _conclude_absent(found)
    try:
        owner = name if len(chain.names) == 1 else host_name(chain.end)
    except ParseError as error:
        return NoAnswer(why=f"alias of what is no host name: {error}")
    try:
        to_read = bounded(reply, records)
    except ParseError as error:
        return NoAnswer(why=str(error))
    values = dict.fromkeys(reply.read(record, reader) for record in to_read)
    readable = tuple(value for value in values if value is not None)
    if not readable:
        return NoAnswer(why="there are records, but none that can be read")
    ttl = min(chain.ttl, *(record.ttl for record in records))
    return Present(records=readable, secure=found.secure, ttl=ttl, owner=owner)


def _conclude_absent(found: _Found) -> Absent:
    negative_ttl = found.reply.negative_ttl(found.chain.end)
    return Absent(
        secure=found.secure,
        ttl=min(found.chain.ttl, NEGATIVE_TTL if negative_ttl is None else negative_ttl),
        nxdomain=found.reply.rcode == dns.rcode.NXDOMAIN,
    )


def _read_tlsa(data: RecordData) -> tlsa.Record:
    try:
        return read_tlsa(data)
    except ParseError:
        return tlsa.MALFORMED

"""Following aliases: the chain of CNAMEs from the name asked to the records.

A resolver gives the whole chain in one reply; one that does not is asked again
for the last name.  The chain lives as long as its shortest link.
"""

from dataclasses import dataclass

import dns.rcode
from dns.rdatatype import RdataType

from postfix_mtasts.adapters.dns_name import DnsName, shown
from postfix_mtasts.adapters.dns_rdata import read_target
from postfix_mtasts.adapters.dns_reply import MAX_TTL, Reply, ResourceRecord
from postfix_mtasts.core.errors import ParseError

MAX_ALIASES = 8
"""Links of a chain that are followed (a limit, as resolvers have one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """How far the look-up of one name has come."""

    names: tuple[DnsName, ...]  # from the name asked to where the chain has led
    ttl: int = MAX_TTL  # seconds

    @property
    def end(self) -> DnsName:
        """The name at which the records stand, as far as is known."""
        return self.names[-1]


def follow(chain: Chain, reply: Reply, rdtype: RdataType) -> Chain:
    """Return *chain* as far as *reply* leads to records of *rdtype*.

    Raises `ParseError` where the chain comes back to itself, has more than
    `MAX_ALIASES` links or one that is malformed, and where *reply* has records
    of which none belongs to the chain.
    """
    before = chain
    while not reply.at(chain.end, rdtype):
        aliases = reply.at(chain.end, RdataType.CNAME)
        if not aliases and chain is before and reply.answers:
            raise ParseError("the answer is about other names")
        if not aliases:
            return chain
        chain = _along(chain, reply, aliases[0])
    return chain


def _along(chain: Chain, reply: Reply, alias: ResourceRecord) -> Chain:
    target = reply.read(alias, read_target)
    if target is None:
        raise ParseError("malformed CNAME", "RFC 1035 section 3.3.1")
    if target in chain.names:
        raise ParseError(f"CNAME loop at {shown(target)}")
    if len(chain.names) > MAX_ALIASES:
        raise ParseError(f"more than {MAX_ALIASES} CNAMEs")
    return Chain(names=(*chain.names, target), ttl=min(chain.ttl, alias.ttl))


def is_unfinished(before: Chain, after: Chain, reply: Reply, rdtype: RdataType) -> bool:
    """Return whether *reply*, which led from *before* to *after*, stops short of an answer.

    It does where it leads to a name and then says neither records nor "none".
    """
    return (
        after is not before
        and reply.rcode == dns.rcode.NOERROR
        and not reply.at(after.end, rdtype)
        and reply.negative_ttl(after.end) is None
    )

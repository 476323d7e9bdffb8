"""What the policy daemon itself finds wrong with a domain (RFC 8460 section 4.3.2).

Whoever only sees sessions never learns that a policy could not be fetched, and
hardly that TLSA records cannot be used.  The daemon does, at each decision:

* The policy that the domain's record calls for could not be had, or is not valid
  (section 4.3.2.2), whether or not an older one is in force meanwhile.
* TLSA records below a secure address cannot be looked up, or none of them can be
  used (section 4.3.2.1).

What we were too busy to ask is no fault of the domain.  The words are for its
owner, who is a stranger: they do not tell which name servers we ask.

BUGS: that DNSSEC is broken cannot be told from name servers that do not answer;
where they fail for the address, too, nothing is said.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from postfix_mtasts.core import tlsa
from postfix_mtasts.core.decision import policy_in_force
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import DnsFacts, Facts, FailedFetch, HostFacts, Present, Unavailable
from postfix_mtasts.core.in_force import in_force_of
from postfix_mtasts.core.tally import Row, row_of_daemon
from postfix_mtasts.core.tls_event import ResultType

UNRESOLVED = "the address of the policy host cannot be looked up"
NO_TLSA_ANSWER = "the TLSA records cannot be looked up"
NO_TLSA_USABLE = "all TLSA records are unusable"

# How a failed look-up of the policy host begins: such words name our own servers.
_OF_DNS = ("A ", "AAAA ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing that is wrong.  *host*: the MX host whose it is, "" for the policy's."""

    kind: ResultType
    why: str
    host: str = ""


def flaws(facts: Facts) -> tuple[Flaw, ...]:
    """Return what *facts* show to be wrong: of the policy first, then host by host."""
    return (*_of_policy(facts), *_of_hosts(facts.dns))


def rows_of_facts(facts: Facts, now: float) -> tuple[Row, ...]:
    """Return the rows that the `flaws` of *facts* count in; *now*: seconds since the epoch.

    What concerns a name that is no host name is left out.
    """
    return tuple(_rows(facts, now))


def _rows(facts: Facts, now: float) -> Iterator[Row]:
    found = flaws(facts)
    if not found:
        return
    in_force = in_force_of(facts.nexthop, facts.dns, policy_in_force(facts, now))
    for flaw in found:
        with suppress(ParseError):
            yield row_of_daemon(
                facts.nexthop.name, flaw.kind, flaw.why, in_force, when=now, host=flaw.host
            )


def _of_policy(facts: Facts) -> Iterator[Flaw]:
    record, failure = facts.dns.sts_record, facts.sts.failure
    if failure is None or not isinstance(record, Present):
        return
    if failure.record_id == record.records[0].id:
        yield Flaw(kind=failure.kind, why=_words(failure))


def _words(failure: FailedFetch) -> str:
    return UNRESOLVED if failure.why.startswith(_OF_DNS) else failure.why


def _of_hosts(dns: DnsFacts) -> Iterator[Flaw]:
    for host in dns.hosts:
        match host.tlsa:
            case Unavailable(ours=False) if _is_secure(host):
                kind, why = ResultType.DNSSEC_INVALID, NO_TLSA_ANSWER
                yield Flaw(kind=kind, why=why, host=host.name)
            case Present(secure=True, records=records) if _is_unusable(records):
                kind, why = ResultType.TLSA_INVALID, NO_TLSA_USABLE
                yield Flaw(kind=kind, why=why, host=host.name)


def _is_secure(host: HostFacts) -> bool:
    return isinstance(host.addresses, Present) and host.addresses.secure


def _is_unusable(records: tuple[tlsa.Record, ...]) -> bool:
    return tlsa.stance(records) is tlsa.Stance.ENCRYPT

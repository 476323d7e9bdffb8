"""What `doctor` asks of DNS: names that must not resolve, addresses that must take mail.

LIMITS: one question follows another, each under the resolver's time-out.
"""

from postfix_mtasts.core.facts import Absent, Present, Unavailable
from postfix_mtasts.core.host_diagnosis import Bogus
from postfix_mtasts.core.report_diagnosis import Mailbox
from postfix_mtasts.ports import Resolver

BOGUS_NAME = "dnssec-failed.org"
"""Its signatures are wrong on purpose; kept by Comcast for tests since 2012."""


async def try_bogus(resolver: Resolver) -> Bogus:
    """Return whether *resolver* gives an answer that it must not give."""
    match await resolver.a(BOGUS_NAME):
        case Present():
            return Bogus.ANSWERED
        case Unavailable(ours=False):
            return Bogus.REFUSED
    return Bogus.UNKNOWN


async def try_mailbox(resolver: Resolver, key: str, address: str) -> Mailbox:
    """Return whether mail to *address*, the configuration's *key*, has anywhere to go.

    As RFC 5321 section 5.1 has it: to MX hosts, or else to the domain's own address;
    a null MX (RFC 7505) takes none.
    """
    domain = address.rpartition("@")[2]
    refused = untold = ""
    match await resolver.mx(domain):
        case Present(records=records):
            if all(not mx.host for mx in records):
                refused = f"{domain} says that it takes no mail (null MX)"
        case Absent():
            refused, untold = await _no_host(resolver, domain)
        case Unavailable(why=why):
            untold = why
    return Mailbox(key=key, address=address, refused=refused, untold=untold)


async def _no_host(resolver: Resolver, domain: str) -> tuple[str, str]:
    """Return why *domain* is no host itself, and why that is not known."""
    untold = ""
    for ask in (resolver.a, resolver.aaaa):
        match await ask(domain):
            case Present():
                return "", ""
            case Unavailable(why=why):
                untold = why
    return ("", untold) if untold else (f"{domain} has neither MX nor address", "")

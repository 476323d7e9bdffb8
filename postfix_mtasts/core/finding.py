"""What one TLS session came to under one policy (RFC 8460 section 4).

A session is one attempt to send mail over TLS to one MX host.  For each policy
that applied to it there is a `Finding`: the policy, whether the session met it,
and what went wrong on the way.  Datagrams, the log and the policy daemon all
come down to findings; equal ones are counted, and reports are made of the
counts.

Nearly every text in one was written by somebody else's server and may be meant
to do harm.  The functions here are the only makers: names become A-labels,
addresses are spelled as RFC 5952 wants, and the rest is one line of printable
characters, bounded.  What is not what it should be is left out, for a report
must not hold empty or false members (section 4.4).
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.tls_event import ResultType

MAX_STRINGS = 256
"""No more lines of a policy, and no more MX patterns, are kept (a security limit)."""

MAX_STRING = 4096
"""No more characters of such a line are kept: a TLSA record with a whole certificate fits."""

MAX_TEXT = 255
"""No more characters of a greeting, a reason or a URI are kept."""

MAX_FAILURES = 16
"""No more failures of one session are kept; Postfix tells of one at most."""

# RFC 3986 section 2, of any scheme.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
# Most addresses; `ipaddress` takes ten times as long, which datagrams have not.
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")
# The first line of a reply to EHLO: "250-mx.example.com Hello" (RFC 5321 section 4.1.1.1).
_EHLO_REPLY = re.compile(r"[0-9]{3}[- ] *(\S*)")


class PolicyType(Enum):
    """The policy types of RFC 8460 section 4.4."""

    TLSA = "tlsa"
    STS = "sts"
    NO_POLICY_FOUND = "no-policy-found"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedPolicy:
    """A policy as it was applied; only `build_policy` makes one.

    *domain*: A-labels; for TLSA the host whose records they are.  *strings*: the
    policy as published, errors included; empty where it is not known.
    *mx_hosts*: the patterns of an MTA-STS policy, A-labels.
    """

    type: PolicyType
    domain: str
    strings: tuple[str, ...] = ()
    mx_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong; only `build_failure` makes one.  What is unknown is ""."""

    result_type: ResultType
    sending_ip: str = ""
    mx_host: str = ""
    helo: str = ""
    receiving_ip: str = ""
    information: str = ""
    reason: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """All fields as text, in the order of their definition."""
        return (
            *(self.result_type.value, self.sending_ip, self.mx_host, self.helo),
            *(self.receiving_ip, self.information, self.reason),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One session under one policy; only `build_finding` makes one.

    *domain*: the next-hop's, to which the report goes, A-labels.  *failed*: the
    session did not meet the policy in the end, whether or not mail flowed;
    `None` where another finding already counts the session and only *failures*
    are news.  Each of *failures* stands once, in the order of their columns.  A
    session that failed need not say how, and one that recovered may have failures.
    """

    domain: str
    policy: AppliedPolicy
    failed: bool | None
    failures: tuple[Failure, ...] = ()


def build_policy(
    kind: PolicyType, domain: str, strings: Iterable[str] = (), mx_hosts: Iterable[str] = ()
) -> AppliedPolicy:
    """Return the policy of *kind* that was applied for *domain*.

    Only MTA-STS has *mx_hosts*, and what is not found has no *strings*.  The
    hexadecimal digits of TLSA records are joined (section 4.4).

    Raises ParseError where *domain* is no host name.
    """
    name = parse_domain(domain)
    if kind is PolicyType.NO_POLICY_FOUND:
        return AppliedPolicy(type=kind, domain=name)
    lines = tuple(filter(None, (clean(line, MAX_STRING) for line in _first(strings))))
    if kind is PolicyType.TLSA:
        return AppliedPolicy(type=kind, domain=name, strings=tuple(map(_joined, lines)))
    patterns = tuple(filter(None, map(_pattern, _first(mx_hosts))))
    return AppliedPolicy(type=kind, domain=name, strings=lines, mx_hosts=patterns)


def build_failure(
    result_type: ResultType,
    *,
    sending_ip: str = "",
    mx_host: str = "",
    helo: str = "",
    receiving_ip: str = "",
    information: str = "",
    reason: str = "",
) -> Failure:
    """Return a failure of which each text is what it should be, or empty.

    *helo*: the MX host's name for itself or its whole reply to EHLO.
    *information*: a URI.
    """
    return Failure(
        result_type=result_type,
        sending_ip=_address(sending_ip),
        mx_host=_host(mx_host),
        helo=_greeting(helo),
        receiving_ip=_address(receiving_ip),
        information=information if _is_uri(information) else "",
        reason=clean(reason, MAX_TEXT),
    )


def build_finding(
    domain: str, policy: AppliedPolicy, failures: Iterable[Failure] = (), *, failed: bool | None
) -> Finding:
    """Return what a session to *domain* came to under *policy*.

    Raises ParseError where *domain* is no host name.
    """
    kept = tuple(dict.fromkeys(failures))[:MAX_FAILURES]
    if len(kept) > 1:
        kept = tuple(sorted(kept, key=lambda failure: failure.columns))
    return Finding(domain=parse_domain(domain), policy=policy, failed=failed, failures=kept)


def clean(text: str, limit: int) -> str:
    """Return *text* as at most *limit* printable characters without spaces at its ends.

    What cannot be printed, lone surrogates and replaced octets become "?"; so
    nothing is left that JSON for the Internet forbids (RFC 7493 section 2.1).
    """
    text = text[:limit].strip()
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() and c != "\N{REPLACEMENT CHARACTER}" else "?" for c in text)


def _first(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(islice(texts, MAX_STRINGS))


def _joined(record: str) -> str:
    """Return a TLSA record without white space in its digits, which are capitals."""
    fields = record.split()
    return " ".join([*fields[:3], "".join(fields[3:]).upper()]).rstrip()


def _pattern(pattern: str) -> str:
    star = "*." if pattern.startswith("*.") else ""
    name = _host(pattern.removeprefix(star))
    return star + name if name else ""


def _host(name: str) -> str:
    try:
        return parse_domain(name) if name else ""
    except ParseError:
        return ""


def _address(text: str) -> str:
    """Return an IP address as RFC 5952 spells it, "" for what is none.

    A zone means nothing to others; an IPv4-mapped address is one of IPv4.
    """
    if _IPV4.fullmatch(text):
        return text
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _greeting(helo: str) -> str:
    """Return what the host calls itself: of a reply the first word, else the line."""
    line = helo.partition("\n")[0]
    reply = _EHLO_REPLY.match(line)
    return clean(reply[1] if reply else line, MAX_TEXT)


def _is_uri(text: str) -> bool:
    return len(text) <= MAX_TEXT and _URI.fullmatch(text) is not None

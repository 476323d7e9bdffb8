"""The report on a domain and a day, as JSON (RFC 8460 sections 4 and 5.1).

A report tells a domain how TLS to it went in one UTC day: for each policy that
was applied, how many sessions met it and how many did not, and what went wrong
how often.  One session may count under several policies, and its failures are
counted apart from its result, so the sums need not agree (section 4.5).

The same counts always give the same octets, whatever their order, and a domain
and a day always give the same Report-ID, by which a receiver can tell that a
report came twice.

Members that are not known are left out: receivers stumble over empty strings
and null.  "policy-string", "mx-host" and "failure-details" are arrays (erratum
6241), the latter also when it is empty.

BUGS: Of more than `MAX_POLICIES` policies and `MAX_DETAILS` failures under one
of them the most frequent are listed.  A TLSA RRset in several orders is shown
in the order that sorts first.
"""

import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import AppliedPolicy, Failure, Finding, PolicyType
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.tlsrpt_record import parse_addresses
from postfix_mtasts.core.utc import DAY, build_date, build_rfc3339, day_start

MAX_POLICIES = 100
MAX_DETAILS = 1000

_MAX_ORGANIZATION = 200  # characters
_COMPRESSION = 9
_GZIP = 31  # zlib's word for the gzip format, whose header then holds no time and no name
_FIELDS = (
    *("result-type", "sending-mta-ip", "receiving-mx-hostname", "receiving-mx-helo"),
    *("receiving-ip", "additional-information", "failure-reason-code"),
)  # in the order of Failure.columns
_LETTERS = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Who reports; only `parse_reporter` makes one.

    *contact* and *sender*: mail addresses, ASCII, without "mailto:".  *domain*:
    the contact's, called the submitter; A-labels.
    """

    organization: str
    contact: str
    sender: str
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What a report is about and by whom; only `build_heading` makes one.

    *domain*: A-labels.  *day*: as `utc` counts them.  *report_id*: id-left@id-right
    of RFC 5322 section 3.6.4.
    """

    reporter: Reporter
    domain: str
    day: int
    report_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A report as it travels.

    *name*: of the file, ASCII without quotes, spaces and slashes.  *media_type*:
    application/tlsrpt+gzip or application/tlsrpt+json.
    """

    name: str
    media_type: str
    data: bytes


@dataclass(slots=True, kw_only=True)
class _Counts:
    """What is counted of one policy."""

    policy: AppliedPolicy
    successful: int = 0
    failed: int = 0
    details: dict[Failure, int] = field(default_factory=dict)

    def add(self, finding: Finding, count: int) -> None:
        self.policy = min(self.policy, finding.policy, key=lambda policy: policy.strings)
        self.successful += count if finding.failed is False else 0
        self.failed += count if finding.failed else 0
        for failure in finding.failures:
            self.details[failure] = self.details.get(failure, 0) + count

    @property
    def order(self) -> tuple[int, str, str, tuple[str, ...], tuple[str, ...]]:
        policy = self.policy
        sessions = self.successful + self.failed
        return -sessions, policy.type.value, policy.domain, policy.strings, policy.mx_hosts


def parse_reporter(*, organization: str, contact: str, sender: str) -> Reporter:
    """Return who reports, as the operator names it.

    Raises ParseError where *organization* is empty, longer than 200 characters or
    not printable, or where *contact* or *sender* is not one mail address in ASCII;
    says which.
    """
    sound = organization.isprintable() and organization.strip() == organization
    if not sound or not 0 < len(organization) <= _MAX_ORGANIZATION:
        what = f"1 to {_MAX_ORGANIZATION} printable characters"
        raise ParseError(f"organization {organization[:60]!a} is not {what}")
    address, domain = _parse_mailbox("contact", contact)
    return Reporter(
        organization=organization,
        contact=address,
        sender=_parse_mailbox("sender", sender)[0],
        domain=domain,
    )


def _parse_mailbox(key: str, text: str) -> tuple[str, str]:
    """Return the address that *text* is, with or without "mailto:", and its domain."""
    try:
        addresses = parse_addresses("mailto:" + quote(text.removeprefix("mailto:"), safe="@"))
    except (ParseError, UnicodeEncodeError):
        addresses = ()
    if len(addresses) != 1 or not _LETTERS.fullmatch(str(addresses[0])):
        raise ParseError(f"{key} {text[:60]!a} is not one mail address in ASCII")
    return str(addresses[0]), addresses[0].domain


def build_heading(reporter: Reporter, domain: str, day: int) -> Heading:
    """Return the heading of the one report on *domain* and *day*.

    Raises ParseError where *domain* is no host name.
    """
    name = parse_domain(domain)
    report_id = f"{build_date(day)}.{name}@{reporter.domain}"
    return Heading(reporter=reporter, domain=name, day=day, report_id=report_id)


def build_report(heading: Heading, counts: Iterable[tuple[Finding, int]]) -> bytes | None:
    """Return the report under *heading* as JSON in UTF-8, `None` where there were no sessions.

    *counts*: how many sessions of *heading*'s domain and day came to each finding;
    the same finding may stand there several times.
    """
    policies = sorted(_summed(counts), key=lambda counts: counts.order)[:MAX_POLICIES]
    if not policies:
        return None
    begin = day_start(heading.day)
    report = {
        "organization-name": heading.reporter.organization,
        "date-range": {
            "start-datetime": build_rfc3339(begin),
            "end-datetime": build_rfc3339(begin + DAY - 1),
        },
        "contact-info": heading.reporter.contact,
        "report-id": heading.report_id,
        "policies": [_policy(counts) for counts in policies],
    }
    return json.dumps(report, ensure_ascii=False, separators=(",", ":")).encode()


def has_failures(counts: Iterable[tuple[Finding, int]]) -> bool:
    """Return whether any session failed, or had failures from which it recovered."""
    return any(count and (finding.failed or finding.failures) for finding, count in counts)


def build_document(heading: Heading, report: bytes, *, compress: bool = True) -> Document:
    """Return *report* as it is to be handed over, with its name (section 5.1).

    The name is ``submitter!domain!begin!end!unique.json.gz``: both times in
    seconds since the epoch, the last letters and digits made from the Report-ID.
    """
    begin = day_start(heading.day)
    unique = sha256(heading.report_id.encode()).hexdigest()[:16]
    parts = (heading.reporter.domain, heading.domain, str(begin), str(begin + DAY - 1), unique)
    name = "!".join(parts) + ".json"
    if not compress:
        return Document(name=name, media_type="application/tlsrpt+json", data=report)
    return Document(
        name=name + ".gz",
        media_type="application/tlsrpt+gzip",
        data=zlib.compress(report, _COMPRESSION, _GZIP),
    )


def _summed(counts: Iterable[tuple[Finding, int]]) -> list[_Counts]:
    found: dict[AppliedPolicy, _Counts] = {}
    for finding, count in counts:
        if count > 0:
            identity = _identity(finding.policy)
            if identity not in found:
                found[identity] = _Counts(policy=finding.policy)
            found[identity].add(finding, count)
    return list(found.values())


def _identity(policy: AppliedPolicy) -> AppliedPolicy:
    """Return what all spellings of one policy share: DNS gives records in any order."""
    if policy.type is PolicyType.TLSA and len(policy.strings) > 1:
        return replace(policy, strings=tuple(sorted(policy.strings)))
    return policy


def _policy(counts: _Counts) -> dict[str, Any]:
    policy = counts.policy
    described: dict[str, Any] = {"policy-type": policy.type.value}
    if policy.strings:
        described["policy-string"] = policy.strings
    described["policy-domain"] = policy.domain
    if policy.mx_hosts:
        described["mx-host"] = policy.mx_hosts
    details = sorted(counts.details.items(), key=lambda item: (-item[1], item[0].columns))
    return {
        "policy": described,
        "summary": {
            "total-successful-session-count": counts.successful,
            "total-failure-session-count": counts.failed,
        },
        "failure-details": [_detail(failure, count) for failure, count in details[:MAX_DETAILS]],
    }


def _detail(failure: Failure, count: int) -> dict[str, Any]:
    known = zip(_FIELDS, failure.columns, strict=True)
    return {key: value for key, value in known if value} | {"failed-session-count": count}

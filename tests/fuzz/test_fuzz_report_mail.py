"""Whatever strangers and operators write, a report stays a report and a mail a mail."""

import gzip
import json
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import (
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.report_mail import build_report_mail
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.tlsrpt_record import Address, parse_addresses
from postfix_mtasts.core.tlsrpt_report import (
    Heading,
    build_document,
    build_heading,
    build_report,
    parse_reporter,
)

FUZZ = settings(derandomize=True, deadline=None, max_examples=300)

FIELDS = [
    *("From", "To", "Date", "Message-ID", "Subject", "TLS-Report-Domain", "TLS-Report-Submitter"),
    *("TLS-Required", "Auto-Submitted", "MIME-Version", "Content-Type"),
]
HOSTILE = st.sampled_from(
    [
        *("example.com", "München.example", "a@example.com", "250-mx.example Hello\r\n250 HELP"),
        *("x\r\nBcc: victim@example.net", "x\n\n--boundary", "\r", "\x00", "\ud800", "\u2028"),
        *('"; filename="evil', "../../etc/passwd", "a!b!c", "=?utf-8?q?x?=", "<a@b.example>", ","),
        *("%0d%0aBcc:x", "{0}", "{contact.__class__}", "mx.example\t", "192.0.2.1", "https://a/"),
    ]
)
TEXTS = st.lists(HOSTILE | st.text(max_size=8), max_size=3).map("".join)
DOMAINS = st.sampled_from(["example.com", "xn--mnchen-3ya.example", "a_b.example"]) | TEXTS
MAILBOXES = st.sampled_from(["a@sender.example", "a,b@sender.example", "x/y=z@b.example"]) | TEXTS
URIS = st.sampled_from(
    ["mailto:a@example.com", "mailto:%C3%A9%2C@example.com", "mailto:a@b.example%2Cc@d.example"]
) | TEXTS.map("mailto:".__add__)


@st.composite
def findings(draw: st.DrawFn) -> Finding:
    try:
        kind = draw(st.sampled_from(PolicyType))
        lines, patterns = draw(st.lists(TEXTS, max_size=3)), draw(st.lists(TEXTS, max_size=3))
        applied = build_policy(kind, draw(DOMAINS), lines, patterns)
    except ParseError:
        applied = build_policy(PolicyType.NO_POLICY_FOUND, "example.com")
    names = ("sending_ip", "mx_host", "helo", "receiving_ip", "information", "reason")
    failure = build_failure(
        draw(st.sampled_from(ResultType)), **{name: draw(TEXTS) for name in names}
    )
    return build_finding("example.com", applied, [failure], failed=draw(st.none() | st.booleans()))


@st.composite
def headings(draw: st.DrawFn) -> Heading:
    """Draw a heading of hostile parts; what a parser refuses is replaced by something good."""
    try:
        reporter = parse_reporter(
            organization=draw(TEXTS), contact=draw(MAILBOXES), sender=draw(MAILBOXES)
        )
    except ParseError:
        reporter = parse_reporter(
            organization='=?x?= "{0}"', contact="a@sender.example", sender="a@sender.example"
        )
    try:
        return build_heading(reporter, draw(DOMAINS), draw(st.integers(0, 40000)))
    except ParseError:
        return build_heading(reporter, "example.com", 20000)


@st.composite
def recipients(draw: st.DrawFn) -> Address:
    try:
        return draw(st.sampled_from(parse_addresses(draw(URIS))))
    except ParseError:
        return Address(local="a", domain="example.com")


def names(head: bytes) -> list[str]:
    """Return the names of the header fields in *head*, folds taken out."""
    lines = head.replace(b"\r\n ", b" ").split(b"\r\n")
    return [line.partition(b":")[0].decode() for line in lines]


@FUZZ
@given(headings(), recipients(), st.lists(st.tuples(findings(), st.integers(1, 9)), min_size=1))
def test_nothing_that_is_reported_changes_the_shape_of_the_mail(
    heading: Heading, to: Address, counts: list[tuple[Finding, int]]
) -> None:
    report = build_report(heading, counts)
    assert report is not None
    document = build_document(heading, report)
    mail = build_report_mail(heading, document, to, now=1785549600.0)
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", mail)
    assert max(map(len, mail.split(b"\r\n"))) <= 998
    head = mail.partition(b"\r\n\r\n")[0]
    assert names(head) == FIELDS
    message = message_from_bytes(mail, policy=policy.default)
    assert isinstance(message, EmailMessage)
    words, attached = message.iter_parts()
    assert not list(chain(message.defects, words.defects, attached.defects))
    assert attached.get_filename() == document.name
    content = attached.get_payload(decode=True)
    assert isinstance(content, bytes)
    assert gzip.decompress(content) == report


@FUZZ
@given(headings(), st.lists(st.tuples(findings(), st.integers(1, 9)), max_size=3))
def test_a_report_is_json_of_known_members_whatever_was_seen(
    heading: Heading, counts: list[tuple[Finding, int]]
) -> None:
    report = build_report(heading, counts)
    if report is None:
        assert not counts
        return
    value = json.loads(report, object_pairs_hook=unique)
    assert set(value) == {
        *("organization-name", "date-range", "contact-info", "report-id", "policies"),
    }
    for entry in value["policies"]:
        assert set(entry) == {"policy", "summary", "failure-details"}
        for detail in entry["failure-details"]:
            assert all(detail.values())
            assert isinstance(detail["failed-session-count"], int)
        for text in strings(entry):
            assert text.isprintable()


@FUZZ
@given(headings())
def test_a_file_name_is_of_five_harmless_parts(heading: Heading) -> None:
    name = build_document(heading, b"{}").name
    assert re.fullmatch(r"[a-z0-9._-]+![a-z0-9._-]+!\d+!\d+![0-9a-f]+\.json\.gz", name)
    assert not name.startswith(".")
    assert ".." not in name


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return *pairs* as an object of which no name stands twice (RFC 7493 section 2.3)."""
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []

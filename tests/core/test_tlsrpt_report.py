"""Reports: the vectors, the shape that receivers parse, and the name of the file."""

import gzip
import json
from typing import Any

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import (
    Failure,
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.tlsrpt_datagram import DatagramError, parse_datagram
from postfix_mtasts.core.tlsrpt_report import (
    MAX_DETAILS,
    MAX_POLICIES,
    Heading,
    build_document,
    build_heading,
    build_report,
    has_failures,
    parse_reporter,
)
from postfix_mtasts.core.utc import parse_date
from tests.core.vectors import Case, parameters

REPORTER = parse_reporter(
    organization="Sender Inc",
    contact="tls-reports@sender.example",
    sender="noreply@mx.sender.example",
)
HEADING = build_heading(REPORTER, "example.com", parse_date("2026-08-01"))
NO_POLICY = build_policy(PolicyType.NO_POLICY_FOUND, "example.com")
SUCCESS = build_finding("example.com", NO_POLICY, failed=False)
EXPIRED = build_failure(ResultType.CERTIFICATE_EXPIRED)
OPTIONAL = ("policy-string", "mx-host", "failure-details")


def vector_failure(raw: dict[str, str]) -> Failure:
    return build_failure(
        ResultType(raw["result-type"]),
        sending_ip=raw.get("sending-mta-ip") or "",
        mx_host=raw.get("receiving-mx-hostname") or "",
        helo=raw.get("receiving-mx-helo") or "",
        receiving_ip=raw.get("receiving-ip") or "",
        information=raw.get("additional-information") or "",
        reason=raw.get("failure-reason-code") or "",
    )


def vector_session(raw: dict[str, Any]) -> tuple[Finding, int]:
    described = raw["policy"]
    policy = build_policy(
        PolicyType(described["type"]),
        described["domain"],
        described.get("string", ()),
        described.get("mx_host", ()),
    )
    failures = map(vector_failure, raw["failures"])
    failed = raw["result"] == "failure"
    return build_finding(raw["recipient_domain"], policy, failures, failed=failed), raw["count"]


def vector_counts(case: Case) -> list[tuple[Finding, int]]:
    """Return the counts of a case; own reports and domains without a record have none."""
    if case.input["tlsrpt_record"] is None:
        return []
    sessions = case.input.get("sessions", ())
    counts = [vector_session(raw) for raw in sessions if not raw.get("is_tlsrpt_report")]
    for raw in case.input.get("datagrams", ()):
        try:
            datagram = parse_datagram(json.dumps(raw).encode())
        except DatagramError:
            continue
        counts += [(finding, 1) for finding in datagram.findings]
    return counts


def vector_heading(case: Case, domain: str) -> Heading:
    meta = case.input["meta"]
    reporter = parse_reporter(
        organization=meta["organization-name"],
        contact=meta["contact-info"],
        sender=meta["contact-info"],
    )
    return build_heading(reporter, domain, parse_date(meta["day"]))


def comparable(policies: Any) -> Any:
    """Return *policies* in an order of their own, members that say nothing left out."""
    if policies is None:
        return None
    return sorted(
        (
            {
                "policy": {key: value for key, value in entry["policy"].items() if value},
                "summary": entry["summary"],
                "details": sorted(entry.get("failure-details") or (), key=str_of),
            }
            for entry in policies
        ),
        key=str_of,
    )


def str_of(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def built(*counts: tuple[Finding, int]) -> Any:
    report = build_report(HEADING, counts)
    return None if report is None else json.loads(report)


@pytest.mark.parametrize(
    "case", [p for p in parameters("tlsrpt_report") if "meta" in p.values[0].input]
)
def test_a_report_is_as_the_vector_says(case: Case) -> None:
    counts = vector_counts(case)
    domain = counts[0][0].domain if counts else "example.com"
    document = build_report(vector_heading(case, domain), counts)
    report: Any = None if document is None else json.loads(document)
    policies = None if report is None else report["policies"]
    accepted = [comparable(result["policies"]) for result in case.accepted]
    assert comparable(policies) in accepted, case.why
    if "date-range" in case.accepted[0]:
        assert report["date-range"] == case.accepted[0]["date-range"]


def test_a_report_has_every_member_that_receivers_want_and_no_other() -> None:
    policy = build_policy(PolicyType.STS, "example.com", ["mode: testing"], ["mx.example.com"])
    failure = build_failure(
        ResultType.VALIDATION_FAILURE,
        sending_ip="192.0.2.1",
        mx_host="mx.example.com",
        helo="250 helo.example Hello",
        receiving_ip="192.0.2.2",
        information="https://sender.example/",
        reason="self-signed_certificate",
    )
    finding = build_finding("example.com", policy, [failure], failed=True)
    assert built((finding, 3)) == {
        "organization-name": "Sender Inc",
        "date-range": {
            "start-datetime": "2026-08-01T00:00:00Z",
            "end-datetime": "2026-08-01T23:59:59Z",
        },
        "contact-info": "tls-reports@sender.example",
        "report-id": "2026-08-01.example.com@sender.example",
        "policies": [
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": ["mode: testing"],
                    "policy-domain": "example.com",
                    "mx-host": ["mx.example.com"],
                },
                "summary": {
                    "total-successful-session-count": 0,
                    "total-failure-session-count": 3,
                },
                "failure-details": [
                    {
                        "result-type": "validation-failure",
                        "sending-mta-ip": "192.0.2.1",
                        "receiving-mx-hostname": "mx.example.com",
                        "receiving-mx-helo": "helo.example",
                        "receiving-ip": "192.0.2.2",
                        "additional-information": "https://sender.example/",
                        "failure-reason-code": "self-signed_certificate",
                        "failed-session-count": 3,
                    }
                ],
            }
        ],
    }


def test_what_is_not_known_is_left_out_and_never_empty_or_null() -> None:
    (entry,) = built((build_finding("example.com", NO_POLICY, [EXPIRED], failed=True), 1))[
        "policies"
    ]
    assert entry["policy"] == {"policy-type": "no-policy-found", "policy-domain": "example.com"}
    assert entry["failure-details"] == [
        {"result-type": "certificate-expired", "failed-session-count": 1}
    ]
    assert built((SUCCESS, 1))["policies"][0]["failure-details"] == []


def test_without_sessions_there_is_no_report() -> None:
    assert build_report(HEADING, []) is None
    assert build_report(HEADING, [(SUCCESS, 0)]) is None


def test_failures_of_one_session_are_counted_apart_from_its_result() -> None:
    second = build_failure(ResultType.CERTIFICATE_HOST_MISMATCH)
    both = build_finding("example.com", NO_POLICY, [EXPIRED, second], failed=True)
    recovered = build_finding("example.com", NO_POLICY, [EXPIRED], failed=False)
    silent = build_finding("example.com", NO_POLICY, failed=True)
    (entry,) = built((both, 2), (recovered, 3), (silent, 5))["policies"]
    assert entry["summary"] == {
        "total-successful-session-count": 3,
        "total-failure-session-count": 7,
    }
    counts = {d["result-type"]: d["failed-session-count"] for d in entry["failure-details"]}
    assert counts == {"certificate-expired": 5, "certificate-host-mismatch": 2}


def test_a_session_that_another_finding_counts_adds_its_failures_alone() -> None:
    news = build_finding("example.com", NO_POLICY, [EXPIRED], failed=None)
    (entry,) = built((SUCCESS, 4), (news, 3))["policies"]
    assert list(entry["summary"].values()) == [4, 0]
    assert entry["failure-details"][0]["failed-session-count"] == 3


def test_the_same_counts_in_any_order_give_the_same_octets() -> None:
    other = build_policy(PolicyType.STS, "example.com", ["mode: none"])
    counts = [
        (SUCCESS, 1),
        (build_finding("example.com", other, failed=False), 1),
        (build_finding("example.com", NO_POLICY, [EXPIRED], failed=True), 1),
        (build_finding("example.com", other, [EXPIRED], failed=True), 2),
    ]
    reports = {build_report(HEADING, order) for order in (counts, counts[::-1], counts * 1)}
    assert len(reports) == 1


def test_tlsa_records_in_another_order_are_the_same_policy() -> None:
    records = ["3 1 1 AB", "2 1 1 CD"]
    findings = [
        build_finding(
            "example.com", build_policy(PolicyType.TLSA, "mx.example.com", order), failed=False
        )
        for order in (records, records[::-1])
    ]
    report = built((findings[0], 1), (findings[1], 2))
    (entry,) = report["policies"]
    assert entry["summary"]["total-successful-session-count"] == 3
    assert entry["policy"]["policy-string"] == records[::-1]
    assert report == built((findings[1], 2), (findings[0], 1))
    assert built((findings[0], 1))["policies"][0]["policy"]["policy-string"] == records


def test_a_report_is_bounded_and_lists_what_is_most_frequent() -> None:
    many = [build_failure(ResultType.VALIDATION_FAILURE, reason=f"r{n}") for n in range(1500)]
    counts = [
        (build_finding("example.com", NO_POLICY, [failure], failed=True), n + 1)
        for n, failure in enumerate(many)
    ]
    (entry,) = built(*counts)["policies"]
    assert len(entry["failure-details"]) == MAX_DETAILS
    assert entry["failure-details"][0]["failure-reason-code"] == "r1499"
    assert entry["summary"]["total-failure-session-count"] == sum(n for _, n in counts)
    policies = [build_policy(PolicyType.STS, "example.com", [str(n)]) for n in range(200)]
    report = built(*((build_finding("example.com", p, failed=False), 1) for p in policies))
    assert len(report["policies"]) == MAX_POLICIES


def test_the_policy_with_the_most_sessions_stands_first_whatever_became_of_them() -> None:
    policies = [build_policy(PolicyType.STS, "example.com", [str(n)]) for n in range(3)]
    counts = [
        (build_finding("example.com", policies[0], failed=False), 2),
        (build_finding("example.com", policies[1], failed=True), 3),
        (build_finding("example.com", policies[2], failed=False), 1),
    ]
    report = built(*counts)
    assert [e["policy"]["policy-string"] for e in report["policies"]] == [["1"], ["0"], ["2"]]


def test_text_beyond_ascii_is_utf_8() -> None:
    reporter = parse_reporter(organization="Müller 🙂", contact="a@b.example", sender="a@b.example")
    report = build_report(build_heading(reporter, "example.com", 0), [(SUCCESS, 1)])
    assert report is not None
    assert "Müller 🙂".encode() in report


def test_whether_anything_failed() -> None:
    recovered = build_finding("example.com", NO_POLICY, [EXPIRED], failed=False)
    silent = build_finding("example.com", NO_POLICY, failed=True)
    assert not has_failures([(SUCCESS, 5)])
    assert not has_failures([(silent, 0)])
    assert has_failures([(SUCCESS, 5), (recovered, 1)])
    assert has_failures([(SUCCESS, 5), (silent, 1)])


def test_the_report_id_is_that_of_the_domain_and_the_day() -> None:
    assert HEADING.report_id == "2026-08-01.example.com@sender.example"
    assert build_heading(REPORTER, "EXAMPLE.com.", parse_date("2026-08-01")) == HEADING
    with pytest.raises(ParseError):
        build_heading(REPORTER, "example.com\r\nBcc: x@y.example", 0)


def test_the_file_is_named_after_both_domains_and_the_day() -> None:
    document = build_document(HEADING, b"{}")
    name = "sender.example!example.com!1785542400!1785628799!d8535022449c4a68"
    assert document.name == f"{name}.json.gz"
    assert document.media_type == "application/tlsrpt+gzip"
    plain = build_document(HEADING, b"{}", compress=False)
    assert (plain.name, plain.data) == (f"{name}.json", b"{}")
    assert plain.media_type == "application/tlsrpt+json"


def test_compressing_twice_gives_the_same_octets_without_time_and_name() -> None:
    document = build_document(HEADING, b'{"a":1}' * 100)
    assert document == build_document(HEADING, b'{"a":1}' * 100)
    assert gzip.decompress(document.data) == b'{"a":1}' * 100
    assert document.data[3:8] == bytes(5)  # no flags, no time (RFC 1952 section 2.3)


@pytest.mark.parametrize(
    ("contact", "address", "domain"),
    [
        ("tls@sender.example", "tls@sender.example", "sender.example"),
        ("mailto:tls@Sender.Example", "tls@sender.example", "sender.example"),
        ("tls+rpt/x=1@münchen.example", "tls+rpt/x=1@xn--mnchen-3ya.example", None),
        ("a,b@sender.example", '"a,b"@sender.example', "sender.example"),
    ],
)
def test_a_contact_is_one_address(contact: str, address: str, domain: str | None) -> None:
    reporter = parse_reporter(organization="x", contact=contact, sender=contact)
    assert reporter.contact == reporter.sender == address
    assert reporter.domain == domain or domain is None


@pytest.mark.parametrize(
    "bad",
    [
        *("", "sender.example", "@sender.example", "a@", "a b@sender.example", "a@192.0.2.1"),
        *("a@b.example,c@d.example", "a@sender.example\r\nBcc: x@y.example", "a\n@b.example"),
        *("ä@sender.example", "\ud800@sender.example", "a\x00@b.example", "Name <a@b.example>"),
        *("https://sender.example/", '"a"@b.example', "a%40b"),
    ],
)
def test_a_contact_that_is_no_address_is_refused_by_name(bad: str) -> None:
    good = "a@b.example"
    with pytest.raises(ParseError, match=r"^contact .* is not one mail address"):
        parse_reporter(organization="x", contact=bad, sender=good)
    with pytest.raises(ParseError, match=r"^sender .* is not one mail address"):
        parse_reporter(organization="x", contact=good, sender=bad)


@pytest.mark.parametrize("bad", ["", " ", "x ", "a\r\nb", "a\x00", "\u202e", "\ud800", "x" * 201])
def test_an_organization_that_cannot_be_printed_is_refused(bad: str) -> None:
    with pytest.raises(ParseError, match="organization"):
        parse_reporter(organization=bad, contact="a@b.example", sender="a@b.example")

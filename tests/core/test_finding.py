"""Findings: what strangers wrote becomes what may stand in a report, or nothing."""

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import (
    MAX_FAILURES,
    MAX_STRING,
    MAX_STRINGS,
    MAX_TEXT,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
    clean,
)
from postfix_mtasts.core.tls_event import ResultType

EXPIRED = ResultType.CERTIFICATE_EXPIRED
NONE = build_policy(PolicyType.NO_POLICY_FOUND, "example.com")


def test_the_names_of_a_policy_become_a_labels() -> None:
    policy = build_policy(
        PolicyType.STS, "München.example.", ["mode: testing"], ["*.MÜNCHEN.example", "mx.example."]
    )
    assert policy.domain == "xn--mnchen-3ya.example"
    assert policy.mx_hosts == ("*.xn--mnchen-3ya.example", "mx.example")


def test_a_pattern_that_is_no_host_name_is_left_out() -> None:
    patterns = ["*.*.example", "", "*.", "*", "a b.example", "mx.example"]
    assert build_policy(PolicyType.STS, "example.com", (), patterns).mx_hosts == ("mx.example",)


def test_the_lines_of_an_sts_policy_stay_as_published() -> None:
    lines = ("version: STSv1", "mode: enforced", "mx: Mx.example.com", "extra:  x")
    assert build_policy(PolicyType.STS, "example.com", lines).strings == lines


def test_tlsa_digits_are_joined_and_capitals_and_there_are_no_mx_patterns() -> None:
    policy = build_policy(
        PolicyType.TLSA, "mx.example", ["3 1 1 ab cd  ef", "3 1", ""], ["mx.example"]
    )
    assert policy.strings == ("3 1 1 ABCDEF", "3 1")
    assert policy.mx_hosts == ()


def test_blank_lines_of_a_policy_are_left_out() -> None:
    assert build_policy(PolicyType.STS, "example.com", ["", "a: b", "  "]).strings == ("a: b",)


def test_no_policy_has_no_text() -> None:
    policy = build_policy(PolicyType.NO_POLICY_FOUND, "example.com", ["x"], ["mx.example"])
    assert (policy.strings, policy.mx_hosts) == ((), ())


@pytest.mark.parametrize("domain", ["", "192.0.2.1", "a b", "example.com\r\nX: y"])
def test_a_domain_that_is_no_host_name_is_refused(domain: str) -> None:
    with pytest.raises(ParseError):
        build_policy(PolicyType.NO_POLICY_FOUND, domain)
    with pytest.raises(ParseError):
        build_finding(domain, NONE, failed=False)


def test_a_policy_is_bounded() -> None:
    policy = build_policy(
        PolicyType.STS, "example.com", ["x" * 10**5] * 10**4, ["mx.example"] * 10**4
    )
    assert len(policy.strings) == len(policy.mx_hosts) == MAX_STRINGS
    assert len(policy.strings[0]) == MAX_STRING


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("255.249.199.100", "255.249.199.100"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:db8:abcd:0012::0001", "2001:db8:abcd:12::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1%0", "192.0.2.1"),
        *(("", ""), ("unknown", ""), ("192.0.2.256", ""), ("192.0.2.01", ""), ("192.0.2", "")),
        *(("192.0.2.1\n", ""), ("192.0.2.1.", ""), ("192.0.2.1.5", ""), ("::1\r\nX: y", "")),
    ],
)
def test_an_address_is_spelled_in_one_way_or_left_out(given: str, spelled: str) -> None:
    failure = build_failure(EXPIRED, sending_ip=given, receiving_ip=given)
    assert (failure.sending_ip, failure.receiving_ip) == (spelled, spelled)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("MX1.Example.COM.", "mx1.example.com"),
        ("mx.münchen.example", "mx.xn--mnchen-3ya.example"),
        *(("", ""), ("mx example", ""), ("mx.example\r\nX: y", ""), ("[192.0.2.1]", "")),
    ],
)
def test_an_mx_host_is_a_host_name_or_left_out(given: str, kept: str) -> None:
    assert build_failure(EXPIRED, mx_host=given).mx_host == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("mx1.example.com ESMTP", "mx1.example.com ESMTP"),
        ("250-mx.example\r\n250-SIZE 1000\r\n250 HELP", "mx.example"),
        ("250 mx.example Hello there", "mx.example"),
        ("250-mx.example\n250 HELP", "mx.example"),
        ("250-\r\n250-SIZE", ""),
        ("\r\n250-mx.example", ""),
        ("250-mx\x00\udcff.example", "mx??.example"),
        ("", ""),
    ],
)
def test_of_a_reply_to_ehlo_the_name_is_kept_and_else_the_line(given: str, kept: str) -> None:
    assert build_failure(EXPIRED, helo=given).helo == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://example.com/a?b=c-d#E", True),
        ("mailto:a@example.com", True),
        *(("example.com", False), ("https:", False), ("https://a b", False), ("", False)),
        *(("https://a\r\nX: y", False), ('https://"', False), ("https://" + "a" * 256, False)),
    ],
)
def test_additional_information_is_a_uri_or_left_out(given: str, kept: bool) -> None:  # noqa: FBT001 - a table
    assert build_failure(EXPIRED, information=given).information == (given if kept else "")


def test_a_uri_may_be_as_long_as_any_text_and_no_longer() -> None:
    longest = "https:".ljust(MAX_TEXT, "x")
    assert build_failure(EXPIRED, information=longest).information == longest
    assert not build_failure(EXPIRED, information=longest + "x").information


def test_a_text_is_one_bounded_line_of_printable_characters() -> None:
    assert clean("  self-signed certificate ", 100) == "self-signed certificate"
    assert (
        clean("a\tb\r\nc\x7f\x00\u2028\u202e\ud800\ufffe\ufffd\U0010ffff", 100) == "a?b??c????????"
    )
    assert clean("a\tb\x00", 100) == "a?b?"
    assert clean("Zertifikat läuft ab 🙂", 100) == "Zertifikat läuft ab 🙂"
    assert len(build_failure(EXPIRED, reason="x" * 10**6).reason) == MAX_TEXT
    assert len(build_failure(EXPIRED, helo="x" * 10**6).helo) == MAX_TEXT


def test_each_failure_of_a_session_counts_once_and_their_order_does_not_matter() -> None:
    one, two = build_failure(EXPIRED, reason="b"), build_failure(EXPIRED, reason="a")
    finding = build_finding("EXAMPLE.com", NONE, [one, two, one], failed=True)
    assert finding == build_finding("example.com", NONE, [two, one], failed=True)
    assert finding.failures == (two, one)
    assert finding.domain == "example.com"


def test_the_failures_of_a_session_are_bounded() -> None:
    many = [build_failure(EXPIRED, reason=str(n)) for n in range(100)]
    assert len(build_finding("example.com", NONE, many, failed=True).failures) == MAX_FAILURES


def test_the_columns_of_a_failure_are_all_its_fields() -> None:
    failure = build_failure(
        EXPIRED,
        sending_ip="192.0.2.1",
        mx_host="mx.example",
        helo="helo.example",
        receiving_ip="192.0.2.2",
        information="https://example.com/",
        reason="late",
    )
    assert failure.columns == (
        *("certificate-expired", "192.0.2.1", "mx.example", "helo.example"),
        *("192.0.2.2", "https://example.com/", "late"),
    )

"""Answers to smtp_tls_policy_maps: their text, and what Postfix reads in a text."""

from dataclasses import replace
from typing import cast

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.postfix_policy import (
    MAX_POLICY_STRING,
    MAX_TEXT_BYTES,
    Level,
    PolicyType,
    TlsPolicy,
    build_policy,
    host_names,
    parse_policy,
    safe_policy_strings,
    without_tlsrpt,
)

STS = TlsPolicy(
    level=Level.SECURE,
    match=("mail.example.com", ".example.net"),
    servername="hostname",
    protocols=">=TLSv1.2",
    ciphers="high",
    policy_type="sts",
    policy_domain="example.com",
    policy_strings=("version: STSv1", "mode: enforce", "mx: *.example.net, or = so"),
    mx_host_patterns=("mail.example.com", "*.example.net"),
)
STS_TEXT = (
    "secure match=mail.example.com:.example.net servername=hostname"
    " protocols=>=TLSv1.2 ciphers=high policy_type=sts policy_domain=example.com"
    " { policy_string = version: STSv1 } { policy_string = mode: enforce }"
    " { policy_string = mx: *.example.net, or = so }"
    " mx_host_pattern=mail.example.com mx_host_pattern=*.example.net"
)

POLICIES = {
    "none": TlsPolicy(level=Level.NONE),
    "may": TlsPolicy(level=Level.MAY),
    "encrypt protocols=!SSLv2:!SSLv3": TlsPolicy(level=Level.ENCRYPT, protocols="!SSLv2:!SSLv3"),
    "encrypt protocols=<=TLSv1.2:TLSv1.2": TlsPolicy(
        level=Level.ENCRYPT, protocols="<=TLSv1.2:TLSv1.2"
    ),
    "dane": TlsPolicy(level=Level.DANE),
    "dane-only ciphers=medium": TlsPolicy(level=Level.DANE_ONLY, ciphers="medium"),
    "verify match=hostname:nexthop:dot-nexthop": TlsPolicy(
        level=Level.VERIFY, match=("hostname", "nexthop", "dot-nexthop")
    ),
    "secure": TlsPolicy(level=Level.SECURE),
    "secure match=*.example.net servername=mx_1.example.net": TlsPolicy(
        level=Level.SECURE, match=("*.example.net",), servername="mx_1.example.net"
    ),
    "fingerprint match=AB:cd:12|ab12": TlsPolicy(
        level=Level.FINGERPRINT, match=("AB:cd:12", "ab12")
    ),
    "may policy_type=no-policy-found policy_domain=example.com": TlsPolicy(
        level=Level.MAY, policy_type="no-policy-found", policy_domain="example.com"
    ),
    "may policy_type=sts policy_domain=example.com mx_host_pattern=*.example.com": TlsPolicy(
        level=Level.MAY,
        policy_type="sts",
        policy_domain="example.com",
        mx_host_patterns=("*.example.com",),
    ),
    STS_TEXT: STS,
}


@pytest.mark.parametrize(("text", "policy"), POLICIES.items())
def test_a_policy_has_one_text_and_is_read_back_from_it(text: str, policy: TlsPolicy) -> None:
    assert build_policy(policy) == text
    assert parse_policy(text) == policy


def test_without_tlsrpt_an_older_postfix_understands_it() -> None:
    assert build_policy(without_tlsrpt(STS)) == STS_TEXT.partition(" policy_type")[0]


SECURE = TlsPolicy(level=Level.SECURE, match=("mx.example.com",))
LABEL = "a" * 63
UNSPEAKABLE = {
    "none with an attribute": TlsPolicy(level=Level.NONE, servername="hostname"),
    "none with tlsrpt": TlsPolicy(
        level=Level.NONE, policy_type="no-policy-found", policy_domain="a.example"
    ),
    "encrypt with a match": TlsPolicy(level=Level.ENCRYPT, match=("mx.example.com",)),
    "dane with a match": TlsPolicy(level=Level.DANE, match=("mx.example.com",)),
    "policy_domain without policy_type": replace(SECURE, policy_domain="example.com"),
    "policy_string without policy_type": replace(SECURE, policy_strings=("mode: enforce",)),
    "pattern without policy_type": replace(SECURE, mx_host_patterns=("mx.example.com",)),
    "policy_type without policy_domain": replace(SECURE, policy_type="sts"),
    "unknown policy_type": replace(STS, policy_type=cast("PolicyType", "tlsa")),
    "sts at secure without a match": replace(STS, match=()),
    "sts at verify without a match": replace(STS, match=(), level=Level.VERIFY),
    "servername with a space": replace(SECURE, servername="mx.example.com none"),
    "servername that is empty": replace(SECURE, servername=""),
    "servername with a wildcard": replace(SECURE, servername="*.example.com"),
    "protocols with a comma": replace(SECURE, protocols=">=TLSv1.2,!SSLv2"),
    "protocols that is empty": replace(SECURE, protocols=""),
    "protocols with a newline": replace(SECURE, protocols="TLSv1.2\n"),
    "ciphers of an unknown grade": replace(SECURE, ciphers="strong"),
    "policy_domain with a brace": replace(STS, policy_domain="example.com}"),
    "policy_domain that is numbers": replace(STS, policy_domain="192.0.2.1"),
    "pattern with a leading dot": replace(STS, mx_host_patterns=(".example.com",)),
    "pattern with two stars": replace(STS, mx_host_patterns=("*.*.example.com",)),
    "empty pattern": replace(STS, mx_host_patterns=("",)),
    "empty policy_string": replace(STS, policy_strings=("",)),
    "digest with a bar": TlsPolicy(level=Level.FINGERPRINT, match=("ab|cd",)),
    "digest of half a byte": TlsPolicy(level=Level.FINGERPRINT, match=("abc",)),
}


@pytest.mark.parametrize("policy", UNSPEAKABLE.values(), ids=UNSPEAKABLE)
def test_what_postfix_would_not_read_back_is_refused(policy: TlsPolicy) -> None:
    with pytest.raises(ParseError, match="TLS policy"):
        build_policy(policy)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "*", "*.", "..", "a..b", "mx.example.com.", "-a.example", "a-.example"),
        *("a b", "a,b", "a:b", "a=b", "a{b", "a}b", "a\tb", "a\nb", "a\0b", "mx.example.com\n"),
        *("bücher.example", "mx.example.com servername=x", "*mx.example.com", "**.example.com"),
        *("*.*.example.com", "mx.*.example.com", "192.0.2.1", "[192.0.2.1]", LABEL + "a.example"),
        f"{LABEL}.{LABEL}.{LABEL}.{LABEL}",
    ],
)
def test_no_name_breaks_out_of_match(name: str) -> None:
    with pytest.raises(ParseError, match="cannot say match="):
        build_policy(replace(SECURE, match=("mx.example.com", name)))


def test_the_longest_name_can_be_said() -> None:
    name = f"{LABEL}.{LABEL}.{LABEL}.{'a' * 61}"
    assert build_policy(replace(SECURE, match=(name,))) == f"secure match={name}"


def test_a_name_without_letters_that_is_no_address_can_be_said() -> None:
    assert build_policy(replace(SECURE, match=("1-2",))) == "secure match=1-2"


def test_an_mx_spelt_as_a_keyword_never_becomes_one() -> None:
    names = ("mx.example.com", "hostname", "NextHop", "dot-nexthop", "hostname.example")
    assert host_names(names) == ("mx.example.com", "hostname.example")


LINES = {
    "mode: enforce": True,
    "x": True,
    'quote " and backslash \\, comma': True,
    "x" * MAX_POLICY_STRING: True,
    "x" * (MAX_POLICY_STRING + 1): False,
    "": False,
    " mode: enforce": False,
    "mode: enforce ": False,
    "note: {": False,
    "note: }": False,
    "note: {braced} words": False,
    "note: } { policy_string = x": False,
    "mode:\tenforce": False,
    "mode: enforce\n": False,
    "mode: en\0force": False,
    "mode: en\x7fforce": False,
    "note: ü": False,
}


@pytest.mark.parametrize(("line", "safe"), LINES.items())
def test_a_policy_string_is_safe_exactly_where_it_can_be_built(line: str, safe: object) -> None:
    policy = replace(STS, policy_strings=(line,))
    if safe:
        assert parse_policy(build_policy(policy)) == policy
    else:
        with pytest.raises(ParseError, match="cannot say policy_string"):
            build_policy(policy)


def test_unsafe_policy_strings_are_left_out() -> None:
    assert safe_policy_strings(LINES) == tuple(line for line, safe in LINES.items() if safe)


def test_a_text_that_is_too_long_for_postfix_is_refused() -> None:
    policy = replace(STS, policy_strings=("x" * MAX_POLICY_STRING,) * 100)
    with pytest.raises(ParseError, match="too long for Postfix"):
        build_policy(policy)
    assert len(build_policy(without_tlsrpt(policy))) < MAX_TEXT_BYTES


def test_the_longest_policy_fits_without_tlsrpt() -> None:
    names = tuple(f"a{number}.b" for number in range(65536 // len("mx:a1.b\n")))
    assert len(build_policy(replace(SECURE, match=names))) < MAX_TEXT_BYTES


READINGS = {
    "MAY": TlsPolicy(level=Level.MAY),
    " ,\t\r\nmay,": TlsPolicy(level=Level.MAY),
    "may\0 garbage {": TlsPolicy(level=Level.MAY),
    "none match=x {": TlsPolicy(level=Level.NONE),
    "secure,match=a:b,MATCH=:c:": TlsPolicy(level=Level.SECURE, match=("a", "b", "c")),
    "secure { match = a.example }": TlsPolicy(level=Level.SECURE, match=("a.example",)),
    "may protocols=": TlsPolicy(level=Level.MAY, protocols=""),
    "may policy_type=sts {policy_string=a\t{b}\v, c = d }": TlsPolicy(
        level=Level.MAY, policy_type="sts", policy_strings=("a {b} , c = d",)
    ),
    "may policy_type=sts policy_string=": TlsPolicy(
        level=Level.MAY, policy_type="sts", policy_strings=("",)
    ),
    "may policy_type=sts policy_string=a}": TlsPolicy(
        level=Level.MAY, policy_type="sts", policy_strings=("a}",)
    ),
    "may policy_type=sts policy_string=} { policy_string = a b }": TlsPolicy(
        level=Level.MAY, policy_type="sts", policy_strings=("}", "a b")
    ),
    "may policy_type=sts policy_string=a{ b": TlsPolicy(
        level=Level.MAY, policy_type="sts", policy_strings=("a{ b",)
    ),
}


@pytest.mark.parametrize(("text", "policy"), READINGS.items())
def test_text_is_read_as_postfix_reads_it(text: str, policy: TlsPolicy) -> None:
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        *("", " ,", "half-dane", "halfdane", "superb", "{may}", "may;"),
        *("secure match", "secure match=", "secure match=:", "secure =x", "secure {}"),
        *("encrypt match=a", "dane match=a", "secure matc h=a", "secure { mat ch = a }"),
        *("may servername=", "may servername=*.a", "may servername=hostname servername=hostname"),
        *("may ciphers=", "may ciphers=low ciphers=low", "may protocols=a protocols=b"),
        *("secure { match=a", "secure {match=a}b", "secure {match=a}{match=b}"),
        *("may policy_type=tlsa", "may policy_type=sts policy_domain=a policy_domain=a"),
        *("may policy_type=sts policy_type=sts", "may policy_type=sts policy_domain=a:b"),
        *("may policy_domain=a", "may policy_string=a", "may mx_host_pattern=a"),
        *("may foo=bar", "may exclude=RC4"),
    ],
)
def test_what_postfix_refuses_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="TLS policy"):
        parse_policy(text)

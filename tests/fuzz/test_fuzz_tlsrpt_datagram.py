"""Datagrams from anybody who may write to the socket: read, or refused by kind."""

import json
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core.finding import MAX_FAILURES, MAX_STRING, MAX_TEXT, Finding
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.tlsrpt_datagram import (
    MAX_POLICIES,
    DatagramError,
    Kind,
    parse_datagram,
)

FUZZ = settings(derandomize=True, deadline=None, max_examples=400)

HOSTILE = st.sampled_from(
    [
        *("mx.example", "EXAMPLE.com.", "250-mx.example\r\n250 HELP", "192.0.2.1", "2001:DB8::1"),
        *(
            "a\r\nBcc: x@y",
            '"',
            "\x00",
            "\ud800",
            "\u202e",
            "https://a/",
            "../../x",
            "a!b",
            "=?x?=",
        ),
    ]
)
TEXTS = HOSTILE | st.text(max_size=20) | st.none()
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
DETAILS = st.fixed_dictionaries(
    {"c": st.sampled_from([201, 202, 203, 205, 304, 999]) | ANY},
    optional=dict.fromkeys(("s", "n", "h", "r", "a", "f", "x"), TEXTS | ANY),
)
POLICIES = st.fixed_dictionaries(
    {"policy-type": st.sampled_from([1, 2, 9]) | ANY, "f": st.sampled_from([0, 1]) | ANY},
    optional={
        "policy-domain": TEXTS,
        "policy-string": st.lists(TEXTS, max_size=4) | ANY,
        "mx-host": st.lists(TEXTS, max_size=4) | ANY,
        "failure-details": st.lists(DETAILS | ANY, max_size=4) | ANY,
        "t": ANY,
    },
)
DATAGRAMS = st.fixed_dictionaries(
    {
        "d": st.sampled_from(["example.com", "München.example"]) | TEXTS,
        "policies": st.lists(POLICIES | ANY, max_size=3) | ANY,
    },
    optional={"dpv": st.sampled_from(["1", "1", "1", "2"]) | ANY, "pr": TEXTS},
)
GOOD = (
    b'{"dpv": "1","d": "example.com","policies":[{"policy-type":2,"policy-string":["a"],'
    b'"mx-host":["*.example.com"],"failure-details":[{"c":205,"h":"250-x"}],"t":1,"f":1}]}'
)


def texts(finding: Finding) -> list[str]:
    """Return all that a stranger may have written into *finding*."""
    found = [*finding.policy.strings, *finding.policy.mx_hosts]
    return found + [text for failure in finding.failures for text in failure.columns[1:]]


def check(data: bytes) -> None:
    try:
        datagram = parse_datagram(data)
    except DatagramError as error:
        assert error.kind in get_args(Kind)  # noqa: PT017 - either way is right
        return
    assert 0 < len(datagram.findings) <= MAX_POLICIES
    for finding in datagram.findings:
        assert finding.domain == datagram.domain == parse_domain(datagram.domain)
        assert finding.policy.domain == parse_domain(finding.policy.domain)
        assert len(set(finding.failures)) == len(finding.failures) <= MAX_FAILURES
        for text in texts(finding):
            assert text.isprintable()
            assert len(text) <= MAX_STRING
            assert text.encode() is not None  # no lone surrogates
        for failure in finding.failures:
            assert " " not in failure.mx_host + failure.information
            assert max(map(len, failure.columns)) <= MAX_TEXT


@FUZZ
@given(DATAGRAMS)
def test_json_of_about_the_right_shape_is_read_or_refused(value: dict[str, Any]) -> None:
    check(json.dumps(value).encode())
    check(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@FUZZ
@given(st.binary(max_size=200))
def test_any_octets_are_read_or_refused(data: bytes) -> None:
    check(data)
    check(b'{"d":"example.com","policies":[{"policy-type":9,"f":0,"x":"' + data + b'"}]}')


@FUZZ
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_octet_is_read_or_refused(place: int, octet: int) -> None:
    check(GOOD[:place] + bytes([octet]) + GOOD[place + 1 :])
    check(GOOD[:place])

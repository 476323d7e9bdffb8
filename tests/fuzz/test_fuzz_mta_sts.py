"""Records and policies from strangers: read, or refused by ParseError."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.mta_sts import (
    MAX_MAX_AGE,
    Response,
    parse_policy,
    parse_record,
    parse_response,
    permits,
    policy_lines,
)
from postfix_mtasts.core.names import parse_domain

FUZZ = settings(derandomize=True, deadline=None, max_examples=300)

RECORDS = st.lists(
    st.sampled_from([b"v=STSv1", b";", b" ", b"\t", b"id=", b"a1", b"_", b"=", b"x=y", b"\xff"]),
    max_size=12,
).map(b"".join)

KEYS = st.sampled_from([b"version", b"mode", b"mx", b"max_age", b"note", b"Mode", b"", b"\xff"])
DELIMITERS = st.sampled_from([b": ", b":", b":\t", b" : ", b"=", b""])
VALUES = st.one_of(
    st.sampled_from([b"STSv1", b"enforce", b"testing", b"none", b"604800", b"9999999999"]),
    st.sampled_from([b"mx.example.com", b"*.example.com", b"*.", b"a:b", b"192.0.2.1", b"{x}"]),
    st.binary(max_size=6),
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n", b"\r", b"\x0b", "\u2028".encode(), b""])
LINES = st.tuples(KEYS, DELIMITERS, VALUES, ENDS).map(b"".join)
FIELDS = st.permutations(
    [b"version: STSv1\n", b"mode: enforce\r\n", b"mx: mx.example.com\n", b"max_age: 1\n"]
).map(b"".join)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.lists(LINES, max_size=8).map(b"".join),
    st.tuples(LINES, FIELDS, LINES).map(b"".join),
    st.tuples(FIELDS, st.lists(LINES, max_size=2).map(b"".join)).map(b"".join),
)


@FUZZ
@given(st.lists(RECORDS | RECORDS.map(b"v=STSv1; ".__add__) | st.binary(max_size=60), max_size=3))
def test_txt_records_are_a_record_or_none_or_a_parse_error(rrset: list[bytes]) -> None:
    with contextlib.suppress(ParseError):
        record = parse_record(rrset)
        if record is not None:
            assert 1 <= len(record.id) <= 32
            assert record.id.isascii()
            assert record.id.isalnum()
            assert any(record.id.encode() in r and r.startswith(b"v=STSv1") for r in rrset)


@FUZZ
@given(BODIES)
def test_a_document_is_a_sound_policy_or_a_parse_error(body: bytes) -> None:
    with contextlib.suppress(ParseError):
        policy = parse_policy(body)
        assert 0 <= policy.max_age <= MAX_MAX_AGE
        assert policy.mx or policy.mode == "none"
        assert len(set(policy.mx)) == len(policy.mx)
        for pattern in policy.mx:
            host = pattern.removeprefix("*.")
            assert parse_domain(host) == host
            assert permits(policy, pattern.replace("*", "x"))


@FUZZ
@given(BODIES)
def test_the_lines_of_any_document_are_printable(body: bytes) -> None:
    for line in policy_lines(body):
        assert line
        assert line.isprintable()


@FUZZ
@given(
    st.integers(100, 599) | st.just(200),
    st.none() | st.text(max_size=20) | st.sampled_from(["text/plain", "TEXT/plain;x", "text/html"]),
    BODIES,
)
def test_a_response_is_its_policy_or_a_parse_error(
    status: int, content_type: str | None, body: bytes
) -> None:
    response = Response(status=status, content_type=content_type, body=body)
    with contextlib.suppress(ParseError):
        assert parse_response(response) == parse_policy(body)
        assert status == 200
        assert content_type is not None
        assert content_type.strip().lower().startswith("text/plain")

"""Netstrings as they come, byte by byte or many at once."""

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.netstring import MAX_DIGITS, Decoder, build_netstring


def decoded(data: bytes, limit: int = 100) -> list[bytes]:
    """Return every payload in *data*."""
    decoder = Decoder(limit)
    decoder.feed(data)
    payloads = []
    while (payload := decoder.next()) is not None:
        payloads.append(payload)
    return payloads


def test_a_payload_is_framed_by_its_length_and_a_comma() -> None:
    assert build_netstring(b"hello") == b"5:hello,"
    assert build_netstring(b"") == b"0:,"


def test_several_payloads_come_in_order() -> None:
    assert decoded(b"5:hello,0:,1:,,") == [b"hello", b"", b","]


def test_a_payload_may_come_byte_by_byte() -> None:
    decoder = Decoder(100)
    for octet in b"11:policy a.ex":
        decoder.feed(bytes([octet]))
        assert decoder.next() is None
        assert decoder.pending
    decoder.feed(b",")
    assert decoder.next() == b"policy a.ex"
    assert not decoder.pending


def test_more_bytes_are_needed_while_nothing_has_come() -> None:
    assert Decoder(100).next() is None
    assert not Decoder(100).pending


def test_what_follows_a_payload_is_pending() -> None:
    decoder = Decoder(100)
    decoder.feed(b"1:a,2")
    assert decoder.next() == b"a"
    assert decoder.pending
    assert decoder.next() is None


def test_a_payload_of_the_very_limit_is_taken() -> None:
    assert decoded(b"5:hello,", limit=5) == [b"hello"]


def test_zeros_before_the_length_are_forgiven_as_postfix_forgives_them() -> None:
    assert decoded(b"%s5:hello," % (b"0" * (MAX_DIGITS - 1))) == [b"hello"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"6", "longer than 5 bytes"),
        (b"6:", "longer than 5 bytes"),
        (b"99999999999999999999", "longer than 5 bytes"),
        (b"0" * (MAX_DIGITS + 1), "longer than 5 bytes"),
        (b":", "without a length"),
        (b"x", "without a length"),
        (b"-1:", "without a length"),
        (b" 1:a,", "without a length"),
        (b"1 :a,", "without a length"),
        (b"1x", "without a length"),
        ("\u0661".encode(), "without a length"),
        (b"\n", "without a length"),
        (b"GET / HTTP/1.1\r\n", "without a length"),
        (b"1:ab", "final comma"),
        (b"0:\n", "final comma"),
    ],
)
def test_bad_framing_is_refused_as_soon_as_it_shows(data: bytes, complaint: str) -> None:
    with pytest.raises(ParseError, match=complaint):
        decoded(data, limit=5)


def test_an_error_is_final() -> None:
    decoder = Decoder(5)
    decoder.feed(b"1:a,x")
    assert decoder.next() == b"a"
    with pytest.raises(ParseError):
        decoder.next()
    decoder.feed(b"1:b,")
    with pytest.raises(ParseError):
        decoder.next()

"""Requests and the five replies."""

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.socketmap import (
    MAX_REASON_BYTES,
    MAX_REPLY_BYTES,
    Reply,
    Request,
    Status,
    build_reply,
    build_request,
    parse_reply,
    parse_request,
)


@pytest.mark.parametrize(
    ("payload", "name", "key"),
    [
        (b"policy example.com", "policy", b"example.com"),
        (b"policy [mail.example.com]:587", "policy", b"[mail.example.com]:587"),
        (b"policy a b  c", "policy", b"a b  c"),
        (b"policy  a", "policy", b" a"),
        (b"policy ", "policy", b""),
        ("policy bücher.example".encode(), "policy", "bücher.example".encode()),
        (b"policy \xff\0", "policy", b"\xff\0"),
    ],
)
def test_the_first_space_ends_the_map_name(payload: bytes, name: str, key: bytes) -> None:
    request = parse_request(payload)
    assert request == Request(map=name, key=key)
    assert build_request(request) == payload


@pytest.mark.parametrize("payload", [b"", b" ", b"policy", b" example.com", b"policy\texample.com"])
def test_a_request_has_a_map_name_and_a_space(payload: bytes) -> None:
    with pytest.raises(ParseError, match="map name"):
        parse_request(payload)


def test_a_map_name_that_is_not_ascii_can_be_quoted_in_a_reply() -> None:
    assert parse_request(b"pol\xc3\xadcy a").map == "pol\\xc3\\xadcy"


@pytest.mark.parametrize(
    ("reply", "payload"),
    [
        (Reply(status=Status.OK, text="dane-only"), b"OK dane-only"),
        (Reply(status=Status.NOTFOUND), b"NOTFOUND "),
        (Reply(status=Status.TEMP, text="no answer"), b"TEMP no answer"),
        (Reply(status=Status.TIMEOUT, text="too slow"), b"TIMEOUT too slow"),
        (Reply(status=Status.PERM, text="no such map"), b"PERM no such map"),
    ],
)
def test_each_reply_has_its_word(reply: Reply, payload: bytes) -> None:
    assert build_reply(reply) == payload
    assert parse_reply(payload) == reply


def test_an_answer_goes_out_as_it_is() -> None:
    text = '{"a":  "ü\t\n"}'
    assert build_reply(Reply(status=Status.OK, text=text)) == b"OK " + text.encode()


def test_an_answer_of_the_very_limit_goes_out() -> None:
    text = "x" * (MAX_REPLY_BYTES - 3)
    assert build_reply(Reply(status=Status.OK, text=text)) == b"OK " + text.encode()


@pytest.mark.parametrize("text", ["x" * (MAX_REPLY_BYTES - 2), "secure match=a.example\0 more"])
def test_an_answer_that_postfix_would_cut_is_never_sent(text: str) -> None:
    assert build_reply(Reply(status=Status.OK, text=text)).startswith(b"TEMP the answer does not")


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("two\r\nlines\t and  more ", "two lines and more"),
        ("bell \a and escape \x1b[31m", "bell ? and escape ?[31m"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("no MX for bücher.example", "no MX for bücher.example"),
        ("", ""),
    ],
)
def test_a_reason_is_one_line_of_printable_text(reason: str, line: str) -> None:
    assert build_reply(Reply(status=Status.TEMP, text=reason)) == b"TEMP " + line.encode()


def test_a_reason_is_cut_between_characters() -> None:
    reply = build_reply(Reply(status=Status.PERM, text="x" + "ü" * 100_000))
    assert reply == ("PERM x" + "ü" * ((MAX_REASON_BYTES - 1) // 2)).encode()


@pytest.mark.parametrize(
    ("payload", "status"), [(b"OK", Status.OK), (b"NOTFOUND", Status.NOTFOUND)]
)
def test_a_word_alone_is_a_reply_without_text(payload: bytes, status: Status) -> None:
    assert parse_reply(payload) == Reply(status=status)


def test_bytes_of_a_reply_that_are_no_utf8_are_escaped() -> None:
    assert parse_reply(b"TEMP \xff").text == "\\xff"


@pytest.mark.parametrize("payload", [b"", b" OK x", b"ok x", b"OK\tx", b"MAYBE x", b"\xff x"])
def test_another_word_is_no_reply(payload: bytes) -> None:
    with pytest.raises(ParseError, match="unknown reply"):
        parse_reply(payload)

"""Names on the wire: read as another library reads them, each place once."""

import dns.exception
import dns.name
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postfix_mtasts.adapters.dns_name import (
    MAX_STEPS,
    ROOT,
    Names,
    ancestors,
    dotted,
    host_name,
    parse_dns_name,
    shown,
)
from postfix_mtasts.core.errors import ParseError

NOWHERE = -1


def names(message: bytes) -> Names:
    return Names(message, NOWHERE, ROOT)


def pointer(position: int) -> bytes:
    return (0xC000 | position).to_bytes(2)


OCTETS = st.sampled_from([b"\1a", b"\2bC", b"\0", b"\x3f" + b"x" * 63, b"\x40", b"\xc0"])
PIECES = st.lists(OCTETS | st.integers(0, 40).map(pointer) | st.binary(max_size=3), max_size=25)


@given(PIECES.map(b"".join), st.lists(st.integers(0, 60), min_size=1, max_size=8))
@example((b"\x3f" + b"x" * 63) * 4 + b"\0", [0, 64])
@example((b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"x" * 61 + b"\0\1a" + pointer(64), [0, 255])
@example(b"\1a\0" + pointer(0) + pointer(3) + pointer(5), [7, 5, 3])
@settings(derandomize=True, deadline=None, max_examples=1000)
def test_names_are_read_as_another_library_reads_them(message: bytes, places: list[int]) -> None:
    ours = names(message)
    for place in places:
        try:
            theirs, size = dns.name.from_wire(message, place)
        except dns.exception.DNSException:
            with pytest.raises(ParseError):
                ours.read(place)
        else:
            assert ours.read(place) == (theirs.to_digestable(), place + size)


def test_a_name_of_many_labels_that_many_point_at_is_read_once() -> None:
    name = b"\1a" * 127 + ROOT
    ours = names(name + pointer(0) * 20_000)
    for position in range(len(name), len(name) + 5000, 2):
        assert ours.read(position) == (name, position + 2)


def test_a_message_has_no_more_labels_than_are_read() -> None:
    name = b"\1a" * 100 + ROOT
    ours = names(name * 200)
    for number in range(MAX_STEPS // 100):
        ours.read(number * len(name))
    with pytest.raises(ParseError, match="labels"):
        ours.read(MAX_STEPS // 100 * len(name))


def test_a_long_ladder_of_pointers_is_climbed_and_one_too_long_is_not() -> None:
    ladder = b"\0\0" + b"".join(pointer(at - 2) for at in range(2, 0x4000, 2))
    assert names(ladder).read(0x3000) == (ROOT, 0x3002)
    ours = names(ladder + ladder)
    assert ours.read(0x3FFE) == (ROOT, 0x4000)
    with pytest.raises(ParseError, match="labels"):
        _ = [ours.read(0x4002 + 2 * at) for at in range(MAX_STEPS)]


@pytest.mark.parametrize("message", [pointer(0), pointer(2) + pointer(0), b"\1a" + pointer(2)])
def test_a_name_without_end_is_none(message: bytes) -> None:
    for at in range(0, len(message), 2):
        with pytest.raises(ParseError, match="points at no earlier one"):
            names(message).read(at)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (".", ROOT),
        ("MX.example", b"\2mx\7example\0"),
        ("a" * 63 + ".b", b"\x3f" + b"a" * 63 + b"\1b\0"),
        ("a." * 126 + "a", b"\1a" * 127 + ROOT),
    ],
)
def test_a_name_in_text_is_put_on_the_wire(text: str, name: bytes) -> None:
    assert parse_dns_name(text) == name


@pytest.mark.parametrize("text", ["", "a.", ".a", "a..b", "a" * 64, "a." * 127 + "a"])
def test_no_name_of_dns_is(text: str) -> None:
    with pytest.raises(ParseError, match=r"RFC 1035 section 2\.3\.4"):
        parse_dns_name(text)


def test_a_name_stands_below_its_ancestors() -> None:
    above = {parse_dns_name(text) for text in ("mx.example.com", "example.com", "com", ".")}
    assert ancestors(parse_dns_name("mx.example.com")) == above
    assert ancestors(ROOT) == {ROOT}


@pytest.mark.parametrize("name", [b"\3a.b\0", b"\2a\xff\0", b"\2a \0", b"\2a\\\0", ROOT])
def test_no_host_name_is(name: bytes) -> None:
    with pytest.raises(ParseError):
        host_name(name)


def test_a_label_with_a_dot_is_not_two() -> None:
    with pytest.raises(ParseError, match="no host name"):
        dotted(b"\3a.b\0")


def test_a_name_is_shown_without_what_a_terminal_would_obey() -> None:
    assert shown(b"\2mx\7example\0") == "mx.example"
    assert shown(b"\4a\x1b[m\1\xff\0") == r"a\x1b[m.\xff"
    assert shown(ROOT) == "."

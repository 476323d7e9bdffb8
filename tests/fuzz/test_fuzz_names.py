"""Names from strangers: read, or refused by ParseError, and never anything else."""

import contextlib
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.names import Form, parse_domain, parse_nexthop

FUZZ = settings(derandomize=True, deadline=None, max_examples=300)
PLAIN = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")

LETTERS = st.sampled_from(
    [*"aZ09_-.", "ß", "é", "\u0301", "\u200d", "\u3002", "\u0661", "\u212a", "☃", "*"]
)
LABELS = st.one_of(
    st.sampled_from(["example", "XN--MNCHEN-3YA", "xn--", "straße", "例え", "a" * 63, "25", ""]),
    st.text(LETTERS, max_size=8),
    st.text(max_size=4),
)
NAMES = st.lists(LABELS, max_size=6).map(".".join)
SPELLINGS = st.builds(
    str.format,
    st.sampled_from(["{}", ".{}", "[{}]", "[{}", "{}]", "{}:", "{}:{}", "[{}]:{}", "[IPv6:{}]"]),
    NAMES | st.ip_addresses().map(str),
    st.sampled_from(["25", "0587", "0", "65536", "smtp", "smtps", "x", "²", "-1"]),
)


@FUZZ
@given(st.one_of(st.binary(max_size=300), SPELLINGS.map(lambda s: s.encode("utf-8", "ignore"))))
@example(b"\xed\xa0\x80")
@example(b"[fe80::1%\n]")
def test_a_key_is_a_next_hop_or_a_parse_error(key: bytes) -> None:
    with contextlib.suppress(ParseError):
        nexthop = parse_nexthop(key)
        assert 0 < nexthop.port < 65536
        if nexthop.looked_up:
            assert PLAIN.fullmatch(nexthop.name)
            assert len(nexthop.name) <= 253
        if nexthop.form is not Form.PARENT or nexthop.name:
            assert parse_nexthop(str(nexthop).encode()) == nexthop


@FUZZ
@given(NAMES | st.text(st.characters(codec=None), max_size=40))
@example("\ud800")
@example("\u00ad" * 254)
def test_a_text_is_a_host_name_in_one_spelling_or_a_parse_error(text: str) -> None:
    with contextlib.suppress(ParseError):
        name = parse_domain(text)
        assert PLAIN.fullmatch(name)
        assert len(name) <= 253
        assert max(map(len, name.split("."))) <= 63
        assert parse_domain(name) == name
        assert parse_domain(name.upper() + ".") == name


@FUZZ
@given(NAMES)
def test_every_spelling_of_a_name_is_the_same_next_hop(text: str) -> None:
    with contextlib.suppress(ParseError):
        name = parse_domain(text)
        assert parse_nexthop(text.encode()) == parse_nexthop(name.encode())
        assert parse_nexthop(f"[{name.upper()}.]:587".encode()).name == name

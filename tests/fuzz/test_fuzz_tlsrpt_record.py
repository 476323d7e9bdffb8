"""TLSRPT records from strangers: read, or refused by ParseError."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.tlsrpt_record import parse_addresses, parse_record

FUZZ = settings(derandomize=True, deadline=None, max_examples=300)

URIS = st.lists(
    st.sampled_from(
        [
            *("mailto:", "MAILTO:", "https://", "http://", "a", "@", "example.com", "%2C", "%40"),
            *(
                "%C3%A9",
                "%FF",
                "%",
                "!",
                "[::1]",
                ":",
                "443",
                "/",
                "?",
                "#",
                " ",
                "é",
                "%00",
                "%5C",
            ),
        ]
    ),
    max_size=8,
).map("".join)
GOOD = st.sampled_from(
    ["mailto:a@example.com", "https://example.com/v1", "mailto:%C3%A9@b.example"]
)
LISTS = st.lists(URIS | GOOD | st.text(max_size=8), max_size=5).map(
    lambda uris: ", ".join(uris).encode("utf-8", "ignore")
)


@FUZZ
@given(st.lists(LISTS.map(b"v=TLSRPTv1; rua=".__add__) | st.binary(max_size=60), max_size=2))
def test_txt_records_are_a_record_or_none_or_a_parse_error(rrset: list[bytes]) -> None:
    with contextlib.suppress(ParseError):
        record = parse_record(rrset)
        for uri in record.rua if record else ():
            assert uri.isascii()
            assert uri.isprintable()
            assert not set(uri) & set(" !,;")
            assert any(uri.encode() in r for r in rrset)
            assert uri.lower().startswith(("mailto:", "https://"))
            assert uri.lower().startswith("https://") or parse_addresses(uri)


@FUZZ
@given(LISTS)
def test_a_good_uri_is_never_lost_to_what_stands_beside_it(others: bytes) -> None:
    good = b"mailto:good@example.com"
    record = parse_record([b"v=TLSRPTv1; rua=" + others.replace(b";", b"") + b" , " + good])
    assert record is not None
    assert record.rua[-1] == good.decode()


@FUZZ
@given(URIS | st.text(max_size=40))
def test_a_uri_names_sound_recipients_or_is_a_parse_error(uri: str) -> None:
    with contextlib.suppress(ParseError):
        for address in parse_addresses(uri):
            assert parse_domain(address.domain) == address.domain
            assert address.local.isprintable()
            assert not set(address.local) & set(' @"\\')
            text = str(address)
            assert text.count('"') in {0, 2}
            assert text.count('"') == 2 or not set(text) & set("(),:;<>[]")

"""The TLSRPT record and the recipients its URIs name."""

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.tlsrpt_record import Address, Record, parse_addresses, parse_record
from tests.core.vectors import Case, parameters, rrset


def rua(published: str) -> tuple[str, ...]:
    """Return the usable URIs of a record whose "rua" is *published*."""
    record = parse_record([f"v=TLSRPTv1; rua={published}".encode()])
    assert record is not None
    return record.rua


def decoded(address: Address) -> str:
    return f"{address.local}@{address.domain}"


@pytest.mark.parametrize("case", parameters("tlsrpt_txt"))
def test_a_record_is_found_as_the_vector_says(case: Case) -> None:
    try:
        record = parse_record(rrset(case))
    except ParseError:
        record = None
    uris = list(record.rua) if record else []
    assert {"found": record is not None, "rua": uris} in case.accepted, case.why
    if "expect_addresses" in case.raw:
        addresses = [decoded(address) for uri in uris for address in parse_addresses(uri)]
        assert addresses == case.raw["expect_addresses"]


def test_a_record_is_told_from_none_and_from_a_broken_one() -> None:
    good = b"v=TLSRPTv1; rua=mailto:a@example.com"
    assert parse_record([good]) == Record(rua=("mailto:a@example.com",))
    assert parse_record([b"v=spf1 -all"]) is None
    with pytest.raises(ParseError, match="no field 'rua'"):
        parse_record([b"v=TLSRPTv1;"])
    with pytest.raises(ParseError, match="rua is empty"):
        parse_record([b"v=TLSRPTv1; rua="])


@pytest.mark.parametrize(
    "uri",
    [
        "mailto:tls-rpt@example.com",
        "MailTo:a%2Bb@m%C3%BCnchen.example?subject=x%20y#z",
        "https://example.com",
        "HTTPS://Example.COM:8443/v1/tls%21?a=b&c=[d]#e",
        "https://example.com:/",
        "https://example.com?x",
        "https://192.0.2.1/",
        "https://[2001:db8::1]:443/",
    ],
)
def test_a_good_uri_is_kept_as_published_and_what_stands_beside_it_is_left_out(uri: str) -> None:
    assert rua(f"nonsense \t,\t {uri} ,,{uri}") == (uri, uri)


@pytest.mark.parametrize(
    "uri",
    [
        "tlsrpt@example.com",
        "http://example.com/",
        "httpsx://example.com/",
        "https:example.com/",
        "https:///path",
        "https://",
        "https://:443/",
        "https://user:password@example.com/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:443443/",
        "https://example.com:smtp/",
        "https://exa%6dple.com/",
        "https://.example.com/",
        "https://2001:db8::1/",
        "https://[example.com]/",
        "https://[abcd]/",
        "https://[192.0.2.1]/",
        "https://[2001:db8::1%25eth0]/",
        "https://example.com/a b",
        "https://example.com/!",
        "https://example.com/%",
        "https://example.com/%zz",
        'https://example.com/"',
        "https://example.com/é",
        "https://example.com/\n",
        "mailto:",
        "mailto:postmaster",
        "mailto:@example.com",
        "mailto:a@",
        "mailto:a@192.0.2.1",
        "mailto:a@[192.0.2.1]",
        "mailto:?to=a@example.com",
        "mailto:a@example.com!10m",
        "mailto:a%20b@example.com",
        "mailto:a%0Ab@example.com",
        "mailto:a%00b@example.com",
        "mailto:%22a%22@example.com",
        "mailto:a%5Cb@example.com",
        "mailto:%FF@example.com",
        "mailto:%ED%A0%80@example.com",
        "mailto:a@b@example.com",
        "mailto:" + "a" * 65 + "@example.com",
        "mailto:a@example.com%2Cb",
    ],
)
def test_a_uri_that_cannot_be_used_is_left_out(uri: str) -> None:
    assert rua(uri) == ()
    assert rua(f"{uri},mailto:good@example.com") == ("mailto:good@example.com",)


@pytest.mark.parametrize(
    ("uri", "addresses"),
    [
        ("mailto:tls-rpt@example.com", ["tls-rpt@example.com"]),
        ("MAILTO:A@Example.COM", ["A@example.com"]),
        ("mailto:a%21b+c%3bd@example.com", ["a!b+c;d@example.com"]),
        ("mailto:a%2Cb@example.com", ["a,b@example.com"]),
        ("mailto:a@example.com%2Cb@example.net", ["a@example.com", "b@example.net"]),
        ("mailto:a%40example.com", ["a@example.com"]),
        ("mailto:%C3%A9@b%C3%BCcher.example", ["é@xn--bcher-kva.example"]),
        ("mailto:a@example.com?cc=b@example.com", ["a@example.com"]),
        ("mailto:a@example.com#b@example.com", ["a@example.com"]),
        ("mailto:" + "a" * 64 + "@example.com", ["a" * 64 + "@example.com"]),
    ],
)
def test_the_recipients_of_a_mailto_uri_are_decoded(uri: str, addresses: list[str]) -> None:
    assert [decoded(address) for address in parse_addresses(uri)] == addresses


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("https://example.com/", "'https://example.com/' is no mailto URI"),
        ("mailto:a b@example.com", "'mailto:a b@example.com' is no mailto URI"),
        ("mailto:%FF@example.com", "is not UTF-8"),
        ("mailto:postmaster", "'postmaster' is no mail address"),
        ("mailto:a@b..c", r"'b\.\.c' is no host name"),
    ],
)
def test_what_names_no_recipient_is_refused_with_the_reason(uri: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_addresses(uri)


@pytest.mark.parametrize(
    ("local", "text"),
    [
        ("a.b+c!d", "a.b+c!d@example.com"),
        ("é", "é@example.com"),
        ("a,b", '"a,b"@example.com'),
        ("a;b", '"a;b"@example.com'),
        (".a", '".a"@example.com'),
        ("a..b", '"a..b"@example.com'),
        ("<a>", '"<a>"@example.com'),
        ("a:b", '"a:b"@example.com'),
    ],
)
def test_a_local_part_stands_in_quotes_where_it_could_be_read_as_more(
    local: str, text: str
) -> None:
    assert str(Address(local=local, domain="example.com")) == text

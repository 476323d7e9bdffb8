"""Destinations of reports: recognised as the same, and taken apart."""

import pytest

from postfix_mtasts.core.report_uri import (
    build_logged,
    build_mailto,
    destinations,
    domain_of,
    is_fit,
    is_mailto,
    port_of,
)
from postfix_mtasts.core.tlsrpt_record import Address, parse_addresses


def test_each_address_and_each_https_uri_is_a_destination_once() -> None:
    rua = (
        "MAILTO:a@Example.com?subject=x",
        "mailto:a@example.com%2Cb%2Bc@example.com",
        "HTTPS://example.com/v1?a=b#part",
        "https://example.com/v1?a=b",
    )
    assert destinations(rua) == (
        "mailto:a@example.com",
        "mailto:b+c@example.com",
        "https://example.com/v1?a=b",
    )


@pytest.mark.parametrize("local", ["a", "a.b+c", "a!b", "a,b", "a%b", "ä", "a;b#?"])
def test_the_uri_of_an_address_is_read_back_as_it(local: str) -> None:
    address = Address(local=local, domain="example.com")
    assert parse_addresses(build_mailto(address)) == (address,)


@pytest.mark.parametrize(
    ("to", "domain"),
    [
        ("mailto:a@example.com", "example.com"),
        ("https://reports.example.com/a@b", "reports.example.com"),
        ("https://Reports.Example.com.:8443/", "reports.example.com"),
        ("https://[2001:db8::1]/", "2001:db8::1"),
    ],
)
def test_the_domain_of_a_destination_is_that_of_its_owner(to: str, domain: str) -> None:
    assert domain_of(to) == domain
    assert is_mailto(to) is (to[0] == "m")


@pytest.mark.parametrize(
    ("to", "port", "fit"),
    [
        ("https://example.com/", 443, True),
        ("https://example.com:/", 443, True),
        ("https://example.com:8443/", 8443, True),
        ("https://example.com:1024/", 1024, True),
        ("https://example.com:1023/", 1023, False),
        ("https://example.com:25/", 25, False),
        ("https://example.com:444/", 444, False),
    ],
)
def test_a_port_is_fit_where_https_may_live(to: str, port: int, fit: bool) -> None:  # noqa: FBT001 - a column
    assert port_of(to) == port
    assert is_fit(port) is fit


@pytest.mark.parametrize(
    ("recipient", "to"),
    [
        ("a@example.com", "mailto:a@example.com"),
        ("A@Example.COM", "mailto:A@example.com"),
        ('"a,b"@example.com', "mailto:a%2Cb@example.com"),
        ("a,b@example.com", "mailto:a%2Cb@example.com"),
        ('"a@example.com', "mailto:%22a@example.com"),
        ("nonsense", "mailto:@nonsense"),
        ("", "mailto:@"),
    ],
)
def test_a_recipient_in_a_log_is_found_again_as_the_destination_it_was(
    recipient: str, to: str
) -> None:
    assert build_logged(recipient) == to

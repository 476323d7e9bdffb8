"""Events: with whom they were, and what others wrote made harmless."""

import pytest

from postfix_mtasts.core.tls_event import (
    MAX_REASON,
    Attribution,
    Outcome,
    ResultType,
    TlsEvent,
    printable,
)


def test_what_others_wrote_becomes_short_printable_ascii() -> None:
    assert printable(b"self-signed certificate") == "self-signed certificate"
    assert printable(b"a\r\nSubject: \x00\x7f\xc3\xbc~ ") == "a??Subject: ????~ "
    assert printable(b"x" * 5000) == "x" * MAX_REASON


def test_result_types_are_spelled_as_the_registry_has_them() -> None:
    assert len(ResultType) == 11
    assert all(kind.value == kind.name.lower().replace("_", "-") for kind in ResultType)


HOSTS = frozenset({"mx.example.com"})


@pytest.mark.parametrize(
    ("attribution", "service", "mx", "hosts", "counts"),
    [
        (Attribution.TLSRPT, "postfix/relay/smtp", "relay.example", HOSTS, True),
        (Attribution.QUERY, "postfix/smtp", "", HOSTS, True),
        (Attribution.RECIPIENT, "postfix/smtp", "mx.example.com", HOSTS, True),
        (Attribution.RECIPIENT, "postfix/smtp", "relay.example", HOSTS, False),
        (Attribution.RECIPIENT, "postfix/smtp", "relay.example", None, True),
        (Attribution.RECIPIENT, "postfix/smtp", "mx.example.com", frozenset(), False),
        (Attribution.RECIPIENT, "postfix/smtp", "", HOSTS, False),
        (Attribution.REQUEST, "postfix/smtp", "relay.example", HOSTS, False),
        (Attribution.RECIPIENT, "postfix/relay/smtp", "mx.example.com", HOSTS, False),
        (Attribution.RECIPIENT, "postfix/relay/smtp", "mx.example.com", None, False),
        (Attribution.RECIPIENT, "relay/smtp", "mx.example.com", HOSTS, True),
    ],
)
def test_a_guessed_domain_is_that_of_a_session_with_one_of_its_hosts(
    attribution: Attribution, service: str, mx: str, hosts: frozenset[str] | None, *, counts: bool
) -> None:
    event = TlsEvent(
        when=0.0,
        domain="example.com",
        outcome=Outcome.SUCCESS,
        mx=mx,
        service=service,
        attribution=attribution,
    )
    assert event.is_with(hosts) is counts

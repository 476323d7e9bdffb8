"""Events: what counts beside datagrams, and what others wrote made harmless."""

import pytest

from postfix_mtasts.core.tls_event import (
    MAX_REASON,
    DatagramFate,
    Outcome,
    ResultType,
    TlsEvent,
    printable,
)


@pytest.mark.parametrize(
    ("outcome", "datagram", "connected", "adds"),
    [
        (Outcome.SUCCESS, DatagramFate.NONE, True, False),
        (Outcome.FAILURE, DatagramFate.SENT, True, False),
        (Outcome.SUCCESS, DatagramFate.LOST, True, True),
        (Outcome.FAILURE, DatagramFate.NONE, False, True),
        (Outcome.PLAINTEXT, DatagramFate.NONE, True, True),
        (Outcome.UNSEEN, DatagramFate.NONE, True, True),
        (Outcome.PLAINTEXT, DatagramFate.SENT, True, False),
    ],
)
def test_only_what_datagrams_never_tell_adds_to_them(
    outcome: Outcome, datagram: DatagramFate, *, connected: bool, adds: bool
) -> None:
    event = TlsEvent(
        when=0, domain="a.example", outcome=outcome, datagram=datagram, connected=connected
    )
    assert event.adds_to_datagrams is adds


def test_what_others_wrote_becomes_short_printable_ascii() -> None:
    assert printable(b"self-signed certificate") == "self-signed certificate"
    assert printable(b"a\r\nSubject: \x00\x7f\xc3\xbc~ ") == "a??Subject: ????~ "
    assert printable(b"x" * 5000) == "x" * MAX_REASON


def test_result_types_are_spelled_as_the_registry_has_them() -> None:
    assert len(ResultType) == 11
    assert all(kind.value == kind.name.lower().replace("_", "-") for kind in ResultType)

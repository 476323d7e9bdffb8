"""Attempts: lines folded into connections."""

from postfix_mtasts.core.attempt import (
    MAX_ATTEMPTS,
    Attempt,
    Process,
    current,
    judge,
    observe,
    settle,
)
from postfix_mtasts.core.postfix_log import (
    HANDSHAKE_FAILURE,
    NOT_IN_STS_POLICY,
    Established,
    HandshakeError,
    Message,
    Note,
    Peer,
    PolicyError,
    SessionKey,
    TlsaUnusable,
    Tlsrpt,
    Unverified,
)
from postfix_mtasts.core.tls_event import Attribution, DatagramFate, Fault, Outcome, ResultType

A = Peer("mx.a.example", "192.0.2.1", 25)
B = Peer("mx.b.example", "192.0.2.2", 25)
EXPIRED = Fault(kind=ResultType.CERTIFICATE_EXPIRED)
UP = Established(A, trusted=True, reused=False)
TOLD = Tlsrpt("d.example", A, EXPIRED)


def after(*messages: Message) -> Process:
    process = Process(when=0)
    for when, message in enumerate(messages):
        observe(process, message, float(when))
    return process


def test_all_lines_of_one_connection_are_one_attempt() -> None:
    (attempt,) = after(SessionKey("c.example"), Unverified(A, EXPIRED), TOLD, UP).attempts
    assert (attempt.established, attempt.trusted, attempt.failed) == (True, True, False)
    assert (attempt.fault, attempt.told, attempt.datagram) == (EXPIRED, EXPIRED, DatagramFate.SENT)
    assert (attempt.nexthop, attempt.attribution) == ("d.example", Attribution.TLSRPT)
    assert attempt.when == 1.0


def test_the_session_cache_names_the_nexthop_of_what_follows() -> None:
    (attempt,) = after(SessionKey("c.example"), UP).attempts
    assert (attempt.nexthop, attempt.attribution) == ("c.example", Attribution.SESSION_CACHE)


def test_another_address_or_a_second_handshake_is_another_attempt() -> None:
    assert len(after(UP, Established(B, trusted=True, reused=False)).attempts) == 2
    assert len(after(UP, UP).attempts) == 2
    assert len(after(HandshakeError(A), UP).attempts) == 2
    assert len(after(TOLD, TOLD).attempts) == 2


def test_the_first_fault_of_a_connection_stays() -> None:
    (attempt,) = after(Unverified(A, EXPIRED), HandshakeError(A)).attempts
    assert (attempt.failed, attempt.fault) == (True, EXPIRED)
    (attempt,) = after(HandshakeError(A)).attempts
    assert attempt.fault == HANDSHAKE_FAILURE


def test_a_report_alone_knows_no_port_until_a_handshake_tells_it() -> None:
    (attempt,) = after(Tlsrpt("d.example", A._replace(port=0), EXPIRED), UP).attempts
    assert attempt.port == 25


def test_a_host_that_policy_forbids_is_an_attempt_once() -> None:
    stop = PolicyError("d.example", "mx.a.example", NOT_IN_STS_POLICY)
    (attempt,) = after(stop, stop, PolicyError("d.example", "mx.a.example", None)).attempts
    assert (attempt.connected, attempt.failed, attempt.ip) == (False, True, "")


def test_a_lost_datagram_is_the_last_that_was_sent() -> None:
    lost = after(TOLD, Tlsrpt("d.example", B, None), Note.DATAGRAM_LOST).attempts
    assert [attempt.datagram for attempt in lost] == [DatagramFate.SENT, DatagramFate.LOST]
    assert after(UP, Note.DATAGRAM_LOST).attempts[0].datagram is DatagramFate.NONE


def test_other_lines_are_no_attempts() -> None:
    process = after(
        Established(A, trusted=True, reused=True), Note.NO_TLSPROXY, Note.UNWANTED, Note.STARTED
    )
    assert (process.attempts, process.no_tlsproxy, process.unwanted) == ([], True, True)


def test_the_current_attempt_is_the_last_if_it_is_open_and_there() -> None:
    assert current(Process(when=0), "") is None
    process = after(UP)
    assert current(process, "") is current(process, A.ip) is process.attempts[0]
    assert current(process, B.ip) is None
    process.attempts[0].closed = True
    assert current(process, "") is None


def judged(*messages: Message) -> tuple[Outcome, Fault | None]:
    (attempt,) = after(*messages).attempts
    return judge(attempt)


def test_an_attempt_is_judged_by_what_the_lines_say() -> None:
    assert judged(UP) == (Outcome.SUCCESS, None)
    assert judged(Unverified(A, EXPIRED), UP) == (Outcome.SUCCESS, EXPIRED)
    assert judged(Unverified(A, EXPIRED)) == (Outcome.SUCCESS, EXPIRED)
    assert judged(HandshakeError(A)) == (Outcome.FAILURE, HANDSHAKE_FAILURE)
    assert judged(Tlsrpt("d.example", A, None)) == (Outcome.SUCCESS, None)
    assert judged(TOLD) == (Outcome.FAILURE, EXPIRED)
    assert judged(UP, TOLD) == (Outcome.SUCCESS, EXPIRED)
    assert judged(TlsaUnusable(A), UP)[0] is Outcome.FAILURE
    unsaid = Attempt(when=0, mx="", ip="", unsaid=Outcome.PLAINTEXT)
    assert judge(unsaid) == (Outcome.PLAINTEXT, None)


def test_attempts_and_addresses_reached_are_bounded() -> None:
    process = after(*[Established(Peer("m", str(n), 25), True, False) for n in range(99)])  # noqa: FBT003 (fields)
    assert len(process.attempts) == MAX_ATTEMPTS
    assert process.attempts[-1].ip == "98"
    for _ in range(3):
        process.attempts += [Attempt(when=0, mx="", ip=f"{len(process.reached)}.{n}") for n in "ab"]
        settle(process)
        assert process.attempts == []
    assert len(process.reached) == MAX_ATTEMPTS
    assert len(set(process.reached)) == MAX_ATTEMPTS

"""What a process of Postfix has said of its sessions since its last delivery.

smtp(8) tells of one session in up to five lines: a verification error, its
TLSRPT report, "established", the reason of a failure with or without the
host's name, the delivery.  `observe` folds the lines on TLS into attempts, one
per connection; which message and domain they belong to is told by what comes
next from the same process, and is the business of `core/sessions.py`.

tlsproxy(8) says the same of the sessions that it holds for smtp(8), so its
lines are folded the same way.
"""

from dataclasses import dataclass, field

from postfix_mtasts.core.postfix_log import (
    ALL_TLSA_UNUSABLE,
    HANDSHAKE_FAILURE,
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

MAX_ATTEMPTS = 50  # of one request; smtp_mx_address_limit is 5 by default


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One connection, as far as it is told of.

    *fault*: what the lines say is wrong; *told*: what Postfix's own report
    says.  *nexthop*: as Postfix names it, "" where no line did.  *queue_id*:
    the message, "" until it is told.  *closed*: its reason has been told.
    *joined*: what tlsproxy(8) said of it is in it.  *unsaid*: how it ended, where only
    the delivery line told of it.
    """

    when: float
    mx: str
    ip: str
    port: int = 0
    connected: bool = True
    established: bool = False
    trusted: bool = False
    failed: bool = False
    fault: Fault | None = None
    told: Fault | None = None
    datagram: DatagramFate = DatagramFate.NONE
    nexthop: str = ""
    attribution: Attribution = Attribution.RECIPIENT
    queue_id: str = ""
    closed: bool = False
    joined: bool = False
    unsaid: Outcome | None = None


@dataclass(slots=True, kw_only=True)
class Process:
    """What is known of a process.

    *when*: of its last line.  *nexthop*: of its next attempts, as the session
    cache named it.  *no_tlsproxy*: its next handshake fails for a local cause.
    *unwanted*: its host offered STARTTLS, which the level none passes over.
    *queue_id*, *request*, *reached*: the message that it delivered last, which delivery
    request that was, and the addresses whose sessions have been told for it.
    """

    when: float
    attempts: list[Attempt] = field(default_factory=list)
    nexthop: str = ""
    no_tlsproxy: bool = False
    unwanted: bool = False
    queue_id: str = ""
    request: str = ""
    reached: list[str] = field(default_factory=list)


def observe(process: Process, message: Message, when: float) -> None:
    """Fold one line on TLS into the attempts of *process*; others change nothing."""
    match message:
        case Established(reused=False):  # first, for most are
            attempt = _handshake(process, message.peer, when)
            attempt.established, attempt.trusted = True, message.trusted
        case Unverified() | HandshakeError() | TlsaUnusable():
            _find_fault(_handshake(process, message.peer, when), message)
        case Tlsrpt():
            _report(process, message, when)
        case PolicyError():
            _stop(process, message, when)
        case SessionKey():
            process.nexthop = message.nexthop
        case Note.NO_TLSPROXY:
            process.no_tlsproxy = True
        case Note.UNWANTED:
            process.unwanted = True
        case Note.DATAGRAM_LOST:
            _lose_datagram(process)
        case _:
            pass


def add(process: Process, attempt: Attempt) -> Attempt:
    """Append *attempt*, at the cost of the oldest where there are too many."""
    process.attempts.append(attempt)
    if len(process.attempts) > MAX_ATTEMPTS:
        del process.attempts[0]
    return attempt


def current(process: Process, ip: str) -> Attempt | None:
    """Return the attempt that *process* is at, if it is at *ip* ("" for any).

    tlsproxy(8) is at several at once.
    """
    for attempt in reversed(process.attempts):
        if ip in {"", attempt.ip}:
            return attempt if attempt.connected and not attempt.closed else None
    return None


def settle(process: Process) -> None:
    """Note where the attempts of *process*, which have been told, had got to."""
    for attempt in process.attempts:
        if attempt.ip not in process.reached:
            process.reached.append(attempt.ip)
    del process.reached[:-MAX_ATTEMPTS]
    process.attempts = []


def judge(attempt: Attempt) -> tuple[Outcome, Fault | None]:
    """Return how *attempt* ended and what was wrong.

    A verification error alone is no failure: below the levels that need a
    matching certificate Postfix logs it, if asked to, and sends the mail.  Its
    own report is believed where there is nothing else, and where no TLSA record
    can be used, because then the policy was not met whatever became of the mail.
    """
    if attempt.unsaid is not None:
        return attempt.unsaid, None
    fault = attempt.fault or attempt.told
    unmet = fault is not None and fault.kind is ResultType.TLSA_INVALID
    only_told = attempt.told is not None and attempt.fault is None and not attempt.established
    failed = attempt.failed or unmet or only_told
    return Outcome.FAILURE if failed else Outcome.SUCCESS, fault


def _find_fault(attempt: Attempt, message: Unverified | HandshakeError | TlsaUnusable) -> None:
    """Note what *message* says was wrong with the handshake of *attempt*."""
    match message:
        case Unverified():
            attempt.fault = attempt.fault or message.fault
        case HandshakeError():
            attempt.failed, attempt.fault = True, attempt.fault or HANDSHAKE_FAILURE
        case _:  # TlsaUnusable
            attempt.fault = ALL_TLSA_UNUSABLE


def _handshake(process: Process, peer: Peer, when: float) -> Attempt:
    """Return the attempt at *peer* whose handshake is not over, a new one if need be."""
    attempt = current(process, peer.ip)
    if attempt is None or attempt.established or attempt.failed:
        return _begin(process, peer, when)
    attempt.port = peer.port
    return attempt


def _begin(process: Process, peer: Peer, when: float) -> Attempt:
    attempt = Attempt(when=when, mx=peer.mx, ip=peer.ip, port=peer.port)
    if process.nexthop:
        attempt.nexthop, attempt.attribution = process.nexthop, Attribution.SESSION_CACHE
    return add(process, attempt)


def _report(process: Process, line: Tlsrpt, when: float) -> None:
    """Note Postfix's own report; there is at most one for a connection."""
    attempt = current(process, line.peer.ip)
    if attempt is None or attempt.datagram is not DatagramFate.NONE:
        attempt = _begin(process, line.peer, when)
    attempt.told, attempt.datagram = line.fault, DatagramFate.SENT
    attempt.established = attempt.established or line.fault is None
    attempt.nexthop, attempt.attribution = line.domain, Attribution.TLSRPT


def _stop(process: Process, line: PolicyError, when: float) -> None:
    """Note that policy forbade a host; it is told again for each of its addresses."""
    told = [a for a in process.attempts if a.mx == line.mx and a.fault == line.fault]
    if line.fault is None or told:
        return
    attempt = Attempt(when=when, mx=line.mx, ip="", connected=False, failed=True, fault=line.fault)
    attempt.nexthop, attempt.attribution = line.nexthop, Attribution.POLICY_LOOKUP
    attempt.closed = True
    add(process, attempt)


def _lose_datagram(process: Process) -> None:
    sent = [a for a in process.attempts if a.datagram is DatagramFate.SENT]
    if sent:
        sent[-1].datagram = DatagramFate.LOST

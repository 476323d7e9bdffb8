"""What one line of Postfix says of TLS: the message grammar of 3.4 to 3.12.

Read are the lines of smtp(8), lmtp(8) and tlsproxy(8) that bear on a TLS session, the
delivery lines, and the few of qmgr(8) and master(8) that end or own a message
or a process.  Anything else is `None`; nothing raises.

Texts are hostile: a server's reply, a recipient, a host name in DNS may spell
whatever they like, so every pattern is anchored at the start of the text, a
quoted local part is read as one, and a reason is only believed where Postfix
itself puts it: at the start of what a line gives as its reason.  Lines may be
cut anywhere behind "status=".

The labels of a session (Trusted, Untrusted ...) mean different things in
different versions (3.6 to 3.9 call a mere name mismatch Untrusted), so the
result type comes from the verification error and not from the label.

The values are plain tuples and not data classes, since there are 100,000 a
second of them, and those take a third of the time to make.  A host is told of at least
twice for each message, so what its name and address mean is remembered.

BUGS: Postfix 3.4 logs recipients unquoted, and a quoted one with ">" in it can
then pretend to be another.
"""

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from postfix_mtasts.core.tls_event import Fault, ResultType, printable

NO_DANE_MATCH = "no matching DANE TLSA records"  # of OpenSSL, "num=65:"
HANDSHAKE_FAILURE = Fault(kind=ResultType.VALIDATION_FAILURE, reason="tls-handshake-failure")
NO_STARTTLS = Fault(kind=ResultType.STARTTLS_NOT_SUPPORTED)
ALL_TLSA_UNUSABLE = Fault(kind=ResultType.TLSA_INVALID, reason="all-TLSA-records-unusable")
NOT_IN_STS_POLICY = Fault(
    kind=ResultType.VALIDATION_FAILURE, reason="MX host does not match the MTA-STS policy"
)


class Peer(NamedTuple):
    """The other side: *mx* lower case, as DNS or the operator spelled it; *port* 0 if untold."""

    mx: str
    ip: str
    port: int = 0


class Established(NamedTuple):
    """A TLS session stands; *reused*: on an old connection, without a handshake."""

    peer: Peer
    trusted: bool  # the chain; in 3.6 to 3.9 the name as well
    reused: bool


class Unverified(NamedTuple):
    """The certificate did not pass."""

    peer: Peer
    fault: Fault


class HandshakeError(NamedTuple):
    """The handshake broke off; tlsproxy(8) does not name the host."""

    peer: Peer


class ResumedUntrusted(NamedTuple):
    """A session was resumed whose certificate had not passed: details are earlier in the log."""

    peer: Peer


class TlsaUnusable(NamedTuple):
    """The host has TLSA records and OpenSSL can use none."""

    peer: Peer


class PolicyError(NamedTuple):
    """A host was left out for its TLS policy; *fault* is `None` where the cause is local."""

    nexthop: str
    mx: str
    fault: Fault | None


class SessionKey(NamedTuple):
    """The TLS session cache was asked; the key has the next-hop in it."""

    nexthop: str


class Tlsrpt(NamedTuple):
    """Postfix made a TLSRPT datagram (3.10 and later); *fault* is `None` for a success."""

    domain: str
    peer: Peer
    fault: Fault | None


class Note(Enum):
    """Lines that say one thing only."""

    DATAGRAM_LOST = "the last TLSRPT datagram of this process was not sent"
    NO_TLSPROXY = "tlsproxy(8) could not be reached: a local fault"
    UNWANTED = "the host offered STARTTLS and the level is none"
    STARTED = "Postfix was started: no process of before is left"


class Verdict(Enum):
    """What the reason of a delivery or of a skipped host says of TLS."""

    NOT_VERIFIED = "Server certificate not verified"
    NOT_TRUSTED = "Server certificate not trusted"
    HANDSHAKE = "Cannot start TLS: handshake failure"
    STARTTLS = "not offered or refused"
    OTHER = "nothing"


class Skipped(NamedTuple):
    """A host was given up for the next one; *peer* where the reason names it."""

    queue_id: str
    verdict: Verdict
    peer: Peer | None


class TlsUse(Enum):
    """What ``tls=`` of a delivery line says (3.11 and later)."""

    UNTOLD = "no such field"
    USED = "TLS as wanted"
    PLAIN = "TLS was wanted and not had"
    OTHER = "not wanted, not decided, or not as wanted"


class Status(Enum):
    """What ``status=`` of a delivery line says."""

    SENT = "sent"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    OTHER = "a probe, or a bounce that soft_bounce held back"


class Delivery(NamedTuple):
    """The end of a recipient's delivery attempt.

    *recipient*: as logged, without angle brackets; *original*: as it was before
    aliases, "" where it was the same.  *request*: how long the message was on its way
    to this process, the same text for all recipients of one delivery request and
    another one for each.  *relay*: `None` unless it is a host with an address.
    *reused*: an old connection.  *spoke*: the server took part in the SMTP dialogue
    beyond EHLO.
    """

    queue_id: str
    recipient: str
    original: str
    request: str
    relay: Peer | None
    reused: bool
    tls: TlsUse
    status: Status
    spoke: bool
    verdict: Verdict
    peer: Peer | None  # whom the verdict names

    @property
    def domain(self) -> str:
        """Of the recipient, as written, "" without one."""
        _local, at, domain = self.recipient.rpartition("@")
        return domain if at else ""


class Sender(NamedTuple):
    """A message became active, or *expired*; *sender* is its envelope sender."""

    queue_id: str
    sender: str
    expired: bool


class Removed(NamedTuple):
    """A message left the queue."""

    queue_id: str


class ProcessEnded(NamedTuple):
    """A process died in the middle of its work."""

    pid: int


Message: TypeAlias = (
    Established
    | Unverified
    | HandshakeError
    | ResumedUntrusted
    | TlsaUnusable
    | PolicyError
    | SessionKey
    | Tlsrpt
    | Note
    | Skipped
    | Delivery
    | Sender
    | Removed
    | ProcessEnded
)

_MAX_PEERS: Final = 16384  # remembered; 6 MiB

_NA0 = rb"([^\s\[\]]*\[[^\s\[\]/]+\])"
_NA = rb"([^\s\[\]]*\[[^\s\[\]/]+\]:[0-9]{1,5})"
_ID = rb"([0-9A-F]{6,32}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,32})"
_ADDRESS = rb'<((?>"(?:[^"\\]|\\.)*"@[^>]*|[^>]*))>'

_ESTABLISHED = re.compile(
    rb"(Anonymous|Untrusted|Trusted|Verified) TLS connection (established|reused) to " + _NA
)
_UNVERIFIED = re.compile(
    rb"(?:server |(CA ))?certificate verification failed for " + _NA + rb": (.*)", re.DOTALL
)
_HANDSHAKE = re.compile(rb"SSL_connect error to " + _NA + rb":")
_PROXY_HANDSHAKE = re.compile(rb"TLS handshake failed for service=\S* peer=" + _NA)
_RESUMED = re.compile(_NA + rb": re-using session with untrusted ")
_KEY = re.compile(rb"looking for session [^&\s]*&([^&\s]+)&")
_TLSRPT = re.compile(
    rb"TLSRPT: status=(success|failure), domain=([^,\s]+), receiving_mx=" + _NA0 + rb"(?:, "
    rb"failure_type=([a-z_]+)(?:, failure_reason=(.*))?)?",
    re.DOTALL,
)
_UNUSABLE = re.compile(rb"warning: " + _NA + rb": all TLSA records unusable")
_POLICY = re.compile(rb"warning: TLS policy lookup (?:error )?for (\S+)/([^\s/]+): (.*)", re.DOTALL)
_PATTERN = re.compile(
    rb"warning: MX name '([^'\s]*)' does not match STS MX pattern for '([^'\s]*)'"
)
_LOST = b"warning: Could not report TLS handshake result to tlsrpt library"
_NO_PROXY = re.compile(rb"warning: [^:]{0,60}tlsproxy service")
_QUEUED = re.compile(_ID + rb": ")
_DELIVERY = re.compile(
    _ID + rb": to=" + _ADDRESS + rb", (?:orig_to=" + _ADDRESS + rb", )?"
    rb"relay=(?:" + _NA + rb"|[^,]*), (?:conn_use=([0-9]+), )?delay=[0-9.]+, "
    rb"delays=([0-9.]*/?[0-9.]*)[0-9./]*, "
    rb"(?:tls=([^,\s]*), )?dsn=[0-9.]+, status=([A-Za-z]+)(?: \((.*))?",
    re.DOTALL,
)
_STARTTLS = re.compile(
    rb"(?:TLS is required, but was|Sender requested REQUIRETLS, but TLS service was)"
    rb" not offered by host " + _NA0
)
_REFUSED = re.compile(
    rb"(?:TLS is required|Sender requested REQUIRETLS), but host "
    + _NA0
    + rb" refused to start TLS"
)
_CERTIFICATE = re.compile(
    rb"Server certificate not (trusted|verified)"
    rb"|Sender requested REQUIRETLS, but no (trusted|matching) server certificate was found"
)
_DIALOGUE = re.compile(
    rb"\(in reply to (?:MAIL FROM|RCPT TO|DATA|end of DATA) command\)\)?\Z", re.DOTALL
)
_SENDER = re.compile(_ID + rb": from=" + _ADDRESS + rb", (status=(?:force-)?expired)?")
_REMOVED = re.compile(_ID + rb": removed\Z")
_ENDED = re.compile(rb"warning: process \S+ pid ([0-9]{1,10}) (?:exit|killed)")

_POLICY_FAULTS = (
    (b"TLSA lookup error", ResultType.DNSSEC_INVALID),
    (b"non DNSSEC destination", ResultType.DANE_REQUIRED),
    (b"no TLSA records found", ResultType.DANE_REQUIRED),
    (b"TLSA records unusable", ResultType.TLSA_INVALID),
)
_VERIFY_FAULTS = (
    (b"not trusted by local or TLSA policy", ResultType.CERTIFICATE_NOT_TRUSTED),
    (b"self-signed certificate", ResultType.CERTIFICATE_NOT_TRUSTED),
    (b"untrusted issuer", ResultType.CERTIFICATE_NOT_TRUSTED),
    (b"certificate has expired", ResultType.CERTIFICATE_EXPIRED),
    (b"num=62:", ResultType.CERTIFICATE_HOST_MISMATCH),
    (b"num=65:", ResultType.CERTIFICATE_NOT_TRUSTED),
)
_STATUS = {status.value.encode(): status for status in Status}
_EXTERNAL = re.compile(rb"external policy failure \(([a-z-]+)\)")
_NUMBERED = re.compile(rb"num=[0-9]+:")
_TYPES = {kind.value: kind for kind in ResultType}


def parse_message(program: str, text: bytes) -> Message | None:
    """Return what *text*, said by *program*, means; `None` where it means nothing here."""
    return _PROGRAMS[program](text)


def _parse_client(text: bytes) -> Message | None:
    """Return what smtp(8), lmtp(8) or tlsproxy(8) said: each text is known by its first word."""
    parse = _FIRST_WORDS.get(text[: text.find(b" ")])
    if parse is not None:
        return parse(text)
    delivery = _parse_delivery(text)
    if delivery is not None:
        return delivery
    if _QUEUED.match(text):
        return _parse_skipped(text)
    resumed = _RESUMED.match(text)
    return ResumedUntrusted(peer=_peer(resumed[1])) if resumed else None


def _parse_queue(text: bytes) -> Message | None:
    removed = _REMOVED.match(text)
    if removed:
        return Removed(removed[1].decode("ascii"))
    sender = _SENDER.match(text)
    if sender is None:
        return None
    queue_id, address, expired = sender.groups()
    return Sender(
        queue_id=queue_id.decode("ascii"),
        sender=address.decode("utf-8", "replace"),
        expired=expired is not None,
    )


def _parse_master(text: bytes) -> Message | None:
    if text.startswith(b"daemon started"):
        return Note.STARTED
    ended = _ENDED.match(text)
    return ProcessEnded(pid=int(ended.group(1))) if ended else None


def _parse_established(text: bytes) -> Message | None:
    found = _ESTABLISHED.match(text)
    if found is None:
        return None
    label, how, peer = found.groups()
    return Established(_peer(peer), label in {b"Trusted", b"Verified"}, how == b"reused")


def _parse_unverified(text: bytes) -> Message | None:
    found = _UNVERIFIED.match(text)
    if found is None:
        return None
    whose, peer, why = found.groups()
    return Unverified(peer=_peer(peer), fault=_certificate_fault(whose or b"", why))


def _certificate_fault(whose: bytes, why: bytes) -> Fault:
    """Return the result type of a verification error; others' words are the reason."""
    external = _EXTERNAL.match(why)
    if external:
        kind = _TYPES.get(external.group(1).decode("ascii"), ResultType.VALIDATION_FAILURE)
        return Fault(kind=kind)
    kinds = (kind for start, kind in _VERIFY_FAULTS if why.startswith(start))
    reason = printable(whose + _NUMBERED.sub(b"", why, count=1))
    return Fault(kind=next(kinds, ResultType.VALIDATION_FAILURE), reason=reason)


def _parse_handshake(text: bytes) -> Message | None:
    found = _HANDSHAKE.match(text) or _PROXY_HANDSHAKE.match(text)
    return HandshakeError(peer=_peer(found[1])) if found else None


def _parse_tlsrpt(text: bytes) -> Message | None:
    found = _TLSRPT.match(text)
    if found is None:
        return None
    status, domain, peer, kind, reason = found.groups()
    fault = None
    if status == b"failure":
        name = (kind or b"").decode("ascii").replace("_", "-")
        known = _TYPES.get(name, ResultType.VALIDATION_FAILURE)
        fault = Fault(kind=known, reason=printable(reason or b""))
    return Tlsrpt(domain=domain.decode("utf-8", "replace"), peer=_peer(peer), fault=fault)


def _parse_key(text: bytes) -> Message | None:
    found = _KEY.match(text)
    return SessionKey(nexthop=found.group(1).decode("utf-8", "replace")) if found else None


def _parse_offer(text: bytes) -> Message | None:
    return Note.UNWANTED if text.startswith(b"Host offered STARTTLS: [") else None


def _parse_warning(text: bytes) -> Message | None:
    policy = _POLICY.match(text)
    if policy:
        nexthop, mx, why = policy.groups()
        return _policy_error(nexthop, mx, _policy_fault(why))
    pattern = _PATTERN.match(text)
    if pattern:
        mx, domain = pattern.groups()
        return _policy_error(domain, mx, NOT_IN_STS_POLICY)
    unusable = _UNUSABLE.match(text)
    if unusable:
        return TlsaUnusable(peer=_peer(unusable[1]))
    if text.startswith(_LOST):
        return Note.DATAGRAM_LOST
    return Note.NO_TLSPROXY if _NO_PROXY.match(text) else None


def _policy_error(nexthop: bytes, mx: bytes, fault: Fault | None) -> PolicyError:
    name = mx.decode("utf-8", "replace").lower()
    return PolicyError(nexthop=nexthop.decode("utf-8", "replace"), mx=name, fault=fault)


def _policy_fault(why: bytes) -> Fault | None:
    kinds = [kind for start, kind in _POLICY_FAULTS if why.startswith(start)]
    return Fault(kind=kinds[0], reason=printable(why)) if kinds else None


def _parse_delivery(text: bytes) -> Delivery | None:
    found = _DELIVERY.match(text)
    if found is None:
        return None
    groups = found.groups(b"")
    queue_id, recipient, original, relay, use, request, tls, status, reason = groups
    went = status in {b"sent", b"deliverable"}
    verdict, peer = (Verdict.OTHER, None) if went else _parse_verdict(reason)
    return Delivery(
        queue_id=queue_id.decode("ascii"),
        recipient=recipient.decode("utf-8", "replace"),
        original=original.decode("utf-8", "replace"),
        request=request.decode("ascii"),
        relay=_peer(relay) if relay else None,
        reused=use != b"",
        tls=_parse_use(tls),
        status=_STATUS.get(status, Status.OTHER),
        spoke=went or _DIALOGUE.search(reason) is not None,
        verdict=verdict,
        peer=peer,
    )


def _parse_skipped(text: bytes) -> Skipped:
    queue_id, _, reason = text.partition(b": ")
    verdict, peer = _parse_verdict(reason)
    return Skipped(queue_id=queue_id.decode("ascii"), verdict=verdict, peer=peer)


def _parse_verdict(reason: bytes) -> tuple[Verdict, Peer | None]:
    if reason[:1] not in b"CST":  # so begin those below, and no reply of a server
        return Verdict.OTHER, None
    starttls = _STARTTLS.match(reason) or _REFUSED.match(reason)
    if starttls:
        return Verdict.STARTTLS, _peer(starttls[1])
    certificate = _CERTIFICATE.match(reason)
    if certificate:
        trusted = b"trusted" in certificate.groups()
        return Verdict.NOT_TRUSTED if trusted else Verdict.NOT_VERIFIED, None
    handshake = reason.startswith(b"Cannot start TLS: handshake failure")
    return Verdict.HANDSHAKE if handshake else Verdict.OTHER, None


def _parse_use(tls: bytes) -> TlsUse:
    if not tls:
        return TlsUse.UNTOLD
    level = tls.partition(b"/")[0]
    if level.endswith(b":none"):
        return TlsUse.PLAIN
    settled = level != b"none" and not level.startswith(b"!") and not level.endswith(b"?")
    return TlsUse.USED if settled else TlsUse.OTHER


@lru_cache(maxsize=_MAX_PEERS)
def _peer(name: bytes) -> Peer:
    """Return the peer that Postfix calls *name*, "host[address]" or "host[address]:port"."""
    mx, _, rest = name.lower().decode("utf-8", "replace").partition("[")
    ip, _, port = rest.partition("]")
    return Peer(mx, ip, int(port[1:] or 0))


_Parse: TypeAlias = Callable[[bytes], Message | None]

_FIRST_WORDS: dict[bytes, _Parse] = {
    b"Anonymous": _parse_established,
    b"Untrusted": _parse_established,
    b"Trusted": _parse_established,
    b"Verified": _parse_established,
    b"server": _parse_unverified,
    b"CA": _parse_unverified,
    b"certificate": _parse_unverified,
    b"SSL_connect": _parse_handshake,
    b"TLS": _parse_handshake,
    b"TLSRPT:": _parse_tlsrpt,
    b"looking": _parse_key,
    b"Host": _parse_offer,
    b"warning:": _parse_warning,
}
_PROGRAMS: dict[str, _Parse] = {
    "smtp": _parse_client,
    "lmtp": _parse_client,
    "tlsproxy": _parse_client,
    "qmgr": _parse_queue,
    "master": _parse_master,
}

"""From the lines of a mail log to TLS sessions, each with its policy domain.

No line on a TLS session names the message, and only some name the next-hop.
But smtp(8) handles one delivery request at a time: what a process says of TLS
belongs to the message of which it speaks next.  So there is one state machine
for each logging host, syslog tag and process id:

1. lines on TLS are folded into attempts (`core/attempt.py`);
2. ``QUEUEID: reason``, a host given up for the next, closes the attempt that
   the process is at, and fails it where the reason is one of TLS;
3. ``QUEUEID: to=<...>`` does so too, and tells every attempt of the request: as
   `TlsEvent`s.  The same message's further recipients add nothing, unless
   there were lines on TLS again: then another host was tried for them.

The policy domain is the next-hop, which is known, the surest way first, from
Postfix's TLSRPT line; from a policy that stopped it; from a TLS session cache
key; from what the same process asked the policy daemon; from what the
operator routes; else it is the domain of the recipient.  Next-hops in
brackets, with a port or which are addresses have no policy and no events, and
neither has a guess where the port is not that of MX hosts.

With connection reuse tlsproxy(8) makes the handshakes and logs them; smtp(8)
logs those that stood again.  The twin is not counted: it is kept for
`TWIN` seconds, to add what it alone says to what smtp(8) says of that address.

BUGS: Below smtp_tls_loglevel 1 and without TLSRPT or ``tls=`` sessions that
went well cannot be seen.  Where a recipient's domain is the only clue, mail
that went to a fallback relay is taken for a session with the domain's own
hosts.  The certificate fault of a resumed session is that of the last one seen
at that address, whatever the next-hop was.  A request cut in two by
smtp_destination_recipient_limit, sent by one process in the clear, is one.
"""

import ipaddress
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, TypeAlias

from postfix_mtasts.core.attempt import Attempt, Process, add, current, judge, observe
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.log_line import LogLine
from postfix_mtasts.core.names import SMTP_PORT, Form, parse_domain, parse_nexthop
from postfix_mtasts.core.postfix_log import (
    HANDSHAKE_FAILURE,
    NO_STARTTLS,
    Delivery,
    Message,
    Note,
    Peer,
    ProcessEnded,
    Removed,
    ResumedUntrusted,
    Sender,
    Skipped,
    TlsUse,
    Unverified,
    Verdict,
    parse_message,
)
from postfix_mtasts.core.postfix_log import Established as EstablishedLine
from postfix_mtasts.core.session_state import (
    MAX_FAULTS,
    MAX_OWN,
    State,
    process_of,
    remember,
)
from postfix_mtasts.core.tls_event import (
    Attribution,
    Datagram,
    Fault,
    Outcome,
    ResultType,
    TlsEvent,
)

TWIN = 10.0  # seconds between what tlsproxy(8) and smtp(8) say of one handshake
SAME_REQUEST = 300.0  # seconds; the soonest that a message is tried again by default
_LMTP_PORT: Final = 24
_RESUMED = Fault(kind=ResultType.CERTIFICATE_NOT_TRUSTED, reason="resumed untrusted session")
_MISMATCH = Fault(kind=ResultType.CERTIFICATE_HOST_MISMATCH)
_UNTRUSTED = Fault(kind=ResultType.CERTIFICATE_NOT_TRUSTED)
_UNSAID = MappingProxyType(
    {
        TlsUse.UNTOLD: Outcome.UNSEEN,
        TlsUse.USED: Outcome.SUCCESS,
        TlsUse.PLAIN: Outcome.PLAINTEXT,
    }
)

Asked: TypeAlias = Callable[[str, int, float], str]
"""Logging host, process id, time: the next-hop that the process had asked for last, or ""."""


def nobody_asked(_host: str, _pid: int, _when: float) -> str:
    """Return "": it is not known who asked the policy daemon for what."""
    return ""


class SessionTracker:
    """Joins the lines of logs into sessions.

    *state* is its whole memory, to be saved with `build_state`.
    *own_senders*: envelope senders of our own reports.
    *asked*: what the policy daemon knows of its clients.
    *routed*: policy domain of a recipient domain whose mail goes elsewhere, ""
    where that has none.
    """

    def __init__(
        self,
        *,
        state: State | None = None,
        own_senders: Collection[str] = (),
        asked: Asked = nobody_asked,
        routed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.state = State() if state is None else state
        self._own_senders = frozenset(sender.lower() for sender in own_senders)
        self._asked = asked
        self._routed = routed

    def feed(self, line: LogLine) -> tuple[TlsEvent, ...]:
        """Return the sessions of which *line* was the last that had to be known."""
        message = parse_message(line.program, line.text)
        if message is None:
            return ()
        if line.program in {"smtp", "lmtp"}:
            return self._hear_client(line, message)
        if line.program == "tlsproxy":
            self._hear_proxy(line, message)
        else:
            self._hear_manager(line, message)
        return ()

    def _hear_client(self, line: LogLine, message: Message) -> tuple[TlsEvent, ...]:
        process = process_of(self.state.clients, (line.host, line.tag, line.pid), line.when)
        if isinstance(message, Delivery):
            return self._deliver(line, process, message)
        if isinstance(message, Skipped):
            events = self._turn_to(line, process, message.queue_id)
            self._conclude(line, process, message, message.peer)
            return events
        observe(process, self._recall(line, message), line.when)
        if isinstance(message, EstablishedLine) and not message.reused and self.state.proxies:
            self._join_twin(line, process.attempts[-1])
        return ()

    def _hear_proxy(self, line: LogLine, message: Message) -> None:
        process = process_of(self.state.proxies, (line.host, line.tag, line.pid), line.when)
        fresh = [a for a in process.attempts if _near(a.when, line.when)]
        process.attempts[:] = fresh
        observe(process, self._recall(line, message), line.when)

    def _hear_manager(self, line: LogLine, message: Message) -> None:
        instance = line.tag.rpartition("/")[0] + "/"
        if isinstance(message, Sender) and message.sender.lower() in self._own_senders:
            remember(self.state.own, (line.host, message.queue_id), True, MAX_OWN)  # noqa: FBT003 (a set)
        elif isinstance(message, Sender | Removed):
            self.state.own.pop((line.host, message.queue_id), None)
        elif isinstance(message, ProcessEnded):
            self._drop(line.host, instance, message.pid)
        elif message is Note.STARTED:
            self._drop(line.host, instance, None)

    def _drop(self, host: str, instance: str, pid: int | None) -> None:
        """Forget process *pid* of a Postfix instance, all of them where it is `None`."""
        for table in (self.state.clients, self.state.proxies):
            for key in list(table):
                if key[0] == host and key[1].startswith(instance) and pid in {None, key[2]}:
                    del table[key]

    def _recall(self, line: LogLine, message: Message) -> Message:
        """Return *message* with the fault to which it points back, and keep its own."""
        if isinstance(message, ResumedUntrusted):
            fault = self.state.faults.get((line.host, message.peer.ip), _RESUMED)
            return Unverified(peer=message.peer, fault=fault)
        if isinstance(message, Unverified):
            remember(self.state.faults, (line.host, message.peer.ip), message.fault, MAX_FAULTS)
        return message

    def _join_twin(self, line: LogLine, attempt: Attempt) -> None:
        twin = self._take_twin(line, attempt.ip, failed=False)
        if twin is not None:
            attempt.fault = attempt.fault or twin.fault
            if twin.datagram is not Datagram.NONE:
                attempt.told, attempt.datagram = twin.told, twin.datagram
                attempt.nexthop, attempt.attribution = twin.nexthop, twin.attribution

    def _take_twin(self, line: LogLine, ip: str, *, failed: bool) -> Attempt | None:
        """Remove and return the oldest attempt of tlsproxy(8) at *ip* ("" for any)."""
        for key, process in self.state.proxies.items():
            if key[0] != line.host:
                continue
            for twin in process.attempts:
                broken = judge(twin)[0] is Outcome.FAILURE and not twin.established
                if broken is failed and ip in {"", twin.ip} and _near(twin.when, line.when):
                    process.attempts.remove(twin)
                    return twin
        return None

    def _turn_to(self, line: LogLine, process: Process, queue_id: str) -> tuple[TlsEvent, ...]:
        """Bind the attempts of *process* to *queue_id*.

        What is left of another message, whose delivery line was lost, is told
        where its domain is known without.
        """
        left = [a for a in process.attempts if a.queue_id not in {"", queue_id}]
        events = self._tell(line, left, "") if left else ()
        process.attempts = [a for a in process.attempts if a.queue_id in {"", queue_id}]
        for attempt in process.attempts:
            attempt.queue_id = queue_id
        return events

    def _deliver(self, line: LogLine, process: Process, message: Delivery) -> tuple[TlsEvent, ...]:
        events = self._turn_to(line, process, message.queue_id)
        self._conclude(line, process, message, message.peer or message.relay)
        domain = self._recipient_domain(message.domain)
        events += self._tell(line, process.attempts, domain)
        events += self._tell_unsaid(line, process, message, domain)
        reached = [a.ip for a in process.attempts]
        if message.relay is not None:
            reached.append(message.relay.ip)
        if not _same_request(process, message.queue_id, line.when):
            process.reached = []
        process.reached += [ip for ip in dict.fromkeys(reached) if ip not in process.reached]
        process.queue_id, process.delivered = message.queue_id, line.when
        process.attempts, process.nexthop, process.unwanted = [], "", False
        return events

    def _conclude(
        self, line: LogLine, process: Process, message: Delivery | Skipped, peer: Peer | None
    ) -> None:
        """Close the attempt that *process* is at with the reason that *message* gives."""
        attempt = current(process, peer.ip if peer else "")
        if attempt is None and message.verdict is not Verdict.OTHER:
            attempt = self._missed(line, process, message, peer)
        if attempt is not None and message.verdict is not Verdict.OTHER:
            attempt.failed = True
            attempt.fault = attempt.fault or self._unsaid_fault(line, attempt, message.verdict)
        for each in process.attempts:
            each.queue_id = message.queue_id
            each.closed = True
        process.no_tlsproxy = False

    def _missed(
        self, line: LogLine, process: Process, message: Delivery | Skipped, peer: Peer | None
    ) -> Attempt | None:
        """Return the attempt of which only the reason tells, `None` where it has been told."""
        ip = peer.ip if peer else ""
        again = _same_request(process, message.queue_id, line.when) and ip in process.reached
        if again or (message.verdict is Verdict.HANDSHAKE and process.no_tlsproxy):
            return None
        if message.verdict is Verdict.HANDSHAKE:
            twin = self._take_twin(line, ip, failed=True)
            if twin is not None:
                twin.mx = twin.mx or (peer.mx if peer else "")
                add(process, twin)
            return twin
        mx = peer.mx if peer else ""
        return add(process, Attempt(when=line.when, mx=mx, ip=ip, port=peer.port if peer else 0))

    def _unsaid_fault(self, line: LogLine, attempt: Attempt, verdict: Verdict) -> Fault:
        """Return what was wrong where no line said it before the reason.

        3.4 and 3.5 log no error for a mere name mismatch, only that the chain
        was trusted; a resumed session logs none at all.
        """
        if verdict is Verdict.STARTTLS:
            return NO_STARTTLS
        if verdict is Verdict.HANDSHAKE:
            return attempt.told or HANDSHAKE_FAILURE
        if verdict is Verdict.NOT_TRUSTED:
            return _UNTRUSTED
        if attempt.trusted:
            return _MISMATCH
        earlier = self.state.faults.get((line.host, attempt.ip)) or attempt.told
        return earlier or (_UNTRUSTED if attempt.established else _MISMATCH)

    def _tell(self, line: LogLine, attempts: list[Attempt], recipient: str) -> tuple[TlsEvent, ...]:
        named = next((a for a in attempts if a.nexthop), None)
        events = []
        for attempt in attempts:
            source = attempt if attempt.nexthop else named
            domain, attribution = self._domain(line, attempt, source, recipient)
            if domain:
                events.append(self._event(line, attempt, domain, attribution))
        return tuple(events)

    def _domain(
        self, line: LogLine, attempt: Attempt, named: Attempt | None, recipient: str
    ) -> tuple[str, Attribution]:
        """Return the policy domain of *attempt*, "" where it has none, and how it is known."""
        if named is not None:
            return _policy_domain(named.nexthop), named.attribution
        asked = self._asked(line.host, line.pid, attempt.when)
        if asked:
            return _policy_domain(asked), Attribution.QUERY
        usual = _LMTP_PORT if line.program == "lmtp" else SMTP_PORT
        return (recipient if attempt.port in {0, usual} else ""), Attribution.RECIPIENT

    def _event(
        self, line: LogLine, attempt: Attempt, domain: str, attribution: Attribution
    ) -> TlsEvent:
        outcome, fault = judge(attempt)
        return TlsEvent(
            when=attempt.when,
            domain=domain,
            outcome=outcome,
            fault=fault,
            mx=_host_name(attempt.mx),
            ip=_address(attempt.ip),
            connected=attempt.connected,
            queue_id=attempt.queue_id,
            ours=(line.host, attempt.queue_id) in self.state.own,
            service=line.tag,
            datagram=attempt.datagram,
            attribution=attribution,
        )

    def _tell_unsaid(
        self, line: LogLine, process: Process, message: Delivery, domain: str
    ) -> tuple[TlsEvent, ...]:
        """Return the session of a delivery to a host of which no line on TLS told."""
        relay, outcome = message.relay, _UNSAID.get(message.tls)
        if relay is None or outcome is None or message.reused or not message.spoke:
            return ()
        if (
            line.program != "smtp"
            or process.unwanted
            or relay.ip in {a.ip for a in process.attempts}
        ):
            return ()
        if _same_request(process, message.queue_id, line.when) and relay.ip in process.reached:
            return ()
        attempt = Attempt(when=line.when, mx=relay.mx, ip=relay.ip, port=relay.port)
        attempt.queue_id = message.queue_id
        named = next((a for a in process.attempts if a.nexthop), None)
        found, attribution = self._domain(line, attempt, named, domain)
        if not found:
            return ()
        event = self._event(line, attempt, found, attribution)
        return (replace(event, outcome=outcome),)

    def _recipient_domain(self, domain: str) -> str:
        """Return the policy domain of mail to *domain*, "" where it has none."""
        try:
            name = parse_domain(domain)
        except ParseError:
            return ""
        return self._routed.get(name, name)


def _near(earlier: float, later: float) -> bool:
    return abs(later - earlier) <= TWIN


def _same_request(process: Process, queue_id: str, when: float) -> bool:
    return process.queue_id == queue_id and when - process.delivered <= SAME_REQUEST


def _policy_domain(nexthop: str) -> str:
    """Return the domain whose policy Postfix asks for with *nexthop*, "" for none."""
    try:
        parsed = parse_nexthop(nexthop.encode("utf-8", "replace"))
    except ParseError:
        return ""
    mail = parsed.form is Form.DOMAIN and parsed.port == SMTP_PORT
    return parsed.name if mail else ""


def _host_name(mx: str) -> str:
    try:
        return parse_domain(mx)
    except ParseError:
        return ""


def _address(ip: str) -> str:
    try:
        return str(ipaddress.ip_address(ip))
    except ValueError:
        return ""

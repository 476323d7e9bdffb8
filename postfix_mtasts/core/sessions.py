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
operator routes; else it is the domain of the recipient.  The event says which,
and the last is a guess to be checked: `TlsEvent.is_with`.  Next-hops in
brackets, with a port or which are addresses have no policy and no events, and
neither has a guess where the port is not that of MX hosts.

With connection reuse tlsproxy(8) makes the handshakes and logs them; smtp(8)
logs those that stood again, a moment later.  The twin is not counted: it adds what
it alone says to what smtp(8) says of that address nearest to it in time.  Syslog
daemons with several inputs or threads can bring the two in the wrong order, so one
that was not there yet is looked for again at the delivery.

BUGS: Below smtp_tls_loglevel 1 and without TLSRPT or ``tls=`` sessions that
went well cannot be seen.  The certificate fault of a resumed session is that of the
last one seen at that address, whatever the next-hop was.  A handshake that failed
in tlsproxy(8) is not seen where the log has its line behind that of smtp(8).
"""

import ipaddress
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from operator import itemgetter
from types import MappingProxyType
from typing import Final, TypeAlias

from postfix_mtasts.core.attempt import Attempt, Process, add, current, judge, observe, settle
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.log_line import LogLine, Origin
from postfix_mtasts.core.names import SMTP_PORT, Form, parse_domain, parse_nexthop
from postfix_mtasts.core.own_mail import Fate, remember
from postfix_mtasts.core.postfix_log import (
    HANDSHAKE_FAILURE,
    NO_STARTTLS,
    Delivery,
    Established,
    Message,
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
from postfix_mtasts.core.session_state import MAX_FAULTS, State, process_of
from postfix_mtasts.core.tls_event import (
    Attribution,
    DatagramFate,
    Fault,
    Outcome,
    ResultType,
    TlsEvent,
)

TWIN = 60.0
"""Seconds between what tlsproxy(8) and smtp(8) say of one handshake: a busy disk's worth.

Commonly they are milliseconds, but the line on a failure waits for defer(8) to write.
"""

MAX_FATES = 10_000
"""Fates of our own reports that are kept for whoever takes them, the newest."""

_CLIENTS: Final = ("smtp", "lmtp")
_LMTP_PORT: Final = 24
# Names that have been checked, which takes a microsecond, are remembered: 5 MiB of them.
_MAX_NAMES: Final = 32768
_MAX_ADDRESSES: Final = 8192
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
        self._fates: deque[Fate] = deque(maxlen=MAX_FATES)
        self._own_senders = frozenset(sender.lower() for sender in own_senders)
        self._asked = asked
        self._routed = routed

    def feed(self, line: LogLine) -> tuple[TlsEvent, ...]:
        """Return the sessions of which *line* was the last that had to be known."""
        program = line.origin.program
        message = parse_message(program, line.text)
        if message is None:
            return ()
        if program in _CLIENTS:
            return self._hear_client(line, message)
        if program == "tlsproxy":
            self._hear_proxy(line, message)
        else:
            self._hear_manager(line, message)
        return ()

    def take_fates(self) -> tuple[Fate, ...]:
        """Return what has become of reports of ours since this was last asked."""
        taken = tuple(self._fates)
        self._fates.clear()
        return taken

    def _hear_client(self, line: LogLine, message: Message) -> tuple[TlsEvent, ...]:
        process = process_of(self.state.clients, line.origin, line.when)
        if isinstance(message, Delivery):
            return self._deliver(line, process, message)
        if isinstance(message, Skipped):
            return self._skip(line, process, message)
        observe(process, self._recall(line, message), line.when)
        if self.state.proxies and isinstance(message, Established) and not message.reused:
            self._join_twin(line.origin.host, process.attempts[-1])
        return ()

    def _hear_proxy(self, line: LogLine, message: Message) -> None:
        process = process_of(self.state.proxies, line.origin, line.when)
        process.attempts[:] = [a for a in process.attempts if _near(a.when, line.when)]
        observe(process, self._recall(line, message), line.when)

    def _hear_manager(self, line: LogLine, message: Message) -> None:
        if isinstance(message, Removed):
            self.state.own.forget((line.origin.host, message.queue_id))
        elif isinstance(message, Sender):
            self._note_sender(line, message)
        elif isinstance(message, ProcessEnded):
            self._drop(line, lambda origin: origin.pid == message.pid)
        else:  # Note.STARTED
            self._drop(line, lambda _origin: True)

    def _note_sender(self, line: LogLine, message: Sender) -> None:
        own, key = self.state.own, (line.origin.host, message.queue_id)
        if message.sender.lower() in self._own_senders:
            self._note_fate(own.hear_sender(key, message, line.when))
        else:
            own.forget(key)

    def _note_fate(self, fate: Fate | None) -> None:
        if fate is not None:
            self._fates.append(fate)

    def _drop(self, line: LogLine, ended: Callable[[Origin], bool]) -> None:
        """Forget the processes of the Postfix instance of master(8)'s *line* that *ended*."""
        instance = line.origin.tag.rpartition("/")[0] + "/"
        for table in (self.state.clients, self.state.proxies):
            for key in [key for key in table if ended(key)]:
                if key.host == line.origin.host and key.tag.startswith(instance):
                    del table[key]

    def _recall(self, line: LogLine, message: Message) -> Message:
        """Return *message* with the fault to which it points back, and keep its own."""
        if isinstance(message, ResumedUntrusted):
            fault = self.state.faults.get((line.origin.host, message.peer.ip), _RESUMED)
            return Unverified(peer=message.peer, fault=fault)
        if isinstance(message, Unverified):
            key = (line.origin.host, message.peer.ip)
            remember(self.state.faults, key, message.fault, MAX_FAULTS)
        return message

    def _join_twin(self, host: str, attempt: Attempt) -> None:
        """Add to *attempt*, which stands, what only tlsproxy(8) said of it."""
        twin = self._take_twin(host, attempt.ip, attempt.when, broken=False)
        if twin is None:
            return
        attempt.joined = True
        attempt.fault = attempt.fault or twin.fault
        if twin.datagram is not DatagramFate.NONE:
            attempt.told, attempt.datagram = twin.told, twin.datagram
            attempt.nexthop, attempt.attribution = twin.nexthop, twin.attribution

    def _take_twin(self, host: str, ip: str, when: float, *, broken: bool) -> Attempt | None:
        """Remove and return what tlsproxy(8) said of *ip* ("" for any) nearest to *when*."""
        found = [
            (abs(twin.when - when), process.attempts, twin)
            for origin, process in self.state.proxies.items()
            if origin.host == host
            for twin in process.attempts
            if twin.failed is broken and ip in {"", twin.ip} and _near(twin.when, when)
        ]
        if not found:
            return None
        _distance, attempts, nearest = min(found, key=itemgetter(0))
        attempts.remove(nearest)
        return nearest

    def _turn_to(self, line: LogLine, process: Process, queue_id: str) -> tuple[TlsEvent, ...]:
        """Bind the attempts of *process* to *queue_id*.

        What is left of another message, whose delivery line was lost, is told
        where its domain is known without.
        """
        left = []
        for attempt in process.attempts:
            if attempt.queue_id and attempt.queue_id != queue_id:
                left.append(attempt)
            else:
                attempt.queue_id = queue_id
        if not left:
            return ()
        process.attempts = [a for a in process.attempts if a.queue_id == queue_id]
        return self._tell(line, left, "")

    def _skip(self, line: LogLine, process: Process, message: Skipped) -> tuple[TlsEvent, ...]:
        events = self._turn_to(line, process, message.queue_id)
        if message.verdict is not Verdict.OTHER:
            self._fail(line, process, message, message.peer)
        for attempt in process.attempts:
            attempt.queue_id, attempt.closed = message.queue_id, True
        process.no_tlsproxy = False
        return events

    def _deliver(self, line: LogLine, process: Process, message: Delivery) -> tuple[TlsEvent, ...]:
        events = self._turn_to(line, process, message.queue_id)
        if process.request != message.request or process.queue_id != message.queue_id:
            process.queue_id, process.request = message.queue_id, message.request
            process.reached = []
        if message.verdict is not Verdict.OTHER:
            self._fail(line, process, message, message.peer or message.relay)
        self._note_unsaid(line, process, message)
        if process.attempts:
            self._complete(line, process, message)
            recipient = _name(message.domain)
            recipient = self._routed.get(recipient, recipient)
            events += self._tell(line, process.attempts, recipient)
            settle(process)
        process.nexthop, process.unwanted, process.no_tlsproxy = "", False, False
        key = (line.origin.host, message.queue_id)
        if key in self.state.own.active:
            self._note_fate(self.state.own.hear_delivery(key, message, line.when))
        return events

    def _complete(self, line: LogLine, process: Process, message: Delivery) -> None:
        """Note what can be told only now of attempts of *process*.

        That is the port, which no line on STARTTLS names and all hosts of a request
        have in common, and what tlsproxy(8) said too late.
        """
        relay, proxies = message.relay, self.state.proxies
        for attempt in process.attempts:
            if not attempt.port and relay is not None:
                attempt.port = relay.port
            if proxies and attempt.established and not attempt.joined:
                self._join_twin(line.origin.host, attempt)

    def _fail(
        self, line: LogLine, process: Process, message: Delivery | Skipped, peer: Peer | None
    ) -> None:
        """Fail the attempt that *process* is at for the reason that *message* gives."""
        attempt = current(process, peer.ip if peer else "")
        if attempt is None:
            attempt = self._missed(line, process, message, peer)
        if attempt is not None:
            attempt.failed, attempt.queue_id = True, message.queue_id
            attempt.fault = attempt.fault or self._unsaid_fault(line, attempt, message.verdict)

    def _missed(
        self, line: LogLine, process: Process, message: Delivery | Skipped, peer: Peer | None
    ) -> Attempt | None:
        """Return the attempt of which only the reason tells, `None` where it has been told."""
        mx, ip, port = peer or ("", "", 0)
        # A host is given up once, but a delivery is told for each recipient.
        if isinstance(message, Delivery) and ip in process.reached:
            return None
        if message.verdict is not Verdict.HANDSHAKE:
            return add(process, Attempt(when=line.when, mx=mx, ip=ip, port=port))
        if process.no_tlsproxy:
            return None
        twin = self._take_twin(line.origin.host, ip, line.when, broken=True)
        if twin is not None:
            twin.mx = twin.mx or mx
            add(process, twin)
        return twin

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
        earlier = self.state.faults.get((line.origin.host, attempt.ip)) or attempt.told
        return earlier or (_UNTRUSTED if attempt.established else _MISMATCH)

    def _note_unsaid(self, line: LogLine, process: Process, message: Delivery) -> None:
        """Note the session of a delivery to a host of which no line on TLS told."""
        relay = message.relay
        if relay is None or message.reused or not message.spoke:
            return
        for attempt in process.attempts:  # of most deliveries a line told
            if attempt.ip == relay.ip:
                return
        if line.origin.program != "smtp" or process.unwanted or relay.ip in process.reached:
            return
        outcome = _UNSAID.get(message.tls)
        if outcome is not None:
            mx, ip, port = relay
            attempt = Attempt(when=line.when, mx=mx, ip=ip, port=port, unsaid=outcome)
            attempt.queue_id = message.queue_id
            add(process, attempt)

    def _tell(self, line: LogLine, attempts: list[Attempt], recipient: str) -> tuple[TlsEvent, ...]:
        """Return the events of *attempts*, of which those without a policy domain have none."""
        named = beside = ""
        for attempt in attempts:
            named, beside = named or attempt.nexthop, beside or attempt.mx
        events = []
        for attempt in attempts:
            event = self._event(line, attempt, named, recipient, "" if attempt.mx else beside)
            if event is not None:
                events.append(event)
        return tuple(events)

    def _event(
        self, line: LogLine, attempt: Attempt, named: str, recipient: str, beside: str
    ) -> TlsEvent | None:
        domain, attribution = self._domain(line, attempt, named, recipient)
        if not domain:
            return None
        outcome, fault = judge(attempt)
        return TlsEvent(
            when=attempt.when,
            domain=domain,
            outcome=outcome,
            fault=fault,
            mx=_name(attempt.mx),
            ip=_address(attempt.ip),
            connected=attempt.connected,
            queue_id=attempt.queue_id,
            ours=self.state.own.has((line.origin.host, attempt.queue_id), line.when),
            service=line.origin.tag,
            datagram=attempt.datagram,
            attribution=attribution,
            beside=beside and _name(beside),
        )

    def _domain(
        self, line: LogLine, attempt: Attempt, named: str, recipient: str
    ) -> tuple[str, Attribution]:
        """Return the policy domain of *attempt*, "" where it has none, and how it is known.

        *named*: the next-hop that Postfix named first for any attempt of the same request.
        """
        if attempt.nexthop:
            return _policy_domain(attempt.nexthop), attempt.attribution
        if named:
            return _policy_domain(named), Attribution.REQUEST
        asked = self._asked(line.origin.host, line.origin.pid, attempt.when)
        if asked:
            return _policy_domain(asked), Attribution.QUERY
        usual = _LMTP_PORT if line.origin.program == "lmtp" else SMTP_PORT
        return (recipient if attempt.port in {0, usual} else ""), Attribution.RECIPIENT


def _near(earlier: float, later: float) -> bool:
    return abs(later - earlier) <= TWIN


def _policy_domain(nexthop: str) -> str:
    """Return the domain whose policy Postfix asks for with *nexthop*, "" for none."""
    try:
        parsed = parse_nexthop(nexthop.encode("utf-8", "replace"))
    except ParseError:
        return ""
    mail = parsed.form is Form.DOMAIN and parsed.port == SMTP_PORT
    return parsed.name if mail else ""


@lru_cache(maxsize=_MAX_NAMES)
def _name(spelled: str) -> str:
    """Return the host or domain *spelled* as A-labels, "" where that is none."""
    try:
        return parse_domain(spelled)
    except ParseError:
        return ""


@lru_cache(maxsize=_MAX_ADDRESSES)
def _address(ip: str) -> str:
    """Return *ip* in its usual spelling, "" where it is none."""
    try:
        return str(ipaddress.ip_address(ip))
    except ValueError:
        return ""

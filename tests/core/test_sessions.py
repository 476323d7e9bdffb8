"""Sessions: every recorded log gives what was done, and the rules one by one."""

import json
import re
from typing import Any

import pytest

from postfix_mtasts.core import sessions
from postfix_mtasts.core.log_line import LogLine, Origin
from postfix_mtasts.core.own_mail import Fate
from postfix_mtasts.core.session_state import build_state, parse_state
from postfix_mtasts.core.sessions import SessionTracker
from postfix_mtasts.core.tls_event import (
    Attribution,
    DatagramFate,
    Outcome,
    ResultType,
    TlsEvent,
)
from tests.core.log_scenarios import (
    LOGS,
    SCENARIOS,
    counted,
    document,
    events_of,
    expected_domains,
    parse_lines,
    read_lines,
)

FORMS = (".log", ".rfc3164.log")
NO_CONNECTION = {"dane-required", "dnssec-invalid"}  # the log has no address for these


def wanted(domain: dict[str, Any]) -> list[tuple[str, str, str, str | None]]:
    """Return the sessions that *domain* expects, in the form of `counted`."""
    found = [
        (
            s["mx"],
            "" if s["result_type"] in NO_CONNECTION else s["ip"],
            s["outcome"],
            s["result_type"],
        )
        for s in domain["sessions"]
        if s["outcome"] != "none"
    ]
    stopped = domain.get("lookup_failure")
    return found + ([(stopped["mx"], "", "failure", stopped["result_type"])] if stopped else [])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name in SCENARIOS if expected_domains(name)])
def test_a_recorded_log_gives_exactly_the_sessions_that_took_place(name: str, form: str) -> None:
    events = events_of(parse_lines(read_lines(name, form)))
    for domain in expected_domains(name):
        found = counted(events, domain["policy_domain"])
        assert found == wanted(domain)
        outcomes = [outcome for _mx, _ip, outcome, _kind in found]
        assert outcomes.count("success") == domain.get("successful_sessions", 0)
        assert outcomes.count("failure") == domain.get("failed_sessions", 0)
    named = {domain["policy_domain"] for domain in expected_domains(name)}
    assert {event.domain for event in events} <= named


def handshakes(name: str) -> list[tuple[str, str]]:
    """Return host and address of each handshake that smtp(8) logged as done."""
    return [
        (c["mx"], c["ip"])
        for c in document(name)["observed"]["tls_connections"]
        if c["process"] == "smtp" and c["usage"] == "established"
    ]


UNATTRIBUTABLE = {"key-literal"}  # an address has no policy domain


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in SCENARIOS
        if not expected_domains(name) and name.split("/")[1] not in UNATTRIBUTABLE
    ],
)
def test_a_log_without_expectations_has_a_session_for_each_handshake(name: str, form: str) -> None:
    events = events_of(parse_lines(read_lines(name, form)))
    done = sorted(handshakes(name))
    told = sorted((event.mx, event.ip) for event in events if event.connected)
    assert [peer for peer in told if peer in done] == done
    reports = document(name)["observed"]["tlsrpt"]
    for report in reports:
        matching = [
            event
            for event in events
            if (event.domain, event.ip) == (report["domain"].lower(), report["ip"])
        ]
        assert matching
        assert all(event.datagram is DatagramFate.SENT for event in matching)
    assert sum(event.datagram is DatagramFate.SENT for event in events) == len(reports)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.endswith("key-literal")])
def test_mail_to_an_address_has_no_policy_domain_and_no_events(name: str) -> None:
    assert events_of(parse_lines(read_lines(name))) == []


def test_postfixs_own_log_file_and_the_journal_are_read_alike() -> None:
    for path in ("maillog_file.log", "journald-short.log", "journald-short-iso.log"):
        lines = (LOGS / "containers" / path).read_bytes().splitlines()
        assert events_of(parse_lines(lines)), path


# The rules one by one, on lines of a single host.

SMTP, PROXY = "postfix/smtp[7]", "postfix/tlsproxy[8]"
A = "mx.a.example[192.0.2.1]:25"
B = "mx2.a.example[192.0.2.2]:25"
UP_A = f"Trusted TLS connection established to {A}: TLSv1.3 with cipher X"
UP_UNTRUSTED = UP_A.replace("Trusted", "Untrusted")
UP_B = f"Verified TLS connection established to {B}: TLSv1.3 with cipher X"
TAIL = "delay=1, delays=0/0/0/0"


def sent(to: str = "u@a.example", relay: str = A, queue_id: str = "ABC123", more: str = "") -> str:
    return f"{queue_id}: to=<{to}>, relay={relay}, {more}{TAIL}, dsn=2.0.0, status=sent (250 ok)"


def deferred(why: str, relay: str = A, to: str = "u@a.example", queue_id: str = "ABC123") -> str:
    return f"{queue_id}: to=<{to}>, relay={relay}, {TAIL}, dsn=4.7.5, status=deferred ({why})"


class Log:
    """Feeds a tracker lines of chosen processes at chosen times."""

    def __init__(self, **settings: Any) -> None:
        self.tracker = SessionTracker(**settings)
        self.now = 1000.0

    def say(self, *texts: str, process: str = SMTP, host: str = "mta") -> list[TlsEvent]:
        name, program, pid = re.fullmatch(r"(.+/(\w+))\[(\d+)\]", process).groups()  # type: ignore[union-attr]
        origin = Origin(host, name, program, int(pid))
        events: list[TlsEvent] = []
        for text in texts:
            events += self.tracker.feed(LogLine(self.now, origin, text.encode()))
        return events


def brief(events: list[TlsEvent]) -> list[tuple[str, str, str]]:
    """Return domain, address and outcome, or the result type of a failure."""
    return [
        (
            e.domain,
            e.ip,
            e.fault.kind.value if e.outcome is Outcome.FAILURE and e.fault else e.outcome.value,
        )
        for e in events
    ]


def test_an_event_says_all_that_its_lines_said() -> None:
    log = Log()
    log.say(UP_A)
    log.now += 2
    assert log.say(sent()) == [
        TlsEvent(
            when=1000.0,
            domain="a.example",
            outcome=Outcome.SUCCESS,
            mx="mx.a.example",
            ip="192.0.2.1",
            queue_id="ABC123",
            service="postfix/smtp",
        )
    ]


def test_further_recipients_of_one_session_add_nothing() -> None:
    log = Log()
    first = log.say(UP_A, sent())
    assert len(first) == 1
    assert log.say(sent("v@a.example"), deferred("host said: 450", to="w@a.example")) == []


def test_lines_on_tls_between_recipients_are_another_session() -> None:
    log = Log()
    log.say(UP_A, deferred("host mx.a.example[192.0.2.1] said: 450 (in reply to RCPT TO command)"))
    assert brief(log.say(UP_B, sent("v@a.example", B))) == [("a.example", "192.0.2.2", "success")]


def of_request(line: str, waited: float) -> str:
    """Return *line* as of the request that began when its message had *waited* so long."""
    return line.replace("delays=0/0", f"delays={waited}/0.01")


NOT_OFFERED = f"TLS is required, but was not offered by host {A[:-3]}"


@pytest.mark.parametrize("seconds", [1, 299, 301, 4000])
def test_a_retry_is_a_session_of_its_own_however_soon(seconds: int) -> None:
    log = Log()
    first, again = of_request(deferred(NOT_OFFERED), 0.1), of_request(deferred(NOT_OFFERED), 9)
    failed = [("a.example", "192.0.2.1", "starttls-not-supported")]
    assert brief(log.say(first)) == failed
    assert log.say(first.replace("u@", "v@")) == []
    log.now += seconds
    assert brief(log.say(again)) == failed
    assert log.say(again.replace("u@", "v@")) == []


def test_a_retry_in_the_clear_is_a_session_of_its_own() -> None:
    log = Log()
    told = [log.say(of_request(sent(to), waited)) for waited in (1, 5) for to in ("u@a", "v@a")]
    assert [len(events) for events in told] == [1, 0, 1, 0]


def test_a_recipient_told_late_is_of_the_same_session() -> None:
    log = Log()
    assert len(log.say(of_request(deferred(NOT_OFFERED), 3))) == 1
    log.now += 900
    assert log.say(of_request(deferred(NOT_OFFERED, to="v@a.example"), 3)) == []


def test_a_host_that_is_given_up_again_is_a_session_of_its_own() -> None:
    log = Log()
    log.say(deferred(NOT_OFFERED))
    events = log.say(f"ABC123: {NOT_OFFERED}", UP_B, of_request(sent(relay=B), 9))
    assert brief(events) == [
        ("a.example", "192.0.2.1", "starttls-not-supported"),
        ("a.example", "192.0.2.2", "success"),
    ]


def test_hosts_that_were_given_up_are_told_with_the_delivery() -> None:
    log = Log()
    events = log.say(
        f"server certificate verification failed for {A}: certificate has expired",
        UP_A,
        "ABC123: Server certificate not verified",
        UP_B,
        "ABC123: lost connection with mx2.a.example[192.0.2.2] while sending RCPT TO",
        f"SSL_connect error to {A}: -1",
        "ABC123: Cannot start TLS: handshake failure",
        deferred(f"TLS is required, but host {B[:-3]} refused to start TLS: 454 no", B),
    )
    assert brief(events) == [
        ("a.example", "192.0.2.1", "certificate-expired"),
        ("a.example", "192.0.2.2", "success"),
        ("a.example", "192.0.2.1", "validation-failure"),
        ("a.example", "192.0.2.2", "starttls-not-supported"),
    ]


def test_a_fault_that_postfix_lets_pass_is_kept_beside_the_success() -> None:
    log = Log()
    log.say(f"certificate verification failed for {A}: self-signed certificate", UP_A)
    (event,) = log.say(sent())
    assert event.outcome is Outcome.SUCCESS
    assert event.fault
    assert event.fault.kind is ResultType.CERTIFICATE_NOT_TRUSTED


@pytest.mark.parametrize(
    ("before", "why", "kind"),
    [
        ((UP_A,), "Server certificate not verified", "certificate-host-mismatch"),
        ((UP_UNTRUSTED,), "Server certificate not verified", "certificate-not-trusted"),
        ((UP_A,), "Server certificate not trusted", "certificate-not-trusted"),
        ((), "Server certificate not verified", "certificate-host-mismatch"),
    ],
)
def test_a_failure_that_no_error_explains_is_judged_by_what_is_left(
    before: tuple[str, ...], why: str, kind: str
) -> None:
    assert brief(Log().say(*before, deferred(why))) == [("a.example", "192.0.2.1", kind)]


def test_a_resumed_session_has_the_fault_that_was_logged_before() -> None:
    log = Log()
    log.say(
        f"server certificate verification failed for {A}: num=62:hostname mismatch",
        UP_A.replace("Trusted", "Untrusted"),
        deferred("Server certificate not verified"),
    )
    log.now += 500
    untrusted = UP_A.replace("Trusted", "Untrusted")
    again = log.say(untrusted, deferred("Server certificate not verified"))
    assert brief(again) == [("a.example", "192.0.2.1", "certificate-host-mismatch")]
    look = "re-using session with untrusted certificate, look for details earlier in the log"
    (event,) = log.say(f"{A}: {look}", untrusted, sent(queue_id="ABC124"))
    assert event.fault
    assert event.fault.kind is ResultType.CERTIFICATE_HOST_MISMATCH
    (event,) = log.say(f"{B}: {look}", UP_B, sent(relay=B, queue_id="ABC125"))
    assert event.fault
    assert event.fault.kind is ResultType.CERTIFICATE_NOT_TRUSTED


def test_unusable_tlsa_records_are_a_failure_though_the_mail_flowed() -> None:
    log = Log()
    log.say(f"warning: {A}: all TLSA records unusable, fallback to unauthenticated TLS", UP_A)
    assert brief(log.say(sent())) == [("a.example", "192.0.2.1", "tlsa-invalid")]


def test_a_policy_that_stops_a_host_counts_once_whatever_its_addresses() -> None:
    log = Log()
    stop = "warning: TLS policy lookup for A.example/mx.a.example: no TLSA records found"
    (event,) = log.say(stop, stop, deferred("no TLSA records found", "none"))
    assert (event.connected, event.attribution) == (False, Attribution.POLICY_LOOKUP)
    assert (event.domain, event.mx, event.ip) == ("a.example", "mx.a.example", "")


def test_a_local_policy_problem_is_no_session() -> None:
    why = "client TLS configuration problem"
    stop = f"warning: TLS policy lookup for a.example/mx.a.example: {why}"
    assert Log().say(stop, deferred(why, "none")) == []


# Who it was for.

RPT = "TLSRPT: status=success, domain=D.Example, receiving_mx=mx.a.example[192.0.2.1]"
KEY = "looking for session smtp&c.example&mx.a.example&192.0.2.1&&FF in smtp cache"


def test_the_surest_word_on_the_domain_wins() -> None:
    settings = {"asked": lambda *_: "q.example", "routed": {"a.example": "r.example"}}
    found = [
        Log(**settings).say(KEY, UP_A, RPT, sent()),
        Log(**settings).say(KEY, UP_A, sent()),
        Log(**settings).say(UP_A, sent()),
        Log(routed={"a.example": "r.example"}).say(UP_A, sent()),
        Log().say(UP_A, sent()),
    ]
    assert [(e.domain, e.attribution) for (e,) in found] == [
        ("d.example", Attribution.TLSRPT),
        ("c.example", Attribution.SESSION_CACHE),
        ("q.example", Attribution.QUERY),
        ("r.example", Attribution.RECIPIENT),
        ("a.example", Attribution.RECIPIENT),
    ]


def test_what_names_one_session_of_a_request_names_them_all() -> None:
    rpt = RPT.replace("mx.a.example[192.0.2.1]", "mx2.a.example[192.0.2.2]")
    events = Log().say(UP_A, "ABC123: host said: 450", UP_B, rpt, sent("u@other.example", B))
    assert [event.domain for event in events] == ["d.example", "d.example"]


@pytest.mark.parametrize(
    "nexthop", ["[mx.a.example]", "[192.0.2.1]", "a.example:587", "not a name"]
)
def test_a_nexthop_that_is_no_domain_has_no_events(nexthop: str) -> None:
    assert Log(asked=lambda *_: nexthop).say(UP_A, sent()) == []


@pytest.mark.parametrize("to", ["u@[192.0.2.1]", "u", "u@-.example"])
def test_a_recipient_without_a_mail_domain_has_no_events(to: str) -> None:
    assert Log().say(UP_A, sent(to)) == []


def test_a_port_that_is_not_of_mx_hosts_is_no_guess() -> None:
    relay = A.replace(":25", ":587")
    up = UP_A.replace(":25", ":587")
    assert Log().say(up, sent(relay=relay)) == []
    assert len(Log().say(up, RPT, sent(relay=relay))) == 1
    lmtp = Log().say(up.replace("587", "24"), sent(relay=A), process="postfix/lmtp[7]")
    assert [event.service for event in lmtp] == ["postfix/lmtp"]


def test_a_host_without_starttls_has_the_port_of_its_request() -> None:
    smarthost = B.replace(":25", ":587")
    why = f"ABC123: {NOT_OFFERED}"
    refused = NOT_OFFERED.replace(A[:-3], B[:-3])
    assert Log().say(why, deferred(refused, smarthost)) == []
    assert len(Log().say(why, deferred(refused, B))) == 2
    assert len(Log().say(why, deferred("timed out", "none"))) == 1


def test_what_another_session_of_the_request_was_for_is_a_guess() -> None:
    events = Log().say(UP_A, RPT, "ABC123: host said: 450", UP_B, sent(relay=B))
    assert [(e.domain, e.attribution) for e in events] == [
        ("d.example", Attribution.TLSRPT),
        ("d.example", Attribution.REQUEST),
    ]


def test_names_and_addresses_are_brought_into_one_spelling_or_left_out() -> None:
    up = "Trusted TLS connection established to MX.A.Example[2001:DB8::1]:25: TLSv1.3"
    (event,) = Log().say(up, sent("u@bücher.Example", "MX.A.Example[2001:db8::1]:25"))
    assert (event.domain, event.mx, event.ip) == (
        "xn--bcher-kva.example",
        "mx.a.example",
        "2001:db8::1",
    )
    up = "Trusted TLS connection established to bad_!name[no-address]:25: TLSv1.3"
    (event,) = Log().say(up, sent(relay="none"))
    assert (event.mx, event.ip) == ("", "")


# Mail of which no line on TLS tells.


@pytest.mark.parametrize(
    ("more", "outcome"),
    [
        ("", Outcome.UNSEEN),
        ("tls=may:none/requiretls:none, ", Outcome.PLAINTEXT),
        ("tls=secure, ", Outcome.SUCCESS),
        ("tls=none, ", None),
        ("tls=may?, ", None),
        ("tls=!secure, ", None),
    ],
)
def test_a_delivery_without_lines_on_tls_is_told_for_what_it_is(
    more: str, outcome: Outcome | None
) -> None:
    # The field stands behind delays=.
    line = sent().replace("dsn=", more + "dsn=")
    log = Log()
    assert [event.outcome for event in log.say(line)] == ([outcome] if outcome else [])
    assert log.say(line.replace("u@", "v@")) == []


@pytest.mark.parametrize(
    "line",
    [
        sent(more="conn_use=2, "),
        sent(relay="none"),
        sent(relay="mx.a.example[private/lmtp]"),
        deferred("host mx.a.example[192.0.2.1] refused to talk to me: 554 no"),
        deferred("lost connection with mx.a.example[192.0.2.1] while receiving the greeting"),
    ],
)
def test_what_never_got_to_tls_is_no_session(line: str) -> None:
    assert Log().say(line) == []


def test_a_refused_recipient_shows_that_the_server_spoke() -> None:
    why = "host mx.a.example[192.0.2.1] said: 550 no (in reply to RCPT TO command)"
    assert [event.outcome for event in Log().say(deferred(why))] == [Outcome.UNSEEN]


def test_a_host_whose_starttls_was_passed_over_on_purpose_is_no_session() -> None:
    log = Log()
    assert log.say("Host offered STARTTLS: [mx.a.example]", sent()) == []
    assert len(log.say(sent(queue_id="ABC124"))) == 1


def test_lmtp_in_the_clear_is_nobodys_failure() -> None:
    assert Log().say(sent(), process="postfix/lmtp[7]") == []


def test_plaintext_after_a_failed_handshake_is_that_failure_only() -> None:
    events = Log().say(
        f"SSL_connect error to {A}: -1", "ABC123: Cannot start TLS: handshake failure", sent()
    )
    assert brief(events) == [("a.example", "192.0.2.1", "validation-failure")]


# tlsproxy(8).


def test_twins_of_tlsproxy_are_counted_once_and_lend_their_fault() -> None:
    log = Log()
    bad = f"server certificate verification failed for {A}: certificate has expired"
    rpt = RPT.replace("success", "failure") + ", failure_type=certificate_expired"
    assert log.say(bad, rpt, UP_A, process=PROXY) == []
    (event,) = log.say(UP_A, deferred("Server certificate not verified"))
    assert event.fault
    assert event.fault.kind is ResultType.CERTIFICATE_EXPIRED
    assert (event.domain, event.datagram) == ("d.example", DatagramFate.SENT)


def test_a_twin_without_a_report_leaves_the_domain_alone() -> None:
    log = Log()
    log.say(UP_A, process=PROXY)
    assert brief(log.say(UP_A, sent())) == [("a.example", "192.0.2.1", "success")]
    assert (
        log.tracker.state.proxies[Origin("mta", "postfix/tlsproxy", "tlsproxy", 8)].attempts == []
    )


def test_twins_of_another_host_address_or_time_are_not_ours() -> None:
    log = Log()
    bad = f"server certificate verification failed for {A}: certificate has expired"
    log.say(bad, process=PROXY, host="other")
    log.say(bad.replace("192.0.2.1", "192.0.2.9"), process=PROXY)
    log.say(bad, process="postfix/tlsproxy[9]")
    log.now += 61
    (event,) = log.say(UP_A, sent())
    assert event.fault is None
    log.say(bad, process="postfix/tlsproxy[9]")
    assert len(log.tracker.state.proxies) == 3


BAD_A = f"server certificate verification failed for {A}: certificate has expired"


@pytest.mark.parametrize("late", [0.0, 30.0])
def test_a_twin_that_the_log_has_late_is_found_at_the_delivery(late: float) -> None:
    log = Log()
    log.say(UP_A)
    log.now += late
    log.say(BAD_A, UP_A, process=PROXY)
    (event,) = log.say(sent())
    assert event.fault
    assert event.fault.kind is ResultType.CERTIFICATE_EXPIRED
    assert log.say(sent("v@a.example")) == []


def test_a_twin_that_was_left_over_is_not_taken_for_the_next_one() -> None:
    log = Log()
    log.say(BAD_A, UP_A, process=PROXY)  # the line of smtp(8) was lost
    log.now += 5
    log.say(UP_A, process=PROXY)
    (event,) = log.say(UP_A, sent())
    assert event.fault is None


def test_tlsproxy_is_at_several_hosts_at_once() -> None:
    log = Log()
    log.say(BAD_A, BAD_A.replace(A, B), UP_A, UP_B, process=PROXY)
    faults = [event.fault for event in log.say(UP_B, sent(relay=B), UP_A, sent(queue_id="ABC124"))]
    assert [fault.kind for fault in faults if fault] == [ResultType.CERTIFICATE_EXPIRED] * 2


def test_a_handshake_that_failed_in_tlsproxy_is_one_failure() -> None:
    log = Log()
    broken = "TLS handshake failed for service=smtp peer=[192.0.2.1]:25"
    log.say(broken, process=PROXY)
    (event,) = log.say(deferred("Cannot start TLS: handshake failure"))
    assert (event.mx, event.ip) == ("mx.a.example", "192.0.2.1")
    assert event.fault
    assert event.fault.reason == "tls-handshake-failure"
    assert log.say(deferred("Cannot start TLS: handshake failure", to="v@a.example")) == []


def test_a_host_that_nobody_named_is_known_by_the_one_tried_for_the_same_message() -> None:
    log = Log()
    log.say("TLS handshake failed for service=smtp peer=[192.0.2.1]:25", process=PROXY)
    given_up = "ABC123: Cannot start TLS: handshake failure"
    nameless, named = log.say(given_up, UP_B, sent(relay=B))
    assert (nameless.mx, nameless.ip, nameless.beside) == ("", "192.0.2.1", "mx2.a.example")
    assert (named.mx, named.beside) == ("mx2.a.example", "")
    assert nameless.is_with({"mx2.a.example"})
    assert not nameless.is_with({"mx.a.example"})


def test_a_host_given_up_without_its_name_is_found_in_tlsproxy() -> None:
    log = Log()
    log.say("TLS handshake failed for service=smtp peer=[192.0.2.1]:25", process=PROXY)
    events = log.say("ABC123: Cannot start TLS: handshake failure", UP_B, sent(relay=B))
    assert brief(events) == [
        ("a.example", "192.0.2.1", "validation-failure"),
        ("a.example", "192.0.2.2", "success"),
    ]


def test_a_handshake_that_failed_for_a_local_cause_is_no_session() -> None:
    log = Log()
    log.say("TLS handshake failed for service=smtp peer=[192.0.2.1]:25", process=PROXY)
    warning = "warning: connect to private/tlsproxy service: No such file or directory"
    assert log.say(warning, deferred("Cannot start TLS: handshake failure")) == []
    assert Log().say(deferred("Cannot start TLS: handshake failure")) == []


def test_a_failed_handshake_known_from_postfixs_report_alone_has_its_fault() -> None:
    rpt = RPT.replace("success", "failure") + ", failure_type=validation_failure"
    (event,) = Log().say(rpt, deferred("Cannot start TLS: handshake failure"))
    assert event.fault
    assert event.fault.kind is ResultType.VALIDATION_FAILURE


def test_a_reused_connection_is_no_session() -> None:
    log = Log()
    reused = UP_A.replace("established", "reused")
    assert log.say(reused, sent(more="conn_use=2, ")) == []


# Datagrams, our own mail, processes.


def test_a_lost_datagram_is_told_with_its_session() -> None:
    lost = "warning: Could not report TLS handshake result to tlsrpt library: Broken (errno 32)"
    (event,) = Log().say(UP_A, RPT, lost, sent())
    assert event.datagram is DatagramFate.LOST
    (event,) = Log().say(UP_A, RPT, sent())
    assert event.datagram is DatagramFate.SENT


QMGR, MASTER = "postfix/qmgr[2]", "postfix/master[1]"


def test_sessions_of_our_own_reports_are_marked() -> None:
    log = Log(own_senders=["TLSRPT@me.example"])
    log.say("ABC123: from=<tlsrpt@me.example>, size=1, nrcpt=1 (queue active)", process=QMGR)
    log.say("ABC124: from=<user@me.example>, size=1, nrcpt=1 (queue active)", process=QMGR)
    assert [e.ours for e in log.say(UP_A, sent(), UP_A, sent(queue_id="ABC124"))] == [True, False]
    log.say("ABC123: from=<user@me.example>, size=1, nrcpt=1 (queue active)", process=QMGR)
    assert [e.ours for e in log.say(UP_A, sent())] == [False]


def test_a_queue_id_is_ours_for_a_day() -> None:
    log = Log(own_senders=["tlsrpt@me.example"])
    log.say("ABC123: from=<tlsrpt@me.example>, size=1, nrcpt=1 (queue active)", process=QMGR)
    log.now += 86400
    assert [e.ours for e in log.say(UP_A, sent())] == [True]
    log.now += 3600
    assert [e.ours for e in log.say(UP_A, sent(queue_id="ABC124"), UP_A, sent())] == [False] * 2


def test_a_queue_id_is_ours_until_it_is_removed() -> None:
    log = Log(own_senders=["tlsrpt@me.example"])
    log.say("ABC123: from=<tlsrpt@me.example>, size=1, nrcpt=1 (queue active)", process=QMGR)
    log.say("ABC123: removed", process=QMGR, host="other")
    assert [e.ours for e in log.say(UP_A, sent())] == [True]
    log.say("ABC123: removed", "ABC124: removed", process=QMGR)
    assert [e.ours for e in log.say(UP_A, sent())] == [False]


def test_what_becomes_of_our_reports_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(own_senders=["tlsrpt@me.example"])
    log.say("ABC123: from=<tlsrpt@ME.example>, size=1, nrcpt=1 (queue active)", process=QMGR)
    log.say(sent(queue_id="ABC124"), deferred("host said: 450"))
    assert log.tracker.take_fates() == ()
    log.say("ABC123: from=<tlsrpt@me.example>, status=expired, returned to sender", process=QMGR)
    assert log.tracker.take_fates() == (Fate("u@a.example", 1000.0, delivered=False),)
    log.say(sent())
    assert log.tracker.take_fates() == (Fate("u@a.example", 1000.0, delivered=True),)
    assert log.tracker.take_fates() == ()
    monkeypatch.setattr(sessions, "MAX_FATES", 2)
    log = Log(own_senders=["tlsrpt@me.example"])
    log.say("ABC123: from=<tlsrpt@me.example>, size=1, nrcpt=1 (queue active)", process=QMGR)
    log.say(*[sent(f"{number}@a.example") for number in range(3)])
    assert [fate.recipient for fate in log.tracker.take_fates()] == ["1@a.example", "2@a.example"]


def test_what_a_dead_process_said_is_not_its_successors() -> None:
    log = Log()
    log.say(UP_A)
    log.say("warning: process /usr/lib/postfix/sbin/smtp pid 7 killed by signal 9", process=MASTER)
    assert brief(log.say(UP_B, sent(relay=B))) == [("a.example", "192.0.2.2", "success")]


def test_a_start_of_postfix_forgets_its_own_processes_only() -> None:
    log = Log()
    for process, host in ((SMTP, "mta"), ("second/smtp[7]", "mta"), (SMTP, "other")):
        log.say(UP_A, process=process, host=host)
    log.say(UP_A, process=PROXY)
    log.say("daemon started -- version 3.10.5, configuration /etc/postfix", process=MASTER)
    assert not log.tracker.state.proxies
    left = [(origin.host, origin.tag) for origin in log.tracker.state.clients]
    assert left == [("mta", "second/smtp"), ("other", "postfix/smtp")]


def test_an_hour_of_silence_makes_a_process_another() -> None:
    log = Log()
    log.say(UP_A)
    log.now += 3601
    assert brief(log.say(UP_B, sent(relay=B))) == [("a.example", "192.0.2.2", "success")]


def test_a_message_whose_delivery_line_was_lost_is_told_where_postfix_named_the_domain() -> None:
    log = Log()
    events = log.say(UP_A, RPT, "ABC123: host said: 450", UP_B, sent(relay=B, queue_id="ABC124"))
    assert brief(events) == [
        ("d.example", "192.0.2.1", "success"),
        ("a.example", "192.0.2.2", "success"),
    ]
    log = Log()
    log.say(UP_A, "ABC123: host said: 450")
    assert log.say("ABC124: host said: 450") == []
    assert brief(log.say(UP_B, sent(relay=B, queue_id="ABC124"))) == [
        ("a.example", "192.0.2.2", "success")
    ]


def test_processes_do_not_mix() -> None:
    log = Log()
    log.say(UP_A)
    log.say(UP_B, process="postfix/smtp[9]")
    log.say(UP_A, host="other")
    assert brief(log.say(sent(relay=B, queue_id="ABC124"), process="postfix/smtp[9]")) == [
        ("a.example", "192.0.2.2", "success")
    ]
    assert brief(log.say(sent())) == [("a.example", "192.0.2.1", "success")]


def test_lines_that_mean_nothing_change_nothing() -> None:
    log = Log()
    before = build_state(log.tracker.state)
    assert log.say("", "connect to mx.a.example[192.0.2.1]:25: Connection refused", "x" * 9) == []
    assert build_state(log.tracker.state) == before


def test_a_tracker_goes_on_from_a_stored_state() -> None:
    log = Log()
    log.say(UP_A)
    state = parse_state(json.loads(json.dumps(build_state(log.tracker.state))))
    again = Log(state=state)
    assert again.say(sent()) == log.say(sent())

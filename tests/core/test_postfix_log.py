"""Messages: the grammar of each line, and texts that want to be another."""

import pytest

from postfix_mtasts.core.postfix_log import (
    NOT_IN_STS_POLICY,
    Delivery,
    Established,
    HandshakeError,
    Message,
    Note,
    Peer,
    PolicyError,
    ProcessEnded,
    Removed,
    ResumedUntrusted,
    Sender,
    SessionKey,
    Skipped,
    Status,
    TlsaUnusable,
    Tlsrpt,
    TlsUse,
    Unverified,
    Verdict,
    parse_message,
)
from postfix_mtasts.core.tls_event import Fault, ResultType

NA = b"MX.a.example[192.0.2.1]:25"
PEER = Peer("mx.a.example", "192.0.2.1", 25)
HOST = Peer("mx.a.example", "192.0.2.1", 0)
RPT = b"TLSRPT: status=failure, domain=d, receiving_mx=mx.a.example[192.0.2.1], "
REQUIRETLS = b"Sender requested REQUIRETLS, but "
ALL = ("smtp", "lmtp", "tlsproxy")


def fault(kind: str, reason: str = "") -> Fault:
    return Fault(kind=ResultType(kind), reason=reason)


@pytest.mark.parametrize("program", ALL)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b"Trusted TLS connection established to " + NA + b": TLSv1.3",
            Established(PEER, trusted=True, reused=False),
        ),
        (b"Verified TLS connection reused to " + NA, Established(PEER, trusted=True, reused=True)),
        (
            b"Anonymous TLS connection established to " + NA,
            Established(PEER, trusted=False, reused=False),
        ),
        (
            b"Untrusted TLS connection established to m[2001:db8::1]:25: T",
            Established(Peer("m", "2001:db8::1", 25), trusted=False, reused=False),
        ),
        (b"SSL_connect error to " + NA + b": -1", HandshakeError(PEER)),
        (
            b"TLS handshake failed for service=smtp peer=[192.0.2.1]:25",
            HandshakeError(Peer("", "192.0.2.1", 25)),
        ),
        (
            NA + b": re-using session with untrusted peer credential, look for details earlier",
            ResumedUntrusted(PEER),
        ),
        (b"warning: " + NA + b": all TLSA records unusable", TlsaUnusable(PEER)),
        (
            b"looking for session smtp&d.example&mx&1.2.3.4&&FF in smtp cache",
            SessionKey("d.example"),
        ),
        (
            b"TLSRPT: status=success, domain=D.example, receiving_mx=MX.a.example[192.0.2.1]",
            Tlsrpt("D.example", HOST, None),
        ),
        (
            RPT + b"failure_type=validation_failure, failure_reason=a, b",
            Tlsrpt("d", HOST, fault("validation-failure", "a, b")),
        ),
        (
            RPT + b"failure_type=certificate_expired",
            Tlsrpt("d", HOST, fault("certificate-expired")),
        ),
        (RPT + b"failure_type=new", Tlsrpt("d", HOST, fault("validation-failure"))),
        (RPT + b"fail", Tlsrpt("d", HOST, fault("validation-failure"))),
        (
            b"warning: Could not report TLS handshake result to tlsrpt library: x",
            Note.DATAGRAM_LOST,
        ),
        (b"warning: connect to private/tlsproxy service: No such file", Note.NO_TLSPROXY),
        (b"Host offered STARTTLS: [mx.a.example]", Note.UNWANTED),
        (
            b"warning: MX name 'MX.a.example' does not match STS MX pattern for 'd.example'",
            PolicyError("d.example", "mx.a.example", NOT_IN_STS_POLICY),
        ),
        (
            b"warning: TLS policy lookup for [d]:25/mx: TLSA lookup error for mx:25",
            PolicyError("[d]:25", "mx", fault("dnssec-invalid", "TLSA lookup error for mx:25")),
        ),
        (
            b"warning: TLS policy lookup error for d/mx: non DNSSEC destination",
            PolicyError("d", "mx", fault("dane-required", "non DNSSEC destination")),
        ),
        (
            b"warning: TLS policy lookup for d/mx: no TLSA records found",
            PolicyError("d", "mx", fault("dane-required", "no TLSA records found")),
        ),
        (
            b"warning: TLS policy lookup for d/mx: TLSA records unusable",
            PolicyError("d", "mx", fault("tlsa-invalid", "TLSA records unusable")),
        ),
        (
            b"warning: TLS policy lookup for d/mx: client TLS configuration problem",
            PolicyError("d", "mx", None),
        ),
    ],
)
def test_a_line_on_tls_means_what_postfix_means_by_it(
    program: str, text: bytes, message: Message
) -> None:
    assert parse_message(program, text) == message


@pytest.mark.parametrize(
    ("why", "wanted"),
    [
        (
            b"certificate %s: not trusted by local or TLSA policy",
            fault("certificate-not-trusted", "not trusted by local or TLSA policy"),
        ),
        (
            b"certificate %s: self-signed certificate",
            fault("certificate-not-trusted", "self-signed certificate"),
        ),
        (
            b"certificate %s: untrusted issuer /CN=\xc3\xbc",
            fault("certificate-not-trusted", "untrusted issuer /CN=??"),
        ),
        (
            b"server certificate %s: certificate has expired",
            fault("certificate-expired", "certificate has expired"),
        ),
        (
            b"CA certificate %s: certificate has expired",
            fault("certificate-expired", "CA certificate has expired"),
        ),
        (
            b"server certificate %s: certificate not yet valid",
            fault("validation-failure", "certificate not yet valid"),
        ),
        (
            b"certificate %s: not designated for use as a server certificate",
            fault("validation-failure", "not designated for use as a server certificate"),
        ),
        (
            b"certificate %s: certificate chain longer than limit(9)",
            fault("validation-failure", "certificate chain longer than limit(9)"),
        ),
        (
            b"server certificate %s: num=62:Hostname mismatch",
            fault("certificate-host-mismatch", "Hostname mismatch"),
        ),
        (
            b"server certificate %s: num=65:no matching DANE TLSA records",
            fault("certificate-not-trusted", "no matching DANE TLSA records"),
        ),
        (
            b"server certificate %s: num=23:certificate revoked",
            fault("validation-failure", "certificate revoked"),
        ),
        (
            b"certificate %s: external policy failure (sts-webpki-invalid)",
            fault("sts-webpki-invalid"),
        ),
        (b"certificate %s: external policy failure (of-tomorrow)", fault("validation-failure")),
    ],
)
def test_a_verification_error_has_its_result_type(why: bytes, wanted: Fault) -> None:
    text = why % (b"verification failed for " + NA)
    assert parse_message("smtp", text) == Unverified(PEER, wanted)


REST = b"delay=1.2, delays=0.1/0/0.5/0.6, dsn=2.0.0, status=sent (250 ok)"


def delivery(text: bytes) -> Delivery:
    message = parse_message("smtp", text)
    assert isinstance(message, Delivery)
    return message


def test_a_delivery_line_is_read_whole() -> None:
    text = (
        b"4jWz6k4fvqzMhY4: to=<u@Final.example>, orig_to=<x@first.example>, relay=" + NA + b", "
        b"conn_use=2, delay=1.2, delays=0.1/0/0.5/0.6, tls=secure/requiretls, dsn=2.0.0, "
        b"status=sent (250 ok)"
    )
    assert delivery(text) == Delivery(
        queue_id="4jWz6k4fvqzMhY4",
        recipient="u@Final.example",
        original="x@first.example",
        request="0.1/0",
        relay=PEER,
        reused=True,
        tls=TlsUse.USED,
        status=Status.SENT,
        spoke=True,
        verdict=Verdict.OTHER,
        peer=None,
    )


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (b"sent", Status.SENT),
        (b"deferred", Status.DEFERRED),
        (b"bounced", Status.BOUNCED),
        (b"SOFTBOUNCE", Status.OTHER),
        (b"undeliverable", Status.OTHER),
    ],
)
def test_a_status_is_one_of_few(status: bytes, meaning: Status) -> None:
    rest = b", delay=1, delays=0/0/0/0, dsn=2.0.0, status=" + status
    found = delivery(b"ABC123: to=<u@d.example>, relay=none" + rest)
    assert (found.status, found.original) == (meaning, "")


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        (b"u@d.example", "d.example"),
        (b'"a b"@d.example', "d.example"),
        (b'"a>, relay=evil.example[192.0.2.66]:25, "@d.example', "d.example"),
        (rb'"a\">, orig_to=<x@evil.example>, "@d.example', "d.example"),
        (b"a b@d.example", "d.example"),  # 3.4 does not quote
        ("ü@bücher.example".encode(), "bücher.example"),
        (b"postmaster", ""),
        (b"", ""),
    ],
)
def test_a_recipient_cannot_pretend_to_be_the_rest_of_the_line(address: bytes, domain: str) -> None:
    text = b"ABC123: to=<" + address + b">, relay=" + NA + b", " + REST
    found = delivery(text)
    assert (found.domain, found.relay) == (domain, PEER)


@pytest.mark.parametrize(
    "reply",
    [
        b"host mx said: 450 status=sent (250 ok), to=<x@y.example>, relay=evil[192.0.2.66]:25,",
        b"host mx said: 450 Server certificate not verified",
        b"host mx said: 450 TLS is required, but was not offered by host evil[192.0.2.66]",
        b"host mx said: 450 (in reply to DATA command)) or so",
    ],
)
def test_a_servers_reply_is_not_believed_to_be_postfixs_word(reply: bytes) -> None:
    text = b"ABC123: to=<u@d.example>, relay=" + NA + b", delay=1, delays=0/0/0/0, dsn=4.0.0, "
    found = delivery(text + b"status=deferred (" + reply + b")")
    assert (found.domain, found.relay, found.verdict) == ("d.example", PEER, Verdict.OTHER)
    assert (found.peer, found.spoke) == (None, False)


def test_a_cut_delivery_line_is_read_as_far_as_it_goes() -> None:
    text = b"ABC123: to=<u@d.example>, relay=" + NA + b", delay=1, delays=0/0/0/0, dsn=4.7.5, "
    assert delivery(text + b"status=deferred").verdict is Verdict.OTHER
    assert (
        delivery(text + b"status=deferred (Server certificate not verif").verdict is Verdict.OTHER
    )
    assert (
        delivery(text + b"status=deferred (Server certificate not verified").verdict
        is Verdict.NOT_VERIFIED
    )
    assert parse_message("smtp", text) == Skipped("ABC123", Verdict.OTHER, None)


@pytest.mark.parametrize(
    "relay", [b"none", b"local", b"mx.a.example[private/lmtp]", b"mx.a.example"]
)
def test_a_relay_without_an_address_is_no_host(relay: bytes) -> None:
    assert delivery(b"ABC123: to=<u@d.example>, relay=" + relay + b", " + REST).relay is None


@pytest.mark.parametrize(
    ("tls", "use"),
    [
        (b"", TlsUse.UNTOLD),
        (b"tls=may, ", TlsUse.USED),
        (b"tls=dane:encrypt, ", TlsUse.USED),
        (b"tls=secure/!requiretls:none, ", TlsUse.USED),
        (b"tls=may:none/requiretls:none, ", TlsUse.PLAIN),
        (b"tls=none, ", TlsUse.OTHER),
        (b"tls=!encrypt, ", TlsUse.OTHER),
        (b"tls=unknown?, ", TlsUse.OTHER),
    ],
)
def test_the_tls_field_says_what_was_used(tls: bytes, use: TlsUse) -> None:
    rest = b"delay=1, delays=0/0/0/0, " + tls + b"dsn=2.0.0, status=sent (250 ok)"
    assert delivery(b"ABC123: to=<u@d.example>, relay=" + NA + b", " + rest).tls is use


@pytest.mark.parametrize(
    ("reason", "verdict", "peer"),
    [
        (b"Server certificate not verified", Verdict.NOT_VERIFIED, None),
        (b"Server certificate not trusted", Verdict.NOT_TRUSTED, None),
        (b"Cannot start TLS: handshake failure", Verdict.HANDSHAKE, None),
        (b"Cannot open file", Verdict.OTHER, None),
        (
            b"TLS is required, but was not offered by host MX.a.example[192.0.2.1]",
            Verdict.STARTTLS,
            HOST,
        ),
        (
            b"TLS is required, but host mx.a.example[192.0.2.1] refused to start TLS: 454 x",
            Verdict.STARTTLS,
            HOST,
        ),
        (b"TLS is required, but our TLS engine is unavailable", Verdict.OTHER, None),
        (
            REQUIRETLS + b"no matching server certificate was found. The last",
            Verdict.NOT_VERIFIED,
            None,
        ),
        (REQUIRETLS + b"no trusted server certificate was found.", Verdict.NOT_TRUSTED, None),
        (
            REQUIRETLS + b"host mx.a.example[192.0.2.1] refused to start TLS: 4",
            Verdict.STARTTLS,
            HOST,
        ),
        (
            REQUIRETLS + b"TLS service was not offered by host mx.a.example[192.0.2.1]",
            Verdict.STARTTLS,
            HOST,
        ),
        (
            REQUIRETLS + b"REQUIRETLS support was not offered by host m[1.2.3.4]",
            Verdict.OTHER,
            None,
        ),
        (b"lost connection with mx.a.example[192.0.2.1]", Verdict.OTHER, None),
        (b"", Verdict.OTHER, None),
    ],
)
def test_a_reason_is_one_of_tls_only_in_postfixs_own_words(
    reason: bytes, verdict: Verdict, peer: Peer | None
) -> None:
    assert parse_message("smtp", b"ABC123: " + reason) == Skipped("ABC123", verdict, peer)


@pytest.mark.parametrize(
    ("status", "spoke"),
    [
        (b"sent (250 ok)", True),
        (b"deliverable (250 ok)", True),
        (b"bounced (host m said: 550 no (in reply to RCPT TO command))", True),
        (b"deferred (host m said: 450 no (in reply to end of DATA command)", True),
        (b"deferred (host m refused to talk to me: 554 no)", False),
        (b"bounced (host m said: 550 no (in reply to EHLO command))", False),
    ],
)
def test_a_server_spoke_if_the_dialogue_went_beyond_ehlo(status: bytes, *, spoke: bool) -> None:
    rest = b", delay=1, delays=0/0/0/0, dsn=2.0.0, status=" + status
    assert delivery(b"ABC123: to=<u@d.example>, relay=" + NA + rest).spoke is spoke


@pytest.mark.parametrize(
    ("program", "text", "message"),
    [
        (
            "qmgr",
            b"ABC123: from=<a@b.example>, size=1, nrcpt=1",
            Sender("ABC123", "a@b.example", expired=False),
        ),
        (
            "qmgr",
            b"ABC123: from=<>, size=1, nrcpt=1 (queue active)",
            Sender("ABC123", "", expired=False),
        ),
        (
            "qmgr",
            b"ABC123: from=<a@b.example>, status=expired, returned to sender",
            Sender("ABC123", "a@b.example", expired=True),
        ),
        (
            "qmgr",
            b"ABC123: from=<a@b.example>, status=force-expired, returned to sender",
            Sender("ABC123", "a@b.example", expired=True),
        ),
        ("qmgr", b"ABC123: removed", Removed("ABC123")),
        ("qmgr", b"ABC123: removed?", None),
        ("master", b"daemon started -- version 3.10.5", Note.STARTED),
        (
            "master",
            b"warning: process /usr/lib/postfix/sbin/smtp pid 77 exit status 1",
            ProcessEnded(77),
        ),
        (
            "master",
            b"warning: process /usr/lib/postfix/sbin/smtp pid 77 killed by signal 9",
            ProcessEnded(77),
        ),
        ("master", b"reload -- version 3.10.5", None),
    ],
)
def test_the_managers_say_who_owns_and_who_ended(
    program: str, text: bytes, message: Message | None
) -> None:
    assert parse_message(program, text) == message


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"connect to mx.a.example[192.0.2.1]:25: Connection refused",
        b"Trusted TLS connection to nowhere",
        b"server gone",
        b"certificate of honour",
        b"SSL_connect:before SSL initialization",
        b"SSL_connect error to nowhere",
        b"TLS is good",
        b"TLSRPT: nothing",
        b"looking for something",
        b"Host offered nothing",
        b"warning: something else",
        b"NOQUEUE: reject",
        b"statistics: max",
        b"read from 55D8A12B30 [55D8A12B33] (5 bytes => -1)",
        b"0000 16 03 01 01 2e",
    ],
)
def test_what_means_nothing_here_is_none(text: bytes) -> None:
    assert parse_message("smtp", text) is None

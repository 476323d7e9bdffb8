"""Which policies a session counts under: a table of what happened and what was in force."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from postfix_mtasts.core import mta_sts, tlsa
from postfix_mtasts.core.applied import (
    InForce,
    finding_of_daemon,
    findings_of_datagram,
    findings_of_event,
    news_for_datagrams,
)
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import (
    Failure,
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.postfix_log import HANDSHAKE_FAILURE, NO_DANE_MATCH, NOT_IN_STS_POLICY
from postfix_mtasts.core.tls_event import DatagramFate, Fault, Outcome, ResultType, TlsEvent

TEXT = b"version: STSv1\nmode: %b\nmx: mx.example.com\nmax_age: 86400\n"
RECORD = tlsa.Record(usage=3, selector=1, matching_type=1, data=b"\xab" * 32)
TLSA = {"mx.example.com": (RECORD,)}

NOTHING = InForce()
NO_POLICY = InForce(hosts=frozenset({"mx.example.com"}))  # as the policy daemon knows


def sts(mode: bytes, *, dane: bool = False) -> InForce:
    text = TEXT % mode
    return InForce(sts=mta_sts.parse_policy(text), text=text, tlsa=TLSA if dane else {})


ENFORCE, TESTING, MODE_NONE = sts(b"enforce"), sts(b"testing"), sts(b"none")
DANE = InForce(tlsa=TLSA)
BOTH = sts(b"enforce", dane=True)

EXPIRED = Fault(kind=ResultType.CERTIFICATE_EXPIRED)
MISMATCH = Fault(kind=ResultType.CERTIFICATE_HOST_MISMATCH)
NO_MATCH = Fault(kind=ResultType.CERTIFICATE_NOT_TRUSTED, reason=NO_DANE_MATCH)
NO_STARTTLS = Fault(kind=ResultType.STARTTLS_NOT_SUPPORTED)
UNUSABLE = Fault(kind=ResultType.TLSA_INVALID, reason="all-TLSA-records-unusable")
BOGUS = Fault(kind=ResultType.DNSSEC_INVALID)
FETCH = Fault(kind=ResultType.STS_POLICY_FETCH_ERROR)

S, F, P, U = Outcome.SUCCESS, Outcome.FAILURE, Outcome.PLAINTEXT, Outcome.UNSEEN


def event(
    outcome: Outcome = S,
    fault: Fault | None = None,
    *,
    mx: str = "mx.example.com",
    connected: bool = True,
    ours: bool = False,
    domain: str = "example.com",
    datagram: DatagramFate = DatagramFate.NONE,
) -> TlsEvent:
    return TlsEvent(
        when=0.0,
        domain=domain,
        outcome=outcome,
        fault=fault,
        mx=mx,
        ip="192.0.2.1",
        connected=connected,
        ours=ours,
        datagram=datagram,
    )


def told(findings: Sequence[Finding]) -> str:
    """Return findings in short: "sts- certificate-expired" is a failed session under MTA-STS."""
    marks = {False: "+", True: "-", None: "?"}
    return ", ".join(
        " ".join(
            [
                f"{finding.policy.type.value}{marks[finding.failed]}",
                *(failure.result_type.value for failure in finding.failures),
            ]
        )
        for finding in findings
    )


@pytest.mark.parametrize(
    ("session", "in_force", "counts"),
    [
        # Success.
        (event(), NOTHING, "no-policy-found+"),
        (event(), MODE_NONE, "no-policy-found+"),
        (event(), ENFORCE, "sts+"),
        (event(), TESTING, "sts+"),
        (event(), DANE, "tlsa+"),
        (event(), BOTH, "tlsa+, sts+"),
        (event(mx="mx2.example.com"), DANE, "no-policy-found+"),
        # A fault that Postfix let pass.
        (event(S, EXPIRED), NOTHING, "no-policy-found+"),
        (event(S, EXPIRED), TESTING, "sts- certificate-expired"),
        (event(S, EXPIRED), ENFORCE, "sts- certificate-expired"),
        (event(S, EXPIRED), DANE, "tlsa+"),
        (event(S, EXPIRED), BOTH, "tlsa+, sts+"),
        (event(S, UNUSABLE), DANE, "tlsa+"),
        (event(S, UNUSABLE), BOTH, "tlsa+, sts+"),
        # Hosts that the policy does not list.
        (event(mx="mx.evil.example"), TESTING, "sts- validation-failure"),
        (event(mx="mx.evil.example"), ENFORCE, "sts- validation-failure"),
        (event(mx="mx.evil.example"), NOTHING, "no-policy-found+"),
        (event(mx="mx.evil.example"), MODE_NONE, "no-policy-found+"),
        (event(mx=""), TESTING, "sts+"),
        (
            event(S, EXPIRED, mx="mx.evil.example"),
            TESTING,
            "sts- certificate-expired validation-failure",
        ),
        (
            event(F, NOT_IN_STS_POLICY, mx="mx.evil.example", connected=False),
            ENFORCE,
            "sts- validation-failure",
        ),
        (event(F, NOT_IN_STS_POLICY, connected=False), NOTHING, "sts- validation-failure"),
        (event(F, NOT_IN_STS_POLICY, connected=False), DANE, "sts- validation-failure"),
        # Failure.
        (event(F, EXPIRED), NOTHING, "no-policy-found- certificate-expired"),
        (event(F, EXPIRED), ENFORCE, "sts- certificate-expired"),
        (event(F, EXPIRED), DANE, "tlsa- certificate-expired"),
        (event(F, EXPIRED), BOTH, "tlsa- certificate-expired"),
        (
            event(F, NO_STARTTLS),
            BOTH,
            "tlsa- starttls-not-supported, sts- starttls-not-supported",
        ),
        (event(F, HANDSHAKE_FAILURE), BOTH, "tlsa- validation-failure, sts- validation-failure"),
        (event(F, HANDSHAKE_FAILURE), NOTHING, "no-policy-found- validation-failure"),
        # A certificate refused of which no policy asked for that.
        (event(F, EXPIRED), NO_POLICY, "no-policy-found+"),
        (event(F, MISMATCH), NO_POLICY, "no-policy-found+"),
        (event(F, MISMATCH), replace(MODE_NONE, hosts=NO_POLICY.hosts), "no-policy-found+"),
        (
            event(F, MISMATCH, mx="mx2.example.com"),
            replace(DANE, hosts=NO_POLICY.hosts),
            "no-policy-found+",
        ),
        (event(F, MISMATCH), replace(DANE, hosts=NO_POLICY.hosts), f"tlsa- {MISMATCH.kind.value}"),
        (
            event(F, MISMATCH),
            replace(ENFORCE, hosts=NO_POLICY.hosts),
            f"sts- {MISMATCH.kind.value}",
        ),
        (event(F, MISMATCH), NOTHING, f"no-policy-found- {MISMATCH.kind.value}"),
        (event(F, MISMATCH), TESTING, "sts+"),
        (event(F, MISMATCH, mx="mx.evil.example"), TESTING, "sts- validation-failure"),
        (event(F, EXPIRED), TESTING, "sts- certificate-expired"),
        (event(F, HANDSHAKE_FAILURE), NO_POLICY, "no-policy-found- validation-failure"),
        (event(F, NO_MATCH), NO_POLICY, "no-policy-found- certificate-not-trusted"),
        (event(F, NO_STARTTLS), NO_POLICY, "no-policy-found- starttls-not-supported"),
        # TLSA and DNSSEC at fault: nothing is known under MTA-STS.
        (event(F, BOGUS, connected=False), NOTHING, "tlsa- dnssec-invalid"),
        (event(F, BOGUS, connected=False), BOTH, "tlsa- dnssec-invalid"),
        (event(F, BOGUS, connected=False, mx=""), NOTHING, "tlsa- dnssec-invalid"),
        (event(F, BOGUS, connected=False, mx="no host"), NOTHING, "tlsa- dnssec-invalid"),
        (event(F, UNUSABLE), DANE, "tlsa- tlsa-invalid"),
        (event(F, UNUSABLE), ENFORCE, "tlsa- tlsa-invalid"),
        # The policy of MTA-STS at fault: nothing is known under TLSA.
        (event(F, FETCH), NOTHING, "sts- sts-policy-fetch-error"),
        (event(F, FETCH), ENFORCE, "sts- sts-policy-fetch-error"),
        (event(F, FETCH), BOTH, "sts- sts-policy-fetch-error"),
        # In the clear.
        *((event(P), NOTHING, ""), (event(U), NOTHING, ""), (event(P), MODE_NONE, "")),
        *((event(P), ENFORCE, "sts- starttls-not-supported"),),
        *((event(U), TESTING, "sts- starttls-not-supported"),),
        *((event(P), DANE, "tlsa- starttls-not-supported"),),
        (event(P), BOTH, "tlsa- starttls-not-supported, sts- starttls-not-supported"),
        # Not counted at all.
        *((event(ours=True), ENFORCE, ""), (event(F, EXPIRED, ours=True), BOTH, "")),
        *((event(domain="192.0.2.1"), NOTHING, ""), (event(domain="a\r\nb"), ENFORCE, "")),
    ],
)
def test_an_event_counts_under_the_policies_that_applied(
    session: TlsEvent, in_force: InForce, counts: str
) -> None:
    assert told(findings_of_event(session, in_force, tls_logged=True)) == counts


def test_without_lines_on_tls_nothing_is_made_of_their_absence() -> None:
    assert findings_of_event(event(U), TESTING, tls_logged=False) == ()
    assert findings_of_event(event(P), TESTING, tls_logged=False) != ()


def test_a_finding_has_the_policy_and_the_host_of_its_session() -> None:
    under_tlsa, under_sts = findings_of_event(event(F, NO_STARTTLS), BOTH, tls_logged=True)
    failure = Failure(
        result_type=ResultType.STARTTLS_NOT_SUPPORTED,
        mx_host="mx.example.com",
        receiving_ip="192.0.2.1",
    )
    assert under_tlsa == Finding(
        domain="example.com",
        policy=build_policy(PolicyType.TLSA, "mx.example.com", [str(RECORD)]),
        failed=True,
        failures=(failure,),
    )
    lines = ["version: STSv1", "mode: enforce", "mx: mx.example.com", "max_age: 86400"]
    assert under_sts == Finding(
        domain="example.com",
        policy=build_policy(PolicyType.STS, "example.com", lines, ["mx.example.com"]),
        failed=True,
        failures=(failure,),
    )


def test_a_host_outside_the_policy_is_named_with_its_address_and_the_reason() -> None:
    (finding,) = findings_of_event(event(mx="mx.evil.example"), TESTING, tls_logged=True)
    assert finding.failures == (
        Failure(
            result_type=ResultType.VALIDATION_FAILURE,
            mx_host="mx.evil.example",
            receiving_ip="192.0.2.1",
            reason="MX host does not match the MTA-STS policy",
        ),
    )


def test_the_log_names_a_host_outside_the_policy_beside_the_datagram_that_counts_it() -> None:
    outside = event(mx="mx.evil.example", datagram=DatagramFate.SENT)
    assert told(news_for_datagrams(outside, TESTING)) == "sts? validation-failure"
    for other in (
        event(datagram=DatagramFate.SENT),
        event(mx="mx.evil.example"),
        event(mx="mx.evil.example", datagram=DatagramFate.LOST),
        event(F, EXPIRED, mx="mx.evil.example", datagram=DatagramFate.SENT),
        event(mx="mx.evil.example", datagram=DatagramFate.SENT, ours=True),
        event(mx="mx.evil.example", datagram=DatagramFate.SENT, domain="192.0.2.1"),
    ):
        assert news_for_datagrams(other, TESTING) == ()
    assert news_for_datagrams(outside, NOTHING) == ()


CERTIFICATE = build_failure(ResultType.CERTIFICATE_EXPIRED, mx_host="mx.example.com")
STARTTLS = build_failure(ResultType.STARTTLS_NOT_SUPPORTED, mx_host="mx.example.com")
ELSEWHERE = build_failure(ResultType.CERTIFICATE_EXPIRED, mx_host="mx.evil.example")


@pytest.mark.parametrize(
    ("kind", "failed", "failures", "in_force", "counts"),
    [
        (PolicyType.STS, False, (), ENFORCE, "sts+"),
        (PolicyType.STS, True, (ELSEWHERE,), BOTH, "sts- certificate-expired"),
        (PolicyType.TLSA, False, (), DANE, "tlsa+"),
        (PolicyType.TLSA, False, (), MODE_NONE, "tlsa+"),
        (PolicyType.TLSA, False, (), ENFORCE, "tlsa+, sts+"),
        (PolicyType.TLSA, True, (CERTIFICATE,), ENFORCE, "tlsa- certificate-expired"),
        (PolicyType.TLSA, True, (), ENFORCE, "tlsa-"),
        (
            PolicyType.TLSA,
            True,
            (STARTTLS,),
            ENFORCE,
            "tlsa- starttls-not-supported, sts- starttls-not-supported",
        ),
        (PolicyType.NO_POLICY_FOUND, False, (), NOTHING, "no-policy-found+"),
        (PolicyType.NO_POLICY_FOUND, True, (CERTIFICATE,), NO_POLICY, "no-policy-found+"),
        (PolicyType.NO_POLICY_FOUND, True, (), NO_POLICY, "no-policy-found-"),
        (
            PolicyType.NO_POLICY_FOUND,
            True,
            (STARTTLS, CERTIFICATE),
            NO_POLICY,
            "no-policy-found- starttls-not-supported",
        ),
        (
            PolicyType.NO_POLICY_FOUND,
            True,
            (CERTIFICATE,),
            NOTHING,
            "no-policy-found- certificate-expired",
        ),
        (PolicyType.NO_POLICY_FOUND, False, (), DANE, "no-policy-found+"),
        (PolicyType.NO_POLICY_FOUND, False, (), TESTING, "sts+"),
        (PolicyType.NO_POLICY_FOUND, True, (), TESTING, "sts-"),
        (PolicyType.NO_POLICY_FOUND, True, (CERTIFICATE,), BOTH, "sts- certificate-expired"),
        (
            PolicyType.NO_POLICY_FOUND,
            True,
            (ELSEWHERE,),
            TESTING,
            "sts- certificate-expired validation-failure",
        ),
        (
            PolicyType.NO_POLICY_FOUND,
            True,
            (build_failure(ResultType.DNSSEC_INVALID),),
            TESTING,
            "no-policy-found- dnssec-invalid",
        ),
    ],
)
def test_a_datagram_counts_as_it_says_and_under_mta_sts_as_far_as_is_known(
    kind: PolicyType,
    failed: bool,  # noqa: FBT001 - a table
    failures: tuple[Failure, ...],
    in_force: InForce,
    counts: str,
) -> None:
    policy = build_policy(kind, "mx.example.com")
    finding = build_finding("example.com", policy, failures, failed=failed)
    assert told(findings_of_datagram(finding, in_force)) == counts


def test_what_the_daemon_finds_out_is_a_failure_under_the_policy_at_fault() -> None:
    fetch = finding_of_daemon(
        "example.com", ResultType.STS_POLICY_FETCH_ERROR, "http-status-404", NOTHING
    )
    assert fetch == Finding(
        domain="example.com",
        policy=build_policy(PolicyType.STS, "example.com"),
        failed=True,
        failures=(
            Failure(result_type=ResultType.STS_POLICY_FETCH_ERROR, reason="http-status-404"),
        ),
    )
    again = finding_of_daemon("example.com", ResultType.STS_WEBPKI_INVALID, "", ENFORCE)
    assert again.policy.strings[1] == "mode: enforce"
    assert again.policy.mx_hosts == ("mx.example.com",)
    assert again.failed is None, "no session fails while a policy is in force"


def test_the_text_of_an_invalid_policy_is_told_with_its_errors() -> None:
    broken = InForce(text=b"version: STSv1\nmode: enforced\nmx: mx.example.com\n")
    finding = finding_of_daemon("example.com", ResultType.STS_POLICY_INVALID, "", broken)
    assert finding.policy.strings == ("version: STSv1", "mode: enforced", "mx: mx.example.com")


def test_what_the_daemon_finds_out_of_tlsa_concerns_the_host() -> None:
    finding = finding_of_daemon(
        "example.com", ResultType.TLSA_INVALID, "", DANE, host="mx.example.com"
    )
    assert finding.policy == build_policy(PolicyType.TLSA, "mx.example.com", [str(RECORD)])
    assert finding.failures[0].mx_host == "mx.example.com"
    no_host = finding_of_daemon("example.com", ResultType.DNSSEC_INVALID, "", NOTHING)
    assert no_host.policy == build_policy(PolicyType.TLSA, "example.com")
    with pytest.raises(ParseError):
        finding_of_daemon("a b", ResultType.DNSSEC_INVALID, "", NOTHING)

"""The datagrams of libtlsrpt: real ones are read, all others refused by kind."""

import json
from typing import Any

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import (
    MAX_FAILURES,
    AppliedPolicy,
    Failure,
    Finding,
    PolicyType,
)
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.tlsrpt_datagram import (
    MAX_DATAGRAM,
    MAX_POLICIES,
    Datagram,
    DatagramError,
    parse_datagram,
)

# As Postfix 3.12 sent them, and 3.10.0 the last.
STS_FAILED = (
    rb'{"dpv": "1","d": "sts-self.test","pr": "v=TLSRPTv1; rua=mailto:tlsrpt@sts-self.test",'
    rb'"policies":[{"policy-type":2,"policy-domain": "sts-self.test","policy-string":'
    rb'["version: STSv1","mode: enforce","mx: mx.sts-self.test","max_age: 604800"],'
    rb'"mx-host":["mx.sts-self.test"],"failure-details":[{"c":205,"s": "127.0.0.1",'
    rb'"n": "mx.sts-self.test","h": "250-mx.sts-self.test\r\n250-SIZE 33554432\r\n250 HELP",'
    rb'"r": "127.0.0.12","f": "self-signed_certificate"}],"t":1,"f":1}]}'
)
DANE_OK = (
    rb'{"dpv": "1","d": "dane-ok.test","pr": "v=TLSRPTv1; rua=mailto:a@dane-ok.test",'
    rb'"policies":[{"policy-type":1,"policy-domain": "mx.dane-ok.test","policy-string":'
    rb'["3 1 1 7454D6BD194B74EAC5AA9F3F841C6D6B4C37F6C5DD61339A48CDC7DC71749249"],"t":0,"f":0}]}'
)
NO_POLICY_OLD = (
    rb'{"d": "nopol.test","pr": "v=TLSRPTv1; rua=mailto:tlsrpt@nopol.test",'
    rb'"policies":[{"policy-type":9,"t":0,"f":0}]}'
)
NO_POLICY = {"policy-type": 9, "policy-domain": "example.com", "t": 0, "f": 0}


def datagram(policy: object = None, **members: object) -> bytes:
    """Return a datagram of one policy, by default none found, with *members* changed."""
    value = {"dpv": "1", "d": "example.com", "policies": [NO_POLICY if policy is None else policy]}
    return json.dumps(value | members).encode()


def failing(**members: object) -> bytes:
    """Return a datagram of a session with one failure of *members*."""
    return datagram({"policy-type": 9, "failure-details": [members], "t": 1, "f": 1})


def only(data: bytes) -> Finding:
    (finding,) = parse_datagram(data).findings
    return finding


def test_a_failure_under_mta_sts_is_read_whole() -> None:
    assert parse_datagram(STS_FAILED) == Datagram(
        domain="sts-self.test",
        findings=(
            Finding(
                domain="sts-self.test",
                policy=AppliedPolicy(
                    type=PolicyType.STS,
                    domain="sts-self.test",
                    strings=(
                        *("version: STSv1", "mode: enforce"),
                        *("mx: mx.sts-self.test", "max_age: 604800"),
                    ),
                    mx_hosts=("mx.sts-self.test",),
                ),
                failed=True,
                failures=(
                    Failure(
                        result_type=ResultType.VALIDATION_FAILURE,
                        sending_ip="127.0.0.1",
                        mx_host="mx.sts-self.test",
                        helo="mx.sts-self.test",
                        receiving_ip="127.0.0.12",
                        reason="self-signed_certificate",
                    ),
                ),
            ),
        ),
    )


def test_the_policy_domain_of_dane_is_the_host() -> None:
    finding = only(DANE_OK)
    assert finding.domain == "dane-ok.test"
    assert finding.policy.type is PolicyType.TLSA
    assert finding.policy.domain == "mx.dane-ok.test"
    assert not finding.failed


def test_before_3_10_5_a_missing_policy_domain_is_the_domain() -> None:
    finding = only(NO_POLICY_OLD)
    assert finding.policy == AppliedPolicy(type=PolicyType.NO_POLICY_FOUND, domain="nopol.test")


@pytest.mark.parametrize(
    ("code", "result_type"),
    [
        (201, ResultType.STARTTLS_NOT_SUPPORTED),
        (202, ResultType.CERTIFICATE_HOST_MISMATCH),
        (203, ResultType.CERTIFICATE_NOT_TRUSTED),
        (204, ResultType.CERTIFICATE_EXPIRED),
        (205, ResultType.VALIDATION_FAILURE),
        (301, ResultType.STS_POLICY_FETCH_ERROR),
        (302, ResultType.STS_POLICY_INVALID),
        (303, ResultType.STS_WEBPKI_INVALID),
        (304, ResultType.TLSA_INVALID),
        (305, ResultType.DNSSEC_INVALID),
        (306, ResultType.DANE_REQUIRED),
        (901, ResultType.VALIDATION_FAILURE),
        (-1, ResultType.VALIDATION_FAILURE),
    ],
)
def test_every_code_has_its_result_type(code: int, result_type: ResultType) -> None:
    (failure,) = only(failing(c=code)).failures
    assert failure == Failure(result_type=result_type)


def test_a_session_may_recover_and_may_fail_without_saying_how() -> None:
    recovered = {"policy-type": 9, "failure-details": [{"c": 202}], "t": 1, "f": 0}
    assert not only(datagram(recovered)).failed
    assert only(datagram(recovered)).failures
    assert only(datagram({"policy-type": 9, "f": 1})) == Finding(
        domain="example.com",
        policy=AppliedPolicy(type=PolicyType.NO_POLICY_FOUND, domain="example.com"),
        failed=True,
    )


def test_members_that_are_not_known_are_passed_over_and_null_is_absence() -> None:
    policy = NO_POLICY | {"policy-domain": None, "failure-details": None, "new": [1]}
    assert only(datagram(policy, new={"a": 1}, pr=None)) == only(datagram())


def test_names_in_any_case_become_a_labels() -> None:
    policy = {"policy-type": 1, "policy-domain": "MX.Example.COM.", "f": 0}
    finding = only(datagram(policy, d="München.Example."))
    assert (finding.domain, finding.policy.domain) == ("xn--mnchen-3ya.example", "mx.example.com")


def test_octets_that_are_no_utf_8_are_forgiven() -> None:
    data = failing(c=205, h="250-mx@.example", f="reason @").replace(b"@", b"\xff")
    (failure,) = only(data).failures
    assert (failure.helo, failure.reason) == ("mx?.example", "reason ?")


def test_several_policies_are_several_findings() -> None:
    data = datagram(policies=[NO_POLICY, {"policy-type": 2, "f": 1}])
    assert [finding.failed for finding in parse_datagram(data).findings] == [False, True]


def test_what_is_kept_of_a_datagram_is_bounded() -> None:
    details = [{"c": 205, "f": str(n)} for n in range(100)]
    policy = {"policy-type": 9, "failure-details": details, "f": 1}
    findings = parse_datagram(datagram(policies=[policy] * 100)).findings
    assert len(findings) == MAX_POLICIES
    assert len(findings[0].failures) == MAX_FAILURES


def test_the_longest_datagram_is_read() -> None:
    data = datagram()
    assert parse_datagram(data + b" " * (MAX_DATAGRAM - len(data)))


POLICY: dict[str, Any] = {"policy-type": 2, "f": 0}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b" " * (MAX_DATAGRAM + 1), "size"),
        *((b"", "json"), (b"\0", "json"), (b"[]", "json"), (b'"x"', "json"), (b"{", "json")),
        *((b"\xef\xbb\xbf{}", "json"), (b"[" * 200000, "json"), (b"1" * 5000, "json")),
        *((datagram(dpv="2"), "version"), (datagram(dpv=1), "version")),
        (datagram(dpv=None), "version"),
        *((datagram(d=None), "domain"), (datagram(d=["example.com"]), "domain")),
        *((datagram(d=""), "domain"), (datagram(d="192.0.2.1"), "domain")),
        (datagram(d="example.com\r\nBcc: x"), "domain"),
        (datagram(POLICY | {"policy-domain": "a b"}), "domain"),
        (datagram(POLICY | {"policy-domain": 1}), "domain"),
        *((datagram(policies=[]), "policy"), (datagram(policies={}), "policy")),
        *((datagram(policies=None), "policy"), (datagram([]), "policy"), (datagram("x"), "policy")),
        (datagram(POLICY | {"policy-type": 3}), "policy"),
        (datagram(POLICY | {"policy-type": "2"}), "policy"),
        (datagram(POLICY | {"policy-type": True}), "policy"),
        (datagram(POLICY | {"policy-type": [2]}), "policy"),
        *((datagram({"policy-type": 2}), "policy"), (datagram(POLICY | {"f": 2}), "policy")),
        *((datagram(POLICY | {"f": True}), "policy"), (datagram(POLICY | {"f": "0"}), "policy")),
        (datagram(POLICY | {"policy-string": "x"}), "policy"),
        (datagram(POLICY | {"policy-string": ["x", 1]}), "policy"),
        (datagram(POLICY | {"mx-host": {"a": 1}}), "policy"),
        (datagram(POLICY | {"failure-details": {}}), "failure"),
        (datagram(POLICY | {"failure-details": ["x"]}), "failure"),
        *((failing(), "failure"), (failing(c="205"), "failure"), (failing(c=205.0), "failure")),
        *((failing(c=205, s=1), "failure"), (failing(c=205, f=["x"]), "failure")),
    ],
)
def test_everything_else_is_refused_and_says_of_which_kind_it_is(data: bytes, kind: str) -> None:
    with pytest.raises(ParseError) as refused:
        parse_datagram(data)
    assert isinstance(refused.value, DatagramError)
    assert refused.value.kind == kind
    assert len(str(refused.value)) < 200

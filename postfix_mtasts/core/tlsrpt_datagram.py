"""What Postfix >= 3.10 tells of a TLS session: the datagrams of libtlsrpt.

Each is one JSON object about one session: the domain, and for each policy that
applied whether it was met and what went wrong.  They come without framing,
numbering or acknowledgement.

::

    {"dpv": "1", "d": domain, "pr": TXT record,
     "policies": [{"policy-type": 1 tlsa | 2 sts | 9 none, "policy-domain": name,
       "policy-string": [line, ...], "mx-host": [pattern, ...],
       "failure-details": [{"c": code, "s": sending address, "n": MX host,
         "h": reply to EHLO, "r": receiving address, "a": URI, "f": reason}, ...],
       "t": number of failures, "f": 0 success | 1 failure}, ...]}

libtlsrpt before 0.5.0 sends no "dpv", Postfix before 3.10.5 no "policy-domain"
where there is no policy, and octets beyond ASCII come as the MX host sent them,
in UTF-8 or not.  Members that are not known are passed over.  A failure with an
unknown code is a "validation-failure" (RFC 8460 section 4.3.3).

Sessions that went alike are told of in the same octets, so a collector counts
the octets and parses each kind once.

BUGS: "pr" is not read, for the record of the day on which a report is sent
counts; nor is "t".
"""

import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import (
    MAX_FAILURES,
    AppliedPolicy,
    Failure,
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.tls_event import ResultType

MAX_DATAGRAM = 262144
"""No longer datagram is read; the kernel lets a sender with default buffers send 212,960 octets."""

MAX_POLICIES = 16
"""No more policies of one session are kept; Postfix tells of one."""

Kind: TypeAlias = Literal["size", "json", "version", "domain", "policy", "failure"]
"""What is wrong with a datagram: a label under which bad ones are counted."""

_VERSION = "1"
_POLICY_TYPES = {1: PolicyType.TLSA, 2: PolicyType.STS, 9: PolicyType.NO_POLICY_FOUND}
_RESULT_TYPES = {
    201: ResultType.STARTTLS_NOT_SUPPORTED,
    202: ResultType.CERTIFICATE_HOST_MISMATCH,
    203: ResultType.CERTIFICATE_NOT_TRUSTED,
    204: ResultType.CERTIFICATE_EXPIRED,
    205: ResultType.VALIDATION_FAILURE,
    301: ResultType.STS_POLICY_FETCH_ERROR,
    302: ResultType.STS_POLICY_INVALID,
    303: ResultType.STS_WEBPKI_INVALID,
    304: ResultType.TLSA_INVALID,
    305: ResultType.DNSSEC_INVALID,
    306: ResultType.DANE_REQUIRED,
}


class DatagramError(ParseError):
    """A datagram that is not libtlsrpt's; *kind* is one of few words."""

    def __init__(self, kind: Kind, what: str) -> None:
        super().__init__(what)
        self.kind: Kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """What is told of one session; only `parse_datagram` makes one.

    *findings*: at least one, each with *domain*, A-labels, as its domain.
    """

    domain: str
    findings: tuple[Finding, ...]


def parse_datagram(data: bytes) -> Datagram:
    """Return what the datagram *data* tells.

    Raises DatagramError, a ParseError, for everything that is none.
    """
    value = _load(data)
    if value.get("dpv", _VERSION) != _VERSION:
        raise DatagramError("version", "datagram of a version other than '1'")
    domain = _name(value.get("d"))
    policies = value.get("policies")
    if not isinstance(policies, list) or not policies:
        raise DatagramError("policy", "datagram without policies")
    findings = tuple(_finding(domain, policy) for policy in policies[:MAX_POLICIES])
    return Datagram(domain=domain, findings=findings)


def _load(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_DATAGRAM:
        raise DatagramError("size", f"datagram longer than {MAX_DATAGRAM} octets")
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise DatagramError("json", "datagram that is not JSON") from None
    if not isinstance(value, dict):
        raise DatagramError("json", "datagram that is no JSON object")
    return value


def _name(value: object) -> str:
    try:
        return parse_domain(value if isinstance(value, str) else "")
    except ParseError as error:
        raise DatagramError("domain", f"datagram with a domain that is none: {error}") from None


def _finding(domain: str, value: object) -> Finding:
    if not isinstance(value, dict):
        raise DatagramError("policy", "datagram with a policy that is no JSON object")
    failed = value.get("f")
    if type(failed) is not int or failed not in (0, 1):
        raise DatagramError("policy", "datagram with a policy whose result is not 0 or 1")
    details = _list(value.get("failure-details"), "failure")
    failures = [_failure(detail) for detail in details[:MAX_FAILURES]]
    return build_finding(domain, _policy(domain, value), failures, failed=failed == 1)


def _policy(domain: str, value: dict[str, Any]) -> AppliedPolicy:
    code = value.get("policy-type")
    kind = _POLICY_TYPES.get(code) if type(code) is int else None
    if kind is None:
        raise DatagramError("policy", "datagram with a policy type other than 1, 2 and 9")
    named = value.get("policy-domain")
    return build_policy(
        kind,
        domain if named is None else _name(named),
        _strings(value.get("policy-string")),
        _strings(value.get("mx-host")),
    )


def _failure(value: object) -> Failure:
    if not isinstance(value, dict):
        raise DatagramError("failure", "datagram with a failure that is no JSON object")
    code = value.get("c")
    if type(code) is not int:
        raise DatagramError("failure", "datagram with a failure without its code")
    return build_failure(
        _RESULT_TYPES.get(code, ResultType.VALIDATION_FAILURE),
        sending_ip=_text(value.get("s")),
        mx_host=_text(value.get("n")),
        helo=_text(value.get("h")),
        receiving_ip=_text(value.get("r")),
        information=_text(value.get("a")),
        reason=_text(value.get("f")),
    )


def _list(value: object, kind: Kind) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise DatagramError(kind, "datagram with something else where a list should be")
    return value


def _strings(value: object) -> list[str]:
    lines = _list(value, "policy")
    if not all(isinstance(line, str) for line in lines):
        raise DatagramError("policy", "datagram with a policy that is not of strings")
    return lines


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DatagramError("failure", "datagram with a failure told in something but strings")
    return value

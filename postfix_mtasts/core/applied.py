"""Which policies a TLS session counts under, and how (RFC 8460 sections 4 and 4.3).

A domain may have an MTA-STS policy and TLSA records at its MX hosts at the same
time.  Then both are reported on (section 4), although Postfix applies one, TLSA
before MTA-STS, and tells of that one.  What is known of a session under the
policy that did not decide is told, and what is not known is not made up:

* TLS stood, or did not come about at all: true under every policy.
* The certificate was refused: a fault of the policy by which it was judged.
* TLSA records or their DNSSEC were at fault: under TLSA alone.
* The policy of MTA-STS was at fault: under MTA-STS alone.
* The MX host is not listed: under MTA-STS alone, whatever else happened.

A datagram says which policy Postfix applied.  "None found" is corrected by what
the policy daemon had in force, for Postfix cannot know of a policy in testing
mode, nor of any if the daemon was asked through the map "policy".  The log never
says which policy it was.

Below the levels that need a matching certificate Postfix logs faults and lets
the mail pass.  Under MTA-STS, in testing mode above all, they are failures of
the session (RFC 8461 section 5); without a policy nothing was asked for.

Where the domain is known to have published no policy, a certificate that Postfix
refused, or complained of, did not meet our own demands: those of the map
"requiretls", of main.cf, of ``smtp_tls_loglevel = untrusted``.  The constraints of
which RFC 8460 section 4.3.1 speaks are those of a policy; without one a session is
judged by whether TLS was negotiated, as it was (section 4.2).  The same holds in
testing mode for the name in the certificate, which Postfix compares there with names
of our own only.  Where it is not known what was in force, Postfix is believed.

BUGS: In testing mode Postfix does not compare the certificate with the host's
name, so a mismatch goes unseen.  A datagram on a success names no MX host except
under TLSA, so one under "none found" counts as meeting the MTA-STS policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from postfix_mtasts.core import mta_sts
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.finding import (
    AppliedPolicy,
    Failure,
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.postfix_log import HANDSHAKE_FAILURE, NO_DANE_MATCH, NOT_IN_STS_POLICY
from postfix_mtasts.core.tls_event import DatagramFate, Outcome, ResultType, TlsEvent
from postfix_mtasts.core.tlsa import Record as TlsaRecord

_OF_TLSA = {ResultType.TLSA_INVALID, ResultType.DNSSEC_INVALID, ResultType.DANE_REQUIRED}
_OF_STS = {
    ResultType.STS_POLICY_FETCH_ERROR,
    ResultType.STS_POLICY_INVALID,
    ResultType.STS_WEBPKI_INVALID,
}
_OF_CERTIFICATE = {
    ResultType.CERTIFICATE_HOST_MISMATCH,
    ResultType.CERTIFICATE_EXPIRED,
    ResultType.CERTIFICATE_NOT_TRUSTED,
    ResultType.VALIDATION_FAILURE,
}
# The daemon need not know of TLSA records that Postfix looked up by itself.
_OF_OTHERS = {HANDSHAKE_FAILURE.reason, NO_DANE_MATCH}


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What the policy daemon had in force for a domain at some moment.

    *sts*: the MTA-STS policy and *text*, the document it came from; `None` where
    there is none.  *tlsa*: the secure TLSA records, usable or not, by MX host.
    *hosts*: to which mail for the domain goes, its MX hosts; empty where Postfix never
    asked for the domain, `None` where that cannot be told.
    """

    sts: mta_sts.Policy | None = None
    text: bytes = b""
    tlsa: Mapping[str, tuple[TlsaRecord, ...]] = field(default_factory=dict)
    hosts: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """What a source tells of a session, before it is known under which policies it counts.

    *host*, *ip*: of the MX host, "" where not known.  *dane*: TLSA decided.
    *connected*: false where policy forbade to connect.
    """

    domain: str
    host: str
    ip: str
    failed: bool
    failures: tuple[Failure, ...]
    dane: bool
    connected: bool = True


def findings_of_event(
    event: TlsEvent, in_force: InForce, *, tls_logged: bool
) -> tuple[Finding, ...]:
    """Return what the *event* of a log counts for.

    *tls_logged*: Postfix logs the sessions that went well (smtp_tls_loglevel is 1
    or more), so that a session without a line on TLS was in the clear.  Nothing
    is counted of our own reports, of mail in the clear that no policy forbids,
    nor of next-hops that are no domains.
    """
    if event.ours or (event.outcome is Outcome.UNSEEN and not tls_logged):
        return ()
    if not _is_domain(event.domain):
        return ()
    session = _session(event, in_force)
    found = (_under_tlsa(session, in_force), _under_sts(session, in_force))
    findings = tuple(finding for finding in found if finding is not None)
    return findings if findings or _is_bare(event) else (_under_none(session),)


def news_for_datagrams(event: TlsEvent, in_force: InForce) -> tuple[Finding, ...]:
    """Return what the log adds to the datagram that counts the session of *event*.

    That is an MX host that the MTA-STS policy does not list, which only the log
    names where mail went there all the same.
    """
    counted = event.datagram is DatagramFate.SENT and event.outcome is Outcome.SUCCESS
    outside = _is_outside(in_force, event.mx)
    if event.ours or not counted or not outside or not _is_domain(event.domain):
        return ()
    policy = _sts_policy(event.domain, in_force)
    told = (_not_listed(event.mx, event.ip),)
    return (build_finding(event.domain, policy, told, failed=None),)


def findings_of_datagram(finding: Finding, in_force: InForce) -> tuple[Finding, ...]:
    """Return what *finding*, told by a datagram, counts for: itself, or what corrects it, first."""
    kind = finding.policy.type
    if kind is PolicyType.NO_POLICY_FOUND and finding.failures:
        failed, failures = _judged(bool(finding.failed), finding.failures, in_force)
        finding = replace(finding, failed=failed, failures=failures)
    if kind is PolicyType.STS or not _binds(in_force):
        return (finding,)
    session = _Session(
        domain=finding.domain,
        host=finding.failures[0].mx_host if finding.failures else "",
        ip=finding.failures[0].receiving_ip if finding.failures else "",
        failed=bool(finding.failed),
        failures=finding.failures,
        dane=kind is PolicyType.TLSA,
    )
    under_sts = _under_sts(session, in_force)
    told = (finding, under_sts) if session.dane or under_sts is None else (under_sts,)
    return tuple(found for found in told if found is not None)


def finding_of_daemon(
    domain: str, kind: ResultType, reason: str, in_force: InForce, *, host: str = ""
) -> Finding:
    """Return what the policy daemon itself found wrong with the policies of *domain*.

    *kind*: one of those that concern TLSA or MTA-STS policies.  *host*: the MX
    host whose TLSA records or DNSSEC are at fault.  While a policy is in force a
    fetch that failed is told, but no session has failed by it.

    Raises ParseError where *domain* or *host* is no host name.
    """
    failure = build_failure(kind, mx_host=host, reason=reason)
    if kind in _OF_TLSA:
        policy = _tlsa_policy(host or domain, in_force)
        return build_finding(domain, policy, [failure], failed=True)
    policy = _sts_policy(domain, in_force)
    return build_finding(domain, policy, [failure], failed=None if in_force.sts else True)


def _session(event: TlsEvent, in_force: InForce) -> _Session:
    failures: tuple[Failure, ...] = ()
    if _is_bare(event):
        failures = (_failure(event, ResultType.STARTTLS_NOT_SUPPORTED),)
    elif event.fault is not None:
        failures = (_failure(event, event.fault.kind, event.fault.reason),)
    failed = event.outcome is not Outcome.SUCCESS
    dane = event.connected and event.mx in in_force.tlsa
    if event.connected and not dane:
        failed, failures = _judged(failed, failures, in_force)
    return _Session(
        domain=event.domain,
        host=event.mx,
        ip=event.ip,
        failed=failed,
        failures=failures,
        dane=dane,
        connected=event.connected,
    )


def _judged(
    failed: bool,  # noqa: FBT001 - as it is returned
    failures: tuple[Failure, ...],
    in_force: InForce,
) -> tuple[bool, tuple[Failure, ...]]:
    """Return whether a session *failed* and of what but for what only we asked for."""
    kept = tuple(failure for failure in failures if not _is_our_demand(failure, in_force))
    return failed and (bool(kept) or not failures), kept


def _is_our_demand(failure: Failure, in_force: InForce) -> bool:
    """Return whether a certificate is at *failure*, of which no policy published asked that."""
    kind = failure.result_type
    if kind not in _OF_CERTIFICATE or failure.reason in _OF_OTHERS:
        return False
    if in_force.sts is not None and in_force.sts.mode == "testing":
        return kind is ResultType.CERTIFICATE_HOST_MISMATCH
    return not _binds(in_force) and in_force.hosts is not None


def _is_bare(event: TlsEvent) -> bool:
    return event.outcome in {Outcome.PLAINTEXT, Outcome.UNSEEN}


def _failure(event: TlsEvent, kind: ResultType, reason: str = "") -> Failure:
    return build_failure(kind, mx_host=event.mx, receiving_ip=event.ip, reason=reason)


def _under_tlsa(session: _Session, in_force: InForce) -> Finding | None:
    """Return the finding under TLSA, `None` where it did not apply."""
    own = any(failure.result_type in _OF_TLSA for failure in session.failures)
    if not session.dane and not own:
        return None
    # A chain that Postfix let pass is no matter for TLSA.
    told = session.failures if session.failed else ()
    kept = [failure for failure in told if failure.result_type not in _OF_STS]
    if told and not kept:
        return None
    host = session.host if _is_domain(session.host) else session.domain
    policy = _tlsa_policy(host, in_force)
    return build_finding(session.domain, policy, kept, failed=session.failed)


def _under_sts(session: _Session, in_force: InForce) -> Finding | None:
    """Return the finding under MTA-STS, `None` where it did not apply or nothing is known."""
    kept = [f for f in session.failures if _concerns_sts(f, dane=session.dane)]
    own = not session.connected or any(f.result_type in _OF_STS for f in kept)
    if not _binds(in_force) and not (own and kept):
        return None
    if session.connected and _is_outside(in_force, session.host):
        kept.append(_not_listed(session.host, session.ip))
    if session.failed and not kept and (session.failures or session.dane):
        return None
    policy = _sts_policy(session.domain, in_force)
    return build_finding(session.domain, policy, kept, failed=session.failed or bool(kept))


def _concerns_sts(failure: Failure, *, dane: bool) -> bool:
    """Return whether *failure* says anything of MTA-STS; *dane*: TLSA decided."""
    if failure.result_type in _OF_TLSA:
        return False
    without = {ResultType.STARTTLS_NOT_SUPPORTED, *_OF_STS}
    return not dane or failure.result_type in without or failure.reason == HANDSHAKE_FAILURE.reason


def _under_none(session: _Session) -> Finding:
    policy = build_policy(PolicyType.NO_POLICY_FOUND, session.domain)
    told = session.failures if session.failed else ()
    return build_finding(session.domain, policy, told, failed=session.failed)


def _binds(in_force: InForce) -> bool:
    return in_force.sts is not None and in_force.sts.mode != "none"


def _is_outside(in_force: InForce, host: str) -> bool:
    sts = in_force.sts
    return bool(host) and sts is not None and _binds(in_force) and not mta_sts.permits(sts, host)


def _not_listed(host: str, ip: str) -> Failure:
    return build_failure(
        NOT_IN_STS_POLICY.kind, mx_host=host, receiving_ip=ip, reason=NOT_IN_STS_POLICY.reason
    )


def _sts_policy(domain: str, in_force: InForce) -> AppliedPolicy:
    hosts = () if in_force.sts is None else in_force.sts.mx
    return build_policy(PolicyType.STS, domain, mta_sts.policy_lines(in_force.text), hosts)


def _tlsa_policy(host: str, in_force: InForce) -> AppliedPolicy:
    return build_policy(PolicyType.TLSA, host, map(str, in_force.tlsa.get(host, ())))


def _is_domain(name: str) -> bool:
    try:
        return bool(parse_domain(name))
    except ParseError:
        return False

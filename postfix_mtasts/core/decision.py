"""What to tell Postfix of a next-hop: one pure function, tested as a truth table.

RFC 7672 judges each MX host by itself; RFC 8461 the domain as a whole; Postfix
takes one level for all hosts of a next-hop.  `decide` finds the answer that
gives every host at least what its standard asks for:

* DANE comes first.  Where every reachable MX host has usable TLSA records below
  a secure MX set the answer is ``dane-only``, also beside a policy (RFC 8461
  section 2).
* An enforced policy comes second: ``secure``, with the MX hosts that it permits
  as the names to match.
* Else ``dane`` wherever any host has, or might have, TLSA records: Postfix then
  judges host by host, and skips a host whose records it cannot look up.
* Else nothing: main.cf's own level applies.

Two rules stand above these.  An answer replaces main.cf's level, so it is never
weaker than that level.  What could not be learnt never weakens an answer: it
gives ``dane``, or a temporary error with the reason.

BUGS: one answer cannot say "DANE for this host, PKIX for that one".  Where some
hosts have TLSA records and a policy is enforced, ``secure`` asks all for PKIX.
"""

from dataclasses import dataclass, replace
from enum import Enum, IntEnum

from postfix_mtasts.core import freshness, mta_sts, tlsa
from postfix_mtasts.core.facts import (
    Absent,
    CachedPolicy,
    DnsFacts,
    Facts,
    HostFacts,
    Present,
    Unavailable,
    mx_hosts,
)
from postfix_mtasts.core.names import NextHop
from postfix_mtasts.core.overrides import Override, first_match
from postfix_mtasts.core.postfix_policy import Level, TlsPolicy, host_names, safe_policy_strings

MAX_MATCH_NAMES = 100
"""Names in one ``match=``: far more than Postfix tries, far below its reply limit."""

UNMATCHABLE = "no-mx-host-is-permitted.invalid"
"""A name that no certificate has (RFC 2606 section 2)."""

OVERRIDE_SECONDS = 86400
"""How long an operator's own answer holds; a reload of the config ends it sooner."""


class Source(Enum):
    """Where a verdict comes from."""

    DANE = "dane"
    MTA_STS = "mta-sts"
    OVERRIDE = "override"
    NONE = "none"
    ERROR = "error"


class Stance(Enum):
    """What RFC 7672 asks for at one MX host."""

    AUTHENTICATE = "dane"  # usable TLSA records
    ENCRYPT = "encrypt"  # TLSA records, none usable (section 2.2)
    MAY = "may"  # no TLSA records, or none that is secure
    SKIP = "skip"  # could not be looked up: not to be used now (section 2.1.2)
    UNREACHABLE = "unreachable"  # has no address


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator has to say: main.cf's level, own answers, DANE on or off."""

    default_level: Level = Level.MAY
    overrides: tuple[Override, ...] = ()
    dane: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer.

    *policy* is what Postfix is told, `None` to let main.cf's level apply; where
    *failed* is not empty there is no answer, and it says why in words for the
    mail log.  *reason* is for people.  *lifetime*: seconds that it holds.
    """

    policy: TlsPolicy | None = None
    failed: str = ""
    reason: str
    source: Source
    lifetime: float


def decide(facts: Facts, settings: Settings, now: float) -> Verdict:
    """Return what map "policy" answers, given *facts* at *now* (epoch seconds)."""
    override = first_match(settings.overrides, facts.nexthop.name)
    if override is not None and override.level is not None:
        return overridden(override, override.level)
    if override is None or override.minimum is None:
        return _judge(facts, settings, settings.default_level, now)
    floor = max(settings.default_level, override.minimum, key=strength)
    verdict = _judge(facts, settings, floor, now)
    return _raised(verdict, override, override.minimum, settings.default_level)


def overridden(override: Override, level: Level) -> Verdict:
    """Return the answer that the operator gave, which needs no facts."""
    return Verdict(
        policy=TlsPolicy(
            level=level,
            match=override.match,
            servername=override.servername,
            protocols=override.protocols,
            ciphers=override.ciphers,
        ),
        reason=f"the operator's policy for {override.domain}",
        source=Source.OVERRIDE,
        lifetime=OVERRIDE_SECONDS,
    )


class Strength(IntEnum):
    """What a level asks of the MX host of which it asks least."""

    CLEAR = 0
    OPPORTUNISTIC = 1
    ENCRYPTED = 2
    AUTHENTICATED = 3


_STRENGTHS = {
    Level.NONE: Strength.CLEAR,
    Level.MAY: Strength.OPPORTUNISTIC,
    Level.DANE: Strength.OPPORTUNISTIC,  # at a host without TLSA records
    Level.ENCRYPT: Strength.ENCRYPTED,
}


def strength(level: Level) -> Strength:
    """Return the rank of *level* by the least that it asks of any MX host."""
    return _STRENGTHS.get(level, Strength.AUTHENTICATED)


def _raised(verdict: Verdict, override: Override, minimum: Level, main: Level) -> Verdict:
    """Return *verdict* with the operator's *minimum*, protocols and ciphers applied."""
    if verdict.failed:
        return verdict
    given = main if verdict.policy is None else verdict.policy.level
    if _rank(given) < _rank(minimum):
        verdict = replace(
            verdict,
            policy=TlsPolicy(level=minimum, match=override.match, servername=override.servername),
            reason=f"{verdict.reason}; the operator's minimum for {override.domain}",
            source=Source.OVERRIDE,
        )
    policy = verdict.policy or TlsPolicy(level=main)
    if not (override.protocols or override.ciphers) or policy.level is Level.FINGERPRINT:
        return verdict
    extra = replace(policy, protocols=override.protocols, ciphers=override.ciphers)
    return replace(verdict, policy=extra)


def _rank(level: Level) -> int:
    """Return where *level* stands among the operator's minima."""
    ranks = (Level.NONE, Level.MAY, Level.DANE, Level.ENCRYPT, Level.VERIFY)
    return ranks.index(level) if level in ranks else len(ranks)


def stance(host: HostFacts) -> Stance:
    """Return what RFC 7672 section 2.2 asks for at *host*."""
    match host.addresses:
        case Absent():
            return Stance.UNREACHABLE
        case Unavailable():
            return Stance.SKIP
    match host.tlsa:
        case Unavailable():
            return Stance.SKIP
        case Present(records=records, secure=True):
            usable = tlsa.usable(records)
            return Stance.AUTHENTICATE if usable else Stance.ENCRYPT
    return Stance.MAY


def mx_is_secure(dns: DnsFacts) -> bool:
    """Return whether the names of the MX hosts are authentic (RFC 7672 section 2.2.1)."""
    if dns.mx is None:
        return True
    return not isinstance(dns.mx, Unavailable) and dns.mx.secure


def all_hosts_authenticate(dns: DnsFacts) -> bool:
    """Return whether DANE protects every connection, so that no policy matters."""
    stances = {stance(host) for host in dns.hosts} - {Stance.UNREACHABLE}
    return mx_is_secure(dns) and stances == {Stance.AUTHENTICATE} and not dns.omitted


def _judge(facts: Facts, settings: Settings, floor: Level, now: float) -> Verdict:
    """Return the verdict without regard to overrides; *floor* is what NOTFOUND gives."""
    dns = facts.dns
    lifetime = freshness.remaining(dns, facts.sts, now)
    enforced = enforced_policy(facts, now)
    if isinstance(dns.mx, Unavailable):
        if enforced is None:
            return _failed(dns.mx.why)
        return _secure(facts, enforced, lifetime, "MX hosts could not be looked up")
    if settings.dane and all_hosts_authenticate(dns):
        return Verdict(
            policy=TlsPolicy(level=Level.DANE_ONLY),
            reason="every MX host has usable DNSSEC-validated TLSA records",
            source=Source.DANE,
            lifetime=lifetime,
        )
    stances = {stance(host) for host in dns.hosts} if settings.dane else set()
    if enforced is not None:
        return _beside_policy(facts, enforced, stances, lifetime)
    return _without_policy(facts, floor, stances, lifetime)


def enforced_policy(facts: Facts, now: float) -> CachedPolicy | None:
    """Return the policy that must be enforced at *now*, if there is one."""
    cached = policy_in_force(facts, now)
    return cached if cached is not None and cached.policy.mode == "enforce" else None


def policy_in_force(facts: Facts, now: float) -> CachedPolicy | None:
    """Return the policy that applies at *now*, whatever its mode.

    None applies to a port other than 25: there the record was not even asked.
    """
    return None if facts.dns.sts_record is None else freshness.in_force(facts.sts.cached, now)


def _beside_policy(
    facts: Facts, enforced: CachedPolicy, stances: set[Stance], lifetime: float
) -> Verdict:
    """Return the verdict where a policy is enforced and DANE does not cover all hosts.

    A host whose TLSA records cannot be looked up below a secure MX set must not
    be used on the strength of a policy (RFC 8461 section 2, RFC 7672 section
    2.1.2): then only the hosts with TLSA records are left, or none.  A host whose
    address cannot be looked up is left out of what the certificate may say, so
    that it is not used should Postfix find its address; the others go on.
    """
    if Stance.SKIP not in stances or not mx_is_secure(facts.dns):
        return _secure(facts, enforced, lifetime)
    if Stance.AUTHENTICATE in stances:
        return Verdict(
            policy=TlsPolicy(level=Level.DANE_ONLY),
            reason=f"TLSA records at some MX hosts; beside them {_why_skipped(facts.dns)}",
            source=Source.DANE,
            lifetime=lifetime,
        )
    others = _without_unresolved(facts)
    if others is None or not match_names(others.dns, facts.nexthop, enforced.policy):
        return _failed(_why_skipped(facts.dns))
    return _secure(
        others, enforced, lifetime, f"not by way of all hosts: {_why_skipped(facts.dns)}"
    )


def _without_unresolved(facts: Facts) -> Facts | None:
    """Return *facts* without the hosts whose addresses failed, `None` if TLSA records failed."""
    hosts, mx = facts.dns.hosts, facts.dns.mx
    if any(isinstance(host.tlsa, Unavailable) for host in hosts) or not isinstance(mx, Present):
        return None
    failed = {host.name for host in hosts if isinstance(host.addresses, Unavailable)}
    known = replace(mx, records=tuple(each for each in mx.records if each.host not in failed))
    return replace(facts, dns=replace(facts.dns, mx=known))


def _without_policy(facts: Facts, floor: Level, stances: set[Stance], lifetime: float) -> Verdict:
    """Return the verdict where nothing but DANE and main.cf's level can protect."""
    dane = stances & {Stance.AUTHENTICATE, Stance.ENCRYPT, Stance.SKIP}
    if not dane and not (stances and facts.dns.omitted):
        return Verdict(reason=_why_nothing(facts), source=Source.NONE, lifetime=lifetime)
    if strength(floor) <= strength(Level.DANE):
        return Verdict(
            policy=TlsPolicy(level=Level.DANE),
            reason=_why_dane(facts.dns, stances),
            source=Source.DANE,
            lifetime=lifetime,
        )
    return _above_dane(facts.dns, floor, stances, lifetime)


def _above_dane(dns: DnsFacts, floor: Level, stances: set[Stance], lifetime: float) -> Verdict:
    """Return the verdict where ``dane`` would be weaker than main.cf's own level."""
    if mx_is_secure(dns) and Stance.AUTHENTICATE in stances:
        return Verdict(
            policy=TlsPolicy(level=Level.DANE_ONLY),
            reason=f"TLSA records at some MX hosts, and main.cf's level is {floor.value}",
            source=Source.DANE,
            lifetime=lifetime,
        )
    if mx_is_secure(dns) and Stance.SKIP in stances:
        return _failed(_why_skipped(dns))
    return Verdict(
        reason=f"main.cf's level {floor.value} is stronger than dane",
        source=Source.NONE,
        lifetime=lifetime,
    )


def _secure(facts: Facts, enforced: CachedPolicy, lifetime: float, but: str = "") -> Verdict:
    names = match_names(facts.dns, facts.nexthop, enforced.policy)
    reason = f"MTA-STS policy {enforced.record_id or 'without id'} (enforce)"
    if not names:
        but = but or "no MX host is permitted by it"
    return Verdict(
        policy=TlsPolicy(
            level=Level.SECURE,
            match=names or _patterns(enforced.policy),
            servername="hostname",
        ),
        reason=f"{reason}; {but}" if but else reason,
        source=Source.MTA_STS,
        lifetime=lifetime,
    )


def match_names(dns: DnsFacts, nexthop: NextHop, policy: mta_sts.Policy) -> tuple[str, ...]:
    """Return the MX hosts that *policy* permits, best preference first.

    Postfix compares ``match=`` with the certificate, not with the MX host, and
    cannot express "exactly one label", so that concrete names are the one exact
    form (RFC 8461 section 4.1).
    """
    hosts = host_names(mx.host for mx in mx_hosts(dns.mx, nexthop))
    return mta_sts.permitted(policy, hosts)[:MAX_MATCH_NAMES]


def _patterns(policy: mta_sts.Policy) -> tuple[str, ...]:
    """Return what to match where no MX host is permitted: the mail must wait.

    Postfix takes "*.example.com" literally, so a pattern matches next to nothing.
    """
    return host_names(policy.mx)[:MAX_MATCH_NAMES] or (UNMATCHABLE,)


def _failed(why: str) -> Verdict:
    return Verdict(failed=f"DNS: {why}", reason=why, source=Source.ERROR, lifetime=0)


def _why_skipped(dns: DnsFacts) -> str:
    """Return why the first host that may not be used now may not."""
    lookups = (lookup for host in dns.hosts for lookup in (host.addresses, host.tlsa))
    return next(lookup.why for lookup in lookups if isinstance(lookup, Unavailable))


def _why_dane(dns: DnsFacts, stances: set[Stance]) -> str:
    if Stance.SKIP in stances:
        return f"Postfix judges host by host, because {_why_skipped(dns)}"
    if Stance.AUTHENTICATE in stances:
        return "some MX hosts have TLSA records, Postfix judges host by host"
    if Stance.ENCRYPT in stances:
        return "TLSA records exist, none of them usable: TLS without authentication"
    return "too many MX hosts to examine, Postfix judges host by host"


def _why_nothing(facts: Facts) -> str:
    dns = facts.dns
    if isinstance(dns.mx, Absent) and dns.mx.nxdomain:
        return "the domain does not exist"
    if isinstance(dns.mx, Present) and all(mx.host == "" for mx in dns.mx.records):
        return "the domain accepts no mail (null MX, RFC 7505)"
    if facts.sts.cached is not None and facts.sts.cached.policy.mode != "enforce":
        return f"no TLSA records, MTA-STS policy in mode {facts.sts.cached.policy.mode}"
    if facts.sts.failure is not None and isinstance(dns.sts_record, Present):
        return f"no TLSA records, no MTA-STS policy: {facts.sts.failure.why}"
    return "no TLSA records, no MTA-STS policy"


def with_tlsrpt(verdict: Verdict, facts: Facts, settings: Settings, now: float) -> Verdict:
    """Return *verdict* for map "policy-tlsrpt", with the attributes of Postfix >= 3.10.

    They let Postfix name the policy in its TLSRPT datagrams, and skip MX hosts
    outside it (3.10.5).  A policy in testing mode is answered as ``may`` with
    its attributes, where main.cf's level is no stronger than that.
    """
    cached = policy_in_force(facts, now)
    if cached is None:
        return verdict
    if verdict.policy is not None and verdict.source is Source.MTA_STS:
        return replace(verdict, policy=_described(verdict.policy, facts.nexthop, cached))
    testing = cached.policy.mode == "testing" and not verdict.failed and verdict.policy is None
    if not testing or settings.default_level not in (Level.NONE, Level.MAY):
        return verdict
    return replace(
        verdict,
        policy=_described(TlsPolicy(level=Level.MAY), facts.nexthop, cached),
        reason=f"MTA-STS policy {cached.record_id} (testing): reported, not enforced",
        source=Source.MTA_STS,
    )


def _described(policy: TlsPolicy, nexthop: NextHop, cached: CachedPolicy) -> TlsPolicy:
    return replace(
        policy,
        policy_type="sts",
        policy_domain=nexthop.name,
        policy_strings=safe_policy_strings(mta_sts.policy_lines(cached.text)),
        mx_host_patterns=cached.policy.mx,
    )


def _authenticates(policy: TlsPolicy | None) -> bool:
    return policy is not None and strength(policy.level) is Strength.AUTHENTICATED


def decide_requiretls(facts: Facts, settings: Settings, now: float) -> Verdict:
    """Return what map "requiretls" answers: authenticated TLS or none (RFC 8689).

    Where neither DANE nor a policy authenticates the MX hosts the answer is one
    that only a certificate for the next-hop itself can meet.
    """
    verdict = decide(facts, settings, now)
    if verdict.failed or _authenticates(verdict.policy):
        return verdict
    stances = {stance(host) for host in facts.dns.hosts} if settings.dane else set()
    if Stance.AUTHENTICATE in stances and mx_is_secure(facts.dns):
        return replace(
            verdict,
            policy=TlsPolicy(level=Level.DANE_ONLY),
            reason="only MX hosts with TLSA records will do",
            source=Source.DANE,
        )
    return replace(
        verdict,
        policy=TlsPolicy(level=Level.SECURE, match=("nexthop",), servername="hostname"),
        reason=f"{verdict.reason}; REQUIRETLS cannot be met without authentication",
        source=Source.NONE,
    )

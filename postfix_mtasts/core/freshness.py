"""How long what is known may be believed, as functions of *now*.

Two clocks run side by side.  DNS answers live as long as their TTLs (RFC 1035
section 3.2.1, RFC 2308 section 5).  An MTA-STS policy lives for its max_age
from the last time it was known to be current (RFC 8461 sections 3.2 and 3.3),
and outlives everything that may happen to its record and its web server.

All times are seconds since the epoch.  A clock that was set back makes times
lie in the future: then DNS facts are stale, and policies stay in force, because
neither may weaken an answer.
"""

from dataclasses import replace
from math import inf

from postfix_mtasts.core import mta_sts
from postfix_mtasts.core.facts import (
    CachedPolicy,
    DnsFacts,
    FailedFetch,
    Lookup,
    Present,
    StsFacts,
    Unavailable,
    every_lookup,
)

UNAVAILABLE_SECONDS = 10
"""How long a DNS failure is remembered: long enough against a herd, no longer."""

FETCH_RETRY_SECONDS = 300
"""How long a failed fetch is remembered for its record's id (RFC 8461 section 3.3)."""

FORGET_SECONDS = 180 * 86400
"""What nobody asks for in this time is forgotten."""


def policy_expires(cached: CachedPolicy) -> float:
    """Return when *cached* stops being in force."""
    return cached.checked + cached.policy.max_age


def in_force(cached: CachedPolicy | None, now: float) -> CachedPolicy | None:
    """Return *cached* if it binds at *now*, whatever its mode, else `None`.

    It does for a second more, so that a policy with max_age 0 binds the very
    delivery for which it was fetched.
    """
    return cached if cached is not None and now < policy_expires(cached) + 1 else None


def renewed(cached: CachedPolicy, now: float) -> CachedPolicy:
    """Return *cached* with its life begun anew: its record still has its id."""
    return replace(cached, checked=now)


def is_current(cached: CachedPolicy | None, record: mta_sts.Record, now: float) -> bool:
    """Return whether *record* says that *cached* is what its owner publishes now."""
    return (
        in_force(cached, now) is not None and cached is not None and cached.record_id == record.id
    )


def fetch_wanted(record: mta_sts.Record, sts: StsFacts, now: float) -> bool:
    """Return whether *record* calls for a fetch (RFC 8461 sections 3.3 and 5.1).

    It does where no policy in force has its id, unless a fetch for this very id
    failed a short while ago; a new id is tried at once.
    """
    if is_current(sts.cached, record, now):
        return False
    failure = sts.failure
    return failure is None or failure.record_id != record.id or not _remembered(failure, now)


def _remembered(failure: FailedFetch, now: float) -> bool:
    return failure.at <= now < failure.retry_at


def dns_lifetime(dns: DnsFacts) -> float:
    """Return for how many seconds from its gathering all of *dns* may be believed."""
    return min(map(_lifetime, every_lookup(dns)), default=0)


def _lifetime(lookup: Lookup[object]) -> int:
    return UNAVAILABLE_SECONDS if isinstance(lookup, Unavailable) else lookup.ttl


def dns_remaining(dns: DnsFacts, now: float) -> float:
    """Return for how many seconds from *now* on *dns* may be believed, 0 if it is stale."""
    age = now - dns.gathered
    return max(0.0, dns_lifetime(dns) - age) if age >= 0 else 0.0


def remaining(dns: DnsFacts, sts: StsFacts, now: float) -> float:
    """Return for how many seconds from *now* on a decision on these facts holds.

    It ends with the first DNS answer to run out, with the policy, or when a
    failed fetch may be tried again; while a fetch is wanted it holds for seconds.
    """
    ends = [dns_remaining(dns, now)]
    if in_force(sts.cached, now) is not None and sts.cached is not None:
        ends.append(policy_expires(sts.cached) - now)
    if isinstance(dns.sts_record, Present):
        ends.append(_until_next_fetch(dns.sts_record.records[0], sts, now))
    return max(0.0, min(ends))


def _until_next_fetch(record: mta_sts.Record, sts: StsFacts, now: float) -> float:
    if is_current(sts.cached, record, now):
        return inf
    if sts.failure is None or fetch_wanted(record, sts, now):
        return UNAVAILABLE_SECONDS
    return sts.failure.retry_at - now


def is_fresh(dns: DnsFacts, sts: StsFacts, now: float) -> bool:
    """Return whether the next decision at *now* can be made on these facts.

    It cannot where a look-up failed, so that the answer is right the moment DNS
    is back, nor where the record calls for a fetch.
    """
    record = dns.sts_record
    if isinstance(record, Present) and fetch_wanted(record.records[0], sts, now):
        return False
    failed = any(isinstance(lookup, Unavailable) for lookup in every_lookup(dns))
    return not failed and remaining(dns, sts, now) > 0


def refresh_at(sts: StsFacts, interval: float, chance: float, now: float) -> float | None:
    """Return when to fetch the policy again unasked (RFC 8461 sections 3.3 and 10.2).

    `None` where there is no policy to keep alive: none at all, or one that ran
    out and could not be had again.  *interval*: seconds.  *chance*: from 0 up to
    1, spreads the policies of all domains over the last quarter of the interval,
    in random order; after a failed try over a quarter of a tenth of it.
    """
    cached, failure = sts.cached, sts.failure
    if cached is None:
        return None
    spread = 0.75 + 0.25 * chance
    if failure is None or failure.at < cached.fetched:
        return min(cached.fetched, now) + interval * spread
    if in_force(cached, now) is None:
        return None
    return min(failure.at, now) + interval * spread / 10

"""Lifetimes of DNS facts and policies, as functions of *now*."""

import pytest

from postfix_mtasts.core import freshness, mta_sts
from postfix_mtasts.core.facts import (
    Absent,
    CachedPolicy,
    DnsFacts,
    FailedFetch,
    HostFacts,
    Lookup,
    Mx,
    Present,
    StsFacts,
    Unavailable,
)
from postfix_mtasts.core.tls_event import ResultType

NOW = 1_800_000_000.0
RECORD = mta_sts.Record(id="1")


def cached(*, record_id: str = "1", checked: float = NOW, max_age: int = 86400) -> CachedPolicy:
    policy = mta_sts.Policy(mode="enforce", mx=("mx.example.com",), max_age=max_age)
    return CachedPolicy(
        record_id=record_id, policy=policy, text=b"", fetched=checked, checked=checked
    )


def failure(*, record_id: str = "1", at: float = NOW) -> FailedFetch:
    return FailedFetch(
        record_id=record_id,
        at=at,
        retry_at=at + freshness.FETCH_RETRY_SECONDS,
        kind=ResultType.STS_POLICY_FETCH_ERROR,
        why="refused",
    )


def facts(
    *,
    mx_ttl: int = 600,
    record: Lookup[mta_sts.Record] | None = None,
    addresses: Lookup[str] | None = None,
    tlsa: Absent | None = None,
    gathered: float = NOW,
) -> DnsFacts:
    mx = Mx(preference=10, host="mx.example.com")
    host = HostFacts(
        name="mx.example.com",
        preference=10,
        addresses=addresses or Absent(secure=False, ttl=500),
        tlsa=tlsa,
    )
    return DnsFacts(
        gathered=gathered,
        mx=Present(records=(mx,), secure=False, ttl=mx_ttl, owner="example.com"),
        hosts=(host,),
        sts_record=record,
    )


def present(ttl: int = 300) -> Present[mta_sts.Record]:
    return Present(records=(RECORD,), secure=False, ttl=ttl, owner="_mta-sts.example.com")


def test_a_policy_binds_up_to_the_last_second_of_its_max_age() -> None:
    policy = cached(max_age=100)
    assert freshness.in_force(policy, NOW + 100) is policy
    assert freshness.in_force(policy, NOW + 101) is None


def test_no_policy_is_in_force_where_none_is_cached() -> None:
    assert freshness.in_force(None, NOW) is None


def test_a_policy_stays_in_force_when_the_clock_is_set_back() -> None:
    policy = cached(checked=NOW + 365 * 86400)
    assert freshness.in_force(policy, NOW) is policy


def test_a_policy_with_max_age_0_binds_the_delivery_it_was_fetched_for() -> None:
    policy = cached(max_age=0)
    assert freshness.in_force(policy, NOW + 0.2) is policy, "it took a moment to decide"
    assert freshness.in_force(policy, NOW + 1) is None


def test_a_record_with_the_same_id_begins_a_policys_life_anew() -> None:
    old = cached(checked=NOW - 86400)
    renewed = freshness.renewed(old, NOW)
    assert freshness.policy_expires(renewed) == NOW + 86400
    assert renewed.fetched == old.fetched


@pytest.mark.parametrize(
    ("sts", "wanted"),
    [
        pytest.param(StsFacts(), True, id="nothing cached: fetch"),
        pytest.param(StsFacts(cached=cached()), False, id="same id in force: no fetch"),
        pytest.param(StsFacts(cached=cached(record_id="0")), True, id="other id: fetch"),
        pytest.param(
            StsFacts(cached=cached(checked=NOW - 90000)), True, id="same id but expired: fetch"
        ),
        pytest.param(
            StsFacts(failure=failure(at=NOW - 299)), False, id="failed 299 s ago: not yet"
        ),
        pytest.param(StsFacts(failure=failure(at=NOW - 300)), True, id="failed 300 s ago: fetch"),
        pytest.param(
            StsFacts(failure=failure(record_id="0")), True, id="failed for another id: fetch"
        ),
        pytest.param(
            StsFacts(failure=failure(at=NOW + 9999)), True, id="failed in the future: fetch"
        ),
    ],
)
def test_a_fetch_is_wanted_for_an_id_that_is_not_in_force(sts: StsFacts, *, wanted: bool) -> None:
    assert freshness.fetch_wanted(RECORD, sts, NOW) is wanted


@pytest.mark.parametrize(
    ("dns", "seconds"),
    [
        pytest.param(facts(mx_ttl=50), 50, id="the MX set runs out first"),
        pytest.param(facts(record=present(ttl=40)), 40, id="the record runs out first"),
        pytest.param(facts(), 500, id="an address runs out first"),
        pytest.param(facts(tlsa=Absent(secure=True, ttl=30)), 30, id="a denial of TLSA is first"),
        pytest.param(
            facts(addresses=Unavailable(why="SERVFAIL")), 10, id="a failure is held for seconds"
        ),
    ],
)
def test_facts_live_as_long_as_the_first_of_them_to_run_out(dns: DnsFacts, seconds: int) -> None:
    assert freshness.dns_lifetime(dns) == seconds
    assert freshness.dns_remaining(dns, NOW + 4) == seconds - 4
    assert freshness.dns_remaining(dns, NOW + 5000) == 0


def test_facts_without_a_single_look_up_live_for_no_time() -> None:
    assert freshness.dns_lifetime(DnsFacts(gathered=NOW, mx=None, hosts=(), sts_record=None)) == 0


def test_facts_gathered_in_the_future_are_stale() -> None:
    assert freshness.dns_remaining(facts(gathered=NOW + 60), NOW) == 0


@pytest.mark.parametrize(
    ("record", "sts", "seconds"),
    [
        pytest.param(None, StsFacts(), 500, id="without a policy DNS alone counts"),
        pytest.param(
            present(1000), StsFacts(cached=cached(max_age=70)), 70, id="a policy that runs out"
        ),
        pytest.param(
            Absent(secure=False, ttl=1000),
            StsFacts(cached=cached(checked=NOW - 90000)),
            500,
            id="a policy long expired ends nothing any more",
        ),
        pytest.param(
            present(1000), StsFacts(failure=failure(at=NOW - 200)), 100, id="a retry that is due"
        ),
        pytest.param(
            present(1000),
            StsFacts(cached=cached(), failure=failure(at=NOW - 200)),
            500,
            id="a failed refresh of a current policy calls for no retry",
        ),
        pytest.param(
            present(1000),
            StsFacts(failure=failure(record_id="0", at=NOW - 200)),
            10,
            id="a policy that is yet to be fetched: for seconds",
        ),
        pytest.param(
            Absent(secure=False, ttl=1000),
            StsFacts(failure=failure(at=NOW - 200)),
            500,
            id="a record that is gone calls for no retry",
        ),
    ],
)
def test_a_decision_holds_until_its_first_ground_is_gone(
    record: Lookup[mta_sts.Record] | None, sts: StsFacts, seconds: int
) -> None:
    assert freshness.remaining(facts(record=record), sts, NOW) == seconds


@pytest.mark.parametrize(
    ("dns", "sts", "fresh"),
    [
        pytest.param(facts(), StsFacts(), True, id="all is there"),
        pytest.param(facts(gathered=NOW - 500), StsFacts(), False, id="an address has run out"),
        pytest.param(
            facts(addresses=Unavailable(why="SERVFAIL")), StsFacts(), False, id="DNS failed"
        ),
        pytest.param(
            facts(record=Unavailable(why="SERVFAIL")), StsFacts(), False, id="DNS failed for TXT"
        ),
        pytest.param(
            facts(record=present(1000)), StsFacts(cached=cached()), True, id="the policy is current"
        ),
        pytest.param(
            facts(record=present(1000)),
            StsFacts(cached=cached(checked=NOW - 90000)),
            False,
            id="the policy has run out before its record",
        ),
        pytest.param(
            facts(record=present(1000)),
            StsFacts(failure=failure(at=NOW - 299)),
            True,
            id="a fetch failed a short while ago",
        ),
        pytest.param(
            facts(record=present(1000)),
            StsFacts(failure=failure(at=NOW - 300)),
            False,
            id="a fetch failed and may be tried again, whatever the record's TTL",
        ),
    ],
)
def test_facts_serve_again_until_something_is_to_be_asked(
    dns: DnsFacts, sts: StsFacts, *, fresh: bool
) -> None:
    assert freshness.is_fresh(dns, sts, NOW) is fresh


@pytest.mark.parametrize(
    ("sts", "low", "high"),
    [
        pytest.param(StsFacts(cached=cached()), NOW + 75, NOW + 100, id="last quarter of a day"),
        pytest.param(
            StsFacts(cached=cached(checked=NOW - 500), failure=failure()),
            NOW + 7.5,
            NOW + 10,
            id="sooner after a failure",
        ),
        pytest.param(
            StsFacts(cached=cached(), failure=failure(at=NOW - 500)),
            NOW + 75,
            NOW + 100,
            id="a failure before the last success is past",
        ),
        pytest.param(
            StsFacts(cached=cached(checked=NOW + 9999)),
            NOW + 75,
            NOW + 100,
            id="fetched in the future, before the clock was set back",
        ),
        pytest.param(
            StsFacts(cached=cached(checked=NOW + 9999), failure=failure(at=NOW + 9999)),
            NOW + 7.5,
            NOW + 10,
            id="failed in the future",
        ),
        pytest.param(
            StsFacts(cached=cached(checked=NOW - 90000)),
            NOW - 90000 + 75,
            NOW - 90000 + 100,
            id="run out, but not tried since",
        ),
    ],
)
def test_policies_are_fetched_again_at_times_spread_by_chance(
    sts: StsFacts, low: float, high: float
) -> None:
    assert freshness.refresh_at(sts, 100, 0.0, NOW) == low
    assert freshness.refresh_at(sts, 100, 1.0, NOW) == high


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(None, id="none at all"),
        pytest.param(cached(checked=NOW - 90000), id="one that has run out"),
    ],
)
def test_a_failed_fetch_is_not_tried_for_ever_where_there_is_no_policy(
    known: CachedPolicy | None,
) -> None:
    sts = StsFacts(cached=known, failure=failure())
    assert freshness.refresh_at(sts, 100, 0.5, NOW) is None

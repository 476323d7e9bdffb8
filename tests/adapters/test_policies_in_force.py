"""What the policy daemon stored is in force for the sessions of the day."""

import asyncio
from pathlib import Path

from postfix_mtasts.adapters.policies_in_force import HOLD, PoliciesOfDaemon
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.facts import (
    CachedPolicy,
    DnsFacts,
    HostFacts,
    Lookup,
    Mx,
    Present,
    StsFacts,
)
from postfix_mtasts.core.mta_sts import parse_policy
from postfix_mtasts.core.tlsa import Record, parse_text
from postfix_mtasts.ports import Stored
from tests.adapters.store_samples import NOW, SetClock, nexthop, opened

TEXT = b"version: STSv1\r\nmode: testing\r\nmx: mx.example.com\r\nmax_age: 86400\r\n"
RECORD = parse_text("3 1 1 " + "ab" * 32)


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def host(name: str, tlsa: Lookup[Record] | None) -> HostFacts:
    addresses = Present(records=("192.0.2.1",), secure=True, ttl=60, owner=name)
    return HostFacts(name=name, preference=10, addresses=addresses, tlsa=tlsa)


def tlsa(name: str, *, secure: bool) -> Present[Record]:
    return Present(records=(RECORD,), secure=secure, ttl=60, owner=f"_25._tcp.{name}")


def dns() -> DnsFacts:
    mx = Present(
        records=(Mx(preference=10, host="mx.example.com"),),
        secure=True,
        ttl=60,
        owner="example.com",
    )
    hosts = (
        host("mx.example.com", tlsa("mx.example.com", secure=True)),
        host("insecure.example.com", tlsa("insecure.example.com", secure=False)),
        host("without.example.com", None),
    )
    return DnsFacts(gathered=NOW, mx=mx, hosts=hosts, sts_record=None)


def sts() -> StsFacts:
    policy = parse_policy(TEXT)
    cached = CachedPolicy(record_id="1", policy=policy, text=TEXT, fetched=NOW, checked=NOW)
    return StsFacts(cached=cached)


def put(path: Path, stored: Stored) -> None:
    async def work() -> None:
        async with opened(path) as store:
            await store.save(nexthop("example.com"), stored, asked=NOW, refresh=None)

    asyncio.run(work())


def test_the_policy_and_the_secure_tlsa_records_of_a_domain_are_in_force(tmp_path: Path) -> None:
    put(tmp_path / "state.db", Stored(dns=dns(), sts=sts()))
    policies = PoliciesOfDaemon(tmp_path / "state.db", clock=SetClock())
    assert policies.of("example.com") == InForce(
        sts=parse_policy(TEXT), text=TEXT, tlsa={"mx.example.com": (RECORD,)}
    )
    assert policies.of("other.example") == InForce()
    policies.close()


def test_a_policy_that_has_run_out_is_not_in_force(tmp_path: Path) -> None:
    put(tmp_path / "state.db", Stored(dns=None, sts=sts()))
    policies = PoliciesOfDaemon(tmp_path / "state.db", clock=SetClock(NOW + 86401))
    assert policies.of("example.com") == InForce()
    policies.close()


def test_without_a_database_nothing_is_in_force(tmp_path: Path) -> None:
    assert PoliciesOfDaemon(tmp_path / "state.db").of("example.com") == InForce()
    (tmp_path / "state.db").write_bytes(b"no database" * 500)
    assert PoliciesOfDaemon(tmp_path / "state.db").of("example.com") == InForce()


def test_what_has_changed_is_seen_with_the_next_edition(tmp_path: Path) -> None:
    ticks = Ticks()
    policies = PoliciesOfDaemon(tmp_path / "state.db", clock=SetClock(), ticks=ticks)
    assert policies.of("example.com") == InForce()
    before = policies.edition()
    put(tmp_path / "state.db", Stored(dns=None, sts=sts()))
    assert policies.of("example.com") == InForce()
    ticks.now += HOLD
    assert policies.of("example.com").sts == parse_policy(TEXT)
    assert policies.edition() != before
    policies.close()

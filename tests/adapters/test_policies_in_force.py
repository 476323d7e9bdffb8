"""What the policy daemon stored and noted is in force for the sessions of the day."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from postfix_mtasts.adapters import policy_history
from postfix_mtasts.adapters.policies_in_force import HOLD, PoliciesOfDaemon
from postfix_mtasts.adapters.policy_history import Held
from postfix_mtasts.adapters.tlsrpt_store import open_counts
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.facts import (
    CachedPolicy,
    DnsFacts,
    HostFacts,
    Lookup,
    Mx,
    Present,
    StsFacts,
    Unavailable,
)
from postfix_mtasts.core.in_force import NEVER_ASKED
from postfix_mtasts.core.in_force_record import build_in_force
from postfix_mtasts.core.mta_sts import parse_policy
from postfix_mtasts.core.tlsa import Record, parse_text
from postfix_mtasts.core.utc import day_of
from postfix_mtasts.ports import Stored
from tests.adapters.store_samples import DAY, NOW, SetClock, nexthop, opened

TEXT = b"version: STSv1\r\nmode: testing\r\nmx: mx.example.com\r\nmax_age: 86400\r\n"
RECORD = parse_text("3 1 1 " + "ab" * 32)


HOST = "mx.example.com"
OTHER = "mx.other.example"
KNOWN = InForce(
    sts=parse_policy(TEXT),
    text=TEXT,
    tlsa={HOST: (RECORD,)},
    hosts=frozenset({HOST}),
)
NOTED = InForce(hosts=frozenset({OTHER}))


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


def put(path: Path, stored: Stored, name: str = "example.com") -> None:
    async def work() -> None:
        async with opened(path) as store:
            await store.save(nexthop(name), stored, asked=NOW, refresh=None)

    asyncio.run(work())


def note(path: Path, *held: tuple[float, InForce | None], missed: bool = False) -> None:
    """Note in the file beside *path* what *held* for example.com, and from when on."""
    with closing(open_counts(path.with_name("tlsrpt.db"))) as file:
        policy_history.make_tables(file)
        for when, known in held:
            line = None if known is None else build_in_force(known)
            policy_history.hold(file, Held(domain="example.com", when=when, line=line))
            policy_history.mark_days(file, {day_of(when): missed})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture(name="policies")
def make_policies(path: Path) -> Iterator[PoliciesOfDaemon]:
    made = PoliciesOfDaemon(path, clock=SetClock())
    yield made
    made.close()


def test_what_the_daemon_knows_now_is_in_force_today(
    path: Path, policies: PoliciesOfDaemon
) -> None:
    put(path, Stored(dns=dns(), sts=sts()))
    assert policies.of("example.com", NOW) == KNOWN
    note(path, (NOW - DAY, NOTED))
    policies.close()
    assert policies.of("example.com", NOW) == KNOWN


def test_what_it_noted_today_last_is_as_good_where_it_knows_nothing_now(
    path: Path, policies: PoliciesOfDaemon
) -> None:
    put(path, Stored(dns=None, sts=StsFacts()), "other.example")
    note(path, (NOW, NOTED), (NOW + 1, KNOWN))
    assert policies.of("example.com", NOW) == replace(KNOWN, hosts=frozenset({HOST, OTHER}))


def test_where_a_look_up_failed_last_what_was_noted_before_is_in_force(
    path: Path, policies: PoliciesOfDaemon
) -> None:
    failed = replace(dns(), mx=Unavailable(why="SERVFAIL"))
    put(path, Stored(dns=failed, sts=sts()))
    assert policies.of("example.com", NOW).hosts is None
    note(path, (NOW, NOTED))
    policies.close()
    policies = PoliciesOfDaemon(path, clock=SetClock())
    assert policies.of("example.com", NOW) == NOTED
    policies.close()


def test_a_day_gone_by_had_in_force_what_was_noted_last_before_it_ended(
    path: Path, policies: PoliciesOfDaemon
) -> None:
    put(path, Stored(dns=None, sts=StsFacts()))
    note(path, (NOW - 3 * DAY, NOTED), (NOW - DAY, KNOWN))
    assert policies.of("example.com", NOW - 2 * DAY) == NOTED
    assert policies.of("example.com", NOW - DAY).sts == KNOWN.sts


def test_before_anything_was_noted_what_is_known_now_is_as_good(
    path: Path, policies: PoliciesOfDaemon
) -> None:
    put(path, Stored(dns=dns(), sts=sts()))
    note(path, (NOW, NOTED))
    assert policies.of("example.com", NOW - DAY) == KNOWN


def test_what_was_too_long_to_note_is_what_is_known_now_but_for_the_hosts(
    path: Path, policies: PoliciesOfDaemon
) -> None:
    put(path, Stored(dns=dns(), sts=sts()))
    note(path, (NOW - DAY, None))
    assert policies.of("example.com", NOW - DAY) == replace(KNOWN, hosts=None)


def test_a_policy_that_has_run_out_is_not_in_force(path: Path) -> None:
    put(path, Stored(dns=None, sts=sts()))
    policies = PoliciesOfDaemon(path, clock=SetClock(NOW + 86401))
    assert policies.of("example.com", NOW + 86401) == InForce()
    policies.close()


def test_what_was_not_asked_for_while_postfix_asked_was_never_asked_for(
    path: Path, policies: PoliciesOfDaemon
) -> None:
    put(path, Stored(dns=dns(), sts=sts()))
    note(path, (NOW - DAY, NOTED))
    assert policies.of("other.example", NOW) == NEVER_ASKED
    assert policies.of("other.example", NOW - DAY) == NEVER_ASKED
    assert policies.of("other.example", NOW - 2 * DAY) == InForce()
    assert policies.of("other.example", NOW + DAY) == InForce()


def test_what_may_have_been_missed_may_have_been_asked_for(
    path: Path, policies: PoliciesOfDaemon
) -> None:
    put(path, Stored(dns=dns(), sts=sts()))
    note(path, (NOW, NOTED), missed=True)
    assert policies.of("other.example", NOW) == InForce()


def test_what_the_store_alone_knows_was_asked_for(path: Path, policies: PoliciesOfDaemon) -> None:
    put(path, Stored(dns=None, sts=StsFacts()), "other.example")
    note(path, (NOW, NOTED))
    assert policies.of("other.example", NOW) == InForce()


def test_without_a_history_nobody_was_never_asked_for(
    path: Path, policies: PoliciesOfDaemon
) -> None:
    put(path, Stored(dns=dns(), sts=sts()))
    assert policies.of("other.example", NOW) == InForce()
    open_counts(path.with_name("tlsrpt.db")).close()  # a file of before there was one
    assert policies.of("b.example", NOW) == InForce()
    path.with_name("tlsrpt.db").write_bytes(b"no database" * 500)
    assert policies.of("c.example", NOW) == InForce()


def test_without_a_database_nothing_can_be_told(path: Path, policies: PoliciesOfDaemon) -> None:
    note(path, (NOW, NOTED))
    assert policies.of("example.com", NOW) == InForce()
    path.write_bytes(b"no database" * 500)
    assert policies.of("b.example", NOW) == InForce()


def test_damaged_rows_are_nothing_that_is_known(path: Path, policies: PoliciesOfDaemon) -> None:
    put(path, Stored(dns=dns(), sts=sts()))
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE nexthops SET facts = x'00'")
        file.execute("UPDATE domains SET text = x'00'")
    assert policies.of("example.com", NOW) == InForce()


def test_trouble_with_a_table_is_logged_and_survived(
    path: Path, policies: PoliciesOfDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    put(path, Stored(dns=dns(), sts=sts()))
    note(path, (NOW, KNOWN))
    with closing(sqlite3.connect(path.with_name("tlsrpt.db"))) as file:
        file.execute("DROP TABLE policies_known")
    assert policies.of("example.com", NOW) == KNOWN
    assert "no such table" in caplog.text


def test_what_has_changed_is_seen_with_the_next_edition(path: Path) -> None:
    ticks = Ticks()
    policies = PoliciesOfDaemon(path, clock=SetClock(), ticks=ticks)
    assert policies.of("example.com", NOW) == InForce()
    before = policies.edition()
    put(path, Stored(dns=None, sts=sts()))
    assert policies.of("example.com", NOW) == InForce()
    ticks.now += HOLD
    assert policies.of("example.com", NOW).sts == parse_policy(TEXT)
    assert policies.edition() != before
    policies.close()


def test_what_was_read_too_early_is_read_anew_and_is_another_edition(path: Path) -> None:
    clock = SetClock()
    policies = PoliciesOfDaemon(path, clock=clock, ticks=Ticks())
    assert policies.of("example.com", NOW) == InForce()
    before = policies.edition()
    put(path, Stored(dns=dns(), sts=sts()))
    assert policies.of("example.com", NOW, since=NOW) == InForce()
    clock.now += 5
    assert policies.of("example.com", NOW, since=NOW + 5) == KNOWN
    assert policies.of("example.com", NOW) == KNOWN
    between = policies.edition()
    assert between != before
    clock.now += 5
    assert policies.of("example.com", NOW, since=NOW + 10) == KNOWN
    assert policies.edition() == between, "nothing has changed"
    policies.close()


def test_a_database_that_is_another_now_is_seen_when_it_is_read_anew(path: Path) -> None:
    clock = SetClock()
    policies = PoliciesOfDaemon(path, clock=clock, ticks=Ticks())
    put(path, Stored(dns=None, sts=StsFacts()), "other.example")
    assert policies.of("example.com", NOW) == InForce()
    path.rename(path.with_name("gone.db"))
    put(path, Stored(dns=dns(), sts=sts()))
    clock.now += 5
    assert policies.of("example.com", NOW, since=NOW + 5) == KNOWN
    policies.close()

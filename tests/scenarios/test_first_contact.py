"""A domain to which Postfix turns for the first time: its session is counted, none is made up.

The policy daemon stores what it looked up before Postfix is told, and notes a moment
later what it answered without a look-up.  The sidecar may read of the session before.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from postfix_mtasts.adapters import log_files
from postfix_mtasts.adapters.history_writer import HistoryWriter
from postfix_mtasts.adapters.log_files import LogFile
from postfix_mtasts.adapters.policies_in_force import PoliciesOfDaemon
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME, SqliteTlsrptStore
from postfix_mtasts.core.facts import StsFacts
from postfix_mtasts.ports import Stored
from postfix_mtasts.services.log_counter import SETTLE, LogCounter
from tests.adapters.store_samples import DAY, SetClock, dns, nexthop, opened
from tests.scenarios.test_collecting import stored


class Host:
    """A mail server with a policy daemon that knows example.com, and a sidecar; time stands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SetClock()
        self.history = HistoryWriter(folder / FILE_NAME)
        self.learns("example.com", "mx.example.com")
        self.answers(None)
        self.store = SqliteTlsrptStore(folder / FILE_NAME)
        self.policies = PoliciesOfDaemon(folder / "state.db", clock=self.clock)
        self.log = folder / "mail.log"
        self.log.touch()
        source = LogFile(self.log, follow=True)
        self.sidecar = LogCounter(
            source, store=self.store, policies=self.policies, clock=self.clock
        )
        self.pass_time(0)  # what it begins with it does not wait for

    def learns(self, domain: str, host: str) -> None:
        """Let the daemon look *domain* up: mail for it goes to *host*."""

        async def save() -> None:
            async with opened(self.folder / "state.db", self.clock) as store:
                what = Stored(dns=dns(host, self.clock.now), sts=StsFacts())
                await store.save(nexthop(domain), what, asked=self.clock.now, refresh=None)

        asyncio.run(save())

    def answers(self, domain: str | None) -> None:
        """Let the daemon answer for *domain* without a look-up, and note that."""
        self.history.asked(None if domain is None else nexthop(domain), self.clock.now)
        self.history.write()

    def delivers(self, domain: str, host: str) -> None:
        """Let a message for *domain* go to *host* over TLS."""
        stamp = datetime.fromtimestamp(self.clock.now, UTC).isoformat()
        peer = f"{host}[192.0.2.1]:25"
        with self.log.open("a") as log:
            log.write(
                f"{stamp} mta postfix/smtp[7]: Trusted TLS connection established to {peer}:"
                " TLSv1.3 with cipher TLS_AES_256_GCM_SHA384\n"
                f"{stamp} mta postfix/smtp[7]: ABC123: to=<user@{domain}>, relay={peer}, delay=1,"
                " delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)\n"
            )
        self.sidecar.read()

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.sidecar.read()
        assert self.sidecar.write()

    def counted(self) -> dict[str, int]:
        """Return how many sessions are stored, by domain."""
        counts: dict[str, int] = {}
        for row in stored(self.folder):
            counts[row[1]] = counts.get(row[1], 0) + row[-1]
        return counts

    def close(self) -> None:
        self.sidecar.close()
        self.store.close()
        self.policies.close()
        self.history.close()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(log_files, "GRACE", 0.0)
    made = Host(tmp_path)
    yield made
    made.close()


def test_what_was_looked_up_is_counted_at_once(host: Host) -> None:
    host.delivers("example.com", "mx.example.com")
    host.pass_time(0)
    assert host.counted() == {"example.com": 1}
    host.learns("new.example", "mx.new.example")
    host.delivers("new.example", "mx.new.example")
    host.pass_time(0)
    assert host.counted() == {"example.com": 1, "new.example": 1}


def test_a_host_that_is_new_is_known_before_its_first_session_is_left_out(host: Host) -> None:
    host.delivers("example.com", "mx.example.com")
    host.learns("example.com", "mx2.example.com")
    host.delivers("example.com", "mx2.example.com")
    host.delivers("example.com", "mx.example.com")
    host.pass_time(SETTLE)
    assert host.counted() == {"example.com": 2}, "mail goes there no more"


def test_a_domain_once_reached_through_a_smarthost_counts_as_soon_as_it_is_not(host: Host) -> None:
    host.delivers("new.example", "mx.example.com")
    host.pass_time(SETTLE)
    assert host.counted() == {}
    host.learns("new.example", "mx.new.example")
    host.delivers("new.example", "mx.new.example")
    host.pass_time(SETTLE)
    assert host.counted() == {"new.example": 1}


def test_what_the_operator_answered_for_is_counted_though_it_was_noted_late(host: Host) -> None:
    host.delivers("partner.example", "mx.partner.example")
    host.answers("partner.example")
    host.pass_time(SETTLE)
    assert host.counted() == {"partner.example": 1}


def test_a_domain_that_was_never_asked_for_is_not_counted(host: Host) -> None:
    for _ in range(3):
        host.delivers("elsewhere.example", "relay.example.net")
        host.delivers("example.com", "relay.example.net")
        host.pass_time(SETTLE)
    assert host.counted() == {}


def test_a_smarthost_is_known_for_one_even_before_the_daemon_has_noted_anything(
    host: Host,
) -> None:
    host.pass_time(7 * DAY)
    host.delivers("elsewhere.example", "relay.example.net")
    host.answers(None)
    host.pass_time(SETTLE)
    assert host.counted() == {}


def test_without_a_daemon_that_notes_anything_a_session_is_counted_late(host: Host) -> None:
    host.pass_time(7 * DAY)
    host.delivers("elsewhere.example", "relay.example.net")
    host.pass_time(SETTLE)
    assert host.counted() == {"elsewhere.example": 1}

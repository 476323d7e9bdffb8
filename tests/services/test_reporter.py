"""What is reported to whom and when, with time and servers turned by hand."""

import asyncio
import logging
import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from postfix_mtasts.adapters.count_reader import SqliteCountReader
from postfix_mtasts.adapters.report_store import SqliteReportStore
from postfix_mtasts.core import schedule
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.tlsrpt_record import Address
from postfix_mtasts.core.tlsrpt_report import Document, parse_reporter
from postfix_mtasts.core.utc import DAY as SECONDS
from postfix_mtasts.core.utc import day_start
from postfix_mtasts.ports import Refused, ReportState
from postfix_mtasts.services.report_addressing import MAX_DESTINATIONS, Addressing, Wishes
from postfix_mtasts.services.report_courier import Outcome, Ways
from postfix_mtasts.services.report_turns import MAX_FAILURES
from postfix_mtasts.services.reporter import POSTS_AT_ONCE, RUN_SECONDS, Reporter
from tests.report_samples import DAY, row, store_counts
from tests.world import World, story

WHO = parse_reporter(
    organization="Sender Inc", contact="tls@sender.example", sender="reports@sender.example"
)
DOMAIN = "example.com"
TO = "mailto:tlsrpt@example.com"
MIDNIGHT = float(day_start(DAY + 1))
HOUR = 3600.0
SENT, WAITING = ReportState.SENT, ReportState.WAITING
GIVEN_UP, LEFT_OUT = ReportState.GIVEN_UP, ReportState.LEFT_OUT


@dataclass(kw_only=True)
class Office:
    """All that a run needs, kept from one run to the next; refuses what `down` names."""

    world: World
    counts: SqliteCountReader
    reports: SqliteReportStore
    wishes: Wishes = field(default_factory=lambda: Wishes(reporter=WHO))
    mails: list[tuple[str, bytes]] = field(default_factory=list)
    posts: list[tuple[str, tuple[str, ...], Document]] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    tried: list[str] = field(default_factory=list)
    read_to: float = math.inf
    ticks: float = 0.0

    async def send(self, message: bytes, *, sender: str, recipient: Address) -> Refused | None:
        assert sender == WHO.sender
        to = str(recipient)
        self.tried.append(to)
        if to in self.down:
            return Refused(why=f"{to} is down")
        self.mails.append((to, message))
        return None

    async def post(
        self, uri: str, addresses: tuple[str, ...], document: Document
    ) -> Refused | None:
        self.tried.append(uri)
        if uri in self.down:
            return Refused(why=f"{uri} is down")
        self.posts.append((uri, addresses, document))
        return None

    async def run(self, *domains: str, day: int = DAY, **wishes: Any) -> Outcome:
        reporter = self.reporter(**wishes)
        await reporter.plan(day, domains or self.counts.domains_of(day))
        await reporter.send(reporter.planned)
        return reporter.outcome

    def reporter(self, **wishes: Any) -> Reporter:
        addressing = Addressing(
            counts=self.counts,
            reports=self.reports,
            resolver=self.world,
            clock=self.world.clock,
            wishes=replace(self.wishes, **wishes),
            read_to=self.read_to,
        )
        return Reporter(
            addressing=addressing, ways=Ways(mailer=self, poster=self), ticks=lambda: self.ticks
        )

    def asks_for(self, domain: str, rua: str) -> None:
        text = f"v=TLSRPTv1; rua={rua}".encode()
        self.world.has(f"_smtp._tls.{domain}", "TXT", text)

    def states(self, domain: str = DOMAIN) -> list[tuple[str, ReportState]]:
        return [(known.to, known.state) for known in self.reports.handovers(DAY, domain)]

    def why(self, domain: str = DOMAIN) -> str:
        [known] = self.reports.handovers(DAY, domain)
        return known.why


@pytest.fixture(name="path")
def make_counts(tmp_path: Path) -> Path:
    path = tmp_path / "tlsrpt.db"
    store_counts(path, [(row(DOMAIN), 3), (row("other.example"), 1)])
    return path


@pytest.fixture(name="office")
def make_office(path: Path) -> Iterable[Office]:
    counts, reports = SqliteCountReader(path), SqliteReportStore(path)
    office = Office(world=World(now=MIDNIGHT + 4 * HOUR), counts=counts, reports=reports)
    office.asks_for(DOMAIN, TO)
    yield office
    counts.close()
    reports.close()


@story
async def test_a_report_is_sent_once_however_often_it_runs(office: Office) -> None:
    outcome = await office.run()
    assert outcome.reports == {SENT: 1, LEFT_OUT: 1}
    for _ in range(3):
        office.world.now += HOUR
        assert not (await office.run()).reports
    [(to, mail)] = office.mails
    assert to == "tlsrpt@example.com"
    assert message_from_bytes(mail)["TLS-Report-Domain"] == DOMAIN
    assert office.states() == [(TO, SENT)]
    assert office.why("other.example") == "the domain asks for no reports"
    assert office.world.asked["_smtp._tls.other.example", "TXT"] == 1


@story
async def test_it_waits_for_its_turn_unless_it_is_to_go_at_once(office: Office) -> None:
    due = float(schedule.due_at(DOMAIN, DAY))
    for office.world.now in (MIDNIGHT - 1, due - 1):
        assert not (await office.run(DOMAIN)).reports
    assert not (await office.run(DOMAIN, day=DAY + 1, at_once=True)).reports
    assert office.states() == []
    assert (await office.run(DOMAIN, at_once=True)).reports == {SENT: 1}


@story
async def test_a_late_day_is_sent_up_to_48_hours_and_then_told_to_be_too_late(
    office: Office,
) -> None:
    office.asks_for("other.example", "mailto:x@other.example")
    office.world.now = MIDNIGHT + 48 * HOUR - 1
    assert (await office.run(DOMAIN)).reports == {SENT: 1}
    office.world.now += 1
    assert (await office.run("other.example")).reports == {LEFT_OUT: 1}
    assert office.why("other.example") == "is too old to be sent"
    assert len(office.mails) == 1


@story
async def test_a_destination_that_fails_is_tried_for_24_hours_and_then_given_up(
    office: Office,
) -> None:
    office.down.add("tlsrpt@example.com")
    begin = office.world.now
    outcomes = []
    while office.world.now <= begin + 30 * HOUR:
        outcomes.append(await office.run(DOMAIN))
        office.world.now += HOUR
    tries = [n for n, outcome in enumerate(outcomes) if outcome.reports]
    assert tries == [0, 1, 2, 4, 8, 16, 24]
    [lost] = outcomes[24].given_up
    assert lost.why == "given up after 24 hours; tlsrpt@example.com is down"
    assert office.states() == [(TO, GIVEN_UP)]


@story
async def test_a_report_that_was_refused_is_sent_when_it_can_be(office: Office) -> None:
    office.down.add("tlsrpt@example.com")
    assert (await office.run(DOMAIN)).reports == {WAITING: 1}
    office.down.clear()
    office.world.now += 60
    assert not (await office.run(DOMAIN)).reports
    assert (await office.run(DOMAIN, at_once=True)).reports == {SENT: 1}
    assert office.why() == ""


@story
async def test_dns_that_fails_is_asked_again_for_24_hours(office: Office) -> None:
    office.world.fails(f"_smtp._tls.{DOMAIN}", "TXT")
    assert (await office.run(DOMAIN)).reports == {WAITING: 1}
    assert office.why() == f"TXT _smtp._tls.{DOMAIN}: SERVFAIL from 127.0.0.1"
    office.world.now += HOUR
    office.asks_for(DOMAIN, TO)
    assert (await office.run(DOMAIN)).reports == {SENT: 1}
    assert office.states() == [(TO, SENT)]


@story
async def test_dns_that_never_answers_is_given_up(office: Office) -> None:
    office.world.dns_down = True
    for _ in range(26):
        outcome = await office.run(DOMAIN)
        assert not outcome.given_up, "nobody knows whether anybody asked for it"
        office.world.now += HOUR
    assert office.states() == [("", GIVEN_UP)]
    assert not (await office.run(DOMAIN)).reports


@story
async def test_each_destination_stands_alone(office: Office) -> None:
    uris = f"{TO},mailto:bad@example.com,https://example.com/a,mailto:tlsrpt@example.com?x=1"
    office.asks_for(DOMAIN, uris)
    office.world.has("example.com", "A", "192.0.2.1")
    office.down.add("bad@example.com")
    assert (await office.run(DOMAIN)).reports == {SENT: 2, WAITING: 1}
    office.down.clear()
    assert (await office.run(DOMAIN, at_once=True)).reports == {SENT: 1}
    assert sorted(to for to, _ in office.mails) == ["bad@example.com", "tlsrpt@example.com"]
    [(uri, addresses, document)] = office.posts
    assert (uri, addresses) == ("https://example.com/a", ("192.0.2.1",))
    assert document.media_type == "application/tlsrpt+gzip"


@story
async def test_the_record_that_was_found_first_counts(office: Office) -> None:
    office.down.add("tlsrpt@example.com")
    await office.run(DOMAIN)
    office.asks_for(DOMAIN, "mailto:elsewhere@example.com")
    office.down.clear()
    assert (await office.run(DOMAIN, at_once=True)).reports == {SENT: 1}
    assert [to for to, _ in office.mails] == ["tlsrpt@example.com"]


@story
async def test_a_host_of_https_without_addresses_is_tried_again(office: Office) -> None:
    office.asks_for(DOMAIN, "https://example.com/a")
    assert (await office.run(DOMAIN)).reports == {WAITING: 1}
    assert office.why().startswith("example.com: ")
    assert office.posts == []


@story
async def test_an_address_for_a_host_is_dialled_as_it_is(office: Office) -> None:
    office.asks_for(DOMAIN, "https://[2001:db8::1]:8443/a#part")
    assert (await office.run(DOMAIN)).reports == {SENT: 1}
    [(uri, addresses, _)] = office.posts
    assert (uri, addresses) == ("https://[2001:db8::1]:8443/a", ("2001:db8::1",))


@pytest.mark.parametrize(
    ("suppress", "why"),
    [
        ("example.com", "tlsrpt.suppress names the domain"),
        ("mailto:TLSRPT@provider.example", "tlsrpt.suppress names the destination"),
        ("provider.example", "tlsrpt.suppress names the destination"),
    ],
)
@story
async def test_what_is_suppressed_gets_nothing(office: Office, suppress: str, why: str) -> None:
    office.asks_for(DOMAIN, "mailto:tlsrpt@provider.example")
    assert (await office.run(DOMAIN, suppress=(suppress,))).reports == {LEFT_OUT: 1}
    assert office.why() == why
    assert office.tried == []


@story
async def test_what_is_suppressed_while_it_waits_gets_nothing_any_more(office: Office) -> None:
    office.down.add("tlsrpt@example.com")
    await office.run(DOMAIN)
    office.down.clear()
    office.world.now += HOUR
    assert (await office.run(DOMAIN, suppress=(TO,))).reports == {LEFT_OUT: 1}
    assert office.why() == "tlsrpt.suppress names the destination"
    assert office.mails == []


@story
async def test_https_can_be_switched_off(office: Office) -> None:
    office.asks_for(DOMAIN, f"https://example.com/a,{TO}")
    assert (await office.run(DOMAIN, https=False)).reports == {SENT: 1, LEFT_OUT: 1}
    assert office.posts == []


@story
async def test_a_day_on_which_all_went_well_may_go_unreported(office: Office, path: Path) -> None:
    store_counts(path, [(row("bad.example", kind=ResultType.CERTIFICATE_EXPIRED), 1)])
    office.asks_for("bad.example", "mailto:x@bad.example")
    outcome = await office.run(DOMAIN, "bad.example", only_failures=True)
    assert outcome.reports == {SENT: 1, LEFT_OUT: 1}
    assert office.why() == "all went well"
    assert [to for to, _ in office.mails] == ["x@bad.example"]


@story
async def test_a_destination_gets_no_more_than_its_share_of_a_day(
    office: Office, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    room = schedule.has_room
    monkeypatch.setattr(
        schedule, "has_room", lambda known, now, most: room(known, now, most=most // 500)
    )
    names = [f"d{n}.example" for n in range(5)]
    store_counts(path, [(row(name), 1) for name in names])
    for name in names:
        office.asks_for(name, "mailto:all@provider.example")
    assert (await office.run(*names)).reports == {SENT: 2}
    assert not (await office.run(*names)).reports
    office.world.now += SECONDS
    assert (await office.run(*names)).reports == {SENT: 2}


@story
async def test_a_report_for_which_there_was_no_room_for_too_long_is_left_out(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "has_room", lambda _known, _now, most: most < 0)
    assert not (await office.run(DOMAIN)).reports
    office.world.now = MIDNIGHT + 48 * HOUR
    assert (await office.run(DOMAIN)).reports == {LEFT_OUT: 1}
    assert office.why() == "is too old to be sent"
    assert office.tried == []


@story
async def test_a_destination_that_refused_all_for_a_week_is_set_aside(
    office: Office, path: Path
) -> None:
    office.down.add("tlsrpt@example.com")
    store_counts(path, [(row(DOMAIN, day=DAY + n), 1) for n in range(20)])
    tried = []
    for day in range(DAY, DAY + 20):
        office.world.now = day_start(day + 1) + 4 * HOUR
        before = len(office.tried)
        await office.run(DOMAIN, day=day)
        tried.append(len(office.tried) - before)
    assert tried == [1] * 8 + [0] * 6 + [1] + [0] * 5
    [last] = office.reports.handovers(DAY + 19, DOMAIN)
    assert last.state is LEFT_OUT
    assert last.why.startswith(f"set aside: all to {TO} has failed since 2024-10-0")
    [(to, known)] = office.reports.failing()
    assert to == TO
    assert schedule.is_set_aside(known, office.world.now)


@story
async def test_a_record_with_a_crowd_of_destinations_serves_some(office: Office) -> None:
    office.asks_for(DOMAIN, ",".join(f"mailto:u{n}@example.com" for n in range(500)))
    outcome = await office.run(DOMAIN)
    assert outcome.reports == {SENT: MAX_DESTINATIONS, LEFT_OUT: 1}


@story
async def test_a_record_without_a_usable_uri_is_left_out(office: Office) -> None:
    office.asks_for(DOMAIN, "ftp://example.com/,mailto:nobody")
    assert (await office.run(DOMAIN)).reports == {LEFT_OUT: 1}
    assert office.why() == "no URI of the record can be used"


@story
async def test_a_host_that_refuses_again_and_again_is_left_alone_for_the_run(
    office: Office, path: Path
) -> None:
    names = [f"d{n}.example" for n in range(10)]
    store_counts(path, [(row(name), 1) for name in names])
    office.world.has("provider.example", "A", "192.0.2.1")
    for name in names:
        uri = f"https://provider.example/{name}"
        office.asks_for(name, uri)
        office.down.add(uri)
    office.asks_for("other.example", "mailto:x@other.example")
    outcome = await office.run(*names, "other.example")
    assert outcome.reports == {WAITING: MAX_FAILURES, SENT: 1}


@story
async def test_one_host_gets_one_report_at_a_time(office: Office, path: Path) -> None:
    names = [f"d{n}.example" for n in range(6)]
    store_counts(path, [(row(name), 1) for name in names])
    for name in names:
        office.asks_for(name, f"https://192.0.2.{1 + int(name[1]) % 2}/{name}")
    under_way: list[str] = []
    most = 0

    class Slow(Office):
        async def post(
            self, uri: str, addresses: tuple[str, ...], document: Document
        ) -> Refused | None:
            nonlocal most
            assert addresses[0] not in under_way
            under_way.append(addresses[0])
            most = max(most, len(under_way))
            await asyncio.sleep(0)
            under_way.remove(addresses[0])
            return await super().post(uri, addresses, document)

    slow = Slow(world=office.world, counts=office.counts, reports=office.reports)
    assert (await slow.run(*names)).reports == {SENT: 6}
    assert most == 2


@story
async def test_a_bug_at_one_domain_holds_up_no_other(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.asks_for("other.example", "mailto:x@other.example")

    class Broken(World):
        async def txt(self, name: str) -> Any:
            if DOMAIN in name:
                raise ZeroDivisionError
            return await super().txt(name)

    office.world = Broken(now=office.world.now, dns=office.world.dns)
    with caplog.at_level(logging.ERROR):
        outcome = await office.run()
    assert outcome.broken == 1
    assert outcome.reports == {SENT: 1}
    assert "ZeroDivisionError" in caplog.text


@story
async def test_a_store_that_cannot_be_written_to_ends_the_run_before_anything_is_sent(
    office: Office, path: Path
) -> None:
    names = [f"d{n}.example" for n in range(100)]
    store_counts(path, [(row(name), 1) for name in names])
    for name in names:
        office.asks_for(name, "mailto:all@provider.example")
    reporter = office.reporter()
    await reporter.plan(DAY, names)
    office.reports._connection.execute("PRAGMA query_only = 1")  # noqa: SLF001 - as if read-only
    await reporter.send(reporter.planned)
    assert "readonly" in reporter.outcome.unusable
    assert office.mails == []


@story
async def test_a_run_that_is_told_to_stop_ends_between_two_reports(
    office: Office, path: Path
) -> None:
    names = [f"d{n}.example" for n in range(5)]
    store_counts(path, [(row(name), 1) for name in names])
    for name in names:
        office.asks_for(name, "mailto:all@provider.example")
    reporter = office.reporter()
    await reporter.plan(DAY, names)

    class Stopping(Office):
        async def send(self, message: bytes, *, sender: str, recipient: Address) -> Refused | None:
            reporter.stop()
            return await super().send(message, sender=sender, recipient=recipient)

    stopping = Stopping(world=office.world, counts=office.counts, reports=office.reports)
    reporter._courier._ways = Ways(mailer=stopping, poster=stopping)  # noqa: SLF001 - it stops the one it serves
    await reporter.send(reporter.planned)
    assert reporter.outcome.reports == {SENT: 1}
    assert (await office.run(*names)).reports == {SENT: 4}


@story
async def test_a_report_can_be_sent_again_whatever_its_age(office: Office) -> None:
    await office.run(DOMAIN)
    office.world.now += 20 * SECONDS
    assert (await office.run(DOMAIN, again=True, at_once=True)).reports == {SENT: 1}
    first, second = (message_from_bytes(mail) for _, mail in office.mails)
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Subject"] == second["Subject"]


@story
async def test_counts_that_went_away_meanwhile_are_told(office: Office, path: Path) -> None:
    reporter = office.reporter()
    await reporter.plan(DAY, [DOMAIN])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM tally")
    await reporter.send(reporter.planned)
    assert reporter.outcome.reports == {LEFT_OUT: 1}
    assert office.why() == "there are no counts of that day"
    assert office.tried == []


@story
async def test_a_day_waits_for_its_logs_to_be_read_unless_it_is_to_go_at_once(
    office: Office,
) -> None:
    office.read_to = MIDNIGHT - 1
    assert not (await office.run(DOMAIN)).reports
    office.world.now = MIDNIGHT + 24 * HOUR - 1
    assert not (await office.run(DOMAIN)).reports
    assert office.states() == []
    office.read_to = MIDNIGHT + HOUR
    assert (await office.run(DOMAIN)).reports == {SENT: 1}


@story
async def test_a_collector_that_is_dead_delays_reports_and_does_not_end_them(
    office: Office,
) -> None:
    office.read_to = 0.0
    office.world.now = MIDNIGHT + 24 * HOUR
    assert (await office.run(DOMAIN)).reports == {SENT: 1}


@story
async def test_many_addresses_of_one_domain_share_what_it_may_get(
    office: Office, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    room = schedule.has_room
    few = {schedule.MAX_REPORTS: 2, schedule.MAX_DOMAIN_REPORTS: 5}
    monkeypatch.setattr(
        schedule, "has_room", lambda known, now, most: room(known, now, most=few[most])
    )
    names = [f"d{n}.example" for n in range(4)]
    store_counts(path, [(row(name), 1) for name in names])
    for name in names:
        office.asks_for(name, ",".join(f"mailto:{n}.{name}@victim.example" for n in range(3)))
    assert (await office.run(*names)).reports == {SENT: 5}
    assert not (await office.run(*names)).reports


@story
async def test_silent_hosts_hold_up_neither_mail_nor_the_hosts_of_other_domains(
    office: Office, path: Path
) -> None:
    names = [f"evil{n}.example" for n in range(3)]
    store_counts(path, [(row(name), 1) for name in [*names, "good.example"]])
    for number, name in enumerate(names):
        uris = (f"https://192.0.{number}.{n}/" for n in range(10))
        office.asks_for(name, ",".join(uris))
    office.asks_for("good.example", "https://198.51.100.1/")
    release = asyncio.Event()
    held: list[str] = []

    class Silent(Office):
        async def post(
            self, uri: str, addresses: tuple[str, ...], document: Document
        ) -> Refused | None:
            if "192.0." in uri:
                held.append(uri)
                await release.wait()
                return Refused(why="no answer in time")
            return await super().post(uri, addresses, document)

    silent = Silent(world=office.world, counts=office.counts, reports=office.reports)
    running = asyncio.create_task(silent.run(*names, DOMAIN, "good.example"))
    while not (silent.posts and silent.mails):  # noqa: ASYNC110 - what it waits for knows of no event
        await asyncio.sleep(0)
    assert len(held) == len(names) < POSTS_AT_ONCE, "one for each domain"
    release.set()
    outcome = await running
    assert outcome.reports == {SENT: 2, WAITING: len(names) * MAX_FAILURES}


@story
async def test_when_its_time_is_up_a_run_leaves_the_rest_to_the_next(office: Office) -> None:
    reporter = office.reporter()
    await reporter.plan(DAY, [DOMAIN])
    office.ticks = RUN_SECONDS
    await reporter.plan(DAY, ["other.example"])
    await reporter.send(reporter.planned)
    assert not reporter.outcome.reports
    assert reporter.outcome.unfinished
    assert office.reports.handovers(DAY, "other.example") == ()
    office.ticks = 0.0
    assert (await office.run()).reports == {SENT: 1, LEFT_OUT: 1}


def fill_disk(store: SqliteReportStore, *, full: bool) -> None:
    """Let *store* be unable to grow, as if the disk were full, or able to again."""
    connection = store._connection  # noqa: SLF001 - as if the disk were full
    connection.execute(f"PRAGMA query_only = {full:d}")


@story
async def test_what_cannot_be_marked_as_tried_is_not_sent(office: Office) -> None:
    reporter = office.reporter()
    await reporter.plan(DAY, [DOMAIN])
    fill_disk(office.reports, full=True)
    await reporter.send()
    assert "tlsrpt.db" in reporter.outcome.unusable
    assert office.tried == []
    fill_disk(office.reports, full=False)
    assert (await office.run(DOMAIN)).reports == {SENT: 1}


@story
async def test_a_report_whose_end_is_never_known_is_tried_a_few_times(office: Office) -> None:
    class Full(Office):
        async def send(self, message: bytes, *, sender: str, recipient: Address) -> Refused | None:
            fill_disk(self.reports, full=True)
            return await super().send(message, sender=sender, recipient=recipient)

    full = Full(world=office.world, counts=office.counts, reports=office.reports)
    for _ in range(24):
        await full.run(DOMAIN)
        fill_disk(office.reports, full=False)
        office.world.now += HOUR
    assert len(full.mails) == schedule.MAX_UNSURE_TRIES
    assert len({message_from_bytes(mail)["Message-ID"] for _, mail in full.mails}) == 1
    assert office.states() == [(TO, GIVEN_UP)]
    assert office.why() == (
        "given up after 4 tries; a run ended while it was handed over: perhaps it arrived"
    )


@story
async def test_a_domain_of_which_all_mail_bounces_is_set_aside(office: Office, path: Path) -> None:
    now = office.world.now
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS own_mail"
            " (recipient TEXT PRIMARY KEY, failing_since REAL, last REAL)"
        )
        rows = [(f"a{n}@victim.example", now - 8 * SECONDS, now - HOUR) for n in range(3)]
        insert = "INSERT INTO own_mail (recipient, failing_since, last) VALUES (?, ?, ?)"
        connection.executemany(insert, rows)
    office.asks_for(DOMAIN, "mailto:new@victim.example")
    assert (await office.run(DOMAIN)).reports == {LEFT_OUT: 1}
    assert office.why().startswith("set aside: all to victim.example has failed since ")
    assert office.tried == []


@story
async def test_a_port_of_another_protocol_gets_no_post(office: Office) -> None:
    office.asks_for(DOMAIN, "https://192.0.2.1:25/")
    assert (await office.run(DOMAIN)).reports == {LEFT_OUT: 1}
    assert office.why() == "port 25 is not for HTTPS"

"""The verb `report`: sends the TLS reports that are due, or shows them (RFC 8460).

It is run by cron, every hour.  What is sent, tried again or given up, and when,
is for `core.schedule` to say; here is only how it is asked for and told of.

What it tells without being asked, apart from a terminal, is what needs a person:
reports that are given up, and what ended the run.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from postfix_mtasts.adapters.count_reader import SqliteCountReader
from postfix_mtasts.adapters.dkim_signer import DkimSigner
from postfix_mtasts.adapters.mailer import SystemMailer
from postfix_mtasts.adapters.poster import HttpsPoster
from postfix_mtasts.adapters.report_store import SqliteReportStore, lock
from postfix_mtasts.commands.assembly import build_resolver
from postfix_mtasts.commands.configuration import Source
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.commands.report_list import list_reports
from postfix_mtasts.commands.terminal import result, talk, with_progress
from postfix_mtasts.commands.words import counted, printable
from postfix_mtasts.config import Config
from postfix_mtasts.core import schedule
from postfix_mtasts.core.errors import ConfigError, ParseError
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.tlsrpt_report import (
    Reporter,
    build_document,
    build_heading,
    parse_reporter,
)
from postfix_mtasts.core.utc import build_date, day_of, day_start, parse_date
from postfix_mtasts.ports import CountStore, ReportState, StoreUnusableError
from postfix_mtasts.services import reporter as sending
from postfix_mtasts.services.report_addressing import Addressing, Wishes
from postfix_mtasts.services.report_building import build_stored_report

T = TypeVar("T")

DATABASE = "tlsrpt.db"  # beside the database of the policy daemon

_WORKED_ON = schedule.LATE_SECONDS + schedule.RETRY_SECONDS
"""So long after its end there may be something left to do of a day."""

_MOST_TOLD = 20  # reports given up that are named


def run(args: argparse.Namespace) -> int:
    """Do what *args* say; return the exit status."""
    config = Source.from_arguments(args).load()
    day = None if args.day is None else _parsed(parse_date, args.day)
    domain = None if args.domain is None else _parsed(parse_domain, args.domain)
    path = Path(config.store.url.path).with_name(DATABASE)
    try:
        if args.list:
            return _list(path, day, domain, as_json=args.json)
        who = _reporter(config)
        if not config.tlsrpt.enabled:
            talk("tlsrpt.enabled is false: there is nothing to report")
            return ExitStatus.WELL
        if not path.exists():
            talk(f"nothing has been counted yet: there is no {path}")
            return ExitStatus.WELL
        if args.print or args.output is not None:
            return _show(path, who, day, domain, args.output)
        if args.resend is not None:
            return _resend(path, config, who, args.resend)
        wishes = _wishes(config, who, at_once=args.now)
        return _tell(_send(path, config, wishes, day, domain))
    except StoreUnusableError as error:
        raise CommandError(ExitStatus.LATER, str(error)) from None


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ParseError as error:
        raise CommandError(ExitStatus.USAGE, str(error)) from None


def _reporter(config: Config) -> Reporter:
    """Return who reports; raises ConfigError where the configuration does not say."""
    tlsrpt = config.tlsrpt
    keys = ("organization", "contact", "sender")
    missing = [f"tlsrpt.{key}" for key in keys if getattr(tlsrpt, key) is None]
    if missing:
        what = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
        raise ConfigError(
            f"to send reports, set {what} in the configuration; what is counted is kept meanwhile"
        )
    try:
        return parse_reporter(
            organization=tlsrpt.organization or "",
            contact=tlsrpt.contact or "",
            sender=tlsrpt.sender or "",
        )
    except ParseError as error:
        raise ConfigError(f"tlsrpt.{error}") from None


def _wishes(config: Config, who: Reporter, *, at_once: bool, again: bool = False) -> Wishes:
    return Wishes(
        reporter=who,
        only_failures=config.tlsrpt.only_failures and not again,
        suppress=config.tlsrpt.suppress,
        https=config.tlsrpt.delivery.https,
        at_once=at_once,
        again=again,
    )


@contextmanager
def _counts(path: Path) -> Iterator[SqliteCountReader]:
    reader = SqliteCountReader(path)
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def _reports(path: Path) -> Iterator[SqliteReportStore]:
    store = SqliteReportStore(path)
    try:
        yield store
    finally:
        store.close()


def _list(path: Path, day: int | None, domain: str | None, *, as_json: bool) -> ExitStatus:
    if not path.exists():
        talk(f"nothing has been counted yet: there is no {path}")
        return ExitStatus.WRONG
    with _counts(path) as counts, _reports(path) as reports:
        days = _days(counts, day, lambda it: it >= day_of(time.time() - _WORKED_ON))
        list_reports(counts, reports, days, domain, now=time.time(), as_json=as_json)
    return ExitStatus.WELL


def _days(counts: CountStore, day: int | None, wanted: Callable[[int], bool]) -> list[int]:
    """Return *day* alone, or else the days with counts that are *wanted*."""
    return [day] if day is not None else list(filter(wanted, counts.days_with_counts()))


def _domains(counts: CountStore, day: int, domain: str | None) -> tuple[str, ...]:
    domains = counts.domains_of(day)
    return domains if domain is None else tuple(name for name in domains if name == domain)


# --- showing ---------------------------------------------------------------------------


def _show(
    path: Path, who: Reporter, day: int | None, domain: str | None, folder: str | None
) -> ExitStatus:
    """Print the reports of *day*, else of yesterday, or write them to *folder*."""
    shown = 0
    with _counts(path) as counts:
        chosen = day_of(time.time()) - 1 if day is None else day
        for name in _domains(counts, chosen, domain):
            heading = build_heading(who, name, chosen)
            report = build_stored_report(counts, heading)
            if report is None:
                continue
            shown += 1
            if folder is None:
                result(report.decode())
            else:
                document = build_document(heading, report, compress=False)
                _write(Path(folder), document.name, document.data)
    if not shown:
        talk(f"no sessions of {build_date(chosen)} are known" + (f" to {domain}" if domain else ""))
    return ExitStatus.WELL if shown else ExitStatus.WRONG


def _write(folder: Path, name: str, data: bytes) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    except OSError as error:
        raise CommandError(ExitStatus.USAGE, f"{folder / name}: {error.strerror}") from None


# --- sending ---------------------------------------------------------------------------


def _send(
    path: Path, config: Config, wishes: Wishes, day: int | None, domain: str | None
) -> sending.Outcome:
    """Send what is due, of *day* and on *domain* alone where they are given."""
    now = time.time()
    if day is not None and now < day_start(day + 1):
        why = f"{build_date(day)} has not ended; --print and --output show what is known of it"
        raise CommandError(ExitStatus.USAGE, why)

    def is_worked_on(it: int) -> bool:
        return 0 <= now - day_start(it + 1) <= _WORKED_ON

    with _alone(path), _counts(path) as counts, _reports(path) as reports:
        plans = {it: _domains(counts, it, domain) for it in _days(counts, day, is_worked_on)}
        addressing = Addressing(
            counts=counts,
            reports=reports,
            resolver=build_resolver(config),
            clock=time.time,
            wishes=wishes,
        )
        outcome = asyncio.run(_run(config, addressing, plans))
        oldest = day_of(now - config.tlsrpt.retention)
        counts.forget_before(oldest)
        reports.forget_before(oldest)
    return outcome


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other runs from sending; raises CommandError where one is at it."""
    with lock(path) as alone:
        if not alone:
            raise CommandError(ExitStatus.LATER, "another run is sending reports")
        yield


def _resend(path: Path, config: Config, who: Reporter, report_id: str) -> ExitStatus:
    """Send the report that *report_id* names to all it goes to now."""
    date, _, name = report_id.strip("<>").rpartition("@")[0].partition(".")
    day, domain = _parsed(parse_date, date), _parsed(parse_domain, name)
    with _counts(path) as counts:
        if not _domains(counts, day, domain):
            why = f"no sessions to {domain} on {date} are known (any more)"
            raise CommandError(ExitStatus.WRONG, why)
    wishes = _wishes(config, who, at_once=True, again=True)
    outcome = _send(path, config, wishes, day, domain)
    status = _tell(outcome)
    if status is ExitStatus.WELL and not outcome.reports[ReportState.SENT]:
        why = f"nothing was sent: report --list --day {date} --domain {domain} says why"
        raise CommandError(ExitStatus.WRONG, why)
    return status


async def _run(
    config: Config, addressing: Addressing, plans: dict[int, tuple[str, ...]]
) -> sending.Outcome:
    """Look up and send; on SIGTERM and SIGINT finish what is under way and leave."""
    mailer, poster = SystemMailer(config.tlsrpt.delivery.mail), _poster(config)
    ways = sending.Ways(mailer=mailer, poster=poster, sign=_signer(config))
    run = sending.Reporter(addressing=addressing, ways=ways)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, run.stop)
    try:
        for day, domains in plans.items():
            await run.plan(day, with_progress(domains, sys.stderr))
        await run.send(with_progress(run.queues, sys.stderr))
    finally:
        await mailer.close()
        await poster.close()
    return run.outcome


def _poster(config: Config) -> HttpsPoster:
    ca_file = config.mta_sts.ca_file
    try:
        return HttpsPoster(ca_file)
    except OSError as error:
        raise ConfigError(f"mta_sts.ca_file {ca_file}: {error.strerror or error}") from None


def _signer(config: Config) -> Callable[[bytes], bytes]:
    dkim = config.tlsrpt.dkim
    if dkim is None:
        return bytes
    return DkimSigner(domain=dkim.domain, selector=dkim.selector, key_file=dkim.key_file)


def _tell(outcome: sending.Outcome) -> ExitStatus:
    for lost in outcome.given_up[:_MOST_TOLD]:
        talk(printable(f"{lost.report_id} to {lost.to}: {lost.why}"))
    if len(outcome.given_up) > _MOST_TOLD:
        talk(f"{len(outcome.given_up) - _MOST_TOLD} more were given up: see --list")
    if outcome.unusable:
        raise CommandError(ExitStatus.LATER, f"stopped: {outcome.unusable}")
    sent = outcome.reports[ReportState.SENT]
    if sys.stderr.isatty():
        failed = f", {outcome.refused} refused" if outcome.refused else ""
        talk(f"{counted(sent, 'report')} sent{failed}")
    if outcome.given_up or outcome.broken:
        return ExitStatus.WRONG
    return ExitStatus.LATER if outcome.refused else ExitStatus.WELL

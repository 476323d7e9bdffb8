"""What `report` sends: what is due, or one report again.

What is sent, tried again or given up, and when, is for `core.schedule` to say; here
is only how it is asked for and told of.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from postfix_mtasts.adapters.count_reader import SqliteCountReader
from postfix_mtasts.adapters.dkim_signer import DkimSigner
from postfix_mtasts.adapters.mailer import SystemMailer
from postfix_mtasts.adapters.poster import HttpsPoster
from postfix_mtasts.adapters.report_store import SqliteReportStore, lock
from postfix_mtasts.commands.assembly import build_resolver
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.commands.terminal import talk, with_progress
from postfix_mtasts.commands.words import counted, moment, printable
from postfix_mtasts.config import Config
from postfix_mtasts.core import schedule
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.tlsrpt_report import Reporter
from postfix_mtasts.core.utc import build_date, day_of, day_start
from postfix_mtasts.ports import CountStore, ReportState
from postfix_mtasts.services import reporter as sending
from postfix_mtasts.services.report_addressing import Addressing, Wishes
from postfix_mtasts.services.report_courier import Outcome, Ways

WORKED_ON = schedule.LATE_SECONDS + schedule.RETRY_SECONDS
"""So long after its end there may be something left to do of a day."""

_MOST_TOLD = 20  # reports given up that are named


def days_of(counts: CountStore, day: int | None, wanted: Callable[[int], bool]) -> list[int]:
    """Return *day* alone, or else the days with counts that are *wanted*."""
    return [day] if day is not None else list(filter(wanted, counts.days_with_counts()))


def domains_of(counts: CountStore, day: int, domain: str | None) -> tuple[str, ...]:
    """Return the domains with sessions on *day*, or of them *domain* alone."""
    domains = counts.domains_of(day)
    return domains if domain is None else tuple(name for name in domains if name == domain)


def forget_old(path: Path, config: Config) -> None:
    """Remove what is older than the retention, whether or not anything can be sent.

    What is worked on, and what is known of destinations, is kept however short that is.
    """
    now, retention = time.time(), config.tlsrpt.retention
    with closing(SqliteCountReader(path)) as counts, closing(SqliteReportStore(path)) as reports:
        counts.forget_before(day_of(now - max(retention, WORKED_ON)) - 1)
        reports.forget_before(day_of(now - max(retention, schedule.KEPT_SECONDS)))


def send_due(
    path: Path, config: Config, who: Reporter, day: int | None, domain: str | None, *, at_once: bool
) -> ExitStatus:
    """Send what is due, of *day* and on *domain* alone where they are given."""
    return _tell(_send(path, config, _wishes(config, who, at_once=at_once), day, domain))


def send_again(path: Path, config: Config, who: Reporter, day: int, domain: str) -> ExitStatus:
    """Send the report on *domain* and *day* to all it goes to now."""
    date = build_date(day)
    with closing(SqliteCountReader(path)) as counts:
        if not domains_of(counts, day, domain):
            why = f"no sessions to {domain} on {date} are known (any more)"
            raise CommandError(ExitStatus.WRONG, why)
    outcome = _send(path, config, _wishes(config, who, at_once=True, again=True), day, domain)
    status = _tell(outcome)
    if not outcome.reports[ReportState.SENT]:
        why = f"nothing was sent: report --list --day {date} --domain {domain} says why"
        raise CommandError(status if outcome.refused else ExitStatus.WRONG, why)
    return status


def _wishes(config: Config, who: Reporter, *, at_once: bool, again: bool = False) -> Wishes:
    return Wishes(
        reporter=who,
        only_failures=config.tlsrpt.only_failures and not again,
        suppress=config.tlsrpt.suppress,
        https=config.tlsrpt.delivery.https,
        at_once=at_once,
        again=again,
    )


def _send(
    path: Path, config: Config, wishes: Wishes, day: int | None, domain: str | None
) -> Outcome:
    """Send what is due, of *day* and on *domain* alone where they are given."""
    now = time.time()
    if day is not None and now < day_start(day + 1):
        why = f"{build_date(day)} has not ended; --print and --output show what is known of it"
        raise CommandError(ExitStatus.USAGE, why)

    def is_worked_on(it: int) -> bool:
        return 0 <= now - day_start(it + 1) <= WORKED_ON

    with (
        _alone(path),
        closing(SqliteCountReader(path)) as counts,
        closing(SqliteReportStore(path)) as reports,
    ):
        plans = {it: domains_of(counts, it, domain) for it in days_of(counts, day, is_worked_on)}
        read_to = counts.read_to()
        _warn_of_unread(plans, read_to, at_once=wishes.at_once)
        addressing = Addressing(
            counts=counts,
            reports=reports,
            resolver=build_resolver(config),
            clock=time.time,
            wishes=wishes,
            read_to=read_to,
        )
        return asyncio.run(_run(config, addressing, plans))


def _warn_of_unread(days: Iterable[int], read_to: float, *, at_once: bool) -> None:
    """Say that reports that go at once may lack sessions, where they may."""
    unread = [day for day in days if not schedule.is_read(day, read_to)]
    if at_once and unread:
        since = "at all" if read_to <= 0 else f"beyond {moment(read_to)}"
        dates = ", ".join(map(build_date, unread))
        talk(f"the log was not read {since}: the reports of {dates} may lack sessions")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other runs from sending; raises CommandError where one is at it."""
    with lock(path) as alone:
        if not alone:
            raise CommandError(ExitStatus.LATER, "another run is sending reports")
        yield


async def _run(
    config: Config, addressing: Addressing, plans: dict[int, tuple[str, ...]]
) -> Outcome:
    """Look up and send; on SIGTERM and SIGINT finish what is under way and leave."""
    mailer, poster = SystemMailer(config.tlsrpt.delivery.mail), _poster(config)
    ways = Ways(mailer=mailer, poster=poster, sign=_signer(config))
    run = sending.Reporter(addressing=addressing, ways=ways)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, run.stop)
    try:
        for day, domains in plans.items():
            await run.plan(day, with_progress(domains, sys.stderr))
        await run.send(with_progress(run.planned, sys.stderr))
    finally:
        await mailer.close()
        await poster.close()
    return run.outcome


def _poster(config: Config) -> HttpsPoster:
    ca_file = config.mta_sts.ca_file
    try:
        return HttpsPoster(ca_file, private_addresses=config.tlsrpt.delivery.private_addresses)
    except OSError as error:
        raise ConfigError(f"mta_sts.ca_file {ca_file}: {error.strerror or error}") from None


def _signer(config: Config) -> Callable[[bytes], bytes]:
    dkim = config.tlsrpt.dkim
    if dkim is None:
        return bytes
    return DkimSigner(domain=dkim.domain, selector=dkim.selector, key_file=dkim.key_file)


def _tell(outcome: Outcome) -> ExitStatus:
    """Say what came of a run; raises CommandError where that needs a person."""
    lost = [printable(f"{it.report_id} to {it.to}: {it.why}") for it in outcome.given_up]
    wrong = lost[:_MOST_TOLD]
    if len(lost) > _MOST_TOLD:
        wrong.append(f"{len(lost) - _MOST_TOLD} more were given up: see --list")
    if outcome.unusable:
        wrong.append(f"stopped: {outcome.unusable}")
    if wrong:
        raise CommandError(ExitStatus.WRONG if lost else ExitStatus.LATER, "\n".join(wrong))
    sent = outcome.reports[ReportState.SENT]
    if sys.stderr.isatty():
        failed = f", {outcome.refused} refused" if outcome.refused else ""
        talk(f"{counted(sent, 'report')} sent{failed}")
        if outcome.unfinished:
            talk("time was up: the rest goes with the next run")
    if outcome.broken:
        return ExitStatus.WRONG
    return ExitStatus.LATER if outcome.refused or outcome.unfinished else ExitStatus.WELL

"""The daily reports: each domain's, built and handed over (RFC 8460 sections 4 and 5).

A run has two parts, so that nobody waits for a stranger's slow server:

`plan`
    finds out to whom reports go, many domains at a time;
`send`
    hands them over, many destinations at a time, but one report at a time to a
    mail address or HTTPS host.  A host that refuses `MAX_FAILURES` in a row is
    left alone for the rest of the run.

What came of each is stored before anything else happens, so however a run ends,
the next one goes on.  A report is sent twice only if the process dies between
the moment at which a server takes it and the one at which that is stored; both
then have the same Report-ID.  `stop` lets a run end between reports.

One failing domain holds up no other, even where it is our fault.  A store that
cannot be written to ends the run: what could not be noted would be sent again.

BUGS: that a mail bounced later is not known here.
"""

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from postfix_mtasts.core import schedule
from postfix_mtasts.core.facts import Present
from postfix_mtasts.core.report_mail import build_report_mail
from postfix_mtasts.core.schedule import Destination, Standing
from postfix_mtasts.core.tlsrpt_record import parse_addresses
from postfix_mtasts.core.tlsrpt_report import (
    Document,
    Heading,
    build_document,
    build_heading,
)
from postfix_mtasts.core.utc import build_date, day_of
from postfix_mtasts.ports import (
    Handover,
    Mailer,
    Poster,
    Refused,
    ReportState,
    StoreUnusableError,
)
from postfix_mtasts.services.gathering import gather_addresses
from postfix_mtasts.services.report_addressing import NOBODY, OPEN, Addressing, domain_of, ended
from postfix_mtasts.services.report_building import build_stored_report

AT_ONCE = 16
"""Domains looked up, and destinations served, at one time."""

MAX_FAILURES = 3
"""After so many in a row a destination or host is left alone for the rest of a run."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How reports leave; *sign* puts a DKIM signature over a mail, or nothing."""

    mailer: Mailer
    poster: Poster
    sign: Callable[[bytes], bytes] = bytes


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    *reports*: how many came to which state in it.  *refused*: tries in vain.
    *given_up*: those that somebody asked for, and that are lost; of domains whose
    DNS never answers nobody knows.  *broken*: domains at which something is wrong
    here; the log says what.  *unusable*: what is wrong with the store, where that
    ended the run.
    """

    reports: Counter[ReportState] = field(default_factory=Counter)
    refused: int = 0
    given_up: list[Handover] = field(default_factory=list)
    broken: int = 0
    unusable: str = ""

    def note(self, handover: Handover) -> None:
        """Count *handover*, whose state is new."""
        self.reports[handover.state] += 1
        if handover.state is ReportState.GIVEN_UP and handover.to != NOBODY:
            self.given_up.append(handover)


class Reporter:
    """Sends what is due."""

    def __init__(self, *, addressing: Addressing, ways: Ways) -> None:
        self.outcome = Outcome()
        self._addressing = addressing
        self._reports = addressing.reports
        self._clock = addressing.clock
        self._wishes = addressing.wishes
        self._ways = ways
        self._stopped = False
        self._queues: dict[str, list[Handover]] = {}

    def stop(self) -> None:
        """Begin nothing more; what is being handed over is finished."""
        self._stopped = True

    @property
    def queues(self) -> tuple[str, ...]:
        """The names of what there is to send to: mail addresses and HTTPS hosts."""
        return tuple(self._queues)

    async def plan(self, day: int, domains: Iterable[str]) -> None:
        """Find out to whom the reports on *domains* and *day* go, where it is time to."""

        async def look(domain: str) -> None:
            for handover in await self._addressing.handovers(day, domain):
                self._queue(handover)

        await self._each(domains, look)

    async def send(self, queues: Iterable[str]) -> None:
        """Hand over what was planned for *queues*, some of `queues`."""
        await self._each(queues, self._send_queue)

    def _queue(self, handover: Handover) -> None:
        if handover.state not in OPEN or handover.to == NOBODY:
            self.outcome.note(handover)
            return
        name = handover.to if handover.to.startswith("mailto:") else domain_of(handover.to)
        self._queues.setdefault(name, []).append(handover)

    async def _each(self, names: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
        """Have *work* done for each of *names*, `AT_ONCE` at a time."""
        left = iter(names)
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work_off(left, work))

    async def _work_off(self, left: Iterator[str], work: Callable[[str], Awaitable[None]]) -> None:
        while not self._stopped and (name := next(left, None)) is not None:
            await self._guarded(name, work(name))

    async def _guarded(self, name: str, work: Awaitable[None]) -> None:
        """Await *work*, whose errors hold up nothing else, but for those of the store."""
        try:
            await work
        except StoreUnusableError as error:
            self.outcome.unusable = str(error)
            self.stop()
        except Exception:  # noqa: BLE001 - the task's outermost loop, with traceback
            self.outcome.broken += 1
            _log.exception("the report on or to %s cannot be sent", name)

    async def _send_queue(self, name: str) -> None:
        """Hand over, one after the other, what waits for one address or host."""
        in_a_row = 0
        for handover in self._queues.pop(name):
            if self._stopped or in_a_row == MAX_FAILURES:
                return
            if not self._is_to_be_tried(handover):
                continue
            document = self._document(handover)
            if document is None:
                self._leave_out(handover, "there are no counts of that day")
                continue
            refused = await self._hand_over(handover, document)
            self._settle(handover, refused)
            in_a_row = 0 if refused is None else in_a_row + 1

    def _is_to_be_tried(self, handover: Handover) -> bool:
        """Return whether to hand *handover* over now; store it where that is over."""
        if self._wishes.again:
            return True
        now, known = self._clock(), self._reports.destination(handover.to)
        standing = schedule.standing(
            *(handover.domain, handover.day, handover.tries),
            now=now,
            at_once=self._wishes.at_once,
        )
        if standing is not Standing.DUE:
            if standing in {Standing.GIVEN_UP, Standing.TOO_LATE}:
                self._store(ended(handover, standing), known)
            return False
        if schedule.is_set_aside(known, now):
            since = build_date(day_of(known.failing_since or now))
            self._leave_out(handover, f"set aside: has refused everything since {since}")
            return False
        return schedule.has_room(known, now)

    def _leave_out(self, handover: Handover, why: str) -> None:
        left_out = replace(handover, state=ReportState.LEFT_OUT, why=why)
        self._store(left_out, self._reports.destination(handover.to))

    def _store(self, handover: Handover, destination: Destination) -> None:
        """Store the new state of *handover*, and count it."""
        self._reports.settle(handover, destination)
        self.outcome.note(handover)

    def _settle(self, handover: Handover, refused: Refused | None) -> None:
        """Store what came of a try."""
        now = self._clock()
        known = self._reports.destination(handover.to)
        if refused is None:
            destination = schedule.delivered(known, now)
            settled = replace(handover, state=ReportState.SENT, sent=now, why="")
        else:
            self.outcome.refused += 1
            destination = schedule.failed(known, now)
            tries = schedule.tried(handover.tries, now)
            settled = replace(handover, state=ReportState.WAITING, tries=tries, why=refused.why)
            if schedule.retry_at(tries) is None:
                settled = ended(settled, Standing.GIVEN_UP)
        self._store(settled, destination)

    def _document(self, handover: Handover) -> Document | None:
        heading = self._heading(handover)
        report = build_stored_report(self._addressing.counts, heading)
        return None if report is None else build_document(heading, report)

    def _heading(self, handover: Handover) -> Heading:
        return build_heading(self._wishes.reporter, handover.domain, handover.day)

    async def _hand_over(self, handover: Handover, document: Document) -> Refused | None:
        way = self._mail if handover.to.startswith("mailto:") else self._post
        return await way(handover, document)

    async def _mail(self, handover: Handover, document: Document) -> Refused | None:
        [recipient] = parse_addresses(handover.to)
        heading = self._heading(handover)
        message = self._ways.sign(
            build_report_mail(heading, document, [recipient], now=self._clock())
        )
        sender = heading.reporter.sender
        return await self._ways.mailer.send(message, sender=sender, recipient=recipient)

    async def _post(self, handover: Handover, document: Document) -> Refused | None:
        host = domain_of(handover.to)
        if _is_address(host):
            return await self._ways.poster.post(handover.to, (host,), document)
        found = await gather_addresses(self._addressing.resolver, host)
        if not isinstance(found, Present):
            return Refused(why=f"{host}: {getattr(found, 'why', '') or 'has no address'}")
        return await self._ways.poster.post(handover.to, found.records, document)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

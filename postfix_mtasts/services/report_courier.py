"""One report handed over to one destination, and what came of it stored.

Before a report is handed over it is stored that it will be, and what came of it
afterwards.  A run that ends in between, for it is killed or can store nothing more,
leaves the report marked as being tried.  The next one cannot know whether it was
taken and sends it again, under the same Report-ID, as it does one that was refused:
the mark is a try, and there are no more than `schedule.MAX_UNSURE_TRIES`.  What
cannot be marked is not sent: on a full disk a report would go out every hour.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from postfix_mtasts.core import schedule
from postfix_mtasts.core.facts import Present
from postfix_mtasts.core.report_mail import build_report_mail
from postfix_mtasts.core.report_uri import domain_of, is_mailto
from postfix_mtasts.core.schedule import Destination, Standing
from postfix_mtasts.core.tlsrpt_record import parse_addresses
from postfix_mtasts.core.tlsrpt_report import Document, Heading, build_document, build_heading
from postfix_mtasts.core.utc import build_date, day_of
from postfix_mtasts.ports import Handover, Mailer, Poster, Refused, ReportState
from postfix_mtasts.services.gathering import gather_addresses
from postfix_mtasts.services.report_addressing import NOBODY, Addressing, ended
from postfix_mtasts.services.report_building import build_stored_report

_MOST = (schedule.MAX_REPORTS, schedule.MAX_DOMAIN_REPORTS)  # of a destination, of its domain

_UNSURE = "a run ended while it was handed over: perhaps it arrived"


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
    ended the run.  *unfinished*: time was up before all was done.
    """

    reports: Counter[ReportState] = field(default_factory=Counter)
    refused: int = 0
    given_up: list[Handover] = field(default_factory=list)
    broken: int = 0
    unusable: str = ""
    unfinished: bool = False

    def note(self, handover: Handover) -> None:
        """Count *handover*, whose state is new."""
        self.reports[handover.state] += 1
        if handover.state is ReportState.GIVEN_UP and handover.to != NOBODY:
            self.given_up.append(handover)


class Courier:
    """Hands reports over, and notes in *outcome* what came of them."""

    def __init__(self, *, addressing: Addressing, ways: Ways, outcome: Outcome) -> None:
        self._addressing = addressing
        self._ways = ways
        self._outcome = outcome
        self._reports = addressing.reports
        self._clock = addressing.clock
        self._wishes = addressing.wishes

    async def send(self, handover: Handover) -> bool | None:
        """Hand *handover* over, where it is to be; return whether that failed."""
        if not self._is_to_be_tried(handover):
            return None
        document = self._document(handover)
        if document is None:
            self._leave_out(handover, "there are no counts of that day")
            return None
        tries = schedule.tried(handover.tries, self._clock())
        marked = replace(handover, state=ReportState.TRYING, tries=tries, why=_UNSURE)
        self._reports.settle(marked, {})
        refused = await self._hand_over(handover, document)
        self._settle(handover, refused)
        return refused is not None

    def _is_to_be_tried(self, handover: Handover) -> bool:
        """Return whether to hand *handover* over now; store it where that is over."""
        if self._wishes.again:
            return True
        standing = self._addressing.standing(handover.domain, handover.day, handover.tries)
        if standing in {Standing.GIVEN_UP, Standing.TOO_LATE}:
            self._store(ended(handover, standing), {})
        elif standing is Standing.DUE and _is_unsure_for_good(handover):
            why = f"given up after {schedule.MAX_UNSURE_TRIES} tries; {handover.why}"
            self._store(replace(handover, state=ReportState.GIVEN_UP, why=why), {})
        elif standing is Standing.DUE and (why := self._addressing.objection(handover)):
            self._leave_out(handover, why)
        else:
            return standing is Standing.DUE and self._is_welcome(handover)
        return False

    def _is_welcome(self, handover: Handover) -> bool:
        """Return whether the destination, and its domain, may get *handover* now."""
        now = self._clock()
        known = self._known(handover)
        for name, it in known.items():
            if schedule.is_set_aside(it, now):
                since = build_date(day_of(schedule.failing_since(it) or now))
                self._leave_out(handover, f"set aside: all to {name} has failed since {since}")
                return False
        rooms = zip(known.values(), _MOST, strict=True)
        return all(schedule.has_room(it, now, most=most) for it, most in rooms)

    def _known(self, handover: Handover) -> dict[str, Destination]:
        """Return what is known of the destination of *handover*, and then of its domain."""
        names = (handover.to, domain_of(handover.to))
        return {name: self._reports.destination(name) for name in names}

    def _leave_out(self, handover: Handover, why: str) -> None:
        self._store(replace(handover, state=ReportState.LEFT_OUT, why=why), {})

    def _store(self, handover: Handover, known: dict[str, Destination]) -> None:
        """Store the new state of *handover*, and count it."""
        self._reports.settle(handover, known)
        self._outcome.note(handover)

    def _settle(self, handover: Handover, refused: Refused | None) -> None:
        """Store what came of a try."""
        now = self._clock()
        known = self._known(handover)
        to, domain = known
        if refused is None:
            known = {name: schedule.delivered(it, now) for name, it in known.items()}
            settled = replace(handover, state=ReportState.SENT, sent=now, why="")
        else:
            self._outcome.refused += 1
            # Of a domain others tell whether it fails: its destinations.
            known = {to: schedule.failed(known[to], now), domain: replace(known[domain], last=now)}
            tries = schedule.tried(handover.tries, now)
            settled = replace(handover, state=ReportState.WAITING, tries=tries, why=refused.why)
            if schedule.retry_at(tries) is None:
                settled = ended(settled, Standing.GIVEN_UP)
        self._store(settled, known)

    def _document(self, handover: Handover) -> Document | None:
        heading = self._heading(handover)
        report = build_stored_report(self._addressing.counts, heading)
        return None if report is None else build_document(heading, report)

    def _heading(self, handover: Handover) -> Heading:
        return build_heading(self._wishes.reporter, handover.domain, handover.day)

    async def _hand_over(self, handover: Handover, document: Document) -> Refused | None:
        way = self._mail if is_mailto(handover.to) else self._post
        return await way(handover, document)

    async def _mail(self, handover: Handover, document: Document) -> Refused | None:
        [recipient] = parse_addresses(handover.to)
        heading = self._heading(handover)
        message = self._ways.sign(
            build_report_mail(heading, document, recipient, now=self._clock())
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


def _is_unsure_for_good(handover: Handover) -> bool:
    """Return whether nobody knows of *handover*, and too many tries were made to ask again."""
    count = 0 if handover.tries is None else handover.tries.count
    return handover.state is ReportState.TRYING and count >= schedule.MAX_UNSURE_TRIES


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

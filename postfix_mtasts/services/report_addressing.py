"""To whom the report on a domain and a day goes (RFC 8460 sections 3 and 7).

The domain's TLSRPT record says so, unless the operator wants nothing sent.  Every
mail address and every https URI is a destination of its own, with its own tries.
What is found is stored before anything is sent, so a report on its way keeps its
destinations, whatever becomes of the record.

LIMITS: `MAX_DESTINATIONS`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import unquote

from postfix_mtasts.core import schedule
from postfix_mtasts.core.facts import Absent, Unavailable
from postfix_mtasts.core.merging import merge
from postfix_mtasts.core.report_uri import destinations, domain_of, is_fit, is_mailto, port_of
from postfix_mtasts.core.schedule import Standing
from postfix_mtasts.core.tlsrpt_record import Record
from postfix_mtasts.core.tlsrpt_report import Reporter, build_heading, has_failures
from postfix_mtasts.ports import Clock, CountStore, Handover, ReportState, ReportStore, Resolver
from postfix_mtasts.services.gathering import gather_tlsrpt

MAX_DESTINATIONS = 10
"""No more destinations of one record get a report (a security limit)."""

NOBODY = ""
"""The destination of a report while it is not known to whom it goes."""

OPEN = frozenset({ReportState.DUE, ReportState.WAITING, ReportState.TRYING})
"""The states in which there is something left to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the operator wants of reports.

    *suppress*: domains, mailto and https URIs that get none; a domain is also
    meant where it is that of a mail address or the host of an https URI.
    *at_once*: no waiting, for a turn, for logs, nor between tries.  *again*: what was asked
    for by name is sent whatever its age, and to whomever it was or was not sent.
    """

    reporter: Reporter
    only_failures: bool = False
    suppress: tuple[str, ...] = ()
    https: bool = True
    at_once: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """Finds out to whom reports go, and stores it.

    *read_to*: see `CountStore.read_to`; one moment for the whole of a run.
    """

    counts: CountStore
    reports: ReportStore
    resolver: Resolver
    clock: Clock
    wishes: Wishes
    read_to: float = math.inf

    def standing(self, domain: str, day: int, tries: schedule.Tries | None) -> Standing:
        """Return what is to be done now with the report on *domain* and *day*."""
        return schedule.standing(
            *(domain, day, tries),
            now=self.clock(),
            read_to=self.read_to,
            at_once=self.wishes.at_once,
        )

    def objection(self, handover: Handover) -> str:
        """Return why the operator does not want *handover*, "" where nothing says so."""
        if self._is_suppressed(handover.domain):
            return "tlsrpt.suppress names the domain"
        if handover.to == NOBODY:
            return ""
        if self._is_suppressed(handover.to) or self._is_suppressed(domain_of(handover.to)):
            return "tlsrpt.suppress names the destination"
        switched_off = not (self.wishes.https or is_mailto(handover.to))
        return "tlsrpt.delivery.https is false" if switched_off else ""

    async def handovers(self, day: int, domain: str) -> tuple[Handover, ...]:
        """Return the report on *domain* and *day* for each destination that still waits for it.

        Of what is found out only now the rest is returned as well.
        """
        if self.wishes.again:
            return await self._address(day, domain, None)
        known = self.reports.handovers(day, domain)
        open_ = tuple(handover for handover in known if handover.state in OPEN)
        if known and (not open_ or open_[0].to != NOBODY):
            return open_
        tries = open_[0].tries if open_ else None
        match self.standing(domain, day, tries):
            case Standing.DUE:
                return await self._address(day, domain, tries)
            case Standing.GIVEN_UP | Standing.TOO_LATE as standing:
                return self._store(day, domain, self._over(day, domain, tries, standing))
        return ()

    async def _address(
        self, day: int, domain: str, tries: schedule.Tries | None
    ) -> tuple[Handover, ...]:
        """Look up to whom the report on *domain* and *day* goes, and store it.

        *tries*: at looking it up, so far.
        """
        nobody = self._handover(day, domain, NOBODY)
        if why := self.objection(nobody):
            return self._store(day, domain, [_left_out(nobody, why)])
        answer = await gather_tlsrpt(self.resolver, domain)
        if isinstance(answer, Unavailable):
            return self._store(day, domain, [self._put_off(nobody, tries, answer)])
        if isinstance(answer, Absent):
            why = answer.why or "the domain asks for no reports"
            return self._store(day, domain, [_left_out(nobody, why)])
        if self.wishes.only_failures and not self._had_failures(day, domain):
            return self._store(day, domain, [_left_out(nobody, "all went well")])
        found = tuple(self._addressed(nobody, answer.records[0]))
        why = "no URI of the record can be used"
        return self._store(day, domain, found or [_left_out(nobody, why)])

    def _store(self, day: int, domain: str, handovers: Iterable[Handover]) -> tuple[Handover, ...]:
        found = tuple(handovers)
        self.reports.address(day, domain, found)
        return found

    def _handover(self, day: int, domain: str, to: str) -> Handover:
        report_id = build_heading(self.wishes.reporter, domain, day).report_id
        return Handover(day=day, domain=domain, to=to, report_id=report_id, state=ReportState.DUE)

    def _over(
        self, day: int, domain: str, tries: schedule.Tries | None, standing: Standing
    ) -> list[Handover]:
        nobody = replace(self._handover(day, domain, NOBODY), tries=tries)
        return [ended(nobody, standing)]

    def _put_off(
        self, nobody: Handover, tries: schedule.Tries | None, answer: Unavailable
    ) -> Handover:
        tried = schedule.tried(tries, self.clock())
        waiting = replace(nobody, state=ReportState.WAITING, tries=tried, why=answer.why)
        return waiting if schedule.retry_at(tried) else ended(waiting, Standing.GIVEN_UP)

    def _addressed(self, nobody: Handover, record: Record) -> Iterator[Handover]:
        for number, to in enumerate(destinations(record.rua)):
            handover = replace(nobody, to=to)
            if number >= MAX_DESTINATIONS:
                yield _left_out(handover, f"the record has more than {MAX_DESTINATIONS}")
                return
            if why := self.objection(handover):
                yield _left_out(handover, why)
            elif not is_mailto(to) and not is_fit(port_of(to)):
                yield _left_out(handover, f"port {port_of(to)} is not for HTTPS")
            else:
                yield handover

    def _had_failures(self, day: int, domain: str) -> bool:
        return has_failures(merge(self.counts.counts_of(day, domain)))

    def _is_suppressed(self, name: str) -> bool:
        return unquote(name).casefold() in {unquote(s).casefold() for s in self.wishes.suppress}


def ended(handover: Handover, standing: Standing) -> Handover:
    """Return *handover*, of which *standing* says that it is over."""
    if standing is Standing.GIVEN_UP:
        why = f"given up after 24 hours; {handover.why}" if handover.why else standing.value
        return replace(handover, state=ReportState.GIVEN_UP, why=why)
    return _left_out(handover, standing.value)


def _left_out(handover: Handover, why: str) -> Handover:
    return replace(handover, state=ReportState.LEFT_OUT, why=why)

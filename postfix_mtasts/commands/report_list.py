"""What `report --list` tells: which reports were sent, are due, failed, and why."""

from collections.abc import Iterable, Iterator
from typing import Any

from postfix_mtasts.commands.terminal import result, result_json, table, talk
from postfix_mtasts.commands.words import moment, printable
from postfix_mtasts.core import schedule
from postfix_mtasts.core.schedule import Standing
from postfix_mtasts.core.utc import build_date
from postfix_mtasts.ports import CountStore, Handover, ReportState, ReportStore

HEADINGS = ("DAY", "DOMAIN", "STATE", "WHEN", "TO", "WHY")


def list_reports(
    counts: CountStore,
    reports: ReportStore,
    days: Iterable[int],
    domain: str | None,
    *,
    now: float,
    as_json: bool,
) -> None:
    """Print the reports on *days*, and on *domain* alone where it is given."""
    known = list(_entries(counts, reports, days, domain, now))
    failing = [_destination(to, it, now) for to, it in reports.failing()]
    if as_json:
        result_json({"reports": known, "destinations": failing})
        return
    if not known:
        talk("no sessions are known of these days")
    for line in table([HEADINGS, *map(_row, known)] if known else []):
        result(line)
    aside = [entry for entry in failing if entry["set_aside"]]
    if aside:
        result("\nSet aside, and tried once a week, for everything to them failed:")
    for line in table([(printable(e["to"]), f"since {moment(e['failing_since'])}") for e in aside]):
        result(f"  {line}")


def _entries(
    counts: CountStore, reports: ReportStore, days: Iterable[int], domain: str | None, now: float
) -> Iterator[dict[str, Any]]:
    read_to = counts.read_to()
    for day in days:
        for name in counts.domains_of(day):
            if domain in {None, name}:
                handovers = reports.handovers(day, name)
                yield from map(_entry, handovers)
                if not handovers:
                    standing = schedule.standing(name, day, None, now=now, read_to=read_to)
                    yield _unaddressed(day, name, standing)


def _entry(handover: Handover) -> dict[str, Any]:
    """Return what is known of a report; *when*: it was sent, or is to be tried."""
    when = handover.sent
    if handover.state in {ReportState.WAITING, ReportState.TRYING} and handover.tries is not None:
        when = schedule.retry_at(handover.tries)
    if handover.state is ReportState.DUE:
        when = float(schedule.due_at(handover.domain, handover.day))
    return {
        "day": build_date(handover.day),
        "domain": handover.domain,
        "report_id": handover.report_id,
        "state": handover.state.value,
        "when": when,
        "tries": 0 if handover.tries is None else handover.tries.count,
        "to": handover.to,
        "why": handover.why,
    }


def _unaddressed(day: int, domain: str, standing: Standing) -> dict[str, Any]:
    """Return what is to become of a report that was not looked at yet."""
    late = standing is Standing.TOO_LATE
    return _entry(
        Handover(
            day=day,
            domain=domain,
            to="",
            report_id="",
            state=ReportState.LEFT_OUT if late else ReportState.DUE,
            why=standing.value,
        )
    )


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    texts = (entry["to"] or "-", entry["why"] or "-")
    return (
        *(entry["day"], entry["domain"], entry["state"], moment(entry["when"])),
        *map(printable, texts),
    )


def _destination(to: str, known: schedule.Destination, now: float) -> dict[str, Any]:
    return {
        "to": to,
        "failing_since": schedule.failing_since(known),
        "last": schedule.last_known(known),
        "set_aside": schedule.is_set_aside(known, now),
    }

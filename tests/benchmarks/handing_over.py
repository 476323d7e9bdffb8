"""How fast reports are handed over: ``python -m tests.benchmarks.handing_over``.

The whole of a run but for the network: counts read from SQLite, records looked up
in memory, reports built, each mail given to a program as sendmail is, and what
came of it stored.  Each figure stands beside its goal.

Exit status: 0 where every goal is met, 1 where one is not.
"""

import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from postfix_mtasts.adapters.count_reader import SqliteCountReader
from postfix_mtasts.adapters.mailer import SystemMailer
from postfix_mtasts.adapters.poster import HttpsPoster
from postfix_mtasts.adapters.report_store import SqliteReportStore
from postfix_mtasts.adapters.tlsrpt_store import SqliteTlsrptStore
from postfix_mtasts.core.endpoints import MailRoute
from postfix_mtasts.core.facts import Lookup, Present
from postfix_mtasts.core.tally import Origin, Row
from postfix_mtasts.core.tlsrpt_record import Address
from postfix_mtasts.core.utc import day_start
from postfix_mtasts.ports import Counted, Mailer, ReportState
from postfix_mtasts.services.report_addressing import Addressing, Wishes
from postfix_mtasts.services.report_courier import Ways
from postfix_mtasts.services.reporter import Reporter
from tests.benchmarks.reports import DAY, REPORTER, counts_of, megabytes, show
from tests.world import World

DOMAINS = 10_000
MANY_DOMAINS = 100_000
SECONDS = 60.0  # of CPU, sendmail's included
MEGABYTES = 200.0  # that the process has at most
BATCH = 1000


class Everybody(World):
    """Every domain asks for reports."""

    async def txt(self, name: str) -> Lookup[bytes]:
        """Answer as `Resolver.txt` does."""
        domain = name.removeprefix("_smtp._tls.")
        text = f"v=TLSRPTv1; rua=mailto:tlsrpt@{domain}".encode()
        return Present(records=(text,), secure=False, ttl=300, owner=name)


class Sink:
    """Takes every mail and keeps none."""

    octets = 0

    async def send(self, message: bytes, *, sender: str, recipient: Address) -> None:
        """Take *message*."""
        assert sender
        assert recipient.domain
        self.octets += len(message)

    async def close(self) -> None:
        """Do nothing."""


def rows_of(number: int, most: int) -> Iterator[tuple[Row, int]]:
    """Yield *most* rows of a busy day of one domain."""
    for finding, count in counts_of(f"d{number}.example")[-most:]:
        yield Row(day=DAY, origin=Origin.LOG, finding=finding), count


def store(path: Path, domains: int, most: int) -> None:
    """Make a database with up to *most* counts of each of so many domains."""
    counts = SqliteTlsrptStore(path)
    for begin in range(0, domains, BATCH):
        rows = [row for number in range(begin, begin + BATCH) for row in rows_of(number, most)]
        counts.add(Counted(source="benchmark", counts=rows))
    counts.close()


async def run(path: Path, mailer: Mailer) -> int:
    """Send all that is due; return how many reports were handed over."""
    counts, reports = SqliteCountReader(path), SqliteReportStore(path)
    poster = HttpsPoster()
    world = Everybody(now=day_start(DAY + 1) + 5 * 3600.0)
    addressing = Addressing(
        counts=counts,
        reports=reports,
        resolver=world,
        clock=world.clock,
        wishes=Wishes(reporter=REPORTER),
    )
    reporter = Reporter(addressing=addressing, ways=Ways(mailer=mailer, poster=poster))
    await reporter.plan(DAY, counts.domains_of(DAY))
    await reporter.send(reporter.planned)
    await poster.close()
    reports.close()
    counts.close()
    return reporter.outcome.reports[ReportState.SENT]


def cpu() -> float:
    """Return the seconds of CPU of this process and of the programs that it ran."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, who))


def handed_over(path: Path, mailer: Mailer, domains: int) -> tuple[float, float]:
    """Return the seconds of CPU and of the clock that all reports take."""
    begin, began = cpu(), time.monotonic()
    sent = asyncio.run(run(path, mailer))
    if sent != domains:
        raise AssertionError(f"{sent} reports sent of {domains}")
    return cpu() - begin, time.monotonic() - began


def measure_memory(folder: Path) -> bool:
    """Hand 100,000 reports to nobody; this comes first, for it is the process that counts."""
    child = os.fork()  # the rows are made elsewhere, so that they are no memory of ours
    if child == 0:
        store(folder / "many.db", MANY_DOMAINS, 1)
        os._exit(0)
    os.waitpid(child, 0)
    seconds, clock = handed_over(folder / "many.db", Sink(), MANY_DOMAINS)
    return show(
        f"{MANY_DOMAINS:,} reports, {seconds:.0f} s of CPU in {clock:.0f} s: memory",
        f"{megabytes():.0f} MB",
        f"at most {MEGABYTES:.0f} MB",
        met=megabytes() <= MEGABYTES,
    )


def measure_cpu(folder: Path) -> bool:
    """Hand 10,000 reports to a program."""
    program = folder / "sendmail"
    program.write_text("#!/bin/sh\nexec cat >/dev/null\n")
    program.chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    store(folder / "counts.db", DOMAINS, 12)
    mailer = SystemMailer(MailRoute(kind="sendmail"))
    seconds, clock = handed_over(folder / "counts.db", mailer, DOMAINS)
    return show(
        f"{DOMAINS:,} reports handed to sendmail in {clock:.0f} s: CPU, sendmail's too",
        f"{seconds:.1f} s",
        f"at most {SECONDS:.0f} s",
        met=seconds <= SECONDS,
    )


def main() -> int:
    """Measure everything; return 1 where a goal was missed."""
    with tempfile.TemporaryDirectory() as name:
        met = [measure_memory(Path(name)), measure_cpu(Path(name))]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())

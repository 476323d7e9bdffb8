"""How fast counts and reports are made: ``python -m tests.benchmarks.reports``.

Each figure stands beside its goal; nothing here leaves the process.  The store,
the log and the network have benchmarks of their own, so the goals here are parts
of what is promised of the whole: reports on 10,000 domains built in half of the
60 s of CPU in which they are to be handed over, and a datagram counted in half
of its 0.025 ms.

Exit status: 0 where every goal is met, 1 where one is not.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator

from postfix_mtasts.core.applied import InForce
from postfix_mtasts.core.finding import (
    Finding,
    PolicyType,
    build_failure,
    build_finding,
    build_policy,
)
from postfix_mtasts.core.merging import merge
from postfix_mtasts.core.recent import Recent
from postfix_mtasts.core.report_mail import build_report_mail
from postfix_mtasts.core.tally import (
    Columns,
    Tally,
    build_columns,
    parse_columns,
    rows_of_datagram,
)
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.tlsrpt_datagram import parse_datagram
from postfix_mtasts.core.tlsrpt_record import Address
from postfix_mtasts.core.tlsrpt_report import (
    build_document,
    build_heading,
    build_report,
    parse_reporter,
)

DAY = 20000
DOMAINS = 10_000
MANY_DOMAINS = 100_000
DATAGRAMS = 200_000
BATCH = 4_000  # datagrams between two writes: a second's
MEMORY = 64 << 20  # octets of datagrams to recognise
FAILING_HOSTS = 5
REPORT_SECONDS = 30.0
DATAGRAM_MS = 0.0125
MEGABYTES = 100.0  # what making reports one at a time may add

REPORTER = parse_reporter(
    organization="Sender Inc", contact="tls@sender.example", sender="tls@sender.example"
)
NOTHING = InForce()


def policy_lines(domain: str) -> list[str]:
    """Return an MTA-STS policy as Postfix hands it on."""
    hosts = [f"mx: mx{n}.{domain}" for n in range(FAILING_HOSTS)]
    return ["version: STSv1", "mode: enforce", *hosts, "max_age: 604800"]


def counts_of(domain: str) -> list[tuple[Finding, int]]:
    """Return a busy day of *domain*: two policies, and hosts that fail in several ways."""
    sts = build_policy(
        PolicyType.STS,
        domain,
        policy_lines(domain),
        [f"mx{n}.{domain}" for n in range(FAILING_HOSTS)],
    )
    tlsa = build_policy(PolicyType.TLSA, f"mx0.{domain}", ["3 1 1 " + "AB" * 32])
    counts = [(build_finding(domain, applied, failed=False), 1000) for applied in (sts, tlsa)]
    for host in range(FAILING_HOSTS):
        for kind in (ResultType.CERTIFICATE_EXPIRED, ResultType.STARTTLS_NOT_SUPPORTED):
            failure = build_failure(
                kind,
                sending_ip="192.0.2.1",
                mx_host=f"mx{host}.{domain}",
                helo=f"250-mx{host}.{domain} Hello",
                receiving_ip=f"198.51.100.{host}",
            )
            counts.append((build_finding(domain, sts, [failure], failed=True), host + 1))
    return counts


def mails(domains: int) -> Iterator[bytes]:
    """Make the mail of each domain's report, one at a time, from counts to octets."""
    for number in range(domains):
        domain = f"d{number}.example"
        heading = build_heading(REPORTER, domain, DAY)
        report = build_report(heading, counts_of(domain))
        if report is not None:
            recipient = Address(local="tlsrpt", domain=domain)
            document = build_document(heading, report)
            yield build_report_mail(heading, document, recipient, now=0.0)


def datagrams() -> Iterator[bytes]:
    """Tell of sessions to 10,000 domains, most of which went alike, in scattered order."""
    for number in range(DATAGRAMS):
        domain = f"d{number * 7919 % DOMAINS}.example"
        failed = number % 10 == 0
        details = (
            f'"failure-details":[{{"c":205,"s": "192.0.2.1","n": "mx.{domain}",'
            f'"h": "250-mx.{domain}\\r\\n250-SIZE\\r\\n250 HELP","r": "198.51.100.1",'
            '"f": "self-signed_certificate"}],'
        )
        yield (
            f'{{"dpv": "1","d": "{domain}","pr": "v=TLSRPTv1; rua=mailto:a@{domain}",'
            f'"policies":[{{"policy-type":2,"policy-domain": "{domain}","policy-string":'
            f'["version: STSv1","mode: enforce","mx: mx.{domain}","max_age: 604800"],'
            f'"mx-host":["mx.{domain}"],{details if failed else ""}'
            f'"t":{failed:d},"f":{failed:d}}}]}}'
        ).encode()


def count(received: list[bytes]) -> int:
    """Count *received* as a collector does: octets first, then what to write for them."""
    known: Recent[tuple[Columns, ...]] = Recent(most=MEMORY, weight=2000)
    sessions = 0
    for begin in range(0, len(received), BATCH):
        counts: Counter[Columns] = Counter()
        for data, times in Counter(received[begin : begin + BATCH]).items():
            columns = known.get(data)
            if columns is None:
                rows = rows_of_datagram(parse_datagram(data), NOTHING, when=DAY * 86400.0)
                columns = tuple(map(build_columns, rows))
                known.put(data, columns)
            for row in columns:
                counts[row] += times
        sessions += counts.total()
    return sessions


def megabytes() -> float:
    """Return the most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(what: str, value: str, goal: str, *, met: bool) -> bool:
    """Print one figure beside its goal and return whether it was met."""
    print(f"{what:<58}{value:>22}   {goal}{'' if met else '   <-- missed'}", flush=True)
    return met


def measure_reports() -> bool:
    """Build the mails of 10,000 domains, then of 100,000 for their memory."""
    begin = time.process_time()
    octets = sum(map(len, mails(DOMAINS)))
    seconds = time.process_time() - begin
    before = megabytes()
    for _ in mails(MANY_DOMAINS):
        pass
    grown = megabytes() - before
    return show(
        f"reports on {DOMAINS:,} domains, {octets / DOMAINS:,.0f} octets each, CPU",
        f"{seconds:.1f} s",
        f"at most {REPORT_SECONDS:.0f} s",
        met=seconds <= REPORT_SECONDS,
    ) & show(
        f"memory that reports on {MANY_DOMAINS:,} domains add",
        f"{grown:.1f} MB",
        f"at most {MEGABYTES:.0f} MB",
        met=grown <= MEGABYTES,
    )


def measure_rows() -> bool:
    """Read the rows of 10,000 domains from their columns and merge them."""
    tally = Tally()
    data = next(datagrams())
    for row in rows_of_datagram(parse_datagram(data), NOTHING, when=0.0):
        tally.add(row)
    columns = [build_columns(row) for row, _ in tally.take()]
    begin = time.process_time()
    for _ in range(DOMAINS):
        merge((parse_columns(stored), 1) for stored in columns * 10)
    seconds = time.process_time() - begin
    return show(
        f"10 rows of each of {DOMAINS:,} domains read and merged, CPU",
        f"{seconds:.1f} s",
        f"at most {REPORT_SECONDS / 3:.0f} s",
        met=seconds <= REPORT_SECONDS / 3,
    )


def measure_datagrams() -> bool:
    """Count 200,000 datagrams on 10,000 domains."""
    received = list(datagrams())
    begin = time.process_time()
    sessions = count(received)
    each = (time.process_time() - begin) / DATAGRAMS * 1000
    if sessions != DATAGRAMS:
        raise AssertionError(f"{sessions} sessions counted of {DATAGRAMS}")
    return show(
        f"{DATAGRAMS:,} datagrams on {DOMAINS:,} domains, CPU for each",
        f"{each:.4f} ms",
        f"at most {DATAGRAM_MS} ms",
        met=each <= DATAGRAM_MS,
    )


def main() -> int:
    """Measure everything; return 1 where a goal was missed."""
    # The order matters to the memory: reports first.
    met = [measure_reports(), measure_rows(), measure_datagrams()]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())

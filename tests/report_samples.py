"""Counts for tests of reports, stored as the collector stores them."""

from collections.abc import Iterable
from pathlib import Path

from postfix_mtasts.adapters.tlsrpt_store import SqliteTlsrptStore
from postfix_mtasts.core.finding import PolicyType, build_failure, build_finding, build_policy
from postfix_mtasts.core.tally import Origin, Row
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.ports import Counted, Written

DAY = 20_000


def row(domain: str, *, day: int = DAY, kind: ResultType | None = None) -> Row:
    """Return a session to *domain* under no policy, which failed where *kind* says how."""
    policy = build_policy(PolicyType.NO_POLICY_FOUND, domain)
    failures = [] if kind is None else [build_failure(kind, mx_host=f"mx.{domain}")]
    finding = build_finding(domain, policy, failures, failed=kind is not None)
    return Row(day=day, origin=Origin.LOG, finding=finding)


def store_counts(path: Path, counts: Iterable[tuple[Row, int]]) -> None:
    store = SqliteTlsrptStore(path)
    assert store.add(Counted(source="test", counts=tuple(counts))) is Written.DONE
    store.close()

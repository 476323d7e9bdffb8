"""The dashboard and the alerts speak of nothing that ``/metrics`` does not tell."""

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from postfix_mtasts.adapters.report_store import SqliteReportStore
from postfix_mtasts.adapters.store_sqlite import SqliteStore
from postfix_mtasts.adapters.tlsrpt_store import SqliteTlsrptStore
from postfix_mtasts.core.facts import CachedPolicy, StsFacts
from postfix_mtasts.core.mta_sts import Policy
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.ports import Counted, Handover, Place, ReportState, Stored
from tests.hostile.daemon_process import DnsThread, free_port, running, until

FOLDER = Path(__file__).parents[1] / "contrib/postfix/monitoring"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in PANELS
        for target in panel["targets"]
    },
}
OF_PROMETHEUS = {"up": {"job", "instance"}}
"""What Prometheus itself adds: https://prometheus.io/docs/concepts/jobs_instances/."""

METRIC = re.compile(r"\b(up|(?:postfix_mtasts|process)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!=|!~|=)"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without) \(([^)]*)\)")
QUOTED = re.compile(r'"[^"]*"')

Labels = dict[str, set[str]]


@pytest.fixture(name="told", scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Labels]:
    """Return what a daemon tells that has all there is to tell: names, and values of labels."""
    folder = tmp_path_factory.mktemp("monitored")
    fill(folder)
    port = free_port()
    told: dict[str, Labels] = {name: {} for name in OF_PROMETHEUS}
    metrics = {"listen": f"inet:127.0.0.1:{port}"}
    with DnsThread() as dns, running(folder, resolver=dns, metrics=metrics) as daemon:
        daemon.ask(b"policy example.com")
        until(lambda: "DNSSEC: " in daemon.log)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
            page = response.read().decode()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = told.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return told


def fill(folder: Path) -> None:
    """Leave what the collector and the reporter would, and a policy in force."""
    counts = SqliteTlsrptStore(folder / "tlsrpt.db")
    counts.follow(["log"])
    place = Place(position="p", read_to=time.time())
    counts.add(Counted(source="log", place=place, seen=[("lines", 1)]))
    counts.close()
    reports = SqliteReportStore(folder / "tlsrpt.db")
    sent = Handover(
        day=1,
        domain="example.com",
        to="mailto:a@example.com",
        report_id="x",
        state=ReportState.SENT,
        sent=time.time(),
    )
    reports.address(1, "example.com", [sent])
    reports.close()
    asyncio.run(keep_a_policy(folder / "state.db"))


async def keep_a_policy(path: Path) -> None:
    store, now = SqliteStore(path, clock=time.time), time.time()
    cached = CachedPolicy(
        record_id="1",
        policy=Policy(mode="enforce", mx=("mx.example.com",), max_age=86400),
        text=b"version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 86400\n",
        fetched=now,
        checked=now,
    )
    stored = Stored(dns=None, sts=StsFacts(cached=cached))
    nexthop = NextHop(form=Form.DOMAIN, name="policy.example")
    await store.save(nexthop, stored, asked=now, refresh=now + 86400)
    await store.close()


def asked_for(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yield the metrics of *expression*, each with its matchers of labels."""
    for name, matchers in METRIC.findall(expression):
        yield name, MATCHER.findall(matchers)


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_and_label_is_told(told: dict[str, Labels], where: str) -> None:
    metrics = list(asked_for(EXPRESSIONS[where]))
    assert metrics
    for name, matchers in metrics:
        assert name in told, f"{name} is not told"
        for label, operator, value in matchers:
            if label in ("job", "instance"):
                continue
            known = told[name].get(label, set())
            alike = value if operator in ("=~", "!~") else re.escape(value)
            assert any(re.fullmatch(alike, each) for each in known), f"{name}: {label} {value}"


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_it_is_grouped_by_labels_that_are_told(told: dict[str, Labels], where: str) -> None:
    expression = EXPRESSIONS[where]
    known = {"job", "instance"}
    for name, _ in asked_for(expression):
        known |= set(told[name])
    for labels in GROUPING.findall(QUOTED.sub("", expression)):
        assert {label.strip() for label in labels.split(",")} <= known


def test_everything_of_ours_that_is_told_is_shown_or_watched(told: dict[str, Labels]) -> None:
    shown = {name for each in EXPRESSIONS.values() for name, _ in asked_for(each)}
    left = {
        name
        for name in told
        if name.startswith("postfix_mtasts_") and not name.endswith(("_info", "_readable", "_sum"))
    }
    assert left <= shown


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description"}
    assert "$labels.instance" in rule["annotations"]["summary"]
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}


def test_no_two_alerts_and_no_two_panels_share_a_name() -> None:
    for names in (
        [rule["alert"] for rule in RULES],
        [panel["title"] for panel in PANELS],
        [panel["id"] for panel in DASHBOARD["panels"]],
    ):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_asks_the_servers_that_were_chosen(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for name, matchers in asked_for(target["expr"]):
            chosen = {(label, value) for label, _, value in matchers}
            assert {("job", "$job"), ("instance", "$instance")} <= chosen, name

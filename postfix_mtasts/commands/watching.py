"""What ``/metrics`` tells of the running daemon: where the numbers of both wings meet."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from postfix_mtasts import __version__
from postfix_mtasts.adapters import listeners
from postfix_mtasts.adapters.metrics_server import Exposition, Page, load_exposition
from postfix_mtasts.adapters.state_metrics import policy_metrics, reporting_metrics
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME
from postfix_mtasts.commands.health import Health
from postfix_mtasts.config import Config
from postfix_mtasts.core.meters import Histogram, Metric, gauge
from postfix_mtasts.services.activity import PREFIX
from postfix_mtasts.services.answers import Answers
from postfix_mtasts.services.server import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Where Prometheus asks, and what makes pages for it."""

    listener: socket.socket
    exposition: Exposition


def open_watch(config: Config) -> Watch | None:
    """Listen where *config* says; `None` where it says nothing.

    Raises ConfigError where that cannot be done, or the library is missing.
    """
    if config.metrics.listen is None:
        return None
    exposition = load_exposition()
    return Watch(listener=listeners.bind(config.metrics.listen), exposition=exposition)


def build_page(
    watch: Watch, config: Config, *, counted: Callable[[], list[Metric | Histogram]]
) -> Page:
    """Return the page of *counted*, and of what the databases of *config* tell."""
    state = Path(config.store.url.path)

    def read() -> list[Metric]:
        told = policy_metrics(state, time.time())
        if config.tlsrpt.enabled:
            told += reporting_metrics(state.with_name(FILE_NAME))
        return told

    return Page(watch.exposition, counted=counted, read=read, ticks=time.monotonic)


def daemon_metrics(
    answers: Answers, server: Server, health: Health, *, trusts_nobody: bool
) -> list[Metric | Histogram]:
    """Return the numbers that the daemon has in memory."""
    return [
        _build_info(),
        *answers.activity.metrics(),
        gauge(f"{PREFIX}cached_answers", "Answers in memory.", float(len(answers.cache.answers))),
        _connections(server),
        gauge(
            f"{PREFIX}lookups_under_way",
            "Look-ups and refreshes that ask the network now.",
            float(answers.plan.lookups.under_way()),
        ),
        *_health(health, trusts_nobody=trusts_nobody),
    ]


def _build_info() -> Metric:
    return Metric(
        name=f"{PREFIX}build_info",
        kind="gauge",
        help="Always 1; the version is a label.",
        labels=("version",),
        samples=(((__version__,), 1.0),),
    )


def _connections(server: Server) -> Metric:
    return Metric(
        name=f"{PREFIX}connections",
        kind="gauge",
        help="Connections of Postfix, by whether they wait for a look-up.",
        labels=("state",),
        samples=((("idle",), float(len(server.idle))), (("busy",), float(len(server.busy)))),
    )


def _health(health: Health, *, trusts_nobody: bool) -> list[Metric]:
    told = [
        gauge(
            f"{PREFIX}store_usable",
            "Whether what is learnt is kept on disk, and not in memory only.",
            float(health.is_store_usable),
        ),
        gauge(
            f"{PREFIX}certificate_authorities_trusted",
            "Whether there are any, without which no policy can be fetched.",
            float(not trusts_nobody),
        ),
    ]
    if health.dnssec is not None:
        text = "Whether every DNS server in use validates DNSSEC, without which DANE is off."
        told.append(gauge(f"{PREFIX}dnssec_validation", text, float(health.dnssec.ok)))
    return told

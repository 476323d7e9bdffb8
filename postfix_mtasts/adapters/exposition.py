"""Metrics as a page that Prometheus reads, by its own library (prometheus-client 0.16 or later).

This module alone imports that library, which is optional; import it by way of
`metrics_server.load_exposition`, which says what is missing.

The page is in the text format, version 0.0.4, which every Prometheus reads
(https://prometheus.io/docs/instrumenting/exposition_formats/).  What the library knows
of the process itself (memory, CPU, file descriptors) is on it, too.
"""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from postfix_mtasts.core.meters import Histogram, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Told(Collector):
    """Tells *metrics*, and nothing else, whenever it is asked."""

    def __init__(self, metrics: Sequence[Metric | Histogram]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """Yield each metric in the library's own form."""
        return map(_family, self._metrics)


_PROCESS = ProcessCollector(registry=None)


def build_page(metrics: Iterable[Metric | Histogram]) -> bytes:
    """Return the page that tells *metrics*."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(tuple(metrics)))
    registry.register(_PROCESS)
    return generate_latest(registry)


def _family(metric: Metric | Histogram) -> Family:
    if isinstance(metric, Histogram):
        return _histogram(metric)
    form = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = form(metric.name, metric.help, labels=metric.labels)
    for labels, value in metric.samples:
        family.add_metric(labels, value)
    return family


def _histogram(metric: Histogram) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help)
    buckets = [("+Inf" if bound == float("inf") else str(bound), n) for bound, n in metric.buckets]
    family.add_metric([], buckets, metric.total)
    return family

"""Pages, read back by the parser of Prometheus' own library."""

import math

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from postfix_mtasts.adapters import exposition
from postfix_mtasts.adapters.metrics_server import load_exposition
from postfix_mtasts.core.meters import Durations, Histogram, Meters, Metric, gauge


def samples(*metrics: Metric | Histogram) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples of the page that tells *metrics*, those of the process left out."""
    text = exposition.build_page(metrics).decode()
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


def test_a_counter_is_told_with_its_suffix_and_labels() -> None:
    meters = Meters("fetches", "Fetches.", ("kind",))
    meters.of('a "b"\n').count = 3
    assert samples(meters.metric()) == {("fetches_total", (("kind", 'a "b"\n'),)): 3.0}


def test_a_gauge_is_told_as_it_is() -> None:
    assert samples(gauge("size", "How many.", 2.5)) == {("size", ()): 2.5}


def test_a_histogram_is_told_with_cumulative_buckets_count_and_sum() -> None:
    durations = Durations("seconds", "How long.")
    durations.add(0.02)
    durations.add(99.0)
    told = samples(durations.histogram())
    assert told["seconds_bucket", (("le", "0.01"),)] == 0
    assert told["seconds_bucket", (("le", "0.025"),)] == 1
    assert told["seconds_bucket", (("le", "+Inf"),)] == 2
    assert told["seconds_count", ()] == 2
    assert math.isclose(told["seconds_sum", ()], 99.02)


def test_the_page_says_of_each_metric_what_it_is() -> None:
    page = exposition.build_page([gauge("size", "How many.", 1)]).decode()
    assert "# HELP size How many.\n# TYPE size gauge\nsize 1.0\n" in page
    assert "# TYPE process_resident_memory_bytes gauge" in page


def test_the_module_is_found_where_the_library_is_there() -> None:
    assert load_exposition().CONTENT_TYPE.startswith("text/plain; version=0.0.4")

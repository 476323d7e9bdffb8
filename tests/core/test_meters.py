"""Numbers that are counted: their labels bounded, their buckets cumulative."""

import math

from postfix_mtasts.core.meters import BOUNDS, OTHER, Durations, Meter, Meters, Metric, gauge


def test_a_meter_begins_at_zero() -> None:
    assert Meter().count == 0


def test_each_combination_of_labels_has_a_meter_of_its_own_that_stays_the_same() -> None:
    meters = Meters("fetches", "Fetches.", ("kind", "of"))
    meters.of("a", "b").count += 2
    meters.of("a", "c").count += 1
    meters.of("a", "b").count += 1
    assert meters.metric() == Metric(
        name="fetches",
        kind="counter",
        help="Fetches.",
        labels=("kind", "of"),
        samples=((("a", "b"), 3.0), (("a", "c"), 1.0)),
    )
    assert meters.total() == 4


def test_what_is_known_beforehand_is_told_from_the_start() -> None:
    meters = Meters("x", "X.", ("kind",), known=[("one",), ("two",)])
    assert meters.metric().samples == ((("one",), 0.0), (("two",), 0.0))


def test_beyond_the_most_all_else_is_counted_together() -> None:
    meters = Meters("x", "X.", ("a", "b"), most=2)
    for number in range(1000):
        meters.of(str(number), "x").count += 1
    assert dict(meters.metric().samples) == {
        ("0", "x"): 1.0,
        ("1", "x"): 1.0,
        (OTHER, OTHER): 998.0,
    }


def test_a_bucket_counts_all_that_took_no_longer_than_its_bound() -> None:
    durations = Durations("seconds", "How long.")
    for seconds in (0.0, 0.005, 0.0051, 15.0, 15.1, 100.0):
        durations.add(seconds)
    told = durations.histogram()
    counts = dict(told.buckets)
    assert [bound for bound, _ in told.buckets] == [*BOUNDS, math.inf]
    assert counts[0.005] == 2
    assert counts[0.01] == 3
    assert counts[10.0] == 3
    assert counts[15.0] == 4
    assert counts[math.inf] == 6
    assert math.isclose(told.total, 130.1101)
    assert (told.name, told.help) == ("seconds", "How long.")


def test_a_gauge_is_one_number_without_labels() -> None:
    assert gauge("size", "How many.", 3.0) == Metric(
        name="size", kind="gauge", help="How many.", samples=(((), 3.0),)
    )

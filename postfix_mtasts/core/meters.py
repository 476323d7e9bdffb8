"""Numbers that are counted while the daemon works, and what is told of them.

A `Meter` is one number that only goes up.  `Meters` are those of one name, told
apart by labels.  `Durations` is a histogram.  All are bounded: each combination of
labels is a time series that whoever scrapes them keeps for ever, so a label is
never what a stranger wrote, and beyond *most* combinations the rest is counted
together (a security limit).

A `Metric` is what is told: plain values, of which an adapter makes a page
(https://prometheus.io/docs/concepts/metric_types/).
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

MOST: Final = 1000
"""Combinations of labels under one name, unless told otherwise."""

OTHER: Final = "other"
"""The label of all that has no meter of its own."""

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
"""Upper bounds of `Durations` in seconds: from a look-up nearby to the daemon's own deadline."""

Kind = Literal["counter", "gauge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Numbers under one *name*: for each combination of the values of *labels* one.

    *name*: of a counter without "_total".  *help*: what it is, in a sentence.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    samples: Sequence[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How often something took how long.

    *buckets*: pairs of an upper bound in seconds, infinity last, and how often it took
    no longer than that.  *total*: seconds, of all together.
    """

    name: str
    help: str
    buckets: Sequence[tuple[float, int]]
    total: float


class Meter:
    """A number that only goes up: whoever counts adds to *count*."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Meters:
    """The meters under one *name*, told apart by the values of *labels*.

    *known*: combinations that are told from the start, as 0, so that the first
    of each is seen as an increase.
    """

    def __init__(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...],
        *,
        known: Iterable[tuple[str, ...]] = (),
        most: int = MOST,
    ) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._most = most
        self._meters = {values: Meter() for values in known}

    def of(self, *values: str) -> Meter:
        """Return the meter of *values*, one for each label; that of the rest where it is full."""
        meter = self._meters.get(values)
        if meter is None:
            if len(self._meters) >= self._most:
                values = (OTHER,) * len(self._labels)
            meter = self._meters.setdefault(values, Meter())
        return meter

    def total(self) -> int:
        """Return the sum of all."""
        return sum(meter.count for meter in self._meters.values())

    def metric(self) -> Metric:
        """Return what is to be told."""
        samples = [(values, float(meter.count)) for values, meter in self._meters.items()]
        return Metric(
            name=self._name,
            kind="counter",
            help=self._text,
            labels=self._labels,
            samples=tuple(samples),
        )


class Durations:
    """How often something took how long, in the buckets of `BOUNDS`."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0.0

    def add(self, seconds: float) -> None:
        """Count that it took *seconds*."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._total += seconds

    def histogram(self) -> Histogram:
        """Return what is to be told."""
        bounds = (*BOUNDS, float("inf"))
        return Histogram(
            name=self._name,
            help=self._text,
            buckets=tuple(zip(bounds, accumulate(self._counts), strict=True)),
            total=self._total,
        )


def gauge(name: str, text: str, value: float) -> Metric:
    """Return one number that goes up and down, as it is now."""
    return Metric(name=name, kind="gauge", help=text, samples=(((), value),))

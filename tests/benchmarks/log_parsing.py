"""How fast mail logs become sessions, on one core: ``python -m tests.benchmarks.log_parsing``.

Promised are 120,000 lines a second of a realistic mix, 1,000,000 of lines that
are none of our business, and memory that does not grow.  Making the lines is
not measured.  ``--lines N`` sets how many (default 300,000), so ``--lines
5000000`` shows the memory.
"""

import argparse
import resource
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from postfix_mtasts.core.log_line import Calendar, LineParser, build_filter
from postfix_mtasts.core.sessions import SessionTracker
from tests.benchmarks.mail_log import foreign_lines, mixed_lines

BATCH = 50_000  # lines made ahead, so that only their reading is timed
LATEST = 1798761600.0  # 1 January 2027


def batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    lines = iter(lines)
    while batch := list(islice(lines, BATCH)):
        yield batch


def measure(lines: Iterable[bytes]) -> tuple[int, int, float]:
    """Return how many lines there were, how many sessions, and the CPU seconds they took."""
    matters = build_filter(["tlsrpt@sender.example"])
    parser, tracker = LineParser(Calendar(latest=LATEST)), SessionTracker()
    count = sessions = 0
    taken = 0.0
    for batch in batches(lines):
        before = time.process_time()
        for raw in batch:
            if matters(raw):
                line = parser.parse(raw)
                if line is not None:
                    sessions += len(tracker.feed(line))
        taken += time.process_time() - before
        count += len(batch)
    return count, sessions, taken


def resident() -> float:
    """Return the greatest resident size so far in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--lines", type=int, default=300_000)
    wanted = arguments.parse_args().lines
    count, _none, taken = measure(foreign_lines(wanted))
    print(f"none of our business: {count / taken:>12,.0f} lines/s of {count:,}")
    measure(mixed_lines(min(wanted, 4 * BATCH)))
    before = resident()
    count, sessions, taken = measure(mixed_lines(wanted))
    print(f"realistic mix:        {count / taken:>12,.0f} lines/s of {count:,}")
    print(f"sessions found:       {sessions:>12,}")
    print(f"memory grown by:      {resident() - before:>12.1f} MiB, to {resident():.0f} MiB")


if __name__ == "__main__":
    main()

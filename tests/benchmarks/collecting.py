"""What counting costs, the whole way: ``python -m tests.benchmarks.collecting``.

Lines are piped to ``collect --once --log -``.  Memory must not grow with their
number: its greatest size (VmHWM) after 1 million lines stands beside that after 5
million.  CPU seconds are those of the process, its start and the database included.
``--lines N`` sets how many.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from tests.benchmarks.mail_log import foreign_lines, mixed_lines

COMMAND = [sys.executable, "-m", "postfix_mtasts", "--config"]
TREE = Path(__file__).parents[2]
BATCH = 10_000
FIRST = 1_000_000
GROWTH = 8.0  # MiB: what the allocator may keep


def greatest(process: int) -> float:
    """Return the greatest resident size so far in MiB, of a process that has not ended."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(lines: Iterable[bytes], folder: Path) -> tuple[list[float], float]:
    """Return the memory after `FIRST` lines and before the last, and the CPU seconds taken."""
    config = folder / "config.yaml"
    config.write_text('store: {url: "sqlite:///state.db"}\n')
    sizes: list[float] = []
    written = 0
    process = subprocess.Popen(
        [*COMMAND, str(config), "collect", "--once", "--log", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(TREE)},
    )
    assert process.stdin is not None
    lines = iter(lines)
    while batch := list(islice(lines, BATCH)):
        process.stdin.write(b"\n".join(batch) + b"\n")
        written += len(batch)
        if written // FIRST == 1 and not sizes:
            sizes.append(greatest(process.pid))
    sizes.append(greatest(process.pid))
    process.stdin.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return sizes, used.ru_utime + used.ru_stime


def main() -> int:
    """Measure, print, and return whether the memory grew."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--lines", type=int, default=5_000_000)
    wanted = arguments.parse_args().lines
    grown = 0.0
    for what, lines in (("foreign", foreign_lines(wanted)), ("mixed", mixed_lines(wanted))):
        with tempfile.TemporaryDirectory() as folder:
            sizes, taken = measure(lines, Path(folder))
        grown = max(grown, sizes[-1] - sizes[0])
        memory = " and ".join(f"{size:.1f}" for size in sizes)
        print(f"{what:<8}{wanted / taken:>12,.0f} lines/s of {wanted:,}; {memory} MiB", flush=True)
    return grown > GROWTH


if __name__ == "__main__":
    sys.exit(main())

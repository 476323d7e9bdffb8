"""How fast the policy daemon is: ``python -m tests.benchmarks`` prints the figures.

Each figure stands beside its goal.  Those of cached look-ups are ratios to a C
server that answers everything with one fixed reply, measured in the same run and
by turns, because the speed of machines drifts.  Needs a C compiler.

Exit status: 0 where every goal is met, 1 where one is not.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postfix_mtasts.core.facts import Absent, DnsFacts, StsFacts
from postfix_mtasts.core.names import Form, NextHop
from postfix_mtasts.ports import Stored
from tests.benchmarks import filling

HERE = Path(__file__).parent
TREE = HERE.parent.parent
DNS_PORT = 53599
ECHO_PORT = 18999
OUR_PORT = 18998
START_SECONDS = 30
READY = "READY=1"


@dataclass(kw_only=True)
class Figures:
    """Prints what was measured; counts what was not good enough."""

    missed: int = 0

    def add(self, what: str, value: str, goal: str, *, met: bool) -> None:
        """Print one figure beside its goal."""
        self.missed += not met
        mark = "" if met else "   <-- missed"
        print(f"{what:<58}{value:>22}   {goal}{mark}", flush=True)


@dataclass(kw_only=True)
class Daemon:
    """The daemon under test."""

    process: subprocess.Popen[bytes]
    unix: str
    ready: float  # seconds from its start to READY=1

    def megabytes(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu(process: subprocess.Popen[bytes]) -> float:
    """Return the CPU seconds that *process* has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The tools, compiled in *folder*, and the C server that all is measured beside."""

    folder: Path
    echo: subprocess.Popen[bytes]


@contextmanager
def running(folder: Path, *, uvloop: bool = True, state: str = "state.db") -> Iterator[Daemon]:
    """Run the daemon with default logging, as shipped."""
    folder.mkdir(exist_ok=True)
    unix = str(folder / "policy.sock")
    config = folder / "config.yaml"
    config.write_text(
        f"server: {{listen: ['unix:{unix}', 'inet:127.0.0.1:{OUR_PORT}']}}\n"
        f"dns: {{servers: ['127.0.0.1:{DNS_PORT}']}}\n"
        f"store: {{url: 'sqlite:///{folder / state}'}}\n"
    )
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(folder / "notify"))
    notify.settimeout(START_SECONDS)
    environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "PYTHONPATH": str(TREE)}
    if not uvloop:
        (folder / "uvloop.py").write_text("raise ImportError('left out by the benchmark')\n")
        environment["PYTHONPATH"] = f"{folder}:{TREE}"
    log = (folder / "log").open("wb")
    started = time.perf_counter()
    command = [sys.executable, "-m", "postfix_mtasts", "--config", str(config), "serve"]
    process = subprocess.Popen(command, stderr=log, env=environment)
    try:
        while READY not in notify.recv(65536).decode():
            pass
        yield Daemon(process=process, unix=unix, ready=time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait(10)
        notify.close()
        (folder / "notify").unlink()
        log.close()


def compiled(folder: Path) -> None:
    """Compile the load generator and the two servers into *folder*."""
    for name in ("socketmap_bench", "echo_server", "dnsfast"):
        source = str(HERE / f"{name}.c")
        command = ["gcc", "-O2", "-pthread", "-w", "-o", str(folder / name), source]
        subprocess.run(command, check=True)


def load(tools: Path, address: str, keys: Path, **options: object) -> dict[str, Any]:
    """Run the load generator; *options* are its flags."""
    command = [str(tools / "socketmap_bench"), "-a", address, "-m", "policy", "-k", str(keys)]
    for flag, value in options.items():
        command += [f"-{flag}"] if value is True else [f"-{flag}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    assert not result["errors"], result
    return result


def write_keys(path: Path, count: int, zone: str) -> Path:
    """Write *count* domains of *zone*, a line each."""
    path.write_text("".join(f"d{number}.{zone}\n" for number in range(count)))
    return path


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One server under load."""

    rate: float  # replies a second
    tail: float  # 99th percentile, microseconds
    cost: float  # CPU microseconds a reply


def sample(
    tools: Path, address: str, keys: Path, process: subprocess.Popen[bytes], **options: object
) -> Sample:
    """Put *process*, which listens at *address*, under load."""
    before = cpu(process)
    result = load(tools, address, keys, w=0, **options)
    cost = 1e6 * (cpu(process) - before) / result["requests"]
    return Sample(rate=result["rps"], tail=result["p99_us"], cost=cost)


def compare(bench: Bench, figures: Figures, *, uvloop: bool, runs: int, seconds: float) -> None:
    """Measure cached look-ups beside the C server, by turns; medians of *runs*."""
    keys = write_keys(bench.folder / "keys", 2000, "dane")
    name = "uvloop" if uvloop else "asyncio"
    goals = {"unix": 0.50, "tcp": 0.45} if uvloop else {"unix": 0.33, "tcp": 0.33}
    with running(bench.folder / name, uvloop=uvloop) as daemon:
        load(bench.folder, f"unix:{daemon.unix}", keys, **{"c": 64, "1": True})
        ours = {"unix": f"unix:{daemon.unix}", "tcp": f"tcp:127.0.0.1:{OUR_PORT}"}
        theirs = {"unix": f"unix:{bench.folder}/echo", "tcp": f"tcp:127.0.0.1:{ECHO_PORT}"}
        for kind, connections in ((k, c) for k in ours for c in (8, 64, 256)):
            load(bench.folder, ours[kind], keys, c=connections, d=0.3, w=0)  # warm
            pairs = [
                (
                    sample(
                        bench.folder, ours[kind], keys, daemon.process, c=connections, d=seconds
                    ),
                    sample(bench.folder, theirs[kind], keys, bench.echo, c=connections, d=seconds),
                )
                for _ in range(runs)
            ]
            what = f"cached, {name}, {kind}, {connections} connections"
            rate = statistics.median(mine.rate for mine, _ in pairs)
            ratio = statistics.median(mine.rate / echo.rate for mine, echo in pairs)
            figures.add(
                f"{what}: rate beside C",
                f"{ratio:.2f} ({rate:.0f}/s)",
                f">= {goals[kind]}",
                met=ratio >= goals[kind],
            )
            if not uvloop:
                continue
            tail = statistics.median(mine.tail / echo.tail for mine, echo in pairs)
            figures.add(f"{what}: p99 beside C", f"{tail:.2f}", "<= 3", met=tail <= 3)
            cost = statistics.median(mine.cost for mine, _ in pairs)
            least = statistics.median(echo.cost for _, echo in pairs)
            figures.add(
                f"{what}: CPU a request (C: {least:.1f} us)",
                f"{cost:.1f} us",
                "<= 6 us",
                met=cost <= 6,
            )


def measure_fresh(folder: Path, figures: Figures) -> None:
    """Measure domains never asked for before, and the memory of many."""
    unknown = write_keys(folder / "unknown", 10_000, "none")
    with running(folder / "fresh") as daemon:
        address = f"unix:{daemon.unix}"
        idle = daemon.megabytes()
        figures.add("idle, resident memory", f"{idle:.1f} MB", "<= 48", met=idle <= 48)
        result = load(folder, address, unknown, **{"c": 64, "1": True})
        rate = result["requests"] / result["seconds"]
        figures.add(
            "fresh domains, 2 queries, 64 clients", f"{rate:.0f}/s", ">= 1000", met=rate >= 1000
        )
        alone = write_keys(folder / "alone", 300, "first.dane")
        result = load(folder, address, alone, **{"c": 1, "1": True})
        wait = result["p50_us"] / 1000
        figures.add(
            "fresh DANE domain, 3 round trips, alone, median",
            f"{wait:.1f} ms",
            "<= 5 + DNS",
            met=wait <= 5 + 3,
        )
        many = write_keys(folder / "many", 100_000, "none")
        load(folder, address, many, **{"c": 64, "1": True})
        held = daemon.megabytes()
        figures.add(
            "100,000 cached domains, resident memory", f"{held:.1f} MB", "<= 150", met=held <= 150
        )


def measure_start(folder: Path, figures: Figures) -> None:
    """Measure the start with 50,000 stored domains."""
    target = folder / "start"
    target.mkdir()
    dns = DnsFacts(
        gathered=time.time(),
        mx=Absent(secure=False, ttl=86400, nxdomain=True),
        hosts=(),
        sts_record=Absent(secure=False, ttl=86400, nxdomain=True),
    )
    filling.fill(
        target / "state.db",
        (
            (NextHop(form=Form.DOMAIN, name=f"d{number}.example"), Stored(dns=dns, sts=StsFacts()))
            for number in range(50_000)
        ),
    )
    times = []
    for _ in range(5):
        with running(target) as daemon:
            times.append(daemon.ready)
    wait = statistics.median(times)
    figures.add("start to READY, 50,000 stored domains", f"{wait:.2f} s", "<= 0.6", met=wait <= 0.6)


def measure_idle(folder: Path, figures: Figures, runs: int) -> None:
    """Measure cached look-ups beside 5,000 idle connections, each time beside the C server."""
    keys = write_keys(folder / "some", 2000, "dane")
    with running(folder / "idle") as daemon, ExitStack() as stack:
        address = f"unix:{daemon.unix}"

        def ratio() -> float:
            pairs = [
                [load(folder, at, keys, c=8, d=1, w=0.3)["rps"] for at in (address, echo)]
                for _ in range(runs)
            ]
            return float(statistics.median(mine / theirs for mine, theirs in pairs))

        echo = f"unix:{folder}/echo"
        load(folder, address, keys, **{"c": 64, "1": True})
        before = ratio()
        for _ in range(5000):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(daemon.unix)
        share = ratio() / before
        figures.add(
            "rate beside 5,000 idle connections", f"{share:.2f}", ">= 0.9", met=share >= 0.9
        )


def main() -> int:
    """Measure everything, print the figures, say by the exit status whether all goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3, help="runs of each comparison")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run")
    args = parser.parse_args()
    if shutil.which("gcc") is None:
        print("not run: there is no C compiler (gcc)", file=sys.stderr)
        return 1
    figures = Figures()
    version = platform.python_version()
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}"
    print(f"Python {version}, {machine}")
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        compiled(folder)
        reply = "OK secure match=mx.example.com servername=hostname"
        servers = [
            stack.enter_context(subprocess.Popen(command))
            for command in (
                [f"{folder}/dnsfast", str(DNS_PORT)],
                [
                    f"{folder}/echo_server",
                    "-p",
                    str(ECHO_PORT),
                    "-u",
                    f"{folder}/echo",
                    "-r",
                    reply,
                ],
            )
        ]
        for server in servers:
            stack.callback(server.terminate)
        bench = Bench(folder=folder, echo=servers[1])
        compare(bench, figures, uvloop=True, runs=args.runs, seconds=args.seconds)
        compare(bench, figures, uvloop=False, runs=args.runs, seconds=args.seconds)
        measure_fresh(folder, figures)
        measure_start(folder, figures)
        measure_idle(folder, figures, 3 * args.runs)
    return 1 if figures.missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""What datagrams cost, and whether one is lost: ``python -m tests.benchmarks.datagrams``.

A process of its own sends them to a real socket at a set rate; received, counted and
stored they are as `collect` does it.  Measured are the CPU time of the whole
collector and what it writes to disk.  Run as root, it sets the queue to 512 in a
network namespace of its own, as systemd does for hosts; else the host's setting holds.

Exit status: 0 where every goal is met, 1 where one is not.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import socket
import sqlite3
import sys
import tempfile
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from postfix_mtasts.adapters.datagram_socket import DatagramSocket, bind
from postfix_mtasts.adapters.policies_in_force import PoliciesOfDaemon
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME, SqliteTlsrptStore
from postfix_mtasts.services.collector import Collector
from postfix_mtasts.services.datagram_counter import DatagramCounter

CPU_MS = 0.025
OCTETS = 500
QUEUE = 512
BURST = 40  # datagrams: what came due in 10 ms at 4,000 a second
NEW_NETWORK = 0x40000000  # CLONE_NEWNET
IDLE_SECONDS = 0.25


def datagram(domain: str, *, failed: bool) -> bytes:
    """Return what libtlsrpt sends of a session under MTA-STS."""
    policy: dict[str, object] = {
        "policy-type": 2,
        "policy-domain": domain,
        "policy-string": ["version: STSv1", "mode: enforce", f"mx: mx.{domain}", "max_age: 604800"],
        "mx-host": [f"mx.{domain}"],
    }
    if failed:
        policy["failure-details"] = [
            {
                "c": 205,
                "s": "192.0.2.1",
                "n": f"mx.{domain}",
                "h": f"250-mx.{domain}\r\n250 STARTTLS",
                "r": "198.51.100.7",
                "f": "self-signed_certificate",
            }
        ]
    policy |= {"t": int(failed), "f": int(failed)}
    record = f"v=TLSRPTv1; rua=mailto:tlsrpt@{domain}"
    return json.dumps({"dpv": "1", "d": domain, "pr": record, "policies": [policy]}).encode()


def send(path: str, total: int, domains: int, rate: int, lost: "Synchronized[int]") -> None:
    """Send *total* datagrams at *rate* a second, and never wait for the receiver."""
    kinds = [datagram(f"d{n}.example", failed=n % 20 == 0) for n in range(domains)]
    due = time.monotonic()
    for number in range(total):
        now = time.monotonic()
        due = max(due + 1 / rate, now - BURST / rate)  # held up itself, it sends no flood
        if due > now:
            time.sleep(due - now)
        # As Postfix does, each from a socket of its own: what waits fills the sender's, too.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            try:
                sender.sendto(kinds[number * 7919 % domains], path)
            except BlockingIOError:
                lost.value += 1


def written() -> int:
    """Return how many octets this process has written to disk."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"]) - int(fields["cancelled_write_bytes"])


def set_queue() -> int:
    """Let 512 datagrams wait, if that is allowed; return how many may."""
    setting = Path("/proc/sys/net/unix/max_dgram_qlen")
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0 and libc.unshare(NEW_NETWORK) == 0:
        setting.write_text(str(QUEUE))
    return int(setting.read_text())


def measure(folder: Path, total: int, domains: int, rate: int) -> bool:
    path = str(folder / "tlsrpt.sock")
    store = SqliteTlsrptStore(folder / FILE_NAME)
    policies = PoliciesOfDaemon(folder / "state.db")
    received = DatagramSocket(bind(path))
    counter = DatagramCounter(received, store=store, policies=policies)
    collector = Collector(store=store, ticks=time.monotonic, clock=time.time)
    collector.adopt([counter])
    lost = multiprocessing.Value("i", 0)
    sender = multiprocessing.Process(target=send, args=(path, total, domains, rate, lost))
    sender.start()
    octets, cpu = written(), time.process_time()
    while sender.is_alive():
        collector.turn()
        time.sleep(IDLE_SECONDS)
    sender.join()
    collector.close()
    policies.close()
    cpu, octets = time.process_time() - cpu, written() - octets
    connection = sqlite3.connect(folder / FILE_NAME)
    [counted] = connection.execute("SELECT sum(count) FROM counts").fetchone()
    connection.close()
    each, size = 1000 * cpu / counted, octets / counted
    print(f"counted:        {counted:>10,} of {total:,}, {lost.value:,} not taken by the queue")
    print(f"CPU for each:   {each:>10.4f} ms   (goal: {CPU_MS})")
    print(f"written each:   {size:>10.0f} octets (goal: {OCTETS})")
    return bool(each <= CPU_MS and size <= OCTETS and counted == total)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--datagrams", type=int, default=200_000)
    arguments.add_argument("--domains", type=int, default=10_000)
    arguments.add_argument("--rate", type=int, default=4_000)
    arguments.add_argument("--folder", default=None, help="on a disk, not in memory")
    options = arguments.parse_args()
    queue = set_queue()
    print(f"queue of {queue}, {options.rate:,} a second, {options.domains:,} domains")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        met = measure(Path(folder), options.datagrams, options.domains, options.rate)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

"""What the installed package does when the world around it breaks.

A booted Debian 12 with the package's units under all their restrictions.  What must
hold in each: a domain whose policy is known is answered "secure" or not at all, never
more weakly; nothing is refused; and when the fault is over so are its effects.

The clock is set back for the daemon alone, by libfaketime: it is the machine's whole.
"""

import re
import shutil
import socket
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.deadline import wait_until
from tests.package.lookups import Askers, ask, seconds_of
from tests.package.machine import STATE, Machine
from tests.package.mail_domains import MailDomain, enforcing_domain

PACKAGE = "postfix-mtasts"
DAEMON = "postfix-mtasts.service"
COLLECTOR = "postfix-mtasts-collector.service"
CONFIG = """\
dns:
  timeout: 1s
mta_sts:
  timeout: 3s
"""
KILLS = 4
PROMPT = 0.25  # seconds, where the processors are shared with who attacks
A_SECOND = 10_000
MEMORY_KIB = 100_000
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")

FAKED = """\
[Service]
Environment=LD_PRELOAD=/usr/lib/faketime.so FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
Environment=FAKETIME_TIMESTAMP_FILE=/etc/faketimerc
"""

FLOOD = r"""
import re, socket, sys, time
path, rate, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
texts = (b"no-such-map key.example", b"policy", b"policy ..bad", b"explain a\0b.c")
bad = b"".join(b"%d:%s," % (len(text), text) for text in texts) * 25  # each has its answer
def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(path)
    return connection
sent, start = 0, time.monotonic()
connection = connect()
while sent < total:
    if sent >= rate * (time.monotonic() - start):
        time.sleep(0.001)
        continue
    connection.sendall(bad)
    answers = b""
    while len(re.findall(rb"\d+:(?:PERM|NOTFOUND|TEMP|OK) ", answers)) < 100:
        try:
            data = connection.recv(1 << 16)
        except TimeoutError:
            sys.exit(f"silent after {answers[-500:]}")
        if not data:
            sys.exit(f"closed after {answers[-300:]}")
        answers += data
    sent += 100
    with connect() as broken:  # and one whose framing is no framing
        broken.sendall(b"99999999999999:")
        while broken.recv(1 << 16):
            pass
print(sent)
"""


@pytest.fixture(scope="module")
def said(boot: Callable[[str], Machine], package: Path) -> str:
    """Install while another has the port, and main.cf cannot be read; return what was said."""
    machine = boot("bookworm")
    main_cf = machine.path("/etc/postfix/main.cf")
    before = main_cf.read_text()
    main_cf.write_text("nonsense\n")
    with machine.world.namespace.call(socket.create_server, ("127.0.0.1", 8461)):
        said = machine.install(package)
    main_cf.write_text(before)
    machine.restart_postfix()  # whose processes may have failed at it
    return said


@pytest.fixture(scope="module")
def machine(boot: Callable[[str], Machine], said: str) -> Machine:
    booted = boot("bookworm")
    booted.turn_on(said)
    booted.path("/etc/postfix-mtasts/config.yaml").write_text(CONFIG)
    booted.run("systemctl", "restart", DAEMON, COLLECTOR)
    return booted


@pytest.fixture(scope="module")
def known(machine: Machine) -> MailDomain:
    """Return a domain whose policy was fetched, and cannot be fetched again."""
    domain = enforcing_domain(machine.world, "known.plain.test")
    assert ask(machine, domain.name) == secure(domain)
    machine.world.policy_host_goes_down(domain.name)
    return domain


@pytest.fixture(autouse=True)
def all_is_well_again(machine: Machine) -> Iterator[None]:
    yield
    for unit in (DAEMON, COLLECTOR):
        wait_until(lambda unit=unit: machine.is_active(unit), f"running {unit}")  # type: ignore[misc]
    for unit in (DAEMON, COLLECTOR):
        assert "Traceback" not in machine.journal(unit), machine.journal(unit)


def secure(domain: MailDomain) -> str:
    """Return the answer that the policy of *domain* demands."""
    return f"OK secure match={domain.mx.host} servername=hostname"


def test_with_the_port_taken_and_main_cf_broken_it_installs_and_says_what_does_not_run(
    machine: Machine, said: str
) -> None:
    assert "Postfix 3.7" in said
    assert "postfix-mtasts.socket does not run" in said
    assert "has another program port 8461?" in said
    assert "ii" in machine.run("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", PACKAGE)


def test_an_upgrade_over_a_broken_configuration_ends_well_and_says_what_is_wrong(
    machine: Machine,
) -> None:
    config = machine.path("/etc/postfix-mtasts/config.yaml")
    config.write_text(CONFIG + "dnss: {}\n")
    try:
        said = machine.run(f"/var/lib/dpkg/info/{PACKAGE}.postinst", "configure", "0.0.1")
    finally:
        config.write_text(CONFIG)

    assert f"{DAEMON} does not run" in said
    assert f"{COLLECTOR} does not run" in said
    assert "dnss" in said
    assert "8461" not in said


def test_killed_again_and_again_the_daemon_refuses_nothing_and_forgets_nothing(
    machine: Machine, known: MailDomain
) -> None:
    with Askers(machine, known.name, datagrams=False) as askers:
        for _ in range(KILLS):
            machine.kill(DAEMON)
            askers.wait_for_more()
    mail = machine.send(known.address)

    assert askers.wrong == []
    assert mail.handshakes == (("Verified", known.mx.host),)


def test_killed_again_and_again_the_collector_loses_and_doubles_no_session(
    machine: Machine,
) -> None:
    domain = enforcing_domain(machine.world, "counted.plain.test")
    machine.world.asks_for_reports(domain.name, "mailto:reports@plain.test")

    for _ in range(KILLS):
        machine.send(domain.address)
        machine.kill(COLLECTOR)
        machine.send(domain.address)

    sessions = len(domain.mx.sessions)
    assert sessions >= KILLS
    wait_until(lambda: machine.counted(domain.name) >= sessions, f"count of {sessions}")
    assert machine.counted(domain.name) == sessions


@contextmanager
def small_state(machine: Machine) -> Iterator[None]:
    """Let the state be a copy of itself in 4 MiB for which there is no more room."""
    owned = "mode=0750,uid=postfix-mtasts,gid=postfix-mtasts,size=4m"
    machine.run("sh", "-c", f"systemctl stop {DAEMON} {COLLECTOR} 2>/dev/null")
    machine.run("sh", "-c", f"cp -a {STATE} /root/kept && mount -t tmpfs -o {owned} tmpfs {STATE}")
    machine.run("sh", "-c", f"cp -a /root/kept/state.db* {STATE}/")
    try:
        yield
    finally:
        machine.run("sh", "-c", f"systemctl stop {DAEMON} {COLLECTOR} 2>/dev/null; umount {STATE}")
        machine.run("sh", "-c", f"rm -r /root/kept; systemctl start {DAEMON} {COLLECTOR}")


def test_with_the_disk_full_it_answers_by_what_it_stored_and_says_so(
    machine: Machine, known: MailDomain
) -> None:
    other = enforcing_domain(machine.world, "disk-full.plain.test")
    with small_state(machine):
        machine.run("sh", "-c", f"cat /dev/zero >{STATE}/filler 2>/dev/null || true")
        machine.run("systemctl", "start", DAEMON, COLLECTOR)

        assert ask(machine, known.name) == secure(known)
        assert ask(machine, other.name) == secure(other)
        assert machine.is_active(DAEMON)
        assert re.search("full|room", machine.journal(DAEMON))
        machine.run("rm", f"{STATE}/filler")
        machine.run("systemctl", "restart", DAEMON)  # which writes what it kept in memory
        machine.world.policy_host_goes_down(other.name)
        assert ask(machine, other.name) == secure(other)


def test_with_the_state_read_only_it_answers_by_what_it_stored(
    machine: Machine, known: MailDomain
) -> None:
    other = enforcing_domain(machine.world, "read-only.plain.test")
    with small_state(machine):
        machine.run("mount", "-o", "remount,ro", STATE)
        machine.run("systemctl", "start", DAEMON)

        assert ask(machine, known.name) == secure(known)
        assert ask(machine, other.name) == secure(other)
        assert machine.is_active(DAEMON)


def test_without_a_resolver_known_policies_hold_and_what_is_unknown_waits(
    machine: Machine, known: MailDomain
) -> None:
    unknown = enforcing_domain(machine.world, "no-resolver.plain.test")
    machine.world.namespace.run("pkill", "-STOP", "-x", "unbound")
    try:
        assert ask(machine, known.name) == secure(known)
        assert ask(machine, unknown.name).startswith("TEMP ")
    finally:
        machine.world.namespace.run("pkill", "-CONT", "-x", "unbound")
    wait_until(lambda: ask(machine, unknown.name) == secure(unknown), "answer of the resolver")


def test_with_the_clock_a_year_back_policies_hold_and_when_it_is_right_again_too(
    machine: Machine,
) -> None:
    if not FAKETIME.exists():
        pytest.skip("libfaketime is not installed (Debian package faketime)")
    domain = enforcing_domain(machine.world, "clock.plain.test")
    shutil.copy(FAKETIME, machine.path("/usr/lib/faketime.so"))
    clock = machine.path("/etc/faketimerc")
    clock.write_text("+0\n")
    with drop_in(machine, FAKED):
        assert ask(machine, domain.name) == secure(domain)
        machine.world.policy_host_goes_down(domain.name)
        clock.write_text("-365d\n")
        assert ask(machine, domain.name) == secure(domain)
        machine.run("systemctl", "restart", DAEMON)
        assert ask(machine, domain.name) == secure(domain)
        machine.world.policy(domain.name, mode="enforce", mx=(domain.mx,))
        clock.write_text("+0\n")
        # What was kept has expired by that leap: it is fetched anew, and mail waits until then.
        wait_until(lambda: holds_or_waits(machine, domain), "answer after the leap")
        wait_until(lambda: "the clock was set" in machine.journal(DAEMON), "sight of the clock")
        assert ask(machine, domain.name) == secure(domain)


def holds_or_waits(machine: Machine, domain: MailDomain) -> bool:
    answer = ask(machine, domain.name)
    assert answer == secure(domain) or answer.startswith("TEMP ")
    return answer == secure(domain)


@contextmanager
def drop_in(machine: Machine, text: str) -> Iterator[None]:
    folder = machine.path(f"/etc/systemd/system/{DAEMON}.d")
    folder.mkdir(parents=True)
    (folder / "lab.conf").write_text(text)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", DAEMON)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", DAEMON)


def test_a_database_that_is_damaged_is_set_aside_and_begun_anew(machine: Machine) -> None:
    domain = enforcing_domain(machine.world, "damaged.plain.test")
    assert ask(machine, domain.name) == secure(domain)
    machine.run("sh", "-c", f"systemctl stop {DAEMON} {COLLECTOR} 2>/dev/null")
    for name in ("state.db", "tlsrpt.db"):
        machine.run("sh", "-c", f"rm -f {STATE}/{name}-*; printf damaged >{STATE}/{name}")

    machine.run("systemctl", "start", DAEMON, COLLECTOR)

    assert ask(machine, domain.name) == secure(domain)
    assert len(machine.run("sh", "-c", f"ls {STATE}").split()) > 2
    assert "damaged" in machine.journal(DAEMON)


def test_a_broken_configuration_is_refused_at_reload_and_the_old_one_stays(
    machine: Machine,
) -> None:
    domain = enforcing_domain(machine.world, "reload.plain.test")
    config = machine.path("/etc/postfix-mtasts/config.yaml")
    pid = machine.main_pid(DAEMON)
    config.write_text(CONFIG + "dnss: {}\n")
    try:
        machine.run("systemctl", "reload", DAEMON)
        wait_until(lambda: "dnss" in machine.journal(DAEMON), "refusal in the journal")

        assert ask(machine, domain.name) == secure(domain)
        assert machine.main_pid(DAEMON) == pid
        assert "the old one stays" in machine.journal(DAEMON)
    finally:
        config.write_text(CONFIG)
    machine.run("systemctl", "reload", DAEMON)
    wait_until(lambda: "configuration read again" in machine.journal(DAEMON), "new configuration")


def test_ten_thousand_bad_requests_a_second_keep_no_one_from_an_answer(machine: Machine) -> None:
    domain = enforcing_domain(machine.world, "bystander.plain.test")
    assert ask(machine, domain.name) == secure(domain)
    path = "/var/spool/postfix/postfix-mtasts/policy.sock"
    lines = machine.journal(DAEMON).count("\n")
    total = 4 * A_SECOND

    flood = machine.start(*("python3", "-c", FLOOD, path, str(A_SECOND), str(total)), user="nobody")
    waited = [seconds_of(machine, domain.name) for _ in range(100)]
    mail = machine.send(domain.address)
    sent = int(flood.communicate(timeout=60)[0])

    assert sent == total
    assert statistics.median(waited) < PROMPT
    assert mail.status == "sent"
    assert machine.journal(DAEMON).count("\n") - lines < 1000
    status = machine.run("cat", f"/proc/{machine.main_pid(DAEMON)}/status")
    memory = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert memory is not None
    assert int(memory[1]) < MEMORY_KIB

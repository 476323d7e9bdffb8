"""The package in fresh systems of Debian 12 and 13, with nothing but their own packages.

Each system is booted: its own systemd runs the units under all their restrictions
(see `machine`).  The tests go through the life of an installation, in this order;
each installs the package first where it runs alone.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.deadline import wait_until
from tests.package.conftest import OLDER, SUITES
from tests.package.lookups import Askers
from tests.package.machine import SOCKETS, STATE, Machine, printed_settings
from tests.package.mail_domains import MailDomain, enforcing_domain, forged_domain

CONFIG = "/etc/postfix-mtasts/config.yaml"
SERVICES = ("postfix-mtasts.service", "postfix-mtasts-collector.service")
UNITS = ("postfix-mtasts.socket", "postfix-mtasts-collector.socket", *SERVICES)
REPORTER = """\
tlsrpt:
  organization: The Lab
  contact: postmaster@mail.test
  sender: tls-reports@mail.test
"""

# Of systems at work, not of the package.
_RESTLESS = (
    *("/proc", "/sys", "/dev", "/run", "/root", "/var/log", "/var/cache"),
    *("/tmp", "/var/tmp"),  # noqa: S108 - nothing is put there
    *("/var/lib/dpkg", "/var/lib/apt", "/var/lib/systemd/timers", "/var/lib/systemd/random-seed"),
    *("/var/lib/postfix", "/var/spool/postfix/active", "/var/spool/postfix/defer"),
    *("/var/spool/postfix/deferred", "/var/spool/postfix/pid"),
    *("/var/spool/postfix/incoming", "/var/spool/postfix/maildrop", "/var/spool/postfix/public"),
)
_BACKUPS = ("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-")


class Installation:
    """A machine, what it was before, and what was said when the package came."""

    def __init__(self, machine: Machine, package: Path) -> None:
        self.machine = machine
        self.package = package
        self.main_cf = machine.path("/etc/postfix/main.cf").read_text()
        self.files = files(machine)
        self.accounts = accounts(machine)
        self.said = machine.install(package)
        self.main_cf_after = machine.path("/etc/postfix/main.cf").read_text()
        self.settings = printed_settings(self.said)
        machine.turn_on(self.said)


@pytest.fixture(scope="module", params=SUITES)
def installation(
    request: pytest.FixtureRequest, boot: Callable[[str], Machine], older_package: Path
) -> Installation:
    return Installation(boot(request.param), older_package)


@pytest.fixture
def machine(installation: Installation) -> Machine:
    return installation.machine


def files(machine: Machine) -> set[str]:
    """Return all files and folders of the machine that do not change by themselves."""
    pruned = " -o ".join(f"-path {path}" for path in _RESTLESS)
    found = machine.run("sh", "-c", f"find / -xdev \\( {pruned} \\) -prune -o -print")
    return set(found.splitlines()) - {"find: File system loop detected"}


def accounts(machine: Machine) -> list[str]:
    """Return all users and groups."""
    return sorted(machine.run("cat", "/etc/passwd", "/etc/group").splitlines())


def test_the_installation_ends_with_the_line_for_the_postfix_that_is_there(
    installation: Installation,
) -> None:
    version = installation.machine.run("postconf", "-h", "mail_version").strip()
    asked = "socketmap:unix:postfix-mtasts/policy.sock"

    if version.startswith("3.7."):
        assert installation.settings == [f"smtp_tls_policy_maps = {asked}:policy"]
    else:
        assert installation.settings == [
            f"smtp_tls_policy_maps = {asked}:policy-tlsrpt",
            "smtp_tlsrpt_enable = yes",
            "smtp_tlsrpt_socket_name = postfix-mtasts/tlsrpt.sock",
        ]
    assert f"Postfix {version} asks postfix-mtasts" in installation.said


def test_main_cf_is_left_to_the_postmaster(installation: Installation) -> None:
    assert installation.main_cf_after == installation.main_cf


def test_all_units_are_enabled_and_run(machine: Machine) -> None:
    for unit in UNITS:
        assert machine.run("systemctl", "is-enabled", unit) == "enabled\n"
        assert machine.is_active(unit), machine.journal(unit)


def test_the_services_belong_to_a_user_who_owns_nothing_but_the_state(machine: Machine) -> None:
    user = machine.run("getent", "passwd", "postfix-mtasts").strip().split(":")

    owned = machine.run("find", "/", "-xdev", "-user", "postfix-mtasts").splitlines()

    assert user[5:] == [STATE, "/usr/sbin/nologin"]
    assert machine.run("stat", "-c", "%A %U %G", STATE) == (
        "drwxr-x--- postfix-mtasts postfix-mtasts\n"
    )
    assert [path for path in owned if not path.startswith((STATE, "/proc/"))] == []


def test_all_may_ask_but_only_postfix_may_tell_and_it_has_nothing_to_say_against_that(
    machine: Machine,
) -> None:
    assert machine.run("stat", "-c", "%A %U", SOCKETS) == "drwxr-xr-x root\n"
    assert machine.run("stat", "-c", "%A %U", f"{SOCKETS}/policy.sock") == "srw-rw-rw- root\n"
    assert machine.run("stat", "-c", "%A %U", f"{SOCKETS}/tlsrpt.sock") == "srw------- postfix\n"
    assert "postfix-mtasts" not in machine.run("postfix", "check")


def test_the_queue_of_datagrams_is_as_long_as_systemd_makes_it_on_hosts(machine: Machine) -> None:
    # A new network namespace, as a container has one, begins with 10.
    assert int(machine.run("cat", "/proc/sys/net/unix/max_dgram_qlen")) >= 512


def test_systemd_finds_no_fault_with_the_units(machine: Machine) -> None:
    said = machine.run("sh", "-c", f"systemd-analyze verify --man=no {' '.join(UNITS)} 2>&1")

    assert [line for line in said.splitlines() if "postfix-mtasts" in line] == []


@pytest.mark.parametrize("service", SERVICES)
def test_its_systemd_rates_the_confinement_at_most_2_0(machine: Machine, service: str) -> None:
    machine.run("systemd-analyze", "security", "--offline=true", "--threshold=20", service)


def test_the_commands_work_as_typed(machine: Machine) -> None:
    assert machine.run("postfix-mtasts", "--version").startswith("postfix-mtasts ")
    assert machine.run("postfix-mtasts", "config", "check") == "ok\n"
    domain = enforcing_domain(machine.world, "direct.plain.test")
    said = machine.run("postfix-mtasts", "query", "--direct", domain.name)
    assert "secure" in said


def test_mail_to_an_enforcing_domain_goes_out_and_mail_to_a_forged_one_waits(
    machine: Machine,
) -> None:
    good = enforcing_domain(machine.world, "good.plain.test")
    forged = forged_domain(machine.world, "forged.plain.test")

    delivered, deferred = machine.send(good.address), machine.send(forged.address)

    assert (delivered.status, len(good.mx.messages)) == ("sent", 1)
    assert delivered.handshakes == (("Verified", good.mx.host),)
    assert (deferred.status, deferred.dsn) == ("deferred", "4.7.5")
    assert forged.mx.messages == []


@pytest.mark.usefixtures("written_config")
def test_reports_tell_of_both(machine: Machine) -> None:
    good = enforcing_domain(machine.world, "told-good.plain.test")
    forged = forged_domain(machine.world, "told-forged.plain.test")
    for domain in (good, forged):
        machine.world.asks_for_reports(domain.name, "mailto:reports@plain.test")
        machine.send(domain.address)
    wait_until(lambda: machine.counted(good.name), "counted session that went well")
    wait_until(lambda: machine.counted(forged.name), "counted session that did not")

    good_report, forged_report = report(machine, good), report(machine, forged)

    assert good_report["summary"]["total-successful-session-count"] == 1
    assert forged_report["summary"]["total-failure-session-count"] == 1
    assert [policy["policy"]["policy-type"] for policy in (good_report, forged_report)] == [
        "sts",
        "sts",
    ]


@pytest.fixture
def written_config(machine: Machine) -> Iterator[None]:
    config = machine.path(CONFIG)
    before = config.read_text()
    config.write_text(REPORTER)
    yield
    config.write_text(before)


def report(machine: Machine, domain: MailDomain) -> dict[str, dict[str, object]]:
    """Return the only policy in the report of today on *domain*."""
    today = machine.run("date", "-u", "+%Y-%m-%d").strip()
    words = ("report", "--print", "--day", today, "--domain", domain.name)
    printed = machine.run("postfix-mtasts", *words, user="postfix-mtasts")
    (policy,) = json.loads(printed)["policies"]
    found: dict[str, dict[str, object]] = policy
    return found


@pytest.mark.usefixtures("written_config")
def test_the_line_of_cron_is_silent_where_all_is_well(machine: Machine) -> None:
    crontab = machine.path("/etc/cron.d/postfix-mtasts").read_text()
    (line,) = (it for it in crontab.splitlines() if it.startswith(tuple("0123456789*")))
    minute, *_, user, command = line.split(maxsplit=6)

    said = machine.run("sh", "-c", command, user=user)

    assert 0 < int(minute) < 60
    assert said == ""


def test_an_upgrade_keeps_the_configuration_and_refuses_no_look_up_and_loses_no_datagram(
    installation: Installation, package: Path
) -> None:
    machine = installation.machine
    domain = enforcing_domain(machine.world, "upgrade.plain.test")
    config = machine.path(CONFIG)
    config.write_text(config.read_text() + "# of the postmaster\n")
    before, postfix = machine.main_pid("postfix-mtasts.service"), machine.postfix_pid()

    with Askers(machine, domain.name) as askers:
        machine.install(package)
        askers.wait_for_more()

    assert askers.wrong == []
    assert askers.answered > 20
    assert machine.main_pid("postfix-mtasts.service") not in (0, before)
    assert machine.postfix_pid() == postfix
    assert OLDER not in machine.run("dpkg-query", "--show", "postfix-mtasts")
    assert config.read_text().endswith("# of the postmaster\n")
    assert askers.datagrams > 20
    wait_until(
        lambda: machine.counted(askers.told_of) == askers.datagrams,
        f"count of {askers.datagrams} datagrams, not {machine.counted(askers.told_of)}",
    )


def test_removal_warns_of_the_line_that_still_asks_and_purge_leaves_nothing(
    installation: Installation,
) -> None:
    machine = installation.machine

    said = machine.run("apt-get", "remove", "-y", "postfix-mtasts")
    kept = machine.path(CONFIG).exists() and machine.path(f"{STATE}/state.db").exists()
    under_way = ("--unit=report-under-way", "--uid=postfix-mtasts", "sleep", "600")
    machine.run("systemd-run", *under_way)
    machine.run("apt-get", "purge", "-y", "postfix-mtasts")
    machine.run("systemctl", "stop", "report-under-way")

    assert "postconf -X smtp_tls_policy_maps" in said
    assert kept
    assert sorted(files(machine) - installation.files - set(_BACKUPS)) == []
    assert sorted(installation.files - files(machine) - set(_BACKUPS)) == []
    assert accounts(machine) == installation.accounts
    left = machine.run("systemctl", "list-units", "--all", "--plain", "postfix-mtasts*")
    assert "0 loaded units" in left

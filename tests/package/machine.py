"""A Debian system, booted: its own systemd runs its own Postfix and our package.

The tree of files is that of `debian_tree` and stays as it is; what is written lies
over it, in memory.  Process 1 is the tree's systemd, in namespaces for mounts,
processes and cgroups within those of the lab's `World`: network and resolver are
the lab's, and so is the certificate authority that the machine trusts.  All units
run as on a mail server, under the restrictions that they name.

Linux with cgroup v2 mounted, beside v1 or alone; needs root.

BUGS: kernel settings outside the network namespace are those of this machine.
"""

import errno
import itertools
import os
import re
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.e2e.deadline import wait_until
from tests.e2e.dns_zone import RESOLVER
from tests.e2e.lab import World
from tests.e2e.namespace import SEARCH_PATH
from tests.e2e.postfix import Attempt, find_attempt, submit

_BOOT = Path(__file__).with_name("boot")
BOOT_SECONDS = 40.0
COMMAND_SECONDS = 90.0
_numbers = itertools.count()

STATE = "/var/lib/postfix-mtasts"
SOCKETS = "/var/spool/postfix/postfix-mtasts"

# As Debian configures it, but for the name and what a lab has no use for.
_MAIN_CF = """\
myhostname = mail.test
mydestination = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_tls_security_level = none
smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt
smtp_tls_security_level = may
smtp_tls_loglevel = 1
smtp_dns_support_level = dnssec
"""

# Inside: SQLite does not find its files behind links of /proc.
_COUNT = """
import sqlite3, sys
database, domain = sys.argv[1:]
connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
(total,) = connection.execute("SELECT total(count) FROM counts WHERE domain = ?", [domain])
print(int(total[0]))
"""


class Machine:
    """The system of *tree*, running; `close` ends it.

    *to_file*: Postfix writes /var/log/mail.log itself; else the journal has its lines.
    """

    def __init__(self, world: World, tree: Path, *, to_file: bool) -> None:
        self.world = world
        self._to_file = to_file
        self._cgroup = _Cgroup()
        try:
            self._boot(tree)
        except BaseException:
            self._cgroup.close()
            raise
        self._configure_postfix()

    # --- looking in ---------------------------------------------------------------------------

    def path(self, inside: str) -> Path:
        """Return the way from the test process to the machine's file *inside*."""
        return Path(f"/proc/{self._pid}/root{inside}")

    def run(self, *command: str, user: str | None = None) -> str:
        """Run *command* inside and return what it printed, errors too.

        Raises `CalledProcessError`, with the output as its note, on failure.
        """
        try:
            return subprocess.run(
                self._entering(user, command),
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=COMMAND_SECONDS,
                env=_ENVIRONMENT,
            ).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(error.stdout)
            raise

    def start(self, *command: str, user: str | None = None) -> subprocess.Popen[str]:
        """Start *command* inside."""
        return subprocess.Popen(
            self._entering(user, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=_ENVIRONMENT,
        )

    def _entering(self, user: str | None, command: tuple[str, ...]) -> list[str]:
        kinds = ("--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup")
        as_user = ("runuser", "-u", user, "--") if user else ()
        return ["nsenter", "--target", str(self._pid), *kinds, *as_user, *command]

    # --- services -------------------------------------------------------------------------------

    def is_active(self, unit: str) -> bool:
        return self.show(unit, "ActiveState") == "active"

    def show(self, unit: str, what: str) -> str:
        """Return the property *what* of *unit*."""
        return self.run("systemctl", "show", "--value", "--property", what, unit).strip()

    def main_pid(self, unit: str) -> int:
        """Return the number, inside, of the process of *unit*, 0 where there is none."""
        return int(self.show(unit, "MainPID"))

    def postfix_pid(self) -> int:
        """Return the number, inside, of Postfix's master."""
        return int(self.path("/var/spool/postfix/pid/master.pid").read_text())

    def kill(self, unit: str) -> None:
        """End the process of *unit* with SIGKILL, if there is one."""
        self.run("sh", "-c", f"systemctl kill --signal=KILL {unit} || true")

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--quiet", "--no-pager", "--output=cat", "--unit", unit)

    # --- the package ----------------------------------------------------------------------------

    def install(self, package: Path) -> str:
        """Install *package* with apt-get, from this file alone; return what it said."""
        there = f"/root/{package.name}"
        self.path(there).write_bytes(package.read_bytes())
        said = self.run("apt-get", "install", "-y", "--no-install-recommends", there)
        self.path(there).unlink()
        return said

    def install_and_turn_on(self, package: Path) -> str:
        """Install *package* and follow what it says; return that."""
        said = self.install(package)
        self.turn_on(said)
        return said

    def turn_on(self, said: str) -> None:
        """Follow what the installation *said*."""
        self.run("postconf", "-e", *printed_settings(said))
        self.run("postfix", "reload")

    def policy_socket(self) -> socket.socket:
        """Return a connection to the daemon, as Postfix makes it."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        try:
            connection.connect(os.fspath(self.path(f"{SOCKETS}/policy.sock")))
        except OSError:
            connection.close()
            raise
        return connection

    def counted(self, domain: str) -> int:
        """Return how many sessions to *domain* are stored."""
        return int(self.run("python3", "-c", _COUNT, f"{STATE}/tlsrpt.db", domain))

    # --- mail -----------------------------------------------------------------------------------

    def submit(self, recipient: str) -> str:
        """Hand a message for *recipient* in and return its queue id."""
        return self.world.namespace.call(submit, recipient)

    def send(self, recipient: str) -> Attempt:
        """Hand a message in and wait for the first attempt at its delivery."""
        queue_id = self.submit(recipient)
        return wait_until(
            lambda: find_attempt(queue_id, self.mail_log().splitlines()),
            f"outcome of {queue_id} in Postfix's log",
        )

    def mail_log(self) -> str:
        if self._to_file:
            return self.path("/var/log/mail.log").read_text(errors="replace")
        return self.run("journalctl", "--quiet", "--no-pager", "SYSLOG_FACILITY=2")

    def restart_postfix(self) -> None:
        self.run("systemctl", "restart", "postfix.service")
        self.world.namespace.call(_wait_for_port, 25)

    def _configure_postfix(self) -> None:
        self.path("/etc/resolv.conf").unlink(missing_ok=True)
        self.path("/etc/resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        with self.path("/etc/ssl/certs/ca-certificates.crt").open("a") as authorities:
            authorities.write(self.world.authority.pem.read_text())
        log = "maillog_file = /var/log/mail.log\nmaillog_file_permissions = 0644\n"
        self.run("postconf", "-e", *(_MAIN_CF + (log if self._to_file else "")).splitlines())
        self.restart_postfix()

    # --- booting --------------------------------------------------------------------------------

    def _boot(self, tree: Path) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.world.folder))
        self._log = self.world.folder / "boot.log"
        command = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc"]
        here = (str(_BOOT), str(tree), str(folder))
        words = [*self._cgroup.entering(), *command, *here]
        self._unshare = self.world.namespace.start(words, log=self._log)
        self._pid = wait_until(self._systemd, "systemd", BOOT_SECONDS)
        wait_until(self._is_up, "booted machine", BOOT_SECONDS)

    def _systemd(self) -> int | None:
        pid = self._unshare.pid
        assert self._unshare.poll() is None, self._log.read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return int(child)
        return None

    def _is_up(self) -> bool:
        try:
            self.run("systemctl", "is-active", "--quiet", "multi-user.target")
        except subprocess.CalledProcessError:
            return False
        return True

    def close(self) -> None:
        """End the machine as a power failure does."""
        self._cgroup.close()
        self._unshare.wait()


def printed_settings(said: str) -> list[str]:
    """Return the lines for main.cf among what the installation *said*."""
    return re.findall(r"^    (smtp_\w+ = .*)$", said, re.MULTILINE)


def refusal() -> str:
    """Return why no machine can be booted here, "" where one can."""
    if os.getuid() != 0:
        return "needs root"
    try:
        _Cgroup().close()
    except OSError as error:
        return f"no cgroup v2 can be made: {error.strerror}"
    return ""


class _Cgroup:
    """A new group of cgroup v2; all processes in it end with it."""

    def __init__(self) -> None:
        self._group = _hierarchy() / f"postfix-mtasts-{os.getpid()}-{next(_numbers)}"
        self._group.mkdir()

    def entering(self) -> list[str]:
        """Return the words before a command that let it run in the group."""
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self._group / "cgroup.procs")]

    def close(self) -> None:
        (self._group / "cgroup.kill").write_text("1")
        events = self._group / "cgroup.events"
        wait_until(lambda: "populated 0" in events.read_text(), "end of all processes")
        for folder, _, _ in os.walk(self._group, topdown=False):
            Path(folder).rmdir()


def _hierarchy() -> Path:
    """Return where the hierarchy of cgroup v2 is mounted; raises OSError where it is not."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise FileNotFoundError(errno.ENOENT, "it is not mounted")


def _wait_for_port(port: int) -> None:
    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return False
        return True

    wait_until(answers, f"listener on port {port}")


_ENVIRONMENT = {"PATH": SEARCH_PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}

"""A real Postfix as Debian ships it, chroots included, but for the settings below.

It is the one of this machine, or that of another release, whose tree of files
lies in a folder: then it is run there by chroot(8).
"""

import re
import shlex
import shutil
import smtplib
import subprocess
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from tests.e2e.deadline import wait_until
from tests.e2e.namespace import Namespace

SENDER = "sender@mail.test"
POLICY_FOLDER = "postfix-mtasts"  # of the queue directory
POLICY_MAP = f"socketmap:unix:{POLICY_FOLDER}/policy.sock:policy"
EXPLAIN_MAP = f"socketmap:unix:{POLICY_FOLDER}/policy.sock:explain"

# The level is "may", so that what is more than opportunistic is the daemon's doing.
_MAIN_CF = f"""\
compatibility_level = 3.6
myhostname = mail.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
biff = no
maillog_file = /var/log/mail.log
smtp_tls_policy_maps = {POLICY_MAP}
smtp_tls_security_level = may
smtp_tls_CAfile = /etc/postfix/ca.pem
smtp_tls_loglevel = 1
smtp_dns_support_level = dnssec
smtp_tls_dane_insecure_mx_policy = dane
"""

_FOLDERS = {
    "etc": "/etc/postfix",
    "spool": "/var/spool/postfix",
    "lib": "/var/lib/postfix",
    "log": "/var/log",
}
# What the package keeps beside the administrator's files, of which none is copied.
_PACKAGED = ("dynamicmaps.cf", "postfix-files", "postfix-script", "post-install")

_DELIVERY = re.compile(
    r"postfix/[\w/]+\[(?P<pid>\d+)\]: (?P<queue_id>\w+): to=<.*>, relay=(?P<relay>[^\[,]+)"
    r".*, dsn=(?P<dsn>[\d.]+), status=(?P<status>\w+) \((?P<reason>.*)\)$"
)
_HANDSHAKE = re.compile(r"\]: (?P<label>\w+) TLS connection established to (?P<host>[^\[]+)\[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a delivery, as Postfix logged it.

    *handshakes*: each TLS session's label, such as "Verified", and its host.
    *lines*: all that the process said during the attempt.
    """

    queue_id: str
    status: str  # sent | deferred | bounced
    dsn: str  # such as "4.7.5"
    relay: str  # the MX host; "none" where none was reached
    reason: str
    handshakes: tuple[tuple[str, str], ...]
    lines: tuple[str, ...]


class Postfix:
    """The mail server of the lab; *folder* takes its configuration, queue and log.

    *root*: of the tree of files in which Postfix is installed.  *main_cf*: settings
    in place of those above and beside them.  *master_cf*: services beside Debian's.
    """

    def __init__(
        self,
        namespace: Namespace,
        folder: Path,
        *,
        root: Path = Path("/"),
        main_cf: str = "",
        master_cf: str = "",
    ) -> None:
        self._namespace = namespace
        self._folder = folder
        self._root = root
        self._main_cf = _merged(main_cf)
        self._master_cf = master_cf
        self.spool = folder / "spool"
        self.log = folder / "log" / "mail.log"

    def start(self, authority: Path) -> None:
        """Start; *authority* is the certificate authority that the SMTP client trusts."""
        self._make_private()
        configuration = self._folder / "etc"
        shutil.copy(authority, configuration / "ca.pem")
        services = (self._root / "usr/share/postfix/master.cf.dist").read_text()
        (configuration / "master.cf").write_text(services + self._master_cf)
        (configuration / "main.cf").write_text(self._main_cf)
        (self.spool / POLICY_FOLDER).mkdir()
        self._fill_chroots()
        start = self._inside("postfix", "start-fg")
        self._namespace.start(start, log=self._folder / "start.log")
        wait_until(lambda: "daemon started" in self._text(), "started Postfix")

    def rotate_log(self) -> None:
        """Let Postfix itself rotate its log: renamed and compressed, then begun anew."""
        self._run("postfix", "logrotate")

    def reload(self) -> None:
        """Let Postfix open its log again, and forget which hosts were down."""
        self._run("postfix", "reload")

    def submit(self, recipient: str, *, sender: str = SENDER) -> str:
        """Hand a message for *recipient* in and return its queue id."""
        return self._namespace.call(submit, recipient, sender)

    def attempt(self, queue_id: str, *, after: int = 0) -> Attempt:
        """Wait for the first attempt at *queue_id* in the log, *after* a place in it."""
        return wait_until(
            lambda: find_attempt(queue_id, self._text()[after:].splitlines()),
            f"outcome of {queue_id} in Postfix's log",
        )

    def send(self, recipient: str, *, sender: str = SENDER) -> Attempt:
        """Hand a message in and wait for the first attempt at its delivery."""
        return self.attempt(self.submit(recipient, sender=sender))

    def retry(self, *attempts: Attempt) -> tuple[Attempt, ...]:
        """Flush the queue and wait for the next attempt at each message of *attempts*."""
        end = len(self._text())
        self._run("postqueue", "-f")
        return tuple(self.attempt(attempt.queue_id, after=end) for attempt in attempts)

    def empty_queue(self) -> None:
        """Throw all mail away."""
        self._run("postsuper", "-d", "ALL")

    def ask(self, key: str, policy_map: str = POLICY_MAP) -> str:
        """Return what *policy_map* answers for *key* as Postfix reads it, "" where NOTFOUND.

        Raises `CalledProcessError` for an error reply and for no server.
        """
        table = policy_map.replace("unix:", "unix:/var/spool/postfix/")
        try:
            return self._run("postmap", "-q", key, table).rstrip("\n")
        except subprocess.CalledProcessError as error:
            if error.stderr:
                raise
            return ""

    def install(self, name: str, content: bytes) -> None:
        """Put a file beside main.cf."""
        (self._folder / "etc" / name).write_bytes(content)

    def postconf(self, *arguments: str) -> tuple[str, str]:
        """Return what postconf(1) prints and what it complains of."""
        command = self._inside("postconf", *arguments)
        complaints = self._folder / "postconf.log"
        told = self._namespace.run("sh", "-c", f"{shlex.join(command)} 2>{complaints}")
        return told, complaints.read_text()

    def _make_private(self) -> None:
        """Let Postfix's folders, and only inside, be empty ones of the lab."""
        for name in _FOLDERS:
            (self._folder / name).mkdir(parents=True)
        for path in (self._root / "etc/postfix").iterdir():
            if path.name in _PACKAGED and path.is_file():
                shutil.copy(path, self._folder / "etc")
        shutil.chown(self._folder / "lib", self._user())
        for name, target in _FOLDERS.items():
            self._namespace.bind(self._folder / name, target)
            if self._root != Path("/"):
                self._namespace.bind(self._folder / name, f"{self._root}{target}")

    def _fill_chroots(self) -> None:
        """Let Debian's script copy what chroots need; from Debian 13 on "start" does it."""
        script = "usr/lib/postfix/configure-instance.sh"
        starter = self._root / "usr/lib/postfix/sbin/post-install"
        if script.rpartition("/")[2] not in (starter.read_text() if starter.exists() else ""):
            self._run(f"/{script}", "-")

    def _user(self) -> int:
        """Return the number of the user postfix, which differs from tree to tree."""
        passwd = (self._root / "etc/passwd").read_text()
        found = re.search(r"^postfix:[^:]*:(\d+):", passwd, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def _inside(self, *command: str) -> list[str]:
        return [*(() if self._root == Path("/") else ("chroot", str(self._root))), *command]

    def _run(self, *command: str) -> str:
        return self._namespace.run(*self._inside(*command))

    def _text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def _merged(main_cf: str) -> str:
    """Return the lab's settings with those of *main_cf*, each once."""
    new = {line.partition("=")[0] for line in main_cf.splitlines()}
    kept = [line for line in _MAIN_CF.splitlines() if line.partition("=")[0] not in new]
    return "\n".join(kept) + f"\n{main_cf}"


def submit(recipient: str, sender: str = SENDER) -> str:
    """Hand a message in on port 25 and return its queue id."""
    message = EmailMessage()
    message["From"], message["Subject"] = sender, "a message of the lab"
    message.set_content("Hello.")
    with smtplib.SMTP("127.0.0.1", 25, timeout=10) as client:
        client.ehlo()
        client.mail(sender, [] if recipient.isascii() else ["SMTPUTF8"])
        client.rcpt(recipient)
        code, reply = client.data(message.as_bytes())
    assert code == 250, reply
    return reply.decode().rpartition(" ")[2]


def find_attempt(queue_id: str, lines: list[str]) -> Attempt | None:
    """Return the first attempt at *queue_id* among *lines*, `None` while there is none."""
    for index, line in enumerate(lines):
        found = _DELIVERY.search(line)
        if found and found["queue_id"] == queue_id:
            said = _said_during(found["pid"], lines[: index + 1])
            return Attempt(
                queue_id=queue_id,
                status=found["status"],
                dsn=found["dsn"],
                relay=found["relay"],
                reason=found["reason"],
                handshakes=tuple(
                    (h["label"], h["host"]) for h in map(_HANDSHAKE.search, said) if h
                ),
                lines=said,
            )
    return None


def _said_during(pid: str, lines: list[str]) -> tuple[str, ...]:
    """Return the last lines of process *pid*: those after its previous delivery."""
    said: list[str] = []
    for line in lines:
        if said and _DELIVERY.search(said[-1]):
            said.clear()
        if f"[{pid}]: " in line:
            said.append(line)
    return tuple(said)

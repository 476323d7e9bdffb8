"""The snippets of contrib/postfix as a postmaster puts them in, one lab for each Postfix.

Their text goes into main.cf and master.cf as it stands; what is a postmaster's
own (certificates, domains, a gateway) is added here.
"""

import re
import shlex
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.auth_server import AuthServer
from tests.e2e.deadline import wait_until
from tests.e2e.debian_tree import debian_tree
from tests.e2e.lab import Lab
from tests.e2e.postfix import POLICY_FOLDER
from tests.e2e.service import CHECKOUT

CONTRIB = CHECKOUT / "contrib" / "postfix"
NAMES = tuple(sorted(p.name for p in CONTRIB.iterdir() if p.suffix in {".cf", ".header_checks"}))

GATEWAY = "gateway.plain.test"
OWN_DOMAIN = "own.plain.test"
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"

# Old ciphers are let in, so that old versions of TLS fail by the snippets' word alone;
# who errs is not made to wait, for the tests err much.
_OWN = f"""\
mydestination = {OWN_DOMAIN}
local_recipient_maps =
local_transport = discard:own
smtpd_tls_security_level = may
smtpd_tls_cert_file = /etc/postfix/mail.pem
tls_medium_cipherlist = ALL:@SECLEVEL=0
tls_high_cipherlist = ALL:@SECLEVEL=0
smtpd_error_sleep_time = 0
"""

_COMMAND = re.compile(r"^# +postconf (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A Postfix and the snippets for it; *suite*: the Debian that ships it, `None` for ours."""

    suite: str | None
    snippets: tuple[str, ...]
    gateway: str = ""


RELEASES = {
    "3.7": Release(
        suite=None,
        snippets=(
            "mta-sts.main.cf",
            "tls-report.main.cf",
            "tls-report.master.cf",
            "requiretls.main.cf",
            "requiretls.master.cf",
            "requiretls.header_checks",
            "submission.master.cf",
        ),
        gateway=GATEWAY,
    ),
    "3.10": Release(
        suite="trixie",
        snippets=(
            "mta-sts-3.10.main.cf",
            "requiretls.main.cf",
            "requiretls.master.cf",
            "requiretls.header_checks",
            "submission.master.cf",
        ),
    ),
    "3.11": Release(
        suite="sid",
        snippets=("mta-sts-3.10.main.cf", "requiretls-3.11.main.cf", "submission.master.cf"),
    ),
}


def text_of(name: str) -> str:
    return (CONTRIB / name).read_text()


def uncommented(text: str) -> list[str]:
    """Return the lines of a snippet that say something and have no comment directly before."""
    lines = text.splitlines()
    said = [n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    return [lines[n] for n in said if n == 0 or not lines[n - 1].startswith("#")]


class Site:
    """A lab whose Postfix has the snippets of *release*, and users with passwords.

    Raises `NoTreeError` where there is no such Postfix.
    """

    def __init__(self, folder: Path, release: Release) -> None:
        root = debian_tree(release.suite) if release.suite else Path("/")
        self.lab = Lab(
            folder,
            root=root,
            main_cf=_main_cf(release),
            master_cf="".join(map(text_of, _ending(release, ".master.cf"))),
        )
        self.postfix = self.lab.postfix
        self._stack = ExitStack()
        self._stack.callback(self.lab.close)
        try:
            self._furnish(root)
            self._carry_out(release)
        except BaseException:
            self.close()
            raise

    def _furnish(self, root: Path) -> None:
        """Add authorities, a certificate and who judges passwords."""
        self.lab.namespace.bind(self.lab.authority.pem, str(root / AUTHORITIES))
        self.postfix.install("mail.pem", self.lab.authority.issue("mail.test").pem.read_bytes())
        auth = AuthServer(self.postfix.spool / "private" / "auth")
        self._stack.callback(auth.close)

    def _carry_out(self, release: Release) -> None:
        """Copy the tables and run the commands that the snippets tell of."""
        for name in _ending(release, ".header_checks"):
            self.postfix.install(name, text_of(name).encode())
        commands = [c for name in release.snippets for c in _COMMAND.findall(text_of(name))]
        for command in commands:
            self.postfix.postconf(*shlex.split(command))
        if commands:
            self.postfix.reload()
            log = self.postfix.log
            wait_until(lambda: "]: reload -- version" in log.read_text(), "reloaded Postfix")

    @property
    def tlsrpt_socket(self) -> Path:
        return self.postfix.spool / POLICY_FOLDER / "tlsrpt.sock"

    def close(self) -> None:
        """Stop everything."""
        self._stack.close()


def _ending(release: Release, suffix: str) -> list[str]:
    return [name for name in release.snippets if name.endswith(suffix)]


def _main_cf(release: Release) -> str:
    text = "".join(map(text_of, _ending(release, ".main.cf")))
    if release.gateway:
        empty = "requiretls_fallback_relay ="
        assert f"{empty}\n" in text
        text = text.replace(empty, f"{empty} [{release.gateway}]")
    return text + _OWN

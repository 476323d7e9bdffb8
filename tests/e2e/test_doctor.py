"""`doctor` on a real Postfix: what it finds, what it mends, and the way back."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import Lab
from tests.e2e.service import CHECKOUT

FRESH = ("smtp_tls_policy_maps", "smtp_tls_CAfile", "smtp_dns_support_level", "smtp_tls_loglevel")
"""What a postmaster who has just installed the package has not set."""


class Host:
    """The lab's host as an operator at a root shell has it, who wants no reports."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self.main_cf = lab.folder / "postfix" / "etc" / "main.cf"
        self._config = folder / "config.yaml"
        daemons = (lab.folder / "daemon" / "config.yaml").read_text()
        self._config.write_text(f"{daemons}tlsrpt: {{enabled: false}}\n")

    def doctor(self, *words: str) -> tuple[int, str]:
        """Return the exit status of `doctor`, and all that it said."""
        command = ["env", "-C", str(CHECKOUT), sys.executable, "-m", "postfix_mtasts", "doctor"]
        done = self._lab.namespace.call(
            subprocess.run,
            [*command, *words, "--config", str(self._config)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        return done.returncode, done.stdout + done.stderr

    def findings(self) -> dict[str, dict[str, Any]]:
        """Return the worst finding of each subject."""
        _, said = self.doctor("--json")
        ranks = ["ok", "note", "warning", "wrong"]
        found = sorted(json.loads(said)["findings"], key=lambda f: ranks.index(f["level"]))
        return {finding["subject"]: finding for finding in found}

    def edit(self, *words: str) -> None:
        self._lab.namespace.run("postconf", *words)
        self.age()

    def age(self) -> None:
        """Let main.cf be old: Postfix waits two seconds for the end of an edit just made."""
        os.utime(self.main_cf, (1e9, 1e9))


@pytest.fixture
def host(lab: Lab, tmp_path: Path) -> Iterator[Host]:
    """Return the host; main.cf is afterwards as it was, and Postfix has read it."""
    host = Host(lab, tmp_path)
    before = host.main_cf.read_bytes()
    certificates = host.main_cf.parent / "ca.pem"
    yield host
    for copy in host.main_cf.parent.glob("main.cf.postfix-mtasts.*"):
        copy.unlink()
    host.main_cf.write_bytes(before)
    host.age()
    assert certificates.exists()
    lab.postfix.reload()


def test_a_fresh_postfix_is_mended_by_apply_and_undo_leaves_no_octet_changed(
    lab: Lab, host: Host
) -> None:
    # A name that must not resolve: the root vouches for a key that nobody has.
    lab.dns.publish("dnssec-failed.org", "NS", "ns.test.")
    lab.dns.publish("dnssec-failed.org", "DS", f"4711 13 2 {'00' * 32}")
    host.edit("-X", *FRESH)
    fresh = host.main_cf.read_bytes()

    status, said = host.doctor("--apply", "--yes")
    assert status == 0, said
    assert "This host is protected." in said
    assert "+ smtp_dns_support_level = dnssec" in said
    assert "and refuses a name whose signatures are wrong" in said
    assert lab.namespace.run("postconf", "-h", "smtp_tls_policy_maps") == (
        "socketmap:unix:postfix-mtasts/policy.sock:policy\n"
    )

    status, said = host.doctor("--undo")
    assert status == 0, said
    assert host.main_cf.read_bytes() == fresh


def test_a_socket_that_only_root_outside_the_chroot_sees_is_found(lab: Lab, host: Host) -> None:
    absolute = "socketmap:unix:/var/spool/postfix/postfix-mtasts/policy.sock:policy"
    host.edit("-e", f"smtp_tls_policy_maps = hash:/etc/postfix/own, {absolute}")
    assert lab.postfix.ask("nowhere.plain.test") == ""  # root's postmap is content

    finding = host.findings()["policy map"]

    assert finding["level"] == "wrong"
    assert "in its chroot: No such file or directory" in finding["text"]
    assert (
        "'smtp_tls_policy_maps = hash:/etc/postfix/own,"
        " socketmap:unix:postfix-mtasts/policy.sock:policy'"
    ) in finding["mend"]

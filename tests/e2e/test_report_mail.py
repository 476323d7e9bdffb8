"""Report mail through a real Postfix, whatever becomes of TLS (RFC 8460 section 5.3.1)."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfix_mtasts.core.utc import day_of
from tests.e2e.deadline import wait_until
from tests.e2e.lab import Lab
from tests.e2e.smtp_receiver import Receiver
from tests.report_samples import row, store_counts

CONTRIB = Path(__file__).parents[2] / "contrib" / "postfix"
SENDER = "tls-reports@example.com"  # as in contrib
CONFIG = f"""\
dns: {{servers: []}}
store: {{url: "sqlite:///state.db"}}
tlsrpt: {{organization: Lab, contact: {SENDER}, sender: {SENDER}}}
"""


@pytest.fixture(name="transport")
def apply_contrib(lab: Lab) -> Iterator[None]:
    """Let reports leave as contrib/postfix has it."""
    before = {name: lab.namespace.call(read, name) for name in ("main.cf", "master.cf")}
    for name, text in before.items():
        lab.namespace.call(write, name, text + (CONTRIB / f"tls-report.{name}").read_text())
    lab.namespace.run("postfix", "reload")
    yield
    for name, text in before.items():
        lab.namespace.call(write, name, text)
    lab.namespace.run("postfix", "reload")


def read(name: str) -> str:
    return Path("/etc/postfix", name).read_text()


def write(name: str, text: str) -> None:
    Path("/etc/postfix", name).write_text(text)


def stripped(lab: Lab, domain: str) -> Receiver:
    """Return the MX host of a domain that enforces TLS, and offers none."""
    mx = lab.receiver(f"mx.{domain}")
    mx.starttls = False
    lab.mail_domain(domain, mx)
    lab.policy(domain, mode="enforce", mx=(mx,))
    lab.dns.publish(f"_smtp._tls.{domain}", "TXT", f'"v=TLSRPTv1; rua=mailto:tlsrpt@{domain}"')
    return mx


def report(lab: Lab, folder: Path, domain: str) -> None:
    yesterday = day_of(time.time()) - 1
    (folder / "config.yaml").write_text(CONFIG)
    store_counts(folder / "tlsrpt.db", [(row(domain, day=yesterday), 1)])
    command = (sys.executable, "-m", "postfix_mtasts", "report", "--now")
    lab.namespace.run(*command, "--config", str(folder / "config.yaml"))


@pytest.mark.usefixtures("transport")
def test_a_report_gets_through_where_other_mail_waits_for_tls(lab: Lab, tmp_path: Path) -> None:
    mx = stripped(lab, "reported.plain.test")

    assert lab.postfix.send("user@reported.plain.test").status == "deferred"
    report(lab, tmp_path, "reported.plain.test")

    wait_until(lambda: mx.messages, "report at the MX host")
    (message,) = mx.messages
    assert (message.sender, message.recipient) == (SENDER, "tlsrpt@reported.plain.test")
    assert message.tls is None


@pytest.mark.usefixtures("transport")
def test_a_report_takes_tls_where_it_is_offered(lab: Lab, tmp_path: Path) -> None:
    mx = stripped(lab, "offered.plain.test")
    mx.starttls = True

    report(lab, tmp_path, "offered.plain.test")

    wait_until(lambda: mx.messages, "report at the MX host")
    assert mx.messages[0].tls == "TLSv1.3"

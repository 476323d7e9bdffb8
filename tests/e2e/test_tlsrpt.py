"""TLS reports seen from both ends: what was done to TLS is what the domain is told (RFC 8460).

A day in the life of the sidecar, lived once for each Postfix: mail goes out, the
sidecar is killed, mail is tried again, the log is rotated, the sidecar comes back,
is killed again and comes back, the log is rotated again, the day ends, reports go
out.  The tests look at what came.
"""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.e2e.collector import SENDER, Collector, domain_of
from tests.e2e.deadline import wait_until
from tests.e2e.debian_tree import NoTreeError, debian_tree
from tests.e2e.lab import Lab
from tests.e2e.postfix import POLICY_FOLDER, Attempt
from tests.e2e.report_endpoint import ReportEndpoint
from tests.e2e.reported_domains import (
    ASKING,
    DOMAINS,
    ENDPOINT,
    GATEWAY,
    MAILBOX,
    REFUSED,
    REFUSING,
    ROUTED,
    STRICT,
    Domain,
    told_in,
)
from tests.e2e.service import CHECKOUT
from tests.e2e.smtp_receiver import Message, Receiver

CONTRIB = CHECKOUT / "contrib" / "postfix"

LOG = "file:/var/log/mail.log"
DATAGRAMS = f"datagram:/var/spool/postfix/{POLICY_FOLDER}/tlsrpt.sock"

MAY_LAST = timedelta(seconds=120)

# So that chain failures are logged also where mail flows all the same.
MAIN_CF = f"""\
{(CONTRIB / "requiretls.main.cf").read_text()}
smtp_tls_loglevel = summary,untrusted
transport_maps = inline:{{ {{ {ROUTED} = smtp:[{GATEWAY}]:25 }}, {{ {STRICT} = requiretls: }} }}
"""
MASTER_CF = (CONTRIB / "requiretls.master.cf").read_text()
MAIN_CF_3_10 = f"""\
{MAIN_CF}smtp_tlsrpt_enable = yes
smtp_tlsrpt_socket_name = {POLICY_FOLDER}/tlsrpt.sock
smtp_tls_policy_maps = socketmap:unix:{POLICY_FOLDER}/policy.sock:policy-tlsrpt
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What came of the day.

    *shown*: by `report --print`, before the day was over.  *counted*: sessions
    with the domain of the mailbox, of which all were with reports.  *fates*: whether
    the last report to each mailbox arrived, by the log.
    """

    lab: Lab
    has_datagrams: bool
    shown: dict[str, dict[str, Any]]
    mails: tuple[Message, ...]
    endpoint: ReportEndpoint
    listed: str
    counted: int
    fates: dict[str, bool]


@pytest.fixture(scope="module", params=["3.7-log", "3.10-datagrams-and-log"])
def life(
    request: pytest.FixtureRequest, labs: Path, skip: Callable[[str], NoReturn]
) -> Iterator[Life]:
    """Live the day."""
    if datetime.now(UTC).date() != (datetime.now(UTC) + MAY_LAST).date():
        pytest.skip("the day is about to end, and with it what is counted would be of two days")
    has_datagrams = request.param != "3.7-log"
    lab = start_lab_3_10(labs, skip) if has_datagrams else start_lab_3_7(labs)
    try:
        yield live(lab, has_datagrams=has_datagrams)
    finally:
        lab.close()


def start_lab_3_7(labs: Path) -> Lab:
    """Start a lab where reports leave by the transport of contrib."""
    routes = (CONTRIB / "tls-report.main.cf").read_text()
    return Lab(
        labs / "tlsrpt-3.7",
        main_cf=MAIN_CF + routes.replace("tls-reports@example.com", SENDER),
        master_cf=MASTER_CF + (CONTRIB / "tls-report.master.cf").read_text(),
    )


def start_lab_3_10(labs: Path, skip: Callable[[str], NoReturn]) -> Lab:
    """Start a lab with Debian 13's Postfix, which sends datagrams."""
    try:
        tree = debian_tree("trixie")
    except NoTreeError as error:
        skip(f"there is no Postfix 3.10: {error}")
    return Lab(labs / "tlsrpt-3.10", root=tree, main_cf=MAIN_CF_3_10, master_cf=MASTER_CF)


def live(lab: Lab, *, has_datagrams: bool) -> Life:
    mailbox = publish(lab)
    endpoint = lab.report_endpoint("reports-https.plain.test")
    collector = Collector(
        lab.namespace,
        lab.folder / "collector",
        state=lab.daemon.folder,
        authority=lab.authority.pem,
        sources=(DATAGRAMS, LOG) if has_datagrams else (LOG,),
        mail="smtp://127.0.0.1:25" if has_datagrams else "sendmail",
    )
    send_mail(lab, collector, has_datagrams=has_datagrams)
    shown = collector.shown()
    lab.dns.publish(f"_smtp._tls.{GATEWAY}", "TXT")  # it has been told enough
    collector.close_day()
    for _ in range(2):  # the second has nothing to do
        collector.report("--now")
    wait_until(lambda: len(mailbox.messages) >= len(ASKING), "report mails")
    wait_until(lambda: REFUSING in collector.fates(), "the bounce of a report mail")
    mark(lab, collector, "after-reports.plain.test")
    listed = collector.report("--list")
    collector.stop()
    return Life(
        lab=lab,
        has_datagrams=has_datagrams,
        shown=shown,
        mails=tuple(mailbox.messages),
        endpoint=endpoint,
        listed=listed,
        counted=collector.counted(MAILBOX.partition("@")[2]),
        fates=collector.fates(),
    )


def publish(lab: Lab) -> Receiver:
    """Publish all domains and return the mailbox's host, to which ordinary mail must not go."""
    domain = MAILBOX.partition("@")[2]
    host = f"mx.{domain}"
    mailbox = lab.receiver(host, certificate=lab.stranger.issue(host))
    lab.mail_domain(domain, mailbox)
    lab.policy(domain, mode="enforce", mx=(mailbox,))
    for each in DOMAINS:
        each.set_up(lab, mailbox)
    gateway = lab.receiver(GATEWAY)
    lab.mail_domain(GATEWAY.removeprefix("mx."), gateway)
    lab.asks_for_reports(GATEWAY, f"mailto:{MAILBOX}")
    lab.asks_for_reports(ROUTED, f"mailto:{MAILBOX}")
    refusing = lab.receiver(f"mx.{REFUSING.partition('@')[2]}")
    refusing.refuses = True
    lab.mail_domain(REFUSING.partition("@")[2], refusing)
    lab.mail_domain(REFUSED, lab.receiver(f"mx.{REFUSED}"))
    lab.asks_for_reports(REFUSED, f"mailto:{REFUSING}")
    return mailbox


def send_mail(lab: Lab, collector: Collector, *, has_datagrams: bool) -> None:
    """Send all mail of the day, and return when it is counted."""
    postfix = lab.postfix
    collector.start()
    mark(lab, collector, "begun.plain.test")
    for domain in (REFUSED, ROUTED):
        assert postfix.send(f"user@{domain}").status == "sent"
    first = send_to(lab, DOMAINS)
    if has_datagrams:  # of which those of the last second would be lost
        mark(lab, collector, "before-kill.plain.test")
    collector.kill()
    postfix.retry(*(attempt for attempt in first if attempt.status == "deferred"))
    taken = [each for each, attempt in zip(DOMAINS, first, strict=True) if attempt.status == "sent"]
    send_to(lab, taken)
    postfix.log.rename(postfix.log.with_name("mail.log.1"))
    postfix.reload()
    send_to(lab, taken)
    collector.start()
    collector.kill()  # amid the reading of what it missed
    collector.start()
    postfix.rotate_log()
    mark(lab, collector, "last.plain.test")


def send_to(lab: Lab, domains: Iterable[Domain]) -> list[Attempt]:
    return [lab.postfix.send(f"user@{domain.name}") for domain in domains]


def mark(lab: Lab, collector: Collector, domain: str) -> None:
    """Send a message to *domain*, new, and return when it, and so all before it, is counted."""
    lab.mail_domain(domain, lab.receiver(f"mx.{domain}"))
    assert lab.postfix.send(f"user@{domain}").status == "sent"
    wait_until(lambda: collector.counted(domain, "log"), f"count of {domain}")


def attachment_of(message: Message) -> dict[str, Any]:
    mail = message_from_bytes(message.data, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    (attachment,) = mail.iter_attachments()
    report: dict[str, Any] = json.loads(gzip.decompress(attachment.get_content()))
    return report


def by_domain(reports: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return *reports* by domain; each has one."""
    named = [(domain_of(report), report) for report in reports]
    assert len(dict(named)) == len(named)
    return dict(named)


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: domain.name)
def test_each_session_is_counted_once_and_for_what_it_was(life: Life, domain: Domain) -> None:
    expected = domain.told_3_10 if life.has_datagrams and domain.told_3_10 else domain.told
    told = told_in(life.shown[domain.name])
    if domain.flaw:
        successes, failures, kinds = told.pop("sts")
        assert (successes, kinds) == (0, {domain.flaw: failures})
    assert told == expected


def test_mail_through_a_smarthost_is_told_to_nobody_but_the_smarthost(life: Life) -> None:
    assert ROUTED not in life.shown
    at_gateway = [told_in(report) for name, report in life.shown.items() if name == GATEWAY]
    assert at_gateway == ([{"no-policy-found": (1, 0, {})}] if life.has_datagrams else [])


def test_who_asks_is_told_by_mail_and_by_https_what_was_shown(life: Life) -> None:
    mailed = by_domain(map(attachment_of, life.mails))
    posted = by_domain(json.loads(gzip.decompress(post.data)) for post in life.endpoint.posts)

    assert mailed == posted
    assert set(mailed) == {domain.name for domain in ASKING}
    assert {name: report["policies"] for name, report in mailed.items()} == {
        name: report["policies"] for name, report in life.shown.items() if name in mailed
    }
    assert {post.path for post in life.endpoint.posts} == {"/v1"}
    assert {post.media_type for post in life.endpoint.posts} == {"application/tlsrpt+gzip"}


def test_the_day_that_is_told_of_is_over(life: Life) -> None:
    for report in map(attachment_of, life.mails):
        begin, end = map(datetime.fromisoformat, report["date-range"].values())
        assert end - begin == timedelta(days=1, seconds=-1)
        assert begin.time() == time(0)
        assert end < datetime.now(UTC)


def test_who_does_not_ask_is_told_nothing(life: Life) -> None:
    (line,) = [line for line in life.listed.splitlines() if "silent.plain.test" in line]
    assert line.split()[2] == "left-out"
    assert line.endswith("the domain asks for no reports")


def test_reports_get_through_where_other_mail_must_wait(life: Life) -> None:
    assert {mail.recipient for mail in life.mails} == {MAILBOX}
    assert {mail.sender for mail in life.mails} == {SENDER}
    assert {mail.tls for mail in life.mails} == {"TLSv1.3"}  # with whatever certificate
    attempt = life.lab.postfix.send(MAILBOX)
    assert (attempt.status, attempt.dsn) == ("deferred", "4.7.5")


def test_the_delivery_of_reports_is_not_counted(life: Life) -> None:
    assert len(life.mails) == len(ASKING)
    assert life.counted == 0


def test_whether_report_mail_arrived_is_known(life: Life) -> None:
    assert life.fates == {MAILBOX: True, REFUSING: False}


def test_each_report_is_listed_as_sent_to_each_address(life: Life) -> None:
    sent = [line.split() for line in life.listed.splitlines() if " sent " in line]
    assert sorted((words[1], words[4]) for words in sent) == sorted(
        [(REFUSED, f"mailto:{REFUSING}")]
        + [(domain.name, to) for domain in ASKING for to in (f"mailto:{MAILBOX}", ENDPOINT)]
    )


@pytest.mark.skipif(find_spec("parsedmarc") is None, reason="parsedmarc is not installed")
def test_parsedmarc_reads_the_mail_as_it_was_received(life: Life, tmp_path: Path) -> None:
    file = tmp_path / "report.eml"
    file.write_bytes(life.mails[0].data)
    code = (
        "import sys, json, parsedmarc\n"
        "read = parsedmarc.parse_report_email(open(sys.argv[1], 'rb').read(), offline=True)\n"
        "print(json.dumps([read['report_type'], read['report']], default=str))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    kind, report = json.loads(ran.stdout)
    assert (kind, report["organization_name"]) == ("smtp_tls", "The Lab")
    assert report["report_id"] == attachment_of(life.mails[0])["report-id"]

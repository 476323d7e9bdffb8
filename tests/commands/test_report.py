"""The verb `report`, whole: real DNS, SMTP and HTTPS, and a sendmail that is a script."""

import asyncio
import gzip
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from postfix_mtasts.adapters.count_reader import KEPT_DAYS
from postfix_mtasts.adapters.report_store import lock
from postfix_mtasts.adapters.tlsrpt_store import SqliteTlsrptStore
from postfix_mtasts.cli import main
from postfix_mtasts.core.tls_event import ResultType
from postfix_mtasts.core.utc import build_date, day_of, day_start
from postfix_mtasts.ports import Counted, Place, Written
from tests.adapters.dns_server import DnsServer, record
from tests.adapters.https_server import Authority, Conversation, HttpsServer
from tests.adapters.smtp_server import SmtpServer
from tests.commands.conftest import Command, Ran
from tests.report_samples import row, store_counts

TODAY = day_of(time.time())
YESTERDAY = TODAY - 1
DATE = build_date(YESTERDAY)
WHO = "organization: Sender Inc, contact: tls@sender.example, sender: reports@sender.example"
BAD = ResultType.CERTIFICATE_EXPIRED
STUCK_SECONDS = 30.0

Configure = Callable[..., None]


@pytest.fixture(autouse=True)
def midnight_is_not_near() -> None:
    if day_of(time.time() + 120) != TODAY:
        pytest.skip("the day is about to end, and with it what these tests take for yesterday")


@pytest.fixture(name="dns")
def make_dns() -> Iterator[DnsServer]:
    """A DNS server in a thread of its own."""
    ready, leave = threading.Event(), asyncio.Event()
    server = DnsServer(has_tcp=False)
    loops = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with server:
            ready.set()
            await leave.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(STUCK_SECONDS)
    yield server
    loops[0].call_soon_threadsafe(leave.set)
    thread.join()


@pytest.fixture(name="database")
def make_counts(tmp_path: Path) -> Path:
    path = tmp_path / "tlsrpt.db"
    good, bad = row("example.com", day=YESTERDAY), row("example.com", day=YESTERDAY, kind=BAD)
    store_counts(path, [(good, 30), (bad, 12)])
    return path


@pytest.fixture(name="configure")
def make_configure(config: Path, dns: DnsServer) -> Configure:
    """Return a function that writes the configuration."""

    def configure(who: str = WHO, mail: str = "sendmail", rest: str = "") -> None:
        config.write_text(
            'server: {listen: ["unix:sock"]}\n'
            f'dns: {{servers: ["{dns.address}"]}}\n'
            'store: {url: "sqlite:///state.db"}\n'
            f"tlsrpt: {{{who}, delivery: {{mail: {mail!r}, private_addresses: true}}}}\n{rest}"
        )

    configure()
    return configure


@pytest.fixture(name="outbox")
def make_sendmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a sendmail leaves each message under a name of its own."""
    outbox, program = tmp_path / "outbox", tmp_path / "bin" / "sendmail"
    for folder in (outbox, program.parent):
        folder.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    write_sendmail(program, 'cat > "$OUTBOX/$$.part" && mv "$OUTBOX/$$.part" "$OUTBOX/$$.eml"')
    monkeypatch.setenv("OUTBOX", str(outbox))
    return outbox


def write_sendmail(program: Path, body: str) -> None:
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


def asks_for(dns: DnsServer, domain: str, rua: str) -> None:
    name = f"_smtp._tls.{domain}"
    dns.says(name, "TXT", record(name, "TXT", f'"v=TLSRPTv1; rua={rua}"'))


def mails(outbox: Path) -> list[EmailMessage]:
    return [
        message_from_bytes(path.read_bytes(), policy=policy.default)
        for path in outbox.glob("*.eml")
    ]


def report_in(mail: EmailMessage) -> dict[str, Any]:
    [attachment] = mail.iter_attachments()
    report: dict[str, Any] = json.loads(gzip.decompress(attachment.get_content()))
    return report


def start(config: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "postfix_mtasts", "report", *words, "--config", str(config)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: "subprocess.Popen[str]") -> Ran:
    out, err = process.communicate(timeout=STUCK_SECONDS)
    return Ran(status=process.returncode, out=out, err=err)


@pytest.mark.usefixtures("database", "configure")
def test_what_is_due_is_mailed_once(command: Command, dns: DnsServer, outbox: Path) -> None:
    asks_for(dns, "example.com", "mailto:tlsrpt@example.com")
    for _ in range(3):
        assert command("report", "--now") == Ran(status=0, out="", err="")
    [mail] = mails(outbox)
    assert mail["To"] == "tlsrpt@example.com"
    assert mail["From"] == "reports@sender.example"
    assert mail["TLS-Required"] == "No"
    report_id = f"{DATE}.example.com@sender.example"
    subject = f"Report Domain: example.com Submitter: sender.example Report-ID: <{report_id}>"
    assert mail["Subject"] == subject
    assert mail.get_content_type() == "multipart/report"
    report = report_in(mail)
    assert report["report-id"] == report_id
    [told] = report["policies"]
    assert told["summary"] == {
        "total-successful-session-count": 30,
        "total-failure-session-count": 12,
    }


@pytest.mark.skipif(find_spec("parsedmarc") is None, reason="parsedmarc is not installed")
@pytest.mark.usefixtures("database", "configure")
def test_parsedmarc_reads_the_mail(command: Command, dns: DnsServer, outbox: Path) -> None:
    asks_for(dns, "example.com", "mailto:tlsrpt@example.com")
    assert command("report", "--now").status == 0
    [path] = outbox.glob("*.eml")
    code = (
        "import sys, json, parsedmarc\n"
        "read = parsedmarc.parse_report_email(open(sys.argv[1], 'rb').read(), offline=True)\n"
        "print(json.dumps([read['report_type'], read['report']], default=str))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    kind, report = json.loads(ran.stdout)
    assert kind == "smtp_tls"
    assert report["organization_name"] == "Sender Inc"
    [told] = report["policies"]
    assert told["policy_domain"] == "example.com"
    assert (told["successful_session_count"], told["failed_session_count"]) == (30, 12)
    [detail] = told["failure_details"]
    assert detail["result_type"] == "certificate-expired"


@pytest.mark.usefixtures("database")
def test_an_smtp_server_and_an_https_server_get_it_too(
    command: Command, dns: DnsServer, configure: Configure, tmp_path: Path
) -> None:
    posted: list[bytes] = []

    def script(talk: Conversation) -> None:
        talk.handshake()
        request = b""
        while b"\r\n\r\n" not in request:
            request += talk.sock.recv(65536)
        header, _, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: ([0-9]+)", header)
        assert length is not None
        while len(body) < int(length[1]):
            body += talk.sock.recv(65536)
        posted.append(body)
        talk.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    authority = Authority(tmp_path)
    dns.says("rpt.example", "A", record("rpt.example", "A", "127.0.0.1"))
    with SmtpServer() as smtp, HttpsServer(authority.good("rpt.example"), script) as https:
        uris = f"https://rpt.example:{https.port}/v1,mailto:tlsrpt@example.com"
        asks_for(dns, "example.com", uris)
        rest = f"mta_sts: {{ca_file: {authority.ca_file}}}\n"
        configure(mail=f"smtp://127.0.0.1:{smtp.port}", rest=rest)
        assert command("report", "--now") == Ran(status=0, out="", err="")
        assert command("report", "--now") == Ran(status=0, out="", err="")
    [taken] = smtp.messages
    assert taken.sender == "reports@sender.example"
    assert taken.recipients == ("tlsrpt@example.com",)
    mail = message_from_bytes(taken.data, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    [body] = posted
    assert json.loads(gzip.decompress(body)) == report_in(mail)


@pytest.mark.usefixtures("database")
def test_without_who_reports_it_says_what_to_set_and_loses_nothing(
    command: Command, configure: Configure, dns: DnsServer, outbox: Path
) -> None:
    asks_for(dns, "example.com", "mailto:tlsrpt@example.com")
    configure("contact: tls@sender.example")
    ran = command("report", "--now")
    assert ran.status == 2
    assert ran.err == (
        "postfix-mtasts: to send reports, set tlsrpt.organization and tlsrpt.sender in the"
        " configuration; what is counted is kept meanwhile\n"
    )
    configure()
    assert command("report", "--now").status == 0
    assert len(mails(outbox)) == 1


@pytest.mark.usefixtures("database")
def test_a_sender_that_no_mail_can_come_from_is_refused(
    command: Command, configure: Configure
) -> None:
    configure(WHO.replace("Sender Inc", "'Sender Inc '"))
    ran = command("report", "--now")
    assert ran.status == 2
    assert "tlsrpt.organization 'Sender Inc ' is not 1 to 200 printable characters" in ran.err


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("who", "rest", "why"),
    [
        (WHO, "mta_sts: {ca_file: nowhere.pem}\n", "nowhere.pem: No such file"),
        (
            f"{WHO}, dkim: {{domain: sender.example, selector: s, key_file: nowhere.pem}}",
            "",
            "tlsrpt.dkim",
        ),
    ],
    ids=["ca-file", "dkim"],
)
def test_files_that_cannot_be_used_are_named(
    command: Command, configure: Configure, who: str, rest: str, why: str
) -> None:
    configure(who, rest=rest)
    ran = command("report", "--now")
    assert ran.status == 2
    assert why in ran.err


@pytest.mark.skipif(find_spec("dkim") is None, reason="dkimpy is not installed")
@pytest.mark.usefixtures("database")
def test_mail_is_signed_where_a_key_is_set(
    command: Command, configure: Configure, dns: DnsServer, outbox: Path, config: Path
) -> None:
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (config.parent / "dkim.pem").write_bytes(pem)
    asks_for(dns, "example.com", "mailto:tlsrpt@example.com")
    configure(f"{WHO}, dkim: {{domain: sender.example, selector: s1, key_file: dkim.pem}}")
    assert command("report", "--now").status == 0
    [mail] = mails(outbox)
    assert "d=sender.example; " in mail["DKIM-Signature"]
    assert report_in(mail)["organization-name"] == "Sender Inc"


@pytest.mark.usefixtures("configure")
def test_before_anything_is_counted_all_is_well_and_no_file_is_made(
    command: Command, tmp_path: Path
) -> None:
    ran = command("report")
    assert ran.status == 0
    assert "nothing has been counted yet" in ran.err
    assert not (tmp_path / "tlsrpt.db").exists()
    assert command("report", "--list").status == 1
    assert not (tmp_path / "tlsrpt.db").exists()


@pytest.mark.usefixtures("database")
def test_switched_off_it_sends_nothing(
    command: Command, configure: Configure, outbox: Path
) -> None:
    configure(f"{WHO}, enabled: false")
    assert command("report", "--now").status == 0
    assert mails(outbox) == []


@pytest.mark.usefixtures("configure")
def test_print_shows_one_report_a_line_and_sends_nothing(
    command: Command, database: Path, outbox: Path
) -> None:
    store_counts(database, [(row("b.example", day=YESTERDAY), 1), (row("c.example", day=TODAY), 5)])
    ran = command("report", "--print")
    reports = [json.loads(line) for line in ran.out.splitlines()]
    assert [report["policies"][0]["policy"]["policy-domain"] for report in reports] == [
        "b.example",
        "example.com",
    ]
    ran = command("report", "--print", "--day", build_date(TODAY), "--domain", "C.example")
    assert json.loads(ran.out)["report-id"] == f"{build_date(TODAY)}.c.example@sender.example"
    assert mails(outbox) == []


@pytest.mark.usefixtures("configure", "database")
def test_output_writes_files_under_the_names_of_the_rfc(command: Command, tmp_path: Path) -> None:
    assert command("report", "--output", str(tmp_path / "out" / "here")).status == 0
    [file] = (tmp_path / "out" / "here").iterdir()
    begin = day_start(YESTERDAY)
    assert file.name.startswith(f"sender.example!example.com!{begin}!{begin + 86399}!")
    assert file.name.endswith(".json")
    assert json.loads(file.read_text())["organization-name"] == "Sender Inc"


@pytest.mark.usefixtures("configure")
def test_a_domain_too_long_for_a_file_name_holds_up_no_other(
    command: Command, tmp_path: Path
) -> None:
    names = [".".join([letter * 60] * 4) for letter in "ab"]
    counted = [(row(name, day=YESTERDAY), 1) for name in (*names, "z.example")]
    store_counts(tmp_path / "tlsrpt.db", counted)
    assert command("report", "--output", str(tmp_path / "out")).status == 0
    assert len(list((tmp_path / "out").glob("*.json"))) == 3


@pytest.mark.usefixtures("configure")
@pytest.mark.parametrize("word", ["--list", "--print", "--cron", "--now"])
def test_who_may_not_look_is_told_so(
    command: Command, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        if path.name == "tlsrpt.db":
            raise PermissionError
        return whole(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    ran = command("report", word)
    assert ran.status == 2
    assert "tlsrpt.db: permission denied; run this as root" in ran.err


@pytest.mark.usefixtures("configure", "database")
def test_a_folder_that_cannot_be_written_to_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = command("report", "--output", str(tmp_path / "file"))
    assert ran.status == 2
    assert "file" in ran.err


@pytest.mark.usefixtures("configure", "database")
@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("--day", "2026-13-01"), 2, "there is no day"),
        (("--day", build_date(TODAY)), 2, "has not ended; --print and --output show"),
        (("--domain", "not a domain"), 2, "not a domain"),
        (("--print", "--day", "2020-01-01"), 1, "no sessions of 2020-01-01 are known\n"),
        (("--print", "--domain", "b.example"), 1, "to b.example are known; --day names another"),
        (("--resend", "nonsense"), 2, '"nonsense" is no Report-ID, such as'),
        (("--resend", f"{DATE}.b.example@sender.example"), 1, "no sessions to b.example on"),
        (("--print", "--list"), 2, "not allowed with argument"),
    ],
)
def test_what_cannot_be_done_is_said(
    command: Command, words: tuple[str, ...], status: int, why: str
) -> None:
    ran = command("report", *words)
    assert (ran.status, ran.out) == (status, "")
    assert why in ran.err


@pytest.mark.usefixtures("configure")
def test_list_tells_of_each_report_and_why(
    command: Command, database: Path, dns: DnsServer, outbox: Path, tmp_path: Path
) -> None:
    names = ("failing.example", "silent.example", "old.example")
    store_counts(database, [(row(name, day=YESTERDAY), 1) for name in names[:2]])
    store_counts(database, [(row("old.example", day=TODAY - 9), 1)])
    asks_for(dns, "example.com", "mailto:tlsrpt@example.com")
    before = command("report", "--list", "--json")
    assert {entry["state"] for entry in json.loads(before.out)["reports"]} == {"due"}
    assert command("report", "--now", "--domain", "example.com").status == 0
    write_sendmail(tmp_path / "bin" / "sendmail", "echo 'fatal: \033[2Jno'; exit 75")
    asks_for(dns, "failing.example", "mailto:x@failing.example")
    assert command("report", "--now").status == 75
    ran = command("report", "--list")
    lines = [re.split(r"  +", line) for line in ran.out.splitlines()]
    assert lines[0] == ["DAY", "DOMAIN", "STATE", "WHEN", "TO", "WHY"]
    assert [line[:3] + line[4:5] for line in lines[1:]] == [
        [DATE, "example.com", "sent", "mailto:tlsrpt@example.com"],
        [DATE, "failing.example", "waiting", "mailto:x@failing.example"],
        [DATE, "silent.example", "left-out", "-"],
    ]
    assert "exit status 75: fatal: ?[2Jno" in lines[2][5]
    assert lines[3][5] == "the domain asks for no reports"
    listed = json.loads(command("report", "--list", "--json").out)
    assert [entry["tries"] for entry in listed["reports"]] == [0, 1, 0]
    assert [entry["to"] for entry in listed["destinations"]] == ["mailto:x@failing.example"]
    old = command("report", "--list", "--day", build_date(TODAY - 9))
    assert "is too old to be sent" in old.out
    assert len(mails(outbox)) == 1


@pytest.mark.usefixtures("configure")
def test_a_destination_that_is_set_aside_is_listed(
    command: Command, database: Path, outbox: Path
) -> None:
    assert command("report", "--list").status == 0
    now = time.time()
    with sqlite3.connect(database) as connection:
        values = ("mailto:x@gone.example", now - 9 * 86400, now - 86400)
        connection.execute("INSERT INTO destinations VALUES (?, ?, ?, 0, 0)", values)
    connection.close()
    out = command("report", "--list").out
    assert "Set aside, and tried once a week" in out
    assert "  mailto:x@gone.example  since 20" in out
    assert mails(outbox) == []


@pytest.mark.usefixtures("configure", "database")
def test_resend_sends_a_report_again_under_its_id(
    command: Command, dns: DnsServer, outbox: Path
) -> None:
    asks_for(dns, "example.com", "mailto:tlsrpt@example.com")
    assert command("report", "--now").status == 0
    report_id = f"{DATE}.example.com@sender.example"
    assert command("report", "--resend", f"<{report_id}>").status == 0
    first, second = mails(outbox)
    assert first["Subject"] == second["Subject"]
    dns.says("_smtp._tls.example.com", "TXT")
    ran = command("report", "--resend", report_id)
    assert ran.status == 1
    assert "nothing was sent: report --list" in ran.err


@pytest.mark.usefixtures("configure", "database")
def test_what_is_to_be_sent_again_and_is_refused_is_told(
    command: Command, dns: DnsServer, outbox: Path
) -> None:
    write_sendmail(outbox.parent / "bin" / "sendmail", "exit 75")
    asks_for(dns, "example.com", "mailto:a@example.com")
    ran = command("report", "--resend", f"{DATE}.example.com@sender.example")
    assert ran.status == 75
    assert f"nothing was sent: report --list --day {DATE} --domain example.com says why" in ran.err


@pytest.mark.parametrize("who", [WHO, "contact: tls@sender.example"], ids=["complete", "unset"])
def test_counts_older_than_the_retention_are_removed(
    command: Command, configure: Configure, database: Path, outbox: Path, who: str
) -> None:
    days = [*range(TODAY - KEPT_DAYS, TODAY), TODAY - 40]
    store_counts(database, [(row("old.example", day=day), 1) for day in days])
    configure(who)
    assert command("report").status in {0, 2}
    configure()
    ran = command("report", "--print", "--day", build_date(TODAY - 40))
    assert "no sessions" in ran.err
    assert json.loads(command("report", "--print", "--domain", "old.example").out)
    assert mails(outbox) == []


@pytest.mark.usefixtures("database")
def test_by_cron_unset_keys_are_said_once_a_day(
    command: Command, configure: Configure, tmp_path: Path
) -> None:
    configure("contact: tls@sender.example")
    assert "to send reports, set tlsrpt.organization" in command("report", "--cron").err
    assert command("report", "--cron") == Ran(status=2, out="", err="")
    yesterday = time.time() - 86400
    os.utime(tmp_path / "tlsrpt.db-cron-settings", (yesterday, yesterday))
    assert "to send reports, set tlsrpt.organization" in command("report", "--cron").err


@pytest.mark.usefixtures("configure", "database")
def test_by_cron_trouble_that_may_pass_is_said_once_it_has_lasted_a_day(
    command: Command, tmp_path: Path
) -> None:
    stamp = tmp_path / "tlsrpt.db-cron-trouble"
    with lock(tmp_path / "tlsrpt.db"):
        for _ in range(2):
            assert command("report", "--cron") == Ran(status=75, out="", err="")
        yesterday = time.time() - 86400
        os.utime(stamp, (yesterday, yesterday))
        assert "another run is sending reports" in command("report", "--cron").err
        assert command("report", "--cron").err == ""
    assert command("report", "--cron") == Ran(status=0, out="", err="")
    assert not stamp.exists()


@pytest.mark.usefixtures("configure")
def test_by_cron_there_is_no_word_before_anything_is_counted(command: Command) -> None:
    assert command("report", "--cron") == Ran(status=0, out="", err="")


@pytest.mark.usefixtures("outbox")
def test_a_terminal_without_umlauts_gets_json_with_escapes(
    config: Path, configure: Configure, database: Path
) -> None:
    assert database.exists()
    configure(WHO.replace("Sender Inc", "Söhne \U0001f4e8"))
    command = [sys.executable, "-m", "postfix_mtasts", "report", "--print", "--config", str(config)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.isascii()
    assert json.loads(ran.stdout)["organization-name"] == "Söhne \U0001f4e8"


def read_only_to(database: Path, moment: float) -> None:
    """Let the one log that is followed be read up to *moment*."""
    store = SqliteTlsrptStore(database, clock=lambda: 0.0)
    store.follow(["log"])
    place = Place(position="1", read_to=moment)
    assert store.add(Counted(source="log", place=place)) is Written.DONE
    store.close()


@pytest.mark.usefixtures("configure")
def test_a_day_whose_log_is_not_read_waits_unless_told_not_to(
    command: Command, database: Path, dns: DnsServer, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks_for(dns, "example.com", "mailto:tlsrpt@example.com")
    read_only_to(database, day_start(TODAY) - 60.0)
    noon = day_start(TODAY) + 43200.0
    monkeypatch.setattr(time, "time", lambda: noon)
    assert command("report") == Ran(status=0, out="", err="")
    assert mails(outbox) == []
    assert "waits for the log to be read to the end of the day" in command("report", "--list").out
    ran = command("report", "--now")
    assert ran.status == 0
    assert f"the reports of {DATE} may lack sessions" in ran.err
    assert len(mails(outbox)) == 1


@pytest.mark.usefixtures("configure", "database")
def test_a_run_beside_another_leaves_it_the_work(command: Command, tmp_path: Path) -> None:
    with lock(tmp_path / "tlsrpt.db"):
        ran = command("report", "--now")
    assert ran.status == 75
    assert ran.err == "postfix-mtasts: another run is sending reports\n"


@pytest.mark.usefixtures("configure")
def test_a_database_that_cannot_be_used_is_to_be_tried_later(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "tlsrpt.db").write_bytes(b"garbage" * 1000)
    ran = command("report", "--now")
    assert ran.status == 75
    assert "tlsrpt.db: file is not a database" in ran.err


@pytest.mark.usefixtures("configure")
def test_two_runs_at_once_send_each_report_once(
    config: Path, database: Path, dns: DnsServer, outbox: Path
) -> None:
    names = [f"d{n}.example" for n in range(30)]
    store_counts(database, [(row(name, day=YESTERDAY), 1) for name in names])
    for name in names:
        asks_for(dns, name, f"mailto:tlsrpt@{name}")
    ends = [end(run) for run in [start(config, "--now") for _ in range(2)]]
    assert {ran.status for ran in ends} <= {0, 75}
    assert 0 in {ran.status for ran in ends}
    assert Counter(mail["To"] for mail in mails(outbox)) == dict.fromkeys(
        (f"tlsrpt@{name}" for name in names), 1
    )


@pytest.mark.usefixtures("configure", "database")
@pytest.mark.parametrize("taken", [False, True], ids=["before-it-was-taken", "after-it-was-taken"])
def test_a_report_outlives_a_crash(
    config: Path, dns: DnsServer, outbox: Path, tmp_path: Path, *, taken: bool
) -> None:
    asks_for(dns, "example.com", "mailto:tlsrpt@example.com")
    keep = 'cat > "$OUTBOX/$$.eml"'
    kill = "kill -9 $PPID"
    program = tmp_path / "bin" / "sendmail"
    write_sendmail(program, f"{keep}; {kill}" if taken else kill)
    assert end(start(config, "--now")).status == -signal.SIGKILL
    write_sendmail(program, keep)
    assert end(start(config, "--now")).status == 0
    assert end(start(config, "--now")).status == 0
    sent = mails(outbox)
    # Nobody can know whether the one that was taken was: it is repeated, and recognisable.
    assert len(sent) == (2 if taken else 1)
    assert len({mail["Message-ID"] for mail in sent}) == 1
    assert len({mail["Subject"] for mail in sent}) == 1


@pytest.mark.usefixtures("configure")
def test_what_was_sent_before_a_crash_is_not_sent_again(
    config: Path, database: Path, dns: DnsServer, outbox: Path, tmp_path: Path
) -> None:
    names = [f"d{n}.example" for n in range(8)]
    store_counts(database, [(row(name, day=YESTERDAY), 1) for name in names])
    for name in names:  # one address: so they are sent one after the other
        asks_for(dns, name, "mailto:all@provider.example")
    program = tmp_path / "bin" / "sendmail"
    keep = 'cat > "$OUTBOX/$$.eml"'
    write_sendmail(program, f'{keep}; [ "$(ls "$OUTBOX" | wc -l)" -lt 4 ] || kill -9 $PPID')
    assert end(start(config, "--now")).status == -signal.SIGKILL
    write_sendmail(program, keep)
    assert end(start(config, "--now")).status == 0
    times = Counter(mail["TLS-Report-Domain"] for mail in mails(outbox))
    assert sorted(times.values()) == [1] * 7 + [2]


@pytest.mark.usefixtures("configure")
def test_a_run_that_is_told_to_end_notes_what_it_has_sent(
    config: Path, database: Path, dns: DnsServer, outbox: Path, tmp_path: Path
) -> None:
    names = [f"d{n}.example" for n in range(5)]
    store_counts(database, [(row(name, day=YESTERDAY), 1) for name in names])
    for name in names:
        asks_for(dns, name, "mailto:all@provider.example")
    program = tmp_path / "bin" / "sendmail"
    keep = 'cat > "$OUTBOX/$$.eml"'
    write_sendmail(program, f"kill -TERM $PPID; sleep 0.2; {keep}")
    assert end(start(config, "--now")).status == 0
    assert len(mails(outbox)) == 1
    write_sendmail(program, keep)
    assert end(start(config, "--now")).status == 0
    assert sorted(mail["TLS-Report-Domain"] for mail in mails(outbox)) == names


@pytest.mark.usefixtures("configure", "database", "outbox")
def test_the_words_of_a_report_that_is_given_up_reach_the_operator(
    config: Path, dns: DnsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asks_for(dns, "example.com", "mailto:tlsrpt@example.com")
    write_sendmail(tmp_path / "bin" / "sendmail", "exit 69")
    assert main(["report", "--now", "--config", str(config)]) == 75
    with sqlite3.connect(tmp_path / "tlsrpt.db") as connection:
        connection.execute("UPDATE reports SET first_try = first_try - 86400")
    connection.close()
    assert main(["report", "--now", "--config", str(config)]) == 1
    said = capsys.readouterr().err
    assert f"{DATE}.example.com@sender.example to mailto:tlsrpt@example.com: given up" in said
    assert "exit status 69" in said


@pytest.mark.usefixtures("configure")
def test_on_a_terminal_it_shows_how_far_it_is_and_what_came_of_it(
    config: Path, database: Path, dns: DnsServer, outbox: Path
) -> None:
    names = [f"d{n}.example" for n in range(10)]
    store_counts(database, [(row(name, day=YESTERDAY), 1) for name in names])
    for name in names:
        asks_for(dns, name, f"mailto:tlsrpt@{name}")
    terminal, line = pty.openpty()
    command = [sys.executable, "-m", "postfix_mtasts", "report", "--now", "--config", str(config)]
    ran = subprocess.run(command, stderr=line, check=False, timeout=STUCK_SECONDS)
    os.close(line)
    said = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert ran.returncode == 0
    assert re.search(r"\[#+\.+\] 5/10", said)
    assert said.splitlines()[-1].endswith("10 reports sent")
    assert len(mails(outbox)) == 10

"""Report mail handed to a real SMTP server and to a sendmail that is a script."""

import asyncio
import json
import os
import socket
import ssl
from pathlib import Path

import pytest

from postfix_mtasts.adapters.mailer import SystemMailer, find_sendmail
from postfix_mtasts.core.endpoints import MailRoute
from postfix_mtasts.core.tlsrpt_record import Address, parse_addresses
from postfix_mtasts.ports import Refused
from tests.adapters.https_server import Authority, deaf_port
from tests.adapters.smtp_server import SmtpServer, Taken

SENDER = "tls@sender.example"
MESSAGE = b"Subject: x\r\n\r\none\r\n.\r\n..two\r\n"
RECIPIENT = Address(local="tlsrpt", domain="example.com")
SENDMAIL = MailRoute(kind="sendmail")


def send(
    route: MailRoute,
    recipient: Address = RECIPIENT,
    message: bytes = MESSAGE,
    seconds: float = 20.0,
) -> Refused | None:
    async def sending() -> Refused | None:
        mailer = SystemMailer(route, seconds=seconds)
        try:
            return await mailer.send(message, sender=SENDER, recipient=recipient)
        finally:
            await mailer.close()

    return asyncio.run(sending())


def smtp(server: SmtpServer) -> MailRoute:
    return MailRoute(kind="smtp", host="127.0.0.1", port=server.port)


@pytest.fixture(name="program")
def make_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sendmail that writes down its words and what it reads."""
    program = tmp_path / "bin" / "sendmail"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    script(
        program,
        "import json, sys\n"
        f"open({str(tmp_path / 'words')!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
        f"open({str(tmp_path / 'input')!r}, 'wb').write(sys.stdin.buffer.read())\n",
    )
    return program


def script(program: Path, body: str) -> None:
    program.write_text(f"#!/usr/bin/env python3\n{body}")
    program.chmod(0o755)


def test_smtp_hands_over_the_message_as_it_is() -> None:
    with SmtpServer() as server:
        assert send(smtp(server)) is None
    recipients = ("tlsrpt@example.com",)
    assert server.messages == [Taken(sender=SENDER, recipients=recipients, data=MESSAGE)]


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ({"MAIL": "451 4.3.0 no\x1b[2J disk"}, "451 4.3.0 no?[2J disk"),
        ({"RCPT": "550 5.1.1 No such user"}, "550 5.1.1 No such user"),
        ({"DATA": "554 5.7.1 Spam"}, "554 5.7.1 Spam"),
        ({"END": "452 4.3.1 Full"}, "452 4.3.1 Full"),
        ({"EHLO": "", "HELO": ""}, "connection closed before the answer was complete"),
    ],
    ids=["sender", "recipient", "data", "end", "hangs-up"],
)
def test_what_smtp_refuses_is_told_in_one_line(says: dict[str, str], why: str) -> None:
    with SmtpServer(says) as server:
        assert send(smtp(server)) == Refused(why=f"smtp://127.0.0.1:{server.port}: {why}")


def test_a_local_part_outside_ascii_asks_for_smtputf8() -> None:
    [recipient] = parse_addresses("mailto:%C3%BC@example.com")
    with SmtpServer(offers=("SMTPUTF8", "8BITMIME")) as server:
        assert send(smtp(server), recipient, "To: ü@example.com\r\n\r\n".encode()) is None
    assert server.messages[0].recipients == ("ü@example.com",)
    assert "SMTPUTF8" in next(line for line in server.lines if line.startswith("mail"))


def test_a_server_without_smtputf8_is_told_apart() -> None:
    [recipient] = parse_addresses("mailto:%C3%BC@example.com")
    with SmtpServer() as server:
        refused = send(smtp(server), recipient)
    assert refused is not None
    assert refused.why.endswith("does not know SMTPUTF8, which ü@example.com needs")


def test_no_smtp_server_is_a_refusal_like_any_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    refused = send(MailRoute(kind="smtp", host="127.0.0.1", port=port))
    assert refused == Refused(why=f"smtp://127.0.0.1:{port}: connection refused")


def test_a_server_that_never_answers_is_left_alone() -> None:
    with deaf_port() as port:
        refused = send(MailRoute(kind="smtp", host="127.0.0.1", port=port), seconds=0.2)
    assert refused == Refused(why=f"smtp://127.0.0.1:{port}: no answer in time")


def test_sendmail_gets_sender_recipient_and_message(program: Path, tmp_path: Path) -> None:
    assert find_sendmail() == str(program)
    assert send(SENDMAIL) is None
    words = json.loads((tmp_path / "words").read_text())
    assert words == ["-i", "-f", SENDER, "--", "tlsrpt@example.com"]
    assert (tmp_path / "input").read_bytes() == b"Subject: x\n\none\n.\n..two\n"


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("mailto:-oQ/tmp@example.com", "-oQ/tmp@example.com"),
        ("mailto:$(reboot)@example.com", '"$(reboot)"@example.com'),
        ("mailto:a%2Cb@example.com", '"a,b"@example.com'),
        ("mailto:%7Creboot@example.com", "|reboot@example.com"),
    ],
    ids=["option", "shell", "comma", "pipe"],
)
def test_a_stranger_s_recipient_is_one_word_and_no_option(
    uri: str, word: str, tmp_path: Path
) -> None:
    [recipient] = parse_addresses(uri)
    assert send(SENDMAIL, recipient) is None
    assert json.loads((tmp_path / "words").read_text())[3:] == ["--", word]


def test_sendmail_says_why_it_failed(program: Path) -> None:
    script(program, "import sys; print('fatal:', 'x' * 999); sys.exit(75)")
    refused = send(SENDMAIL)
    assert refused is not None
    assert refused.why.startswith(f"{program}: exit status 75: fatal: xxx")
    assert len(refused.why) < 500


def test_a_sendmail_that_hangs_is_ended(program: Path) -> None:
    script(program, "import time; time.sleep(60)")
    assert send(SENDMAIL, seconds=0.3) == Refused(why=f"{program}: no answer in time")


def test_a_sendmail_that_does_not_read_is_judged_by_its_status(program: Path) -> None:
    script(program, "import sys; sys.exit(0)")
    assert send(SENDMAIL, message=b"x" * 1_000_000) is None


def test_a_program_that_cannot_be_run_is_a_refusal(program: Path) -> None:
    program.write_text("#!/nowhere\n")
    assert send(SENDMAIL) == Refused(why=f"{program}: no such file or directory")


def test_no_sendmail_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("postfix_mtasts.adapters.mailer._FOLDERS", "/nowhere")
    refused = send(SENDMAIL)
    assert refused == Refused(why="there is no sendmail program in PATH nor in /usr/sbin")


def test_tls_is_used_where_it_is_offered_whatever_the_certificate(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(Authority(tmp_path).self_signed("relay.example"))
    with SmtpServer(offers=("STARTTLS",), tls=tls) as server:
        assert send(smtp(server)) is None
    assert [taken.data for taken in server.messages] == [MESSAGE]
    verbs = [line.partition(" ")[0].upper() for line in server.lines]
    assert verbs[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


def test_tls_that_is_offered_and_fails_is_a_refusal() -> None:
    with SmtpServer(offers=("STARTTLS",), says={"STARTTLS": "454 4.7.0 no TLS now"}) as server:
        refused = send(smtp(server))
    assert refused is not None
    assert refused.why.endswith("454 4.7.0 no TLS now")
    assert server.messages == []

"""The mail of a report as receivers read it, and the fields of the POST."""

import gzip
import re
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from postfix_mtasts.core.report_mail import (
    SIGNED_FIELDS,
    build_post_fields,
    build_report_mail,
    is_accepted,
)
from postfix_mtasts.core.tlsrpt_record import Address
from postfix_mtasts.core.tlsrpt_report import (
    Document,
    Heading,
    build_document,
    build_heading,
    parse_reporter,
)
from postfix_mtasts.core.utc import parse_date
from tests.core.vectors import Case, parameters

REPORTER = parse_reporter(
    organization="Sender Inc",
    contact="tls-reports@sender.example",
    sender="noreply@mx.sender.example",
)
HEADING = build_heading(REPORTER, "example.com", parse_date("2026-08-01"))
REPORT = b'{"policies":[]}' * 50
DOCUMENT = build_document(HEADING, REPORT)
TO = Address(local="tlsrpt", domain="example.com")
NOW = 1785549600.0


def mail(
    heading: Heading = HEADING,
    document: Document = DOCUMENT,
    recipient: Address = TO,
    now: float = NOW,
) -> bytes:
    return build_report_mail(heading, document, recipient, now=now)


def parsed(data: bytes) -> EmailMessage:
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def unfolded(data: bytes) -> dict[str, str]:
    """Return the header fields as a receiver has them who takes out every fold."""
    head = data.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").decode()
    return dict(line.split(": ", 1) for line in head.split("\r\n"))


@pytest.mark.parametrize(
    "case", [p for p in parameters("tlsrpt_report") if "email" in p.values[0].input]
)
def test_the_mail_is_as_the_vector_says(case: Case) -> None:
    given, expected = case.input["email"], case.accepted[0]
    reporter = parse_reporter(
        organization="x", contact=f"a@{given['submitter']}", sender=f"a@{given['submitter']}"
    )
    heading = build_heading(reporter, given["policy-domain"], 0)
    heading = replace(heading, report_id=given["report-id"])
    document = build_document(heading, b"{}", compress=given["gzip"])
    data = mail(heading, document)
    message = parsed(data)
    assert message.get_content_type() == expected["content-type"]
    assert message.get_param("report-type") == expected["report-type"]
    assert [part.get_content_type() for part in message.iter_parts()] == expected["parts"]
    for name, value in expected["headers"].items():
        assert message.get_all(name) == [value], case.why
    assert unfolded(data)["Subject"] == expected["subject"]


def test_the_header_is_what_a_receiver_looks_for_and_nothing_else() -> None:
    fields = unfolded(mail())
    assert fields | {"Content-Type": "", "Message-ID": ""} == {
        "From": "noreply@mx.sender.example",
        "To": "tlsrpt@example.com",
        "Date": "Sat, 01 Aug 2026 02:00:00 +0000",
        "Message-ID": "",
        "Subject": "Report Domain: example.com Submitter: sender.example "
        "Report-ID: <2026-08-01.example.com@sender.example>",
        "TLS-Report-Domain": "example.com",
        "TLS-Report-Submitter": "sender.example",
        "TLS-Required": "No",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": "",
    }
    assert fields["Content-Type"].startswith('multipart/report; report-type="tlsrpt"; boundary="')
    assert re.fullmatch(r"<[0-9a-f]{32}\.tlsrpt@sender\.example>", fields["Message-ID"])


def test_the_report_type_stands_directly_behind_multipart_report() -> None:
    assert b'\r\nContent-Type: multipart/report; report-type="tlsrpt";\r\n boundary="' in mail()


def test_a_signature_should_cover_every_field_there_is() -> None:
    assert set(SIGNED_FIELDS) == set(unfolded(mail()))


def test_the_first_part_is_words_and_the_second_the_report_under_its_name() -> None:
    words, report = parsed(mail()).iter_parts()
    text = words.get_content()
    for told in ("Sender Inc", "example.com", "2026-08-01", HEADING.report_id, REPORTER.contact):
        assert told in text
    assert report.get_content_type() == "application/tlsrpt+gzip"
    assert report.get_content_disposition() == "attachment"
    assert report.get_filename() == report.get_param("name") == DOCUMENT.name
    content = report.get_payload(decode=True)
    assert isinstance(content, bytes)
    assert gzip.decompress(content) == REPORT


def test_an_empty_document_and_one_that_ends_a_line_exactly_arrive_whole() -> None:
    for size in (0, 1, 56, 57, 58, 114):
        document = Document(name="x.json", media_type="application/tlsrpt+json", data=b"x" * size)
        _, report = parsed(mail(document=document)).iter_parts()
        assert report.get_payload(decode=True) == b"x" * size


def test_words_beyond_ascii_travel_as_ascii() -> None:
    reporter = replace(REPORTER, organization="Müller 🙂 = GmbH")
    data = mail(replace(HEADING, reporter=reporter))
    assert data.isascii()
    words, _ = parsed(data).iter_parts()
    assert "Müller 🙂 = GmbH" in words.get_content()


def test_the_same_arguments_give_the_same_octets_and_others_another_message_id() -> None:
    assert mail() == mail()
    ids = {
        unfolded(data)["Message-ID"]
        for data in (
            mail(),
            mail(now=NOW + 1),
            mail(recipient=Address(local="other", domain="example.com")),
            mail(build_heading(REPORTER, "example.com", HEADING.day + 1)),
            mail(build_heading(REPORTER, "example.net", HEADING.day)),
        )
    }
    assert len(ids) == 4


def test_the_longest_names_break_no_limit() -> None:
    name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    reporter = parse_reporter(
        organization="x" * 200, contact="l" * 64 + "@" + name, sender="l" * 64 + "@" + name
    )
    heading = build_heading(reporter, name, HEADING.day)
    recipient = Address(local="r" * 64, domain=name)
    data = mail(heading, build_document(heading, REPORT), recipient)
    lines = data.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    message = parsed(data)
    assert [address.addr_spec for address in message["To"].addresses] == [str(recipient)]
    *_, report = message.iter_parts()
    assert report.get_filename() == build_document(heading, REPORT).name


def test_a_local_part_beyond_ascii_is_utf_8() -> None:
    data = mail(recipient=Address(local="é", domain="example.com"))
    assert "\r\nTo: é@example.com\r\n".encode() in data


def test_lines_end_in_cr_lf_and_nowhere_else() -> None:
    data = mail()
    assert data.endswith(b"--\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", data)


def test_a_post_says_its_media_type_and_no_content_encoding() -> None:
    assert build_post_fields(DOCUMENT) == (("Content-Type", "application/tlsrpt+gzip"),)
    plain = build_document(HEADING, REPORT, compress=False)
    assert build_post_fields(plain) == (("Content-Type", "application/tlsrpt+json"),)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_alone_is_success(status: int) -> None:
    assert is_accepted(status)


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 307, 400, 404, 429, 500, 503])
def test_anything_else_is_not(status: int) -> None:
    assert not is_accepted(status)

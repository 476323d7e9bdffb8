"""Whether reports can be sent and answered."""

import pytest

from postfix_mtasts.core.diagnosis import Grade
from postfix_mtasts.core.report_diagnosis import (
    Dkim,
    Mailbox,
    diagnose_dkim,
    diagnose_mailboxes,
    diagnose_settings,
)

CONFIG = "/etc/x.yaml"
NAME = "s1._domainkey.example.com"
ALL = {"organization": "Example", "contact": "a@example.com", "sender": "b@example.com"}


def test_three_settings_are_all_that_reports_need() -> None:
    said = diagnose_settings(ALL, CONFIG)
    assert (said.grade, said.text) == (Grade.OK, "sent by Example, from b@example.com")


def test_each_missing_setting_is_named_with_an_example() -> None:
    said = diagnose_settings(ALL | {"contact": None, "sender": None}, CONFIG)
    assert said.grade is Grade.WARNING
    assert "tlsrpt.contact, tlsrpt.sender not set" in said.text
    assert said.mend == (
        f'# in {CONFIG}, under tlsrpt: contact: "postmaster@example.com";'
        ' sender: "tls-reports@example.com"'
    )


def test_addresses_that_take_mail_need_no_line() -> None:
    assert diagnose_mailboxes([Mailbox(key="contact", address="a@b.example")], CONFIG) == ()


def test_an_address_that_takes_none_is_to_be_changed_and_one_unknown_is_a_note() -> None:
    boxes = [
        Mailbox(key="contact", address="a@b.example", refused="null MX"),
        Mailbox(key="sender", address="c@d.example", untold="no answer"),
    ]
    bad, unknown = diagnose_mailboxes(boxes, CONFIG)
    assert (bad.grade, unknown.grade) == (Grade.WARNING, Grade.NOTE)
    assert bad.mend == f"# in {CONFIG}: set tlsrpt.contact to an address that does"


@pytest.mark.parametrize(
    ("dkim", "grade", "mend"),
    [
        (Dkim(name=NAME, key_file="/k"), Grade.OK, ""),
        (
            Dkim(name=NAME, key_file="/k", key_problem="no key"),
            Grade.WARNING,
            "correct tlsrpt.dkim",
        ),
        (Dkim(name=NAME, key_file="/k", untold="no answer"), Grade.NOTE, ""),
        (
            Dkim(name=NAME, key_file="/my key", record_problem="other key"),
            Grade.WARNING,
            "openssl rsa -in '/my key' -pubout",
        ),
    ],
)
def test_the_published_key_must_be_that_of_the_file(dkim: Dkim, grade: Grade, mend: str) -> None:
    said = diagnose_dkim(dkim, CONFIG)
    assert (said.grade, mend in said.mend) == (grade, True)

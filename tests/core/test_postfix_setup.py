"""What postconf prints of an instance, read."""

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.postfix_setup import Setup, parse_clients, parse_settings, parse_version

FIELDS = """\
smtp/unix/chroot = y
smtp/unix/command = smtp
relay/unix/chroot = n
relay/unix/command = smtp -o syslog_name=postfix/$service_name
lmtp/unix/chroot = y
lmtp/unix/command = lmtp
odd/unix/chroot = y
empty/unix/command =
a line of a later Postfix
a/b/unix/chroot = -
a/b/unix/command = smtp
"""
OVERRIDES = """\
relay/unix/smtp_tls_policy_maps =
relay/unix/syslog_name = postfix/$service_name
smtp/inet/syslog_name = x
"""


@pytest.mark.parametrize(
    ("text", "release"),
    [("3.7.11", (3, 7)), ("3.10.0", (3, 10)), ("3.12-20260821-nonprod", (3, 12)), ("3.4", (3, 4))],
)
def test_releases_and_snapshots_are_of_a_version(text: str, release: tuple[int, int]) -> None:
    assert parse_version(text) == release


@pytest.mark.parametrize("text", ["", "3", "3.x", "3.12345", "three", "3.7 x"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="no version of Postfix"):
        parse_version(text)


def test_settings_are_read_and_other_lines_passed_over() -> None:
    text = "a = b = c\nempty =\nalso = \npostconf: warning: x\n\nb=c\n"
    assert parse_settings(text) == {"a": "b = c", "empty": "", "also": ""}


def test_smtp_clients_are_found_with_their_chroot_and_their_own_settings() -> None:
    smtp, relay, other = parse_clients(FIELDS, OVERRIDES, "3.6")
    assert (smtp.name, smtp.chroot, smtp.overrides) == ("smtp", True, {})
    assert (relay.name, relay.chroot) == ("relay", False)
    assert relay.overrides == {
        "smtp_tls_policy_maps": "",
        "syslog_name": "postfix/$service_name",
    }
    assert other.name == "a/b"


@pytest.mark.parametrize(
    ("compatibility", "chroot"),
    [("0", True), ("1", False), ("3.6", False), ("2", False), ("", False)],
)
def test_a_dash_is_a_chroot_only_at_compatibility_level_0(
    compatibility: str, *, chroot: bool
) -> None:
    (client,) = parse_clients("smtp/unix/chroot = -\nsmtp/unix/command = smtp", "", compatibility)
    assert client.chroot is chroot


def test_a_setup_answers_for_its_settings() -> None:
    setup = Setup(
        folder="/etc/postfix",
        version="3.10.2",
        settings={"queue_directory": "/q"},
        written={},
        clients=parse_clients("smtp/unix/chroot = y\nsmtp/unix/command = smtp", "", "3.6"),
    )
    assert setup.release == (3, 10)
    assert setup.queue_directory == "/q"
    assert not setup.setting("unheard_of")
    assert setup.has_chroots

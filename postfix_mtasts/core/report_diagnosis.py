"""Whether reports can be sent, and those who get them can write back (RFC 8460 section 5.3).

A report wants a name and an address to ask, leaves from an address that takes mail,
and carries a DKIM signature of its submitter's domain, whose key should be marked
for reports, "s=tlsrpt" (section 3).
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from postfix_mtasts.core.diagnosis import Diagnosis, note, ok, warning

SUBJECT = "reports"

_EXAMPLES = {
    "organization": '"Example GmbH"',
    "contact": '"postmaster@example.com"',
    "sender": '"tls-reports@example.com"',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """An address of the configuration, *key*; *refused*: why no mail gets there, "" if it does.

    *untold*: DNS could not tell, for that reason.
    """

    key: str
    address: str
    refused: str = ""
    untold: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dkim:
    """The key in *key_file*, which signs here.

    *name*: of the TXT record.  *key_problem*: why the file cannot be used.
    *record_problem*: why the record does not verify what the key signs; *untold*: DNS
    could not tell.
    """

    name: str
    key_file: str
    key_problem: str = ""
    record_problem: str = ""
    untold: str = ""


def diagnose_settings(settings: Mapping[str, str | None], config: str) -> Diagnosis:
    """Return whether *settings*, the keys of ``tlsrpt`` that a report needs, are all there.

    *config*: the file in which to set them.
    """
    missing = [key for key in _EXAMPLES if not settings.get(key)]
    if not missing:
        return ok(SUBJECT, f"sent by {settings['organization']}, from {settings['sender']}")
    lines = "; ".join(f"{key}: {_EXAMPLES[key]}" for key in missing)
    text = f"none is sent: tlsrpt.{', tlsrpt.'.join(missing)} not set"
    return warning(SUBJECT, text, f"# in {config}, under tlsrpt: {lines}")


def diagnose_mailboxes(mailboxes: Sequence[Mailbox], config: str) -> tuple[Diagnosis, ...]:
    """Return which of *mailboxes* take no mail."""
    return tuple(_mailbox(box, config) for box in mailboxes if box.refused or box.untold)


def _mailbox(box: Mailbox, config: str) -> Diagnosis:
    if not box.refused:
        return note(SUBJECT, f"whether {box.address} takes mail is not known: {box.untold}")
    text = f"{box.address} takes no mail: {box.refused}"
    return warning(SUBJECT, text, f"# in {config}: set tlsrpt.{box.key} to an address that does")


def diagnose_dkim(dkim: Dkim, config: str) -> Diagnosis:
    """Return what is to be said of the key that signs reports."""
    subject = "DKIM"
    if dkim.key_problem:
        return warning(subject, dkim.key_problem, f"# in {config}: correct tlsrpt.dkim")
    if dkim.untold:
        return note(subject, f"whether the key is published is not known: {dkim.untold}")
    if dkim.record_problem:
        text = f"{dkim.name}: {dkim.record_problem}; reports are not believed"
        return warning(subject, text, _show_key(dkim))
    return ok(subject, f"{dkim.name} verifies what the key signs")


def _show_key(dkim: Dkim) -> str:
    """Return the line for a shell that prints what to publish."""
    key = shlex.join(["openssl", "rsa", "-in", dkim.key_file, "-pubout", "-outform", "der"])
    return f'{key} | base64 -w0  # is KEY: publish {dkim.name}. TXT "v=DKIM1; s=tlsrpt; p=KEY"'

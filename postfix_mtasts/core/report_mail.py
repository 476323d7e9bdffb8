"""The mail that carries a report (RFC 8460 section 5.3), and the POST (section 5.4).

The mail is a multipart/report of two parts: some words for a person who opens
it, and the report, compressed.  Receivers find out what it is from the header
fields TLS-Report-Domain and TLS-Report-Submitter and from the Subject.

It asks to be delivered even where TLS fails, for of such failures it tells:
"TLS-Required: No" (RFC 8689 section 5).  It must be signed by DKIM with the
submitter's domain, without "l="; `SIGNED_FIELDS` are what to sign.  Nobody is to
answer it: "Auto-Submitted: auto-generated" (RFC 3834 section 5).

Whatever stands in a header field comes out of a parser that lets through no
spaces and no control characters, and the one text that does not, the name of
the organization, stands in the body alone.  The same arguments always give the
same octets, the boundary and the Message-ID included.

Each recipient gets a mail of its own, for each is a destination with its own tries.
The mail ends its lines in CR LF, none longer than 998 octets (RFC 5322 section
2.1.1).  It is ASCII, except that the recipient may have a local part that is not;
such a mail needs SMTPUTF8, as its recipient does (RFC 6532).
"""

import quopri
from base64 import encodebytes
from hashlib import sha256

from postfix_mtasts.core.tlsrpt_record import Address
from postfix_mtasts.core.tlsrpt_report import Document, Heading
from postfix_mtasts.core.utc import build_date, build_rfc5322

SIGNED_FIELDS = (
    *("From", "To", "Date", "Message-ID", "Subject", "MIME-Version", "Content-Type"),
    *("TLS-Report-Domain", "TLS-Report-Submitter", "TLS-Required", "Auto-Submitted"),
)
"""The header fields that a DKIM signature should cover (sections 3 and 5.3)."""

_CRLF = "\r\n"
_FOLD = "\r\n "
_NOTE = """\
This is a TLS report from {organization} ({submitter}).

It tells how TLS went when mail was sent to {domain} on {date} (UTC).
The attached file holds the report as RFC 8460 describes it:
{name}

Report-ID: {report_id}
Contact: {contact}
"""


def build_report_mail(
    heading: Heading, document: Document, recipient: Address, *, now: float
) -> bytes:
    """Return the mail that takes *document* to *recipient*.

    *now*: seconds since the epoch, for the Date.
    """
    boundary = f"=_{_digest(heading, recipient)[:32]}"
    lines = (
        *_header(heading, recipient, now),
        'Content-Type: multipart/report; report-type="tlsrpt";' + _FOLD + f'boundary="{boundary}"',
        "",
        f"--{boundary}",
        *_note(heading, document),
        f"--{boundary}",
        *_attachment(document),
        f"--{boundary}--",
        "",
    )
    return _CRLF.join(lines).encode()


def build_post_fields(document: Document) -> tuple[tuple[str, str], ...]:
    """Return the header fields of the HTTPS request that posts *document*.

    The media type says that it is compressed, so there is no Content-Encoding
    (section 5.4), which a server would undo.
    """
    return (("Content-Type", document.media_type),)


def is_accepted(status: int) -> bool:
    """Return whether an HTTPS *status* says that the report was taken: 2xx alone."""
    return 200 <= status < 300  # noqa: PLR2004 - RFC 9110 section 15.3


def _header(heading: Heading, recipient: Address, now: float) -> tuple[str, ...]:
    domain, submitter = heading.domain, heading.reporter.domain
    subject = (f"Report Domain: {domain}", f"Submitter: {submitter}")
    message_id = f"{_digest(heading, recipient)[32:]}.tlsrpt@{submitter}"
    return (
        f"From: {heading.reporter.sender}",
        f"To: {recipient}",
        f"Date: {build_rfc5322(now)}",
        f"Message-ID:{_FOLD}<{message_id}>",
        "Subject: " + _FOLD.join((*subject, f"Report-ID: <{heading.report_id}>")),
        f"TLS-Report-Domain: {domain}",
        f"TLS-Report-Submitter: {submitter}",
        "TLS-Required: No",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
    )


def _digest(heading: Heading, recipient: Address) -> str:
    """Return 64 digits that another mail does not have: of this report to *recipient*."""
    return sha256(f"{heading.report_id}\n{recipient}".encode()).hexdigest()


def _note(heading: Heading, document: Document) -> tuple[str, ...]:
    reporter = heading.reporter
    note = _NOTE.format(
        organization=reporter.organization,
        submitter=reporter.domain,
        domain=heading.domain,
        date=build_date(heading.day),
        name=document.name,
        report_id=heading.report_id,
        contact=reporter.contact,
    )
    return (
        'Content-Type: text/plain; charset="utf-8"',
        "Content-Transfer-Encoding: quoted-printable",
        "",
        *quopri.encodestring(note.encode()).decode("ascii").split("\n"),
    )


def _attachment(document: Document) -> tuple[str, ...]:
    return (
        f'Content-Type: {document.media_type};{_FOLD}name="{document.name}"',
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment;{_FOLD}filename="{document.name}"',
        "",
        *encodebytes(document.data).decode("ascii").split("\n")[:-1],
    )

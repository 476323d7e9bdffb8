"""A mail client that hands mail in at one of the host's ports (RFC 8314, RFC 6409)."""

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.auth_server import PASSWORD, USER

SMTP, SUBMISSIONS, SUBMISSION = 25, 465, 587


@contextmanager
def connection(
    port: int, authority: Path, *, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
) -> Iterator[smtplib.SMTP]:
    """Connect to *port*, over TLS of no version newer than *newest*."""
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False  # the certificate names mail.test, which is not in DNS
    if newest is not ssl.TLSVersion.MAXIMUM_SUPPORTED:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = newest
        context.maximum_version = newest
    if port == SUBMISSIONS:
        client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=10)
    else:
        client = smtplib.SMTP("127.0.0.1", port, timeout=10)
    with client:
        if port != SUBMISSIONS:
            client.starttls(context=context)
        client.ehlo()
        yield client


def hand_in(
    port: int,
    authority: Path,
    recipient: str,
    *,
    header: str = "",
    options: Sequence[str] = (),
    password: str = PASSWORD,
) -> str:
    """Log in, hand in a message for *recipient* and return its queue id.

    *header*: lines of the header, each ended by CR LF.  *options*: of the MAIL
    command.  *password*: "" for none.
    """
    with connection(port, authority) as client:
        if password:
            client.login(USER, password)
        client.mail(USER, options)
        code, reply = client.rcpt(recipient)
        if code != 250:
            raise smtplib.SMTPResponseException(code, reply)
        code, reply = client.data(f"From: {USER}\r\n{header}\r\nHello.\r\n".encode())
    assert code == 250, reply
    return reply.decode().rpartition(" ")[2]

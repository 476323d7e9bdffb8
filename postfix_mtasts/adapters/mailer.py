"""Report mail handed to a mail server: by sendmail(1), or over SMTP (RFC 8460 section 5.3).

Both make the local mail server responsible, whose business it then is to deliver
or to bounce.  A program or server that does not answer in time is left alone:
it may have taken the message all the same, and the next try is then its second,
with the same Message-ID and Report-ID.

A recipient comes from a stranger's DNS record.  To sendmail it is an argument
behind "--", never words for a shell; what may stand in it is for
`tlsrpt_record.parse_addresses` to say.

SMTP is for a relay on this host or this network: STARTTLS is used where it is
offered, whatever the certificate, and a relay that does not offer it gets the mail
in the clear.  What was offered and fails is a refusal, never a reason to go on in
the clear.

BUGS: There is no AUTH.
"""

import asyncio
import os
import shutil
import smtplib
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor

from postfix_mtasts.adapters.line import words_of
from postfix_mtasts.core.endpoints import MailRoute
from postfix_mtasts.core.tlsrpt_record import Address
from postfix_mtasts.ports import Refused

SECONDS = 60.0
"""So long sendmail, or each answer of an SMTP server, may take."""

MAX_WORDS = 300
"""No more characters of what the other side says are kept."""

# Where sendmail lies, which is seldom in the PATH of cron.
_FOLDERS = "/usr/sbin:/usr/lib:/usr/local/sbin:/sbin"


class SystemMailer:
    """The `postfix_mtasts.ports.Mailer` of the real world, along *route*.

    *at_once*: programs or connections at one time.  *seconds*: see `SECONDS`.
    """

    def __init__(self, route: MailRoute, at_once: int = 16, *, seconds: float = SECONDS) -> None:
        self._route = route
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="mail")

    async def send(self, message: bytes, *, sender: str, recipient: Address) -> Refused | None:
        """Hand *message*, with CR LF, over; `None` once the mail server answers for it."""
        way = self._by_sendmail if self._route.kind == "sendmail" else self._by_smtp
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, way, message, sender, recipient)

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.to_thread(self._threads.shutdown)

    def _by_sendmail(self, message: bytes, sender: str, recipient: Address) -> Refused | None:
        program = find_sendmail()
        if program is None:
            return Refused(why="there is no sendmail program in PATH nor in /usr/sbin")
        # "-i": a line with a lone dot does not end the message.
        words = [program, "-i", "-f", sender, "--", str(recipient)]
        try:
            ended = subprocess.run(  # noqa: S603 - no shell, and nothing before "--" is a stranger's
                words,
                input=message.replace(b"\r\n", b"\n"),  # as programs of this system have it
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self._seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Refused(why=f"{program}: no answer in time")
        except OSError as error:
            return Refused(why=f"{program}: {words_of(error)}")
        if ended.returncode == os.EX_OK:
            return None
        said = _one_line(ended.stdout)
        return Refused(why=f"{program}: exit status {ended.returncode}{said and f': {said}'}")

    def _by_smtp(self, message: bytes, sender: str, recipient: Address) -> Refused | None:
        where = f"smtp://{self._route.host}:{self._route.port}"
        options = () if recipient.local.isascii() else ("SMTPUTF8", "BODY=8BITMIME")
        try:
            with smtplib.SMTP(
                self._route.host,
                self._route.port,
                local_hostname=socket.gethostname(),  # else smtplib asks DNS
                timeout=self._seconds,
            ) as server:
                server.ehlo_or_helo_if_needed()
                if server.has_extn("starttls"):
                    server.starttls(context=_any_certificate())
                server.sendmail(sender, [str(recipient)], message, mail_options=options)
        except OSError as error:  # smtplib's own are, too
            return Refused(why=f"{where}: {_words(error, recipient)}")
        return None


def _words(error: OSError, recipient: Address) -> str:
    """Return what went wrong in a conversation with an SMTP server."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            code, said = error.recipients[str(recipient)]
            return f"{code} {_one_line(said)}"
        case smtplib.SMTPResponseException():
            return f"{error.smtp_code} {_one_line(error.smtp_error)}"
        case smtplib.SMTPNotSupportedError():
            return f"does not know SMTPUTF8, which {recipient} needs"
        case smtplib.SMTPServerDisconnected():
            return "connection closed before the answer was complete"
        case ssl.SSLError():
            return f"TLS failed: {(error.reason or 'unknown').replace('_', ' ').lower()}"
    return words_of(error)


def _any_certificate() -> ssl.SSLContext:
    """Return a context that is content with any certificate, as Postfix is at level "may"."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def find_sendmail() -> str | None:
    """Return the path of the sendmail program, `None` where there is none."""
    return shutil.which("sendmail", path=f"{os.environ.get('PATH', os.defpath)}:{_FOLDERS}")


def _one_line(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    words = " ".join(text.split())[:MAX_WORDS]
    return "".join(c if c.isprintable() else "?" for c in words)

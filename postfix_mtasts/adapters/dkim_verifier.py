"""Whether a published key verifies what ours signs, found out as a receiver does.

A sample is signed, and verified by the record (RFC 6376 section 6.1).  The service
types, if the record names any, must be for reports: "tlsrpt", or every one, "*"
(RFC 8460 section 3).
"""

import importlib
import logging
import re
from collections.abc import Sequence

from postfix_mtasts.adapters.dkim_signer import DkimSigner

_SAMPLE = b"From: a@example.com\r\nSubject: sample\r\n\r\nsample\r\n"
_SERVICES = re.compile(rb"(?:^|;)[ \t\r\n]*s[ \t\r\n]*=([^;]*)")  # RFC 6376 section 3.6.1

_quiet = logging.getLogger(f"{__name__}.dkim")
_quiet.disabled = True


def record_problem(signer: DkimSigner, records: Sequence[bytes]) -> str:
    """Return why *records*, those of one name, do not verify what *signer* signs; "" if they do."""
    if not records:
        return "it is not published"
    if len(records) > 1:
        return f"there are {len(records)} TXT records, and receivers take any of them"
    services = _SERVICES.search(records[0])
    if services and not {b"tlsrpt", b"*"} & set(services[1].replace(b":", b" ").split()):
        return "it is not for reports (s=tlsrpt)"
    dkim = importlib.import_module("dkim")
    signed = signer(_SAMPLE)
    good = dkim.verify(signed, logger=_quiet, dnsfunc=lambda *_, **__: records[0], tlsrpt=True)
    return "" if good else "the key there is not that of the key file"

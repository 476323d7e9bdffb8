"""A mail log as a busy server writes it, made of itself: any number of lines, no repetition.

A third of the lines are smtp(8)'s, one delivery being a line on TLS and the
delivery line; now and then a certificate does not pass, an MX host has no
STARTTLS, a message has two recipients.  The others are what comes in: smtpd,
cleanup, qmgr, postscreen, dovecot and a milter.
"""

import random
from collections.abc import Iterator

_CIPHER = (
    b"TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange x25519"
    b" server-signature ECDSA (prime256v1) server-digest SHA256"
)
_FOREIGN = (
    b"postfix/smtpd[%(pid)d]: connect from mail.client%(n)d.example[198.51.100.%(o)d]",
    b"postfix/smtpd[%(pid)d]: %(id)s: client=mail.client%(n)d.example[198.51.100.%(o)d]",
    b"postfix/cleanup[%(pid)d]: %(id)s: message-id=<%(n)d.%(o)d@client%(n)d.example>",
    b"postfix/smtpd[%(pid)d]: disconnect from mail.client%(n)d.example ehlo=2 starttls=1 mail=1",
    b"dovecot: imap-login: Login: user=<u%(n)d>, rip=198.51.100.%(o)d, lip=192.0.2.1, TLS",
    b"opendkim[%(pid)d]: %(id)s: DKIM-Signature field added (s=s1, d=sender.example)",
    b"postfix/postscreen[%(pid)d]: PASS OLD [198.51.100.%(o)d]:4%(o)04d",
)


def foreign_lines(count: int) -> Iterator[bytes]:
    """Yield *count* lines that are none of our business."""
    for number in range(count):
        yield _stamp(number, number * 0.01) + _FOREIGN[number % len(_FOREIGN)] % _facts(number)


def mixed_lines(count: int) -> Iterator[bytes]:
    """Yield about *count* lines of which a third are smtp(8)'s."""
    chance = random.Random(8460)
    written = number = 0
    while written < count:
        for line in _message(number, chance):
            yield line
            written += 1
        number += 1


def _message(number: int, chance: random.Random) -> Iterator[bytes]:
    facts, when = _facts(number), number * 0.08
    outgoing = _outgoing(facts, chance.random())
    own = [
        b"postfix/qmgr[812]: %(id)s: from=<bounce+%(n)d@sender.example>, size=%(o)d, nrcpt=1"
        b" (queue active)" % facts,
        b"postfix/qmgr[812]: %(id)s: removed" % facts,
    ]
    foreign = [_FOREIGN[(number + at) % len(_FOREIGN)] % facts for at in range(2)]
    for at, line in enumerate([foreign[0], own[0], *outgoing, own[1], foreign[1]]):
        yield _stamp(number, when + at * 0.01) + line


def _outgoing(facts: dict[bytes, object], chance: float) -> list[bytes]:
    tls = b"TLS connection established to %(na)s: " % facts + _CIPHER
    smtp = b"postfix/smtp[%(worker)d]: " % facts
    sent = _delivery(facts, b"2.0.0", b"sent (250 2.0.0 Ok: queued as 4%(id)s)" % facts)
    if chance < 0.02:
        why = b"server certificate verification failed for %(na)s: num=62:hostname mismatch"
        reason = b"deferred (Server certificate not verified)"
        failed = _delivery(facts, b"4.7.5", reason)
        return [smtp + why % facts, smtp + b"Trusted " + tls, smtp + failed]
    if chance < 0.04:
        reason = b"deferred (TLS is required, but was not offered by host %(na0)s)" % facts
        return [smtp + _delivery(facts, b"4.7.4", reason)]
    return [smtp + b"Verified " + tls, smtp + sent]


def _delivery(facts: dict[bytes, object], dsn: bytes, status: bytes) -> bytes:
    head = b"%(id)s: to=<user%(o)d@domain%(n)d.example>, relay=%(na)s, delay=1.2," % facts
    return head + b" delays=0.1/0.01/0.5/0.6, dsn=" + dsn + b", status=" + status


def _facts(number: int) -> dict[bytes, object]:
    name = b"mx%d.domain%d.example[203.0.113.%d]" % (number % 3, number % 5000, number % 250)
    return {
        b"pid": 2000 + number % 977,
        b"worker": 30000 + number % 61,
        b"id": b"%X" % (0xA0000000000 + number * 0x1003),
        b"n": number % 5000,
        b"o": number % 250,
        b"na": name + b":25",
        b"na0": name,
    }


def _stamp(_number: int, when: float) -> bytes:
    minutes, seconds = divmod(when, 60)
    hours, minute = divmod(int(minutes), 60)
    days, hour = divmod(hours, 24)
    return b"2026-11-%02dT%02d:%02d:%09.6f+00:00 mta1 " % (1 + days % 30, hour, minute, seconds)

"""The socketmap protocol: what Postfix asks and the five things it may be told.

A request is ``MAP KEY``, a reply one of the words of `Status`, a space and data
or a reason; both travel as netstrings.  See socketmap_table(5), from sendmail's
protocol; the limits are those of Postfix's client, dict_sockmap.c.

To Postfix, looking up a TLS policy, TEMP, TIMEOUT and PERM are all the same: the
mail waits.  Reasons end up in its log, where a postmaster reads them.
"""

from dataclasses import dataclass
from enum import Enum

from postfix_mtasts.core.errors import ParseError

MAX_REQUEST_BYTES = 10_000  # Postfix 3.12 asks nothing longer
MAX_REPLY_BYTES = 100_000  # Postfix reads no more
MAX_REASON_BYTES = 200  # Postfix logs no more
_MAX_REASON_READ = 1000  # characters, so that a huge reason costs little


class Status(Enum):
    """The first word of a reply."""

    OK = "OK"  # found; the text is the answer
    NOTFOUND = "NOTFOUND"  # there is none
    TEMP = "TEMP"  # try again later; the text says why
    TIMEOUT = "TIMEOUT"  # it took too long; the text says why
    PERM = "PERM"  # this request will never do; the text says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question: *key*, to be looked up in *map*, both as they came.

    Bytes of *map* beyond ASCII are escaped as Python escapes them, so that it can
    be named in a reply; no map that exists is spelt so.
    """

    map: str
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer."""

    status: Status
    text: str = ""


def build_request(request: Request) -> bytes:
    """Return the payload of *request*, for the side that asks."""
    return request.map.encode() + b" " + request.key


def parse_request(payload: bytes) -> Request:
    """Return the request that *payload* is; the first space ends the map's name.

    Raises `ParseError` where there is no space, or no name before it.
    """
    name, space, key = payload.partition(b" ")
    if not name or not space:
        raise ParseError("request is not a map name, a space and a key", "socketmap_table(5)")
    return Request(map=name.decode("ascii", "backslashreplace"), key=key)


def build_reply(reply: Reply) -> bytes:
    """Return the payload of *reply*, at most `MAX_REPLY_BYTES`.

    An answer goes out as it is or not at all: one that Postfix would cut, being
    too long or holding a NUL, becomes TEMP.  A reason is made one line of
    printable text of at most `MAX_REASON_BYTES`.
    """
    if reply.status is not Status.OK:
        return f"{reply.status.value} ".encode() + _one_line(reply.text)
    payload = b"OK " + reply.text.encode("utf-8", "backslashreplace")
    if len(payload) > MAX_REPLY_BYTES or b"\0" in payload:
        return build_reply(Reply(status=Status.TEMP, text="the answer does not fit into a reply"))
    return payload


def parse_reply(payload: bytes) -> Reply:
    """Return the reply that *payload* is.

    Raises `ParseError` where its first word is none of `Status`.
    """
    word, _, text = payload.partition(b" ")
    try:
        status = Status(word.decode("ascii", "replace"))
    except ValueError:
        raise ParseError(f"unknown reply {word[:100]!r}", "socketmap_table(5)") from None
    return Reply(status=status, text=text.decode("utf-8", "backslashreplace"))


def _one_line(reason: str) -> bytes:
    words = " ".join(reason[:_MAX_REASON_READ].split())
    printable = "".join(c if c.isprintable() else "?" for c in words)
    # A character that the cut would halve goes whole.
    return printable.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()

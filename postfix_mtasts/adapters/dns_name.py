"""Names of DNS, as they stand on the wire and as text (RFC 1035 sections 3.1 and 4.1.4).

A name is kept as the octets that stand for it, uncompressed and in lower case:
equal names are equal bytes, and a dictionary finds them at once.

A stranger composes the messages.  Names are compressed by pointing at others,
so that a few octets can spell 127 labels, and do so a thousand times.  Hence
every place in a message is read once (`Names`), and the steps are counted.
`dns.name` would read each of them anew, a third of a millisecond for a long one.
"""

from typing import TypeAlias

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.names import parse_domain

DnsName: TypeAlias = bytes

ROOT: DnsName = b"\0"

MAX_STEPS = 10_000
"""Labels and pointers of one message that are read (a security limit).

500 records whose names are not compressed at all have about 3000."""

_MAX_NAME = 255  # octets, the root's included (RFC 1035 section 2.3.4)
_MAX_LABEL = 63
_POINTER = 0xC0
_SECTION = "RFC 1035 section 4.1.4"


class Names:
    """The names in *message*; the one at *position* is *name*, as the caller knows."""

    def __init__(self, message: bytes, position: int, name: DnsName) -> None:
        self.message = message
        self._known = {position: (name, position + len(name))}
        self._steps_left = MAX_STEPS

    def read(self, position: int) -> tuple[DnsName, int]:
        """Return the name at *position*, and the position behind it.

        Raises `ParseError` where there is none, or one that is longer than DNS
        allows or points forward, and after `MAX_STEPS` in this message.
        """
        parts: list[tuple[int, int]] = []  # where the labels begin and end
        at, name = position, ROOT
        while at not in self._known:
            end = self._end_of_labels(at)
            parts.append((at, end))
            if self.message[end] == 0:
                break
            at = self._target(end, before=at)
        else:
            name, _ = self._known[at]
        for start, end in reversed(parts):
            name = self.message[start:end].lower() + name  # no length of a label is a letter
            if len(name) > _MAX_NAME:
                raise ParseError("name of more than 255 octets", "RFC 1035 section 2.3.4")
            self._known[start] = name, end + (1 if self.message[end] == 0 else 2)
        return self._known[position]

    def _end_of_labels(self, position: int) -> int:
        """Return where the labels from *position* on end: at a zero or a pointer."""
        try:
            while 0 < (size := self.message[position]) <= _MAX_LABEL:
                position += 1 + size
                self._step()
        except IndexError:
            raise ParseError("name cut short", _SECTION) from None
        if 0 < size < _POINTER:
            raise ParseError("label of an unknown type", _SECTION)
        return position

    def _target(self, pointer: int, *, before: int) -> int:
        """Return what the octets at *pointer* point at, a place before *before*."""
        self._step()
        octets = self.message[pointer : pointer + 2]
        target = int.from_bytes(octets, "big") - (_POINTER << 8)
        if len(octets) != 2 or target >= before:  # noqa: PLR2004 - a pointer has two octets
            raise ParseError("name that points at no earlier one", _SECTION)
        return target

    def _step(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise ParseError(f"names of more than {MAX_STEPS} labels", _SECTION)


def parse_dns_name(text: str) -> DnsName:
    """Return the name of which *text* is A-labels, without a trailing dot; "." is the root.

    Raises `ParseError` where DNS has no room for it.
    """
    labels = [] if text == "." else text.lower().encode("ascii").split(b".")
    if not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise ParseError("name with a label that is empty or too long", "RFC 1035 section 2.3.4")
    name = b"".join(bytes((len(label),)) + label for label in labels) + ROOT
    if len(name) > _MAX_NAME:
        raise ParseError("name of more than 255 octets", "RFC 1035 section 2.3.4")
    return name


def labels_of(name: DnsName) -> tuple[bytes, ...]:
    """Return the labels of *name*, the root's left out."""
    labels = []
    at = 0
    while size := name[at]:
        labels.append(name[at + 1 : at + 1 + size])
        at += 1 + size
    return tuple(labels)


def ancestors(name: DnsName) -> frozenset[DnsName]:
    """Return *name* and all names above it."""
    found = {ROOT}
    at = 0
    while size := name[at]:
        found.add(name[at:])
        at += 1 + size
    return frozenset(found)


def shown(name: DnsName) -> str:
    """Return *name* for a message to a human; what cannot be printed is escaped."""
    return ".".join(ascii(label.decode("latin-1"))[1:-1] for label in labels_of(name)) or "."


def dotted(name: DnsName) -> str:
    """Return the labels of *name* with dots between them.

    Raises `ParseError` where that would be another name, or is beyond ASCII.
    """
    labels = labels_of(name)
    if not name.isascii() or any(b"." in label for label in labels):
        raise ParseError(f"{shown(name)} is no host name", "RFC 1123 section 2.1")
    return b".".join(labels).decode("ascii")


def host_name(name: DnsName) -> str:
    """Return *name* as A-labels, lower case; raises `ParseError` where it is no host name."""
    return parse_domain(dotted(name))

"""Lines, tables, colours and a progress bar; the last two are for a person only, not for a pipe.

Colours follow https://no-color.org: none where NO_COLOR is set and not empty, nor
on a terminal that calls itself dumb.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TextIO

_BAR = 30  # columns
_WORTH_A_BAR = 5  # questions; fewer are answered before one has read it


def result(text: str) -> None:
    """Write the line *text* to stdout, escaped where stdout has no such characters."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def result_json(document: object) -> None:
    """Write *document* to stdout, for machines and for eyes."""
    result(json_for_stdout(json.dumps(document, ensure_ascii=False, indent=2)))


def json_for_stdout(text: str) -> str:
    """Return the JSON *text*, escaped as JSON has it where stdout has no such characters."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return "".join(c if c.isascii() else json.dumps(c)[1:-1] for c in text)
    return text


def talk(text: str) -> None:
    """Write the line *text* to stderr."""
    sys.stderr.write(f"{text}\n")


class Colour(Enum):
    """SGR parameters (ECMA-48 section 8.3.117)."""

    BOLD = "1"
    RED = "1;31"
    GREEN = "1;32"
    YELLOW = "1;33"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paint:
    """Puts *text* in a colour where *colours* may be used."""

    colours: bool

    def __call__(self, colour: Colour, text: str) -> str:
        """Return *text*, in *colour* if may be."""
        return f"\033[{colour.value}m{text}\033[0m" if self.colours else text


def paint_for(stream: TextIO, environment: Mapping[str, str] = os.environ) -> Paint:
    """Return the paint that suits *stream*."""
    plain = environment.get("NO_COLOR") or environment.get("TERM") == "dumb"
    return Paint(colours=stream.isatty() and not plain)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield each of *rows*, all of the same length, as a line with its columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()


def with_progress(items: Sequence[str], stream: TextIO) -> Iterator[str]:
    """Yield *items*; on a terminal, and if there are many, show on *stream* how far it got."""
    if len(items) <= _WORTH_A_BAR or not stream.isatty():
        yield from items
        return
    try:
        for done, item in enumerate(items):
            filled = _BAR * done // len(items)
            bar = "#" * filled + "." * (_BAR - filled)
            stream.write(f"\r[{bar}] {done}/{len(items)}")
            stream.flush()
            yield item
    finally:
        stream.write("\r\033[K")
        stream.flush()

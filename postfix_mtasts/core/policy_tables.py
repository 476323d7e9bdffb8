"""The tables of smtp_tls_policy_maps: which of them ask a socketmap server, and where.

Tables are parted by commas and white space, but not inside braces (postconf(5),
"inline:{ a=b, c=d }"); each is TYPE:NAME, perhaps behind "proxy:".  Of a socketmap
the name is "unix:PATH:MAP" or "inet:HOST:PORT:MAP" (socketmap_table(5)), where the
map follows the last colon.

BUGS: an "inet" port that is a word ("smtp") is not understood, so such a table
counts as one of the operator's own.
"""

import posixpath
from dataclasses import dataclass

from postfix_mtasts.core.endpoints import Listen, parse_listen
from postfix_mtasts.core.errors import ParseError

_SEPARATORS = ", \t\r\n"
_PROXY = "proxy:"
_SOCKETMAP = "socketmap:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table as it is written, *text*.

    *listen*: where a socketmap asks, its path as it is written; `None` for every
    other table.  *map*: what it asks for there.
    """

    text: str
    proxied: bool = False
    listen: Listen | None = None
    map: str = ""


def parse_tables(value: str) -> tuple[Table, ...]:
    """Return the tables in *value*; what cannot be understood is a table all the same."""
    return tuple(map(parse_table, _split(value)))


def parse_table(text: str) -> Table:
    """Return the one table *text*."""
    proxied = text.startswith(_PROXY)
    bare = text.removeprefix(_PROXY)
    if not bare.startswith(_SOCKETMAP):
        return Table(text=text, proxied=proxied)
    endpoint, _, name = bare.removeprefix(_SOCKETMAP).rpartition(":")
    try:
        listen = parse_listen(endpoint, "")
    except ParseError:
        return Table(text=text, proxied=proxied)
    return Table(text=text, proxied=proxied, listen=listen, map=name)


def as_seen(listen: Listen, queue_directory: str, root: str = "/") -> Listen:
    """Return *listen* as the rest of the system sees what a Postfix process means by it.

    A relative path starts from *queue_directory*, the working directory of them all;
    an absolute one from the process's *root*.
    """
    if listen.kind == "inet":
        return listen
    if posixpath.isabs(listen.path):
        path = posixpath.join(root, listen.path.lstrip("/"))
    else:
        path = posixpath.join(queue_directory, listen.path)
    return Listen(kind="unix", path=posixpath.normpath(path))


def _split(value: str) -> list[str]:
    words = [""]
    depth = 0
    for character in value:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth <= 0 and character in _SEPARATORS:
            words.append("")
        else:
            words[-1] += character
    return [word for word in words if word]

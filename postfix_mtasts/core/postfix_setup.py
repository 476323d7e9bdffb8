"""One Postfix instance as postconf(1) tells of it: version, settings, SMTP clients.

Read is what ``postconf -x`` and ``-n`` print ("name = value"), and of master.cf
what ``-F`` ("smtp/unix/chroot = y") and ``-P`` ("smtp/unix/name = value") print,
in the form that Postfix has had since 2.11.  Lines of another form are passed over:
they are of a later Postfix, and about something else.

BUGS: services that run smtp(8) behind "inet" sockets are not thought of; master(8)
starts the client for none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from postfix_mtasts.core.errors import ParseError

_SETTING = re.compile(r"(\w+) =(?: (.*))?")
_FIELD = re.compile(r"(.+)/unix/(\w+) =(?: (.*))?")
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?:[.-].*)?")

_CLIENT = "smtp"  # lmtp(8) is the same program, and has settings of its own
CHROOT_BY_DEFAULT = (1, 0)  # compatibility_level below which "-" in master.cf means yes


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A service of master.cf that runs smtp(8), and its own ``-o`` settings."""

    name: str
    chroot: bool
    overrides: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One instance.

    *folder*: its configuration's.  *settings*: in force, names in values put in.
    *written*: in main.cf, as they stand there.  *has_tlsrpt*: whether it was built
    with TLSRPT, `None` where that cannot be told.
    """

    folder: str
    version: str
    settings: Mapping[str, str]
    written: Mapping[str, str]
    clients: tuple[Client, ...]
    has_tlsrpt: bool | None = None

    def setting(self, name: str) -> str:
        """Return the setting *name* in force, "" where this Postfix does not know it."""
        return self.settings.get(name, "")

    @property
    def release(self) -> tuple[int, int]:
        """Return the version's first two numbers."""
        return parse_version(self.version)

    @property
    def queue_directory(self) -> str:
        """Return the working directory of all daemons, and the root of those in a chroot."""
        return self.setting("queue_directory")

    @property
    def has_chroots(self) -> bool:
        """Return whether any SMTP client lives in a chroot."""
        return any(client.chroot for client in self.clients)


def parse_version(text: str) -> tuple[int, int]:
    """Return the first two numbers of "3.7.11" or "3.12-20260821"; raises ParseError."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ParseError(f'"{text[:40]}" is no version of Postfix')
    return int(match[1]), int(match[2])


def parse_settings(text: str) -> dict[str, str]:
    """Return the settings that ``postconf`` has printed as *text*."""
    matches = map(_SETTING.fullmatch, text.split("\n"))
    return {match[1]: match[2] or "" for match in matches if match}


def parse_clients(fields: str, overrides: str, compatibility: str) -> tuple[Client, ...]:
    """Return the SMTP clients of master.cf, in its order.

    *fields*: from ``postconf -F``; *overrides*: from ``postconf -P``; *compatibility*:
    the setting compatibility_level, on which the default of "chroot" hangs.
    """
    services = _by_service(fields)
    own = _by_service(overrides)
    return tuple(
        Client(
            name=name,
            chroot=_is_chroot(service.get("chroot", "-"), compatibility),
            overrides=own.get(name, {}),
        )
        for name, service in services.items()
        if (service.get("command", "").split() or [""])[0] == _CLIENT
    )


def _by_service(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for match in map(_FIELD.fullmatch, text.split("\n")):
        if match:
            found.setdefault(match[1], {})[match[2]] = match[3] or ""
    return found


def _is_chroot(word: str, compatibility: str) -> bool:
    if word != "-":
        return word == "y"
    try:
        level = parse_version(compatibility if "." in compatibility else f"{compatibility}.0")
    except ParseError:
        return False
    return level < CHROOT_BY_DEFAULT

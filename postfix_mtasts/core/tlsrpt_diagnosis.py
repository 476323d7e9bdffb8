"""Whether Postfix 3.10 and later tells of its TLS sessions (postconf(5), smtp_tlsrpt_enable).

It writes datagrams to a socket, without waiting: where nobody reads, or the kernel
holds only few (net.unix.max_dgram_qlen, ten by default), sessions go uncounted.
"""

from dataclasses import dataclass, replace

from postfix_mtasts.core.diagnosis import Change, Diagnosis, mended_by, note, ok, warning
from postfix_mtasts.core.map_line import KNOWS_TLSRPT
from postfix_mtasts.core.postfix_setup import Setup

SUBJECT = "TLSRPT"
SOCKET = "postfix-mtasts/tlsrpt.sock"
ENOUGH_DATAGRAMS = 512  # with so many none was lost at 4,000 a second

_UNITS = "postfix-mtasts-collector.socket postfix-mtasts-collector.service"
_ENABLE = "smtp_tlsrpt_enable"
_SOCKET_NAME = "smtp_tlsrpt_socket_name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagrams:
    """How Postfix's datagrams fare.

    *refused*: why Postfix's user cannot write to the socket, "" where it can, `None`
    where that was not tried.  *queue*: net.unix.max_dgram_qlen, `None` if not known.
    """

    refused: str | None = None
    queue: int | None = None


def diagnose_tlsrpt(setup: Setup, datagrams: Datagrams) -> tuple[Diagnosis, ...]:
    """Return what is to be said of *setup*, where reports are wanted; nothing before 3.10."""
    if setup.release < KNOWS_TLSRPT:
        return ()
    found = _settings(setup) or (*_socket(setup, datagrams), *_queue(datagrams))
    if not found:
        found = (ok(SUBJECT, f"datagrams to {setup.setting(_SOCKET_NAME)}"),)
    return tuple(replace(each, instance=setup.folder) for each in found)


def _settings(setup: Setup) -> tuple[Diagnosis, ...]:
    if setup.has_tlsrpt is False:
        return (note(SUBJECT, "this Postfix was built without it: the log alone tells"),)
    changes = []
    if setup.setting(_ENABLE) != "yes":
        changes.append(Change(name=_ENABLE, value="yes"))
    if not setup.setting(_SOCKET_NAME):
        changes.append(Change(name=_SOCKET_NAME, value=SOCKET))
    if not changes:
        return ()
    text = f"Postfix does not say how TLS went: {', '.join(c.name for c in changes)} not set"
    return (mended_by(warning(SUBJECT, text, ""), setup.folder, *changes),)


def _socket(setup: Setup, datagrams: Datagrams) -> tuple[Diagnosis, ...]:
    name = setup.setting(_SOCKET_NAME)
    if datagrams.refused is None:
        return (note(SUBJECT, f"{name} was not tried as Postfix's user: that needs root"),)
    if not datagrams.refused:
        return ()
    text = f"{name} cannot be written to by Postfix's user: {datagrams.refused}"
    if name.startswith("/") and setup.has_chroots:
        change = Change(name=_SOCKET_NAME, value=SOCKET)
        return (mended_by(warning(SUBJECT, text, ""), setup.folder, change),)
    # Permissions come with a new socket; a chmod could be made to follow a link.
    verb = "restart" if "ermission" in datagrams.refused else "start"
    return (warning(SUBJECT, text, f"systemctl {verb} {_UNITS}"),)


def _queue(datagrams: Datagrams) -> tuple[Diagnosis, ...]:
    if datagrams.queue is None or datagrams.queue >= ENOUGH_DATAGRAMS:
        return ()
    text = f"net.unix.max_dgram_qlen is {datagrams.queue}: datagrams are lost when many come"
    command = f"sysctl -w net.unix.max_dgram_qlen={ENOUGH_DATAGRAMS}"
    return (warning(SUBJECT, text, command),)

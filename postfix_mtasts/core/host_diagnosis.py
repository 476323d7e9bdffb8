"""Whether the host has what the policy daemon rests on: DNSSEC, authorities, the time.

Without a validating resolver DANE protects nothing, and MTA-STS alone does.  The
resolver should be on this machine: nobody sits between it and Postfix, which takes
the AD bit of whoever is in resolv.conf, in the chroot's own copy of the file.

A certificate, a policy and a signature are all judged by the clock.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from postfix_mtasts.core.diagnosis import Diagnosis, note, ok, warning, wrong

INSTALL_RESOLVER = (
    "apt-get install unbound && echo nameserver 127.0.0.1 > /etc/resolv.conf"
    "  # or let what writes that file do so"
)
_WITHOUT_FILE = ("127.0.0.1",)  # what libc asks then


class Bogus(Enum):
    """What became of a name whose signatures are wrong on purpose."""

    REFUSED = "refused"  # as it must be
    ANSWERED = "answered"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolving:
    """How the servers of one resolv.conf do.

    *validates*: all of them do for a signed name, and may be believed; *why*: in a
    sentence.  *local*: all are on this machine.
    """

    validates: bool
    why: str
    bogus: Bogus = Bogus.UNKNOWN
    local: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ChrootDns:
    """The resolv.conf in the queue directory of *instance*, *path*, beside that of the system.

    Servers as ``nameserver`` lines name them; `None`: there is no file.
    """

    instance: str
    path: str
    servers: tuple[str, ...] | None
    system: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """The clock, in seconds since the epoch; *installed*: when this program was made or put here.

    *synchronised*: `None` where the kernel does not tell.
    """

    now: float
    installed: float
    synchronised: bool | None = None


def diagnose_resolver(resolving: Resolving) -> Diagnosis:
    """Return what is to be said of the servers that the daemon asks."""
    subject = "resolver"
    if not resolving.validates:
        text = f"{resolving.why}: DANE protects nothing, MTA-STS alone does"
        return warning(subject, text, INSTALL_RESOLVER)
    if resolving.bogus is Bogus.ANSWERED:
        text = f"{resolving.why}, it says, but answers a name whose signatures are wrong"
        return wrong(subject, text, INSTALL_RESOLVER)
    if not resolving.local:
        text = f"{resolving.why}, but is not on this machine: who sits between can forge it"
        return warning(subject, text, INSTALL_RESOLVER)
    if resolving.bogus is Bogus.UNKNOWN:
        return ok(subject, f"{resolving.why} (a name with wrong signatures could not be tried)")
    return ok(subject, f"{resolving.why}, and refuses a name whose signatures are wrong")


def diagnose_chroot_dns(chroots: Sequence[ChrootDns]) -> tuple[Diagnosis, ...]:
    """Return in which chroots Postfix asks other servers than this system does."""
    return tuple(
        _other_servers(chroot)
        for chroot in chroots
        if set(chroot.servers or _WITHOUT_FILE) != set(chroot.system)
    )


def _other_servers(chroot: ChrootDns) -> Diagnosis:
    copy = shlex.join(["install", "-D", "-m", "644", "/etc/resolv.conf", chroot.path])
    reload = shlex.join(["postfix", "-c", chroot.instance, "reload"])
    if chroot.servers is None:
        text = f"there is no {chroot.path}: Postfix in its chroot does not know the resolver"
    else:
        text = f"{chroot.path} names {', '.join(chroot.servers)}, not what /etc/resolv.conf does"
    found = warning("chroot's DNS", text, f"{copy} && {reload}")
    return replace(found, instance=chroot.instance)


def diagnose_authorities(problem: str) -> Diagnosis:
    """Return what is to be said of whom the daemon trusts; *problem*: why nobody, or ""."""
    subject = "CA store"
    if problem:
        text = f"{problem}: no MTA-STS policy can be fetched"
        return wrong(subject, text, "apt-get install --reinstall ca-certificates")
    return ok(subject, "the daemon has authorities to trust")


def diagnose_time(time: Time) -> Diagnosis:
    """Return what is to be said of the clock."""
    mend = "timedatectl set-ntp true"
    if time.now < time.installed:
        return wrong("clock", "it is behind the day on which this program was installed", mend)
    if time.synchronised is False:
        return note("clock", "the kernel does not count it as synchronised (NTP)", mend)
    return ok("clock", "plausible" if time.synchronised is None else "synchronised")

"""What `doctor` looks at for the reports: the sidecar, its log, the addresses, the DKIM key.

The log and the key are looked at with the eyes of the user who will read them.
"""

import asyncio
import grp
import os
import pwd
import time
from collections.abc import Sequence
from pathlib import Path

from postfix_mtasts.adapters.dkim_signer import DkimSigner
from postfix_mtasts.adapters.dkim_verifier import record_problem
from postfix_mtasts.adapters.log_discovery import find_log
from postfix_mtasts.adapters.other_eyes import Eyes, NoEyesError, Orders, look
from postfix_mtasts.adapters.resolver import DnsResolver
from postfix_mtasts.adapters.state_files import read_to
from postfix_mtasts.adapters.systemd_units import find_unit
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME
from postfix_mtasts.commands.assembly import build_resolver
from postfix_mtasts.commands.configuration import SYSTEM_CONFIG
from postfix_mtasts.config import Config
from postfix_mtasts.config import Dkim as DkimConfig
from postfix_mtasts.core.daemon_diagnosis import (
    COLLECTOR_UNIT,
    UNIT,
    Collector,
    Log,
    diagnose_collector,
    diagnose_logs,
)
from postfix_mtasts.core.diagnosis import Diagnosis, note
from postfix_mtasts.core.endpoints import EventSource
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.facts import Present, Unavailable
from postfix_mtasts.core.report_diagnosis import (
    Dkim,
    diagnose_dkim,
    diagnose_mailboxes,
    diagnose_settings,
)
from postfix_mtasts.services.doctor import try_mailbox

JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
_KEYS = ("organization", "contact", "sender")


async def look_at_reports(config: Config, path: Path | None) -> Sequence[Diagnosis]:
    """Return what is to be said of the reports; *path*: of the configuration, if it is a file."""
    tlsrpt = config.tlsrpt
    if not tlsrpt.enabled:
        return (note("reports", "turned off (tlsrpt.enabled)"),)
    file = str(path or SYSTEM_CONFIG)
    resolver = build_resolver(config)
    addresses = {"contact": tlsrpt.contact, "sender": tlsrpt.sender}
    boxes = [try_mailbox(resolver, key, text) for key, text in addresses.items() if text]
    keys = [_dkim(tlsrpt.dkim, resolver)] if tlsrpt.dkim else []
    mailboxes, dkims, logs, collector = await asyncio.gather(
        asyncio.gather(*boxes),
        asyncio.gather(*keys),
        asyncio.to_thread(_logs, tlsrpt.sources),
        asyncio.to_thread(_collector, Path(config.store.url.path).with_name(FILE_NAME)),
    )
    return (
        diagnose_collector(collector),
        *diagnose_logs(logs),
        diagnose_settings({key: getattr(tlsrpt, key) for key in _KEYS}, file),
        *diagnose_mailboxes(mailboxes, file),
        *(diagnose_dkim(dkim, file) for dkim in dkims),
    )


def _collector(counts: Path) -> Collector:
    unit = find_unit(f"{COLLECTOR_UNIT}.service")
    active = None if unit is None else unit.active
    if counts.parent.exists() and not os.access(counts.parent, os.X_OK):
        return Collector(active=active, untried=f"{counts.parent}: Permission denied")
    moment = read_to(counts)
    behind = None if moment is None else time.time() - moment
    return Collector(active=active, behind=behind)


def _logs(sources: Sequence[EventSource]) -> list[Log]:
    """Return each log that is read; a socket for datagrams is the sidecar's own."""
    found = [find_log() if source.kind == "auto" else source for source in sources]
    return [_log(source) for source in found if source is not None and source.kind != "datagram"]


def _log(source: EventSource) -> Log:
    user, eyes = _sidecar()
    path = source.path
    if source.kind == "journal":
        files = [file for folder in JOURNALS for file in folder.glob("*/system.journal")]
        if not files:
            return Log(name="the journal", user=user, refused="there is none")
        path = str(files[0])
    name = "the journal" if source.kind == "journal" else path
    try:
        refused = look(eyes, Orders(read=(path,))).read[0] if eyes else _refusal(path)
    except NoEyesError as error:
        return Log(name=name, user=user, untried=str(error))
    return Log(name=name, user=user, group=_group_of(path), refused=refused)


def _sidecar() -> tuple[str, Eyes | None]:
    """Return who the sidecar is, and its eyes; `None` for those of this process."""
    unit = find_unit(f"{COLLECTOR_UNIT}.service")
    try:
        user = pwd.getpwnam((unit and unit.user) or UNIT)
    except KeyError:
        return _own_name(), None
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    for group in unit.groups if unit else ():
        groups |= {entry.gr_gid for entry in grp.getgrall() if entry.gr_name == group}
    eyes = Eyes(
        uid=user.pw_uid, gid=user.pw_gid, groups=tuple(sorted(groups)), root="/", folder="/"
    )
    return user.pw_name, eyes


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"#{os.geteuid()}"


def _refusal(path: str) -> str:
    if os.access(path, os.R_OK):
        return ""
    return "Permission denied" if Path(path).exists() else "No such file or directory"


def _group_of(path: str) -> str:
    try:
        return grp.getgrgid(os.stat(path).st_gid).gr_name  # noqa: PTH116 - a text, not a Path
    except (OSError, KeyError):
        return ""


async def _dkim(key: DkimConfig, resolver: DnsResolver) -> Dkim:
    name = f"{key.selector}._domainkey.{key.domain}"
    _, eyes = _sidecar()
    try:
        signer = await asyncio.to_thread(_signer, key, eyes)
    except ConfigError as error:
        return Dkim(name=name, key_file=key.key_file, key_problem=str(error))
    found = await resolver.txt(name)
    if isinstance(found, Unavailable):
        return Dkim(name=name, key_file=key.key_file, untold=found.why)
    records = found.records if isinstance(found, Present) else ()
    problem = await asyncio.to_thread(record_problem, signer, records)
    return Dkim(name=name, key_file=key.key_file, record_problem=problem)


def _signer(key: DkimConfig, eyes: Eyes | None) -> DkimSigner:
    """Raise ConfigError where the key cannot be used, or not by those who are to use it."""
    signer = DkimSigner(domain=key.domain, selector=key.selector, key_file=key.key_file)
    if eyes is not None and os.geteuid() == 0:
        try:
            refused = look(eyes, Orders(read=(key.key_file,))).read[0]
        except NoEyesError as error:
            refused = str(error)
        if refused:
            raise ConfigError(f"tlsrpt.dkim.key_file {key.key_file}, as {UNIT}: {refused}")
    return signer

"""Whether the daemon and the sidecar live, are the installed version, and have sound files."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from postfix_mtasts.core.diagnosis import Diagnosis, note, ok, warning, wrong

UNIT = "postfix-mtasts"
COLLECTOR_UNIT = "postfix-mtasts-collector"

ENOUGH_ROOM = 100 * 1024 * 1024  # octets free: 100,000 domains need less than half
STALE_SECONDS = 900.0
"""So long the sidecar may be behind: it reads every second where all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """The policy daemon as it answered.

    *failure*: why it did not, "" where it did.  *version*: of the running program,
    "" where it was not told: it is told to root only, or too old to tell.
    *withheld*: it would not tell us.  *status*: systemd's STATUS line, "" for none.
    """

    failure: str = ""
    version: str = ""
    withheld: bool = False
    status: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """The sidecar, *active* as systemd says, `None` where systemd knows nothing of it.

    *behind*: seconds since what it has read up to, `None` where it has written
    nothing yet.  *untried*: why its counts were not looked at.
    """

    active: bool | None = None
    behind: float | None = None
    untried: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One file of the state.

    *problem*: what is damaged, "" for nothing, `None` where it was not looked at, for
    the reason *why*.  *free*: octets left on its disk.  *owners*: of the file and of
    its folder, by name; the folder's is right.
    """

    path: str
    problem: str | None = ""
    why: str = ""
    free: int = ENOUGH_ROOM
    owners: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A source of log lines, as the sidecar's user finds it; *refused*: why it cannot be read.

    *user*: who that is; *group*: to which the file belongs, "" for no file.  *untried*:
    why that was not found out.
    """

    name: str
    user: str
    group: str = ""
    refused: str = ""
    untried: str = ""


def diagnose_daemon(daemon: Daemon, installed: str) -> Diagnosis:
    """Return what is to be said of the policy daemon; *installed*: the version on the disk."""
    subject = "daemon"
    restart = f"systemctl restart {UNIT}"
    if daemon.failure:
        start = f"systemctl start {UNIT}.socket {UNIT}.service"
        return wrong(subject, f"{daemon.failure}; Postfix defers all mail that asks it", start)
    if daemon.withheld:
        return note(subject, "it answers; which version runs, it tells to root only")
    if daemon.version != installed:
        runs = daemon.version or "an older version"
        return warning(subject, f"{runs} runs, {installed} is installed", restart)
    return ok(subject, f"{installed} runs" + (f": {daemon.status}" if daemon.status else ""))


def diagnose_collector(collector: Collector) -> Diagnosis:
    """Return what is to be said of the sidecar, where reports are wanted."""
    subject = "collector"
    units = f"{COLLECTOR_UNIT}.socket {COLLECTOR_UNIT}.service"
    if collector.active is False:
        text = "the sidecar does not run: nothing is counted for the reports"
        return warning(subject, text, f"systemctl enable --now {units}")
    if collector.untried:
        return note(subject, f"how far the sidecar has read is not known: {collector.untried}")
    if collector.behind is None:
        if collector.active:
            return ok(subject, "runs, and has counted nothing yet")
        text = "the sidecar has never run: nothing is counted for the reports"
        return warning(subject, text, f"systemctl enable --now {units}")
    if collector.behind > STALE_SECONDS:
        text = f"the sidecar has read nothing for {int(collector.behind // 60)} minutes"
        return warning(subject, text, f"systemctl restart {COLLECTOR_UNIT}")
    return ok(subject, "the sidecar reads on")


def diagnose_databases(databases: Sequence[Database]) -> tuple[Diagnosis, ...]:
    """Return what is to be said of the files of the state; one line where all are well."""
    faults = [fault for database in databases for fault in _database(database)]
    if faults:
        return tuple(faults)
    paths = ", ".join(database.path for database in databases)
    return (ok("state", paths or "nothing is stored yet"),)


def _database(database: Database) -> list[Diagnosis]:
    subject, path = "state", database.path
    faults = []
    if database.problem is None:
        faults.append(note(subject, f"{path} was not looked at: {database.why}"))
    elif database.problem:
        text = f"{path} is damaged: {database.problem}"
        # Both programs set a damaged file aside when they start, and begin a new one.
        mend = f"systemctl restart {UNIT} {COLLECTOR_UNIT}"
        faults.append(wrong(subject, text, mend))
    owner, folders = database.owners
    if owner != folders:
        text = f"{path} belongs to {owner}, its folder to {folders}"
        faults.append(wrong(subject, text, shlex.join(["chown", "-h", folders, path])))
    if database.free < ENOUGH_ROOM:
        text = f"only {database.free // (1024 * 1024)} MiB are free on the disk of {path}"
        faults.append(warning(subject, text, "# make room: what cannot be stored is forgotten"))
    return faults


def diagnose_logs(logs: Sequence[Log]) -> tuple[Diagnosis, ...]:
    """Return what is to be said of where the sidecar reads; none: there is no log to be found."""
    if not logs:
        text = "no log of Postfix is to be found: nothing can be counted for the reports"
        return (warning("log", text, "apt-get install rsyslog"),)
    return tuple(map(_log, logs))


def _log(log: Log) -> Diagnosis:
    if log.untried:
        return note("log", f"whether {log.user} can read {log.name} was not tried: {log.untried}")
    if not log.refused:
        return ok("log", f"{log.name}, which {log.user} can read")
    text = f"{log.name} cannot be read by {log.user}: {log.refused}"
    group = log.group if log.group and "ermission" in log.refused else ""
    if not group or group == "root":
        return warning("log", text, f"# set tlsrpt.sources, or let {log.user} read it")
    join = shlex.join(["adduser", log.user, group])
    return warning("log", text, f"{join} && systemctl restart {COLLECTOR_UNIT}")

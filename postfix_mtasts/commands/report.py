"""The verb `report`: sends the TLS reports that are due, or shows them (RFC 8460).

It is run by cron, every hour.  What it tells without being asked, apart from a
terminal, is what needs a person: reports that are given up, and what ended the run.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from postfix_mtasts.adapters.count_reader import SqliteCountReader
from postfix_mtasts.adapters.report_store import SqliteReportStore
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME
from postfix_mtasts.commands.configuration import Source
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.commands.report_cron import run_quietly
from postfix_mtasts.commands.report_list import list_reports
from postfix_mtasts.commands.report_sending import (
    WORKED_ON,
    days_of,
    domains_of,
    forget_old,
    send_again,
    send_due,
)
from postfix_mtasts.commands.terminal import json_for_stdout, result, talk
from postfix_mtasts.config import Config
from postfix_mtasts.core.errors import ConfigError, ParseError
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.tlsrpt_report import (
    Reporter,
    build_document,
    build_heading,
    parse_reporter,
)
from postfix_mtasts.core.utc import build_date, day_of, parse_date
from postfix_mtasts.ports import StoreUnusableError
from postfix_mtasts.services.report_building import build_stored_report

T = TypeVar("T")

MAX_FILE_NAME = 255
"""Octets of a file's name on Linux."""


def run(args: argparse.Namespace) -> int:
    """Do what *args* say; return the exit status."""
    config = Source.from_arguments(args).load()
    path = Path(config.store.url.path).with_name(FILE_NAME)

    def work() -> int:
        try:
            return _obey(args, config, path)
        except StoreUnusableError as error:
            raise CommandError(ExitStatus.LATER, str(error)) from None

    return run_quietly(path, work) if args.cron else work()


def _obey(args: argparse.Namespace, config: Config, path: Path) -> int:
    day = None if args.day is None else _parsed(parse_date, args.day)
    domain = None if args.domain is None else _parsed(parse_domain, args.domain)
    if args.list:
        return _list(path, day, domain, as_json=args.json)
    shows = args.print or args.output is not None
    is_counted = _is_there(path)
    if is_counted and not shows:
        forget_old(path, config)
    if args.cron and not (is_counted and config.tlsrpt.enabled):
        return ExitStatus.WELL  # nothing to report is nothing new
    who = _reporter(config)
    if not config.tlsrpt.enabled:
        talk("tlsrpt.enabled is false: there is nothing to report")
    elif not is_counted:
        talk(f"nothing has been counted yet: there is no {path}")
    elif shows:
        return _show(path, who, day, domain, args.output)
    elif args.resend is not None:
        return send_again(path, config, who, *_named(args.resend))
    else:
        return send_due(path, config, who, day, domain, at_once=args.now)
    return ExitStatus.WELL


def _is_there(path: Path) -> bool:
    """Return whether anything was counted; raises CommandError where we may not know."""
    try:
        path.stat()
    except PermissionError:
        why = f"{path}: permission denied; run this as root"
        raise CommandError(ExitStatus.USAGE, why) from None
    except OSError:
        return False
    return True


def _named(report_id: str) -> tuple[int, str]:
    """Return the day and the domain of the report that *report_id* names."""
    date, _, name = report_id.strip("<>").rpartition("@")[0].partition(".")
    try:
        return parse_date(date), parse_domain(name)
    except ParseError:
        why = f'"{report_id}" is no Report-ID, such as 2026-11-20.example.com@example.net'
        raise CommandError(ExitStatus.USAGE, why) from None


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ParseError as error:
        raise CommandError(ExitStatus.USAGE, str(error)) from None


def _reporter(config: Config) -> Reporter:
    """Return who reports; raises ConfigError where the configuration does not say."""
    tlsrpt = config.tlsrpt
    keys = ("organization", "contact", "sender")
    missing = [f"tlsrpt.{key}" for key in keys if getattr(tlsrpt, key) is None]
    if missing:
        what = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
        raise ConfigError(
            f"to send reports, set {what} in the configuration; what is counted is kept meanwhile"
        )
    try:
        return parse_reporter(
            organization=tlsrpt.organization or "",
            contact=tlsrpt.contact or "",
            sender=tlsrpt.sender or "",
        )
    except ParseError as error:
        raise ConfigError(f"tlsrpt.{error}") from None


def _list(path: Path, day: int | None, domain: str | None, *, as_json: bool) -> ExitStatus:
    if not _is_there(path):
        talk(f"nothing has been counted yet: there is no {path}")
        return ExitStatus.WRONG
    with closing(SqliteCountReader(path)) as counts, closing(SqliteReportStore(path)) as reports:
        days = days_of(counts, day, lambda it: it >= day_of(time.time() - WORKED_ON))
        list_reports(counts, reports, days, domain, now=time.time(), as_json=as_json)
    return ExitStatus.WELL


# --- showing ---------------------------------------------------------------------------


def _show(
    path: Path, who: Reporter, day: int | None, domain: str | None, folder: str | None
) -> ExitStatus:
    """Print the reports of *day*, else of yesterday, or write them to *folder*."""
    shown = 0
    with closing(SqliteCountReader(path)) as counts:
        chosen = day_of(time.time()) - 1 if day is None else day
        for name in domains_of(counts, chosen, domain):
            heading = build_heading(who, name, chosen)
            report = build_stored_report(counts, heading)
            if report is None:
                continue
            shown += 1
            if folder is None:
                result(json_for_stdout(report.decode()))
            else:
                document = build_document(heading, report, compress=False)
                _write(Path(folder), document.name, document.data)
    if not shown:
        to = f" to {domain}" if domain else ""
        other = "; --day names another day, such as today" if day is None else ""
        talk(f"no sessions of {build_date(chosen)}{to} are known{other}")
    return ExitStatus.WELL if shown else ExitStatus.WRONG


def _write(folder: Path, name: str, data: bytes) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Two long domains make a name too long for a file: its end is what is its own.
        (folder / name[-MAX_FILE_NAME:]).write_bytes(data)
    except OSError as error:
        raise CommandError(ExitStatus.USAGE, f"{folder / name}: {error.strerror}") from None

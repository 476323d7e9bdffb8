"""The command line: its verbs and options, and what becomes of errors.

A verb's module is loaded when it is run, not before: ``--help`` and completion
need none of them.

Results go to stdout, all else to stderr.  Exit status: `failure.ExitStatus`.
"""

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from postfix_mtasts import __version__
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.commands.terminal import talk
from postfix_mtasts.core.errors import ConfigError

if TYPE_CHECKING:  # argparse's class of subparsers takes a parameter for type checkers only
    _Verbs: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name

_INTERRUPTED = 130  # what shells say of a program that SIGINT ended


def main(argv: Sequence[str] | None = None) -> int:
    """Do what *argv* says, the program's own arguments where `None`; return the exit status."""
    try:
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough.  Python flushes once more at exit: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.WELL
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
        command = importlib.import_module(f"postfix_mtasts.commands.{args.module}")
        return int(command.run(args))
    except SystemExit as end:  # argparse, having said all there is to say
        return int(end.code or 0)
    except ConfigError as error:
        _complain(str(error))
        return ExitStatus.USAGE
    except CommandError as error:
        _complain(str(error))
        return error.status


def _complain(why: str) -> None:
    for line in why.splitlines():
        talk(f"postfix-mtasts: {line}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="postfix-mtasts",
        description="MTA-STS and DANE for Postfix, and TLS reports to those who ask for them.",
        epilog=(
            "Exit status: 0 well, 1 something found wrong or nothing found, "
            "2 usage or configuration, 75 try again later."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_config_option(parser, default=None)
    verbs = parser.add_subparsers(required=True, metavar="VERB", title="verbs")
    _add_serve(verbs)
    _add_collect(verbs)
    _add_report(verbs)
    _add_query(verbs)
    _add_cache(verbs)
    _add_doctor(verbs)
    _add_config(verbs)
    return parser


def _add_config_option(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=default,
        help="configuration; /etc/postfix-mtasts/config.yaml by default, if it exists",
    )


def _add_verb(verbs: "_Verbs", name: str, module: str, what: str) -> argparse.ArgumentParser:
    """Return the parser of the verb *name*, which takes ``--config``, too."""
    parser = verbs.add_parser(name, help=what, description=_sentence(what), allow_abbrev=False)
    parser.set_defaults(module=module)
    # Without a default of its own it keeps what stands before the verb.
    _add_config_option(parser, default=argparse.SUPPRESS)
    return parser


def _sentence(what: str) -> str:
    return f"{what[0].upper()}{what[1:]}."


def _add_serve(verbs: "_Verbs") -> None:
    _add_verb(verbs, "serve", "serve", "answer Postfix: the daemon, in the foreground")


def _add_report(verbs: "_Verbs") -> None:
    parser = _add_verb(verbs, "report", "report", "send the TLS reports that are due")
    parser.add_argument("--day", metavar="YYYY-MM-DD", help="of this day alone, in UTC")
    parser.add_argument("--domain", metavar="DOMAIN", help="on this domain alone")
    parser.add_argument(
        "--now",
        action="store_true",
        help="send at once, not spread over the hours after midnight nor waiting for the log",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--print",
        action="store_true",
        help="print the reports of yesterday or --day, one a line, and send nothing",
    )
    instead.add_argument(
        "--output",
        metavar="DIR",
        help="write the reports of yesterday or --day to files in DIR, and send nothing",
    )
    instead.add_argument(
        "--list", action="store_true", help="list what was sent, is due or failed, and why"
    )
    instead.add_argument(
        "--resend", metavar="ID", help="send again the report of this Report-ID (--list --json)"
    )
    instead.add_argument(
        "--cron",
        action="store_true",
        help="say only what is new: what is wrong once a day, passing trouble after a day",
    )
    _add_json_option(parser, "with --list: print JSON")


def _add_collect(verbs: "_Verbs") -> None:
    what = "count TLS sessions for the reports: the sidecar, in the foreground"
    parser = _add_verb(verbs, "collect", "collect", what)
    parser.add_argument(
        "--once", action="store_true", help="read what there is, say how much, and end"
    )
    parser.add_argument(
        "--log",
        metavar="FILE",
        help='read this mail log and nothing else, "-" for standard input',
    )
    parser.add_argument(
        "--year",
        metavar="YYYY",
        type=_year,
        help="the year of stamps that name none (default: the latest that can be)",
    )


def _year(text: str) -> int:
    if not re.fullmatch(r"[12][0-9]{3}", text):
        raise argparse.ArgumentTypeError(f'"{text}" is no year of the form YYYY')
    return int(text)


def _add_query(verbs: "_Verbs") -> None:
    parser = _add_verb(
        verbs, "query", "query", "explain what Postfix is told for a domain, and why"
    )
    parser.add_argument("domain", metavar="DOMAIN", help='a domain, or "[host]:port"')
    parser.add_argument(
        "--map",
        metavar="MAP",
        default="policy",
        help="also show what this map answers (default: policy)",
    )
    parser.add_argument(
        "--direct", action="store_true", help="ask DNS and policy hosts themselves, not the daemon"
    )
    _add_json_option(parser)


def _add_cache(verbs: "_Verbs") -> None:
    parser = _add_verb(verbs, "cache", "cache", "see or change what the running daemon knows")
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="actions", dest="action")
    known = (
        ("list", "*", "list the domains that are known, or those named"),
        ("show", "+", "show the policies of domains in full"),
        ("refresh", "*", "fetch policies again, now; all where no domain is named"),
        ("purge", "*", "forget policies: mail is less safe until they are fetched again"),
    )
    for name, count, what in known:
        action = _add_verb(actions, name, "cache", what)
        action.add_argument("domains", metavar="DOMAIN", nargs=count, help="a mail domain")
        _add_json_option(action)
        if name == "purge":
            action.add_argument(
                "--all", action="store_true", help="forget the policies of all domains"
            )


def _add_doctor(verbs: "_Verbs") -> None:
    parser = _add_verb(
        verbs, "doctor", "doctor", "say whether this host is protected, and what mends it"
    )
    instead = parser.add_mutually_exclusive_group()
    _add_json_option(instead)
    instead.add_argument(
        "--apply", action="store_true", help="change main.cf: show what, ask, and keep a copy"
    )
    instead.add_argument(
        "--undo", action="store_true", help="put main.cf back as it was before --apply"
    )
    parser.add_argument("--yes", action="store_true", help="with --apply: do not ask")


def _add_config(verbs: "_Verbs") -> None:
    parser = _add_verb(verbs, "config", "config_command", "check or show the configuration")
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="actions", dest="action")
    _add_verb(actions, "check", "config_command", "say whether it can be used, and where not")
    show = _add_verb(
        actions, "show", "config_command", "show every key that is in force, defaults included"
    )
    _add_json_option(show)


def _add_json_option(
    parser: "argparse._ActionsContainer", what: str = "print JSON, for machines"
) -> None:
    parser.add_argument("--json", action="store_true", help=what)

"""The verb `cache`: the policies that the daemon knows, over its map "control".

The daemon answers that map only over a Unix socket, and only to root and to its
own user.
"""

import argparse
import sys
from collections.abc import Callable, Iterator

from postfix_mtasts.commands.asking import Document, ask_daemon, parse_document
from postfix_mtasts.commands.configuration import Source
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.commands.terminal import result, result_json, table, talk, with_progress
from postfix_mtasts.commands.words import counted, moment, printable, span
from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.socketmap import Request

CONTROL = "control"
_AT_ONCE = 30  # names in one request, which has room for 38 of the longest

HEADINGS = ("DOMAIN", "MODE", "ID", "EXPIRES", "LAST ASKED")


def run(args: argparse.Namespace) -> int:
    """Do what ``args.action`` says; return the exit status."""
    domains = [_parse_domain(text) for text in args.domains]
    sockets = _unix_sockets(args)
    actions: dict[str, Callable[[], ExitStatus]] = {
        "list": lambda: _list(sockets, domains, as_json=args.json),
        "show": lambda: _show(sockets, domains, as_json=args.json),
        "refresh": lambda: _refresh(sockets, domains, as_json=args.json),
        "purge": lambda: _purge(sockets, domains, everything=args.all, as_json=args.json),
    }
    return actions[args.action]()


def _parse_domain(text: str) -> str:
    try:
        return parse_domain(text)
    except ParseError as error:
        raise CommandError(ExitStatus.USAGE, str(error)) from None


def _unix_sockets(args: argparse.Namespace) -> list[Listen]:
    listens = Source.from_arguments(args).load().server.listen
    sockets = [listen for listen in listens if listen.kind == "unix"]
    if not sockets:
        why = "the cache is shown over a Unix socket only, and server.listen has none"
        raise CommandError(ExitStatus.USAGE, why)
    return sockets


def _control(sockets: list[Listen], *words: str) -> Document | None:
    """Return what the daemon answers to *words*, `None` for NOTFOUND."""
    key = " ".join(words).encode()
    return parse_document(ask_daemon(sockets, Request(map=CONTROL, key=key)))


def _entries(sockets: list[Listen]) -> Iterator[Document]:
    """Yield all that `list` has, in order of domain, page by page."""
    after = ""
    while True:
        page = _control(sockets, "list", after) or {"entries": [], "next": None}
        yield from page["entries"]
        if page["next"] is None or page["next"] <= after:
            return
        after = page["next"]


def _list(sockets: list[Listen], domains: list[str], *, as_json: bool) -> ExitStatus:
    entries = [e for e in _entries(sockets) if not domains or e["domain"] in domains]
    if as_json:
        result_json({"entries": entries})
    elif entries:
        for line in table([HEADINGS, *map(_row, entries)]):
            result(line)
    else:
        talk("no such domain is known" if domains else "nothing is known yet")
    return ExitStatus.WELL if entries else ExitStatus.WRONG


def _row(entry: Document) -> tuple[str, ...]:
    times = moment(entry["expires"]), moment(entry["asked"])
    return entry["domain"], entry["mode"] or "-", entry["id"] or "-", *times


def _show(sockets: list[Listen], domains: list[str], *, as_json: bool) -> ExitStatus:
    found: list[Document] = []
    for domain in domains:
        policy = _control(sockets, "show", domain)
        if policy is None:
            talk(f"{domain}: no policy is known")
            continue
        if not as_json:
            result("\n".join([""] * bool(found) + list(_policy_lines(policy))))
        found.append(policy)
    if as_json:
        result_json({"policies": found})
    return ExitStatus.WELL if len(found) == len(domains) else ExitStatus.WRONG


def _policy_lines(policy: Document) -> Iterator[str]:
    if policy["mode"] is None:
        yield f"{policy['domain']}: no policy"
    else:
        yield f"{policy['domain']}: policy {policy['id'] or 'without id'} in mode {policy['mode']}"
        yield f"  in force until {moment(policy['expires'])} (for {span(policy['max_age'])})"
        yield f"  fetched {moment(policy['fetched'])}, last seen valid {moment(policy['checked'])}"
    if policy["failure"] is not None:
        yield f"  last fetch failed: {printable(policy['failure'])}"
    for line in policy.get("text", "").splitlines():
        yield f"  | {printable(line)}"


def _refresh(sockets: list[Listen], domains: list[str], *, as_json: bool) -> ExitStatus:
    """Have the policies of *domains* fetched, all that are known where empty."""
    wanted = domains or [entry["domain"] for entry in _entries(sockets) if entry["mode"]]
    refreshed: list[Document] = []
    for domain in with_progress(wanted, sys.stderr):
        # One by one: the daemon would fetch them one after the other, too.
        refreshed += (_control(sockets, "refresh", domain) or {"refreshed": []})["refreshed"]
    if as_json:
        result_json({"refreshed": refreshed})
    elif refreshed:
        for line in table([(entry["domain"], _outcome(entry)) for entry in refreshed]):
            result(line)
    else:
        talk("no policy is known yet")
    well = refreshed and not any(entry["error"] for entry in refreshed)
    return ExitStatus.WELL if well else ExitStatus.WRONG


def _outcome(entry: Document) -> str:
    mode = entry["mode"] or "no policy"
    return f"{mode}; failed: {printable(entry['error'])}" if entry["error"] else mode


def _purge(
    sockets: list[Listen], domains: list[str], *, everything: bool, as_json: bool
) -> ExitStatus:
    if everything == bool(domains):
        why = "purge takes either domains or --all: forgetting policies lowers security"
        raise CommandError(ExitStatus.USAGE, why)
    batches = [domains[at : at + _AT_ONCE] for at in range(0, len(domains), _AT_ONCE)] or [["*"]]
    answers = [_control(sockets, "purge", *batch) or {"purged": 0} for batch in batches]
    purged = sum(answer["purged"] for answer in answers)
    if as_json:
        result_json({"purged": purged})
    else:
        result(f"{counted(purged, 'domain')} forgotten")
    return ExitStatus.WELL if purged or everything else ExitStatus.WRONG

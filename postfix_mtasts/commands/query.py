"""The verb `query`: what is answered for a next-hop, and why."""

import argparse
import sys

from postfix_mtasts.commands.asking import Document, ask_daemon, parse_document
from postfix_mtasts.commands.configuration import Source
from postfix_mtasts.commands.explanation_words import describe
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.commands.terminal import paint_for, result, result_json
from postfix_mtasts.config import Config
from postfix_mtasts.core.socketmap import Reply, Request, Status

EXPLAIN = "explain"
BY_HAND = "query:"
"""Before a map's name: the daemon then does not take the question for one of Postfix."""

EXPLAINED = "policy"
"""The map whose answer the document explains."""


def run(args: argparse.Namespace) -> int:
    """Print what is answered for ``args.domain``; return the exit status."""
    config = Source.from_arguments(args).load()
    key = args.domain.encode("utf-8", "surrogateescape")
    maps = [EXPLAIN] if args.map == EXPLAINED else [EXPLAIN, f"{BY_HAND}{args.map}"]
    replies = _ask(config, [Request(map=name, key=key) for name in maps], direct=args.direct)
    document = _explained(replies[0])
    if args.map != EXPLAINED:
        document["map"] = {"name": args.map, "reply": _checked(replies[1])}
    _show(document, config, as_json=args.json)
    return _exit_status(document)


def _ask(config: Config, requests: list[Request], *, direct: bool) -> list[Reply]:
    if direct:
        # DNS, HTTPS and an event loop take longer to load than the daemon to answer.
        from postfix_mtasts.commands.direct import ask_network  # noqa: PLC0415 - hence late

        return ask_network(config, requests)
    return [ask_daemon(config.server.listen, request) for request in requests]


def _explained(reply: Reply) -> Document:
    document = parse_document(reply)
    if document is None:
        raise CommandError(ExitStatus.WRONG, "the daemon does not explain")
    return document


def _checked(reply: Reply) -> str:
    """Return *reply* as Postfix gets it; raises CommandError where the map is unknown."""
    if reply.status is Status.PERM:
        parse_document(reply)
    return f"{reply.status.value} {reply.text}"


def _show(document: Document, config: Config, *, as_json: bool) -> None:
    if as_json:
        result_json(document)
        return
    level = config.server.default_level.value
    for line in describe(document, level, paint_for(sys.stdout)):
        result(line)


def _exit_status(document: Document) -> ExitStatus:
    answer: Document = document["map"] if "map" in document else document["verdict"]
    if document["nexthop"] is None:
        return ExitStatus.WRONG
    return ExitStatus.LATER if answer["reply"].startswith(("TEMP", "TIMEOUT")) else ExitStatus.WELL

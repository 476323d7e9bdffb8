"""What the commands ask, and what becomes of the reply."""

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from postfix_mtasts.adapters import socketmap_client
from postfix_mtasts.commands.failure import CommandError, ExitStatus
from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.socketmap import Reply, Request, Status

Document: TypeAlias = dict[str, Any]

TIMEOUT = 40.0
"""Seconds for one question: the daemon itself gives up on a look-up after 15."""

_ENDS = {
    Status.TEMP: ExitStatus.LATER,
    Status.TIMEOUT: ExitStatus.LATER,
    Status.PERM: ExitStatus.USAGE,
}


def ask_daemon(listens: Sequence[Listen], request: Request) -> Reply:
    """Return the daemon's reply to *request*; raises CommandError where there is none."""
    try:
        return socketmap_client.ask(listens, request.map, request.key, TIMEOUT)
    except socketmap_client.DaemonError as error:
        raise CommandError(ExitStatus.LATER, str(error)) from None


def parse_document(reply: Reply) -> Document | None:
    """Return the JSON object that *reply* holds, `None` for NOTFOUND.

    Raises CommandError for every other reply, and where there is no JSON object.
    """
    if reply.status is Status.NOTFOUND:
        return None
    if reply.status is not Status.OK:
        raise CommandError(_ENDS[reply.status], f"the daemon says: {reply.text}")
    try:
        document = json.loads(reply.text)
    except (ValueError, RecursionError):  # the latter for "[[[…"
        document = None
    if not isinstance(document, dict):
        raise CommandError(ExitStatus.WRONG, f"the daemon's answer is no JSON: {reply.text[:60]!r}")
    return document

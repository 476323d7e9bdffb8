"""The daemon's answers without the daemon: the network itself is asked, nothing is stored.

What the daemon remembers is not known here: a policy that is in force from a
fetch before is not, where it cannot be fetched now.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from postfix_mtasts.adapters.store_sqlite import SqliteStore
from postfix_mtasts.commands.assembly import build_fetcher, build_plan, build_resolver
from postfix_mtasts.config import Config
from postfix_mtasts.core.socketmap import Reply, Request, build_request, parse_reply
from postfix_mtasts.services.answer_cache import AnswerCache
from postfix_mtasts.services.answers import Answers


class _Leave(Exception):  # noqa: N818 - not an error: it ends the task group
    """All is answered; fetches that nobody waits for are cut short."""


def ask_network(config: Config, requests: Sequence[Request]) -> list[Reply]:
    """Return what a daemon with *config*, just started, would reply to *requests*.

    Raises ConfigError where *config* names what cannot be used.
    """
    # What goes wrong is in the replies; as a log it would only be said twice.
    logging.getLogger("postfix_mtasts").addHandler(logging.NullHandler())
    return asyncio.run(_ask(config, requests))


async def _ask(config: Config, requests: Sequence[Request]) -> list[Reply]:
    resolver, fetcher = build_resolver(config), build_fetcher(config)
    store = SqliteStore(None, clock=time.time)
    replies: list[Reply] = []
    try:
        async with asyncio.TaskGroup() as group:
            plan = build_plan(config, resolver=resolver, fetcher=fetcher, store=store, group=group)
            answers = Answers(
                plan=plan,
                cache=AnswerCache(limit=len(requests)),
                clock=time.time,
                ticks=time.monotonic,
            )
            replies += [await _answer(answers, request) for request in requests]
            raise _Leave  # noqa: TRY301 - nothing else ends a task group early
    except* _Leave:
        pass
    finally:
        await fetcher.close()
        await store.close()
    return replies


async def _answer(answers: Answers, request: Request) -> Reply:
    payload = build_request(request)
    reply = answers.immediate(payload)
    return parse_reply(await answers.eventual(payload) if reply is None else reply)

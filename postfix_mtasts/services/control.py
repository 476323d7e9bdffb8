"""The map "control": what the commands `cache` and `doctor` ask of the running daemon.

Forgetting a policy lowers security, and the policy sockets are open to every
local user, so this map answers only over a Unix socket, where the kernel names
the user at the other end, and only to root and to the daemon's own user.

A key is a verb and its words: ``list AFTER``, ``show DOMAIN``, ``refresh DOMAIN…``,
``purge DOMAIN…``, ``purge *`` or ``version``.  Replies are ``OK {json}``.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine

from postfix_mtasts import __version__
from postfix_mtasts.core import freshness
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import StsFacts
from postfix_mtasts.core.names import Form, NextHop, parse_domain
from postfix_mtasts.core.socketmap import (
    MAX_REPLY_BYTES,
    Reply,
    Request,
    Status,
    build_reply,
    parse_request,
)
from postfix_mtasts.ports import Entry, Store
from postfix_mtasts.services.answers import Answers

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds for a policy to be fetched; the command waits a little longer."""

PAGE = 200
ROOM_FOR_NAMES = 1000  # bytes of a reply for its word, its domain and its braces
_PREFIX = b"control "
ROOT = 0


class Control:
    """Answers the map "control" to root and to *own_uid*."""

    def __init__(self, *, store: Store, answers: Answers, own_uid: int) -> None:
        self._store = store
        self._answers = answers
        self._allowed = {ROOT, own_uid}
        self._verbs: dict[str, Callable[[list[str]], Coroutine[None, None, Reply]]] = {
            "list": self._list,
            "show": self._show,
            "refresh": self._refresh,
            "purge": self._purge,
            "version": self._version,
        }

    def is_for(self, payload: bytes) -> bool:
        """Return whether the request *payload* is for this map."""
        return payload.startswith(_PREFIX)

    async def answer(self, payload: bytes, uid: int | None) -> bytes:
        """Return the reply to *payload* from user *uid*, `None` where that is not known."""
        if uid not in self._allowed:
            text = "control: only for root and the daemon's user, over its Unix socket"
            return build_reply(Reply(status=Status.PERM, text=text))
        try:
            return build_reply(await self._obey(parse_request(payload)))
        except ParseError as error:
            return build_reply(Reply(status=Status.PERM, text=f"control: {error}"))

    async def _obey(self, request: Request) -> Reply:
        verb, *words = request.key.decode("utf-8", "replace").split() or [""]
        act = self._verbs.get(verb)
        if act is None:
            raise ParseError(f"unknown verb {verb[:40]!r}")
        return await act(words)

    async def _list(self, words: list[str]) -> Reply:
        entries = await self._store.entries(after=words[0] if words else "", limit=PAGE)
        shown = _within_limit(entries)
        complete = len(entries) < PAGE and len(shown) == len(entries)
        following = None if complete or not shown else shown[-1]["domain"]
        return _ok({"entries": shown, "next": following})

    async def _show(self, words: list[str]) -> Reply:
        domain = _domains(words)[0]
        stored = await self._store.load(NextHop(form=Form.DOMAIN, name=domain))
        if stored.sts == StsFacts():
            return Reply(status=Status.NOTFOUND)
        return _ok({"domain": domain} | _shown(stored.sts))

    async def _refresh(self, words: list[str]) -> Reply:
        return _ok({"refreshed": [await self._refreshed(domain) for domain in _domains(words)]})

    async def _refreshed(self, domain: str) -> dict[str, object]:
        try:
            async with asyncio.timeout(PATIENCE):
                sts = await self._answers.plan.lookups.refresh(domain)
        except TimeoutError:
            error = f"no policy within {PATIENCE:.0f} s"
            return {"domain": domain, "mode": None, "error": error}
        self._answers.forget((domain,))
        return {
            "domain": domain,
            "mode": None if sts.cached is None else sts.cached.policy.mode,
            "error": None if sts.failure is None else sts.failure.why,
        }

    async def _purge(self, words: list[str]) -> Reply:
        domains = () if words == ["*"] else _domains(words)
        count = await self._store.purge(domains)
        self._answers.forget(domains)
        log.warning("purged %s on request: %d policies", " ".join(words), count)
        return _ok({"purged": count})

    async def _version(self, _words: list[str]) -> Reply:
        return _ok({"version": __version__})


def _domains(words: list[str]) -> tuple[str, ...]:
    if not words:
        raise ParseError("no domain given")
    return tuple(map(parse_domain, words))


def _ok(document: dict[str, object]) -> Reply:
    return Reply(status=Status.OK, text=json.dumps(document))


def _within_limit(entries: tuple[Entry, ...]) -> list[dict[str, object]]:
    """Return as many of *entries* as a reply has room for."""
    shown: list[dict[str, object]] = []
    room = MAX_REPLY_BYTES - ROOM_FOR_NAMES
    for entry in entries:
        line: dict[str, object] = {
            "domain": entry.domain,
            "mode": entry.mode,
            "id": entry.record_id,
            "expires": entry.expires,
            "asked": entry.asked,
        }
        room -= len(json.dumps(line)) + 2
        if room < 0:
            break
        shown.append(line)
    return shown


def _shown(sts: StsFacts) -> dict[str, object]:
    failure = None if sts.failure is None else sts.failure.why
    if sts.cached is None:
        return {"mode": None, "failure": failure}
    policy = sts.cached.policy
    shown: dict[str, object] = {
        "mode": policy.mode,
        "id": sts.cached.record_id,
        "max_age": policy.max_age,
        "mx": policy.mx,
        "fetched": sts.cached.fetched,
        "checked": sts.cached.checked,
        "expires": freshness.policy_expires(sts.cached),
        "failure": failure,
    }
    room = MAX_REPLY_BYTES - ROOM_FOR_NAMES - len(json.dumps(shown))
    # JSON may need six characters for a byte.
    return shown | {"text": sts.cached.text[: room // 6].decode("utf-8", "replace")}

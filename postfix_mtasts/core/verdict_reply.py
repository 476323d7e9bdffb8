"""A verdict as Postfix is told it, and in one word for the log.

Postfix's side of the grammar is in `postfix_policy` and `socketmap`; here is
which of the five replies a verdict becomes.
"""

from postfix_mtasts.core.decision import Verdict
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.postfix_policy import Level, build_policy, without_tlsrpt
from postfix_mtasts.core.socketmap import Reply, Status, build_reply

NOTHING = build_reply(Reply(status=Status.NOTFOUND))
"""The payload that lets main.cf's own level apply."""


def level_name(verdict: Verdict) -> str:
    """Return the level in a word: "notfound" for main.cf's, "temp" for none."""
    if verdict.failed:
        return "temp"
    return "notfound" if verdict.policy is None else verdict.policy.level.value


def build_verdict_reply(verdict: Verdict) -> bytes:
    """Return the payload that tells Postfix *verdict*.

    Where TLSRPT's attributes cannot be said, the rest is said without them.
    """
    if verdict.failed:
        return build_reply(Reply(status=Status.TEMP, text=verdict.failed))
    if verdict.policy is None:
        return NOTHING
    try:
        text = build_policy(verdict.policy)
    except ParseError:
        plain = without_tlsrpt(verdict.policy)
        if plain.level is Level.MAY:
            return NOTHING  # testing mode: the attributes were all there was to say
        text = build_policy(plain)
    return build_reply(Reply(status=Status.OK, text=text))

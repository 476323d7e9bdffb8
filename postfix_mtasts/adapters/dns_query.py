"""One question to several servers until one answers.

A server that says it cannot tell (SERVFAIL, REFUSED), that does not answer or
that answers nonsense hands the question on to the next.  Servers are asked in
turn, briefly at first and longer each round, until one answers, one has refused
and all were asked, or the deadline has come.  A truncated answer is asked for
again over TCP.
"""

import asyncio
from dataclasses import dataclass
from typing import TypeAlias

import dns.rcode

from postfix_mtasts.adapters.dns_reply import Reply, read_reply
from postfix_mtasts.adapters.dns_transport import Question, ask_tcp, ask_udp
from postfix_mtasts.adapters.name_server import Server
from postfix_mtasts.adapters.server_choice import ServerChoice
from postfix_mtasts.core.dns_outcome import DnsOutcome, of_rcode
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.meters import Meters

FIRST_TRY = 1.5
"""Seconds given to each server in the first round, or less so that all have their turn.

Each further round has twice that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A definite reply: records, or none."""

    reply: Reply
    server: Server
    secure: bool  # validated by a server whose word counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one server gave no answer, as the words around "from SERVER"."""

    what: str
    how: str = ""
    is_silence: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """Why nothing was learnt, in words; *ours*: for want of a place or of time to ask."""

    why: str
    ours: bool = False


Outcome: TypeAlias = Answer | Failure

_Failures: TypeAlias = tuple[dict[Server, Failure], float]  # and the seconds they took

_SILENCE = Failure(what="no answer", is_silence=True)
_MALFORMED = Failure(what="malformed reply")
_REFERRAL = Failure(what="referral", how=", which does not recurse")


class Querier:
    """Asks the servers of *choice*, at most *max_concurrent* questions at once.

    *meters* count what comes of each question, by `DnsOutcome`.
    """

    def __init__(
        self, choice: ServerChoice, max_concurrent: int, meters: Meters | None = None
    ) -> None:
        self._choice = choice
        self._meters = meters
        self._slots = asyncio.Semaphore(max_concurrent)

    async def ask(self, question: Question, deadline: float) -> Answer | NoAnswer:
        """Return the answer to *question*, or why there is none.

        *deadline* is a time of the running loop's clock.  A server that is
        silent for the little time that a long wait for a place has left is not
        to blame.
        """
        now = asyncio.get_running_loop().time
        middle = (now() + deadline) / 2
        if not await self._take_slot(deadline):
            self._count(DnsOutcome.NOT_ASKED)
            return NoAnswer(why="too many DNS queries at once", ours=True)
        late = now() > middle
        try:
            outcome = await self._ask_in_turn(question, deadline)
        finally:
            self._slots.release()
        if isinstance(outcome, Answer):
            return outcome
        failures, elapsed = outcome
        silent = all(failure.is_silence for failure in failures.values())
        return NoAnswer(why=in_words(failures, elapsed), ours=silent and (late or not failures))

    async def _take_slot(self, deadline: float) -> bool:
        if not self._slots.locked():
            return await self._slots.acquire()  # at once, so without the cost of a timer
        try:
            async with asyncio.timeout_at(deadline):
                return await self._slots.acquire()
        except TimeoutError:
            return False

    async def _ask_in_turn(self, question: Question, deadline: float) -> Answer | _Failures:
        now = asyncio.get_running_loop().time
        start = now()
        failures: dict[Server, Failure] = {}
        servers = self._choice.in_order()
        seconds = min(FIRST_TRY, (deadline - start) / (len(servers) + 1))
        while all(failure.is_silence for failure in failures.values()) and now() < deadline:
            for server in servers:
                patience = min(seconds, deadline - now())
                if patience <= 0:
                    break
                outcome = await self.ask_one(server, question, patience)
                if isinstance(outcome, Answer):
                    return outcome
                failures[server] = outcome
            seconds *= 2
        return failures, now() - start

    async def ask_one(self, server: Server, question: Question, seconds: float) -> Outcome:
        """Ask *server* alone; UDP, and TCP where it is needed, have *seconds* in all."""
        try:
            reply = await _exchange(server, question, seconds)
        except TimeoutError:
            outcome: Outcome = _SILENCE
            self._count(DnsOutcome.SILENT)
        except OSError as error:
            outcome = Failure(what="no answer", how=f" ({error.strerror or error})")
            self._count(DnsOutcome.UNREACHABLE)
        except ParseError:
            outcome = _MALFORMED
            self._count(DnsOutcome.MALFORMED)
        else:
            self._choice.note_answer(server)
            return self._judge(server, reply)
        self._choice.note_failure(server)
        return outcome

    def _judge(self, server: Server, reply: Reply) -> Outcome:
        if not reply.is_definite:
            rcode = dns.rcode.to_text(reply.rcode)
            self._count(of_rcode(rcode))
            return Failure(what=rcode)
        if reply.is_referral:
            self._count(DnsOutcome.REFERRAL)
            return _REFERRAL
        self._count(DnsOutcome.ANSWERED)
        secure = reply.authenticated and server in self._choice.trusted
        return Answer(reply=reply, server=server, secure=secure)

    def _count(self, outcome: DnsOutcome) -> None:
        if self._meters is not None:
            self._meters.of(outcome.value).count += 1


async def _exchange(server: Server, question: Question, seconds: float) -> Reply:
    now = asyncio.get_running_loop().time
    end = now() + seconds
    reply = read_reply(await ask_udp(server, question, seconds), question)
    if reply.truncated:
        reply = read_reply(await ask_tcp(server, question, end - now()), question)
    if reply.truncated:
        raise ParseError("truncated over TCP", "RFC 7766 section 8")
    return reply


def in_words(failures: dict[Server, Failure], elapsed: float) -> str:
    """Return such as "SERVFAIL from 127.0.0.1, no answer from 127.0.0.2 within 1.5 s"."""
    if not failures:
        return "no time left to ask"
    kinds = dict.fromkeys(failures.values())
    return ", ".join(
        _kind_in_words(kind, [s for s, f in failures.items() if f == kind], elapsed)
        for kind in kinds
    )


def _kind_in_words(kind: Failure, servers: list[Server], elapsed: float) -> str:
    how = f" within {elapsed:.1f} s".replace(".0 s", " s") if kind.is_silence else kind.how
    return f"{kind.what} from {', '.join(map(str, servers))}{how}"

"""From a request to its reply: maps, verdicts, the log line of each decision.

Each map is a way to turn facts into a verdict.  What needs no facts (an unknown
map, a parent domain, an address, the operator's own answer) is answered at once;
the rest waits for a look-up.  Answers that hold go into the cache under the very
bytes of their request; temporary errors never do.

What Postfix asks is noted for the reports.  What a person asks is not, who puts
`BY_HAND` before the map's name or asks "explain"; ``postmap -q`` cannot be told
from Postfix.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from postfix_mtasts.core import decision, explanation
from postfix_mtasts.core.decision import Settings, Source, Verdict
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import Facts
from postfix_mtasts.core.names import NextHop, parse_nexthop
from postfix_mtasts.core.netstring import build_netstring
from postfix_mtasts.core.overrides import first_match
from postfix_mtasts.core.socketmap import Reply, Request, Status, build_reply, parse_request
from postfix_mtasts.core.verdict_reply import NOTHING, build_verdict_reply, level_name
from postfix_mtasts.ports import Clock, Findings, Resolver
from postfix_mtasts.services.activity import Activity, Trouble
from postfix_mtasts.services.answer_cache import AnswerCache
from postfix_mtasts.services.gathering import gather_tlsrpt
from postfix_mtasts.services.lookups import Lookups, Unanswered, Why

log = logging.getLogger(__name__)


def decide_policy(facts: Facts, settings: Settings, now: float) -> Verdict:
    """Return the verdict of map "policy"."""
    return decision.decide(facts, settings, now)


def decide_policy_tlsrpt(facts: Facts, settings: Settings, now: float) -> Verdict:
    """Return the verdict of map "policy-tlsrpt"."""
    verdict = decision.decide(facts, settings, now)
    return decision.with_tlsrpt(verdict, facts, settings, now)


MAPS: dict[str, Callable[[Facts, Settings, float], Verdict]] = {
    "policy": decide_policy,
    "policy-tlsrpt": decide_policy_tlsrpt,
    "requiretls": decision.decide_requiretls,
    "postfix": decide_policy,  # postfix-mta-sts-resolver
    "QUERY": decide_policy,  # postfix-tlspol
    "QUERYwithTLSRPT": decide_policy_tlsrpt,
}
STRICT = {"requiretls"}
EXPLAIN = "explain"
BY_HAND = "query:"
"""Before a map's name: a person asks what Postfix would be told, which is not reported on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a reload replaces, all at once.  *findings*: `None` where there are no reports."""

    settings: Settings
    lookups: Lookups
    resolver: Resolver
    findings: Findings | None = None


class Answers:
    """Answers requests; *ticks* is a clock in seconds that only goes forward."""

    def __init__(
        self,
        *,
        plan: Plan,
        cache: AnswerCache,
        clock: Clock,
        ticks: Callable[[], float],
        activity: Activity | None = None,
    ) -> None:
        self.plan = plan
        self.cache = cache
        self.activity = activity or Activity()
        self._clock = clock
        self._ticks = ticks

    def reload(self, plan: Plan) -> None:
        """Answer by *plan* from now on, and forget what the old one made."""
        self.plan = plan
        self.cache.clear()

    def immediate(self, payload: bytes) -> bytes | None:
        """Return the reply to *payload* where it takes no look-up, else `None`."""
        try:
            request = parse_request(payload)
        except ParseError as error:
            self.activity.refused()
            return build_reply(Reply(status=Status.PERM, text=str(error)))
        if request.map == EXPLAIN:
            return None
        map_name = request.map.removeprefix(BY_HAND)
        if map_name not in MAPS:
            self.activity.refused()
            return build_reply(Reply(status=Status.PERM, text=f"unknown map {map_name}"))
        nexthop = lookable(request.key)
        if nexthop is None:
            self._asked(request, None)
            self.activity.not_looked_up(request.map)
            return NOTHING
        verdict = self._operators(map_name, nexthop)
        if verdict is None:
            return None
        self._asked(request, nexthop)
        self._log(request.map, nexthop, verdict, 0)
        self.activity.answered(request.map, verdict)
        return self._keep(request, payload, verdict)

    async def eventual(self, payload: bytes) -> bytes:
        """Return the reply to *payload*, a request for which `immediate` has none."""
        request = parse_request(payload)
        if request.map == EXPLAIN:
            return await self._explain(request.key)
        return await self._decided(request, payload, parse_nexthop(request.key), Why.ASKED)

    async def refresh(self, payload: bytes) -> None:
        """Decide anew what is about to run out; a failure leaves the answer to its end."""
        request = parse_request(payload)
        nexthop = lookable(request.key)
        if nexthop is not None and request.map.removeprefix(BY_HAND) in MAPS:
            await self._decided(request, payload, nexthop, Why.AHEAD)

    def forget(self, domains: tuple[str, ...]) -> int:
        """Drop the answers about *domains*, all where empty; return how many."""
        spellings = tuple(domain.encode() for domain in domains)

        def concerns(framed: bytes) -> bool:
            # Most answers are about others: tell these without parsing them.
            near = not framed.isascii() or any(s in framed.lower() for s in spellings)
            return not domains or (near and _domain_of(framed) in domains)

        return self.cache.drop(concerns)

    def _asked(self, request: Request, nexthop: NextHop | None) -> None:
        findings = _findings(request, self.plan)
        if findings is not None:
            findings.asked(nexthop)

    def _operators(self, map_name: str, nexthop: NextHop) -> Verdict | None:
        """Return the operator's own answer, where it needs no facts."""
        override = first_match(self.plan.settings.overrides, nexthop.name)
        if override is None or override.level is None or map_name in STRICT:
            return None
        return decision.overridden(override, override.level)

    async def _decided(self, request: Request, payload: bytes, nexthop: NextHop, why: Why) -> bytes:
        plan, started = self.plan, self._ticks()
        decide = MAPS[request.map.removeprefix(BY_HAND)]
        findings = _findings(request, plan)
        trouble = None
        try:
            facts = await plan.lookups.facts(nexthop, why)
            if findings is not None:
                (findings.note if why is Why.ASKED else findings.renewed)(facts)
            verdict = decide(facts, plan.settings, self._clock())
            trouble = Trouble.DNS if verdict.failed else None
        except Unanswered as error:
            verdict, trouble = _unanswered(error), error.trouble
        seconds = self._ticks() - started
        self._log(request.map, nexthop, verdict, seconds)
        if why is Why.ASKED:
            self.activity.answered(request.map, verdict, trouble)
            self.activity.decided(seconds)
        if plan is self.plan:
            return self._keep(request, payload, verdict)
        return build_verdict_reply(verdict)  # reloaded meanwhile: true, but not for long

    def _keep(self, request: Request, payload: bytes, verdict: Verdict) -> bytes:
        reply = build_verdict_reply(verdict)
        if not verdict.failed:
            self.cache.put(
                build_netstring(payload),
                build_netstring(reply),
                lifetime=verdict.lifetime,
                protects=verdict.policy is not None,
                now=self._ticks(),
                meter=self.activity.cached(request.map, verdict),
            )
        return reply

    async def _explain(self, key: bytes) -> bytes:
        plan = self.plan
        nexthop = lookable(key)
        if nexthop is None:
            document = explanation.explain_key(key)
        else:
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(gather_tlsrpt(plan.resolver, nexthop.name))
                facts, verdict = await self._judged(plan, nexthop)
            document = explanation.explain(
                nexthop, facts, verdict, asking.result(), now=self._clock()
            )
        return build_reply(Reply(status=Status.OK, text=json.dumps(document)))

    async def _judged(self, plan: Plan, nexthop: NextHop) -> tuple[Facts | None, Verdict]:
        """Return what map "policy" answers of *nexthop*, and the facts where they can be had."""
        try:
            facts = await plan.lookups.facts(nexthop)
        except Unanswered as error:
            return None, self._operators("policy", nexthop) or _unanswered(error)
        return facts, decide_policy(facts, plan.settings, self._clock())

    def _log(self, map_name: str, nexthop: NextHop, verdict: Verdict, seconds: float) -> None:
        log.info(
            "answer domain=%s map=%s level=%s source=%s ms=%.1f reason=%s",
            nexthop,
            map_name,
            level_name(verdict),
            verdict.source.value,
            seconds * 1000,
            json.dumps(verdict.failed or verdict.reason, ensure_ascii=False),
            extra={
                "fields": {
                    "domain": str(nexthop),
                    "map": map_name,
                    "level": level_name(verdict),
                    "source": verdict.source.value,
                }
            },
        )


def _findings(request: Request, plan: Plan) -> Findings | None:
    """Return where to note what comes of *request*, `None` where nothing is to be noted."""
    return None if request.map.startswith(BY_HAND) else plan.findings


def _unanswered(error: Unanswered) -> Verdict:
    return Verdict(failed=str(error), reason=str(error), source=Source.ERROR, lifetime=0)


def lookable(key: bytes) -> NextHop | None:
    """Return the next-hop in *key*, `None` where there is nothing to look up."""
    try:
        nexthop = parse_nexthop(key)
    except ParseError:
        return None
    return nexthop if nexthop.looked_up else None


def _domain_of(framed: bytes) -> str:
    """Return the domain that a cached request, netstring and all, is about."""
    nexthop = lookable(framed.partition(b" ")[2][:-1])
    return "" if nexthop is None else nexthop.name

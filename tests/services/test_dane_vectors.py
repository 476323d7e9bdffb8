"""The conformance cases of DANE decisions: gathered by the real look-up, then decided."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from postfix_mtasts.core import decision, mta_sts, tlsa
from postfix_mtasts.core.decision import Settings, Stance, Verdict
from postfix_mtasts.core.facts import (
    Absent,
    CachedPolicy,
    DnsFacts,
    Facts,
    Lookup,
    Mx,
    Present,
    StsFacts,
    Unavailable,
)
from postfix_mtasts.core.names import NextHop, parse_nexthop
from postfix_mtasts.services.gathering import gather_hosts, gather_mx
from tests.world import START, World

VECTORS = Path(__file__).parent.parent / "data" / "vectors" / "dane_decision.json"
CASES = json.loads(VECTORS.read_text())
FAILING = {"bogus", "servfail", "timeout"}
ALIASES = 8


class VectorWorld(World):
    """Answers from a vector's ``dns``, following aliases as a resolver does."""

    def __init__(self, table: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self._table = {key.lower(): value for key, value in table.items()}

    async def _ask(self, name: str, kind: str) -> Lookup[Any]:
        secure, owner = True, name
        for _ in range(ALIASES):
            alias = self._table.get(f"{owner}/CNAME".lower())
            if alias is None or kind == "CNAME":
                return self._end(owner, kind, secure=secure)
            if alias["status"] in FAILING:
                return Unavailable(why=alias["status"])
            secure = secure and alias["status"] == "secure"
            owner = alias["data"][0]
        return Unavailable(why="alias loop")

    def _end(self, owner: str, kind: str, *, secure: bool) -> Lookup[Any]:
        found = self._table.get(f"{owner}/{kind}".lower(), {"status": self._zone(owner)})
        if found["status"] in FAILING:
            return Unavailable(why=found["status"])
        secure = secure and found["status"] == "secure"
        if found.get("data"):
            records = tuple(read(kind, text) for text in found["data"])
            return Present(records=records, secure=secure, ttl=300, owner=owner)
        return Absent(secure=secure, ttl=300, nxdomain=found.get("rcode") == "NXDOMAIN")

    def _zone(self, owner: str) -> str:
        """Return the status of what the vector says of *owner*, else "secure"."""
        near = [
            value["status"] for key, value in self._table.items() if key.startswith(f"{owner}/")
        ]
        return next((status for status in near if status not in FAILING), "secure")


def read(kind: str, text: str) -> object:
    words = text.split()
    if kind == "MX":
        return Mx(preference=int(words[0]), host=words[1].rstrip(".").lower())
    if kind == "TLSA":
        usage, selector, matching_type = map(int, words[:3])
        data = bytes.fromhex("".join(words[3:]))
        return tlsa.Record(usage=usage, selector=selector, matching_type=matching_type, data=data)
    return text


async def gather(nexthop: NextHop, table: dict[str, Any], sts: dict[str, Any] | None) -> Facts:
    world = VectorWorld(table)
    mx = await gather_mx(world, nexthop)
    hosts, omitted = await gather_hosts(world, nexthop, mx)
    record = Present(
        records=(mta_sts.Record(id="1"),), secure=False, ttl=300, owner="_mta-sts.example.com"
    )
    dns = DnsFacts(gathered=START, mx=mx, hosts=hosts, omitted=omitted, sts_record=record)
    return Facts(nexthop=nexthop, dns=dns, sts=StsFacts(cached=policy(sts)))


def policy(sts: dict[str, Any] | None) -> CachedPolicy | None:
    if sts is None:
        return None
    parsed = mta_sts.Policy(mode=sts["mode"], mx=tuple(sts["mx"]), max_age=86400)
    return CachedPolicy(record_id="1", policy=parsed, text=b"", fetched=START, checked=START)


def overall(verdict: Verdict) -> str:
    if verdict.failed:
        return "temp"
    if verdict.policy is None:
        return "none"
    level = verdict.policy.level.value
    return "sts" if level == "secure" else level


def per_mx(facts: Facts) -> dict[str, str]:
    """Return what each host gets, in the words of the vectors."""
    words = {host.name: decision.stance(host) for host in facts.dns.hosts}
    half = isinstance(facts.dns.mx, Present) and not facts.dns.mx.secure
    return {
        name: "half-dane" if half and stance is Stance.AUTHENTICATE else stance.value
        for name, stance in words.items()
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_the_answer_is_one_that_the_case_accepts(case: dict[str, Any]) -> None:
    asked = case["input"]
    key = {"domain": "{}", "host": "[{}]", "literal": "[{}]"}[asked["form"]].format(
        asked["nexthop"]
    )
    port = "" if asked["port"] == 25 else f":{asked['port']}"
    nexthop = parse_nexthop(f"{key}{port}".encode())
    if not nexthop.looked_up:
        assert case["expect"]["overall"] == "none"
        return
    facts = asyncio.run(gather(nexthop, asked["dns"], asked["sts"]))
    verdict = decision.decide(facts, Settings(), START)
    accepted = case.get("accept_overall") or [case["expect"]["overall"]]
    assert overall(verdict) in accepted, case["why"]
    assert per_mx(facts) == case["expect"]["per_mx"]

"""What is known of a next-hop and what follows from it, as one document.

The document is what map "explain" answers and ``query --json`` prints::

    {"domain", "nexthop",
     "verdict": {"level", "reply", "reason", "source", "expires_in"},
     "dane":    {"mx": {"status", "secure", "records"},
                 "hosts": [{"name", "preference", "addresses", "address_lookup", "stance",
                            "tlsa": {"status", "secure", "usable", "records"}}],
                 "unexamined"},
     "mta_sts": {"status", "id", "mode", "max_age", "mx", "fetched", "expires", "error",
                 "record": {"status", "secure", "id"}},
     "tlsrpt":  {"status", "secure", "rua"}}

* Times are seconds since the epoch, *expires_in* and *max_age* are seconds.
* *status* is "present", "absent" or "unavailable"; *why* stands beside it where
  there is more to say, always beside "unavailable".
* What was not asked is "absent", its *why* begins with "not asked".
* *reply* is the whole reply of map "policy"; *level* is `None` where it names none.
* *stance* is what RFC 7672 asks for at the host, in the words of `decision.Stance`.
* Of *mta_sts*, *status* is about the policy: "present" while one is in force.
* *nexthop* is `None` for a key that is none.

A document has at most `MAX_BYTES` as JSON; where strangers publish more, lists
and texts are cut and *note* says so.
"""

import json
from typing import TypeAlias

from postfix_mtasts.core import decision, freshness, tlsa, tlsrpt_record
from postfix_mtasts.core.decision import Source, Verdict
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import (
    Absent,
    CachedPolicy,
    DnsFacts,
    Facts,
    HostFacts,
    Lookup,
    Mx,
    Present,
    Unavailable,
    mx_hosts,
)
from postfix_mtasts.core.names import Form, NextHop, parse_nexthop
from postfix_mtasts.core.verdict_reply import build_verdict_reply

Document: TypeAlias = dict[str, object]

MAX_BYTES = 90_000  # of 100,000 that Postfix's side of the protocol takes
NOTE = "shortened: what is published is too much for one document"

_MAX_REPLY = 30_000  # characters; a match of 100 names, the longest there are, has 26,000
_MAX_REASON = 1000
_CUTS = ((100, 2000), (30, 500), (10, 300), (3, 200))
"""Items of a list and characters of a text, ever fewer until the document fits.

The last leaves 13 texts of any characters, at most 12 bytes each in JSON, and 27 of
ASCII: 37,000 bytes.  The longest reply and reason have 42,000, the keys 3,000.
"""

_NOT_LOOKED_UP = {
    Form.PARENT: "a parent domain: policies are not inherited, each next-hop has its own",
    Form.LITERAL: "an address: neither DANE nor MTA-STS can speak of it",
}


def explain(
    nexthop: NextHop,
    facts: Facts | None,
    verdict: Verdict,
    tlsrpt: Lookup[tlsrpt_record.Record],
    *,
    now: float,
) -> Document:
    """Return the document on *nexthop*; *facts* is `None` where they could not be had."""
    if facts is None:
        unknown: Document = {"status": "unavailable", "secure": False, "why": verdict.reason}
        dane, mta_sts = _dane(unknown), _mta_sts(unknown)
    else:
        dane, mta_sts = _known_dane(facts.dns, nexthop), _known_mta_sts(facts, now)
    return _document(nexthop, verdict, dane, mta_sts, _tlsrpt(tlsrpt))


def explain_key(key: bytes) -> Document:
    """Return the document on *key*, of which nothing is looked up.

    That is a parent domain, an address, or no next-hop at all.
    """
    nexthop: NextHop | None = None
    try:
        nexthop = parse_nexthop(key)
        why = _NOT_LOOKED_UP.get(nexthop.form, "")
    except ParseError as error:
        why = str(error)
    verdict = Verdict(reason=why, source=Source.NONE, lifetime=0)
    nothing = _status(None, not_asked="there is nothing to look up")
    return _document(nexthop, verdict, _dane(nothing), _mta_sts(nothing), nothing | {"rua": []})


def _document(
    nexthop: NextHop | None, verdict: Verdict, dane: Document, mta_sts: Document, tlsrpt: Document
) -> Document:
    head: Document = {
        "domain": None if nexthop is None else nexthop.name,
        "nexthop": None if nexthop is None else str(nexthop),
        "verdict": _verdict(verdict),
    }
    return _fitting(head, {"dane": dane, "mta_sts": mta_sts, "tlsrpt": tlsrpt})


def _verdict(verdict: Verdict) -> Document:
    return {
        "level": None if verdict.policy is None else verdict.policy.level.value,
        "reply": _cut(build_verdict_reply(verdict).decode(), _MAX_REPLY),
        "reason": _cut(verdict.reason, _MAX_REASON),
        "source": verdict.source.value,
        "expires_in": int(verdict.lifetime),
    }


def _status(lookup: Lookup[object] | None, *, not_asked: str = "", no_name: str = "") -> Document:
    """Return how *lookup* went, without its records.

    *not_asked*: why there was none; *no_name*: what to say of a name that does not exist.
    """
    match lookup:
        case Present():
            return {"status": "present", "secure": lookup.secure}
        case Unavailable():
            return {"status": "unavailable", "secure": False, "why": lookup.why}
        case None:
            return {"status": "absent", "secure": False, "why": f"not asked: {not_asked}"}
    why = lookup.why or (no_name if lookup.nxdomain else "")
    return {"status": "absent", "secure": lookup.secure} | ({"why": why} if why else {})


def _dane(unknown: Document) -> Document:
    """Return the section where nothing was learnt, for the reason in *unknown*."""
    return {"mx": unknown | {"records": []}, "hosts": [], "unexamined": 0}


def _known_dane(dns: DnsFacts, nexthop: NextHop) -> Document:
    status = _status(
        dns.mx,
        not_asked=f"mail for {nexthop} goes to that host itself",
        no_name="the domain does not exist",
    )
    status["secure"] = decision.mx_is_secure(dns)
    return {
        "mx": status | {"records": _mx_records(dns.mx)},
        "hosts": [_host(host) for host in dns.hosts],
        "unexamined": len(mx_hosts(dns.mx, nexthop)) - len(dns.hosts),
    }


def _mx_records(mx: Lookup[Mx] | None) -> list[str]:
    """Return the MX records as a zone file would say them, the best first."""
    if not isinstance(mx, Present):
        return []
    ordered = sorted(mx.records, key=lambda record: (record.preference, record.host))
    return [f"{record.preference} {record.host}." for record in ordered]


def _host(host: HostFacts) -> Document:
    addresses = host.addresses
    return {
        "name": host.name,
        "preference": host.preference,
        "addresses": list(addresses.records) if isinstance(addresses, Present) else [],
        "address_lookup": _status(addresses, no_name="the host does not exist"),
        "stance": decision.stance(host).value,
        "tlsa": _tlsa(host),
    }


def _tlsa(host: HostFacts) -> Document:
    records = host.tlsa.records if isinstance(host.tlsa, Present) else ()
    return _status(host.tlsa, not_asked=_why_no_tlsa(host.addresses)) | {
        "usable": bool(tlsa.usable(records)),
        "records": [str(record) for record in records],
    }


def _why_no_tlsa(addresses: Lookup[str]) -> str:
    if isinstance(addresses, Present):
        return "the address is not DNSSEC-validated"
    if isinstance(addresses, Absent):
        return "the host has no address"
    return "the addresses could not be looked up"


def _mta_sts(status: Document, cached: CachedPolicy | None = None) -> Document:
    """Return the section with what *cached* says and nothing of a record."""
    return {
        **status,
        "id": None if cached is None else cached.record_id,
        "mode": None if cached is None else cached.policy.mode,
        "max_age": None if cached is None else cached.policy.max_age,
        "mx": [] if cached is None else list(cached.policy.mx),
        "fetched": None if cached is None else cached.fetched,
        "expires": None if cached is None else freshness.policy_expires(cached),
        "error": status.get("why") if status["status"] == "unavailable" else None,
        "record": status | {"id": None},
    }


def _known_mta_sts(facts: Facts, now: float) -> Document:
    record = facts.dns.sts_record
    record_id = record.records[0].id if isinstance(record, Present) else None
    status = _status(record, not_asked="MTA-STS is for mail on port 25")
    cached = decision.policy_in_force(facts, now)
    document = _mta_sts(_policy_status(status, facts, cached), cached)
    return document | {
        "id": document["id"] or record_id,
        "error": None if record is None else _sts_error(facts),
        "record": status | {"id": record_id},
    }


def _policy_status(record: Document, facts: Facts, cached: CachedPolicy | None) -> Document:
    """Return whether there is a policy in force, and why not, given the status of its record."""
    if cached is not None:
        return {"status": "present"}
    if record["status"] != "present":
        return {key: value for key, value in record.items() if key != "secure"}
    failure = facts.sts.failure
    return {
        "status": "unavailable",
        "why": "not fetched yet" if failure is None else failure.why,
    }


def _sts_error(facts: Facts) -> str | None:
    """Return what is wrong: with the last fetch, else with the record, `None` if nothing is."""
    if facts.sts.failure is not None:
        return facts.sts.failure.why
    match facts.dns.sts_record:
        case Unavailable(why=why) | Absent(why=why) if why:
            return why
    return None


def _tlsrpt(lookup: Lookup[tlsrpt_record.Record]) -> Document:
    rua = lookup.records[0].rua if isinstance(lookup, Present) else ()
    return _status(lookup) | {"rua": list(rua)}


def _fitting(head: Document, details: Document) -> Document:
    """Return *head* with *details*, these cut as far as `MAX_BYTES` asks for."""
    document = head | details
    for items, characters in _CUTS:
        if len(json.dumps(document)) <= MAX_BYTES:
            return document
        document = head | {"note": NOTE} | _shortened(details, items, characters)
    return document


def _shortened(details: Document, items: int, characters: int) -> Document:
    return {key: _shorter(value, items, characters) for key, value in details.items()}


def _shorter(value: object, items: int, characters: int) -> object:
    match value:
        case dict():
            return _shortened(value, items, characters)
        case list():
            return [_shorter(item, items, characters) for item in value[:items]]
        case str():
            return _cut(value, characters)
    return value


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"

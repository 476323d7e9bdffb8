"""The document of map "explain"."""

import json
from dataclasses import replace
from typing import Any

import pytest

from postfix_mtasts.core import decision, mta_sts, tlsa, tlsrpt_record
from postfix_mtasts.core.decision import Settings, Source, Verdict
from postfix_mtasts.core.explanation import MAX_BYTES, NOTE, explain, explain_key
from postfix_mtasts.core.facts import (
    Absent,
    CachedPolicy,
    DnsFacts,
    Facts,
    FailedFetch,
    HostFacts,
    Lookup,
    Mx,
    Present,
    StsFacts,
    Unavailable,
)
from postfix_mtasts.core.names import NextHop, parse_nexthop
from postfix_mtasts.core.overrides import Override
from postfix_mtasts.core.postfix_policy import Level
from postfix_mtasts.core.tls_event import ResultType

NOW = 1_000_000.0
DIGEST = bytes(range(32))
USABLE = tlsa.Record(usage=3, selector=1, matching_type=1, data=DIGEST)
UNUSABLE = tlsa.Record(usage=1, selector=1, matching_type=1, data=DIGEST)
ABSENT = Absent(secure=False, ttl=60)
BROKEN = Unavailable(why="TXT: SERVFAIL from 127.0.0.1")
RUA = ("mailto:tls@example.com",)
TLSRPT = Present(records=(tlsrpt_record.Record(rua=RUA),), secure=True, ttl=60, owner="x")
EXAMPLE = parse_nexthop(b"example.com")


def found(*records: Any, secure: bool = True) -> Present[Any]:
    return Present(records=records, secure=secure, ttl=3600, owner="mx.example.com")


ONE_MX = found(Mx(preference=10, host="mx.example.com"))
NO_POLICY = StsFacts()
RECORD = found(mta_sts.Record(id="2024"))
POLICY = mta_sts.Policy(mode="enforce", mx=("mx.example.com", "*.example.net"), max_age=604800)
CACHED = CachedPolicy(
    record_id="2024", policy=POLICY, text=b"", fetched=NOW - 60.5, checked=NOW - 30
)
FAILURE = FailedFetch(
    record_id="2025",
    at=NOW - 1,
    retry_at=NOW + 299,
    kind=ResultType.STS_WEBPKI_INVALID,
    why="certificate has expired",
)


def host(
    name: str = "mx.example.com",
    addresses: Lookup[str] | None = None,
    records: Lookup[tlsa.Record] | None = None,
) -> HostFacts:
    return HostFacts(
        name=name, preference=10, addresses=addresses or found("192.0.2.1"), tlsa=records
    )


def facts(  # the usual case, and what a test makes different
    *hosts: HostFacts,
    nexthop: NextHop = EXAMPLE,
    mx: Lookup[Mx] | None = ONE_MX,
    record: Lookup[mta_sts.Record] | None = ABSENT,
    sts: StsFacts = NO_POLICY,
) -> Facts:
    dns = DnsFacts(gathered=NOW, mx=mx, hosts=hosts, sts_record=record)
    return Facts(nexthop=nexthop, dns=dns, sts=sts)


def document(known: Facts, tlsrpt: Lookup[tlsrpt_record.Record] = ABSENT) -> dict[str, Any]:
    verdict = decision.decide(known, Settings(), NOW)
    return explain(known.nexthop, known, verdict, tlsrpt, now=NOW)


def test_all_that_protects_a_domain_is_in_its_document() -> None:
    known = facts(
        host(records=found(USABLE)),
        record=RECORD,
        sts=StsFacts(cached=CACHED),
    )
    assert document(known, TLSRPT) == {
        "domain": "example.com",
        "nexthop": "example.com",
        "verdict": {
            "level": "dane-only",
            "reply": "OK dane-only",
            "reason": "every MX host has usable DNSSEC-validated TLSA records",
            "source": "dane",
            "expires_in": 3600,
        },
        "dane": {
            "mx": {"status": "present", "secure": True, "records": ["10 mx.example.com."]},
            "hosts": [
                {
                    "name": "mx.example.com",
                    "preference": 10,
                    "addresses": ["192.0.2.1"],
                    "address_lookup": {"status": "present", "secure": True},
                    "stance": "dane",
                    "tlsa": {
                        "status": "present",
                        "secure": True,
                        "usable": True,
                        "records": [f"3 1 1 {DIGEST.hex().upper()}"],
                    },
                }
            ],
            "unexamined": 0,
        },
        "mta_sts": {
            "status": "present",
            "id": "2024",
            "mode": "enforce",
            "max_age": 604800,
            "mx": ["mx.example.com", "*.example.net"],
            "fetched": NOW - 60.5,
            "expires": NOW - 30 + 604800,
            "error": None,
            "record": {"status": "present", "secure": True, "id": "2024"},
        },
        "tlsrpt": {"status": "present", "secure": True, "rua": list(RUA)},
    }


def test_nothing_but_a_domain_lets_main_cf_decide() -> None:
    told = document(facts(host(addresses=found("192.0.2.1", secure=False))))
    assert told["verdict"]["level"] is None
    assert told["verdict"]["reply"] == "NOTFOUND "
    assert told["verdict"]["source"] == "none"
    assert told["mta_sts"]["status"] == "absent"
    assert told["mta_sts"]["error"] is None
    assert told["tlsrpt"] == {"status": "absent", "secure": False, "rua": []}


def test_a_reply_is_told_as_postfix_gets_it() -> None:
    known = facts(host(records=ABSENT), record=RECORD, sts=StsFacts(cached=CACHED))
    reply = document(known)["verdict"]["reply"]
    assert reply == "OK secure match=mx.example.com servername=hostname"


def test_a_failure_of_dns_is_told_with_its_reason() -> None:
    told = document(facts(mx=Unavailable(why="MX example.com: SERVFAIL")))
    assert told["verdict"]["level"] is None
    assert told["verdict"]["reply"] == "TEMP DNS: MX example.com: SERVFAIL"
    assert told["verdict"]["source"] == "error"
    assert told["dane"]["mx"] == {
        "status": "unavailable",
        "secure": False,
        "why": "MX example.com: SERVFAIL",
        "records": [],
    }


def test_without_facts_every_section_says_why() -> None:
    why = "still looking example.com up after 15 s"
    verdict = Verdict(failed=why, reason=why, source=Source.ERROR, lifetime=0)
    told: dict[str, Any] = explain(EXAMPLE, None, verdict, BROKEN, now=NOW)
    sections = (told["dane"]["mx"], told["mta_sts"], told["tlsrpt"])
    assert [section["status"] for section in sections] == ["unavailable"] * 3
    assert [section["why"] for section in sections] == [why, why, BROKEN.why]
    assert told["mta_sts"]["error"] == why
    assert told["verdict"]["reply"] == f"TEMP {why}"


@pytest.mark.parametrize(
    ("mx", "secure", "why"),
    [
        (Absent(secure=True, ttl=60), True, None),
        (Absent(secure=False, ttl=60, nxdomain=True), False, "the domain does not exist"),
        (None, True, "not asked: mail for example.com goes to that host itself"),
    ],
    ids=["none", "no such domain", "not asked"],
)
def test_without_mx_records_it_says_why(mx: Lookup[Mx] | None, secure: bool, why: str) -> None:  # noqa: FBT001 - a parameter of the table
    told = document(facts(mx=mx))["dane"]["mx"]
    assert (told["status"], told["secure"], told.get("why")) == ("absent", secure, why)


def test_mx_records_stand_in_the_order_of_their_preference() -> None:
    names = [(20, "b.example"), (20, "a.example"), (5, "c.example")]
    mx = found(*(Mx(preference=number, host=name) for number, name in names))
    told = document(facts(mx=mx))["dane"]
    assert told["mx"]["records"] == ["5 c.example.", "20 a.example.", "20 b.example."]
    assert told["unexamined"] == 3


@pytest.mark.parametrize(
    ("addresses", "records", "stance", "status", "why"),
    [
        (found("192.0.2.1"), ABSENT, "may", "absent", None),
        (found("192.0.2.1"), found(UNUSABLE), "encrypt", "present", None),
        (found("192.0.2.1"), found(USABLE, secure=False), "may", "present", None),
        (found("192.0.2.1"), BROKEN, "skip", "unavailable", BROKEN.why),
        (
            found("192.0.2.1", secure=False),
            None,
            "may",
            "absent",
            "not asked: the address is not DNSSEC-validated",
        ),
        (ABSENT, None, "unreachable", "absent", "not asked: the host has no address"),
        (BROKEN, None, "skip", "absent", "not asked: the addresses could not be looked up"),
    ],
    ids=["none", "unusable", "insecure", "failed", "address insecure", "no address", "broken"],
)
def test_of_each_host_it_says_what_its_tlsa_records_ask_for(
    addresses: Lookup[str],
    records: Lookup[tlsa.Record] | None,
    stance: str,
    status: str,
    why: str | None,
) -> None:
    told = document(facts(host(addresses=addresses, records=records)))["dane"]["hosts"][0]
    assert told["stance"] == stance
    assert (told["tlsa"]["status"], told["tlsa"].get("why")) == (status, why)
    assert told["addresses"] == (list(addresses.records) if isinstance(addresses, Present) else [])


def test_records_that_cannot_be_used_are_shown_as_such() -> None:
    told = document(facts(host(records=found(UNUSABLE))))["dane"]["hosts"][0]["tlsa"]
    assert told["usable"] is False
    assert told["records"] == [f"1 1 1 {DIGEST.hex().upper()}"]


def test_a_host_that_does_not_exist_is_said_not_to() -> None:
    gone = host(addresses=Absent(secure=False, ttl=60, nxdomain=True))
    told = document(facts(gone))["dane"]["hosts"][0]
    assert told["address_lookup"]["why"] == "the host does not exist"


MALFORMED = Absent(secure=False, ttl=60, why="several records")


@pytest.mark.parametrize(
    ("record", "sts", "expected"),
    [
        (RECORD, StsFacts(), ("unavailable", "2024", "not fetched yet", None)),
        (RECORD, StsFacts(failure=FAILURE), ("unavailable", "2024", FAILURE.why, FAILURE.why)),
        (RECORD, StsFacts(cached=CACHED, failure=FAILURE), ("present", "2024", None, FAILURE.why)),
        (BROKEN, StsFacts(), ("unavailable", None, BROKEN.why, BROKEN.why)),
        (BROKEN, StsFacts(cached=CACHED), ("present", "2024", None, BROKEN.why)),
        (MALFORMED, StsFacts(), ("absent", None, MALFORMED.why, MALFORMED.why)),
        (ABSENT, StsFacts(cached=CACHED), ("present", "2024", None, None)),
    ],
    ids=[
        "not fetched",
        "fetch failed",
        "fetch of a newer one failed",
        "record broken",
        "record broken beside a policy",
        "record malformed",
        "record gone",
    ],
)
def test_it_says_whether_a_policy_is_in_force_and_what_is_wrong(
    record: Lookup[mta_sts.Record],
    sts: StsFacts,
    expected: tuple[str | None, ...],
) -> None:
    told = document(facts(record=record, sts=sts))["mta_sts"]
    assert (told["status"], told["id"], told.get("why"), told["error"]) == expected


def test_a_policy_that_has_run_out_is_none() -> None:
    old = replace(CACHED, checked=NOW - POLICY.max_age - 1)
    told = document(facts(sts=StsFacts(cached=old)))["mta_sts"]
    assert (told["status"], told["mode"], told["expires"]) == ("absent", None, None)


def test_a_policy_fetched_without_a_record_gets_the_id_of_the_record() -> None:
    unnamed = replace(CACHED, record_id="")
    assert document(facts(record=RECORD, sts=StsFacts(cached=unnamed)))["mta_sts"]["id"] == "2024"
    assert document(facts(sts=StsFacts(cached=unnamed)))["mta_sts"]["id"] is None


def test_policies_are_about_port_25() -> None:
    known = facts(
        nexthop=parse_nexthop(b"example.com:587"),
        record=None,
        sts=StsFacts(cached=CACHED, failure=FAILURE),
    )
    told = document(known)
    assert told["nexthop"] == "example.com:587"
    assert told["mta_sts"]["status"] == "absent"
    assert told["mta_sts"]["why"] == "not asked: MTA-STS is for mail on port 25"
    assert told["mta_sts"]["error"] is None


@pytest.mark.parametrize(
    ("key", "domain", "nexthop", "reason"),
    [
        (b".example.com", "example.com", ".example.com", "a parent domain"),
        (b"[192.0.2.1]", "192.0.2.1", "[192.0.2.1]", "an address"),
        (b"no such", None, None, "'no such' is no host name"),
    ],
)
def test_a_key_that_is_not_looked_up_is_answered_with_a_reason(
    key: bytes, domain: str | None, nexthop: str | None, reason: str
) -> None:
    told: dict[str, Any] = explain_key(key)
    assert (told["domain"], told["nexthop"]) == (domain, nexthop)
    assert told["verdict"].pop("reason").startswith(reason)
    assert told["verdict"] == {
        "level": None,
        "reply": "NOTFOUND ",
        "source": "none",
        "expires_in": 0,
    }
    for section in (told["dane"]["mx"], told["mta_sts"], told["tlsrpt"]):
        assert section["status"] == "absent"
        assert section["why"] == "not asked: there is nothing to look up"


def test_every_document_has_the_same_shape() -> None:
    looked_up = document(facts(host(records=found(USABLE)), record=RECORD))
    not_looked_up: dict[str, Any] = explain_key(b".example.com")
    for section in ("verdict", "dane"):
        assert looked_up[section].keys() == not_looked_up[section].keys()
    for section in ("mta_sts", "tlsrpt"):
        assert looked_up[section].keys() - {"why"} == not_looked_up[section].keys() - {
            "why",
            "secure",
        } | (looked_up[section].keys() & {"secure"})


def test_a_document_that_fits_is_not_cut() -> None:
    many = found(*(replace(USABLE, data=bytes([n]) * 32) for n in range(50)))
    told = document(facts(host(records=many)))
    assert len(told["dane"]["hosts"][0]["tlsa"]["records"]) == 50
    assert "note" not in told


def test_what_strangers_publish_never_makes_a_document_too_long() -> None:
    huge = tlsa.Record(usage=3, selector=0, matching_type=0, data=bytes(60_000))
    why = "\N{PILE OF POO}" * 5000
    hosts = [
        host(f"{n:02}." + "a" * 60 + ".example", records=found(*[huge] * 10)) for n in range(32)
    ]
    longest = tuple(f"{n:03}.{'.'.join(['a' * 59] * 4)}" for n in range(1000))
    policy = replace(POLICY, mx=longest)
    known = facts(
        *hosts,
        mx=found(*(Mx(preference=1, host=name) for name in longest)),
        record=Unavailable(why=why),
        sts=StsFacts(cached=replace(CACHED, policy=policy), failure=replace(FAILURE, why=why)),
    )
    told = document(known, Unavailable(why=why))
    assert len(json.dumps(told)) <= MAX_BYTES
    assert told["note"] == NOTE
    assert told["verdict"]["reply"].endswith(" servername=hostname")
    assert told["dane"]["hosts"][0]["tlsa"]["records"][0].endswith("…")


def test_an_operators_endless_answer_is_cut_too() -> None:
    override = Override(
        domain="example.com",
        subtree=False,
        level=Level.SECURE,
        minimum=None,
        match=tuple(f"mx{n}.example.com" for n in range(5000)),
        servername=None,
        protocols=None,
        ciphers=None,
    )
    verdict = replace(decision.overridden(override, Level.SECURE), reason="\N{PILE OF POO}" * 5000)
    huge = tuple("\N{PILE OF POO}" * 1000 for _ in range(1000))
    tlsrpt = Present(records=(tlsrpt_record.Record(rua=huge),), secure=True, ttl=1, owner="x")
    broken = Unavailable(why="\N{PILE OF POO}" * 5000)
    known = facts(*[host(addresses=broken, records=broken)] * 32, record=broken, mx=broken)
    told = explain(EXAMPLE, known, verdict, tlsrpt, now=NOW)
    assert len(json.dumps(told)) <= MAX_BYTES

"""The verb `query`: what a postmaster is told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from postfix_mtasts.core import decision, mta_sts, tlsa, tlsrpt_record
from postfix_mtasts.core.decision import Settings
from postfix_mtasts.core.explanation import explain, explain_key
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
from postfix_mtasts.core.names import parse_nexthop
from postfix_mtasts.core.tls_event import ResultType
from tests.commands.conftest import Command, Daemon

NOW = 1_700_000_000.0
ABSENT = Absent(secure=False, ttl=300)
ABSENT_DOMAIN = Absent(secure=False, ttl=300, nxdomain=True)
NO_POLICY = StsFacts()
USABLE = tlsa.Record(usage=3, selector=1, matching_type=1, data=bytes(range(32)))
UNUSABLE = replace(USABLE, usage=1)
SERVFAIL = Unavailable(why="TLSA _25._tcp.mx2.example.com: SERVFAIL from 127.0.0.1")


def found(*records: Any, secure: bool = True) -> Present[Any]:
    return Present(records=records, secure=secure, ttl=3600, owner="x")


RECORD = found(mta_sts.Record(id="2024"))
CACHED = CachedPolicy(
    record_id="2024",
    policy=mta_sts.Policy(mode="enforce", mx=("*.example.com",), max_age=604800),
    text=b"",
    fetched=NOW - 3600,
    checked=NOW,
)
FAILURE = FailedFetch(
    record_id="2024",
    at=NOW,
    retry_at=NOW + 300,
    kind=ResultType.STS_WEBPKI_INVALID,
    why="certificate has expired",
)


def host(
    number: int,
    records: Lookup[tlsa.Record] | None = None,
    addresses: Lookup[str] | None = None,
) -> HostFacts:
    return HostFacts(
        name=f"mx{number}.example.com",
        preference=10 * number,
        addresses=addresses or found(f"192.0.2.{number}", secure=records is not None),
        tlsa=records,
    )


def explained(
    *hosts: HostFacts,
    mx: Lookup[Mx] | None = None,
    record: Lookup[mta_sts.Record] = ABSENT,
    sts: StsFacts = NO_POLICY,
    tlsrpt: Lookup[tlsrpt_record.Record] = ABSENT,
    settings: Settings | None = None,
) -> str:
    """Return the reply of map "explain" on example.com."""
    answer = mx or found(*(Mx(preference=h.preference, host=h.name) for h in hosts))
    dns = DnsFacts(gathered=NOW, mx=answer, hosts=hosts, sts_record=record)
    facts = Facts(nexthop=parse_nexthop(b"example.com"), dns=dns, sts=sts)
    verdict = decision.decide(facts, settings or Settings(), NOW)
    return f"OK {json.dumps(explain(facts.nexthop, facts, verdict, tlsrpt, now=NOW))}"


def script(reply: str, **others: str) -> dict[str, str]:
    return {"explain example.com": reply} | {
        f"query:{name.replace('_', '-')} example.com": text for name, text in others.items()
    }


def test_an_enforced_policy_fills_one_screen(command: Command, daemon: Daemon) -> None:
    rua = ("mailto:tls@example.com",)
    reply = explained(
        host(1),
        host(2),
        mx=found(
            Mx(preference=10, host="mx1.example.com"),
            Mx(preference=20, host="mx2.example.com"),
            secure=False,
        ),
        record=RECORD,
        sts=StsFacts(cached=CACHED),
        tlsrpt=found(tlsrpt_record.Record(rua=rua)),
    )
    with daemon(script(reply)):
        ran = command("query", "example.com")
    assert ran.status == 0
    assert ran.err == ""
    no_dane = "no DANE: the address is not DNSSEC-validated"
    names = "mx1.example.com, mx2.example.com"
    assert ran.out.splitlines() == [
        f"example.com: secure — MTA-STS policy 2024 (enforce), match {names}",
        "",
        "Answer   OK secure match=mx1.example.com:mx2.example.com servername=hostname",
        "         Mail goes only to servers with a trusted certificate for a name of match=.",
        "         Holds for 60 minutes, then it is decided anew.",
        "DNS      2 MX records, not DNSSEC-validated",
        "         10 mx1.example.com  192.0.2.1, not DNSSEC-validated",
        "         20 mx2.example.com  192.0.2.2, not DNSSEC-validated",
        f"DANE     10 mx1.example.com  {no_dane}",
        f"         20 mx2.example.com  {no_dane}",
        "MTA-STS  policy 2024 in mode enforce",
        "         in force until 2023-11-21T22:13:20Z, fetched 2023-11-14T21:13:20Z",
        "         permits *.example.com",
        "TLSRPT   reports to mailto:tls@example.com",
    ]


@pytest.mark.parametrize(
    ("reply", "headline", "effect"),
    [
        (
            explained(host(1, found(USABLE))),
            "dane-only — every MX host has usable DNSSEC-validated TLSA records",
            "Mail goes only to servers whose TLSA records match, else it waits.",
        ),
        (
            explained(host(1)),
            "main.cf decides — no TLSA records, no MTA-STS policy",
            "main.cf's smtp_tls_security_level applies (default_level: encrypt).",
        ),
        (
            explained(host(1, found(UNUSABLE))),
            "dane — TLSA records exist, none of them usable: TLS without authentication",
            "Postfix judges each MX host by its own TLSA records (see DANE below).",
        ),
    ],
)
def test_the_first_line_is_the_verdict_and_its_effect_follows(
    command: Command, daemon: Daemon, reply: str, headline: str, effect: str
) -> None:
    with daemon(script(reply)):
        ran = command("query", "example.com")
    assert ran.status == 0
    assert ran.out.splitlines()[0] == f"example.com: {headline}"
    assert effect in ran.out


def test_mail_that_waits_is_told_with_the_reason_and_to_be_tried_again(
    command: Command, daemon: Daemon
) -> None:
    reply = explained(mx=Unavailable(why="MX example.com: SERVFAIL from 127.0.0.1"))
    with daemon(script(reply)):
        ran = command("query", "example.com")
    assert ran.status == 75
    assert ran.out.startswith("example.com: mail waits — MX example.com: SERVFAIL from 127.0.0.1\n")
    assert "TEMP DNS: MX example.com: SERVFAIL" in ran.out
    assert "Mail waits in the queue; Postfix asks again at its next try." in ran.out


@pytest.mark.parametrize(
    ("hosts", "line"),
    [
        ([host(1, found(USABLE))], "10 mx1.example.com  must match TLSA 3 1 1 0001020304050…"),
        (
            [host(1, found(UNUSABLE))],
            "10 mx1.example.com  TLS, not authenticated: no usable TLSA in 1 1 1 0001020304050…",
        ),
        ([host(2, SERVFAIL)], f"20 mx2.example.com  not used now: {SERVFAIL.why}"),
        ([host(1, addresses=ABSENT)], "10 mx1.example.com  not used: no address"),
        ([host(1, ABSENT)], "10 mx1.example.com  no DANE: no TLSA records"),
        (
            [host(1, found(USABLE, secure=False))],
            "10 mx1.example.com  no DANE: the TLSA records are not DNSSEC-validated",
        ),
        ([], "DANE     no MX host to speak of"),
    ],
)
def test_dane_is_told_host_by_host(
    command: Command, daemon: Daemon, hosts: list[HostFacts], line: str
) -> None:
    with daemon(script(explained(*hosts, mx=None if hosts else ABSENT_DOMAIN))):
        assert line in command("query", "example.com").out


@pytest.mark.parametrize(
    ("mx", "line"),
    [
        (found(Mx(preference=0, host="")), "DNS      null MX: the domain accepts no mail"),
        (ABSENT, "DNS      no MX records: the domain is its own mail host"),
        (ABSENT_DOMAIN, "DNS      the domain does not exist"),
    ],
)
def test_a_domain_without_mx_hosts_is_told_apart(
    command: Command, daemon: Daemon, mx: Lookup[Mx], line: str
) -> None:
    with daemon(script(explained(mx=mx))):
        assert line in command("query", "example.com").out


@pytest.mark.parametrize(
    ("record", "sts", "line"),
    [
        (ABSENT, NO_POLICY, "MTA-STS  no record"),
        (
            RECORD,
            StsFacts(failure=FAILURE),
            "MTA-STS  record with id 2024, but no policy: certificate has expired",
        ),
        (RECORD, StsFacts(cached=CACHED, failure=FAILURE), "last error: certificate has expired"),
        (Absent(secure=False, ttl=1, why="several records"), NO_POLICY, "MTA-STS  several records"),
    ],
)
def test_what_is_wrong_with_a_policy_is_told(
    command: Command,
    daemon: Daemon,
    record: Lookup[mta_sts.Record],
    sts: StsFacts,
    line: str,
) -> None:
    with daemon(script(explained(host(1), record=record, sts=sts))):
        ran = command("query", "example.com")
    assert line in ran.out
    assert "\x1b" not in ran.out


def test_many_hosts_do_not_fill_more_than_the_screen(command: Command, daemon: Daemon) -> None:
    with daemon(script(explained(*(host(n) for n in range(1, 31))))):
        out = command("query", "example.com").out
    assert len(out.splitlines()) <= 30
    assert "and 22 more hosts" in out


def test_hosts_that_are_not_examined_are_counted(command: Command, daemon: Daemon) -> None:
    hosts = [host(n) for n in range(1, 3)]
    mx = found(*(Mx(preference=1, host=f"mx{n}.example.com") for n in range(40)))
    with daemon(script(explained(*hosts, mx=mx))):
        assert "and 38 more hosts, 38 of them not examined" in command("query", "example.com").out


def test_dane_that_is_switched_off_is_told(command: Command, daemon: Daemon) -> None:
    mx = found(Mx(preference=1, host="mx1.example.com"))
    with daemon(script(explained(mx=mx, settings=Settings(dane=False)))):
        assert "DANE     switched off (dane.enabled)" in command("query", "example.com").out


def test_strangers_cannot_speak_to_the_terminal(command: Command, daemon: Daemon) -> None:
    evil = replace(FAILURE, why="\x1b]0;owned\x07 \u202eevil")
    with daemon(script(explained(host(1), record=RECORD, sts=StsFacts(failure=evil)))):
        out = command("query", "example.com").out
    assert "no policy: ?]0;owned? ?evil" in out


def test_another_map_is_asked_beside(command: Command, daemon: Daemon) -> None:
    reply = "OK secure match=nexthop servername=hostname"
    with daemon(script(explained(host(1)), requiretls=reply)) as server:
        ran = command("query", "example.com", "--map", "requiretls")
    assert ran.status == 0
    assert server.requests == ["explain example.com", "query:requiretls example.com"]
    assert f"         {reply} (map requiretls)" in ran.out.splitlines()


def test_the_status_is_that_of_the_map_that_was_asked_for(command: Command, daemon: Daemon) -> None:
    with daemon(script(explained(host(1)), policy_tlsrpt="TEMP busy")):
        assert command("query", "example.com", "--map", "policy-tlsrpt").status == 75


def test_an_unknown_map_is_a_usage_error(command: Command, daemon: Daemon) -> None:
    with daemon(script(explained(host(1)), nonsense="PERM unknown map nonsense")):
        ran = command("query", "example.com", "--map", "nonsense")
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err == "postfix-mtasts: the daemon says: unknown map nonsense\n"


def test_json_is_the_document_as_the_daemon_gave_it(command: Command, daemon: Daemon) -> None:
    reply = explained(host(1, found(USABLE)))
    with daemon(script(reply)):
        ran = command("query", "example.com", "--json")
    assert json.loads(ran.out) == json.loads(reply.removeprefix("OK "))


def test_json_names_the_map_that_was_asked_beside(command: Command, daemon: Daemon) -> None:
    with daemon(script(explained(host(1)), requiretls="NOTFOUND ")):
        ran = command("query", "example.com", "--map", "requiretls", "--json")
    assert json.loads(ran.out)["map"] == {"name": "requiretls", "reply": "NOTFOUND "}


@pytest.mark.parametrize(
    ("key", "status", "headline"),
    [
        (".example.com", 0, ".example.com: main.cf decides — a parent domain"),
        ("[192.0.2.1]", 0, "[192.0.2.1]: main.cf decides — an address"),
        ("no such", 1, "no next-hop: main.cf decides — 'no such' is no host name"),
    ],
)
def test_what_is_not_looked_up_is_told_with_a_reason(
    command: Command, daemon: Daemon, key: str, status: int, headline: str
) -> None:
    reply = f"OK {json.dumps(explain_key(key.encode()))}"
    with daemon({f"explain {key}": reply}):
        ran = command("query", key)
    assert ran.status == status
    assert ran.out.startswith(headline)


def test_a_daemon_that_is_not_there_is_told_with_its_socket(command: Command, config: Path) -> None:
    ran = command("query", "example.com")
    assert ran.status == 75
    assert ran.out == ""
    assert f"unix:{config.parent}/sock: No such file or directory" in ran.err
    assert "is postfix-mtasts.service running?" in ran.err


@pytest.mark.parametrize(
    ("reply", "status", "why"),
    [
        ("TEMP busy", 75, "the daemon says: busy"),
        ("TIMEOUT busy", 75, "the daemon says: busy"),
        ("PERM unknown map explain", 2, "the daemon says: unknown map explain"),
        ("NOTFOUND ", 1, "the daemon does not explain"),
        ("OK {", 1, "the daemon's answer is no JSON: '{'"),
        ("OK []", 1, "the daemon's answer is no JSON: '[]'"),
        pytest.param(
            f"OK {'[' * 90_000}", 1, f"the daemon's answer is no JSON: '{'[' * 60}'", id="[[[…"
        ),
    ],
)
def test_a_daemon_that_does_not_explain_is_told(
    command: Command, daemon: Daemon, reply: str, status: int, why: str
) -> None:
    with daemon(script(reply)):
        ran = command("query", "example.com")
    assert (ran.status, ran.out, ran.err) == (status, "", f"postfix-mtasts: {why}\n")


def test_a_bad_config_is_told_before_anybody_is_asked(command: Command, config: Path) -> None:
    config.write_text("serve: {}\n")
    ran = command("query", "example.com")
    assert ran.status == 2
    assert str(config) in ran.err


def test_the_network_is_asked_without_a_daemon(command: Command, config: Path) -> None:
    # Nobody answers at port 9 of loopback: the outcome is known without the internet.
    config.write_text('dns: {servers: ["127.0.0.1:9"], timeout: 0.2s}\n')
    ran = command("query", "example.com", "--direct", "--map", "requiretls", "--json")
    document = json.loads(ran.out)
    assert ran.status == 75
    assert ran.err == ""
    assert document["dane"]["mx"]["status"] == "unavailable"
    assert document["verdict"]["reply"].startswith("TEMP DNS: ")
    assert document["map"]["reply"].startswith("TEMP ")


def test_what_needs_no_look_up_is_answered_directly_too(command: Command) -> None:
    ran = command("query", ".example.com", "--direct", "--map", "policy-tlsrpt")
    assert ran.status == 0
    assert "NOTFOUND  (map policy-tlsrpt)" in ran.out

"""The typed look-ups, against a scripted server on loopback."""

import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import dns.rcode
import pytest

from postfix_mtasts.adapters.dns_reply import MAX_TTL, NEGATIVE_TTL
from postfix_mtasts.adapters.resolver import DnsResolver, DnsSettings, SelfTest
from postfix_mtasts.core import tlsa
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.facts import Absent, Mx, Present, Unavailable
from postfix_mtasts.ports import Resolver
from tests.adapters.dns_server import SOA_MINIMUM, DnsServer, Reply, lost, record, run, soa

T = TypeVar("T")

GOOD_TLSA = tlsa.Record(usage=3, selector=1, matching_type=1, data=bytes(32))
GOOD_TLSA_WIRE = bytes((3, 1, 1)) + bytes(32)
TLSA_NAME = "_25._tcp.mx.example.com"


def look_up(
    script: Callable[[DnsServer], None],
    ask: Callable[[DnsResolver], Awaitable[T]],
    **settings: Any,
) -> T:
    """Return what *ask* gets from a resolver whose only server says *script*."""

    async def scenario() -> T:
        async with DnsServer() as server:
            script(server)
            servers = (server.address,)
            return await ask(DnsResolver(DnsSettings(servers=servers, **settings)))

    return run(scenario())


def mx_of(*replies: bytes | Reply, ad: bool = False, **settings: Any) -> object:
    """Return the look-up of the MX records of example.com, answered by *replies*."""
    return look_up(
        lambda server: server.says("example.com", "MX", *replies, ad=ad),
        lambda resolver: resolver.mx("example.com"),
        **settings,
    )


def tlsa_of(*replies: bytes | Reply, ad: bool = True) -> object:
    return look_up(
        lambda server: server.says(TLSA_NAME, "TLSA", *replies, ad=ad),
        lambda resolver: resolver.tlsa(TLSA_NAME),
    )


def mx(data: str | bytes, **more: Any) -> bytes:
    return record("example.com", "MX", data, **more)


def test_it_is_the_resolver_of_the_ports() -> None:
    async def scenario() -> Resolver:
        return DnsResolver(DnsSettings())

    assert run(scenario())


def test_mx_records_come_in_the_order_of_the_answer_lower_case_and_without_dot() -> None:
    assert mx_of(mx("20 B.Example.COM."), mx("10 a.example.com.")) == Present(
        records=(Mx(preference=20, host="b.example.com"), Mx(preference=10, host="a.example.com")),
        secure=False,
        ttl=3600,
        owner="example.com",
    )


def test_a_null_mx_is_a_record_without_host() -> None:
    answer = mx_of(mx("0 ."))
    assert isinstance(answer, Present)
    assert answer.records == (Mx(preference=0, host=""),)


@pytest.mark.parametrize(
    ("rdtype", "ask", "data", "value"),
    [
        ("A", DnsResolver.a, "192.0.2.1", "192.0.2.1"),
        ("AAAA", DnsResolver.aaaa, "2001:db8:0:0::1", "2001:db8::1"),
        ("TXT", DnsResolver.txt, '"v=STSv1; " "id=1\\255;"', b"v=STSv1; id=1\xff;"),
        ("TXT", DnsResolver.txt, '""', b""),
        ("CNAME", DnsResolver.cname, "Other.Example.NET.", "other.example.net"),
        ("TLSA", DnsResolver.tlsa, GOOD_TLSA_WIRE, GOOD_TLSA),
    ],
)
def test_each_type_is_read(
    rdtype: str,
    ask: Callable[[DnsResolver, str], Awaitable[object]],
    data: str | bytes,
    value: object,
) -> None:
    answer = look_up(
        lambda server: server.says("x.example", rdtype, record("x.example", rdtype, data)),
        lambda resolver: ask(resolver, "x.example"),
    )
    assert answer == Present(records=(value,), secure=False, ttl=3600, owner="x.example")


def test_a_record_given_twice_is_one_record() -> None:
    answer = mx_of(mx("10 a.example.com."), mx("10 A.example.com."))
    assert isinstance(answer, Present)
    assert len(answer.records) == 1


def test_records_of_other_classes_and_types_are_none_of_the_set() -> None:
    chaos = mx("5 ch.example.com.", rdclass="CH")
    txt = record("example.com", "TXT", '"x"')
    answer = mx_of(chaos, txt, mx("10 a.example.com."))
    assert isinstance(answer, Present)
    assert answer.records == (Mx(preference=10, host="a.example.com"),)


# DNSSEC


@pytest.mark.parametrize(
    ("trust_ad", "ad", "secure"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("always", True, True),
        ("always", False, False),
        ("never", True, False),
    ],
)
def test_the_ad_bit_counts_where_it_is_trusted(trust_ad: str, ad: bool, secure: bool) -> None:  # noqa: FBT001  parameters of the table
    answer = mx_of(mx("10 a.example.com."), ad=ad, trust_ad=trust_ad)
    assert isinstance(answer, Present)
    assert answer.secure is secure


def test_absence_is_secure_or_not_as_the_answer_was() -> None:
    absent = Reply(authority=(soa("example.com"),), ad=True)
    assert mx_of(absent) == Absent(secure=True, ttl=SOA_MINIMUM)


# Time to live


def test_the_shortest_record_says_how_long_a_set_lives() -> None:
    answer = mx_of(mx("10 a.example.com.", ttl=60), mx("10 b.example.com.", ttl=30))
    assert isinstance(answer, Present)
    assert answer.ttl == 30


def test_a_ttl_with_the_top_bit_set_is_zero() -> None:
    answer = mx_of(mx("10 a.example.com.", ttl=0x80000001))
    assert isinstance(answer, Present)
    assert answer.ttl == 0


def test_nothing_is_believed_for_longer_than_a_day() -> None:
    answer = mx_of(mx("10 a.example.com.", ttl=0x7FFFFFFF))
    assert isinstance(answer, Present)
    assert answer.ttl == MAX_TTL


@pytest.mark.parametrize(
    ("authority", "ttl"),
    [
        (soa("example.com", ttl=900, minimum=300), 300),
        (soa("com", ttl=100, minimum=300), 100),
        (soa("example.com", ttl=0x80000000, minimum=300), 0),
        (soa("example.com", ttl=900, minimum=0xFFFFFFFF), 0),
        (soa("example.net", ttl=900, minimum=300), NEGATIVE_TTL),
        (record("example.com", "SOA", b"\0\0short"), NEGATIVE_TTL),
        (b"", NEGATIVE_TTL),
    ],
)
@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_none_lives_as_its_soa_says(authority: bytes, ttl: int, rcode: dns.rcode.Rcode) -> None:
    reply = Reply(rcode=rcode, authority=(authority,) if authority else ())
    nxdomain = rcode == dns.rcode.NXDOMAIN
    assert mx_of(reply) == Absent(secure=False, ttl=ttl, nxdomain=nxdomain)


# Aliases


def alias(owner: str, target: str, **more: Any) -> bytes:
    return record(owner, "CNAME", target, **more)


def test_a_chain_within_one_answer_is_followed() -> None:
    answer = mx_of(
        mx("10 a.example.com.", ttl=600).replace(b"\7example", b"\7exampl2", 1),
        alias("Example.com", "Two.example.net.", ttl=50),
        alias("two.EXAMPLE.net", "exampl2.com."),
        ad=True,
    )
    assert isinstance(answer, Present)
    assert (answer.owner, answer.ttl, answer.secure) == ("exampl2.com", 50, True)


def chained(*replies: tuple[str, Reply], ask: Callable[[DnsResolver], Awaitable[T]]) -> T:
    """Return what is learnt of A records where each name has its own reply."""

    def script(server: DnsServer) -> None:
        for name, reply in replies:
            server.says(name, "A", reply)

    return look_up(script, ask)


@pytest.mark.parametrize(
    ("first", "second", "secure"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_server_that_does_not_chase_is_asked_again_and_each_answer_must_be_secure(
    first: bool,  # noqa: FBT001  parameters of the table
    second: bool,  # noqa: FBT001  likewise
    secure: bool,  # noqa: FBT001  likewise
) -> None:
    answer = chained(
        ("a.example", Reply(answers=(alias("a.example", "b.example.", ttl=70),), ad=first)),
        ("b.example", Reply(answers=(record("b.example", "A", "192.0.2.1"),), ad=second)),
        ask=lambda resolver: resolver.a("a.example"),
    )
    assert answer == Present(records=("192.0.2.1",), secure=secure, ttl=70, owner="b.example")


def test_the_status_is_that_of_the_last_name() -> None:
    reply = Reply(
        answers=(alias("a.example", "b.example.", ttl=70),),
        authority=(soa("example"),),
        rcode=dns.rcode.NXDOMAIN,
    )
    answer = chained(("a.example", reply), ask=lambda resolver: resolver.a("a.example"))
    assert answer == Absent(secure=False, ttl=70, nxdomain=True)


def test_a_chain_that_ends_in_none_is_absent() -> None:
    reply = Reply(answers=(alias("a.example", "b.example."),), authority=(soa("example"),))
    answer = chained(("a.example", reply), ask=lambda resolver: resolver.a("a.example"))
    assert answer == Absent(secure=False, ttl=SOA_MINIMUM)


def test_a_loop_within_one_answer_is_unavailable() -> None:
    loop = Reply(answers=(alias("a.example", "b.example."), alias("b.example", "A.example.")))
    answer = chained(("a.example", loop), ask=lambda resolver: resolver.a("a.example"))
    assert answer == Unavailable(why="A a.example: CNAME loop at a.example")


def test_a_loop_over_several_answers_is_unavailable() -> None:
    answer = chained(
        ("a.example", Reply(answers=(alias("a.example", "b.example."),))),
        ("b.example", Reply(answers=(alias("b.example", "a.example."),))),
        ask=lambda resolver: resolver.a("a.example"),
    )
    assert answer == Unavailable(why="A a.example: CNAME loop at a.example")


@pytest.mark.parametrize(("links", "reached"), [(8, True), (9, False)])
def test_eight_links_are_followed_and_no_more(links: int, reached: bool) -> None:  # noqa: FBT001  parameters of the table
    chain = tuple(alias(f"n{i}.example", f"n{i + 1}.example.") for i in range(links))
    reply = Reply(answers=(*chain, record(f"n{links}.example", "A", "192.0.2.1")))
    answer = chained(("n0.example", reply), ask=lambda resolver: resolver.a("n0.example"))
    if reached:
        assert isinstance(answer, Present)
    else:
        assert answer == Unavailable(why="A n0.example: more than 8 CNAMEs")


def test_a_malformed_alias_is_unavailable() -> None:
    reply = Reply(answers=(record("a.example", "CNAME", b"\7short"),))
    answer = chained(("a.example", reply), ask=lambda resolver: resolver.a("a.example"))
    assert isinstance(answer, Unavailable)
    assert "malformed CNAME" in answer.why


def test_an_alias_of_what_is_no_host_name_is_unavailable() -> None:
    reply = Reply(
        answers=(
            alias("a.example", r"b\032c.example."),
            record(r"b\032c.example", "A", "192.0.2.1"),
        )
    )
    answer = chained(("a.example", reply), ask=lambda resolver: resolver.a("a.example"))
    assert isinstance(answer, Unavailable)
    assert "no host name" in answer.why


def test_the_alias_itself_is_not_followed() -> None:
    answer = look_up(
        lambda server: server.says(
            "a.example", "CNAME", alias("a.example", "b.example."), alias("b.example", "c.example.")
        ),
        lambda resolver: resolver.cname("a.example"),
    )
    assert answer == Present(records=("b.example",), secure=False, ttl=3600, owner="a.example")


def test_an_answer_about_other_names_is_no_answer() -> None:
    answer = mx_of(record("example.org", "MX", "10 mx.example.org."))
    assert answer == Unavailable(why="MX example.com: the answer is about other names")


# Malformed records


@pytest.mark.parametrize("bad", [b"", b"\0", b"\0\12\5short", b"\0\12\2mx\0trailing"])
def test_a_malformed_mx_record_is_left_out_beside_a_good_one(bad: bytes) -> None:
    answer = mx_of(mx(bad), mx("10 a.example.com."), mx(bad, ttl=100))
    assert isinstance(answer, Present)
    assert answer.records == (Mx(preference=10, host="a.example.com"),)


@pytest.mark.parametrize("bad", [r"10 a\032b.example.com.", r"10 {.example.com.", "10 -a.example."])
def test_an_mx_record_that_names_no_host_is_left_out_beside_a_good_one(bad: str) -> None:
    answer = mx_of(mx(bad), mx("10 a.example.com."))
    assert isinstance(answer, Present)
    assert answer.records == (Mx(preference=10, host="a.example.com"),)


def test_an_mx_record_that_names_an_address_is_kept_for_postfix_delivers_to_it() -> None:
    answer = mx_of(mx("10 192.0.2.1."))
    assert isinstance(answer, Present)
    assert answer.records == (Mx(preference=10, host="192.0.2.1"),)


def test_mx_records_that_all_name_no_host_are_unavailable_and_never_absent() -> None:
    assert mx_of(mx(r"10 a\032b.example.com."), mx(b"\0")) == Unavailable(
        why="MX example.com: there are records, but none that can be read"
    )


def test_a_malformed_txt_record_is_left_out_beside_a_good_one() -> None:
    answer = look_up(
        lambda server: server.says(
            "_mta-sts.x.example",
            "TXT",
            record("_mta-sts.x.example", "TXT", b"\x20short"),
            record("_mta-sts.x.example", "TXT", b""),
            record("_mta-sts.x.example", "TXT", b"\4good"),
        ),
        lambda resolver: resolver.txt("_mta-sts.x.example"),
    )
    assert isinstance(answer, Present)
    assert answer.records == (b"good",)


def test_a_malformed_tlsa_record_loses_none_beside_it_and_is_not_lost_itself() -> None:
    answer = tlsa_of(record(TLSA_NAME, "TLSA", b"\3"), record(TLSA_NAME, "TLSA", GOOD_TLSA_WIRE))
    assert isinstance(answer, Present)
    assert answer.records == (tlsa.MALFORMED, GOOD_TLSA)


def test_a_set_of_malformed_tlsa_records_still_asks_for_tls() -> None:
    answer = tlsa_of(record(TLSA_NAME, "TLSA", b""), record(TLSA_NAME, "TLSA", b"\3\1"))
    assert isinstance(answer, Present)
    assert answer.secure
    assert tlsa.stance(answer.records) is tlsa.Stance.ENCRYPT


@pytest.mark.parametrize("size", [0, 3, 5, 16])
def test_an_address_of_the_wrong_size_is_unavailable(size: int) -> None:
    answer = look_up(
        lambda server: server.says("x.example", "A", record("x.example", "A", bytes(size))),
        lambda resolver: resolver.a("x.example"),
    )
    assert isinstance(answer, Unavailable)


# Long answers


def of_x(
    rdtype: str, ask: Callable[[DnsResolver, str], Awaitable[object]], *records: bytes
) -> object:
    """Return the look-up at x.example, answered by *records* over TCP."""
    reply = Reply(answers=records, truncated=True)
    return look_up(
        lambda server: server.says("x.example", rdtype, reply),
        lambda resolver: ask(resolver, "x.example"),
    )


@pytest.mark.parametrize(("rdtype", "size"), [("A", 4), ("AAAA", 16)])
def test_sixteen_addresses_are_kept(rdtype: str, size: int) -> None:
    records = [record("x.example", rdtype, bytes((10,) * (size - 1) + (i,))) for i in range(17)]
    ask = DnsResolver.a if rdtype == "A" else DnsResolver.aaaa
    answer = of_x(rdtype, ask, *records)
    assert isinstance(answer, Present)
    assert len(answer.records) == 16


def test_the_best_mx_records_are_kept_wherever_they_stand() -> None:
    worse = tuple(mx(f"{100 + i} w{i}.example.") for i in range(150))
    malformed = mx(b"")
    reply = Reply(
        answers=(malformed, *worse, mx("5 b.example."), mx("1 a.example.")), truncated=True
    )
    answer = mx_of(reply)
    assert isinstance(answer, Present)
    hosts = [one.host for one in answer.records]
    assert hosts == ["a.example", "b.example", *(f"w{i}.example" for i in range(126))]


def text(size: int, number: int = 0) -> bytes:
    strings = f"{number:03}".encode() + bytes(size - 3 - -(-size // 256))
    parts = [strings[at : at + 255] for at in range(0, len(strings), 255)]
    data = b"".join(bytes((len(part),)) + part for part in parts)
    assert len(data) == size
    return record("x.example", "TXT", data)


def test_as_many_and_as_long_texts_as_an_honest_owner_has_are_read() -> None:
    answer = of_x("TXT", DnsResolver.txt, text(4096), *(text(40, i) for i in range(63)))
    assert isinstance(answer, Present)
    assert len(answer.records) == 64


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ([text(40, i) for i in range(65)], "more than 64 TXT records"),
        ([text(40), text(4098)], "a TXT record of more than 4096 octets"),
    ],
)
def test_texts_among_which_the_right_one_may_be_lost_are_unavailable(
    texts: list[bytes], why: str
) -> None:
    assert of_x("TXT", DnsResolver.txt, *texts) == Unavailable(why=f"TXT x.example: {why}")


def test_thirty_two_tlsa_records_are_kept() -> None:
    records = [record("x.example", "TLSA", bytes((3, 1, 1)) + i.to_bytes(32)) for i in range(40)]
    answer = of_x("TLSA", DnsResolver.tlsa, *records)
    assert isinstance(answer, Present)
    assert len(answer.records) == 32


def test_a_long_tlsa_record_still_asks_for_tls() -> None:
    answer = of_x(
        "TLSA", DnsResolver.tlsa, record("x.example", "TLSA", bytes((3, 1, 0)) + bytes(8193))
    )
    assert isinstance(answer, Present)
    assert answer.records == (tlsa.MALFORMED,)


# Names and time


@pytest.mark.parametrize(
    "name", ["_mta-sts." + "a." * 126 + "a", "a" * 64 + ".example", "a..example", ""]
)
def test_a_name_that_dns_has_no_room_for_is_absent_without_a_packet(name: str) -> None:
    async def scenario() -> list[object]:
        async with DnsServer() as server:
            resolver = DnsResolver(DnsSettings(servers=(server.address,)))
            return [await resolver.txt(name), *server.queries]

    assert run(scenario()) == [Absent(secure=False, ttl=MAX_TTL, nxdomain=True)]


def test_an_address_asked_for_as_a_name_is_no_error() -> None:
    answer = look_up(lambda _: None, lambda resolver: resolver.a("192.0.2.1"))
    assert answer == Absent(secure=False, ttl=SOA_MINIMUM, nxdomain=True)


def test_the_time_out_bounds_the_whole_chain() -> None:
    def script(server: DnsServer) -> None:
        for i in range(8):
            answers = (alias(f"n{i}.example", f"n{i + 1}.example."),)
            server.says(f"n{i}.example", "A", Reply(answers=answers, delay=0.3))

    start = time.monotonic()
    answer = look_up(script, lambda resolver: resolver.a("n0.example"), timeout=0.5)
    assert isinstance(answer, Unavailable)
    assert "no answer from 127.0.0.1:" in answer.why
    assert time.monotonic() - start < 1.5


def test_a_server_that_is_no_address_is_a_parse_error() -> None:
    with pytest.raises(ParseError):
        DnsResolver(DnsSettings(servers=("dns.example.com",)))


def test_without_servers_those_of_resolv_conf_are_asked(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"

    async def scenario() -> object:
        async with DnsServer() as server:
            server.says("example.com", "MX", mx("10 a.example.com."))
            path.write_text(f"nameserver {server.address}\n")
            return await DnsResolver(DnsSettings(), resolv_conf=path).mx("example.com")

    assert isinstance(run(scenario()), Present)


# Self-test


def self_test(*scripts: Reply, **settings: Any) -> SelfTest:
    """Return the self-test over one server for each of *scripts*, without their ports."""

    async def scenario() -> SelfTest:
        async with contextlib.AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(DnsServer(host=f"127.0.0.{number}"))
                for number, _ in enumerate(scripts, start=1)
            ]
            for server, reply in zip(servers, scripts, strict=True):
                server.says(".", "SOA", reply)
            addresses = tuple(server.address for server in servers)
            found = await DnsResolver(DnsSettings(servers=addresses, **settings)).validates()
        return SelfTest(ok=found.ok, why=re.sub(r":[0-9]{4,5}\b", "", found.why))

    return run(scenario())


ROOT = (record(".", "SOA", "a. b. 1 2 3 4 5"),)


def test_a_validating_server_passes_the_self_test() -> None:
    assert self_test(Reply(answers=ROOT, ad=True)) == SelfTest(ok=True, why="127.0.0.1 validates")


def test_one_server_that_does_not_validate_fails_the_self_test() -> None:
    found = self_test(Reply(answers=ROOT, ad=True), Reply(answers=ROOT))
    assert found == SelfTest(
        ok=False, why="127.0.0.1 validates; 127.0.0.2 does not validate: no AD bit for ."
    )


def test_a_server_that_is_down_does_not_fail_the_self_test_of_another() -> None:
    found = self_test(Reply(answers=ROOT, ad=True), Reply(udp=lost), timeout=0.5)
    assert found == SelfTest(
        ok=True, why="127.0.0.1 validates; no answer from 127.0.0.2 within 0.5 s"
    )


def test_no_answer_at_all_fails_the_self_test() -> None:
    found = self_test(Reply(rcode=dns.rcode.SERVFAIL))
    assert found == SelfTest(ok=False, why="SERVFAIL from 127.0.0.1")


def test_the_self_test_says_whose_word_is_not_taken() -> None:
    found = self_test(Reply(answers=ROOT, ad=True), trust_ad="never")
    assert found == SelfTest(
        ok=False, why="127.0.0.1 is not trusted to validate (dns.trust_ad: never)"
    )

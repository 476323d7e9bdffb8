"""Host names and next-hops."""

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.names import Form, NextHop, parse_domain, parse_nexthop
from tests.core.vectors import Case, parameters

LABEL_63 = "a" * 63
NAME_253 = ".".join([LABEL_63, LABEL_63, LABEL_63, "a" * 61])


def domain(name: str, port: int = 25) -> NextHop:
    return NextHop(form=Form.DOMAIN, name=name, port=port)


def host(name: str, port: int = 25) -> NextHop:
    return NextHop(form=Form.HOST, name=name, port=port)


def literal(name: str, port: int = 25) -> NextHop:
    return NextHop(form=Form.LITERAL, name=name, port=port)


def parent(name: str) -> NextHop:
    return NextHop(form=Form.PARENT, name=name)


def as_vector(key: bytes) -> dict[str, object]:
    """Return what becomes of *key* in the words of idn.json."""
    known: dict[str, object] = {"class": "invalid", "domain": None, "port": None}
    try:
        nexthop = parse_nexthop(key)
    except ParseError:
        return known | {"mx_lookup": False, "answer": "notfound"}
    known["class"] = nexthop.form.value
    if nexthop.looked_up:
        known |= {"domain": nexthop.name, "port": nexthop.port}
    return known | {
        "mx_lookup": nexthop.form is Form.DOMAIN,
        "answer": "lookup" if nexthop.looked_up else "notfound",
    }


@pytest.mark.parametrize("case", parameters("idn"))
def test_a_key_is_understood_as_the_vector_says(case: Case) -> None:
    assert as_vector(case.input["key"].encode("utf-8", "surrogatepass")) in case.accepted, case.why


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("example.com", domain("example.com")),
        ("Example.COM.", domain("example.com")),
        ("example.com:587", domain("example.com", 587)),
        ("example.com:0025", domain("example.com")),
        ("example.com:65535", domain("example.com", 65535)),
        ("example.com:", domain("example.com")),
        ("example.com:smtp", domain("example.com")),
        ("example.com:submissions", domain("example.com", 465)),
        ("[mail.example.com]", host("mail.example.com")),
        ("[mail.example.com]:", host("mail.example.com")),
        ("[mail.example.com.]:smtps", host("mail.example.com", 465)),
        ("[Straße.example]:587", host("xn--strae-oqa.example", 587)),
        ("192.0.2.1", literal("192.0.2.1")),
        ("192.0.2.1:587", literal("192.0.2.1", 587)),
        ("[192.0.2.1]:587", literal("192.0.2.1", 587)),
        ("2001:DB8:0::1", literal("2001:db8::1")),
        ("[IPv6:2001:db8::1]", literal("2001:db8::1")),
        ("[ipv6:2001:db8::1]:587", literal("2001:db8::1", 587)),
        ("[fe80::1%eth0]", literal("fe80::1%eth0")),
        (".Example.com", parent("example.com")),
        (".com", parent("com")),
        ("..", parent("")),
        (".a b", parent("")),
    ],
)
def test_a_next_hop_is_read_in_every_spelling_of_postfix(key: str, expected: NextHop) -> None:
    assert parse_nexthop(key.encode()) == expected


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (b"", "empty label"),
        (b".", "empty label"),
        (b"\xff.example", "not UTF-8"),
        (b"\xed\xa0\x80.example", "not UTF-8"),
        (b"example.com\n", "out of place"),
        (b"example.com\0", "out of place"),
        (b"a.example b.example", "out of place"),
        (b"a.example,b.example", "out of place"),
        (b"/etc/passwd", "out of place"),
        (b"unix:/run/lmtp", "'/run/lmtp' is no port"),
        (b"inet:example.com", "'example.com' is no port"),
        (b"example.com:25:25", "'25:25' is no port"),
        (b"example.com:0", "'0' is no port"),
        (b"example.com:65536", "'65536' is no port"),
        (b"example.com:+25", r"'\+25' is no port"),
        (b"example.com:2_5", "'2_5' is no port"),
        ("example.com:\u0662\u0665".encode(), "is no port"),
        (b"example.com:000025", "'000025' is no port"),
        (b":25", "empty label"),
        (b"[example.com", "without its closing bracket"),
        (b"[example.com]25", "with something behind its bracket"),
        (b"[[example.com]]", "with something behind its bracket"),
        (b"[]", "empty label"),
        (b"[.example.com]", "empty label"),
        (b"[2001:db8::g]", "out of place"),
        (b"[fe80::1%e\n]", "out of place"),
        (b"192.0.2", "ending in a number"),
        (b"192.0.2.256", "ending in a number"),
        (b"x" * 10000, "longer than 253 octets"),
    ],
)
def test_what_is_no_next_hop_is_refused_with_the_reason(key: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_nexthop(key)


@pytest.mark.parametrize(
    ("nexthop", "text"),
    [
        (domain("example.com"), "example.com"),
        (domain("example.com", 587), "example.com:587"),
        (host("mail.example.com"), "[mail.example.com]"),
        (host("mail.example.com", 587), "[mail.example.com]:587"),
        (literal("192.0.2.1"), "[192.0.2.1]"),
        (literal("2001:db8::1", 465), "[2001:db8::1]:465"),
        (parent("example.com"), ".example.com"),
    ],
)
def test_a_next_hop_has_one_text_which_reads_back_as_itself(nexthop: NextHop, text: str) -> None:
    assert str(nexthop) == text
    assert parse_nexthop(text.encode()) == nexthop


def test_only_domains_and_hosts_are_looked_up() -> None:
    looked_up = [form for form in Form if NextHop(form=form, name="example.com").looked_up]
    assert looked_up == [Form.DOMAIN, Form.HOST]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("EXAMPLE.com", "example.com"),
        ("_dmarc.foo_bar.example", "_dmarc.foo_bar.example"),
        ("a--b.example", "a--b.example"),
        ("xn--zzzzzz99999.example", "xn--zzzzzz99999.example"),
        ("XN--a.example", "xn--a.example"),
        ("123.example", "123.example"),
        ("bücher.Example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("βόλος.example", "xn--nxasmm1c.example"),
        ("☃.example", "xn--n3h.example"),
        ("例え\u3002テスト\uff0e", "xn--r8jz45g.xn--zckzah"),
        ("ｅｘａｍｐｌｅ．ｃｏｍ", "example.com"),  # noqa: RUF001 - full width is the point
        ("exam\u00adple.com", "example.com"),
        ("\N{KELVIN SIGN}.example", "k.example"),
        (LABEL_63 + ".example", LABEL_63 + ".example"),
        (NAME_253, NAME_253),
        (NAME_253 + ".", NAME_253),
    ],
)
def test_a_domain_has_one_spelling(text: str, name: str) -> None:
    assert parse_domain(text) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" * 64 + ".example", "a label longer than 63 octets"),
        (NAME_253 + "a", "longer than 253 octets"),
        (".".join(["é" * 50] * 5), "longer than 253 octets"),
        ("\u00ad" * 250 + "example.com", "longer than 253 octets"),
        ("-a.example", "out of place"),
        ("a-.example", "out of place"),
        ("*.example", "out of place"),
        ("a..example", "an empty label"),
        ("\u00ad.example", "an empty label"),
        ("192.0.2.1", "ending in a number"),
        ("１９２.0.2.1", "ending in a number"),  # noqa: RUF001 - full width is the point
        ("m ü.example", "out of place"),
        ("\u0301a.example", "combining mark"),
        ("xn--ü.example", "beyond ASCII"),
        ("\ud800.example", "no name has"),
        ("\ue000.example", "no name has"),
        ("example.com\u2028", "no name has"),
    ],
)
def test_what_is_no_host_name_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_domain(text)


def test_a_long_bad_name_is_quoted_short_and_in_ascii() -> None:
    with pytest.raises(ParseError) as caught:
        parse_domain("\x1b[31mü" * 1000)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400

import pytest

from postfix_mtasts.core.config_nodes import FaultsError, parse_yaml
from postfix_mtasts.core.override_config import FORMS, OVERRIDE
from postfix_mtasts.core.overrides import Override
from postfix_mtasts.core.postfix_policy import Level


def read(text: str) -> Override:
    root = parse_yaml(text, name="x", base="/")
    assert root is not None
    return OVERRIDE.read(root)


def test_a_level_comes_with_all_that_belongs_to_it() -> None:
    found = read(
        "{domain: Partner.Example., level: secure, match: [MX.partner.example, .mx.example,"
        " nexthop], servername: hostname, protocols: '>=TLSv1.2', ciphers: high}"
    )
    assert found == Override(
        domain="partner.example",
        subtree=False,
        level=Level.SECURE,
        minimum=None,
        match=("mx.partner.example", ".mx.example", "nexthop"),
        servername="hostname",
        protocols=">=TLSv1.2",
        ciphers="high",
    )


def test_a_star_stands_for_the_names_below_and_u_labels_become_a_labels() -> None:
    found = read("{domain: '*.bücher.example', minimum: encrypt}")
    assert (found.domain, found.subtree) == ("xn--bcher-kva.example", True)
    assert (found.level, found.minimum) == (None, Level.ENCRYPT)


@pytest.mark.parametrize(
    "text",
    [
        "{domain: a.example, level: none}",
        "{domain: '*.a.example', minimum: dane-only, protocols: '!TLSv1:!TLSv1.1'}",
        "{domain: a.example, level: fingerprint, match: ['12:AB', cdef]}",
        "{domain: a.example, level: verify, match: [hostname], ciphers: medium}",
        "{domain: a.example, level: secure, servername: sni.example}",
    ],
)
def test_an_override_is_built_as_it_is_read(text: str) -> None:
    found = read(text)
    assert read(str(OVERRIDE.build(found))) == found


def test_every_part_of_an_override_can_be_written() -> None:
    assert set(FORMS) == set(Override.__dataclass_fields__) - {"subtree"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{level: may}", 'lacks "domain"'),
        ("{domain: a.example}", 'needs "level" or "minimum", and not both'),
        (
            "{domain: a.example, level: may, minimum: may}",
            'needs "level" or "minimum", and not both',
        ),
        (
            "{domain: a.example, minimum: secure, match: [b.example]}",
            '"match" and "servername" belong to "level", not to "minimum"',
        ),
        (
            "{domain: a.example, minimum: secure, servername: b.example}",
            '"match" and "servername" belong to "level", not to "minimum"',
        ),
        (
            "{domain: a.example, level: dane, match: [b.example]}",
            '"match" means nothing at level dane',
        ),
        (
            "{domain: a.example, level: fingerprint}",
            'level fingerprint needs the digests of the certificates in "match"',
        ),
        (
            "{domain: a.example, level: none, ciphers: high}",
            "TLS policy of level none has attributes",
        ),
        (
            "{domain: a.example, level: secure, match: ['12:AB']}",
            "TLS policy cannot say match='12:AB'",
        ),
        (
            "{domain: a.example, level: fingerprint, match: [b.example]}",
            "TLS policy cannot say match='b.example'",
        ),
    ],
)
def test_an_override_that_postfix_would_not_take_is_refused(text: str, why: str) -> None:
    with pytest.raises(FaultsError) as raised:
        read(text)
    assert str(raised.value) == f"x:1:1: the file: {why}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{domain: '*'}", "domain: '*' is no host name: with a character or a hyphen out of place"),
        (
            "{minimum: none}",
            'minimum: "none" is none of may, encrypt, dane, dane-only, verify, secure',
        ),
        ("{minimum: fingerprint}", 'minimum: "fingerprint" is none of may, encrypt'),
        (
            "{match: ['*.mx.example']}",
            'match[0]: write ".mx.example" for any name below "mx.example"',
        ),
        ("{match: ['..mx.example']}", "match[0]: '.mx.example' is no host name"),
        ("{servername: '[::1]'}", "servername: '[::1]' is no host name"),
        (
            "{protocols: '!SSLv2, !SSLv3'}",
            'protocols: "!SSLv2, !SSLv3" is no list of protocols, such as ">=TLSv1.2"',
        ),
        ("{protocols: TLSv1.4}", 'protocols: "TLSv1.4" is no list of protocols'),
        ("{ciphers: strong}", 'ciphers: "strong" is none of null, low, medium, high'),
    ],
)
def test_a_bad_value_is_refused_where_it_stands(text: str, why: str) -> None:
    with pytest.raises(FaultsError) as raised:
        read(text)
    assert str(raised.value).partition(": ")[2].startswith(why)

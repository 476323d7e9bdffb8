"""The grammar that the TXT records of MTA-STS and TLSRPT share."""

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.taglist import find_field, shown


def find(*records: bytes) -> bytes | None:
    return find_field(records, version=b"Xv1", name=b"id", section="RFC 0 section 0")


@pytest.mark.parametrize(
    "record",
    [
        b"v=Xv1;id=1",
        b"v=Xv1; id=1;",
        b"v=Xv1 \t; \tid=1\t ; \t",
        b"v=Xv1; id=1 ",
        b"v=Xv1; ext=a:b<c>d; id=1",
        b"v=Xv1; id=1; " + b"a" * 32 + b"=" + b"~" * 400,
        b"v=Xv1; id=1; id=2; v=Xv2",
        b"v=Xv1; id=1; id==",
    ],
)
def test_the_first_value_of_the_known_field_is_found(record: bytes) -> None:
    assert find(record) == b"1"


@pytest.mark.parametrize("value", [b"", b"a=b", b"\xff", b"a b", b"a , b"])
def test_the_known_field_is_handed_over_as_it_is(value: bytes) -> None:
    assert find(b"v=Xv1; id=" + value) == value


@pytest.mark.parametrize(
    "records",
    [
        (),
        (b"",),
        (b"v=Xv1",),
        (b"v=Xv10; id=1",),
        (b"v=xv1; id=1",),
        (b"V=Xv1; id=1",),
        (b" v=Xv1; id=1",),
        (b"v = Xv1; id=1",),
        (b"v=Xv1 id=1;",),
        (b"v=Xv1\n; id=1",),
        (b"id=1; v=Xv1;",),
        (b"v=spf1 -all", b"other"),
    ],
)
def test_records_of_another_kind_are_none_at_all(records: tuple[bytes, ...]) -> None:
    assert find(*records) is None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"v=Xv1;", "no field 'id'"),
        (b"v=Xv1; ext=1", "no field 'id'"),
        (b"v=Xv1; ID=1", "no field 'id'"),
        (b"v=Xv1; id", "malformed field 'id'"),
        (b"v=Xv1; id =1", "malformed field 'id =1'"),
        (b"v=Xv1;; id=1", "malformed field ''"),
        (b"v=Xv1; id=1;;", "malformed field ''"),
        (b"v=Xv1; id=1; ext", "malformed field 'ext'"),
        (b"v=Xv1; id=1; ext=", "malformed field 'ext='"),
        (b"v=Xv1; id=1; =x", "malformed field '=x'"),
        (b"v=Xv1; id=1; e=a=b", "malformed field 'e=a=b'"),
        (b"v=Xv1; id=1; e=a b", "malformed field 'e=a b'"),
        (b"v=Xv1; id=1; e=\xe9", r"malformed field 'e=\\xe9'"),
        (b"v=Xv1; id=1; e=\x7f", r"malformed field 'e=\\x7f'"),
        (b"v=Xv1; id=1; -e=1", "malformed field '-e=1'"),
        (b"v=Xv1; id=1; \xaa=1", r"malformed field '\\xaa=1'"),
        (b"v=Xv1; id=1; e=1\n", r"malformed field 'e=1\\n'"),
        (b"v=Xv1; id=1; " + b"a" * 33 + b"=1", "malformed field 'a{33}=1'"),
    ],
)
def test_a_malformed_record_is_refused_with_the_reason(record: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message + r" \(RFC 0 section 0\)"):
        find(record)


def test_other_records_beside_the_one_are_passed_over() -> None:
    assert find(b"v=spf1 -all", b"v=Xv1; id=1", b"v=Xv2; id=2", b"\xff") == b"1"


def test_two_records_are_refused_even_if_one_is_malformed() -> None:
    with pytest.raises(ParseError, match="2 Xv1 records"):
        find(b"v=Xv1; id=1", b"v=Xv1; nonsense")


def test_a_space_before_the_semicolon_counts_only_where_no_record_does_without() -> None:
    assert find(b"v=Xv1 ; id=1", b"other") == b"1"
    assert find(b"v=Xv1 ; id=1", b"v=Xv1; id=2") == b"2"
    with pytest.raises(ParseError, match="2 Xv1 records"):
        find(b"v=Xv1 ; id=1", b"v=Xv1\t; id=2")


def test_a_long_run_of_spaces_costs_no_more_than_its_length() -> None:
    # With a regular expression for "spaces, then a semicolon" this takes minutes.
    with pytest.raises(ParseError, match="malformed"):
        find(b"v=Xv1; id=1; e=" + b" " * 65000 + b"x")


def test_octets_are_shown_short_and_in_printable_ascii() -> None:
    assert shown(b"a\xff\n" + b"b" * 100) == "'a\\xff\\n" + "b" * 57 + "'"

"""Which TLSA records there are, which of them are usable, and what a set asks for."""

from typing import Any

import pytest

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.tlsa import (
    MALFORMED,
    MAX_DATA,
    MAX_RECORDS,
    MAX_WHOLE,
    Record,
    Stance,
    bounded,
    is_usable,
    parse_record,
    parse_text,
    stance,
    usable,
)
from tests.core.vectors import Case, parameters

VECTORS = parameters("tlsa_usable")

USABLE = Record(usage=3, selector=1, matching_type=1, data=bytes(32))
UNUSABLE = Record(usage=1, selector=1, matching_type=1, data=bytes(32))


def record(fields: dict[str, Any]) -> Record:
    """Return the record that a vector describes."""
    return Record(
        usage=fields["usage"],
        selector=fields["selector"],
        matching_type=fields["mtype"],
        data=bytes.fromhex(fields["data"]),
    )


def judged(given: dict[str, Any]) -> object:
    """Return the judgement of a vector's record, or of its set of records."""
    if "records" not in given:
        return is_usable(record(given))
    records = [record(fields) for fields in given["records"]]
    return {
        "usable": [at for at, one in enumerate(records) if is_usable(one)],
        "stance": stance(records).value,
    }


@pytest.mark.parametrize("case", VECTORS)
def test_records_and_sets_are_judged_as_the_vector_says(case: Case) -> None:
    assert judged(case.input) in case.accepted, case.why


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 1 1 " + "00" * 32, True),
        ("2 0 2 " + "00" * 64, True),
        ("3 1 1 " + "00" * 31, False),
        ("3 1 2 " + "00" * 32, False),
        ("3 1 1", False),
        ("3 1 0", False),
        ("3 0 0", False),
        ("0 1 1 " + "00" * 32, False),
        ("3 2 1 " + "00" * 32, False),
        ("3 1 3 " + "00" * 32, False),
        ("3 1 0 302a300506032b6570032100" + "00" * 32, True),
        ("3 0 0 302a300506032b6570032100" + "00" * 32, False),
    ],
)
def test_a_record_in_text_is_usable_or_not(text: str, expected: object) -> None:
    assert is_usable(parse_text(text)) is expected


def test_the_usable_records_keep_their_order() -> None:
    other = Record(usage=2, selector=0, matching_type=2, data=bytes(64))
    assert usable([other, UNUSABLE, USABLE, MALFORMED]) == (other, USABLE)


def test_one_usable_record_asks_for_authentication() -> None:
    assert stance([UNUSABLE, USABLE]) is Stance.AUTHENTICATE


def test_unusable_and_unreadable_records_still_ask_for_tls() -> None:
    assert stance([UNUSABLE]) is Stance.ENCRYPT
    assert stance([MALFORMED]) is Stance.ENCRYPT


def test_no_record_asks_for_nothing() -> None:
    assert stance(iter(())) is Stance.MAY


def numbered(count: int, matching_type: int = 1, size: int = 32) -> list[Record]:
    return [
        Record(usage=3, selector=1, matching_type=matching_type, data=number.to_bytes(size))
        for number in range(count)
    ]


def test_as_many_records_are_kept_as_an_honest_owner_has() -> None:
    records = numbered(MAX_RECORDS - MAX_WHOLE) + numbered(MAX_WHOLE, 0, MAX_DATA)
    assert bounded(records) == tuple(records)


def test_the_first_records_of_too_many_are_kept() -> None:
    records = numbered(MAX_RECORDS + 1)
    assert bounded(records) == tuple(records[:-1])


def test_whole_certificates_and_keys_do_not_crowd_digests_out() -> None:
    whole = numbered(MAX_RECORDS, 0)
    assert bounded([*whole, USABLE]) == (*whole[:MAX_WHOLE], USABLE)


def test_a_record_of_too_many_bytes_still_asks_for_tls() -> None:
    assert bounded(numbered(1, 0, MAX_DATA + 1)) == (MALFORMED,)


@pytest.mark.parametrize("matching_type", [0, 1, 2, 3])
def test_of_some_records_some_are_kept(matching_type: int) -> None:
    for size in (0, 32, MAX_DATA + 1):
        assert bounded(numbered(1, matching_type, size))
        assert len(bounded(numbered(1, matching_type, size) * 500)) <= MAX_RECORDS


def test_the_first_three_octets_are_the_numbers() -> None:
    assert parse_record(b"\x03\x01\x02\xab\xcd") == Record(
        usage=3, selector=1, matching_type=2, data=b"\xab\xcd"
    )


def test_a_record_without_data_is_read_and_unusable() -> None:
    assert parse_record(b"\x03\x01\x01").data == b""
    assert not is_usable(parse_record(b"\x03\x01\x01"))


@pytest.mark.parametrize("rdata", [b"", b"\x03", b"\x03\x01"])
def test_less_than_three_octets_are_no_record(rdata: bytes) -> None:
    with pytest.raises(ParseError, match=r"RFC 6698 section 2\.1"):
        parse_record(rdata)


def test_text_and_back_is_the_same_record() -> None:
    assert str(parse_text("3 1 2 ab CD\n ef")) == "3 1 2 ABCDEF"
    assert parse_text(str(MALFORMED)) == MALFORMED


@pytest.mark.parametrize(
    "text",
    ["", "3 1", "256 1 1 00", "3 -1 1 00", "3 1 0001 00", "3 \u0661 1 00", "3 1 1 0", "3 1 1 0g"],
)
def test_other_text_is_no_record(text: str) -> None:
    with pytest.raises(ParseError, match=r"RFC 6698 section 2\.2"):
        parse_text(text)

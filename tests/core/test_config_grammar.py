# ruff: noqa: RUF009 - `key` makes fields, which is what a dataclass default may be
from dataclasses import dataclass
from enum import Enum

import pytest

from postfix_mtasts.core.config_grammar import (
    BOOLEAN,
    MAX_WORD,
    Form,
    T,
    choice,
    duration,
    forms_of,
    integer,
    key,
    listing,
    one_of,
    optional,
    required,
    section,
    text,
    text_at,
)
from postfix_mtasts.core.config_nodes import FaultsError, parse_yaml
from postfix_mtasts.core.errors import ParseError


class Colour(Enum):
    RED = "red"
    DEEP_BLUE = "deep-blue"


def no_dots(word: str) -> str:
    if "." in word:
        raise ParseError("has a dot", "our law")
    return word


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    name: str = required(text(no_dots))
    size: int = key(integer(at_most=9), 3)
    weight: int = required(integer(at_most=9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    colour: Colour = key(one_of(Colour), Colour.RED)
    inner: Inner | None = key(optional(section(Inner)), None)
    sizes: tuple[int, ...] = key(listing(integer(at_most=9), example="[1, 2]"), (1, 2))


def read(form: Form[T], source: str) -> T:
    root = parse_yaml(source, name="f", base="/etc")
    assert root is not None
    return form.read(root)


def faults(form: Form[T], source: str) -> list[str]:
    with pytest.raises(FaultsError) as raised:
        read(form, source)
    return str(raised.value).splitlines()


SECONDS = duration(at_least=0.1, at_most=7 * 86400)


def test_a_duration_is_seconds_within_its_bounds_both_included() -> None:
    assert [read(SECONDS, word) for word in ("0.1", "1.5m", "7d")] == [0.1, 90.0, 604800.0]
    assert SECONDS.build(90.0) == "90s"
    assert faults(SECONDS, "soon") == [
        'f:1:1: the file: "soon" is no duration, such as "5s", "10m", "24h" or "30d"'
    ]


@pytest.mark.parametrize("word", ["0", "0.09", "8d", "999999999d"])
def test_a_duration_keeps_to_its_bounds(word: str) -> None:
    assert faults(SECONDS, word) == [f'f:1:1: the file: "{word}" is not from 0.1s to 7d']


def test_a_whole_number_keeps_to_its_bounds() -> None:
    assert [read(integer(at_most=32), word) for word in ("1", "32", "007")] == [1, 32, 7]
    for word in ("0", "33", "-1", "+1", "0x1", "1.0", "1_0", "99999999999"):
        assert faults(integer(at_most=32), word) == [
            f'f:1:1: the file: "{word}" is no whole number from 1 to 32'
        ]


def test_true_and_false_are_plain_words_of_yaml() -> None:
    assert [read(BOOLEAN, word) for word in ("true", "True", "yes", "on")] == [True] * 4
    assert [read(BOOLEAN, word) for word in ("false", "FALSE", "no", "off")] == [False] * 4
    assert faults(BOOLEAN, '"true"') == ['f:1:1: the file: "true" is neither true nor false']
    assert faults(BOOLEAN, "1") == ['f:1:1: the file: "1" is neither true nor false']
    assert BOOLEAN.build(True) is True  # noqa: FBT003 - the value to build


def test_a_text_is_parsed_and_what_is_wrong_with_it_told() -> None:
    assert read(text(no_dots), "abc") == "abc"
    assert read(text(no_dots), "2024") == "2024"
    assert faults(text(no_dots), "a.b") == ["f:1:1: the file: has a dot (our law)"]


def test_a_text_that_names_a_file_is_parsed_with_its_folder() -> None:
    assert read(text_at(lambda word, base: f"{base}/{word}"), "x") == "/etc/x"


@pytest.mark.parametrize("source", [r'"a\nb"', r'"\uD800"', r'"\x9b"', r'"\u202e"'])
def test_a_text_is_printable(source: str) -> None:
    (fault,) = faults(text(no_dots), source)
    assert fault.endswith("holds an unprintable character")
    assert fault.isprintable()


def test_a_text_is_short() -> None:
    assert read(text(no_dots), MAX_WORD * "x") == MAX_WORD * "x"
    (fault,) = faults(text(no_dots), (MAX_WORD + 1) * "x")
    assert fault == f'f:1:1: the file: "{60 * "x"}…" is longer than {MAX_WORD} characters'


@pytest.mark.parametrize("source", ["[]", "{}"])
def test_a_list_or_mapping_is_no_text(source: str) -> None:
    assert faults(text(no_dots), source) == ["f:1:1: the file: must be a single value"]


def test_a_choice_is_read_and_built_by_its_word() -> None:
    assert read(one_of(Colour), "deep-blue") is Colour.DEEP_BLUE
    assert one_of(Colour).build(Colour.DEEP_BLUE) == "deep-blue"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("deep_blue", '; did you mean "deep-blue"?'),
        ("RED", '; did you mean "red"?'),
        ("xyz", ""),
    ],
)
def test_a_word_that_is_no_choice_is_told_the_nearest(word: str, hint: str) -> None:
    assert faults(choice({"red": 1, "deep-blue": 2}), word) == [
        f'f:1:1: the file: "{word}" is none of red, deep-blue{hint}'
    ]


def test_a_section_has_defaults_for_what_it_does_not_say() -> None:
    assert read(section(Outer), "{}") == Outer()
    assert read(section(Outer), "sizes: [4]") == Outer(sizes=(4,))
    assert read(section(Outer), "sizes: []") == Outer(sizes=())


def test_a_key_with_nothing_behind_it_has_its_default() -> None:
    assert read(section(Outer), "sizes:\ncolour: null\ninner: ~") == Outer()


def test_a_section_is_built_as_it_is_read() -> None:
    outer = Outer(inner=Inner(name="x", weight=1), sizes=(5,))
    built = section(Outer).build(outer)
    assert built == {
        "colour": "red",
        "inner": {"name": "x", "size": 3, "weight": 1},
        "sizes": [5],
    }
    assert read(section(Outer), str(built)) == outer
    assert section(Outer).build(Outer()) == {"colour": "red", "inner": None, "sizes": [1, 2]}


def test_the_forms_of_a_section_are_its_fields_in_their_order() -> None:
    assert list(forms_of(Outer)) == ["colour", "inner", "sizes"]


def test_required_keys_must_be_there_and_not_null() -> None:
    assert faults(section(Outer), "inner: {name: null}") == ['f:1:8: inner: lacks "name", "weight"']


def test_all_faults_are_told_in_the_order_of_the_file() -> None:
    source = "color: red\ncolour: rad\ninner:\n  nam: x\n  size: ten\nsizes: [a, 3, 0]\n"
    assert faults(section(Outer), source) == [
        'f:1:1: unknown key "color"; did you mean "colour"?',
        'f:2:9: colour: "rad" is none of red, deep-blue; did you mean "red"?',
        'f:4:3: unknown key "inner.nam"; did you mean "inner.name"?',
        'f:5:9: inner.size: "ten" is no whole number from 1 to 9',
        'f:6:9: sizes[0]: "a" is no whole number from 1 to 9',
        'f:6:15: sizes[2]: "0" is no whole number from 1 to 9',
    ]


def test_a_key_stands_once_only_also_where_it_says_nothing() -> None:
    assert faults(section(Outer), "sizes:\n\nsizes: [1]") == [
        'f:3:1: key "sizes" stands here again, first in line 1'
    ]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("? [a]\n: 1", "f:1:3: a key must be a single word"),
        ("<<: {sizes: [1]}", 'f:1:1: unknown key "<<"; known here: colour, inner, sizes'),
        ('"": 1', 'f:1:1: unknown key ""; known here: colour, inner, sizes'),
        ("[1]", "f:1:1: the file: must be keys with their values"),
        ("word", "f:1:1: the file: must be keys with their values"),
        ("sizes: 1", "f:1:8: sizes: must be a list, such as [1, 2]"),
        ("sizes: {}", "f:1:8: sizes: must be a list, such as [1, 2]"),
        ("sizes: [null]", 'f:1:9: sizes[0]: "null" is no whole number from 1 to 9'),
    ],
)
def test_what_has_the_wrong_shape_is_refused(source: str, why: str) -> None:
    assert faults(section(Outer), source) == [why]

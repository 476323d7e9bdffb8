"""postfix-mtasts(5) has every key of the configuration with its default, bounds and words."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from postfix_mtasts.config import Config, parse_config
from postfix_mtasts.core.durations import parse_duration
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.override_config import FORMS
from postfix_mtasts.core.postfix_policy import MATCH_KEYWORDS

TEXT = (Path(__file__).parents[1] / "packaging" / "man" / "postfix-mtasts.5").read_text()
NO_WORD = "no-such-word"


def _is_section(kind: Any) -> bool:
    return is_dataclass(kind) and all("form" in f.metadata for f in fields(kind))


def _keys(kind: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key below the section *kind*, and what YAML has for its default."""
    hints = get_type_hints(kind)
    for f in fields(kind):
        name = before + f.name
        if not _is_section(hints[f.name]):
            yield name, MISSING if f.default is MISSING else f.metadata["form"].build(f.default)
        for inner in filter(_is_section, (hints[f.name], *get_args(hints[f.name]))):
            yield from _keys(inner, f"{name}.")


KEYS = dict(_keys(Config))
ITEMS = {
    match[1]: match[2]
    for match in re.finditer(
        r"^\.It Cm (\S+)[^\n]*\n(.*?)(?=^\.(?:It|El))", TEXT, re.MULTILINE | re.DOTALL
    )
}
DEFAULTS = {
    name: match[1]
    for name, item in ITEMS.items()
    if (match := re.match(r"Default:\n\.Ql (.*) [.;]\n", item))
}
BOUNDS = {
    name: (match[1], match[2])
    for name, item in ITEMS.items()
    if (match := re.search(r"^from\n\.Ql (\S+)\nto\n\.Ql (\S+) \.\n", item, re.MULTILINE))
}


def said(name: str, value: str) -> str:
    """Return the YAML that says *value* of the key *name*."""
    for part in reversed(name.split(".")):
        value = f"{{{part}: {value}}}"
    return value


def words_of(yaml: str) -> set[str]:
    """Return the words that are known where *yaml* has a wrong one; none where all fit."""
    try:
        parse_config(yaml, base="/")
    except ConfigError as error:
        known = re.search(r" is none of ([a-z, -]+)", str(error))
        return set(known[1].split(", ")) if known else set()
    return set()


def marked(item: str) -> set[str]:
    """Return the words that *item* marks as such."""
    found = re.findall(r"^\.Cm (.*)$", item, re.MULTILINE)
    return {word for line in found for word in line.split()} - {",", ".", ":", ";"}


def test_the_page_has_every_key_there_is_in_the_order_of_the_code() -> None:
    assert [name for name in ITEMS if name not in FORMS] == list(KEYS)


def test_the_page_has_every_part_of_a_policy_of_the_operator_s_own() -> None:
    assert [name for name in ITEMS if name in FORMS] == list(FORMS)


def test_only_what_must_be_said_has_no_default() -> None:
    assert set(KEYS) - set(DEFAULTS) == {n for n, default in KEYS.items() if default is MISSING}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_is_that_of_the_code(name: str) -> None:
    assert parse_config(said(name, DEFAULTS[name]), base="/") == Config()
    assert (DEFAULTS[name] == "null") is (KEYS[name] is None)  # null is no change of any key


def test_every_time_and_number_has_its_bounds() -> None:
    measured = {n for n, default in KEYS.items() if re.fullmatch(r"\d+[smhd]?", str(default))}
    assert set(BOUNDS) == measured
    assert measured


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_those_of_the_code(name: str) -> None:
    for bound, sign in zip(BOUNDS[name], (-1, 1), strict=True):
        parse_config(said(name, bound), base="/")
        beyond = parse_duration(bound) + sign * (1 if bound.isdigit() else 0.01)
        shown = f"{beyond:.0f}" if bound.isdigit() else f"{beyond:.2f}s"
        with pytest.raises(ConfigError, match=r"is not from|is no whole number from"):
            parse_config(said(name, shown), base="/")


@pytest.mark.parametrize("name", KEYS)
def test_the_words_of_a_key_are_those_of_the_code(name: str) -> None:
    known = words_of(said(name, NO_WORD))
    if known:
        assert marked(ITEMS[name]) == known


@pytest.mark.parametrize("name", ["level", "minimum", "ciphers"])
def test_the_words_of_a_policy_are_those_of_the_code(name: str) -> None:
    known = words_of(f"policies: [{{domain: a.example, {name}: {NO_WORD}}}]")
    assert known
    assert marked(ITEMS[name]) == known


def test_the_keywords_of_match_are_all_there() -> None:
    assert set(MATCH_KEYWORDS) <= marked(ITEMS["match"])


def test_every_example_can_be_used() -> None:
    examples = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", TEXT, re.MULTILINE | re.DOTALL)
    assert len(examples) > 2
    for example in examples:
        assert parse_config(example, base="/") != Config()

"""How the keys of a configuration are written, each in its form.

A `Form` is how values of one kind are written, both ways: `Form.read` takes
the YAML node apart and refuses what does not fit, `Form.build` gives what YAML
writes for a value.  A section is a dataclass whose fields name their forms::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Dns:
        timeout: float = key(duration(at_least=0.1, at_most=60), 5.0)

so a key, its type, its default and its form stand in one line and cannot drift
apart.  A key with nothing behind it (``timeout:``), or ``null``, has its default.

Every `Form.read` raises `FaultsError`; one of several parts reads all of them
first, so that it tells all that is wrong.

LIMITS: `MAX_WORD`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from enum import Enum
from typing import Any, Generic, TypeAlias, TypeVar

import yaml

from postfix_mtasts.core.config_nodes import MAX_SHOWN, FaultsError, Item, is_null, place, quote
from postfix_mtasts.core.durations import build_duration, parse_duration
from postfix_mtasts.core.errors import ParseError

MAX_WORD = 1024  # characters of one value; a host name has 253 at most

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

Plain: TypeAlias = "str | int | bool | list[Plain] | dict[str, Plain] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form(Generic[T]):
    """How values of one kind are written; `build` gives what `read` takes."""

    read: Callable[[Item], T]  # raises FaultsError
    build: Callable[[T], Plain]


def did_you_mean(text: str, known: Mapping[str, str]) -> str:
    """Return a hint at the key of *known* nearest to *text*, shown as its value, or ""."""
    near = get_close_matches(text.lower()[:MAX_SHOWN], known, n=1)
    return f'; did you mean "{known[near[0]]}"?' if near else ""


def _word(item: Item) -> str:
    """Return the text of a scalar, as it was typed."""
    node = item.node
    if not isinstance(node, yaml.ScalarNode):
        raise item.fault("must be a single value")
    if not node.value.isprintable():
        raise item.fault(f"{quote(node.value)} holds an unprintable character")
    if len(node.value) > MAX_WORD:
        raise item.fault(f"{quote(node.value)} is longer than {MAX_WORD} characters")
    return str(node.value)


def text(parse: Callable[[str], T], build: Callable[[T], str] = str) -> Form[T]:
    """Return the form of a text that *parse* understands, raising `ParseError` where not."""
    return text_at(lambda word, _base: parse(word), build)


def text_at(parse: Callable[[str, str], T], build: Callable[[T], str] = str) -> Form[T]:
    """Return the form of a text that names a file, parsed with the folder it starts from."""

    def read(item: Item) -> T:
        word = _word(item)
        try:
            return parse(word, item.base)
        except ParseError as error:
            raise item.fault(str(error)) from error

    return Form(read=read, build=build)


def choice(words: Mapping[str, T]) -> Form[T]:
    """Return the form of one of a few *words*, each with the value that it stands for."""

    def read(item: Item) -> T:
        word = _word(item)
        if word not in words:
            hint = did_you_mean(word, {known: known for known in words})
            raise item.fault(f"{quote(word)} is none of {', '.join(words)}{hint}")
        return words[word]

    def build(value: T) -> str:
        return next(word for word, stands_for in words.items() if stands_for == value)

    return Form(read=read, build=build)


def one_of(kind: type[E]) -> Form[E]:
    """Return the form of a member of the Enum *kind*, whose values are the words."""
    return choice({member.value: member for member in kind})


_BOOL = "tag:yaml.org,2002:bool"


def _read_boolean(item: Item) -> bool:
    word = _word(item)
    if item.node.tag != _BOOL:
        raise item.fault(f"{quote(word)} is neither true nor false")
    return yaml.SafeLoader.bool_values[word.lower()]


BOOLEAN: Form[bool] = Form(read=_read_boolean, build=lambda value: value)


# --- numbers -------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[0-9]{1,9}")


def integer(*, at_most: int) -> Form[int]:
    """Return the form of a whole number from 1 to *at_most*."""

    def read(item: Item) -> int:
        word = _word(item)
        if not _INTEGER.fullmatch(word) or not 1 <= int(word) <= at_most:
            raise item.fault(f"{quote(word)} is no whole number from 1 to {at_most}")
        return int(word)

    return Form(read=read, build=lambda value: value)


def duration(*, at_least: float, at_most: float) -> Form[float]:
    """Return the form of a time of that many seconds."""
    bounds = f"from {build_duration(at_least)} to {build_duration(at_most)}"

    def parse(word: str) -> float:
        seconds = parse_duration(word)
        if not at_least <= seconds <= at_most:
            raise ParseError(f"{quote(word)} is not {bounds}")
        return seconds

    return text(parse, build_duration)


# --- lists and mappings --------------------------------------------------------------------------


def listing(form: Form[T], *, example: str) -> Form[tuple[T, ...]]:
    """Return the form of a list of *form*; *example* shows how one is written."""

    def read(item: Item) -> tuple[T, ...]:
        if not isinstance(item.node, yaml.SequenceNode):
            raise item.fault(f"must be a list, such as {example}")
        entries: list[T] = []
        faults: list[str] = []
        for number, node in enumerate(item.node.value):
            try:
                entries.append(form.read(item.child(node, f"[{number}]")))
            except FaultsError as error:
                faults += error.faults
        _raise_if(faults)
        return tuple(entries)

    return Form(read=read, build=lambda values: [form.build(value) for value in values])


def optional(form: Form[T]) -> Form[T | None]:
    """Return *form* for a key that may be left out or be ``null``."""
    return Form(read=form.read, build=lambda value: None if value is None else form.build(value))


def read_mapping(item: Item, forms: Mapping[str, Form[Any]]) -> dict[str, Any]:
    """Return the values of those keys of *forms* that stand in *item* and are not null."""
    if not isinstance(item.node, yaml.MappingNode):
        raise item.fault("must be keys with their values")
    seen: dict[str, int] = {}
    found: dict[str, Any] = {}
    faults: list[str] = []
    for key_node, node in item.node.value:
        try:
            name = _key(item, key_node, forms, seen)
            if not is_null(node):
                found[name] = forms[name].read(item.child(node, name))
        except FaultsError as error:
            faults += error.faults
    _raise_if(faults)
    return found


def _key(item: Item, node: yaml.Node, known: Iterable[str], seen: dict[str, int]) -> str:
    """Return the name that *node* is, which must be *known* and not yet *seen*; note its line."""
    where = place(node.start_mark)
    if not isinstance(node, yaml.ScalarNode):
        raise FaultsError(f"{where}: a key must be a single word")
    name = str(node.value)
    path = item.child(node, name).path
    if name not in known:
        hint = did_you_mean(name, {word: item.child(node, word).path for word in known})
        hint = hint or f"; known here: {', '.join(known)}"
        raise FaultsError(f"{where}: unknown key {quote(path)}{hint}")
    if name in seen:
        raise FaultsError(
            f"{where}: key {quote(path)} stands here again, first in line {seen[name]}"
        )
    seen[name] = node.start_mark.line + 1
    return name


def _raise_if(faults: list[str]) -> None:
    if faults:
        raise FaultsError(*faults)


# --- sections ------------------------------------------------------------------------------------


def key(form: Form[T], default: T) -> T:
    """Return the dataclass field of a key that is written as *form*."""
    made: T = field(default=default, metadata={"form": form})
    return made


def required(form: Form[T]) -> T:
    """Return the dataclass field of a key that has no default."""
    made: T = field(metadata={"form": form})
    return made


def section(kind: type[T]) -> Form[T]:
    """Return the form of the dataclass *kind*, whose fields are all `key` or `required`."""
    forms = forms_of(kind)
    needed = [f.name for f in _fields(kind) if f.default is MISSING]

    def read(item: Item) -> T:
        found = read_mapping(item, forms)
        require(item, needed, found)
        return kind(**found)

    def build(value: T) -> Plain:
        return {name: form.build(getattr(value, name)) for name, form in forms.items()}

    return Form(read=read, build=build)


def require(item: Item, names: Iterable[str], found: Mapping[str, Any]) -> None:
    """Raise `FaultsError` where *item* lacks some of the keys *names*."""
    missing = [name for name in names if name not in found]
    if missing:
        raise item.fault(f"lacks {', '.join(map(quote, missing))}")


def forms_of(kind: type) -> dict[str, Form[Any]]:
    """Return the form of each key of the section *kind*, in the order of its fields."""
    return {f.name: f.metadata["form"] for f in _fields(kind)}


def _fields(kind: Any) -> tuple[Field[Any], ...]:
    return fields(kind)

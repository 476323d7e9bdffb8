"""The verbs and options that the command line really has, for whatever repeats them by hand.

A command is its words: ``()`` the program itself, ``("cache", "list")`` an action.
"""

# argparse has no public way to ask a parser what it takes.
# ruff: noqa: SLF001

import argparse
from collections.abc import Iterator

from postfix_mtasts.cli import _parser

Words = tuple[str, ...]


def _walk(parser: argparse.ArgumentParser, words: Words) -> Iterator[tuple[Words, argparse.Action]]:
    for action in parser._actions:
        yield words, action
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _walk(inner, (*words, name))


_ACTIONS = tuple(_walk(_parser(), ()))

COMMANDS = tuple(dict.fromkeys(words for words, _ in _ACTIONS))
VERBS = tuple(words[0] for words in COMMANDS if len(words) == 1)


def options(words: Words) -> set[str]:
    """Return the options of the command *words*, as they are typed."""
    return {name for found, action in _ACTIONS if found == words for name in action.option_strings}


def options_below(words: Words) -> set[str]:
    """Return the options of the command *words* and of all its actions."""
    below = [found for found in COMMANDS if found[: len(words)] == words]
    return set().union(*map(options, below))


def names(words: Words) -> set[str]:
    """Return the verbs or actions that may follow *words*."""
    return {found[-1] for found in COMMANDS if found and found[:-1] == words}


def metavar(option: str) -> str | None:
    """Return what the value of *option* is called, `None` where it takes none."""
    found = {action.metavar for _, action in _ACTIONS if option in action.option_strings}
    assert len(found) == 1, f"{option} is not the same everywhere"
    word = found.pop()
    assert word is None or isinstance(word, str)
    return word


def parses(words: list[str]) -> bool:
    """Return whether *words* are a command line that the program takes."""
    try:
        _parser().parse_args(words)
    except SystemExit as end:
        return not end.code
    return True

"""The conformance vectors of tests/data/vectors, as parameters of tests.

Each file is a list of cases.  A case has an input, the result to expect, and
where the rule can be read in more than one way all results that pass.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "data" / "vectors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case: *why* cites the rule, *accepted* are the results that pass, the best first."""

    why: str
    input: Any
    accepted: tuple[Any, ...]
    raw: dict[str, Any]


def parameters(name: str) -> list[Any]:
    """Return the cases of NAME.json for `pytest.mark.parametrize`, their ids as ids."""
    raw = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    assert raw, f"{name}.json has no cases"
    return [pytest.param(_case(case), id=case["id"]) for case in raw]


def rrset(case: Case) -> list[bytes]:
    """Return the TXT records of a case, each with its character-strings concatenated."""
    return ["".join(strings).encode() for strings in case.input["records"]]


def _case(raw: dict[str, Any]) -> Case:
    accepted = raw.get("accept", [raw["expect"]])
    return Case(why=raw["why"], input=raw["input"], accepted=tuple(accepted), raw=raw)

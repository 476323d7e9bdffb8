"""What `doctor` says of one thing it looked at: how bad it is, and what mends it.

A diagnosis that settings of main.cf mend carries them, and its command is made of
them: so what is told and what ``doctor --apply`` does cannot drift apart.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum


class Grade(Enum):
    """How well it stands with one thing."""

    OK = "ok"
    NOTE = "note"  # worth knowing; nothing need be done
    WARNING = "warning"  # a part of the protection, or of the reports, is missing
    WRONG = "wrong"  # mail is unprotected, or is held back


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting of main.cf as it should be; *value* `None`: it should not be there."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One line of `doctor`.

    *instance*: the configuration folder of the Postfix that it is about, "" where it
    is about none.  *mend*: a line for a root shell that mends it, which is a comment
    where only the operator knows what to write; "" where nothing is to be done.
    """

    subject: str
    grade: Grade
    text: str
    mend: str = ""
    instance: str = ""
    changes: tuple[Change, ...] = ()


def ok(subject: str, text: str) -> Diagnosis:
    """Return that all is well."""
    return Diagnosis(subject=subject, grade=Grade.OK, text=text)


def note(subject: str, text: str, mend: str = "") -> Diagnosis:
    """Return what is worth knowing."""
    return Diagnosis(subject=subject, grade=Grade.NOTE, text=text, mend=mend)


def warning(subject: str, text: str, mend: str) -> Diagnosis:
    """Return that a part is missing."""
    return Diagnosis(subject=subject, grade=Grade.WARNING, text=text, mend=mend)


def wrong(subject: str, text: str, mend: str) -> Diagnosis:
    """Return that mail is unprotected or held back."""
    return Diagnosis(subject=subject, grade=Grade.WRONG, text=text, mend=mend)


def mended_by(diagnosis: Diagnosis, folder: str, *changes: Change) -> Diagnosis:
    """Return *diagnosis* of the Postfix of *folder*, which *changes* of its main.cf mend."""
    return replace(diagnosis, changes=changes, mend=build_command(folder, changes), instance=folder)


def build_command(folder: str, changes: Iterable[Change]) -> str:
    """Return the line for a shell that makes *changes* in *folder*, and has Postfix read them."""
    steps = []
    settings = [f"{c.name} = {c.value}" for c in changes if c.value is not None]
    removed = [change.name for change in changes if change.value is None]
    if settings:
        steps.append(["postconf", "-c", folder, "-e", *settings])
    if removed:
        steps.append(["postconf", "-c", folder, "-X", *removed])
    steps.append(["postfix", "-c", folder, "reload"])
    return " && ".join(map(shlex.join, steps))


def needs_mending(diagnoses: Iterable[Diagnosis]) -> bool:
    """Return whether any of *diagnoses* asks for something to be done."""
    return any(d.grade in {Grade.WARNING, Grade.WRONG} for d in diagnoses)


def build_document(diagnoses: Iterable[Diagnosis]) -> dict[str, object]:
    """Return *diagnoses* for ``--json``."""
    lines = tuple(diagnoses)
    return {
        "well": not needs_mending(lines),
        "findings": [
            {
                "subject": line.subject,
                "level": line.grade.value,
                "instance": line.instance or None,
                "text": line.text,
                "mend": line.mend or None,
            }
            for line in lines
        ],
    }

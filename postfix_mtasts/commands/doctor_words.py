"""What `doctor` found, in lines for a terminal: a mark, of what, what, and what mends it."""

from collections.abc import Iterator, Sequence

from postfix_mtasts.commands.terminal import Colour, Paint
from postfix_mtasts.commands.words import counted, printable
from postfix_mtasts.core.diagnosis import Diagnosis, Grade, needs_mending

_MARKS = {
    Grade.OK: ("ok", Colour.GREEN),
    Grade.NOTE: ("note", Colour.BOLD),
    Grade.WARNING: ("warn", Colour.YELLOW),
    Grade.WRONG: ("WRONG", Colour.RED),
}
_MARK = max(len(word) for word, _ in _MARKS.values())


def describe(diagnoses: Sequence[Diagnosis], paint: Paint) -> Iterator[str]:
    """Yield the lines that tell of *diagnoses*, each mend in a line of its own, to be pasted."""
    width = max((len(each.subject) for each in diagnoses), default=0)
    instances = {each.instance for each in diagnoses if each.instance}
    for each in diagnoses:
        word, colour = _MARKS[each.grade]
        mark = paint(colour, word) + " " * (_MARK - len(word))
        where = f"[{each.instance}] " if each.instance and len(instances) > 1 else ""
        yield f"{mark}  {each.subject:{width}}  {printable(where + each.text)}"
        if each.mend and each.grade is not Grade.OK:
            yield f"{' ' * _MARK}  {_mend(each)}"
    yield ""
    yield _summary(diagnoses, paint)


def _mend(diagnosis: Diagnosis) -> str:
    """Return the mend as it can be pasted, which is another line where it cannot be shown."""
    shown = printable(diagnosis.mend)
    if shown == diagnosis.mend:
        return shown
    return "postfix-mtasts doctor --apply" if diagnosis.changes else f"# {shown}"


def _summary(diagnoses: Sequence[Diagnosis], paint: Paint) -> str:
    if not needs_mending(diagnoses):
        return paint(Colour.GREEN, "This host is protected.")
    bad = [each for each in diagnoses if each.grade in {Grade.WARNING, Grade.WRONG}]
    wrong = any(each.grade is Grade.WRONG for each in bad)
    words = "This host is not protected" if wrong else "This host is protected, but not wholly"
    by_us = any(each.changes for each in bad)
    more = "; postfix-mtasts doctor --apply mends main.cf" if by_us else ""
    text = f"{words}: {counted(len(bad), 'thing')} to mend{more}."
    return paint(Colour.RED if wrong else Colour.YELLOW, text)

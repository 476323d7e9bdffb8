"""One line of doctor: its command, its JSON, and what all lines together come to."""

import shlex

import pytest

from postfix_mtasts.core.diagnosis import (
    Change,
    Diagnosis,
    Grade,
    build_command,
    build_document,
    mended_by,
    needs_mending,
    note,
    ok,
    warning,
    wrong,
)

ETC = "/etc/postfix"


@pytest.mark.parametrize(
    ("diagnoses", "needs"),
    [
        ((), False),
        ((ok("a", "well"), note("b", "by the way", "do it")), False),
        ((ok("a", "well"), warning("b", "a part is missing", "do it")), True),
        ((wrong("b", "broken", "do it"),), True),
    ],
)
def test_warnings_and_what_is_wrong_need_mending_notes_do_not(
    diagnoses: tuple[Diagnosis, ...], *, needs: bool
) -> None:
    assert needs_mending(diagnoses) is needs
    assert build_document(diagnoses)["well"] is not needs


def test_the_command_sets_removes_and_reloads_in_one_line() -> None:
    changes = (Change(name="a", value="x y"), Change(name="b", value=None))
    assert build_command(ETC, changes) == (
        "postconf -c /etc/postfix -e 'a = x y' && postconf -c /etc/postfix -X b"
        " && postfix -c /etc/postfix reload"
    )


def test_nothing_but_what_is_to_change_is_in_the_command() -> None:
    assert " -X " not in build_command(ETC, (Change(name="a", value=""),))
    assert " -e " not in build_command(ETC, (Change(name="a", value=None),))


def test_a_value_cannot_break_out_of_the_command() -> None:
    change = Change(name="a", value="'; rm -rf / #")
    assert "a = '; rm -rf / #" in shlex.split(build_command(ETC, (change,)))


def test_what_main_cf_mends_carries_its_changes_and_their_command() -> None:
    change = Change(name="a", value="b")
    mended = mended_by(wrong("map", "bad", ""), ETC, change)
    assert mended.changes == (change,)
    assert mended.mend == build_command(ETC, (change,))
    assert (mended.instance, mended.grade, mended.text) == (ETC, Grade.WRONG, "bad")


def test_the_document_has_null_where_there_is_nothing() -> None:
    lines = (ok("a", "well"), mended_by(warning("b", "bad", ""), ETC, Change(name="c", value="d")))
    assert build_document(lines)["findings"] == [
        {"subject": "a", "level": "ok", "instance": None, "text": "well", "mend": None},
        {
            "subject": "b",
            "level": "warning",
            "instance": ETC,
            "text": "bad",
            "mend": "postconf -c /etc/postfix -e 'c = d' && postfix -c /etc/postfix reload",
        },
    ]

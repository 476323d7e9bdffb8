"""The daemon, the sidecar, their files and their log."""

import pytest

from postfix_mtasts.core.daemon_diagnosis import (
    Collector,
    Daemon,
    Database,
    Log,
    diagnose_collector,
    diagnose_daemon,
    diagnose_databases,
    diagnose_logs,
)
from postfix_mtasts.core.diagnosis import Grade


@pytest.mark.parametrize(
    ("daemon", "grade", "text"),
    [
        (Daemon(version="1.2"), Grade.OK, "1.2 runs"),
        (Daemon(version="1.2", status="9 answers"), Grade.OK, "1.2 runs: 9 answers"),
        (Daemon(version="1.1"), Grade.WARNING, "1.1 runs, 1.2 is installed"),
        (Daemon(), Grade.WARNING, "an older version runs, 1.2 is installed"),
        (
            Daemon(withheld=True),
            Grade.NOTE,
            "it answers; which version runs, it tells to root only",
        ),
        (Daemon(failure="no"), Grade.WRONG, "no; Postfix defers all mail that asks it"),
    ],
)
def test_the_daemon_answers_and_is_what_is_installed(
    daemon: Daemon, grade: Grade, text: str
) -> None:
    said = diagnose_daemon(daemon, "1.2")
    assert (said.grade, said.text) == (grade, text)


@pytest.mark.parametrize(
    ("collector", "grade", "words"),
    [
        (Collector(active=True, behind=3.0), Grade.OK, "reads on"),
        (Collector(active=None, behind=3.0), Grade.OK, "reads on"),
        (Collector(active=True), Grade.OK, "nothing yet"),
        (Collector(), Grade.WARNING, "never run"),
        (Collector(active=True, untried="no right"), Grade.NOTE, "not known: no right"),
        (Collector(active=False, untried="no right"), Grade.WARNING, "does not run"),
        (Collector(active=False, behind=3.0), Grade.WARNING, "does not run"),
        (Collector(active=True, behind=1201.0), Grade.WARNING, "nothing for 20 minutes"),
    ],
)
def test_the_sidecar_runs_and_reads(collector: Collector, grade: Grade, words: str) -> None:
    said = diagnose_collector(collector)
    assert (said.grade, words in said.text) == (grade, True)


def test_sound_files_are_one_line() -> None:
    (said,) = diagnose_databases([Database(path="/s/a"), Database(path="/s/b")])
    assert (said.grade, said.text) == (Grade.OK, "/s/a, /s/b")
    (said,) = diagnose_databases([])
    assert (said.grade, said.text) == (Grade.OK, "nothing is stored yet")


@pytest.mark.parametrize(
    ("database", "grade", "words", "mend"),
    [
        (Database(path="/s/a", problem="bad page"), Grade.WRONG, "damaged: bad page", "restart"),
        (
            Database(path="/s/a", problem=None, why="Permission denied"),
            Grade.NOTE,
            "not looked",
            "",
        ),
        (
            Database(path="/s/a", owners=("root", "me")),
            Grade.WRONG,
            "belongs to root",
            "chown -h me /s/a",
        ),
        (Database(path="/s/a", free=3 << 20), Grade.WARNING, "only 3 MiB", "# make room"),
    ],
)
def test_each_fault_of_a_file_is_told(
    database: Database, grade: Grade, words: str, mend: str
) -> None:
    (said,) = diagnose_databases([Database(path="/s/good"), database])
    assert (said.grade, words in said.text, mend in said.mend) == (grade, True, True)


def test_a_log_that_can_be_read_is_well() -> None:
    (said,) = diagnose_logs([Log(name="/var/log/mail.log", user="us")])
    assert (said.grade, said.text) == (Grade.OK, "/var/log/mail.log, which us can read")


@pytest.mark.parametrize(
    ("log", "grade", "mend"),
    [
        (
            Log(name="l", user="us", group="adm", refused="Permission denied"),
            Grade.WARNING,
            "adduser us adm && systemctl restart postfix-mtasts-collector",
        ),
        (
            Log(name="l", user="us", group="root", refused="Permission denied"),
            Grade.WARNING,
            "# set tlsrpt.sources, or let us read it",
        ),
        (
            Log(name="l", user="us", group="adm", refused="No such file"),
            Grade.WARNING,
            "# set tlsrpt.sources, or let us read it",
        ),
        (Log(name="l", user="us", untried="that needs root"), Grade.NOTE, ""),
    ],
)
def test_a_log_that_cannot_be_read_is_opened_by_its_group(
    log: Log, grade: Grade, mend: str
) -> None:
    (said,) = diagnose_logs([log])
    assert (said.grade, said.mend) == (grade, mend)


def test_a_host_without_a_log_counts_nothing() -> None:
    (said,) = diagnose_logs([])
    assert said.grade is Grade.WARNING

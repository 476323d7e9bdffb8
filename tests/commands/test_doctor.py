"""The verb `doctor`, on a Postfix that is a configuration folder and nothing more."""

import json
import shutil
from pathlib import Path

import pytest

from postfix_mtasts import __version__
from postfix_mtasts.adapters import postconf
from postfix_mtasts.adapters.command import SEARCH_PATH, CommandFailedError
from postfix_mtasts.adapters.main_cf import change_with_backup
from postfix_mtasts.commands.doctor_host import _daemon
from postfix_mtasts.commands.doctor_look import _setups
from postfix_mtasts.commands.doctor_postfix import _mend_level
from postfix_mtasts.commands.doctor_words import describe
from postfix_mtasts.commands.terminal import Paint
from postfix_mtasts.core.daemon_diagnosis import Daemon as DaemonState
from postfix_mtasts.core.diagnosis import Change, mended_by, note, ok, warning, wrong
from tests.commands.conftest import Command, Daemon

CHECKOUT = Path(__file__).parents[2]

needs_postfix = pytest.mark.skipif(
    shutil.which("postconf", path=SEARCH_PATH) is None, reason="Postfix is not installed"
)
PLAIN = Paint(colours=False)


@pytest.fixture
def etc(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the configuration folder of a Postfix in no chroot, which knows nothing of us."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "main.cf").write_text(f"compatibility_level = 3.6\nqueue_directory = {tmp_path}\n")
    (folder / "master.cf").write_text("smtp unix - - n - - smtp\n")
    monkeypatch.setenv("MAIL_CONFIG", str(folder))
    monkeypatch.setattr(postconf, "check", lambda _folder: None)
    monkeypatch.setattr(postconf, "reload", lambda _folder: False)
    state = f"{tmp_path}/state/state.db"
    config.write_text(
        'server: {listen: ["unix:sock"]}\n'
        'dns: {servers: ["127.0.0.1:9"], timeout: 0.1s}\n'  # discard: nobody is there
        f'store: {{url: "sqlite:///{state}"}}\ntlsrpt: {{enabled: false}}\n'
    )
    return folder


@needs_postfix
def test_each_finding_has_its_line_and_its_mend(command: Command, etc: Path) -> None:
    ran = command("doctor")
    assert (ran.status, ran.err) == (1, "")
    lines = ran.out.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("WRONG  policy map"))
    assert lines[place + 1].strip() == (
        f"postconf -c {etc} -e 'smtp_tls_policy_maps = socketmap:unix:sock:policy'"
        f" && postfix -c {etc} reload"
    )
    assert lines[-1].startswith("This host is not protected: ")
    assert "\033" not in ran.out


@needs_postfix
def test_the_same_is_told_as_json(command: Command, etc: Path) -> None:
    ran = command("doctor", "--json")
    document = json.loads(ran.out)
    assert (ran.status, document["well"]) == (1, False)
    by_subject = {each["subject"]: each for each in document["findings"]}
    assert by_subject["policy map"]["level"] == "wrong"
    assert by_subject["policy map"]["instance"] == str(etc)
    assert by_subject["daemon"]["text"].startswith("it does not answer (No such file or directory)")
    assert by_subject["reports"] == {
        "subject": "reports",
        "level": "note",
        "instance": None,
        "text": "turned off (tlsrpt.enabled)",
        "mend": None,
    }


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (f'OK {{"version": "{__version__}"}}', DaemonState(version=__version__)),
        (
            "PERM control: only for root and the daemon's user, over its Unix socket",
            DaemonState(withheld=True),
        ),
        ("PERM control: unknown verb 'version'", DaemonState()),
        ("OK no json", DaemonState()),
        pytest.param(f"OK {'[' * 90_000}", DaemonState(), id="[[[…"),
        ('OK {"version": 1}', DaemonState()),
    ],
)
def test_the_daemon_is_asked_for_its_version(
    daemon: Daemon, reply: str, found: DaemonState
) -> None:
    with daemon({"control version": reply}) as server:
        assert _daemon([server.listen]) == found


@needs_postfix
def test_nothing_is_changed_without_a_terminal_or_a_yes(command: Command, etc: Path) -> None:
    before = (etc / "main.cf").read_bytes()
    ran = command("doctor", "--apply")
    assert (ran.status, "say --yes" in ran.err) == (2, True)
    assert "+ smtp_tls_loglevel = 1" in ran.out
    assert (etc / "main.cf").read_bytes() == before


@needs_postfix
@pytest.mark.parametrize(("answer", "changed"), [("y\n", True), ("", False)])
def test_on_a_terminal_it_asks(
    command: Command, etc: Path, monkeypatch: pytest.MonkeyPatch, answer: str, *, changed: bool
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer

    monkeypatch.setattr("sys.stdin", Terminal())
    before = (etc / "main.cf").read_bytes()
    ran = command("doctor", "--apply")
    assert "Make these changes? [y/N]" in ran.err
    assert ((etc / "main.cf").read_bytes() != before) is changed


@needs_postfix
def test_apply_mends_main_cf_and_undo_puts_it_back(command: Command, etc: Path) -> None:
    before = (etc / "main.cf").read_bytes()
    ran = command("doctor", "--apply", "--yes")
    assert "+ smtp_tls_policy_maps = socketmap:unix:sock:policy" in ran.out
    assert "smtp_dns_support_level = dnssec\n" in (etc / "main.cf").read_text()
    assert "doctor --apply" not in ran.out.splitlines()[-1]
    assert "There is nothing to change" in command("doctor", "--apply", "--yes").out
    assert command("doctor", "--undo").status == 0
    assert (etc / "main.cf").read_bytes() == before
    again = command("doctor", "--undo")
    assert (again.status, "nothing to undo" in again.err) == (1, True)


@needs_postfix
def test_an_edit_since_is_not_undone_but_shown(command: Command, etc: Path) -> None:
    change_with_backup(etc, lambda: None)
    with (etc / "main.cf").open("a") as file:
        file.write("relayhost = [mine.example]\n")
    after = (etc / "main.cf").read_bytes()
    ran = command("doctor", "--undo")
    assert (ran.status, "-relayhost = [mine.example]" in ran.err) == (1, True)
    assert (etc / "main.cf").read_bytes() == after


@needs_postfix
def test_what_postfix_refuses_is_put_back_at_once(
    command: Command, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_folder: str) -> None:
        raise CommandFailedError("postfix: fatal: no")

    monkeypatch.setattr(postconf, "check", refuse)
    before = (etc / "main.cf").read_bytes()
    ran = command("doctor", "--apply", "--yes")
    assert (ran.status, "postfix: fatal: no" in ran.err) == (1, True)
    assert (etc / "main.cf").read_bytes() == before


@pytest.mark.usefixtures("etc")
def test_a_host_without_postfix_is_told_so(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> tuple[str, ...]:
        raise CommandFailedError("there is no program postconf")

    monkeypatch.setattr(postconf, "find_folders", missing)
    ran = command("doctor")
    assert ran.status == 1
    assert "WRONG  Postfix" in ran.out
    ran = command("doctor", "--undo")
    assert (ran.status, "there is no program postconf" in ran.err) == (1, True)


def test_one_thing_is_done_at_a_time(command: Command) -> None:
    assert command("doctor", "--apply", "--undo").status == 2
    assert command("doctor", "--apply", "--json").status == 2


def test_instances_are_named_where_there_are_several_and_strange_text_is_defused() -> None:
    change = Change(name="a", value="b")
    found = [
        ok("x", "well"),
        mended_by(wrong("map", "bad \033[31m", ""), "/etc/one", change),
        mended_by(warning("map", "bad", ""), "/etc/two", change),
    ]
    lines = list(describe(found, PLAIN))
    assert lines[1] == "WRONG  map  [/etc/one] bad ?[31m"
    assert lines[3] == "warn   map  [/etc/two] bad"
    assert lines[-1].startswith("This host is not protected: 2 things to mend; postfix-mtasts")


@needs_postfix
def test_the_name_of_a_broken_instance_is_no_command(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postconf, "find_folders", lambda: (f"{etc}/x;reboot",))
    _, (fault,) = _setups()
    assert fault.mend == f"postfix -c '{etc}/x;reboot' check"


def test_a_mend_that_cannot_be_shown_as_it_is_is_none_to_paste() -> None:
    change = Change(name="smtp_tls_policy_maps", value="hash:/tls_p\udcf6licy")
    found = [mended_by(wrong("map", "bad", ""), "/etc/one", change), warning("x", "y", "a\nb")]
    _, ours, _, other, *_ = describe(found, PLAIN)
    assert (ours.strip(), other.strip()) == ("postfix-mtasts doctor --apply", "# a?b")


def test_the_last_line_says_how_it_stands() -> None:
    assert list(describe([ok("x", "y"), note("z", "w")], PLAIN))[-1] == "This host is protected."
    assert list(describe([warning("x", "y", "z")], PLAIN))[-1] == (
        "This host is protected, but not wholly: 1 thing to mend."
    )


def test_the_level_is_told_to_the_daemon_by_one_edit_of_the_default_config(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.yaml"
    shutil.copy(CHECKOUT / "contrib/postfix/config.yaml", path)
    line = _mend_level(path).replace("{level}", "dane")
    assert line == (
        rf"sed -i -E 's/^( *)#?default_level:.*/\1default_level: dane/' {path}"
        " && systemctl reload postfix-mtasts"
    )


def test_a_config_without_the_key_is_edited_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("{}\n")
    line = f"# in {path}, under server: default_level: dane"
    assert _mend_level(path).replace("{level}", "dane") == line
    assert _mend_level(None).startswith("# in /etc/postfix-mtasts/")

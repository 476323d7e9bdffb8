"""postconf(1) itself, on configuration folders of the test's own."""

import shutil
from pathlib import Path

import pytest

from postfix_mtasts.adapters import postconf
from postfix_mtasts.adapters.command import SEARCH_PATH, CommandFailedError
from postfix_mtasts.core.diagnosis import Change

pytestmark = pytest.mark.skipif(
    shutil.which("postconf", path=SEARCH_PATH) is None, reason="Postfix is not installed"
)

MAIN_CF = """\
# the operator's own words
compatibility_level = 3.6
smtp_tls_policy_maps = hash:$config_directory/tls,
    socketmap:unix:postfix-mtasts/policy.sock:policy
relayhost = [relay.example]
no_maps =
"""
MASTER_CF = """\
smtp      inet  n       -       y       -       -       smtpd
smtp      unix  -       -       y       -       -       smtp
plain     unix  -       -       n       -       -       smtp
  -o smtp_tls_policy_maps=$no_maps -o { smtp_tls_security_level = none }
lmtp      unix  -       -       y       -       -       lmtp
"""


def instance(folder: Path, extra: str = "") -> str:
    folder.mkdir()
    (folder / "main.cf").write_text(MAIN_CF + f"queue_directory = {folder}/queue\n" + extra)
    (folder / "master.cf").write_text(MASTER_CF)
    return str(folder)


def test_a_setup_has_its_settings_as_meant_and_as_written(tmp_path: Path) -> None:
    folder = instance(tmp_path / "etc")
    setup = postconf.read_setup(folder)
    assert setup.release >= (3, 4)
    assert setup.queue_directory == f"{folder}/queue"
    assert setup.setting("relayhost") == "[relay.example]"
    ours = "socketmap:unix:postfix-mtasts/policy.sock:policy"
    assert setup.setting("smtp_tls_policy_maps") == f"hash:{folder}/tls, {ours}"
    assert setup.written["smtp_tls_policy_maps"] == f"hash:$config_directory/tls, {ours}"


def test_the_smtp_clients_of_master_cf_are_found(tmp_path: Path) -> None:
    smtp, plain = postconf.read_setup(instance(tmp_path / "etc")).clients
    assert (smtp.name, smtp.chroot, smtp.overrides) == ("smtp", True, {})
    assert (plain.name, plain.chroot) == ("plain", False)
    assert plain.overrides == {"smtp_tls_policy_maps": "", "smtp_tls_security_level": "none"}


def test_changes_are_made_and_nothing_else_is_touched(tmp_path: Path) -> None:
    folder = instance(tmp_path / "etc")
    changes = (
        Change(name="smtp_tls_policy_maps", value="static:may, inline:{ {a=b} }"),
        Change(name="smtp_tls_loglevel", value="1"),
        Change(name="relayhost", value=None),
    )
    postconf.edit(folder, changes)
    assert Path(folder, "main.cf").read_text() == (
        "# the operator's own words\ncompatibility_level = 3.6\n"
        "smtp_tls_policy_maps = static:may, inline:{ {a=b} }\n"
        f"no_maps =\nqueue_directory = {folder}/queue\nsmtp_tls_loglevel = 1\n"
    )


def test_octets_that_are_no_utf_8_go_back_as_they_came(tmp_path: Path) -> None:
    folder = instance(tmp_path / "etc")
    main_cf = Path(folder, "main.cf")
    line = b"smtp_tls_policy_maps = hash:/tls_p\xf6licy\n"
    main_cf.write_bytes(line)
    value = postconf.read_setup(folder).written["smtp_tls_policy_maps"]
    postconf.edit(folder, [Change(name="smtp_tls_policy_maps", value=value)])
    assert main_cf.read_bytes() == line


def test_the_enabled_instances_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enabled = instance(tmp_path / "out", "multi_instance_enable = yes\n")
    disabled = instance(tmp_path / "off")
    default = instance(tmp_path / "etc", f"multi_instance_directories = {enabled}, {disabled}\n")
    monkeypatch.setenv("MAIL_CONFIG", default)
    monkeypatch.setattr(postconf, "_default_folder", _edited_just_now)
    assert postconf.find_folders() == (default, enabled)


def test_without_mail_config_postconf_knows_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAIL_CONFIG", raising=False)
    assert postconf.find_folders()[0] == "/etc/postfix"


def _edited_just_now() -> str:
    return "/etc/postfix"  # says Postfix 3.10 then


def test_a_folder_without_main_cf_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match=r"main\.cf"):
        postconf.read_setup(str(tmp_path))


def test_how_postfix_was_built_is_read_from_its_makedefs(tmp_path: Path) -> None:
    folder = instance(tmp_path / "etc", f"meta_directory = {tmp_path}\n")
    assert postconf.read_setup(folder).has_tlsrpt is None
    (tmp_path / "makedefs.out").write_text("CCARGS=-DUSE_TLS\n")
    assert postconf.read_setup(folder).has_tlsrpt is False
    (tmp_path / "makedefs.out").write_text("CCARGS=-DUSE_TLS -DUSE_TLSRPT\n")
    assert postconf.read_setup(folder).has_tlsrpt is True


def test_a_postfix_that_does_not_run_is_not_reloaded(tmp_path: Path) -> None:
    folder = instance(tmp_path / "etc", f"data_directory = {tmp_path}\n")
    assert postconf.reload(folder) is False

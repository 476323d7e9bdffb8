import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from postfix_mtasts.config import (
    Config,
    Delivery,
    Dkim,
    Dns,
    Limits,
    Server,
    Tlsrpt,
    build_config,
    default_config,
    load_config,
    parse_config,
)
from postfix_mtasts.core.config_nodes import MAX_CHARACTERS
from postfix_mtasts.core.endpoints import (
    DnsServer,
    EventSource,
    Listen,
    MailRoute,
    SqliteUrl,
)
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.override_config import FORMS
from postfix_mtasts.core.postfix_policy import Level

CONFIGS = Path(__file__).parent / "configs"
GOOD = sorted((CONFIGS / "good").glob("*.yaml"))
BAD = sorted((CONFIGS / "bad").glob("*.yaml"))
SHIPPED = Path(__file__).parents[1] / "contrib" / "postfix" / "config.yaml"

_COMMENTED_KEY = re.compile(r"^( *)#(?=[^ #\n])", re.MULTILINE)


def uncommented(text: str) -> str:
    """Return *text* with each "#" that stands directly before something taken away."""
    return _COMMENTED_KEY.sub(r"\1", text)


def keys(value: Any) -> Any:
    """Return the keys of what YAML said, in their order, as nested lists."""
    if not isinstance(value, dict):
        return None
    return [(key, keys(inner)) for key, inner in value.items()]


def field_names(config: Any) -> Any:
    """Return the fields of sections, in their order, as nested lists."""
    sections = ("postfix_mtasts.config",)
    if not is_dataclass(config) or type(config).__module__ not in sections:
        return None
    return [(f.name, field_names(getattr(config, f.name))) for f in fields(config)]


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_config_is_read_and_what_is_built_of_it_reads_the_same(path: Path) -> None:
    config = load_config(path)
    assert config != Config()
    assert parse_config(build_config(config), base="/elsewhere") == config


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_config_gives_exactly_its_error(path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(path.read_text(encoding="utf-8"), base="/etc/x", name=path.name)
    assert f"{raised.value}\n" == path.with_suffix(".error").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", "null\n", "{}", "dns:\ndane: {}\n"])
def test_who_says_nothing_has_the_defaults(text: str) -> None:
    assert parse_config(text, base="/") == Config()


def test_the_shipped_config_as_it_is_installed_says_nothing() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert parse_config(text, base="/") == Config()
    assert "#timeout" in text


def test_the_shipped_config_with_its_comment_signs_removed_says_the_defaults() -> None:
    text = uncommented(SHIPPED.read_text(encoding="utf-8"))
    assert parse_config(text, base="/") == Config()


def test_the_shipped_config_has_every_key_there_is_in_the_order_of_the_code() -> None:
    text = uncommented(SHIPPED.read_text(encoding="utf-8"))
    assert keys(yaml.safe_load(text)) == field_names(Config())


def test_each_line_of_the_shipped_config_can_be_uncommented_alone() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    found = list(_COMMENTED_KEY.finditer(text))
    assert len(found) > 20
    for match in found:
        one = text[: match.end() - 1] + text[match.end() :]
        assert parse_config(one, base="/") == Config()


def test_the_shipped_config_explains_each_part_of_an_override() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    for name in FORMS:
        assert re.search(rf"#   {name} |{{{name}:", text), name


def test_the_examples_of_overrides_in_the_shipped_config_are_good() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    example = re.search(r"^# (policies:\n)((?:#   - .*\n)+)", text, re.MULTILINE)
    assert example
    config = parse_config(example[1] + example[2].replace("#", " "), base="/")
    assert len(config.policies) == 2


def test_the_built_in_defaults_are_built_as_they_are_read() -> None:
    assert parse_config(build_config(Config()), base="/") == Config()


def test_without_a_file_only_the_state_moves_to_the_given_folder(tmp_path: Path) -> None:
    config = default_config(tmp_path)
    assert config.store.url == SqliteUrl(path=str(tmp_path / "state.db"))
    assert replace(config, store=Config().store) == Config()


def test_every_key_reaches_its_field() -> None:
    config = load_config(CONFIGS / "good" / "everything.yaml")
    folder = CONFIGS / "good"
    assert config.server == Server(
        listen=(
            Listen(kind="inet", host="::1", port=8462),
            Listen(kind="unix", path=str(folder / "policy.sock")),
        ),
        default_level=Level.DANE,
    )
    assert config.dns == Dns(
        servers=(DnsServer(address="192.0.2.1", port=5353), DnsServer(address="2001:db8::1")),
        trust_ad="always",
        timeout=2.5,
    )
    assert config.mta_sts.ca_file == str(folder / "ca.pem")
    assert (config.mta_sts.timeout, config.mta_sts.refresh) == (30.0, 43200.0)
    assert config.dane.enabled is False
    assert [o.domain for o in config.policies] == ["partner.example", "bank.example"]
    assert config.store.url == SqliteUrl(path="/srv/state.db")
    assert config.tlsrpt == Tlsrpt(
        enabled=False,
        organization="Example & Söhne",
        contact="postmaster@example.com",
        sender="tlsrpt@xn--bcher-kva.example",
        sources=(
            EventSource(kind="journal"),
            EventSource(kind="file", path=str(folder / "mail.log")),
            EventSource(kind="datagram", path="/run/tlsrpt.sock"),
        ),
        delivery=Delivery(
            mail=MailRoute(kind="smtp", host="127.0.0.1", port=587),
            https=False,
            private_addresses=True,
        ),
        dkim=Dkim(domain="example.com", selector="s1", key_file=str(folder / "dkim.pem")),
        only_failures=True,
        suppress=("spam.example", "mailto:loop@example.net", "https://example.org/tlsrpt"),
        retention=7776000.0,
    )
    assert config.metrics.listen == Listen(kind="inet", host="127.0.0.1", port=9461)
    assert config.logging.level == "debug"
    assert config.limits == Limits(cached_domains=1, connections=2, lookups=3, queries=4, fetches=5)


def test_everything_says_something_else_than_the_defaults_of_every_key() -> None:
    text = (CONFIGS / "good" / "everything.yaml").read_text(encoding="utf-8")
    said = yaml.safe_load(text)
    defaults = yaml.safe_load(build_config(Config()))
    for section, default in defaults.items():
        if not isinstance(default, dict):
            assert said[section] != default, section
            continue
        assert list(said[section]) == list(default)
        for name in default:
            assert said[section][name] != default[name], f"{section}.{name}"


def test_an_organization_of_200_characters_fits_and_no_more() -> None:
    config = parse_config(f"tlsrpt: {{organization: {200 * 'x'}}}", base="/")
    assert config.tlsrpt.organization == 200 * "x"
    with pytest.raises(ConfigError, match="must have from 1 to 200 characters"):
        parse_config(f"tlsrpt: {{organization: {201 * 'x'}}}", base="/")


def test_what_is_in_force_is_shown_in_letters_that_people_read() -> None:
    config = Config(tlsrpt=Tlsrpt(organization="Söhne"))
    assert "organization: Söhne\n" in build_config(config)


def test_the_error_names_the_file_as_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.yaml").write_text("dnss:\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r'^sub/mine\.yaml:1:1: unknown key "dnss"; did you mean'):
        load_config("sub/mine.yaml")


def test_paths_start_from_the_folder_of_a_file_that_was_named_relatively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text("store: {url: sqlite:///s.db}")
    monkeypatch.chdir(tmp_path)
    assert load_config("mine.yaml").store.url.path == str(tmp_path / "s.db")


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    with pytest.raises(ConfigError, match=f"^{missing}: No such file or directory$"):
        load_config(missing)
    with pytest.raises(ConfigError, match=f"^{tmp_path}: Is a directory$"):
        load_config(tmp_path)


def test_a_file_that_is_no_utf8_is_a_config_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"dns:\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=f"^{path}:2: not UTF-8$"):
        load_config(path)


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match=f"longer than {MAX_CHARACTERS} characters$"):
        load_config("/dev/zero")

"""Any text at all is a configuration or a `ConfigError`, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postfix_mtasts.config import (
    CONFIG,
    Config,
    build_config,
    parse_config,
)
from postfix_mtasts.core.config_grammar import forms_of
from postfix_mtasts.core.errors import ConfigError
from postfix_mtasts.core.override_config import FORMS
from postfix_mtasts.core.overrides import Override
from postfix_mtasts.core.postfix_policy import Level, TlsPolicy, build_policy

CONFIGS = Path(__file__).parents[1] / "configs"
SAMPLES = [path.read_text(encoding="utf-8") for path in sorted(CONFIGS.glob("*/*.yaml"))]
REPLIES_OF_MINIMUM = [level for level in Level if level not in (Level.NONE, Level.FINGERPRINT)]


def parsed(text: str) -> Config | None:
    """Return what *text* says, `None` where it is refused as it should be."""
    try:
        return parse_config(text, base="/etc/postfix-mtasts")
    except ConfigError as error:
        told = str(error)
    assert told.startswith("config.yaml:")
    assert all(line.isprintable() for line in told.split("\n"))
    return None


def holds(config: Config) -> None:
    """Check what every configuration promises."""
    assert parse_config(build_config(config), base="/elsewhere") == config
    for override in config.policies:
        for reply in replies(override):
            build_policy(reply)


def replies(override: Override) -> list[TlsPolicy]:
    """Return what Postfix may be told because of *override*."""
    levels = REPLIES_OF_MINIMUM if override.level is None else [override.level]
    return [
        TlsPolicy(
            level=level,
            match=override.match,
            servername=override.servername,
            protocols=override.protocols,
            ciphers=override.ciphers,
        )
        for level in levels
    ]


YAML_BITS = st.sampled_from(
    [
        *("\n", "  ", "- ", ": ", "{", "}", "[", "]", ", ", "? ", "# ", "'", '"', "| ", "> "),
        *("&a ", "*a", "!!str ", "!", "%YAML 1.1\n", "%TAG ! x\n", "---\n", "...\n", "<<: ", "\t"),
        *("null", "~", "true", "5s", "1e9", ".inf", "0x1", "\\UFFFFFFFF", "\\ud800", "\ufeff"),
        *("server", "listen", "dns", "timeout", "policies", "domain", "level", "may", "tlsrpt"),
        *("inet:[::1]:1", "unix:/p", "sqlite:///", "mailto:a@b", "*.example", "\u2028", "\x85"),
    ]
)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.one_of(st.text(), st.lists(YAML_BITS, max_size=20).map("".join)))
@example("%YAML " + 5000 * "9" + ".1\n--- a")
@example("? " * 50_000)
@example("- " * 50_000)
@example("!!merge a: b")
@example("=: 1")
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    config = parsed(text)
    if config is not None:
        holds(config)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.data())
def test_a_sample_with_a_part_replaced_is_a_config_or_a_config_error(data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(SAMPLES))
    start = data.draw(st.integers(0, len(sample)))
    end = data.draw(st.integers(start, min(len(sample), start + 8)))
    config = parsed(
        sample[:start] + data.draw(st.one_of(st.text(max_size=4), YAML_BITS)) + sample[end:]
    )
    if config is not None:
        holds(config)


WORDS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            *("may", "secure", "verify", "fingerprint", "auto", "sendmail", "info", "high", "none"),
            *("5s", "1.5m", "24h", "7d", "1", "99", "inet:[fe80::1%eth0]:1", "inet:localhost:53"),
            *("unix:/p q", "unix:p", "sqlite:///a b%2f#", "sqlite:////x", "file:x", "datagram:y"),
            *("a.example", "*.a.example", ".a.example", "Bücher.example", "ab:cd", "hostname"),
            *(">=TLSv1.2", "!TLSv1", "a@b.example", "mailto:a@b.example", "smtp://[::1]:26"),
            *("::1", "[::1]:5", "192.0.2.1:5", "https://x/y", "smtp://h", "journal", "null", "no"),
        ]
    ),
)


def plausible(value: Any) -> st.SearchStrategy[Any]:
    """Return values in the shape of *value*, what YAML says of the defaults."""
    if isinstance(value, dict):
        optional = {name: plausible(inner) for name, inner in value.items()}
        return st.fixed_dictionaries({}, optional=optional)
    if isinstance(value, list):
        return st.lists(WORDS, max_size=3)
    return st.one_of(WORDS, st.booleans(), st.integers(0, 10**6), st.none())


KEYS = CONFIG.build(Config())
OVERRIDES = st.fixed_dictionaries(
    {"domain": WORDS},
    optional={
        name: st.lists(WORDS, max_size=2) if name == "match" else WORDS
        for name in FORMS
        if name != "domain"
    },
)


@settings(derandomize=True, deadline=None, max_examples=600)
@given(st.data())
def test_one_section_of_the_right_shape_is_built_as_it_is_read(data: st.DataObject) -> None:
    assert isinstance(KEYS, dict)
    name = data.draw(st.sampled_from(list(forms_of(Config))))
    shape = st.lists(OVERRIDES, max_size=2) if name == "policies" else plausible(KEYS[name])
    config = parsed(
        yaml.safe_dump({name: data.draw(shape)}, allow_unicode=data.draw(st.booleans()))
    )
    if config is not None:
        holds(config)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.sampled_from(Level), st.lists(WORDS, max_size=2), WORDS)
def test_postfix_can_be_told_every_override_that_is_accepted(
    level: Level, match: list[str], protocols: str
) -> None:
    entry = {"domain": "a.example", "level": level.value, "match": match, "protocols": protocols}
    config = parsed(yaml.safe_dump({"policies": [entry]}))
    if config is not None:
        holds(config)


def test_this_fuzzer_notices_an_override_that_postfix_cannot_be_told() -> None:
    override = Override(
        domain="a.example",
        subtree=False,
        level=Level.SECURE,
        minimum=None,
        match=("a b",),
        servername=None,
        protocols=None,
        ciphers=None,
    )
    with pytest.raises(ConfigError):
        holds(Config(policies=(override,)))

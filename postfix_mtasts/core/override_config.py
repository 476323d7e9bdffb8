"""How an operator's override is written in the configuration.

::

    policies:
      - {domain: partner.example, level: secure, match: [mx.partner.example]}
      - {domain: "*.bank.example", minimum: encrypt, protocols: ">=TLSv1.2"}

A domain that begins with ``*.`` stands for every name below, at any depth, and
not for the name itself.  What is read here can be told to Postfix as it is:
a mistake must not wait for the first mail to that domain to be found.

BUGS: ``exclude`` and ``tafile`` of smtp_tls_policy_maps cannot be written.
"""

import re
from typing import Any

from postfix_mtasts.core.config_grammar import (
    Form,
    Plain,
    choice,
    listing,
    one_of,
    read_mapping,
    require,
    text,
)
from postfix_mtasts.core.config_nodes import Item
from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.names import parse_domain
from postfix_mtasts.core.overrides import Override
from postfix_mtasts.core.postfix_policy import (
    CIPHER_GRADES,
    MATCH_KEYWORDS,
    Level,
    TlsPolicy,
    build_policy,
)

_DIGEST = re.compile(r"[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2})*")
_PROTOCOL = r"(?:!|>=|<=)?(?:SSLv[23]|TLSv1(?:\.[123])?|0x[0-9A-Fa-f]{4})"
_PROTOCOLS = re.compile(rf"{_PROTOCOL}(?::{_PROTOCOL})*")
_WITH_MATCH = (Level.FINGERPRINT, Level.VERIFY, Level.SECURE)
_NO_MINIMUM = (Level.NONE, Level.FINGERPRINT)  # asks for nothing; needs digests to ask for


def _parse_match(name: str) -> str:
    """Return what a certificate must show: a name, ``.parent``, a keyword or a digest."""
    if name in MATCH_KEYWORDS or _DIGEST.fullmatch(name):
        return name
    if name.startswith("*."):
        # Postfix compares it letter by letter, so that no real host name matches.
        raise ParseError(f'write "{name[1:]}" for any name below "{name[2:]}"')
    parent = "." if name.startswith(".") else ""
    return parent + parse_domain(name.removeprefix("."))


def _parse_protocols(word: str) -> str:
    if not _PROTOCOLS.fullmatch(word):
        raise ParseError(
            f'"{word}" is no list of protocols, such as ">=TLSv1.2" or "!TLSv1:!TLSv1.1"'
        )
    return word


def _parse_pattern(word: str) -> tuple[str, bool]:
    """Return the domain of *word* and whether "*." stands before it."""
    return parse_domain(word.removeprefix("*.")), word.startswith("*.")


def _build_pattern(pattern: tuple[str, bool]) -> str:
    domain, subtree = pattern
    return f"*.{domain}" if subtree else domain


FORMS: dict[str, Form[Any]] = {
    "domain": text(_parse_pattern, _build_pattern),
    "level": one_of(Level),
    "minimum": choice({level.value: level for level in Level if level not in _NO_MINIMUM}),
    "match": listing(text(_parse_match), example='["mx.partner.example"]'),
    "servername": text(parse_domain),
    "protocols": text(_parse_protocols),
    "ciphers": choice({grade: grade for grade in CIPHER_GRADES}),
}


def _read(item: Item) -> Override:
    found = read_mapping(item, FORMS)
    require(item, ["domain"], found)
    domain, subtree = found["domain"]
    override = Override(
        domain=domain,
        subtree=subtree,
        level=found.get("level"),
        minimum=found.get("minimum"),
        match=found.get("match", ()),
        servername=found.get("servername"),
        protocols=found.get("protocols"),
        ciphers=found.get("ciphers"),
    )
    why = _clash(override)
    if why:
        raise item.fault(why)
    return override


def _clash(override: Override) -> str:
    """Return what does not go together in *override*, "" where all does."""
    level = override.level or override.minimum
    if level is None or (override.level and override.minimum):
        return 'needs "level" or "minimum", and not both'
    if override.minimum and (override.match or override.servername):
        return '"match" and "servername" belong to "level", not to "minimum"'
    if override.match and level not in _WITH_MATCH:
        return f'"match" means nothing at level {level.value}'
    if level is Level.FINGERPRINT and not override.match:
        return 'level fingerprint needs the digests of the certificates in "match"'
    return _refusal(override, level)


def _refusal(override: Override, level: Level) -> str:
    """Return why *override* could not be told to Postfix, "" where it can."""
    policy = TlsPolicy(
        level=level,
        match=override.match,
        servername=override.servername,
        protocols=override.protocols,
        ciphers=override.ciphers,
    )
    try:
        build_policy(policy)
    except ParseError as error:
        return str(error)
    return ""


def _build(override: Override) -> Plain:
    values = {name: getattr(override, name) for name in FORMS}
    values["domain"] = (override.domain, override.subtree)
    return {name: FORMS[name].build(value) for name, value in values.items() if value}


OVERRIDE: Form[Override] = Form(read=_read, build=_build)

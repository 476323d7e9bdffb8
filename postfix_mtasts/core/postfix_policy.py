"""What Postfix is told for a next-hop: a `smtp_tls_policy_maps` answer and its text.

An answer is a security level and attributes, ``secure match=mx.example.com
servername=hostname``; see smtp_tls_policy_maps in postconf(5) and TLS_README.
Postfix splits it at white space and commas, and from 3.10 on keeps what stands
between braces together: ``{ policy_string = mode: enforce }``.  Any mistake in
it defers the mail, so `build_policy` refuses whatever Postfix would not read back
as what was meant, and `parse_policy` reads as Postfix does, which proves it.

Much of an answer is written by strangers: the owner of a policy chooses names
and lines.  Names must be host names before they get here; `host_names` leaves
out those that Postfix takes for keywords, `safe_policy_strings` the lines that
its grammar cannot carry.

The attributes that tell TLSRPT about a policy exist from Postfix 3.10 on and
are errors before; `without_tlsrpt` takes them away.

BUGS: of the attributes that Postfix knows, ``exclude``, ``tafile``,
``connection_reuse``, ``enable_rpk``, ``policy_ttl`` and ``policy_failure`` are
neither built nor read.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, TypeAlias, cast

from postfix_mtasts.core.errors import ParseError

PolicyType: TypeAlias = Literal["sts", "no-policy-found"]
MATCH_KEYWORDS = ("hostname", "nexthop", "dot-nexthop")
CIPHER_GRADES = ("null", "low", "medium", "high")
MAX_TEXT_BYTES = 99_000  # Postfix takes a reply of 100000 (dict_sockmap.c), "OK " included
MAX_POLICY_STRING = 1000  # characters; RFC 8461 section 3.2 has no key that needs more

_POLICY_TYPES = ("sts", "no-policy-found")
_SEPARATORS = " ,\t\r\n"  # Postfix's CHARS_COMMA_SP
_BLANKS = " \t\n\v\f\r"  # what isspace(3) says in the C locale
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = rf"(?=.{{1,253}}\Z)({_LABEL}\.)*(?![0-9]+\Z){_LABEL}"
_MATCH = re.compile(rf"(\*?\.)?{_NAME}")
_MX_HOST_PATTERN = re.compile(rf"(\*\.)?{_NAME}")
# What Postfix's valid_hostname() lets through, which these two attributes must pass.
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?=.*[A-Za-z_]){_LABEL}(\.{_LABEL})*")
_DIGEST = re.compile(r"[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2})*")
_PROTOCOLS = re.compile(r"(!|[<>]=)?[A-Za-z0-9.]+(:(!|[<>]=)?[A-Za-z0-9.]+)*")
_POLICY_STRING = re.compile(rf"(?=.{{1,{MAX_POLICY_STRING}}}\Z)[!-z|~]([ -z|~]*[!-z|~])?")


class Level(Enum):
    """The security levels, spelt as Postfix reads them."""

    NONE = "none"
    MAY = "may"
    ENCRYPT = "encrypt"
    FINGERPRINT = "fingerprint"
    DANE = "dane"
    DANE_ONLY = "dane-only"
    VERIFY = "verify"
    SECURE = "secure"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPolicy:
    """One answer; an attribute that is empty or `None` is not given.

    *match*: what the certificate must name, each a host name, ``.parent`` for any
    name below it, ``*.parent`` (which matches only a certificate that spells it
    so) or one of `MATCH_KEYWORDS`; at level fingerprint, digests in hexadecimal.
    *servername*: for SNI, a host name, "hostname" (the MX host) or "nexthop".
    *protocols*, *ciphers*: as in ``protocols=>=TLSv1.2 ciphers=high``.
    The rest is for TLSRPT: *policy_strings* are the lines of the policy and
    *mx_host_patterns* its mx values, ``host`` or ``*.parent``.
    """

    level: Level
    match: tuple[str, ...] = ()
    servername: str | None = None
    protocols: str | None = None
    ciphers: str | None = None
    policy_type: PolicyType | None = None
    policy_domain: str | None = None
    policy_strings: tuple[str, ...] = ()
    mx_host_patterns: tuple[str, ...] = ()


_MATCH_SEPARATORS = {Level.FINGERPRINT: "|", Level.VERIFY: ":", Level.SECURE: ":"}
_SINGLE = ("servername", "protocols", "ciphers", "policy_type", "policy_domain")
_REPEATED = ("match", "policy_string", "mx_host_pattern")


def host_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return *names* without those that *match* would take for keywords.

    A policy that lists an mx "hostname" must not make Postfix believe any name
    that an unauthenticated MX record holds.
    """
    return tuple(name for name in names if name.lower() not in MATCH_KEYWORDS)


def safe_policy_strings(lines: Iterable[str]) -> tuple[str, ...]:
    """Return those of *lines* that a policy_string can carry, in their order.

    These are 1 to `MAX_POLICY_STRING` printable ASCII characters, no braces,
    no space at either end; for what else a policy says there is no spelling.
    """
    return tuple(line for line in lines if _POLICY_STRING.fullmatch(line))


def without_tlsrpt(policy: TlsPolicy) -> TlsPolicy:
    """Return *policy* as every Postfix since 3.4 understands it."""
    return replace(
        policy, policy_type=None, policy_domain=None, policy_strings=(), mx_host_patterns=()
    )


def build_policy(policy: TlsPolicy) -> str:
    """Return the text of *policy*, ASCII, its attributes in the order of `TlsPolicy`.

    Raises `ParseError` where Postfix would not read *policy* back from it, where
    the attributes do not go together, and above `MAX_TEXT_BYTES`, which only a
    policy with thousands of mx lines can reach, and never `without_tlsrpt`.
    """
    _ensure_coherent(policy)
    text = " ".join([policy.level.value, *_attributes(policy)])
    if len(text) > MAX_TEXT_BYTES:
        raise ParseError(f"TLS policy of {len(text)} bytes is too long for Postfix")
    return text


def parse_policy(text: str) -> TlsPolicy:
    """Return what Postfix 3.10 and later make of *text*.

    Raises `ParseError` for what Postfix refuses and defers the mail for, and for
    the attributes that the module's BUGS name.
    """
    words = _split(text.partition("\0")[0])
    level = _level(next(words, ""))
    if level is Level.NONE:
        return TlsPolicy(level=level)  # Postfix warns of attributes and ignores them
    given = _collect(words)
    policy = TlsPolicy(
        level=level,
        match=_split_match(level, given["match"]),
        servername=_single(given, "servername"),
        protocols=_single(given, "protocols"),
        ciphers=_single(given, "ciphers"),
        policy_type=cast("PolicyType | None", _single(given, "policy_type")),
        policy_domain=_single(given, "policy_domain"),
        policy_strings=tuple(given["policy_string"]),
        mx_host_patterns=tuple(given["mx_host_pattern"]),
    )
    _ensure_accepted(policy)
    return policy


def _ensure_coherent(policy: TlsPolicy) -> None:
    """Refuse attributes that do not go with the level or with each other."""
    if policy.level is Level.NONE and policy != TlsPolicy(level=Level.NONE):
        raise ParseError("TLS policy of level none has attributes")
    if policy.match and policy.level not in _MATCH_SEPARATORS:
        raise ParseError(f"TLS policy of level {policy.level.value} has a match")
    if policy.policy_type is None and policy != without_tlsrpt(policy):
        raise ParseError("TLS policy has attributes for TLSRPT but no policy_type")
    if policy.policy_type is not None and policy.policy_domain is None:
        raise ParseError("TLS policy has a policy_type but no policy_domain")
    is_pkix = policy.level in (Level.VERIFY, Level.SECURE)
    if policy.policy_type == "sts" and is_pkix and not policy.match:
        # Postfix filters MX hosts by mx_host_pattern only where there is a match.
        raise ParseError("TLS policy made from an MTA-STS policy has no match")


def _attributes(policy: TlsPolicy) -> Iterator[str]:
    """Yield the attributes of *policy*, each checked against Postfix's grammar."""
    if policy.match:
        grammar = _DIGEST if policy.level is Level.FINGERPRINT else _MATCH
        names = [_checked("match", name, grammar) for name in policy.match]
        yield "match=" + _MATCH_SEPARATORS[policy.level].join(names)
    if policy.servername is not None:
        yield "servername=" + _checked("servername", policy.servername, _HOST_NAME)
    if policy.protocols is not None:
        yield "protocols=" + _checked("protocols", policy.protocols, _PROTOCOLS)
    if policy.ciphers is not None:
        yield "ciphers=" + _one_of("ciphers", policy.ciphers, CIPHER_GRADES)
    if policy.policy_type is not None:
        yield "policy_type=" + _one_of("policy_type", policy.policy_type, _POLICY_TYPES)
    if policy.policy_domain is not None:
        yield "policy_domain=" + _checked("policy_domain", policy.policy_domain, _HOST_NAME)
    for line in policy.policy_strings:
        yield f"{{ policy_string = {_checked('policy_string', line, _POLICY_STRING)} }}"
    for pattern in policy.mx_host_patterns:
        yield "mx_host_pattern=" + _checked("mx_host_pattern", pattern, _MX_HOST_PATTERN)


def _checked(attribute: str, value: str, grammar: re.Pattern[str]) -> str:
    if not grammar.fullmatch(value):
        raise ParseError(f"TLS policy cannot say {attribute}={value[:100]!r}")
    return value


def _one_of(attribute: str, value: str, values: tuple[str, ...]) -> str:
    if value not in values:
        raise ParseError(f"TLS policy cannot say {attribute}={value[:100]!r}")
    return value


def _split(text: str) -> Iterator[str]:
    """Yield the words of *text*; separators within braces do not count (mystrtokq)."""
    depth, start = 0, 0
    for at, character in enumerate(text):
        if character == "{":
            depth += 1
        elif character == "}":
            depth = max(depth - 1, 0)
        elif depth == 0 and character in _SEPARATORS:
            yield from filter(None, [text[start:at]])
            start = at + 1
    yield from filter(None, [text[start:]])


def _level(word: str) -> Level:
    try:
        return Level(word.lower())
    except ValueError:
        raise ParseError(f"no security level in TLS policy: {word[:100]!r}") from None


def _collect(words: Iterable[str]) -> dict[str, list[str]]:
    """Return the values that *words* give to each attribute."""
    given: dict[str, list[str]] = {name: [] for name in (*_SINGLE, *_REPEATED)}
    for word in words:
        name, value = _name_and_value(_unbraced(word))
        if name not in given:
            raise ParseError(f"unknown attribute in TLS policy: {name[:100]!r}")
        given[name].append(value)
    return given


def _unbraced(word: str) -> str:
    """Return *word* without the braces around it, if any (extpar)."""
    if not word.startswith("{"):
        return word
    depth = 0
    for at, character in enumerate(word):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0 and at < len(word) - 1:
            raise ParseError(f"text after closing brace in TLS policy: {word[:100]!r}")
    if depth:
        raise ParseError(f"no closing brace in TLS policy: {word[:100]!r}")
    return re.sub(f"[{_BLANKS}]", " ", word[1:-1])


def _name_and_value(text: str) -> tuple[str, str]:
    """Return the two sides of the first "=" (split_nameval)."""
    name, equals, value = text.partition("=")
    name = name.strip(_BLANKS)
    if not equals or re.search(f"[{_BLANKS}]", name):
        raise ParseError(f"no name=value in TLS policy: {text[:100]!r}")
    return name.lower(), value.strip(_BLANKS)


def _single(given: dict[str, list[str]], name: str) -> str | None:
    values = given[name]
    if len(values) > 1:
        raise ParseError(f"TLS policy gives {name} more than once")
    return values[0] if values else None


def _split_match(level: Level, values: list[str]) -> tuple[str, ...]:
    """Return the names in *values*, which may come one or many to an attribute."""
    if not values:
        return ()
    if level not in _MATCH_SEPARATORS:
        raise ParseError(f"TLS policy of level {level.value} has a match")
    parts = [list(filter(None, value.split(_MATCH_SEPARATORS[level]))) for value in values]
    if not all(parts):
        raise ParseError("TLS policy has an empty match")
    return tuple(name for part in parts for name in part)


def _ensure_accepted(policy: TlsPolicy) -> None:
    """Refuse the values that Postfix refuses."""
    if policy.ciphers == "":
        raise ParseError("TLS policy has empty ciphers")
    if policy.servername is not None:
        _checked("servername", policy.servername, _HOST_NAME)
    if policy.policy_domain is not None:
        _checked("policy_domain", policy.policy_domain, _HOST_NAME)
    if policy.policy_type is not None:
        _one_of("policy_type", policy.policy_type, _POLICY_TYPES)
    elif policy != without_tlsrpt(policy):
        raise ParseError("TLS policy has attributes for TLSRPT but no policy_type")

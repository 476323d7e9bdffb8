"""Mail domains as A-labels, and the grammar of a Postfix next-hop.

Postfix asks its policy table with the next-hop as the sender, the operator or
`transport_maps` spelled it: any case, U-labels as UTF-8, brackets, a port.  DNS,
policies and certificates know A-labels only (RFC 5890 section 2.3.2.1), so
every name is brought into one spelling before anything is compared: A-labels,
lower case, no trailing dot.

What is a host name: letters, digits, hyphens and, as Postfix and DNS allow,
underscores; labels of 1 to 63 octets that neither begin nor end with a hyphen;
253 octets in all (RFC 1123 section 2.1, RFC 1035 section 2.3.4); a last label
that is no number, which tells names from addresses (RFC 3696 section 2).

U-labels are mapped as UTS 46 says, non-transitional, as Postfix does by default
since 3.5; Python's own "idna" codec is of 2003 and makes another domain of
"straße".  The stricter rules of IDNA 2008 are not applied: Postfix delivers to
the names that they refuse, and a name that mail goes to must be looked up.

BUGS: A-labels are not decoded, so "xn--" with rubbish behind it is let through
to DNS, which knows no such name.  Service names other than those of mail
submission and relay are not known here, whatever /etc/services says.
"""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from enum import Enum

import idna

from postfix_mtasts.core.errors import ParseError

SMTP_PORT = 25
MAX_NAME = 253  # octets without the trailing dot (RFC 1035 section 2.3.4)
_MAX_LABEL = 63
_MAX_PORT = 65535
_SHOWN = 60  # characters of a bad name that a message quotes
_SERVICES = {"smtp": SMTP_PORT, "smtps": 465, "submission": 587, "submissions": 465}

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,{MAX_NAME}}}\Z)(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")  # RFC 6874 section 2


class Form(Enum):
    """The kinds of next-hop that Postfix asks for."""

    DOMAIN = "domain"  # example.com: its MX hosts are looked up
    HOST = "host"  # [mail.example.com]: no MX look-up
    PARENT = "parent"  # .example.com: asked after a NOTFOUND for a name below
    LITERAL = "literal"  # [192.0.2.1]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHop:
    """What Postfix asks for; only `parse_nexthop` makes one from bytes.

    *name*: A-labels, lower case, no trailing dot.  For a literal the address;
    for a parent the name behind the leading dot, "" where it is no name.
    """

    form: Form
    name: str
    port: int = SMTP_PORT

    @property
    def looked_up(self) -> bool:
        """Whether DNS can know anything of it that a policy could be made of."""
        return self.form in {Form.DOMAIN, Form.HOST}

    def __str__(self) -> str:
        if self.form is Form.PARENT:
            return f".{self.name}"
        target = self.name if self.form is Form.DOMAIN else f"[{self.name}]"
        return target if self.port == SMTP_PORT else f"{target}:{self.port}"


def parse_nexthop(key: bytes) -> NextHop:
    """Return what Postfix asks for with *key*, the key of a socketmap request.

    Takes ``name``, ``[name]``, both with ``:port``, ``:service`` or a lone
    ``:`` behind them, ``.name``, and addresses with or without brackets: what
    host_port(3) of Postfix takes.

    Raises ParseError for what is no next-hop: lists, paths, spaces, control
    characters, ports out of range, whatever is no host name.
    """
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        raise ParseError("the next-hop is not UTF-8") from None
    if _NAME.fullmatch(text):
        return NextHop(form=Form.DOMAIN, name=text)
    if text.startswith(".") and text != ".":
        return _parse_parent(text)
    if text.startswith("["):
        return _parse_bracketed(text)
    return _parse_bare(text)


def parse_domain(text: str) -> str:
    """Return the host name *text* as A-labels, lower case, no trailing dot.

    Raises ParseError where it is no host name, addresses included.
    """
    if _NAME.fullmatch(text):
        return text
    # No U-label is longer than its A-label.  The bound also keeps the time
    # that mapping and punycode take, which grows with the square, small.
    if len(text) > MAX_NAME + 1:
        raise ParseError(_complain(text, f"longer than {MAX_NAME} octets"))
    name = text.lower() if text.isascii() else _to_alabels(text)
    name = name.removesuffix(".")
    if not _NAME.fullmatch(name):
        raise ParseError(_complain(text, _fault(name)))
    return name


def _parse_parent(text: str) -> NextHop:
    try:
        name = parse_domain(text[1:])
    except ParseError:
        name = ""
    return NextHop(form=Form.PARENT, name=name)


def _parse_bracketed(text: str) -> NextHop:
    inner, bracket, rest = text[1:].partition("]")
    if not bracket:
        raise ParseError(_complain(text, "without its closing bracket"))
    if rest and not rest.startswith(":"):
        raise ParseError(_complain(text, "with something behind its bracket"))
    port = _parse_port(rest[1:])
    tagged = inner[:5].lower() == "ipv6:"  # RFC 5321 section 4.1.3
    address = _parse_address(inner[5:] if tagged else inner)
    if address:
        return NextHop(form=Form.LITERAL, name=address, port=port)
    return NextHop(form=Form.HOST, name=parse_domain(inner), port=port)


def _parse_bare(text: str) -> NextHop:
    address = _parse_address(text)
    if address:  # IPv6 without brackets: its colons begin no port
        return NextHop(form=Form.LITERAL, name=address)
    target, _, service = text.partition(":")
    port = _parse_port(service)
    address = _parse_address(target)
    if address:
        return NextHop(form=Form.LITERAL, name=address, port=port)
    return NextHop(form=Form.DOMAIN, name=parse_domain(target), port=port)


def _parse_port(service: str) -> int:
    """Return the port that *service* names, a number or a word; "" is SMTP."""
    if not service:
        return SMTP_PORT
    if service in _SERVICES:
        return _SERVICES[service]
    if _PORT.fullmatch(service) and 0 < int(service) <= _MAX_PORT:
        return int(service)
    raise ParseError(f"{service[:_SHOWN]!a} is no port and no mail service")


def _parse_address(text: str) -> str:
    """Return *text* as an IP address in its canonical spelling, "" if it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    zone = getattr(address, "scope_id", None)
    return str(address) if zone is None or _ZONE.fullmatch(zone) else ""


def _to_alabels(text: str) -> str:
    try:
        mapped = idna.uts46_remap(text, std3_rules=False, transitional=False)
    except idna.IDNAError:
        raise ParseError(_complain(text, "with a character that no name has")) from None
    return ".".join(_to_alabel(label) for label in mapped.split("."))


def _to_alabel(label: str) -> str:
    """Return *label*, which UTS 46 has mapped, in ASCII (UTS 46 section 4.1)."""
    if label.isascii():
        return label
    if unicodedata.category(label[0]).startswith("M"):
        raise ParseError(_complain(label, "beginning with a combining mark"))
    if label.startswith("xn--"):
        raise ParseError(_complain(label, "an A-label with letters beyond ASCII"))
    return "xn--" + label.encode("punycode").decode("ascii")


def _complain(text: str, fault: str) -> str:
    shown = f"{text[:_SHOWN]!a}" + ("..." if len(text) > _SHOWN else "")
    return f"{shown} is no host name: {fault}"


def _fault(name: str) -> str:
    labels = name.split(".")
    if len(name) > MAX_NAME:
        return f"longer than {MAX_NAME} octets"
    if "" in labels:
        return "with an empty label"
    if max(map(len, labels)) > _MAX_LABEL:
        return f"with a label longer than {_MAX_LABEL} octets"
    if labels[-1].isdigit():
        return "ending in a number"
    return "with a character or a hyphen out of place"

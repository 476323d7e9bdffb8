"""The document of `core.explanation` in words, for a postmaster under stress.

First the verdict in one line; then what it does to the mail, DNS, DANE host by
host, MTA-STS and TLSRPT, in one screen.

BUGS: of many MX hosts only `_MOST_HOSTS` are shown; ``--json`` has them all.
"""

from collections.abc import Callable, Iterable
from typing import Any

from postfix_mtasts.commands.asking import Document
from postfix_mtasts.commands.terminal import Colour, Paint, table
from postfix_mtasts.commands.words import counted, listed, moment, printable, span

_MOST_HOSTS = 8
_MOST_NAMES = 5
_MOST_TLSA = 2
_MAX_TLSA = 20  # characters: enough to tell two apart

_EFFECTS = {
    "none": "Mail goes without TLS.",
    "may": "Mail goes over TLS where the server offers it, else in the clear.",
    "encrypt": "Mail goes over TLS or waits; certificates are not checked.",
    "dane": "Postfix judges each MX host by its own TLSA records (see DANE below).",
    "dane-only": "Mail goes only to servers whose TLSA records match, else it waits.",
    "fingerprint": "Mail goes only to servers whose certificate has one of the digests.",
    "verify": "Mail goes only to servers with a trusted certificate for a name of match=.",
    "secure": "Mail goes only to servers with a trusted certificate for a name of match=.",
}
_COLOURS = {
    "none": Colour.RED,
    "may": Colour.YELLOW,
    "encrypt": Colour.YELLOW,
}


def describe(document: Document, default_level: str, paint: Paint) -> Iterable[str]:
    """Yield the lines on *document*; *default_level* is what the config says of main.cf."""
    known = _sanitized(document)
    yield _headline(known, paint)
    yield ""
    sections = (
        ("Answer", _answer(known, default_level)),
        ("DNS", _dns(known["dane"])),
        ("DANE", _dane(known["dane"])),
        ("MTA-STS", _mta_sts(known["mta_sts"])),
        ("TLSRPT", _tlsrpt(known["tlsrpt"])),
        ("Note", [known["note"]] if "note" in known else []),
    )
    for title, lines in sections:
        for number, line in enumerate(lines):
            heading = "" if number else title
            yield paint(Colour.BOLD, f"{heading:<9}") + line if heading else f"{'':<9}{line}"


def _sanitized(value: Any) -> Any:
    """Return *value* with every text in it safe for a terminal."""
    match value:
        case dict():
            return {key: _sanitized(item) for key, item in value.items()}
        case list():
            return [_sanitized(item) for item in value]
        case str():
            return printable(value)
    return value


def _headline(document: Document, paint: Paint) -> str:
    verdict = document["verdict"]
    level, reason = verdict["level"], verdict["reason"]
    if level is None:
        waits = verdict["reply"].startswith("TEMP")
        word = paint(Colour.RED, "mail waits") if waits else paint(Colour.YELLOW, "main.cf decides")
    else:
        word = paint(_COLOURS.get(level, Colour.GREEN), level)
    names = _match(verdict["reply"])
    matching = f", match {listed(names, _MOST_NAMES)}" if names else ""
    return f"{document['nexthop'] or 'no next-hop'}: {word} — {reason}{matching}"


def _match(reply: str) -> list[str]:
    """Return the names of ``match=`` in *reply*."""
    for word in reply.split():
        if word.startswith("match="):
            return word.removeprefix("match=").split(":")
    return []


def _answer(document: Document, default_level: str) -> Iterable[str]:
    verdict = document["verdict"]
    level = verdict["level"]
    yield verdict["reply"]
    if "map" in document:
        yield f"{document['map']['reply']} (map {document['map']['name']})"
    if level is not None:
        yield _EFFECTS[level]
    elif verdict["reply"].startswith("TEMP"):
        yield "Mail waits in the queue; Postfix asks again at its next try."
    else:
        yield f"main.cf's smtp_tls_security_level applies (default_level: {default_level})."
    if verdict["expires_in"]:
        yield f"Holds for {span(verdict['expires_in'])}, then it is decided anew."


def _dns(dane: Document) -> Iterable[str]:
    yield _mx(dane["mx"])
    hosts = dane["hosts"]
    shown = hosts[:_MOST_HOSTS]
    yield from table([(_host(host), _addresses(host)) for host in shown])
    if len(hosts) > len(shown):
        yield f"and {counted(len(hosts) - len(shown), 'more host')}"


def _mx(mx: Document) -> str:
    if mx["status"] != "present":
        return str(mx.get("why", "no MX records: the domain is its own mail host"))
    if mx["records"] == ["0 ."]:
        return "null MX: the domain accepts no mail (RFC 7505)"
    return f"{counted(len(mx['records']), 'MX record')}, {_validated(mx)}"


def _validated(lookup: Document) -> str:
    return "DNSSEC-validated" if lookup["secure"] else "not DNSSEC-validated"


def _host(host: Document) -> str:
    return f"{host['preference']:>2} {host['name']}"


def _addresses(host: Document) -> str:
    lookup = host["address_lookup"]
    if lookup["status"] == "present":
        return f"{listed(host['addresses'], _MOST_TLSA)}, {_validated(lookup)}"
    return str(lookup.get("why", "no address"))


def _dane(dane: Document) -> Iterable[str]:
    hosts, unexamined = dane["hosts"], dane["unexamined"]
    if not hosts:
        off = "switched off (dane.enabled), MX hosts are not examined"
        yield off if unexamined else "no MX host to speak of"
        return
    yield from table([(_host(host), _tlsa(host)) for host in hosts[:_MOST_HOSTS]])
    rest = len(hosts[_MOST_HOSTS:]) + unexamined
    if rest:
        yield f"and {counted(rest, 'more host')}" + (
            f", {unexamined} of them not examined" if unexamined else ""
        )


def _tlsa(host: Document) -> str:
    tlsa = host["tlsa"]
    said: dict[str, Callable[[], str]] = {
        "dane": lambda: f"must match TLSA {_records(tlsa['records'])}",
        "encrypt": lambda: f"TLS, not authenticated: no usable TLSA in {_records(tlsa['records'])}",
        "skip": lambda: f"not used now: {_why_skipped(host)}",
        "unreachable": lambda: "not used: no address",
        "may": lambda: _why_no_dane(tlsa),
    }
    return said[host["stance"]]()


def _records(records: list[str]) -> str:
    return listed([_short(record) for record in records], _MOST_TLSA)


def _short(record: str) -> str:
    return record if len(record) <= _MAX_TLSA else record[: _MAX_TLSA - 1] + "…"


def _why_skipped(host: Document) -> str:
    failed = [host["address_lookup"], host["tlsa"]]
    return next(str(lookup["why"]) for lookup in failed if lookup["status"] == "unavailable")


def _why_no_dane(tlsa: Document) -> str:
    if tlsa["status"] == "present":
        return "no DANE: the TLSA records are not DNSSEC-validated"
    why = tlsa.get("why", "no TLSA records").removeprefix("not asked: ")
    return f"no DANE: {why}"


def _mta_sts(sts: Document) -> Iterable[str]:
    if sts["status"] == "present":
        yield f"policy {sts['id'] or 'without id'} in mode {sts['mode']}"
        yield f"in force until {moment(sts['expires'])}, fetched {moment(sts['fetched'])}"
        yield f"permits {listed(sts['mx'], _MOST_NAMES) or 'no MX host'}"
    elif sts["id"]:
        yield f"record with id {sts['id']}, but no policy: {sts['why']}"
    else:
        yield str(sts.get("why", "no record"))
    if sts["error"] and sts["error"] != sts.get("why"):
        yield f"last error: {sts['error']}"


def _tlsrpt(tlsrpt: Document) -> Iterable[str]:
    if tlsrpt["status"] == "present":
        yield f"reports to {listed(tlsrpt['rua'], _MOST_NAMES) or 'nobody: no address can be used'}"
    else:
        yield str(tlsrpt.get("why", "no record"))

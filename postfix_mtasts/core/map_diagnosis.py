"""Whether Postfix asks the policy daemon, and who answers there.

A service of master.cf with maps of its own is the operator's wish, unless it is
"smtp", by which nearly all mail leaves.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from postfix_mtasts.core.diagnosis import Change, Diagnosis, mended_by, note, ok, warning, wrong
from postfix_mtasts.core.endpoints import Listen
from postfix_mtasts.core.map_line import (
    KNOWS_TLSRPT,
    PLAIN,
    SETTING,
    STRICT,
    WITH_TLSRPT,
    Probe,
    Reach,
    as_it_is,
    asked_tables,
    is_ours,
    is_peer,
    tables_of,
    wanted_maps,
)
from postfix_mtasts.core.policy_tables import Table, parse_tables
from postfix_mtasts.core.postfix_setup import Client, Setup

SUBJECT = "policy map"

_OURS = (*PLAIN, *WITH_TLSRPT, *STRICT)
_START = "systemctl start postfix-mtasts.socket postfix-mtasts.service"
_MAKE_ANEW = "systemctl restart postfix-mtasts.socket postfix-mtasts.service"


def diagnose_map(
    setup: Setup, listens: Sequence[Listen], probes: Sequence[Probe]
) -> tuple[Diagnosis, ...]:
    """Return what is to be said of *setup*'s policy maps; *probes* are of `asked_tables`."""
    found = [
        *_overridden(setup, listens),
        *_beside(setup, listens, probes),
    ]
    found[:0] = _asked(setup, listens, probes)
    return tuple(replace(each, instance=setup.folder) for each in found)


def _asked(setup: Setup, listens: Sequence[Listen], probes: Sequence[Probe]) -> list[Diagnosis]:
    ours = asked_tables(setup, listens)
    if not ours:
        peers = [table.text for table in tables_of(setup) if is_peer(table)]
        whom = (
            f"asks another policy server: {', '.join(peers)}" if peers else "asks no policy server"
        )
        text = f"Postfix {whom}; this daemon protects nothing"
        return [mended_by(wrong(SUBJECT, text, ""), setup.folder, _change(setup, listens, probes))]
    table = ours[0]
    faults = [*_map_faults(setup, table, listens, probes), *_reach_faults(setup, listens, probes)]
    if faults:
        return faults
    where = "in its chroot" if any(probe.chroot for probe in probes) else "without a chroot"
    return [ok(SUBJECT, f"{table.text} answers Postfix's user {where}")]


def _map_faults(
    setup: Setup, table: Table, listens: Sequence[Listen], probes: Sequence[Probe]
) -> list[Diagnosis]:
    change = _change(setup, listens, probes)
    if table.map not in _OURS:
        text = f'"{table.map}" is no map for {SETTING}: mail is deferred'
        return [mended_by(wrong(SUBJECT, text, ""), setup.folder, change)]
    if table.map in WITH_TLSRPT and setup.release < KNOWS_TLSRPT:
        text = f"Postfix {setup.version} does not know what {table.map} answers: mail is deferred"
        return [mended_by(wrong(SUBJECT, text, ""), setup.folder, change)]
    if table.map in PLAIN and setup.release >= KNOWS_TLSRPT:
        text = f"Postfix {setup.version} can be told more, for its TLS reports: map policy-tlsrpt"
        grade = warning if setup.setting("smtp_tlsrpt_enable") == "yes" else note
        return [mended_by(grade(SUBJECT, text, ""), setup.folder, change)]
    return []


def _reach_faults(
    setup: Setup, listens: Sequence[Listen], probes: Sequence[Probe]
) -> list[Diagnosis]:
    return [
        fault
        for probe in probes
        if (fault := _reach_fault(setup, listens, probes, probe)) is not None
    ]


def _reach_fault(
    setup: Setup, listens: Sequence[Listen], probes: Sequence[Probe], probe: Probe
) -> Diagnosis | None:
    where = " in its chroot" if probe.chroot else ""
    match probe.reach:
        case Reach.OURS:
            return None
        case Reach.UNTRIED:
            return note(SUBJECT, f"{probe.table} was not asked as Postfix's user: {probe.why}")
        case Reach.FOREIGN:
            text = f"{probe.table}: another program answers there"
            return wrong(SUBJECT, text, "ss -lptx; ss -lpt  # shows which: stop it, start ours")
    text = f"{probe.table} cannot be asked by Postfix's user{where}: {probe.why}; mail is deferred"
    change = _change(setup, listens, probes)
    if change.value != as_it_is(setup):
        return mended_by(wrong(SUBJECT, text, ""), setup.folder, change)
    return wrong(SUBJECT, text, _opening(probe))


def _opening(probe: Probe) -> str:
    """Return what lets Postfix's user in, where the line itself is right.

    No chmod: the folder is another user's, who could have it follow a link.
    """
    return _MAKE_ANEW if "ermission" in probe.why else _START


def _overridden(setup: Setup, listens: Sequence[Listen]) -> list[Diagnosis]:
    """Return what is to be said of services of master.cf with maps of their own."""
    return [
        _override(client, setup, listens) for client in setup.clients if SETTING in client.overrides
    ]


def _override(client: Client, setup: Setup, listens: Sequence[Listen]) -> Diagnosis:
    value = client.overrides[SETTING]
    own = [t for t in parse_tables(value) if is_ours(t, setup, listens)]
    text = f"master.cf: {client.name} has {SETTING} of its own: {value or 'none'}"
    if own or client.name != "smtp":
        return note(SUBJECT, text)
    steps = (
        ["postconf", "-c", setup.folder, "-PX", f"{client.name}/unix/{SETTING}"],
        ["postfix", "-c", setup.folder, "reload"],
    )
    return wrong(SUBJECT, text, " && ".join(map(shlex.join, steps)))


def _beside(setup: Setup, listens: Sequence[Listen], probes: Sequence[Probe]) -> list[Diagnosis]:
    """Return what is to be said of other tables beside ours."""
    tables = tables_of(setup)
    places = [n for n, table in enumerate(tables) if is_ours(table, setup, listens)]
    if not places:
        return []
    found = []
    peers = [t.text for t in tables if is_peer(t) and not is_ours(t, setup, listens)]
    if peers:
        text = f"another policy server is asked as well: {', '.join(peers)}"
        change = _change(setup, listens, probes)
        found.append(mended_by(warning(SUBJECT, text, ""), setup.folder, change))
    later = [t.text for t in tables[places[0] :] if t.listen is None]
    if later:
        found.append(note(SUBJECT, f"asked only where we say nothing: {', '.join(later)}"))
    return found


def _change(setup: Setup, listens: Sequence[Listen], probes: Sequence[Probe]) -> Change:
    return Change(name=SETTING, value=wanted_maps(setup, listens, probes))

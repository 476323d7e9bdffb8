"""The line of main.cf by which Postfix asks the policy daemon, as it is and as it should be.

Right for the version: an attribute that Postfix does not know makes it defer the
mail, so "policy-tlsrpt" is for 3.10 and later only.

Tables of the operator's own stay where they stand, and ours comes after them: what
it answers would hide them.  That of another policy server goes, for beside ours
chance would decide.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from postfix_mtasts.core.endpoints import Listen, build_listen
from postfix_mtasts.core.policy_tables import Table, as_seen, parse_tables
from postfix_mtasts.core.postfix_setup import Setup

SETTING = "smtp_tls_policy_maps"
KNOWS_TLSRPT = (3, 10)  # and the attributes that go with it

PLAIN = ("policy", "postfix", "QUERY")
WITH_TLSRPT = ("policy-tlsrpt", "QUERYwithTLSRPT")
STRICT = ("requiretls",)


class Reach(Enum):
    """Who answered where a table asks."""

    OURS = "ours"
    FOREIGN = "foreign"
    NOBODY = "nobody"
    UNTRIED = "untried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What came of asking *table* (its text) as Postfix's user, in the chroot or not."""

    table: str
    chroot: bool
    reach: Reach
    why: str = ""  # nobody answered, or it was not tried


def tables_of(setup: Setup) -> tuple[Table, ...]:
    """Return the tables of main.cf."""
    return parse_tables(setup.setting(SETTING))


def asked_tables(setup: Setup, listens: Sequence[Listen]) -> tuple[Table, ...]:
    """Return the tables of main.cf that mean one of *listens*, the daemon's sockets."""
    return tuple(table for table in tables_of(setup) if is_ours(table, setup, listens))


def is_ours(table: Table, setup: Setup, listens: Sequence[Listen]) -> bool:
    """Return whether *table* means one of *listens*, if only its author had no chroot in mind."""
    if table.listen is None:
        return False
    queue = setup.queue_directory
    seen = {_local(as_seen(table.listen, queue)), _local(as_seen(table.listen, queue, queue))}
    return any(_local(listen) in seen for listen in listens)


def is_peer(table: Table) -> bool:
    """Return whether *table* asks a policy server, as other programs' are called too."""
    return table.listen is not None and table.map in (*PLAIN, *WITH_TLSRPT)


def wanted_maps(setup: Setup, listens: Sequence[Listen], probes: Iterable[Probe]) -> str:
    """Return what smtp_tls_policy_maps should be: what is right in it stays as it is."""
    bad = {probe.table for probe in probes if probe.reach in {Reach.NOBODY, Reach.FOREIGN}}
    kept, right = [], ""
    for table, text in _as_written(setup):
        if is_ours(table, setup, listens):
            if not right and table.text not in bad and _suits(table, setup):
                right = text
                kept.append(text)
        elif not is_peer(table):
            kept.append(text)
    return ", ".join(kept if right else (*kept, preferred(setup, listens)))


def as_it_is(setup: Setup) -> str:
    """Return smtp_tls_policy_maps as `wanted_maps` would spell it were all of it right."""
    return ", ".join(text for _, text in _as_written(setup))


def preferred(setup: Setup, listens: Sequence[Listen]) -> str:
    """Return the table by which *setup* best reaches the daemon.

    A path relative to the queue directory is right with and without a chroot.
    """
    name = (WITH_TLSRPT if setup.release >= KNOWS_TLSRPT else PLAIN)[0]
    queue = setup.queue_directory.rstrip("/") + "/"
    for listen in listens:
        if listen.kind == "unix" and listen.path.startswith(queue):
            return f"socketmap:unix:{listen.path.removeprefix(queue)}:{name}"
    for listen in listens:
        if listen.kind == "inet":
            return f"socketmap:{build_listen(listen)}:{name}"
    proxy = "proxy:" if setup.has_chroots else ""
    return f"{proxy}socketmap:{build_listen(listens[0])}:{name}"


def _as_written(setup: Setup) -> tuple[tuple[Table, str], ...]:
    """Return each table with its text in main.cf, which may hold names of settings."""
    tables = tables_of(setup)
    written = parse_tables(setup.written.get(SETTING, ""))
    names = [table for table in written if table.text.startswith("$")]
    if len(written) != len(tables) or len(names) > 1:  # one may be two tables, and one none
        written = tables
    return tuple(
        (table, as_written.text) for table, as_written in zip(tables, written, strict=True)
    )


def _suits(table: Table, setup: Setup) -> bool:
    """Return whether what *table* asks for is right for the version."""
    return table.map in (*(WITH_TLSRPT if setup.release >= KNOWS_TLSRPT else PLAIN), *STRICT)


def _local(listen: Listen) -> Listen:
    return replace(listen, host="127.0.0.1") if listen.host == "localhost" else listen

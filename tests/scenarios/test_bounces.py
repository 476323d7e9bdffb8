"""Report mail that bounces, from Postfix's log to what `report --list` says of it."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from postfix_mtasts.adapters.log_files import LogFile
from postfix_mtasts.adapters.policies_in_force import PoliciesOfDaemon
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME, SqliteTlsrptStore
from postfix_mtasts.cli import main
from postfix_mtasts.services.log_counter import LogCounter

DAY = 86400
SENDER = "reports@sender.example"
CONFIG = f"""\
store: {{url: "sqlite:///state.db"}}
tlsrpt: {{organization: Sender, contact: tls@sender.example, sender: {SENDER}}}
"""
BOUNCED = "dsn=5.1.1, status=bounced (host mx.gone.example[192.0.2.1] said: 550 5.1.1 No such user)"
WAITED = "dsn=4.4.1, status=deferred (connect to mx.gone.example[192.0.2.1]:25: refused)"
SENT = "dsn=2.0.0, status=sent (250 2.0.0 Ok)"
EXPIRED = "expired"  # in the queue, after it waited


def lines_of(when: float, *fates: str) -> str:
    """Return what Postfix logs of a report at *when*, one line for each of *fates*."""
    stamp, queue_id = datetime.fromtimestamp(when, UTC).isoformat(), f"{int(when):X}"
    said = [f"qmgr[8]: {queue_id}: from=<{SENDER}>, size=1, nrcpt=1 (queue active)"]
    for fate in fates:
        if fate == EXPIRED:
            said.append(f"qmgr[8]: {queue_id}: from=<{SENDER}>, status=expired, returned to sender")
        else:
            said.append(
                f"smtp[9]: {queue_id}: to=<tls@gone.example>, relay=mx.gone.example[192.0.2.1]:25,"
                f" delay=1, delays=0/0/0/1, {fate}"
            )
    said.append(f"qmgr[8]: {queue_id}: removed")
    return "".join(f"{stamp} mail postfix/{line}\n" for line in said)


def collect(folder: Path, text: str) -> None:
    """Let the sidecar read a log of *text*."""
    log = folder / "mail.log"
    log.write_text(text)
    store, policies = SqliteTlsrptStore(folder / FILE_NAME), PoliciesOfDaemon(folder / "state.db")
    source = LogFile(log, follow=False, own_senders=[SENDER])
    counter = LogCounter(
        source, store=store, policies=policies, clock=time.time, own_senders=[SENDER]
    )
    while not counter.ended:
        counter.read()
        assert counter.write()
    counter.close()
    policies.close()
    store.close()


@pytest.mark.parametrize(
    ("days", "fates", "is_listed"),
    [
        ((9, 8, 7, 1), (BOUNCED,), True),
        ((9, 8, 7, 1), (WAITED, EXPIRED), True),
        ((3, 2, 1), (BOUNCED,), False),
        ((9, 8, 7, 1), (WAITED, SENT), False),
    ],
    ids=["bounced for a week", "expired for a week", "bounced for days", "arrived in the end"],
)
def test_who_takes_no_report_for_a_week_is_listed_as_set_aside(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    days: tuple[int, ...],
    fates: tuple[str, ...],
    is_listed: bool,  # noqa: FBT001 - a table
) -> None:
    now = time.time()
    collect(tmp_path, "".join(lines_of(now - ago * DAY, *fates) for ago in days))
    (tmp_path / "config.yaml").write_text(CONFIG)
    assert main(["report", "--list", "--config", str(tmp_path / "config.yaml")]) == 0
    listed = capsys.readouterr().out
    since = datetime.fromtimestamp(now - days[0] * DAY, UTC).date().isoformat()
    assert ("Set aside" in listed) is is_listed
    assert (f"mailto:tls@gone.example  since {since}" in listed) is is_listed


def test_a_report_that_arrives_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    text = "".join(lines_of(now - ago * DAY, BOUNCED) for ago in (9, 8, 7, 2))
    collect(tmp_path, text + lines_of(now - DAY, SENT))
    (tmp_path / "config.yaml").write_text(CONFIG)
    assert main(["report", "--list", "--config", str(tmp_path / "config.yaml")]) == 0
    assert "Set aside" not in capsys.readouterr().out

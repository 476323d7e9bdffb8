"""The sidecar `collect`, and the verb `report` beside it, on one database."""

import json
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2e.namespace import Namespace
from tests.e2e.service import CHECKOUT, Service

SENDER = "tls-reports@mail.test"  # of reports, and of nothing else

_CONFIG = """\
dns:
  servers: ["127.0.0.1"]
mta_sts:
  ca_file: {authority}
store:
  url: sqlite:///{folder}/state.db
tlsrpt:
  organization: The Lab
  contact: postmaster@mail.test
  sender: {sender}
  sources: {sources}
  delivery:
    mail: {mail}
    private_addresses: true
logging:
  level: debug
"""


class Collector(Service):
    """The sidecar; its counts lie beside the store of the daemon, in *state*.

    *sources* and *mail*: as the configuration spells them.
    """

    def __init__(
        self,
        namespace: Namespace,
        folder: Path,
        *,
        state: Path,
        authority: Path,
        sources: tuple[str, ...],
        mail: str,
    ) -> None:
        config = _CONFIG.format(
            folder=state,
            authority=authority,
            sources=json.dumps(sources),
            mail=mail,
            sender=SENDER,
        )
        super().__init__(namespace, folder, verb="collect", config=config)
        self._database = state / "tlsrpt.db"

    def counted(self, domain: str, origin: str = "%") -> int:
        """Return how many sessions to *domain* are stored, of *origin* alone where it is given."""
        query = "SELECT total(count) FROM counts WHERE domain = ? AND origin LIKE ?"
        with closing(sqlite3.connect(self._database, timeout=10)) as connection:
            (total,) = connection.execute(query, (domain, origin)).fetchone()
        return int(total)

    def fates(self) -> dict[str, bool]:
        """Return whether the last report mail arrived, by recipient."""
        query = "SELECT recipient, failing_since IS NULL FROM own_mail"
        with closing(sqlite3.connect(self._database, timeout=10)) as connection:
            return {to: bool(arrived) for to, arrived in connection.execute(query)}

    def close_day(self) -> None:
        """Let all that was counted be of yesterday: a day is a column."""
        with closing(sqlite3.connect(self._database, timeout=10)) as connection, connection:
            connection.execute("UPDATE tally SET day = day - 1")

    def report(self, *words: str) -> str:
        """Run `report` with *words* to its end and return what it printed."""
        in_checkout = ("env", "-C", str(CHECKOUT))
        return self._namespace.run(*in_checkout, *self._command("report", *words))

    def shown(self) -> dict[str, dict[str, Any]]:
        """Return the reports of today, which is not over, by domain."""
        today = datetime.fromtimestamp(time.time(), UTC).date().isoformat()
        lines = self.report("--print", "--day", today).splitlines()
        return {domain_of(report): report for report in map(json.loads, lines)}


def domain_of(report: dict[str, Any]) -> str:
    """Return the domain to which *report* goes: its Report-ID names it."""
    left: str = report["report-id"].rpartition("@")[0]
    return left.partition(".")[2]

"""How the running daemon is: for the log, for ``systemctl status`` and for Prometheus."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from postfix_mtasts.adapters.resolver import SelfTest
from postfix_mtasts.adapters.state_metrics import policies_in_force, policy_metrics
from postfix_mtasts.adapters.store_sqlite import SqliteStore
from postfix_mtasts.services.answers import Answers
from postfix_mtasts.services.status import Pace, build_status

log = logging.getLogger("postfix_mtasts")


class Health:
    """What is known of *answers*, of the *store* at *state*, and of DNSSEC.

    *ticks*: a clock that never jumps.  *dnssec* is `None` until it was tested.
    """

    def __init__(
        self, *, answers: Answers, store: SqliteStore, state: Path, ticks: Callable[[], float]
    ) -> None:
        self.dnssec: SelfTest | None = None
        self._answers = answers
        self._store = store
        self._state = state
        self._ticks = ticks
        self._pace = Pace(answers.activity, ticks())
        self._policies: int | None = None

    @property
    def is_store_usable(self) -> bool:
        """Whether what is learnt is kept on disk, and not in memory only."""
        return self._store.problem is None

    def tested(self, result: SelfTest) -> None:
        """Note how a test of DNSSEC went, and log where that is not as it was."""
        before, self.dnssec = self.dnssec, result
        if before is not None and before.ok is result.ok:
            return
        if result.ok:
            log.info("DNSSEC: %s", result.why)
        else:
            consequence = "without it DANE protects nothing, MTA-STS alone does"
            log.warning("DNSSEC: %s; %s", result.why, consequence)

    async def count_policies(self) -> None:
        """Count the policies in force; nobody waits for the file."""
        metrics = await asyncio.to_thread(policy_metrics, self._state, time.time())
        self._policies = policies_in_force(metrics)

    def status(self) -> str:
        """Return the line for ``systemctl status``."""
        return build_status(
            pace=self._pace.text(self._ticks()),
            answers=len(self._answers.cache.answers),
            policies=self._policies,
            dnssec="DNSSEC not tested yet" if self.dnssec is None else f"DNSSEC: {self.dnssec.why}",
            problem=self._store.problem,
        )

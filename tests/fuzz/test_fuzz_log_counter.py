"""A followed log, its counter stopped, killed and in doubt at any moment: the totals stay."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.adapters.log_files import LogFile
from postfix_mtasts.adapters.tlsrpt_store import FILE_NAME, SqliteTlsrptStore
from postfix_mtasts.core.applied import InForce
from postfix_mtasts.services.log_counter import SETTLE, LogCounter
from tests.scenarios.test_collecting import stored

BEGIN = 1_795_280_000.0
AGES = 100  # seconds in which whatever is in doubt is settled, and all is read


@dataclass
class Clock:
    now: float = BEGIN

    def __call__(self) -> float:
        return self.now


class Policies:
    """What a daemon has noted, looked at once for each domain as long as nobody asks for more."""

    def __init__(self, noted: dict[str, float], clock: Clock) -> None:
        self.noted = noted
        self.clock = clock
        self.held: dict[str, tuple[float, InForce]] = {}
        self.number = 0

    def of(self, domain: str, _when: float, *, since: float = 0.0) -> InForce:
        read, known = self.held.get(domain, (-1.0, None))
        if known is None or read < since:
            is_noted = self.noted.get(domain, float("inf")) <= self.clock.now
            hosts = frozenset({f"mx.{domain}"}) if is_noted else frozenset[str]()
            known = InForce(hosts=hosts)
            self.held[domain] = self.clock.now, known
            self.number += 1
        return known

    def edition(self) -> int:
        return self.number


class Host:
    """A mail server whose log is followed, from when it was empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "mail.log"
        self.log.touch()
        self.clock = Clock()
        self.noted: dict[str, float] = {}
        self.owed = ""  # the line that ends a session
        self.expected: Counter[str] = Counter()
        self.rotated = 0
        self.start()
        self.counter.read()
        assert self.counter.write()

    def start(self) -> None:
        self.store = SqliteTlsrptStore(self.folder / FILE_NAME)
        source = LogFile(self.log, follow=True, ticks=self.clock)
        policies = Policies(self.noted, self.clock)
        self.counter = LogCounter(source, store=self.store, policies=policies, clock=self.clock)

    def delivers(self, domain: str, host: str, *, noted: float | None, whole: bool) -> None:
        """Let a message go to *host*; *noted*: after so long the daemon knows of the domain."""
        self.finishes()
        peer, number = f"{host}[192.0.2.1]:25", self.expected.total()
        self.writes(f"Trusted TLS connection established to {peer}: TLSv1.3 with cipher X")
        self.owed = (
            f"ABC{number:03X}: to=<user@{domain}>, relay={peer}, delay=1, delays=0/0/0/1,"
            " dsn=2.0.0, status=sent (250 ok)"
        )
        if noted is not None:
            self.noted.setdefault(domain, self.clock.now + noted)
            self.expected[domain] += 1
        if whole:
            self.finishes()

    def finishes(self) -> None:
        if self.owed:
            self.writes(self.owed)
        self.owed = ""

    def writes(self, text: str) -> None:
        stamp = datetime.fromtimestamp(self.clock.now, UTC).isoformat()
        with self.log.open("a") as log:
            log.write(f"{stamp} mta postfix/smtp[7]: {text}\n")

    def rotates(self) -> None:
        self.rotated += 1
        self.log.rename(self.log.with_name(f"mail.log-{self.rotated}"))
        self.log.touch()

    def is_killed(self) -> None:
        self.counter.close()  # of a process that is gone nothing is written any more
        self.store.close()
        self.start()

    def is_stopped(self) -> None:
        self.counter.close()
        assert self.counter.write()
        self.store.close()
        self.start()

    def counted(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for row in stored(self.folder):
            counts[row[1]] += row[-1]
        return counts


NAMES = ("a.example", "b.example", "c.example")
DELIVERIES = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from((0.0, SETTLE / 2, SETTLE - 0.1))),
    st.tuples(st.just("elsewhere.example"), st.none()),
)
ACTIONS = st.one_of(
    st.tuples(st.just("delivers"), DELIVERIES, st.booleans(), st.booleans()),
    st.tuples(st.just("passes"), st.sampled_from((0.3, SETTLE / 2, SETTLE))),
    st.tuples(st.sampled_from(("reads", "writes", "is killed", "is stopped", "rotates"))),
)


def act(host: Host, action: tuple[object, ...]) -> None:
    match action:
        case ("delivers", (str(domain), noted), bool(whole), read):
            known = noted if isinstance(noted, float) else None
            to = "smart.example.net" if known is None else f"mx.{domain}"
            host.delivers(domain, to, noted=known, whole=whole)
            if read:
                host.counter.read()
        case ("passes", float(seconds)):
            host.clock.now += seconds
        case ("reads",):
            host.counter.read()
        case ("writes",):
            host.counter.write()
        case ("is killed",):
            host.is_killed()
        case ("is stopped",):
            host.is_stopped()
        case _:
            host.rotates()


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.lists(ACTIONS, max_size=25))
def test_whatever_happens_to_its_counter_a_log_gives_the_same_totals(
    actions: list[tuple[object, ...]],
) -> None:
    with TemporaryDirectory() as folder:
        host = Host(Path(folder))
        for action in actions:
            act(host, action)
        host.finishes()
        while host.clock.now < BEGIN + AGES + sum(SETTLE for _ in actions):
            host.clock.now += SETTLE / 2
            host.counter.read()
            host.counter.write()
        assert host.counted() == host.expected
        host.is_stopped()
        host.store.close()

"""Domains with an MTA-STS policy that is enforced, honest and forged."""

from dataclasses import dataclass

from tests.e2e.lab import World
from tests.e2e.smtp_receiver import Receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class MailDomain:
    """A domain and the host that its MX record names."""

    name: str
    mx: Receiver

    @property
    def address(self) -> str:
        return f"user@{self.name}"


def enforcing_domain(world: World, name: str) -> MailDomain:
    """Let *name* enforce a policy that its MX host meets."""
    mx = world.receiver(f"mx.{name}")
    world.mail_domain(name, mx)
    world.policy(name, mode="enforce", mx=(mx,))
    return MailDomain(name=name, mx=mx)


def forged_domain(world: World, name: str) -> MailDomain:
    """Let a man in the middle be the MX host of *name*, which enforces a policy."""
    thief = world.receiver(f"mx.{name}", certificate=world.stranger.issue(f"mx.{name}"))
    world.mail_domain(name, thief)
    world.policy(name, mode="enforce", mx=(thief,))
    return MailDomain(name=name, mx=thief)

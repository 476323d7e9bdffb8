"""The wall clock is set: nothing gets weaker, nothing lasts for ever."""

from postfix_mtasts.core.decision import Settings
from tests.world import START, World, daemon, story

DOMAIN = "example.com"
MX = "mx.example.com"
ENFORCED = f"OK secure match={MX} servername=hostname"
YEAR = 365 * 86400


class TwoClocks(World):
    """A world whose wall clock can be set without time passing."""

    skew: float = 0.0

    def clock(self) -> float:
        return self.now + self.skew

    def ticks(self) -> float:
        return self.now - START


def protected_world(*, max_age: int = 86400) -> TwoClocks:
    world = TwoClocks()
    world.receives_mail(DOMAIN, MX)
    world.publishes(DOMAIN, max_age=max_age)
    return world


@story
async def test_a_clock_set_back_a_year_leaves_the_policy_in_force_and_asks_dns_anew() -> None:
    world = protected_world()
    async with daemon(world, ticks=world.ticks) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.skew = -YEAR
        await running.pass_time(1)
        world.fails("_mta-sts.example.com", "TXT")
        assert await running.ask(DOMAIN) == ENFORCED
        assert world.asked[DOMAIN, "MX"] == 2


@story
async def test_a_policy_from_a_wrong_future_expires_once_it_was_checked_in_the_right_time() -> None:
    world = protected_world()
    world.skew = YEAR
    async with daemon(world, ticks=world.ticks, refresh=1e9) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.skew = 0
        await running.pass_time(1)
        assert await running.ask(DOMAIN) == ENFORCED
        world.has("_mta-sts.example.com", "TXT")
        await running.pass_time(86402)
        assert await running.ask(DOMAIN) == "NOTFOUND "


@story
async def test_a_policy_from_a_wrong_future_is_refreshed_daily_again() -> None:
    world = protected_world(max_age=30 * 86400)
    world.skew = YEAR
    async with daemon(world, ticks=world.ticks) as running:
        await running.ask(DOMAIN)
        world.skew = 0
        await running.pass_time(1)
        await running.ask(DOMAIN)
        await running.pass_time(86400)
        assert world.fetched["mta-sts.example.com"] == 2


@story
async def test_a_clock_set_forward_a_year_fetches_what_seems_to_have_expired() -> None:
    world = protected_world()
    async with daemon(world, ticks=world.ticks) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.skew = YEAR
        await running.pass_time(1)
        assert await running.ask(DOMAIN) == ENFORCED
        assert world.fetched["mta-sts.example.com"] == 2


@story
async def test_a_clock_set_forward_for_hours_loses_no_policy() -> None:
    world = protected_world()
    async with daemon(world, ticks=world.ticks) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        await running.pass_time(86000)
        world.dns_down = True
        world.skew = YEAR
        for _ in range(3):
            await running.pass_time(3600)
        world.skew = -4 * 3600
        await running.pass_time(1)
        assert (await running.ask(DOMAIN)).startswith("OK secure ")


@story
async def test_seconds_of_correction_disturb_no_answer() -> None:
    world = protected_world()
    async with daemon(world, ticks=world.ticks, settings=Settings()) as running:
        await running.ask(DOMAIN)
        asked = world.asked.copy()
        world.skew = 4
        await running.pass_time(1)
        world.skew = 8
        await running.pass_time(1)
        await running.ask(DOMAIN)
        assert world.asked == asked


@story
async def test_a_failure_remembered_from_the_future_holds_up_no_fetch() -> None:
    world = protected_world()
    document = world.https.pop("mta-sts.example.com")
    async with daemon(world, ticks=world.ticks) as running:
        assert await running.ask(DOMAIN) == "NOTFOUND "
        world.https["mta-sts.example.com"] = document
        world.skew = -YEAR
        await running.pass_time(1)
        assert await running.ask(DOMAIN) == ENFORCED

"""The daemon ends and starts again on what it had stored."""

from pathlib import Path

from postfix_mtasts.core.decision import Settings
from tests.world import World, daemon, story

DOMAIN = "example.com"
MX = "mx.example.com"
ENFORCED = f"OK secure match={MX} servername=hostname"


def protected_world(*, dane: bool = False) -> World:
    world = World()
    world.receives_mail(DOMAIN, MX, secure=dane)
    world.has(MX, "AAAA", secure=dane)
    world.publishes(DOMAIN)
    if dane:
        world.has_tlsa(MX)
    return world


@story
async def test_a_hot_domain_is_answered_after_a_restart_without_dns_or_https(
    tmp_path: Path,
) -> None:
    world = protected_world()
    async with daemon(world, path=tmp_path / "state.db") as running:
        assert await running.ask(DOMAIN) == ENFORCED
    asked, fetched = world.asked.copy(), world.fetched.copy()
    world.now += 60
    async with daemon(world, path=tmp_path / "state.db") as running:
        assert await running.ask(DOMAIN) == ENFORCED
    assert (world.asked, world.fetched) == (asked, fetched)


@story
async def test_an_answer_from_the_store_lives_no_longer_than_it_would_have(tmp_path: Path) -> None:
    world = protected_world()
    async with daemon(world, path=tmp_path / "state.db") as running:
        await running.ask(DOMAIN)
    world.now += 200
    async with daemon(world, path=tmp_path / "state.db") as running:
        await running.ask(DOMAIN)
        await running.pass_time(99)
        await running.ask(DOMAIN)
        assert world.asked[DOMAIN, "MX"] == 1
        await running.pass_time(1)
        await running.ask(DOMAIN)
        assert world.asked[DOMAIN, "MX"] == 2


@story
async def test_an_enforced_policy_survives_while_all_is_down(tmp_path: Path) -> None:
    world = protected_world()
    async with daemon(world, path=tmp_path / "state.db") as running:
        assert await running.ask(DOMAIN) == ENFORCED
    world.now += 3600
    world.dns_down = True
    world.https.clear()
    async with daemon(world, path=tmp_path / "state.db") as running:
        assert (await running.ask(DOMAIN)).startswith("OK secure match=")


@story
async def test_a_kill_right_after_the_answer_loses_no_policy(tmp_path: Path) -> None:
    """What is told is stored: a second daemon sees it while the first still runs."""
    world = protected_world()
    async with daemon(world, path=tmp_path / "state.db") as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.dns_down = True
        async with daemon(world, path=tmp_path / "state.db") as another:
            assert await another.ask(DOMAIN) == ENFORCED


@story
async def test_a_failed_fetch_is_remembered_over_a_restart(tmp_path: Path) -> None:
    world = protected_world()
    world.https.clear()
    for _ in range(2):
        async with daemon(world, path=tmp_path / "state.db") as running:
            assert await running.ask(DOMAIN) == "NOTFOUND "
    assert world.fetched["mta-sts.example.com"] == 1


@story
async def test_dane_switched_on_does_not_decide_on_facts_that_lack_it(tmp_path: Path) -> None:
    world = protected_world(dane=True)
    without = Settings(dane=False)
    async with daemon(world, path=tmp_path / "state.db", settings=without) as running:
        assert await running.ask(DOMAIN) == ENFORCED
    async with daemon(world, path=tmp_path / "state.db") as running:
        assert await running.ask(DOMAIN) == "OK dane-only"


@story
async def test_a_domain_without_hosts_is_answered_from_the_store_too(tmp_path: Path) -> None:
    world = World()
    for _ in range(2):
        async with daemon(world, path=tmp_path / "state.db") as running:
            assert await running.ask(DOMAIN) == "NOTFOUND "
    assert world.asked[DOMAIN, "MX"] == 1

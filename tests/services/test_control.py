"""The map "control": who may use it, what it lists, shows, refreshes and purges."""

import json
from typing import Any

import pytest

from postfix_mtasts import __version__
from postfix_mtasts.core.mta_sts import Response
from postfix_mtasts.core.socketmap import MAX_REPLY_BYTES
from postfix_mtasts.services import control
from postfix_mtasts.services.control import Control
from tests.world import START, Daemon, World, daemon, story

OWN = 998
DOMAIN = "example.com"
MX = "mx.example.com"
POLICY_HOST = "mta-sts.example.com"
ENFORCED = f"OK secure match={MX} servername=hostname"


def protected_world() -> World:
    world = World()
    world.receives_mail(DOMAIN, MX)
    world.publishes(DOMAIN, ttl=86400)
    return world


def controlled(running: Daemon) -> Control:
    return Control(store=running.store, answers=running.answers, own_uid=OWN)


async def obeyed(running: Daemon, key: str) -> dict[str, Any]:
    """Return what *key* is answered to root."""
    reply = await controlled(running).answer(f"control {key}".encode(), 0)
    word, _, text = reply.decode().partition(" ")
    assert word == "OK", reply
    document = json.loads(text)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("uid", [None, 1000, 65534])
@story
async def test_nobody_but_root_and_the_daemons_user_is_obeyed(uid: int | None) -> None:
    async with daemon(protected_world()) as running:
        await running.ask(DOMAIN)
        reply = await controlled(running).answer(b"control purge *", uid)
        assert reply.startswith(b"PERM control: only for root")
        assert (await obeyed(running, "list"))["entries"]


@pytest.mark.parametrize("uid", [0, OWN])
@story
async def test_root_and_the_daemons_user_are_obeyed(uid: int) -> None:
    async with daemon(World()) as running:
        reply = await controlled(running).answer(b"control list", uid)
        assert reply == b'OK {"entries": [], "next": null}'


@story
async def test_only_requests_for_the_map_of_this_name_are_for_it() -> None:
    async with daemon(World()) as running:
        assert controlled(running).is_for(b"control list")
        assert not controlled(running).is_for(b"controls list")
        assert not controlled(running).is_for(b"policy control")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("drop example.com", "unknown verb 'drop'"),
        ("purge", "no domain given"),
        ("show", "no domain given"),
        ("refresh", "no domain given"),
        ("purge .", "is no host name"),
        ("purge * example.com", "is no host name"),
    ],
)
@story
async def test_a_mistake_is_answered_with_what_is_wrong(key: str, words: str) -> None:
    async with daemon(World()) as running:
        reply = await controlled(running).answer(f"control {key}".encode(), 0)
        assert reply.startswith(b"PERM control: ")
        assert words in reply.decode()


@story
async def test_bytes_that_are_no_text_and_no_request_are_refused() -> None:
    async with daemon(World()) as running:
        for payload in (b"control \xff\xfe", b"control \xff purge *", b"control  "):
            assert (await controlled(running).answer(payload, 0)).startswith(b"PERM control: ")
        assert (await controlled(running).answer(b"control", 0)).startswith(b"PERM control: ")


@story
async def test_the_list_has_every_domain_in_order_a_page_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = protected_world()
    domains = sorted(f"d{n}.example" for n in range(7))
    monkeypatch.setattr(control, "PAGE", 3)
    async with daemon(world) as running:
        for domain in domains:
            await running.ask(domain)
        seen, after = [], ""
        while True:
            page = await obeyed(running, f"list {after}")
            assert len(page["entries"]) <= 3
            seen += [entry["domain"] for entry in page["entries"]]
            if page["next"] is None:
                break
            after = page["next"]
        assert seen == domains


@story
async def test_an_entry_tells_mode_id_and_times() -> None:
    async with daemon(protected_world()) as running:
        await running.ask(DOMAIN)
        [entry] = (await obeyed(running, "list"))["entries"]
        assert entry == {
            "domain": DOMAIN,
            "mode": "enforce",
            "id": "1",
            "expires": START + 86400,
            "asked": START,
        }


@story
async def test_a_page_that_does_not_fit_into_a_reply_is_continued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control, "ROOM_FOR_NAMES", MAX_REPLY_BYTES - 500)
    async with daemon(World()) as running:
        for n in range(5):
            await running.ask(f"d{n}.{'a' * 50}.example")
        first = await obeyed(running, "list")
        assert 0 < len(first["entries"]) < 5
        second = await obeyed(running, f"list {first['next']}")
        assert second["entries"][0]["domain"] > first["entries"][-1]["domain"]


@story
async def test_a_policy_is_shown_with_its_text_and_times() -> None:
    async with daemon(protected_world()) as running:
        await running.ask(DOMAIN)
        shown = await obeyed(running, "show EXAMPLE.com")
        assert (shown["domain"], shown["mode"], shown["id"]) == (DOMAIN, "enforce", "1")
        assert shown["text"].startswith("version: STSv1\n")
        assert shown["expires"] == START + 86400
        assert shown["failure"] is None


@story
async def test_a_failure_is_shown_where_there_is_no_policy() -> None:
    world = protected_world()
    world.https.clear()
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        shown = await obeyed(running, f"show {DOMAIN}")
        failure = f"{POLICY_HOST}: connection refused"
        assert shown == {"domain": DOMAIN, "mode": None, "failure": failure}


@story
async def test_a_domain_of_which_no_policy_is_known_is_not_found() -> None:
    async with daemon(World()) as running:
        await running.ask(DOMAIN)
        assert await controlled(running).answer(b"control show example.com", 0) == b"NOTFOUND "


@pytest.mark.parametrize("filler", [b"\x80" * 65000, "😀".encode() * 16000])
@story
async def test_the_largest_policies_can_be_shown(filler: bytes) -> None:
    world = protected_world()
    body = b"version: STSv1\nmode: enforce\nmax_age: 86400\nmx: *.example.com\nmx: " + filler
    world.https[POLICY_HOST] = Response(status=200, content_type="text/plain", body=body)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        assert (await obeyed(running, f"show {DOMAIN}"))["mode"] == "enforce"


@story
async def test_a_refresh_on_request_fetches_and_binds_at_once() -> None:
    world = protected_world()
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == ENFORCED
        world.publishes(DOMAIN, mode="testing", record_id="2")
        refreshed = (await obeyed(running, f"refresh {DOMAIN} unknown.example"))["refreshed"]
        assert refreshed[0] == {"domain": DOMAIN, "mode": "testing", "error": None}
        assert refreshed[1]["error"] == "the policy host mta-sts.unknown.example has no address"
        assert await running.ask(DOMAIN) == "NOTFOUND "


@story
async def test_a_refresh_on_request_fetches_for_a_domain_protected_by_dane_too() -> None:
    world = protected_world()
    world.receives_mail(DOMAIN, MX, secure=True)
    world.has(MX, "AAAA", secure=True)
    world.has_tlsa(MX)
    async with daemon(world) as running:
        assert await running.ask(DOMAIN) == "OK dane-only"
        world.publishes(DOMAIN, mode="testing", record_id="2")
        refreshed = (await obeyed(running, f"refresh {DOMAIN}"))["refreshed"]
        assert refreshed == [{"domain": DOMAIN, "mode": "testing", "error": None}]


@story
async def test_a_refresh_on_request_is_one_even_while_mail_asks() -> None:
    world = protected_world()
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        await running.pass_time(43_000)
        fetched = world.fetched[POLICY_HOST]
        world.sticks(DOMAIN, "MX")
        asking = running.group.create_task(running.ask(DOMAIN))
        await running.until(lambda: world.asked[DOMAIN, "MX"] == 2)
        await obeyed(running, f"refresh {DOMAIN}")
        assert world.fetched[POLICY_HOST] == fetched + 1
        world.lets_go()
        await asking


@story
async def test_a_refresh_that_takes_too_long_says_so_and_leaves_the_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.05)
    world = protected_world()
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        world.sticks(POLICY_HOST, "HTTPS")
        [refreshed] = (await obeyed(running, f"refresh {DOMAIN}"))["refreshed"]
        assert refreshed["error"] == "no policy within 0 s"
        world.lets_go()
        assert (await obeyed(running, f"show {DOMAIN}"))["mode"] == "enforce"


@story
async def test_a_purged_domain_is_looked_up_anew_and_others_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = protected_world()
    world.receives_mail("other.example", MX)
    async with daemon(world) as running:
        await running.ask("Example.COM")
        await running.ask("other.example")
        assert await obeyed(running, "purge EXAMPLE.com") == {"purged": 1}
        assert "purged EXAMPLE.com on request: 1 policies" in caplog.text
        await running.ask("Example.COM")
        await running.ask("other.example")
        assert world.asked[DOMAIN, "MX"] == 2
        assert world.asked["other.example", "MX"] == 1


@story
async def test_a_star_purges_everything() -> None:
    world = protected_world()
    async with daemon(world) as running:
        await running.ask(DOMAIN)
        await running.ask("other.example")
        assert await obeyed(running, "purge *") == {"purged": 2}
        assert not running.answers.cache.answers
        assert (await obeyed(running, "list"))["entries"] == []


@story
async def test_the_running_version_is_told() -> None:
    async with daemon(World()) as running:
        assert await obeyed(running, "version") == {"version": __version__}

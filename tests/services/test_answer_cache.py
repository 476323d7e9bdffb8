"""Answers in memory: never sent after their time, never more than the limit."""

import pytest

from postfix_mtasts.services.answer_cache import BYTES_EACH, HOT_HITS, AnswerCache


def put(
    cache: AnswerCache, name: str, lifetime: float, *, now: float = 1000, protects: bool = False
) -> None:
    request = name.encode()
    cache.put(request, b"reply to " + request, lifetime=lifetime, protects=protects, now=now)


def use(cache: AnswerCache, name: str, times: int = HOT_HITS) -> None:
    cache.answers[name.encode()].hits += times


def names(cache: AnswerCache) -> list[str]:
    return sorted(request.decode() for request in cache.answers)


@pytest.mark.parametrize("now", [1000, 1000.9])
@pytest.mark.parametrize("lifetime", [1, 1.5, 2, 12, 300.7])
def test_no_answer_is_there_after_its_time(lifetime: float, now: float) -> None:
    cache = AnswerCache(limit=10)
    put(cache, "a", lifetime, now=now)
    end = int(now + lifetime)
    for second in range(1001, end):
        cache.tick(second)
        assert cache.answers
    cache.tick(end)
    assert not cache.answers


@pytest.mark.parametrize("lifetime", [0, 0.5, -3])
def test_what_holds_less_than_a_second_is_not_kept_and_replaces_what_was(lifetime: float) -> None:
    cache = AnswerCache(limit=10)
    put(cache, "a", 100)
    put(cache, "a", lifetime)
    assert not cache.answers


def test_a_hot_answer_is_named_once_before_its_end() -> None:
    cache = AnswerCache(limit=10)
    put(cache, "hot", 100)
    put(cache, "cold", 100)
    use(cache, "hot")
    use(cache, "cold", HOT_HITS - 1)
    assert cache.tick(1091) == []
    assert cache.tick(1092) == [b"hot"]
    assert cache.tick(1093) == []
    assert names(cache) == ["cold", "hot"]
    assert cache.tick(1100) == []
    assert not cache.answers


def test_ticks_that_were_missed_are_made_up_for() -> None:
    cache = AnswerCache(limit=10)
    put(cache, "a", 50)
    put(cache, "b", 100)
    use(cache, "b")
    assert cache.tick(1099) == [b"b"]
    assert names(cache) == ["b"]
    assert cache.tick(5000) == []
    assert not cache.answers


def test_an_answer_that_was_replaced_lives_by_its_new_time() -> None:
    cache = AnswerCache(limit=10)
    put(cache, "a", 10)
    put(cache, "a", 100)
    cache.tick(1010)
    assert names(cache) == ["a"]
    put(cache, "a", 5, now=1010)
    cache.tick(1015)
    assert not cache.answers


def test_an_answer_replaced_while_due_is_not_lost() -> None:
    cache = AnswerCache(limit=10)
    put(cache, "a", 100)
    use(cache, "a")
    assert cache.tick(1092) == [b"a"]
    put(cache, "a", 100, now=1093)
    cache.tick(1100)
    assert names(cache) == ["a"]


def test_too_short_a_life_has_no_time_ahead_of_its_end() -> None:
    cache = AnswerCache(limit=10)
    put(cache, "a", 1, now=1000.5)
    use(cache, "a")
    assert cache.tick(1001) == []
    assert not cache.answers


def test_only_what_is_concerned_is_dropped() -> None:
    cache = AnswerCache(limit=10)
    for name in ("a1", "a2", "b1"):
        put(cache, name, 100)
    assert cache.drop(lambda request: request.startswith(b"a")) == 2
    assert names(cache) == ["b1"]
    cache.tick(2000)
    assert not cache.answers


def test_clearing_keeps_the_dictionary_that_connections_hold() -> None:
    cache = AnswerCache(limit=10)
    held = cache.answers
    put(cache, "a", 100)
    cache.clear()
    assert not held
    put(cache, "b", 100)
    assert held is cache.answers
    assert cache.tick(1100) == []


def test_what_protects_nothing_goes_first_and_the_soonest_to_end_before_others() -> None:
    cache = AnswerCache(limit=3)
    put(cache, "enforced", 10, protects=True)
    put(cache, "late", 300)
    put(cache, "soon", 30)
    put(cache, "new", 100)
    assert names(cache) == ["enforced", "late", "new"]


def test_protecting_answers_go_when_there_are_no_others_the_soonest_first() -> None:
    cache = AnswerCache(limit=3)
    for name, lifetime in (("a", 300), ("b", 30), ("c", 200)):
        put(cache, name, lifetime, protects=True)
    put(cache, "d", 100)
    assert names(cache) == ["a", "c", "d"]


def test_a_replacement_needs_no_room() -> None:
    cache = AnswerCache(limit=3)
    for name in ("a", "b", "c", "b"):
        put(cache, name, 100)
    assert names(cache) == ["a", "b", "c"]


def test_a_hundredth_goes_at_once() -> None:
    cache = AnswerCache(limit=1000)
    for n in range(1001):
        put(cache, f"{n:04}", 100 + n)
    assert len(cache.answers) == 991
    assert "0009" not in names(cache)
    assert "0010" in names(cache)


def test_memory_does_not_leak_however_many_questions_come_and_go() -> None:
    cache = AnswerCache(limit=100)
    for n in range(10_000):
        put(cache, f"flood{n}", 86400)
        put(cache, "again", 86400 + n % 3)
        cache.drop(lambda request: request == b"again")
    assert len(cache.answers) <= 100
    filed = sum(map(len, cache._timetable.values()))  # noqa: SLF001 - what must not leak
    assert filed == len(cache.answers)


def test_long_answers_are_bounded_by_their_bytes_however_few_they_are() -> None:
    cache = AnswerCache(limit=100)
    for number in range(1000):
        reply = bytes(10_000)
        cache.put(b"%04d" % number, reply, lifetime=100, protects=True, now=1000)
        held = sum(len(request) + len(answer.reply) for request, answer in cache.answers.items())
        assert 0 < held <= BYTES_EACH * 100


def test_an_answer_larger_than_all_that_may_be_kept_is_not_kept() -> None:
    cache = AnswerCache(limit=1)
    cache.put(b"request", bytes(BYTES_EACH), lifetime=100, protects=True, now=1000)
    assert not cache.answers


def test_bytes_are_given_back_by_answers_that_go() -> None:
    cache = AnswerCache(limit=2)
    for number in range(50):
        now = 1000 + 10 * number
        cache.put(b"request", bytes(BYTES_EACH), lifetime=5, protects=True, now=now)
        assert cache.answers
        cache.tick(now + 5)
        assert not cache.answers

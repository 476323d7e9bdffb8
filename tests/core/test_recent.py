"""A memory of octets: it forgets what is not asked for, and never grows beyond its bounds."""

from postfix_mtasts.core.recent import Recent


def recent() -> Recent[int]:
    """Return a memory of which each half has room for two keys of one octet."""
    return Recent(most=8, weight=1)


def test_what_was_put_is_remembered_until_it_is_cleared() -> None:
    memory = recent()
    memory.put(b"a", 1)
    memory.put(b"a", 2)
    assert (memory.get(b"a"), memory.get(b"b"), len(memory)) == (2, None, 1)
    memory.clear()
    assert (memory.get(b"a"), len(memory)) == (None, 0)


def test_what_is_asked_for_stays_and_the_rest_goes() -> None:
    memory = recent()
    for n, key in enumerate((b"a", b"b", b"c")):
        memory.put(key, n)
    assert memory.get(b"a") == 0  # old, and young again
    memory.put(b"d", 3)
    assert [memory.get(key) for key in (b"b", b"a", b"c", b"d")] == [None, 0, 2, 3]


def test_it_never_holds_more_than_it_may() -> None:
    memory: Recent[int] = Recent(most=10_000, weight=100)
    for n in range(100_000):
        memory.put(b"%d" % n, n)
        memory.get(b"%d" % (n - 20))
    assert len(memory) <= 10_000 // 100
    memory.clear()
    for n in range(100_000):
        memory.put(b"%d" % (n % 7), n)
    assert len(memory) == 7


def test_what_outweighs_a_half_is_not_remembered_and_pushes_nothing_out() -> None:
    memory = recent()
    memory.put(b"a", 1)
    memory.put(b"long", 2)
    assert (memory.get(b"a"), memory.get(b"long"), len(memory)) == (1, None, 1)
    memory.put(b"abc", 3)
    assert memory.get(b"abc") == 3

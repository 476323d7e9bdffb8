"""What was worked out for octets that came a short while ago, within bounds.

Most datagrams of a mail server say in the same octets what others said before.
Whoever remembers what came of them need not parse them again.  The memory is of
two halves: what is asked for moves to the young half, and when that is full it
becomes the old one, and what was old is forgotten.  So asking costs one or two
look-ups, and what is asked for often stays.

The caller bounds the octets of the keys and says what a value weighs; a key that
alone outweighs a half is not remembered.
"""

from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Values by octets, at most *most* octets of them, each value counted as *weight*."""

    def __init__(self, *, most: int, weight: int) -> None:
        self._half = most // 2
        self._weight = weight
        self._young: dict[bytes, T] = {}
        self._old: dict[bytes, T] = {}
        self._octets = 0  # of the young half

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, key: bytes) -> T | None:
        """Return the value last put under *key*, `None` where it is not remembered."""
        value = self._young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self.put(key, value)
        return value

    def put(self, key: bytes, value: T) -> None:
        """Remember *value*, which is not `None`, under *key*."""
        if key not in self._young:
            octets = len(key) + self._weight
            if octets > self._half:
                return
            if self._octets + octets > self._half:
                self._old, self._young, self._octets = self._young, {}, 0
            self._octets += octets
        self._young[key] = value

    def clear(self) -> None:
        """Forget everything: the values are no longer right."""
        self._young, self._old, self._octets = {}, {}, 0

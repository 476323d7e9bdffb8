"""Netstrings: ``5:hello,``, the frame around each socketmap request and reply.

D. J. Bernstein's format (https://cr.yp.to/proto/netstrings.txt): the length in
decimal digits, a colon, that many bytes, a comma.  As Postfix's reader does, this
one forgives zeros before the length, within `MAX_DIGITS`.

What is wrong is refused as soon as the bytes that prove it are there, so a length
above the limit is never waited for.
"""

from postfix_mtasts.core.errors import ParseError

MAX_DIGITS = 9


class Decoder:
    """Takes bytes as they come and gives the payloads that are complete.

    *limit* is the longest payload taken, in bytes: a security limit.  No more is
    held than was fed and not yet taken.  An error is final: `next` repeats it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> bool:
        """Whether there are bytes that `next` has not given yet."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take *data*, the next bytes of the stream, of any size."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the next payload, or `None` where more bytes are needed.

        Raises `ParseError` for a length that is missing, no number or above the
        limit, and where there is no comma after the payload.
        """
        start = self._payload_start()
        if start is None:
            return None
        end = start + int(self._buffer[: start - 1])
        if len(self._buffer) <= end:
            return None
        if self._buffer[end] != ord(","):
            raise ParseError("netstring without its final comma")
        payload = bytes(self._buffer[start:end])
        del self._buffer[: end + 1]
        return payload

    def _payload_start(self) -> int | None:
        """Return where the payload begins, `None` while the colon is not there."""
        head = self._buffer[: MAX_DIGITS + 1]
        digits, colon, _ = head.partition(b":")
        if not head:
            return None
        if not digits.isdigit():
            raise ParseError("netstring without a length")
        if len(digits) > MAX_DIGITS or int(digits) > self._limit:
            raise ParseError(f"netstring longer than {self._limit} bytes")
        return len(digits) + 1 if colon else None


def build_netstring(payload: bytes) -> bytes:
    """Return *payload* as a netstring."""
    return b"%d:%b," % (len(payload), payload)

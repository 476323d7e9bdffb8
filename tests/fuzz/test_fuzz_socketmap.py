"""Whatever comes over the socket: requests, or one refusal."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from postfix_mtasts.core.errors import ParseError
from postfix_mtasts.core.netstring import Decoder, build_netstring
from postfix_mtasts.core.socketmap import (
    MAX_REPLY_BYTES,
    Reply,
    Request,
    Status,
    build_reply,
    build_request,
    parse_reply,
    parse_request,
)

FUZZ = settings(derandomize=True, deadline=None, max_examples=400)
LIMIT = 50
STREAMS = st.lists(
    st.binary(max_size=LIMIT + 5).map(build_netstring)
    | st.sampled_from([b"0", b"00000", b"5:", b"999999999", b":", b",", b"-1:", b"\n"])
    | st.binary(max_size=4),
    max_size=6,
).map(b"".join)


def decoded(pieces: list[bytes]) -> tuple[list[bytes], bool]:
    """Return the payloads in *pieces*, and whether they end in an error."""
    decoder = Decoder(LIMIT)
    payloads = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (payload := decoder.next()) is not None:
                payloads.append(payload)
    except ParseError:
        return payloads, True
    return payloads, False


@FUZZ
@given(stream=STREAMS, cuts=st.lists(st.integers(0, 300), max_size=5))
def test_how_a_stream_is_cut_makes_no_difference(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    octets = [stream[at : at + 1] for at in range(len(stream))]
    assert decoded(pieces) == decoded([stream]) == decoded(octets)


@FUZZ
@given(stream=STREAMS)
def test_no_payload_is_longer_than_the_limit(stream: bytes) -> None:
    assert all(len(payload) <= LIMIT for payload in decoded([stream])[0])


@FUZZ
@given(payloads=st.lists(st.binary(max_size=LIMIT), max_size=5))
def test_what_is_built_is_decoded(payloads: list[bytes]) -> None:
    assert decoded([b"".join(map(build_netstring, payloads))]) == (payloads, False)


@FUZZ
@given(payload=st.binary(max_size=40) | st.binary(max_size=20).map(lambda key: b"policy " + key))
def test_any_payload_is_a_request_or_a_parse_error(payload: bytes) -> None:
    try:
        request = parse_request(payload)
    except ParseError:
        assert b" " not in payload[1:]
        return
    assert request.map.isascii()
    assert payload.endswith(b" " + request.key)


@FUZZ
@given(
    name=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), key=st.binary()
)
def test_a_request_is_read_back(name: str, key: bytes) -> None:
    request = Request(map=name, key=key)
    assert parse_request(build_request(request)) == request


@FUZZ
@given(
    status=st.sampled_from(Status),
    text=st.text() | st.text(min_size=1).map(lambda text: text * 20_000),
)
def test_every_reply_fits_and_has_its_word(status: Status, text: str) -> None:
    payload = build_reply(Reply(status=status, text=text))
    assert len(payload) <= MAX_REPLY_BYTES
    assert b"\0" not in payload
    reply = parse_reply(payload)
    assert reply.status in (status, Status.TEMP)
    if reply.status is Status.OK:
        assert reply.text == text.encode("utf-8", "backslashreplace").decode()
    else:
        assert "\n" not in reply.text

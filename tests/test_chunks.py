"""bytes -> chunks: the payload of a data frame as it arrives, and never more of it; and what every decoder counts."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given

from wslowlevel.errors import Reason
from wslowlevel.wire import CONTROL, DEFAULT_MAX_FRAGMENTS, DEFAULT_MAX_SIZE, READ_SIZE, Opcode

from .conftest import Both
from .memory import counts_memory, peak_of
from .test_buffers import most_lent
from .test_decoders import frame, violation
from .test_differential import STEPS, Step, cases, counters, described, fed, profile, streams
from .vectors import COUNTERS, DECODERS, KEY, WAYS, Decoder, Fields, Way, chunked, masked, whole

EACH_DECODER = pytest.mark.parametrize("name", DECODERS)
EACH_WAY = pytest.mark.parametrize("way", WAYS)
MIB = 1024 * 1024

ALL = (1, 1, 1, 1)
"""message_started, frame_started, frame_finished, message_finished"""


# -- Examples ---------------------------------------------------------------------------------------------------------


CLIENT = {"role": "client"}
STORIES: dict[str, tuple[dict[str, Any], list[tuple[str, list[tuple[Any, ...]]]]]] = {
    # The options; what arrives in each call, and the chunks it gives, in the order of the arguments of `Chunk`.
    "one frame at once": (CLIENT, [("8105 48656c6c6f", [(1, b"Hello", *ALL)])]),
    "one frame in pieces": (
        CLIENT,
        [
            ("8105 48", [(1, b"H", 1, 1, 0, 0)]),
            ("656c", [(1, b"el", 0, 0, 0, 0)]),
            ("6c6f", [(1, b"lo", 0, 0, 1, 1)]),
        ],
    ),
    "a header alone": (CLIENT, [("82", []), ("02", []), ("", []), ("6162", [(2, b"ab", *ALL)])]),
    "a call without bytes": (CLIENT, [("820261", [(2, b"a", 1, 1, 0, 0)]), ("", []), ("62", [(2, b"b", 0, 0, 1, 1)])]),
    "an empty message": (CLIENT, [("8200", [(2, b"", *ALL)])]),
    "empty fragments": (
        CLIENT,
        [
            ("0200", [(2, b"", 1, 1, 1, 0)]),
            ("0000 00", [(2, b"", 0, 1, 1, 0)]),
            ("00 8000", [(2, b"", 0, 1, 1, 0), (2, b"", 0, 1, 1, 1)]),
        ],
    ),
    "fragments cut elsewhere": (
        CLIENT,
        [
            ("0103 4865", [(1, b"He", 1, 1, 0, 0)]),
            ("6c 8002 6c", [(1, b"l", 0, 0, 1, 0), (1, b"l", 0, 1, 0, 0)]),
            ("6f 820161", [(1, b"o", 0, 0, 1, 1), (2, b"a", *ALL)]),
        ],
    ),
    "control frames between fragments": (
        CLIENT,
        [
            ("020161 8902", [(2, b"a", 1, 1, 1, 0)]),
            ("70", []),
            ("71 8a00", [(9, b"pq", *ALL), (10, b"", *ALL)]),
            ("800262", [(2, b"b", 0, 1, 0, 0)]),
            ("63 8900", [(2, b"c", 0, 0, 1, 1), (9, b"", *ALL)]),
        ],
    ),
    "a close inside a message": (
        CLIENT,
        [("020161 8800 ffff", [(2, b"a", 1, 1, 1, 0), (8, b"", *ALL)]), ("ff", [])],
    ),
    "rsv and mask are those of the first frame": (
        {"role": "server", "allow_rsv": 4, "require_mask": False},
        [
            (f"4181 {KEY.hex()} 56", [(1, b"a", 1, 1, 1, 0, 1, 0, 0, 1)]),
            (masked("8900"), [(9, b"", *ALL, 0, 0, 0, 1)]),
            ("800262", [(1, b"b", 0, 1, 0, 0, 1, 0, 0, 1)]),
            ("63 8900", [(1, b"c", 0, 0, 1, 1, 1, 0, 0, 1), (9, b"", *ALL)]),
        ],
    ),
    "reserved opcodes that may pass": (
        {"role": "client", "strict": False},
        [
            ("730261", [(3, b"a", 1, 1, 0, 0, 1, 1, 1)]),
            ("62 9b0178", [(3, b"b", 0, 0, 1, 0, 1, 1, 1), (11, b"x", *ALL, 0, 0, 1)]),
            ("8000", [(3, b"", 0, 1, 1, 1, 1, 1, 1)]),
        ],
    ),
    "text cut inside characters": (
        CLIENT,
        [
            ("0104 f09f", [(1, b"\xf0\x9f", 1, 1, 0, 0)]),
            ("9880 0001c3", [(1, b"\x98\x80", 0, 0, 1, 0), (1, b"\xc3", 0, 1, 1, 0)]),
            ("8001a4", [(1, b"\xa4", 0, 1, 1, 1)]),
        ],
    ),
    "text under rsv": (
        {"role": "client", "allow_rsv": 4},
        [("c102ff", [(1, b"\xff", 1, 1, 0, 0, 1)]), ("c0", [(1, b"\xc0", 0, 0, 1, 1, 1)])],
    ),
}


@pytest.mark.parametrize("name", STORIES)
@EACH_WAY
def test_stories(codec: ModuleType, name: str, way: Way) -> None:
    options, steps = STORIES[name]
    decoder = codec.ChunkDecoder(**options)
    for data, chunks in steps:
        assert way(decoder, bytes.fromhex(data)) == [codec.Chunk(*chunk) for chunk in chunks]
    assert decoder.error is None


REFUSED: list[tuple[str, list[tuple[Any, ...]], Reason]] = [
    # What arrives, the last call of it with the violation; the chunks before it.
    ("8104 6162 | ff61", [(1, b"ab", 1, 1, 0, 0)], Reason.INVALID_UTF8),
    ("8104 6162ff61", [], Reason.INVALID_UTF8),
    ("0101 61 8001 ff", [(1, b"a", 1, 1, 1, 0)], Reason.INVALID_UTF8),
    ("8103 61e2 | 82", [(1, b"a\xe2", 1, 1, 0, 0)], Reason.INVALID_UTF8),
    ("0102 61e2 | 8001 82", [(1, b"a\xe2", 1, 1, 1, 0)], Reason.INVALID_UTF8),
    ("0102 61e2 | 8000", [(1, b"a\xe2", 1, 1, 1, 0)], Reason.INVALID_UTF8),
    ("8103 61 | eda0", [(1, b"a", 1, 1, 0, 0)], Reason.INVALID_UTF8),
    ("0203 61 | 6263 0200", [(2, b"a", 1, 1, 0, 0), (2, b"bc", 0, 0, 1, 0)], Reason.EXPECTED_CONTINUATION),
    ("820161 8000", [(2, b"a", *ALL)], Reason.UNEXPECTED_CONTINUATION),
]


@pytest.mark.parametrize(("data", "chunks", "reason"), REFUSED)
@EACH_WAY
def test_what_came_before_a_violation(
    codec: ModuleType, data: str, chunks: list[tuple[Any, ...]], reason: Reason, way: Way
) -> None:
    decoder = codec.ChunkDecoder(role="client")
    *before, last = [bytes.fromhex(piece) for piece in data.split("|")]
    given = [chunk for piece in before for chunk in way(decoder, piece)]
    assert decoder.error is None
    given += fed(decoder, last)
    assert given == [codec.Chunk(*chunk) for chunk in chunks]
    assert decoder.buffered == 0
    for _ in range(2):
        assert violation(decoder, b"").reason is reason


# -- What is held -----------------------------------------------------------------------------------------------------


def test_only_headers_and_control_frames_are_held(codec: ModuleType) -> None:
    decoder = codec.ChunkDecoder(role="server")
    text = frame(codec, "server", 1, b"x" * 5)
    ping = frame(codec, "server", 9, b"ping")
    counts = []
    for octet in text + ping:
        decoder.feed(bytes((octet,)))
        counts.append(decoder.buffered)
    assert counts == [*range(1, 6), 0, *[0] * 5, *range(1, 6), *range(4), 0]


@counts_memory
@EACH_WAY
def test_memory_is_flat(codec: ModuleType, way: Way) -> None:
    decoder = codec.ChunkDecoder(role="server")
    piece = KEY * (READ_SIZE // 4)
    received: list[int] = []

    def deliver() -> None:
        decoder.feed(codec.encode_header(2, 64 * MIB, mask_key=KEY))
        for _ in range(64 * MIB // len(piece)):
            received.extend(len(chunk.payload) for chunk in way(decoder, piece))

    assert peak_of(deliver) < MIB
    assert sum(received) == 64 * MIB
    assert (decoder.messages_received, decoder.buffered) == (1, 0)


@counts_memory
def test_an_announced_payload_is_not_allocated(codec: ModuleType) -> None:
    decoder = codec.ChunkDecoder(role="client")
    announced = codec.encode_header(2, 2**63 - 1) + b"begun"
    assert peak_of(lambda: decoder.feed(announced)) < MIB
    assert (decoder.error, decoder.buffered) == (None, 0)


def test_what_is_lent(codec: ModuleType) -> None:
    """More while a large payload is due, be it of a fragment."""
    decoder = codec.ChunkDecoder(role="client")
    decoder.feed(codec.encode_frame(2, b"", fin=0) + codec.encode_header(0, MIB, fin=0))
    assert len(decoder.get_buffer()) == most_lent(codec)
    decoder.feed(bytes(MIB))
    assert len(decoder.get_buffer()) == READ_SIZE
    decoder.feed(codec.encode_header(9, 125))
    assert len(decoder.get_buffer()) == READ_SIZE


# -- Limits -----------------------------------------------------------------------------------------------------------


def test_no_limits_by_default(codec: ModuleType) -> None:
    decoder = codec.ChunkDecoder(role="client")
    fragments = codec.encode_frame(2, b"x", fin=0) + codec.encode_frame(0, b"y", fin=0) * DEFAULT_MAX_FRAGMENTS
    assert len(decoder.feed(fragments)) == DEFAULT_MAX_FRAGMENTS + 1
    assert decoder.feed(codec.encode_header(0, DEFAULT_MAX_SIZE + 1)) == []
    assert decoder.error is None


def test_a_limit_is_judged_before_the_payload(codec: ModuleType) -> None:
    """Nothing of the frame is handed out that crosses it."""
    decoder = codec.ChunkDecoder(role="client", max_message_size=10)
    assert fed(decoder, bytes.fromhex("0204 61616161 8007 62")) == [codec.Chunk(2, b"aaaa", 1, 1, 1, 0)]
    error = violation(decoder, b"")
    assert (error.reason, error.size, error.limit) == (Reason.MESSAGE_TOO_BIG, 11, 10)


# -- Properties -------------------------------------------------------------------------------------------------------

Case = tuple[dict[str, Any], bytes, list[Step]]
UNLIMITED = dict.fromkeys(("max_message_size", "max_frame_size", "max_fragments"))
"""So that no decoder has a limit of its own."""


def calls(decoder: Decoder, stream: bytes, steps: list[Step]) -> list[list[Any]]:
    """What each call gives, to the end of the stream."""
    given = []
    for size in [*(step.size for step in steps), len(stream)]:
        given.append(fed(decoder, stream[:size]))
        stream = stream[size:]
    return given


def flattened(given: list[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(given))


def told(codec: ModuleType, name: str, case: Case) -> tuple[list[Any], object]:
    """All that a decoder hands out, and what else can be said in the end."""
    arguments, stream, steps = case
    decoder = getattr(codec, name)(**UNLIMITED | arguments)
    items = flattened(calls(decoder, stream, steps))
    return items, (described(decoder.error), decoder.closed, counters(decoder))


def flags(chunk: Any) -> tuple[int, ...]:
    return chunk.message_started, chunk.frame_started, chunk.frame_finished, chunk.message_finished


@profile
@given(case=cases())
def test_flags_tell_where_frames_and_messages_begin_and_end(both: Both, case: Case) -> None:
    arguments, stream, steps = case
    for codec in both:
        given = calls(codec.ChunkDecoder(**arguments), stream, steps)
        in_frame = in_message = False
        for chunk in flattened(given):
            if chunk.opcode & CONTROL:
                assert (flags(chunk), in_frame) == (ALL, False)
                continue
            assert (chunk.message_started, chunk.frame_started) == (not in_message, not in_frame)
            assert chunk.payload or (chunk.frame_started and chunk.frame_finished)
            in_frame, in_message = not chunk.frame_finished, not chunk.message_finished
            assert in_message or not in_frame


@profile
@given(case=cases())
def test_one_chunk_a_frame_and_call(both: Both, case: Case) -> None:
    arguments, stream, steps = case
    for codec in both:
        for chunks in calls(codec.ChunkDecoder(**arguments), stream, steps):
            assert all(chunk.frame_finished for chunk in chunks[:-1])
            assert all(chunk.frame_started for chunk in chunks[1:])


@profile
@given(case=cases())
def test_chunks_are_those_of_the_frames(both: Both, case: Case) -> None:
    for codec in both:
        chunks, end = told(codec, "ChunkDecoder", case)
        frames, end_of_frames = told(codec, "FrameDecoder", case)
        fields = [Fields(*(getattr(frame, field) for field in Fields._fields)) for frame in frames]
        assert whole(chunks) == [codec.Chunk(*chunk) for chunk in chunked(fields)]
        assert end == end_of_frames


@profile
@given(case=cases())
def test_chunks_joined_are_the_messages(both: Both, case: Case) -> None:
    for codec in both:
        chunks, end = told(codec, "ChunkDecoder", case)
        messages, end_of_messages = told(codec, "MessageDecoder", case)
        assert joined_by_message(codec, chunks) == messages
        assert end == end_of_messages


def joined_by_message(codec: ModuleType, chunks: list[Any]) -> list[Any]:
    messages: list[Any] = []
    pieces: list[Any] = []
    for chunk in chunks:
        of_message = [chunk] if chunk.opcode & CONTROL else [*pieces, chunk]
        if chunk.message_finished:
            payload = b"".join(each.payload for each in of_message)
            messages.append(codec.Message(chunk.opcode, payload, chunk.rsv1, chunk.rsv2, chunk.rsv3, chunk.mask))
        if not chunk.opcode & CONTROL:
            pieces = [] if chunk.message_finished else of_message
    return messages


# -- Counters ---------------------------------------------------------------------------------------------------------


@EACH_DECODER
@EACH_WAY
def test_counters(codec: ModuleType, name: str, way: Way) -> None:
    decoder = getattr(codec, name)(role="client")
    steps = [
        ("8105 48656c6c", (6, 0, 0, 0, 0)),
        ("6f", (7, 1, 1, 0, 0)),
        ("0200 8900 8a00 8a00", (15, 5, 1, 1, 2)),
        ("8000", (17, 6, 2, 1, 2)),
        ("89", (18, 6, 2, 1, 2)),
        ("00 8900", (21, 8, 2, 3, 2)),
        ("8802 03e8 8900", (27, 9, 2, 3, 2)),
        ("ffff", (29, 9, 2, 3, 2)),
    ]
    assert counters(decoder) == (0, 0, 0, 0, 0)
    for data, counts in steps:
        way(decoder, bytes.fromhex(data))
        assert dict(zip(COUNTERS, counters(decoder), strict=True)) == dict(zip(COUNTERS, counts, strict=True))


@pytest.mark.parametrize(
    ("data", "counts"),
    [
        ("8900 8102 61ff 8900", (8, 1, 0, 1, 0)),
        ("8a00 8101 c3", (5, 1, 0, 0, 1)),
        ("0100 8001 ff", (5, 1, 0, 0, 0)),
        ("8200 8b00", (4, 1, 1, 0, 0)),
        ("8200 8a7e", (4, 1, 1, 0, 0)),
        ("8200 8802 03e7", (6, 1, 1, 0, 0)),
        ("0200 8200", (4, 1, 0, 0, 0)),
    ],
)
@EACH_DECODER
def test_a_violation_is_not_counted(codec: ModuleType, name: str, data: str, counts: tuple[int, ...]) -> None:
    decoder = getattr(codec, name)(role="client")
    fed(decoder, bytes.fromhex(data))
    assert counters(decoder) == counts
    violation(decoder, b"\x89\x00")
    assert counters(decoder) == (counts[0] + 2, *counts[1:])


@EACH_DECODER
def test_wrong_arguments_are_not_counted(codec: ModuleType, name: str) -> None:
    decoder = getattr(codec, name)(role="client")
    decoder.get_buffer()
    with pytest.raises(TypeError, match="data must be"):
        decoder.feed("text")
    with pytest.raises(ValueError, match="nbytes must be"):
        decoder.buffer_updated(READ_SIZE + 1)
    assert counters(decoder) == (0, 0, 0, 0, 0)


@profile
@given(stream=streams("server"), steps=STEPS)
def test_counters_say_what_was_handed_out(both: Both, stream: bytes, steps: list[Step]) -> None:
    for codec in both:
        decoder = codec.FrameDecoder(role="server")
        frames = flattened(calls(decoder, stream, steps))
        opcodes = [each.opcode for each in frames]
        messages = sum(each.fin for each in frames if not each.opcode & CONTROL)
        counted = (len(frames), messages, opcodes.count(Opcode.PING), opcodes.count(Opcode.PONG))
        assert counters(decoder) == (len(stream), *counted)

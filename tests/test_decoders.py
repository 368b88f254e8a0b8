"""bytes -> frames and messages: the rules of RFC 6455 §5, judged at the earliest byte, whatever the cuts."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, cast

import pytest

from wslowlevel.errors import PayloadTooBig, ProtocolError, Reason
from wslowlevel.wire import CLOSE_CODE_RANGES, DEFAULT_MAX_FRAGMENTS, DEFAULT_MAX_SIZE, Rsv

from .memory import counts_memory, peak_of
from .vectors import (
    ACCEPTED,
    COUNTERS,
    DECODERS,
    KEY,
    REFUSED,
    WAYS,
    Decoder,
    Fields,
    Vector,
    Way,
    chunked,
    feed,
    joined,
    masked,
    naive_mask,
    patterned,
    receive,
    ways_to_cut,
    whole,
)

EACH_DECODER = pytest.mark.parametrize("name", DECODERS)
HOLDING_DECODERS = pytest.mark.parametrize("name", ["FrameDecoder", "MessageDecoder"])
BOTH_WAYS = pytest.mark.parametrize("way", WAYS)
BOTH_ROLES = pytest.mark.parametrize("role", ["server", "client"])


def decoder_of(codec: ModuleType, name: str, vector: Vector) -> Decoder:
    return cast("Decoder", getattr(codec, name)(role=vector.role, **vector.options))


def expected(codec: ModuleType, name: str, frames: tuple[Fields, ...]) -> list[Any]:
    """The objects that a decoder makes of some frames."""
    if name == "FrameDecoder":
        return [codec.Frame(*frame) for frame in frames]
    if name == "ChunkDecoder":
        return [codec.Chunk(*chunk) for chunk in chunked(frames)]
    return [codec.Message(*message) for message in joined(frames)]


def frame(codec: ModuleType, role: str, opcode: int, payload: bytes = b"", **bits: int) -> bytes:
    """A frame as the peer of this role sends it."""
    return cast("bytes", codec.encode_frame(opcode, payload, mask_key=KEY if role == "server" else None, **bits))


def violation(decoder: Decoder, data: bytes, way: Way = feed) -> Any:
    """The error that these bytes are refused with, at once."""
    with pytest.raises((ProtocolError, PayloadTooBig)) as caught:
        way(decoder, data)
    return caught.value


def until_error(decoder: Decoder, pieces: Iterable[bytes], way: Way = feed) -> list[Any]:
    """What comes out before the pieces end, or are refused."""
    items: list[Any] = []
    with contextlib.suppress(ProtocolError, PayloadTooBig):
        for piece in pieces:
            items += way(decoder, piece)
    return items


class TestAccepted:
    @pytest.mark.parametrize("vector", ACCEPTED, ids=str)
    @EACH_DECODER
    @BOTH_WAYS
    def test_cut_anywhere(self, codec: ModuleType, name: str, vector: Vector, way: Way) -> None:
        for pieces in ways_to_cut(vector.data):
            decoder = decoder_of(codec, name, vector)
            items = [item for piece in pieces for item in way(decoder, piece)]
            assert whole(items) == expected(codec, name, vector.frames)
            assert (decoder.error, decoder.buffered) == (None, 0)
            assert decoder.closed == (vector.frames[-1].opcode == 8)

    @pytest.mark.parametrize("vector", [vector for vector in ACCEPTED if vector.frames[-1].opcode != 8], ids=str)
    @EACH_DECODER
    @BOTH_WAYS
    def test_followed_by_another_frame(self, codec: ModuleType, name: str, vector: Vector, way: Way) -> None:
        decoder = decoder_of(codec, name, vector)
        following = frame(codec, vector.role, 9, b"next")
        ping = Fields(9, b"next", mask_key=KEY if vector.role == "server" else None)
        assert whole(way(decoder, vector.data + following[:1])) == expected(codec, name, vector.frames)
        assert decoder.buffered == 1
        assert way(decoder, following[1:]) == expected(codec, name, (ping,))

    @pytest.mark.parametrize("vector", [vector for vector in ACCEPTED if len(vector.data) > 60_000], ids=str)
    @EACH_DECODER
    def test_long_ones_byte_by_byte(self, codec: ModuleType, name: str, vector: Vector) -> None:
        decoder = decoder_of(codec, name, vector)
        items = []
        for i in range(len(vector.data)):
            items += decoder.feed(vector.data[i : i + 1])
        assert whole(items) == expected(codec, name, vector.frames)

    @pytest.mark.parametrize("vector", ACCEPTED, ids=str)
    def test_encoding_gives_the_very_bytes(self, codec: ModuleType, vector: Vector) -> None:
        frames = [codec.encode_frame(opcode, payload, **bits(rest)) for opcode, payload, *rest in vector.frames]
        assert b"".join(frames) == vector.data


def bits(rest: list[Any]) -> dict[str, Any]:
    return dict(zip(Fields._fields[2:], rest, strict=True))


class TestRefused:
    @pytest.mark.parametrize("vector", REFUSED, ids=str)
    @EACH_DECODER
    @BOTH_WAYS
    def test_at_the_earliest_byte(self, codec: ModuleType, name: str, vector: Vector, way: Way) -> None:
        decoder = decoder_of(codec, name, vector)
        items = []
        for i in range(vector.proof):
            items += way(decoder, vector.data[i : i + 1])
        assert whole(items) == expected(codec, name, vector.frames)
        assert decoder.error is None
        error = violation(decoder, vector.data[vector.proof : vector.proof + 1], way)
        assert (error.reason, error.close_code) == (vector.reason, vector.close_code)
        assert decoder.error is error

    @pytest.mark.parametrize("vector", REFUSED, ids=str)
    @EACH_DECODER
    @BOTH_WAYS
    def test_cut_anywhere(self, codec: ModuleType, name: str, vector: Vector, way: Way) -> None:
        texts = set()
        for pieces in ways_to_cut(vector.data):
            decoder = decoder_of(codec, name, vector)
            assert whole(until_error(decoder, pieces, way)) == expected(codec, name, vector.frames)
            texts.add(str(decoder.error))
        assert len(texts) == 1

    @pytest.mark.parametrize("vector", REFUSED, ids=str)
    @EACH_DECODER
    @BOTH_WAYS
    def test_what_came_before_is_delivered_first(self, codec: ModuleType, name: str, vector: Vector, way: Way) -> None:
        ping = Fields(9, b"first", mask_key=KEY if vector.role == "server" else None)
        decoder = decoder_of(codec, name, vector)
        chunk = frame(codec, vector.role, 9, b"first") + vector.data + frame(codec, vector.role, 9, b"never")
        assert way(decoder, chunk) == expected(codec, name, (ping, *vector.frames))
        assert decoder.error.reason is vector.reason
        for _ in range(3):
            assert violation(decoder, frame(codec, vector.role, 9), way) is decoder.error
            assert violation(decoder, b"", way) is decoder.error


TEXT = b"twenty bytes of text"
SHORTER, BAD, UNFINISHED = TEXT[:-1], TEXT[:-1] + b"\xff", TEXT[:-1] + b"\xc3"
FIRST = masked("8113", SHORTER)
FIRST_OF_SERVER = "8113" + SHORTER.hex()
IN_A_ROW: dict[str, tuple[str, str, dict[str, Any], Reason | None]] = {
    "text": (FIRST, masked("8114", TEXT), {}, None),
    "binary": (FIRST, masked("8214", BAD), {}, None),
    "empty": (FIRST, masked("8100"), {}, None),
    "a key that looks like a header": (FIRST, "8294818a818a" + TEXT.hex(), {}, None),
    "16 bits of length": (FIRST, masked("817e0140", 16 * TEXT), {}, None),
    "a control frame": (FIRST, masked("8914", TEXT), {}, None),
    "fragments": (FIRST, masked("0114", TEXT) + masked("8914", TEXT) + masked("8014", TEXT), {}, None),
    "to a client": (FIRST_OF_SERVER, "8114" + TEXT.hex(), {"role": "client"}, None),
    "unmasked where that may be": (FIRST, "8114" + TEXT.hex(), {"require_mask": False}, None),
    "unmasked, not strict": (FIRST, "8114" + TEXT.hex(), {"strict": False}, None),
    "masked, not strict": (FIRST_OF_SERVER, masked("8114", TEXT), {"role": "client", "strict": False}, None),
    "reserved bits, not strict": (FIRST, masked("f114", BAD), {"strict": False}, None),
    "reserved opcode, not strict": (FIRST, masked("8314", TEXT), {"strict": False}, None),
    "a bit of an extension": (FIRST, masked("c114", BAD), {"allow_rsv": Rsv.RSV1}, None),
    "as large as a frame may be": (FIRST, masked("8114", TEXT), {"max_frame_size": 20}, None),
    "as large as a message may be": (FIRST, masked("8114", TEXT), {"max_message_size": 20}, None),
    "as many fragments as may be": (FIRST, masked("8114", TEXT), {"max_fragments": 1}, None),
    "a reserved bit": (FIRST, masked("c114", TEXT), {}, Reason.RESERVED_BITS),
    "another reserved bit": (FIRST, masked("a114", TEXT), {"allow_rsv": Rsv.RSV1}, Reason.RESERVED_BITS),
    "a reserved opcode": (FIRST, masked("8314", TEXT), {}, Reason.RESERVED_OPCODE),
    "unmasked": (FIRST, "8114" + TEXT.hex(), {}, Reason.NOT_MASKED),
    "masked": (FIRST_OF_SERVER, masked("8114", TEXT), {"role": "client"}, Reason.MASKED),
    "16 bits too many": (FIRST, masked("817e0014", TEXT), {}, Reason.LENGTH_NOT_MINIMAL),
    "64 bits too many": (FIRST, masked("817f0000000000000014", TEXT), {}, Reason.LENGTH_NOT_MINIMAL),
    "a continuation of nothing": (FIRST, masked("8014", TEXT), {}, Reason.UNEXPECTED_CONTINUATION),
    "inside another message": (masked("0113", SHORTER), masked("8114", TEXT), {}, Reason.EXPECTED_CONTINUATION),
    "no UTF-8": (FIRST, masked("8114", BAD), {}, Reason.INVALID_UTF8),
    "half a character at the end": (FIRST, masked("8114", UNFINISHED), {}, Reason.INVALID_UTF8),
    "larger than a frame may be": (FIRST, masked("8114", TEXT), {"max_frame_size": 19}, Reason.FRAME_TOO_BIG),
    "larger than a message may be": (FIRST, masked("8114", TEXT), {"max_message_size": 19}, Reason.MESSAGE_TOO_BIG),
    "more fragments than may be": ("", masked("8114", TEXT), {"max_fragments": 0}, Reason.TOO_MANY_FRAGMENTS),
}
"""A message, what comes behind it, options, and why the second is refused; behind both the first comes once more."""


@pytest.mark.parametrize("case", IN_A_ROW.values(), ids=IN_A_ROW)
@EACH_DECODER
@BOTH_WAYS
def test_frames_that_arrive_together(codec: ModuleType, name: str, way: Way, case: tuple[Any, ...]) -> None:
    """They are the same, and judged the same, as those that come byte by byte, or cut anywhere."""
    before, data, options, reason = case
    judged = []
    for pieces in ways_to_cut(bytes.fromhex(before + data + before)):
        decoder = getattr(codec, name)(**{"role": "server", **options})
        items = whole(until_error(decoder, pieces, way))
        assert (decoder.error and decoder.error.reason) is reason
        counted = [getattr(decoder, counter) for counter in COUNTERS if counter != "bytes_received"]
        judged.append((items, str(decoder.error), decoder.buffered if reason is None else None, counted))
    assert judged == [judged[0]] * len(judged)


class TestLimits:
    """All inclusive, and judged by the header alone."""

    @EACH_DECODER
    @BOTH_ROLES
    @pytest.mark.parametrize("limit", [0, 1, 125, 126, 65535, 65536])
    @pytest.mark.parametrize("option", ["max_frame_size", "max_message_size"])
    def test_size(self, codec: ModuleType, name: str, role: str, limit: int, option: str) -> None:
        decoder = getattr(codec, name)(role=role, **{option: limit})
        assert [len(item.payload) for item in decoder.feed(frame(codec, role, 2, bytes(limit)))] == [limit]
        error = violation(decoder, header(codec, role, 2, limit + 1))
        assert (error.size, error.limit, error.close_code) == (limit + 1, limit, 1009)
        assert str(limit + 1) in str(error)
        assert str(limit) in str(error)

    @EACH_DECODER
    @pytest.mark.parametrize("opcode", [8, 9, 10])
    def test_control_frames_are_not_counted(self, codec: ModuleType, name: str, opcode: int) -> None:
        decoder = getattr(codec, name)(role="client", max_frame_size=0, max_message_size=0, max_fragments=0)
        payload = b"\x03\xe8" + bytes(123)
        assert [item.payload for item in decoder.feed(codec.encode_frame(opcode, payload))] == [payload]

    @EACH_DECODER
    def test_message_size_over_fragments(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client", max_message_size=10)
        for fin, size in ((0, 4), (0, 6), (0, 0), (1, 0)):  # exactly the limit
            decoder.feed(codec.encode_frame(0 if fin or size != 4 else 2, bytes(size), fin=fin))
        decoder.feed(codec.encode_frame(2, bytes(10), fin=0))  # counted afresh
        error = violation(decoder, codec.encode_header(0, 1))
        assert (error.reason, error.size, error.limit) == (Reason.MESSAGE_TOO_BIG, 11, 10)

    @EACH_DECODER
    def test_frame_size_is_judged_before_message_size(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client", max_frame_size=5, max_message_size=5)
        assert violation(decoder, codec.encode_header(2, 6)).reason is Reason.FRAME_TOO_BIG

    @EACH_DECODER
    @pytest.mark.parametrize("limit", [1, 2, 7])
    def test_fragments_empty_ones_included(self, codec: ModuleType, name: str, limit: int) -> None:
        decoder = getattr(codec, name)(role="client", max_fragments=limit)
        for _ in range(2):
            for i in range(limit):
                decoder.feed(codec.encode_frame(0 if i else 2, b"", fin=i == limit - 1))
                decoder.feed(codec.encode_frame(9, b"not counted"))
        for i in range(limit):
            decoder.feed(codec.encode_frame(0 if i else 2, b"", fin=0))
        error = violation(decoder, b"\x80")
        assert (error.reason, error.size, error.limit) == (Reason.TOO_MANY_FRAGMENTS, limit + 1, limit)
        assert error.close_code == 1009

    @HOLDING_DECODERS
    def test_none_is_no_limit(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client", max_frame_size=None, max_message_size=None, max_fragments=None)
        assert decoder.feed(codec.encode_header(2, 2**63 - 1) + b"begun") == []
        assert (decoder.error, decoder.buffered) == (None, 5)

    def test_defaults_of_messages(self, codec: ModuleType) -> None:
        decoder = codec.MessageDecoder(role="client")
        assert decoder.feed(codec.encode_frame(2, bytes(DEFAULT_MAX_SIZE)))[0].payload == bytes(DEFAULT_MAX_SIZE)
        fragments = codec.encode_frame(2, b"", fin=0) + codec.encode_frame(0, b"", fin=0) * (DEFAULT_MAX_FRAGMENTS - 1)
        assert decoder.feed(fragments) == []
        assert violation(decoder, b"\x80").reason is Reason.TOO_MANY_FRAGMENTS
        error = violation(codec.MessageDecoder(role="client"), codec.encode_header(2, DEFAULT_MAX_SIZE + 1))
        assert (error.reason, error.limit) == (Reason.MESSAGE_TOO_BIG, DEFAULT_MAX_SIZE)

    def test_defaults_of_frames(self, codec: ModuleType) -> None:
        decoder = codec.FrameDecoder(role="client")
        fragments = codec.encode_frame(2, b"", fin=0) + codec.encode_frame(0, b"", fin=0) * DEFAULT_MAX_FRAGMENTS
        assert len(decoder.feed(fragments)) == DEFAULT_MAX_FRAGMENTS + 1
        error = violation(decoder, codec.encode_header(0, DEFAULT_MAX_SIZE + 1))
        assert (error.reason, error.limit) == (Reason.FRAME_TOO_BIG, DEFAULT_MAX_SIZE)

    def test_a_sum_of_sizes_does_not_wrap(self, codec: ModuleType) -> None:
        decoder = codec.MessageDecoder(role="client", max_message_size=None)
        decoder.feed(codec.encode_frame(2, b"x", fin=0))
        assert violation(decoder, codec.encode_header(0, 2**63 - 1)).size == 2**63

    @pytest.mark.parametrize("option", ["max_frame_size", "max_message_size", "max_fragments"])
    @pytest.mark.parametrize("value", [-1, 2**63, 1.0, "1"])
    @EACH_DECODER
    def test_wrong_limits(self, codec: ModuleType, name: str, option: str, value: object) -> None:
        with pytest.raises((TypeError, ValueError), match=option):
            getattr(codec, name)(role="server", **{option: value})


def header(codec: ModuleType, role: str, opcode: int, size: int) -> bytes:
    return cast("bytes", codec.encode_header(opcode, size, mask_key=KEY if role == "server" else None))


class TestCost:
    """Memory and time grow with the bytes that arrive, not with those announced, nor with their square."""

    @counts_memory
    @pytest.mark.parametrize("payload", [b"", b"x"])
    def test_many_fragments_stay_flat(self, codec: ModuleType, payload: bytes) -> None:
        decoder = codec.MessageDecoder(role="server", max_fragments=None)
        fragments = [codec.encode_frame(opcode, payload, fin=0, mask_key=KEY) * 1000 for opcode in (2, 0)]
        first = codec.encode_frame(2, payload, fin=0, mask_key=KEY)

        def deliver() -> None:
            decoder.feed(first)
            for _ in range(200):
                assert decoder.feed(fragments[1]) == []

        assert peak_of(deliver) < 4 * 1024 * 1024
        assert decoder.buffered == 200_001 * len(payload)
        assert decoder.feed(codec.encode_frame(0, b"", mask_key=KEY)) == [codec.Message(2, payload * 200_001, mask=1)]

    @counts_memory
    @HOLDING_DECODERS
    @BOTH_WAYS
    def test_an_announced_payload_is_not_allocated(self, codec: ModuleType, name: str, way: Way) -> None:
        decoder = getattr(codec, name)(role="server")
        announced = header(codec, "server", 2, DEFAULT_MAX_SIZE) + bytes(10)
        assert peak_of(lambda: way(decoder, announced)) < 1024 * 1024
        assert decoder.buffered == 10

    def test_one_byte_fragments_cost_linear_time(self, codec: ModuleType) -> None:
        def deliver(size: int) -> None:
            decoder = codec.MessageDecoder(role="client", max_fragments=None)
            fragments = codec.encode_frame(2, b"x", fin=0) + codec.encode_frame(0, b"x", fin=0) * (size - 1)
            for start in range(0, len(fragments), 65536):
                decoder.feed(fragments[start : start + 65536])
            assert decoder.buffered == size

        assert is_linear(codec, deliver)

    @pytest.mark.parametrize("opcode", [1, 2])
    def test_a_message_byte_by_byte_costs_linear_time(self, codec: ModuleType, opcode: int) -> None:
        def deliver(size: int) -> None:
            decoder = codec.MessageDecoder(role="server")
            decoder.feed(header(codec, "server", opcode, size))
            for i in range(size):
                decoder.feed(KEY[i & 3 : (i & 3) + 1])
            assert (decoder.buffered, decoder.error) == (0, None)

        assert is_linear(codec, deliver)


def is_linear(codec: ModuleType, deliver: Callable[[int], None]) -> bool:
    """Whether twice the bytes take about twice the time, and not the four times of a quadratic cost.

    Another process can disturb a measurement, but not three times in a row.
    """
    size = 1024 * 1024 if codec.kernel() != "python" else 128 * 1024
    return any(cpu_time(deliver, 2 * size) < 3 * cpu_time(deliver, size) for _ in range(3))


def cpu_time(deliver: Callable[[int], None], size: int) -> float:
    start = time.process_time()
    deliver(size)
    return time.process_time() - start


class TestPermissive:
    """strict=False lets pass, and reports, what a strict decoder refuses by opcode, reserved bits and masking."""

    @pytest.mark.parametrize("opcode", range(1, 16))
    @EACH_DECODER
    @BOTH_ROLES
    def test_every_opcode_rsv_and_masking(self, codec: ModuleType, name: str, role: str, opcode: int) -> None:
        for rsv, key in itertools.product(range(8), (None, KEY)):
            fields = Fields(opcode, b"\x03\xe8", 1, rsv >> 2, rsv >> 1 & 1, rsv & 1, key)
            decoder = getattr(codec, name)(role=role, strict=False)
            data = codec.encode_frame(fields.opcode, fields.payload, **bits(list(fields[2:])))
            if opcode == 1 and not rsv:
                assert violation(decoder, data).reason is Reason.INVALID_UTF8
            else:
                assert decoder.feed(data) == expected(codec, name, (fields,))

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            ("8000", Reason.UNEXPECTED_CONTINUATION),
            ("02008200", Reason.EXPECTED_CONTINUATION),
            ("03008300", Reason.EXPECTED_CONTINUATION),
            ("0900", Reason.FRAGMENTED_CONTROL),
            ("0f00", Reason.FRAGMENTED_CONTROL),
            ("8b7e007e", Reason.CONTROL_TOO_LONG),
            ("8801", Reason.CLOSE_TOO_SHORT),
            ("880203e7", Reason.CLOSE_CODE),
            ("827e007d", Reason.LENGTH_NOT_MINIMAL),
            ("8101ff", Reason.INVALID_UTF8),
        ],
    )
    @EACH_DECODER
    def test_every_other_rule_stands(self, codec: ModuleType, name: str, data: str, reason: Reason) -> None:
        decoder = getattr(codec, name)(role="server", strict=False)
        until_error(decoder, [bytes.fromhex(data)])
        assert violation(decoder, b"").reason is reason

    def test_reserved_data_opcodes_are_joined(self, codec: ModuleType) -> None:
        decoder = codec.MessageDecoder(role="server", strict=False)
        assert decoder.feed(bytes.fromhex("730161 000162 c00163")) == [codec.Message(3, b"abc", 1, 1, 1)]

    @pytest.mark.parametrize("allowed", range(8))
    @EACH_DECODER
    def test_allow_rsv(self, codec: ModuleType, name: str, allowed: int) -> None:
        for rsv in range(8):
            decoder = getattr(codec, name)(role="client", allow_rsv=Rsv(allowed))
            fields = Fields(1, b"a", 1, rsv >> 2, rsv >> 1 & 1, rsv & 1)
            data = codec.encode_frame(1, b"a", **bits(list(fields[2:])))
            if rsv & ~allowed:
                assert violation(decoder, data[:1]).reason is Reason.RESERVED_BITS
            else:
                assert decoder.feed(data) == expected(codec, name, (fields,))

    @pytest.mark.parametrize("value", [-1, 8, 1.0, "1", None])
    def test_wrong_allow_rsv(self, codec: ModuleType, value: object) -> None:
        with pytest.raises((TypeError, ValueError), match="allow_rsv"):
            codec.MessageDecoder(role="client", allow_rsv=value)

    @pytest.mark.parametrize("role", ["", "Server", b"server", None, 1, ["server"]])
    @EACH_DECODER
    def test_wrong_role(self, codec: ModuleType, name: str, role: object) -> None:
        with pytest.raises(ValueError, match="role must be 'server' or 'client'"):
            getattr(codec, name)(role=role)


class TestClose:
    @EACH_DECODER
    @BOTH_ROLES
    @BOTH_WAYS
    def test_data_after_it_is_discarded(self, codec: ModuleType, name: str, role: str, way: Way) -> None:
        decoder = getattr(codec, name)(role=role)
        close = Fields(8, b"\x03\xe8bye", mask_key=KEY if role == "server" else None)
        chunk = frame(codec, role, *close[:2])
        assert way(decoder, chunk + frame(codec, role, 9) + b"\xff" * 1000) == expected(codec, name, (close,))
        assert decoder.closed
        for piece in (frame(codec, role, 2, b"late"), b"\xff" * 100_000, chunk):
            assert way(decoder, piece) == []
        assert (decoder.error, decoder.buffered, decoder.closed) == (None, 0, True)

    def test_inside_a_fragmented_message(self, codec: ModuleType) -> None:
        decoder = codec.MessageDecoder(role="client")
        assert decoder.feed(bytes.fromhex("010161 8800 800162")) == [codec.Message(8, b"")]
        assert decoder.closed

    @EACH_DECODER
    @pytest.mark.parametrize("strict", [True, False])
    def test_every_code(self, codec: ModuleType, name: str, strict: bool) -> None:
        accepted = []
        for code in range(65536):
            decoder = getattr(codec, name)(role="client", strict=strict)
            data = b"\x88\x02" + code.to_bytes(2, "big")
            try:
                accepted += [int.from_bytes(item.payload, "big") for item in decoder.feed(data)]
            except ProtocolError as error:
                assert error.reason is Reason.CLOSE_CODE
                assert f" {code} " in str(error)
        assert accepted == [code for first, last in CLOSE_CODE_RANGES for code in range(first, last + 1)]


class TestState:
    @HOLDING_DECODERS
    def test_buffered(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="server")
        data = frame(codec, "server", 2, patterned(300))
        counts = []
        for i in range(len(data)):
            decoder.feed(data[i : i + 1])
            counts.append(decoder.buffered)
        assert counts == [*range(1, 8), *range(300), 0]

    def test_buffered_of_fragments(self, codec: ModuleType) -> None:
        frames, messages = codec.FrameDecoder(role="client"), codec.MessageDecoder(role="client")
        for decoder, held in ((frames, 0), (messages, 3)):
            decoder.feed(codec.encode_frame(2, b"abc", fin=0))
            assert decoder.buffered == held
            decoder.feed(codec.encode_frame(9, b"ping")[:4])
            assert decoder.buffered == held + 2

    @EACH_DECODER
    @pytest.mark.parametrize("attribute", ["error", "closed", "buffered", *COUNTERS])
    def test_read_only(self, codec: ModuleType, name: str, attribute: str) -> None:
        decoder = getattr(codec, name)(role="client")
        with pytest.raises(AttributeError):
            setattr(decoder, attribute, None)

    @EACH_DECODER
    def test_a_wrong_argument_changes_nothing(self, codec: ModuleType, name: str) -> None:
        decoder = getattr(codec, name)(role="client")
        items = decoder.feed(b"\x82\x03a")
        for wrong in ("text", 1, None, [1], memoryview(b"abcd")[::2]):
            with pytest.raises((TypeError, ValueError), match=r"^data must be"):
                decoder.feed(wrong)
        assert decoder.error is None
        items += decoder.feed(b"bc")
        assert [item.payload for item in whole(items)] == [b"abc"]
        assert decoder.bytes_received == 5

    @EACH_DECODER
    def test_the_key_goes_on_over_cuts(self, codec: ModuleType, name: str) -> None:
        payload = patterned(5000)
        data = bytes.fromhex(masked("827e1388", payload))
        assert data[8:] == naive_mask(payload, KEY)
        for size in (1, 2, 3, 5, 7, 63, 64, 65, 511, 513):
            decoder = getattr(codec, name)(role="server")
            pieces = [data[start : start + size] for start in range(0, len(data), size)]
            items = [item for piece in pieces for item in receive(decoder, piece)]
            assert [item.payload for item in whole(items)] == [payload]

    @EACH_DECODER
    def test_only_keywords(self, codec: ModuleType, name: str) -> None:
        for arguments, keywords in ((("server",), {}), ((), {}), ((), {"role": "server", "other": 1})):
            with pytest.raises(TypeError):
                getattr(codec, name)(*arguments, **keywords)

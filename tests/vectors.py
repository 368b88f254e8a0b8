"""The frames of RFC 6455, good and bad: one table for decoding and encoding, and the ways to deliver them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from wslowlevel.errors import Reason
from wslowlevel.wire import CONTROL, FIN, MASK, RSV_SHIFT, CloseCode, Opcode

KEY = bytes.fromhex("37fa213d")
"""The masking key of the examples of RFC 6455 §5.7."""

CLOSE_CODES = {
    Reason.INVALID_UTF8: CloseCode.INVALID_PAYLOAD,
    Reason.FRAME_TOO_BIG: CloseCode.MESSAGE_TOO_BIG,
    Reason.MESSAGE_TOO_BIG: CloseCode.MESSAGE_TOO_BIG,
    Reason.TOO_MANY_FRAGMENTS: CloseCode.MESSAGE_TOO_BIG,
}
"""What to close with for each reason (RFC 6455 §7.4.1); 1002, a protocol error, for any other."""


class Fields(NamedTuple):
    """What a frame says, in the order of the arguments of `Frame`."""

    opcode: int
    payload: bytes = b""
    fin: int = 1
    rsv1: int = 0
    rsv2: int = 0
    rsv3: int = 0
    mask_key: bytes | None = None


class Vector(NamedTuple):
    """Bytes that arrive, and what a decoder makes of them.

    Attributes:
        role: of the receiver.
        frames: those it hands out: all of them, or those that come before the violation.
        reason: the rule that is broken, None if the bytes are good.
        proof: the index of the byte that proves it.
        options: further arguments of the decoder.
    """

    name: str
    role: str
    data: bytes
    frames: tuple[Fields, ...]
    reason: Reason | None
    proof: int
    options: dict[str, Any]

    @property
    def close_code(self) -> CloseCode:
        assert self.reason is not None
        return CLOSE_CODES.get(self.reason, CloseCode.PROTOCOL_ERROR)

    def __str__(self) -> str:
        options = "".join(f", {name}={value}" for name, value in self.options.items())
        return f"{self.role}: {self.name}{options}"


DECODERS = ("FrameDecoder", "MessageDecoder", "ChunkDecoder")
COUNTERS = ("bytes_received", "frames_received", "messages_received", "pings_received", "pongs_received")


def joined(frames: Iterable[Fields]) -> list[tuple[Any, ...]]:
    """The messages of some frames (RFC 6455 §5.4), each in the order of the arguments of `Message`."""
    messages: list[tuple[Any, ...]] = []
    fragments: list[Fields] = []
    for frame in frames:
        of_message = [frame] if frame.opcode & CONTROL else [*fragments, frame]
        if frame.fin:
            payload = b"".join(each.payload for each in of_message)
            messages.append((of_message[0].opcode, payload, *bits_of(of_message[0])))
        if not frame.opcode & CONTROL:
            fragments = [] if frame.fin else of_message
    return messages


def chunked(frames: Iterable[Fields]) -> list[tuple[Any, ...]]:
    """The chunks of some frames that arrive whole, each in the order of the arguments of `Chunk`."""
    chunks: list[tuple[Any, ...]] = []
    opener: Fields | None = None
    for frame in frames:
        starts = frame.opcode != Opcode.CONTINUATION
        first = frame if starts or opener is None else opener
        chunks.append((first.opcode, frame.payload, int(starts), 1, 1, frame.fin, *bits_of(first)))
        if not frame.opcode & CONTROL:
            opener = first
    return chunks


def bits_of(first: Fields) -> tuple[int, ...]:
    """What a message, or a chunk, tells of the first frame of its message."""
    return first.rsv1, first.rsv2, first.rsv3, int(first.mask_key is not None)


def whole(items: Iterable[Any]) -> list[Any]:
    """What a decoder handed out, with the chunks of each frame put together, if all of them are there."""
    result: list[Any] = []
    pieces: list[Any] = []
    for item in items:
        pieces.append(item)
        if getattr(item, "frame_finished", 1):
            result.append(put_together(pieces))
            pieces = []
    return result


def put_together(pieces: list[Any]) -> Any:
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return first
    payload = b"".join(piece.payload for piece in pieces)
    flags = (first.message_started, first.frame_started, last.frame_finished, last.message_finished)
    return type(first)(first.opcode, payload, *flags, first.rsv1, first.rsv2, first.rsv3, first.mask)


def naive_mask(data: bytes, key: bytes, offset: int = 0) -> bytes:
    """The definition of RFC 6455 §5.3, byte by byte."""
    return bytes(octet ^ key[(offset + i) % 4] for i, octet in enumerate(data))


def patterned(length: int) -> bytes:
    """A payload in which every run of bytes stands once, so that a shifted or swapped piece shows."""
    return b"".join(i.to_bytes(3, "big") for i in range(length // 3 + 1))[:length]


# -- The table --------------------------------------------------------------------------------------------------------
# Bytes stand in hex. "both" is the frame as a server sends it, to a client, and as a client does, masked with KEY.


def good(name: str, role: str, data: str, *frames: Fields, **options: Any) -> Vector:
    return Vector(name, role, bytes.fromhex(data), frames, None, -1, options)


def bad(name: str, role: str, data: str, reason: Reason, proof: int, *frames: Fields, **options: Any) -> Vector:
    return Vector(name, role, bytes.fromhex(data), frames, reason, proof, options)


def good_both(name: str, header: str, frame: Fields, **options: Any) -> Iterator[Vector]:
    yield good(name, "client", header + frame.payload.hex(), frame, **options)
    yield good(name, "server", masked(header, frame.payload), frame._replace(mask_key=KEY), **options)


def bad_both(name: str, header: str, reason: Reason, proof: int, **options: Any) -> Iterator[Vector]:
    yield bad(name, "client", header, reason, proof, **options)
    yield bad(name, "server", masked(header), reason, proof, **options)


def masked(header: str, payload: bytes = b"") -> str:
    """The header of an unmasked frame, and its payload -> the masked frame."""
    octets = bytes.fromhex(header)
    return (bytes([octets[0], octets[1] | MASK]) + octets[2:] + KEY + naive_mask(payload, KEY)).hex()


RFC_EXAMPLES = [
    good("RFC 6455 5.7 unmasked text", "client", "81 05 48656c6c6f", Fields(1, b"Hello")),
    good("RFC 6455 5.7 masked text", "server", "81 85 37fa213d 7f9f4d5158", Fields(1, b"Hello", mask_key=KEY)),
    good("RFC 6455 5.7 fragments", "client", "01 03 48656c  80 02 6c6f", Fields(1, b"Hel", fin=0), Fields(0, b"lo")),
    good("RFC 6455 5.7 ping", "client", "89 05 48656c6c6f", Fields(9, b"Hello")),
    good("RFC 6455 5.7 pong", "server", "8a 85 37fa213d 7f9f4d5158", Fields(10, b"Hello", mask_key=KEY)),
    good("RFC 6455 5.7 256 bytes", "client", "82 7e0100" + "00" * 256, Fields(2, bytes(256))),
    good("RFC 6455 5.7 64 KiB", "client", "82 7f0000000000010000" + "00" * 65536, Fields(2, bytes(65536))),
]

LENGTHS = {
    0: "00",
    1: "01",
    125: "7d",
    126: "7e007e",
    127: "7e007f",
    65535: "7effff",
    65536: "7f0000000000010000",
}
"""Each border of the three forms of a payload length, as it stands behind the first byte of an unmasked frame."""


def every_length() -> Iterator[Vector]:
    for length, written in LENGTHS.items():
        yield from good_both(f"{length} bytes", f"82{written}", Fields(2, patterned(length)))


def every_opcode() -> Iterator[Vector]:
    for opcode in range(16):
        name, header = f"opcode 0x{opcode:X}", f"{FIN | opcode:02x}00"
        if opcode == Opcode.CONTINUATION:
            yield from bad_both(name, header, Reason.UNEXPECTED_CONTINUATION, 0)
        elif opcode in list(Opcode):
            yield from good_both(name, header, Fields(opcode))
        else:
            yield from bad_both(name, header, Reason.RESERVED_OPCODE, 0)


def every_reserved_bit() -> Iterator[Vector]:
    for rsv, opcode in itertools.product((4, 2, 1), (1, 2, 8, 9, 10)):
        name, header = f"rsv {rsv:03b}, opcode 0x{opcode:X}", f"{FIN | rsv << RSV_SHIFT | opcode:02x}00"
        yield from bad_both(name, header, Reason.RESERVED_BITS, 0)
        yield from bad_both(name, header, Reason.RESERVED_BITS, 0, allow_rsv=7 ^ rsv)
        if opcode & CONTROL:
            yield from bad_both(name, header, Reason.RESERVED_BITS, 0, allow_rsv=rsv)
        else:
            bits = Fields(opcode, b"", 1, rsv >> 2, rsv >> 1 & 1, rsv & 1)
            yield from good_both(name, header, bits, allow_rsv=rsv)


def every_control_frame() -> Iterator[Vector]:
    for opcode in (8, 9, 10):
        name, first = f"opcode 0x{opcode:X}", f"{FIN | opcode:02x}"
        yield from good_both(f"{name} with 125 bytes", f"{first}7d", Fields(opcode, b"\x03\xe8" + b"x" * 123))
        yield from bad_both(f"{name} with 126 bytes", f"{first}7e007e", Reason.CONTROL_TOO_LONG, 1)
        yield from bad_both(f"{name} with 65536 bytes", f"{first}7f0000000000010000", Reason.CONTROL_TOO_LONG, 1)
        yield from bad_both(f"{name} fragmented", f"{opcode:02x}00", Reason.FRAGMENTED_CONTROL, 0)


# A length is judged when it is known: at its own last byte, before the masking key.
BAD_LENGTHS = [
    *bad_both("0 in 16 bits", "82 7e0000", Reason.LENGTH_NOT_MINIMAL, 3),
    *bad_both("125 in 16 bits", "82 7e007d", Reason.LENGTH_NOT_MINIMAL, 3),
    *bad_both("0 in 64 bits", "82 7f0000000000000000", Reason.LENGTH_NOT_MINIMAL, 9),
    *bad_both("125 in 64 bits", "82 7f000000000000007d", Reason.LENGTH_NOT_MINIMAL, 9),
    *bad_both("126 in 64 bits", "82 7f000000000000007e", Reason.LENGTH_NOT_MINIMAL, 9),
    *bad_both("65535 in 64 bits", "82 7f000000000000ffff", Reason.LENGTH_NOT_MINIMAL, 9),
    *bad_both("2**63", "82 7f8000000000000000", Reason.LENGTH_TOO_BIG, 9),
    *bad_both("2**64 - 1", "82 7fffffffffffffffff", Reason.LENGTH_TOO_BIG, 9),
]

OVER_LIMIT = [
    *bad_both("1 byte", "82 01", Reason.FRAME_TOO_BIG, 1, max_frame_size=0),
    *bad_both("1 byte", "82 01", Reason.MESSAGE_TOO_BIG, 1, max_message_size=0),
    *bad_both("empty", "82 00", Reason.TOO_MANY_FRAGMENTS, 0, max_fragments=0),
    *bad_both("126 bytes", "82 7e007e", Reason.FRAME_TOO_BIG, 3, max_frame_size=125),
    *bad_both("126 bytes", "82 7e007e", Reason.MESSAGE_TOO_BIG, 3, max_message_size=125, max_frame_size=None),
    *bad_both("2**63 - 1", "82 7f7fffffffffffffff", Reason.FRAME_TOO_BIG, 9, max_frame_size=2**63 - 2),
    *bad_both(
        "2**63 - 1", "82 7f7fffffffffffffff", Reason.MESSAGE_TOO_BIG, 9, max_frame_size=None, max_message_size=2**63 - 2
    ),
]

FRAGMENTS = [
    good("empty fragments", "client", "0200 0000 8000", Fields(2, fin=0), Fields(0, fin=0), Fields(0)),
    good("ping inside", "client", "020161 890170 800162", Fields(2, b"a", fin=0), Fields(9, b"p"), Fields(0, b"b")),
    good(
        "two messages",
        "client",
        "020161 800162 010163 800164",
        *(Fields(2, b"a", fin=0), Fields(0, b"b"), Fields(1, b"c", fin=0), Fields(0, b"d")),
    ),
    good(
        "two masking keys",
        "server",
        "018337fa213d7f9f4d 8082000000006c6f",
        *(Fields(1, b"Hel", fin=0, mask_key=KEY), Fields(0, b"lo", mask_key=bytes(4))),
    ),
    good("rsv of the first", "client", "420161 800162", Fields(2, b"a", 0, 1), Fields(0, b"b"), allow_rsv=4),
    bad("rsv inside", "client", "420161 c00162", Reason.RESERVED_BITS, 3, Fields(2, b"a", 0, 1), allow_rsv=7),
    bad("continuation first", "client", "0000", Reason.UNEXPECTED_CONTINUATION, 0),
    bad("continuation after", "client", "820161 8000", Reason.UNEXPECTED_CONTINUATION, 3, Fields(2, b"a")),
    *(
        bad(f"{first} inside", "client", f"0200 {first}00", Reason.EXPECTED_CONTINUATION, 2, Fields(2, fin=0))
        for first in ("01", "02", "81", "82")
    ),
    bad("a second over 1", "client", "0200 8000", Reason.TOO_MANY_FRAGMENTS, 2, Fields(2, fin=0), max_fragments=1),
    bad("2 + 3 over 4", "client", "02026161 8003", Reason.MESSAGE_TOO_BIG, 5, Fields(2, b"aa", 0), max_message_size=4),
]

MASKING = [
    bad("unmasked text", "server", "8101", Reason.NOT_MASKED, 1),
    bad("unmasked ping", "server", "8900", Reason.NOT_MASKED, 1),
    bad("masked text", "client", "8181", Reason.MASKED, 1),
    bad("masked ping", "client", "8980", Reason.MASKED, 1),
    bad("masked text", "client", "8181", Reason.MASKED, 1, require_mask=False),
    good("unmasked text", "server", "810161", Fields(1, b"a"), require_mask=False),
    good("masked text", "server", masked("8101", b"a"), Fields(1, b"a", mask_key=KEY), require_mask=False),
]

CLOSE = [
    *good_both("close without a code", "88 00", Fields(8)),
    *good_both("close with a code", "88 02", Fields(8, b"\x03\xe8")),
    *good_both("close with a reason", "88 06", Fields(8, b"\x0f\xa0\xf0\x9f\x91\x8b")),
    *bad_both("close with 1 byte", "88 01", Reason.CLOSE_TOO_SHORT, 1),
    *(
        bad(f"close code {code}", "client", f"88 02 {code:04x}", Reason.CLOSE_CODE, 3)
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535)
    ),
    bad("close reason, bad byte", "client", "88 06 03e8 6180ff61", Reason.INVALID_UTF8, 5),
    bad("close reason, cut short", "client", "88 04 03e8 f09f", Reason.INVALID_UTF8, 5),
]

TEXT = [
    good("4 bytes a character", "client", "81 04 f09f9880", Fields(1, b"\xf0\x9f\x98\x80")),
    good("binary is not text", "client", "82 02 ffc0", Fields(2, b"\xff\xc0")),
    good("ping is not text", "client", "89 01 ff", Fields(9, b"\xff")),
    good("text under rsv", "client", "c1 01 ff", Fields(1, b"\xff", 1, 1), allow_rsv=4),
    bad("text, bad byte", "client", "81 04 61ff6161", Reason.INVALID_UTF8, 3),
    bad("text, bad byte", "server", masked("8103", b"a\xc0a"), Reason.INVALID_UTF8, 7),
    bad("text, cut short", "client", "81 03 61e282", Reason.INVALID_UTF8, 4),
]

VECTORS = [
    *RFC_EXAMPLES,
    *every_length(),
    *every_opcode(),
    *every_reserved_bit(),
    *every_control_frame(),
    *BAD_LENGTHS,
    *OVER_LIMIT,
    *FRAGMENTS,
    *MASKING,
    *CLOSE,
    *TEXT,
]
ACCEPTED = [vector for vector in VECTORS if vector.reason is None]
REFUSED = [vector for vector in VECTORS if vector.reason is not None]


# -- Delivery ---------------------------------------------------------------------------------------------------------


class Decoder(Protocol):
    """What the decoders of both backends offer."""

    @property
    def error(self) -> Any: ...
    @property
    def closed(self) -> bool: ...
    @property
    def buffered(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def frames_received(self) -> int: ...
    @property
    def messages_received(self) -> int: ...
    @property
    def pings_received(self) -> int: ...
    @property
    def pongs_received(self) -> int: ...
    def feed(self, data: Any) -> list[Any]: ...
    def get_buffer(self, hint: Any = -1) -> memoryview: ...
    def buffer_updated(self, nbytes: Any) -> list[Any]: ...


def feed(decoder: Decoder, piece: bytes) -> list[Any]:
    return decoder.feed(piece)


def receive(decoder: Decoder, piece: bytes) -> list[Any]:
    """As `feed`, through the memory that the decoder lends."""
    items = []
    while True:
        lent = decoder.get_buffer()
        size = min(len(lent), len(piece))
        lent[:size] = piece[:size]
        items += decoder.buffer_updated(size)
        piece = piece[size:]
        if not piece:
            return items


Way = Callable[[Decoder, bytes], list[Any]]
WAYS: tuple[Way, ...] = (feed, receive)

HEADER = 14
"""Bytes of the longest header."""


def ways_to_cut(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and in every two pieces; inside a long payload, at some places only."""
    singly = [data[i : i + 1] for i in range(len(data))]
    yield [data]
    if len(data) <= 300:
        yield singly
        borders: Iterable[int] = range(len(data) + 1)
    else:
        yield [*singly[:HEADER], data[HEADER:-HEADER], *singly[-HEADER:]]
        borders = (*range(HEADER + 2), *range(1000, len(data), 9973), len(data) - 1)
    for border in borders:
        yield [data[:border], data[border:]]

"""Compares what Cython modules see of an installed wheel with the pure codec; run by tests/test_packaging.py there."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from typing import Any

from wslowlevel import ProtocolError, _codec, _codec_py

fast: Any = importlib.import_module("fast")
entry_points: Any = importlib.import_module("entry_points")

dice = random.Random(6455)
SIZES = (*range(70), 125, 126, 127, 1000, 65535, 65536, 300_000)
TEXT = "häh €uro 𝄞 " * 20


def check_masking() -> None:
    for size in SIZES:
        data, key, offset = dice.randbytes(size), dice.randbytes(4), dice.randrange(2**40)
        expected = _codec_py.apply_mask(data, key, offset)
        assert entry_points.masked(data, key, offset) == expected
        buffer = bytearray(data)
        entry_points.masked_in_place(buffer, key, offset)
        assert buffer == expected


def expected_header(data: bytes) -> object:
    try:
        header = _codec_py.parse_header(data)
    except ProtocolError:
        return -1
    if header is None:
        return 0
    rsv = header.rsv1 << 2 | header.rsv2 << 1 | header.rsv3
    fields = header.opcode, header.payload_length, header.fin, rsv, header.mask_key, header.length
    return fields, data[: header.length]


def check_headers() -> None:
    lengths = (0, 1, 125, 126, 127, 0xFFFF, 0x10000, 2**63 - 1, 2**63, 2**64 - 1)
    heads = [bytes((first, second)) for first in range(256) for second in (0, 125, 128, 253)]
    for form, width in ((126, 2), (127, 8)):
        for second in (form, 0x80 | form):
            for length in lengths:
                heads.append(bytes((dice.randrange(256), second)) + (length % 256**width).to_bytes(width, "big"))
    outcomes = set()
    for head in heads:
        data = head + dice.randbytes(5)
        for size in range(len(data) + 1):
            found = entry_points.header_of(data[:size])
            assert found == expected_header(data[:size]), data[:size]
            outcomes.add(found if isinstance(found, int) else 1)
    assert outcomes == {-1, 0, 1}


def expected_state(pieces: list[bytes]) -> tuple[int, bool]:
    validator = _codec_py.Utf8Validator()
    try:
        for piece in pieces:
            validator.feed(piece)
    except ProtocolError:
        return validator.position, False
    return validator.position, True


def check_text() -> None:
    text = TEXT.encode()
    wrong = bytearray(text)
    wrong[200] = 0xFF
    for data in (text, bytes(wrong)):
        for cut in range(len(data)):
            pieces = [data[:cut], data[cut:]]
            position, due = entry_points.text_state(pieces)
            assert (position, due is not None) == expected_state(pieces)
            due = entry_points.text_state([text[:cut]])[1]
            assert TEXT.startswith(text[: cut + due].decode())


def stream() -> bytes:
    frames = [(0x1, TEXT.encode(), 1), (0x2, dice.randbytes(300_000), 0), (0x9, b"still?", 1), (0x0, b"", 1)]
    frames += [(0x2, dice.randbytes(size), 1) for size in SIZES]
    return b"".join(_codec_py.encode_frame(op, data, fin=fin, mask_key=dice.randbytes(4)) for op, data, fin in frames)


def feed(decoder: Any, data: bytes, items: list[Any]) -> None:
    items += decoder.feed(data)


def outcome(decode: Callable[[Any, bytes, list[Any]], None], decoder: Any, data: bytes) -> list[str]:
    items: list[Any] = []
    try:
        for start in range(0, len(data), 200_000):
            decode(decoder, data[start : start + 200_000], items)
        decode(decoder, b"\x00", items)  # a violation by itself; the call that meets another one may hand out items
    except ProtocolError as error:
        items.append(error)
    return [repr(item) for item in items]


def check_decoders() -> None:
    for name in ("FrameDecoder", "MessageDecoder", "ChunkDecoder"):
        for data in (good := stream(), good + b"\x81\x01a"):
            compiled, pure = getattr(_codec, name), getattr(_codec_py, name)
            expected = outcome(feed, pure(role="server"), data)
            assert len(expected) > len(SIZES)
            assert outcome(entry_points.decode, compiled(role="server"), data) == expected
            if name != "ChunkDecoder":  # whose chunks are as long as what was received at a time
                assert outcome(entry_points.receive, compiled(role="server"), data) == expected
    try:
        entry_points.decode(_codec_py.MessageDecoder(role="server"), b"", [])
    except TypeError:
        return
    raise AssertionError("a decoder of the pure codec passed for one of the compiled")


def check_the_page() -> None:
    for mask_key in (None, b"mask"):
        for payload in (b"", b"abc", bytes(range(256)) * 300):
            assert fast.payload_of(_codec_py.encode_frame(2, payload, mask_key=mask_key) + b"more") == payload
    for wrong in (b"\x82", b"\x82\x03ab", b"\x82\x7e\x00\x03abc", b"\x82\xff" + b"\xff" * 12):
        try:
            fast.payload_of(wrong)
        except ValueError:
            continue
        raise AssertionError(wrong)
    frames = [_codec_py.encode_frame(1, text.encode(), mask_key=b"mask") for text in ("häh", "b")]
    assert fast.texts_of(b"".join(frames)) == ["häh", "b"]
    try:
        fast.texts_of(b"\x81\x01a")
    except ProtocolError as error:
        assert error.reason.name == "NOT_MASKED"
    else:
        raise AssertionError("an unmasked frame passed")


if __name__ == "__main__":
    check_masking()
    check_headers()
    check_text()
    check_decoders()
    check_the_page()

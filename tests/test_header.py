"""Headers, read and written (RFC 6455 §5.2)."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import pytest

from wslowlevel.errors import ProtocolError, Reason

from .vectors import ACCEPTED, BAD_LENGTHS, KEY, LENGTHS, Vector, patterned

BITS = ("fin", "rsv1", "rsv2", "rsv3")


@pytest.mark.parametrize("vector", [vector for vector in ACCEPTED if len(vector.frames) == 1], ids=str)
def test_parse_the_table(codec: ModuleType, vector: Vector) -> None:
    (fields,) = vector.frames
    opcode, payload, *rest = fields
    header = codec.Header(opcode, len(payload), *rest)
    length = len(vector.data) - len(payload)
    assert (header.length, header.mask) == (length, int(fields.mask_key is not None))
    assert codec.parse_header(vector.data) == header
    assert codec.parse_header(b"before" + vector.data, 6) == header
    for size in range(length):
        assert codec.parse_header(vector.data[:size]) is None
        assert codec.parse_header(b"before" + vector.data[:size], 6) is None


@pytest.mark.parametrize("key", [None, KEY])
def test_every_bit_and_opcode(codec: ModuleType, key: bytes | None) -> None:
    for first in range(256):
        opcode = first & 0xF
        bits = dict(zip(BITS, (first >> 7, first >> 6 & 1, first >> 5 & 1, first >> 4 & 1), strict=True))
        written = codec.encode_header(opcode, 5, **bits, mask_key=key)
        assert written == bytes([first, 5 if key is None else 0x85]) + (key or b"")
        assert codec.parse_header(written) == codec.Header(opcode, 5, **bits, mask_key=key)


LONG_LENGTHS = [*LENGTHS, 256, 65534, 65537, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1]


@pytest.mark.parametrize("length", LONG_LENGTHS)
@pytest.mark.parametrize("key", [None, KEY])
def test_every_form_of_length(codec: ModuleType, length: int, key: bytes | None) -> None:
    written = codec.encode_header(2, length, mask_key=key)
    header = codec.parse_header(written + b"payload")
    assert (header.payload_length, header.mask_key, header.length) == (length, key, len(written))
    assert len(written) == (2 if length < 126 else 4 if length < 65536 else 10) + len(key or b"")


@pytest.mark.parametrize("vector", BAD_LENGTHS, ids=str)
def test_lengths_that_may_not_be(codec: ModuleType, vector: Vector) -> None:
    with pytest.raises(ProtocolError) as caught:
        codec.parse_header(vector.data)
    assert (caught.value.reason, caught.value.close_code) == (vector.reason, 1002)


def test_every_16_bit_length(codec: ModuleType) -> None:
    refused = 0
    for length in range(65536):
        data = b"\x82\x7e" + length.to_bytes(2, "big")
        try:
            assert codec.parse_header(data).payload_length == length
        except ProtocolError as error:
            assert error.reason is Reason.LENGTH_NOT_MINIMAL
            refused += 1
    assert refused == 126


@pytest.mark.parametrize(("offset", "kind"), [(-1, ValueError), (3, ValueError), (2**64, ValueError), (1.0, TypeError)])
def test_wrong_offset(codec: ModuleType, offset: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="offset must be"):
        codec.parse_header(b"\x82\x00", offset)


def test_offset_at_the_end(codec: ModuleType) -> None:
    assert codec.parse_header(b"\x82\x00", 2) is None
    assert codec.parse_header(b"\x82\x00", 1) is None
    assert codec.parse_header(b"") is None


WRONG: list[tuple[str, Any, type[Exception]]] = [
    *((name, value, ValueError) for name, value in itertools.product(BITS, (-1, 2, 2**70))),
    *((name, value, TypeError) for name, value in itertools.product((*BITS, "opcode"), (None, "1", 1.0, b"1"))),
    *(("opcode", value, ValueError) for value in (-1, 16, 2**70)),
    *(("mask_key", value, ValueError) for value in (b"", b"abc", b"abcde")),
    *(("mask_key", value, TypeError) for value in ("abcd", 1, True, [1, 2, 3, 4])),
]


@pytest.mark.parametrize(("name", "value", "kind"), WRONG, ids=repr)
def test_wrong_arguments(codec: ModuleType, name: str, value: object, kind: type[Exception]) -> None:
    text = "masking key" if (name, kind) == ("mask_key", ValueError) else f"{name} must be"
    for arguments, function in (({"payload": b""}, codec.encode_frame), ({"payload_length": 0}, codec.encode_header)):
        with pytest.raises(kind, match=text):
            function(**{"opcode": 2, **arguments, name: value})


@pytest.mark.parametrize(
    ("value", "kind"), [(-1, ValueError), (2**63, ValueError), ("5", TypeError), (None, TypeError)]
)
def test_wrong_payload_length(codec: ModuleType, value: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="payload_length must be"):
        codec.encode_header(2, value)


@pytest.mark.parametrize("payload", ["text", 5, None, [1], memoryview(b"strided")[::2]])
def test_wrong_payload(codec: ModuleType, payload: object) -> None:
    with pytest.raises((TypeError, ValueError), match="payload must be"):
        codec.encode_frame(2, payload)


@pytest.mark.parametrize("length", [*LENGTHS, 511, 512, 513])
def test_a_payload_is_copied_not_changed(codec: ModuleType, length: int) -> None:
    payload = bytearray(patterned(length))
    for key in (None, KEY):
        frame = codec.encode_frame(2, payload, mask_key=key)
        assert payload == patterned(length)
        assert frame == codec.encode_frame(2, memoryview(payload), mask_key=None if key is None else bytearray(key))
    payload.append(0)  # a BufferError while anyone holds it


def test_any_frame_can_be_made(codec: ModuleType) -> None:
    """Nothing is judged: proxies and test tools make frames that a peer would refuse."""
    assert codec.encode_frame(9, bytes(126), fin=0) == b"\x09\x7e\x00\x7e" + bytes(126)
    assert codec.encode_frame(1, b"\xff", rsv3=1) == b"\x91\x01\xff"

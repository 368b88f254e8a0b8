"""How long does it take to read a header, and to write one?

The peers have no door for a header with its extended length alone; they read frames without payload.
"""

from __future__ import annotations

import pytest

from .peers import KEY, Case, cases

LENGTHS = [0, 125, 126, 65536]
"""Of payloads that are announced: a header of 2, 2, 4 and 10 bytes, and a masking key."""


@pytest.mark.parametrize("key", [None, KEY], ids=["unmasked", "masked"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("contender", cases("read header"))
def test_read_header(contender: Case, length: int, key: bytes | None, about, benchmark) -> None:
    if length and not contender.is_ours:
        pytest.skip("reads whole frames only")
    header = expected(length, key)
    about("read header", f"{len(header)} bytes, payload {length:,}", size=len(header))
    function, arguments = contender.build(header)
    result = function(*arguments)
    if contender.is_ours:
        assert (result.opcode, result.payload_length, result.mask_key) == (2, length, key)
    benchmark(function, *arguments)


@pytest.mark.parametrize("key", [None, KEY], ids=["unmasked", "masked"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("contender", cases("write header"))
def test_write_header(contender: Case, length: int, key: bytes | None, about, benchmark) -> None:
    header = expected(length, key)
    about("write header", f"{len(header)} bytes, payload {length:,}", size=len(header))
    function, arguments = contender.build(length, key)
    assert function(*arguments) == header
    benchmark(function, *arguments)


def expected(length: int, key: bytes | None) -> bytes:
    mask = 0x80 if key else 0
    if length < 126:
        return bytes([0x82, mask | length]) + (key or b"")
    if length < 1 << 16:
        return bytes([0x82, mask | 126]) + length.to_bytes(2, "big") + (key or b"")
    return bytes([0x82, mask | 127]) + length.to_bytes(8, "big") + (key or b"")

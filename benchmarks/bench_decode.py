"""How long does it take to decode 64 KiB of masked messages that arrive in one chunk?"""

from __future__ import annotations

from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

CHUNK = 64 * 1024


@pytest.mark.parametrize("opcode", [1, 2], ids=["text", "binary"])
@pytest.mark.parametrize("size", [16, 125, 1024, 16 * 1024])
def test_decode(codec: ModuleType, size: int, opcode: int, benchmark: BenchmarkFixture) -> None:
    payload = b"x" * size
    frame = codec.encode_frame(opcode, payload, mask_key=b"\x37\xfa\x21\x3d")
    count = CHUNK // len(frame)
    benchmark.group = f"decode {count} {'text' if opcode == 1 else 'binary'} messages of {size} bytes"
    chunk = frame * count
    decoder = codec.MessageDecoder(role="server")
    assert [message.payload for message in decoder.feed(chunk)] == [payload] * count
    benchmark(decoder.feed, chunk)

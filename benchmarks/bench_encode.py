"""How long does it take to build a frame, as a server (unmasked) and as a client (masked)?"""

from __future__ import annotations

from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("mask_key", [None, b"\x37\xfa\x21\x3d"], ids=["server", "client"])
@pytest.mark.parametrize("size", [16, 125, 1024, 16 * 1024, 1024 * 1024])
def test_encode(codec: ModuleType, size: int, mask_key: bytes | None, benchmark: BenchmarkFixture) -> None:
    benchmark.group = f"encode {size} bytes, {'masked' if mask_key else 'unmasked'}"
    payload = b"x" * size
    frame = codec.encode_frame(2, payload, mask_key=mask_key)
    (message,) = codec.MessageDecoder(role="server" if mask_key else "client").feed(frame)
    assert message.payload == payload
    benchmark(codec.encode_frame, 2, payload, mask_key=mask_key)

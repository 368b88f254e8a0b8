"""How long does it take to unmask n bytes where they stand?"""

from __future__ import annotations

from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

KEY = b"\x37\xfa\x21\x3d"


@pytest.mark.parametrize("size", [0, 16, 125, 1024, 16 * 1024, 1024 * 1024])
def test_unmask(codec: ModuleType, size: int, benchmark: BenchmarkFixture) -> None:
    benchmark.group = f"unmask {size} bytes in place"
    payload = bytes(i % 251 for i in range(size))
    buffer = bytearray(codec.apply_mask(payload, KEY))
    codec.apply_mask_inplace(buffer, KEY)
    assert buffer == payload
    benchmark(codec.apply_mask_inplace, buffer, KEY)

"""How long does it take to unmask n bytes?"""

from __future__ import annotations

import pytest

from .peers import KEY, Case, cases

SIZES = [0, 16, 125, 1024, 16 * 1024, 1024 * 1024]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("contender", cases("mask"))
def test_mask(contender: Case, size: int, about, benchmark) -> None:
    about("mask", f"{size:,} bytes", size=size)
    payload = bytes(i % 251 for i in range(size))
    key = (KEY * (size // 4 + 1))[:size]
    masked = bytes(a ^ b for a, b in zip(payload, key, strict=True))
    buffer = bytearray(masked)
    function, arguments = contender.build(buffer)
    result = function(*arguments)
    if contender.package:  # the memory copy is here for its time alone
        assert bytes(buffer if result is None else result) == payload
    benchmark(function, *arguments)

"""How long does it take to decode masked messages that arrive in chunks of 64 KiB, or a message larger than that?"""

from __future__ import annotations

import random

import pytest

from .load import masked_frame
from .peers import KEY, Case, cases

CHUNK = 64 * 1024


@pytest.mark.parametrize("opcode", [1, 2], ids=["text", "binary"])
@pytest.mark.parametrize("size", [16, 125, 1024, 16 * 1024, 1024 * 1024])
@pytest.mark.parametrize("contender", cases("decode"))
def test_decode(contender: Case, size: int, opcode: int, about, benchmark) -> None:
    frame_length = len(masked_frame(bytes(size), KEY))
    payloads = [random.Random(n).randbytes(size).translate(PRINTABLE) for n in range(max(CHUNK // frame_length, 1))]
    kind = "text" if opcode == 1 else "binary"
    about("decode", f"{len(payloads):,} {kind} of {size:,} bytes", messages=len(payloads), size=size, kind=kind)
    chunk = b"".join(masked_frame(payload, KEY, opcode) for payload in payloads)
    feed, payload_of = contender.build(len(chunk))
    for _ in range(2):  # what is left over of the first would show in the second
        assert [payload_of(each) for each in feed(chunk)] == payloads
    benchmark(feed, chunk)


PRINTABLE = bytes(32 + n % 95 for n in range(256))
"""Makes any bytes ASCII."""

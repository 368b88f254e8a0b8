"""How long does it take to build a frame, as a server (unmasked) and as a client (masked, by a fresh key)?"""

from __future__ import annotations

from typing import Any

import pytest

from wslowlevel import MessageDecoder

from .peers import Case, cases


@pytest.mark.parametrize("masked", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("size", [16, 125, 1024, 16 * 1024, 1024 * 1024])
@pytest.mark.parametrize("contender", cases("encode"))
def test_encode(contender: Case, size: int, masked: bool, about, benchmark) -> None:
    about("encode", f"{size:,} bytes, {'masked' if masked else 'unmasked'}", size=size, masked=masked)
    payload = bytes(i % 251 for i in range(size))
    encode, arguments = contender.build(payload, masked)
    (message,) = MessageDecoder(role="server" if masked else "client").feed(whole(encode(*arguments)))
    assert message.payload == payload
    benchmark(encode, *arguments)


def whole(frame: Any) -> bytes:
    """Of a frame that may have been written in parts."""
    return b"".join(frame) if isinstance(frame, list) else bytes(frame)

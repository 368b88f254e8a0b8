"""The work that gains are measured with: messages of three sizes"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..codec import encode_frame
from ..wire import READ_SIZE, Opcode

SIZES = {"125 B": 125, "64 KiB": 64 * 1024, "1 MiB": 1024 * 1024}
"""Bytes, by their names in tables."""

KEY = b"mask"

TIMES = {"125 B": 100}
"""How many messages of a size go over one connection, where it is not one."""


def masking_samples(mask: Callable[[bytes], object]) -> dict[str, Callable[[], object]]:
    """Payloads, masked."""
    return {f"mask {name}": partial(mask, bytes(size)) for name, size in SIZES.items()}


def text_samples(check: Callable[[bytes], object]) -> dict[str, Callable[[], object]]:
    """Texts, checked."""
    return {f"UTF-8 {name}": partial(check, ("häh " * size).encode()[:size]) for name, size in SIZES.items()}


def traffic_samples(
    receive: Callable[[list[bytes]], object], send: Callable[[bytes, int], object]
) -> dict[str, Callable[[], object]]:
    """Messages over a connection of the library: reads of up to 64 KiB of a server, payloads that a client sends."""
    found: dict[str, Callable[[], object]] = {}
    for name, size in SIZES.items():
        times = TIMES.get(name, 1)
        many = f"{times} x {name}" if times > 1 else name
        stream = encode_frame(Opcode.BINARY, bytes(size), mask_key=KEY) * times
        reads = [stream[start : start + READ_SIZE] for start in range(0, len(stream), READ_SIZE)]
        found[f"receive {many}"] = partial(receive, reads)
        found[f"send {many}"] = partial(send, bytes(size), times)
    return found

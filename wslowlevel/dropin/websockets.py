"""websockets: whole frames, and its masking where that runs in pure Python

`Frame.parse` and `Frame.serialize` carry every message of its asyncio, threading, trio and sans-I/O layers. A frame
whose header has arrived is parsed here, in one step once all of it is there; one whose header comes in pieces, that
breaks a rule or that does not come to its end goes through the original.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Generator, Sequence
from types import ModuleType
from typing import Any, cast

import websockets.frames
import websockets.utils
from websockets.extensions import Extension
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side
from websockets.streams import StreamReader

from ..codec import BACKEND, apply_mask, encode_frame, fresh_mask_key
from ..wire import FIN, LENGTH, LENGTH_16, MASK, MASK_KEY_LENGTH, OPCODE, RSV
from .sizes import traffic_samples

TESTED = (
    *("12.0", "13.0", "13.0.1", "13.1", "14.0", "14.1", "14.2", "15.0", "15.0.1"),
    *("16.0", "16.1", "16.1.1", "17.0", "17.0.1", "17.1", "17.2", "17.3", "17.4"),
)

_LONG = 1024
"""Bytes from which on our pure-Python masking takes less than its own."""

_VIEWED = 4096
"""Bytes of a payload from which on a view of it takes less than a copy."""

_is_compiled = vars(websockets.frames)["apply_mask"] is not websockets.utils.apply_mask

_mask = websockets.utils.apply_mask
_parse = Frame.__dict__["parse"].__func__
_serialize = Frame.serialize
_token_bytes = secrets.token_bytes

_BITS = {
    first: (Opcode(first & OPCODE), bool(first & FIN), bool(first & 0x40), bool(first & 0x20), bool(first & 0x10))
    for first in range(256)
    if first & OPCODE in list(Opcode)
}
"""(opcode, fin, rsv1, rsv2, rsv3) of each first byte of a frame that has an opcode of the RFC."""

_IN_ORDER = {first for first in _BITS if not first & RSV and first & OPCODE <= Opcode.BINARY}
"""First bytes of frames that break no rule, whatever their length."""


def reason_to_leave() -> str | None:
    return "left as it is: its own masking is compiled" if _is_compiled and BACKEND == "python" else None


def rebinds() -> list[tuple[Any, str, object]]:
    frames: list[tuple[Any, str, object]] = [(Frame, "parse", classmethod(parse)), (Frame, "serialize", serialize)]
    return [*(frames if BACKEND == "cython" else []), *([] if _is_compiled else _masking())]


def _masking() -> list[tuple[Any, str, object]]:
    """Where it is called, and where a module that is imported later looks for it first."""
    speedups = ModuleType("websockets.speedups")
    speedups.__dict__["apply_mask"] = mask_data
    rebinds: list[tuple[Any, str, object]] = [
        (websockets.frames, "apply_mask", mask_data),
        (sys.modules, speedups.__name__, speedups),
    ]
    if "websockets.legacy.framing" in sys.modules:
        rebinds.append((sys.modules["websockets.legacy.framing"], "apply_mask", mask_data))
    return rebinds


def samples() -> dict[str, Callable[[], object]]:
    # One connection each: they are in reference cycles, and memory that waits for the garbage collector costs more here
    # than all the rest.
    server, client = Protocol(Side.SERVER, state=OPEN, max_size=None), Protocol(Side.CLIENT, state=OPEN)

    def receive(reads: list[bytes]) -> None:
        for read in reads:
            server.receive_data(read)
        server.events_received()

    def send(payload: bytes, times: int) -> None:
        for _ in range(times):
            client.send_binary(payload)
            client.data_to_send()

    return traffic_samples(receive, send)


# -- In place of its own ----------------------------------------------------------------------------------------------


def mask_data(data: bytes | bytearray | memoryview, mask: bytes | bytearray) -> bytes:
    """In place of `apply_mask`."""
    if BACKEND == "python" and len(data) < _LONG:
        return _mask(data, mask)
    return apply_mask(bytes(data) if isinstance(data, memoryview) and not data.c_contiguous else data, mask)


def parse(
    cls: type[Frame],
    read_exact: Callable[[int], Generator[None, None, bytes | bytearray]],
    *,
    mask: bool,
    max_size: int | None = None,
    extensions: Sequence[Extension] | None = None,
) -> Generator[None, None, Frame]:
    """In place of `Frame.parse`."""
    reader: Any = getattr(read_exact, "__self__", None)
    found = _find_payload(reader.buffer, mask, max_size) if type(reader) is StreamReader else None
    while found is not None and len(reader.buffer) < found[1] and not reader.eof:
        yield
    if found is None or len(reader.buffer) < found[1]:
        frame = yield from _parse(cls, read_exact, mask=mask, max_size=max_size, extensions=extensions)
        return cast(Frame, frame)
    buffer, (start, end) = reader.buffer, found
    first = buffer[0]
    opcode, fin, rsv1, rsv2, rsv3 = _BITS[first]
    data = _unmasked(buffer, start, end) if mask else buffer[start:end]
    del buffer[:end]
    frame = cls(opcode, data, fin, rsv1, rsv2, rsv3)
    if extensions:
        for extension in reversed(extensions):
            frame = extension.decode(frame, max_size=max_size)
    if extensions or first not in _IN_ORDER:
        frame.check()
    return frame


def _find_payload(buffer: bytearray, mask: bool, max_size: int | None) -> tuple[int, int] | None:
    """Where the payload of a frame begins and will end, if its header is there and would be parsed without an error."""
    if len(buffer) < 2 or buffer[0] not in _BITS or (buffer[1] >= MASK) != mask:
        return None
    length, start = buffer[1] & LENGTH, 2
    if length >= LENGTH_16:
        start = 4 if length == LENGTH_16 else 10
        length = int.from_bytes(buffer[2:start], "big")
    if mask:
        start += MASK_KEY_LENGTH
    if len(buffer) < start or (max_size is not None and length > max_size):
        return None
    return start, start + length


def _unmasked(buffer: bytearray, start: int, end: int) -> bytes:
    mask_key = buffer[start - MASK_KEY_LENGTH : start]
    if end - start < _VIEWED:
        return apply_mask(buffer[start:end], mask_key)
    with memoryview(buffer) as view, view[start:end] as payload:
        return apply_mask(payload, mask_key)


def serialize(self: Frame, *, mask: bool, extensions: Sequence[Extension] | None = None) -> bytes:
    """In place of `Frame.serialize`."""
    is_usual = type(self.data) in (bytes, bytearray) and type(self.opcode) is Opcode
    if not is_usual or secrets.token_bytes is not _token_bytes:  # somebody has said where masking keys come from
        return _serialize(self, mask=mask, extensions=extensions)
    self.check()
    frame = self
    for extension in extensions or ():
        frame = extension.encode(frame)
    return encode_frame(
        frame.opcode,
        frame.data,
        fin=frame.fin,
        rsv1=frame.rsv1,
        rsv2=frame.rsv2,
        rsv3=frame.rsv3,
        mask_key=fresh_mask_key() if mask else None,
    )

"""gevent-websocket: its masking and its UTF-8 validator"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geventwebsocket import websocket

from ..codec import apply_mask_inplace
from ..wire import MASK_KEY_LENGTH
from .sizes import KEY, masking_samples, text_samples
from .wsaccel import Utf8Validator

TESTED = ("0.10.1",)

_mask = websocket.Header.mask_payload


def reason_to_leave() -> str | None:
    return None


def rebinds() -> list[tuple[Any, str, object]]:
    return [
        (websocket.Header, "mask_payload", mask_payload),
        (websocket.Header, "unmask_payload", mask_payload),
        (websocket, "Utf8Validator", Utf8Validator),
    ]


def samples() -> dict[str, Callable[[], object]]:
    def mask(payload: bytes) -> object:
        header = websocket.Header(length=len(payload))
        header.mask = KEY
        return header.mask_payload(payload)

    return {**masking_samples(mask), **text_samples(lambda text: websocket.Utf8Validator().validate(text))}


def mask_payload(self: Any, payload: bytes | bytearray) -> bytearray:
    """In place of `Header.mask_payload`, which masks as many bytes as the header says."""
    is_usual = type(payload) in (bytes, bytearray) and type(self.mask) in (bytes, bytearray)
    if not is_usual or len(payload) != self.length or len(self.mask) != MASK_KEY_LENGTH:
        masked: bytearray = _mask(self, payload)
        return masked
    masked = bytearray(payload)
    apply_mask_inplace(masked, self.mask)
    return masked

"""eventlet: its masking"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..codec import apply_mask
from ..wire import MASK_KEY_LENGTH
from .sizes import KEY, masking_samples

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it tells whoever imports it that it is deprecated: that is for its own users
    from eventlet.websocket import RFC6455WebSocket

TESTED = ("0.41.3",)

_mask = RFC6455WebSocket._apply_mask


def reason_to_leave() -> str | None:
    return None


def rebinds() -> list[tuple[Any, str, object]]:
    return [(RFC6455WebSocket, "_apply_mask", staticmethod(mask_payload))]


def samples() -> dict[str, Callable[[], object]]:
    return masking_samples(lambda payload: RFC6455WebSocket._apply_mask(payload, tuple(KEY)))


def mask_payload(data: bytes, mask: Any, length: int | None = None, offset: int = 0) -> bytes:
    """In place of `RFC6455WebSocket._apply_mask`: the key is a sequence of 4 numbers."""
    is_usual = type(data) in (bytes, bytearray) and type(offset) is int and offset >= 0 and length in (None, len(data))
    key = key_of(mask) if is_usual else None
    if key is None:
        masked: bytes = _mask(data, mask, length, offset)
        return masked
    return apply_mask(data, key, offset)


def key_of(mask: Any) -> bytes | None:
    """The bytes of a masking key of four numbers, None if it is something else."""
    if type(mask) not in (tuple, list) or len(mask) != MASK_KEY_LENGTH:
        return None
    try:
        return bytes(mask)
    except (TypeError, ValueError):
        return None

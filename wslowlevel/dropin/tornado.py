"""tornado: masking, where its own is not compiled"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tornado.util
import tornado.web
import tornado.websocket

from ..codec import apply_mask
from ..wire import MASK_KEY_LENGTH
from .sizes import KEY, masking_samples

TESTED = ("6.4.2", "6.5.2", "6.5.10", "6.6.1")

_mask = tornado.util._websocket_mask_python
_is_compiled = tornado.util._websocket_mask is not _mask


def reason_to_leave() -> str | None:
    return "left as it is: its own masking is compiled" if _is_compiled else None


def rebinds() -> list[tuple[Any, str, object]]:
    modules = (tornado.util, tornado.web, tornado.websocket)
    return [(module, "_websocket_mask", mask_payload) for module in modules]


def samples() -> dict[str, Callable[[], object]]:
    return masking_samples(lambda payload: tornado.websocket._websocket_mask(KEY, payload))


def mask_payload(mask: bytes, data: bytes) -> bytes:
    """In place of `_websocket_mask`."""
    if type(data) in (bytes, bytearray) and type(mask) is bytes and len(mask) == MASK_KEY_LENGTH:
        return apply_mask(data, mask)
    return _mask(mask, data)

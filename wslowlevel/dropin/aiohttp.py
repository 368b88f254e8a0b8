"""aiohttp: masking, where its own is not compiled"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp._websocket import helpers, reader_py, writer

from ..codec import BACKEND, apply_mask_inplace
from ..wire import MASK_KEY_LENGTH
from .sizes import KEY, masking_samples

TESTED = ("3.12.15", "3.13.2", "3.14.5")

_mask = helpers._websocket_mask_python


def reason_to_leave() -> str | None:
    if helpers.websocket_mask is not _mask:
        return "left as it is: its own masking is compiled"
    return None if BACKEND == "cython" else "left as it is: in pure Python its own masking is as fast"


def rebinds() -> list[tuple[Any, str, object]]:
    return [(module, "websocket_mask", mask_payload) for module in (reader_py, writer)]


def samples() -> dict[str, Callable[[], object]]:
    return masking_samples(lambda payload: writer.websocket_mask(KEY, bytearray(payload)))


def mask_payload(mask: bytes, data: bytearray) -> None:
    """In place of `websocket_mask`: it changes the data."""
    if type(data) is bytearray and type(mask) is bytes and len(mask) == MASK_KEY_LENGTH:
        apply_mask_inplace(data, mask)
    else:
        _mask(mask, data)

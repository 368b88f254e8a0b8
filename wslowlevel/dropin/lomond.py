"""lomond: its masking and its UTF-8 validator"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lomond import frame, frame_parser, message

from ..codec import BACKEND, apply_mask_inplace
from ..wire import MASK_KEY_LENGTH
from .sizes import KEY, masking_samples, text_samples
from .wsaccel import Utf8Validator

TESTED = ("0.3.3", "0.3.4")

_mask = frame.mask_payload


def reason_to_leave() -> str | None:
    return None


def rebinds() -> list[tuple[Any, str, object]]:
    # In pure Python its own masking is as fast.
    masking: list[tuple[Any, str, object]] = [(frame, "mask_payload", mask_payload)] if BACKEND == "cython" else []
    return [
        *masking,
        (frame_parser, "Utf8Validator", Utf8Validator),
        (message, "Utf8Validator", Utf8Validator),
    ]


def samples() -> dict[str, Callable[[], object]]:
    return {
        **masking_samples(lambda payload: frame.mask_payload(KEY, bytearray(payload))),
        **text_samples(lambda text: frame_parser.Utf8Validator().validate(text)),
    }


def mask_payload(masking_key: bytes, data: bytearray) -> None:
    """In place of `mask_payload`: it changes the data."""
    if type(data) is bytearray and type(masking_key) in (bytes, bytearray) and len(masking_key) == MASK_KEY_LENGTH:
        apply_mask_inplace(data, masking_key)
    else:
        _mask(masking_key, data)

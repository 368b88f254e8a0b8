"""ws4py: its masking and its UTF-8 validator"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ws4py import framing, streaming

from ..codec import apply_mask_inplace
from ..wire import MASK_KEY_LENGTH
from . import wsaccel
from .sizes import KEY, masking_samples, text_samples

if TYPE_CHECKING:
    from typing_extensions import Buffer

TESTED = ("0.6.0",)

_mask = framing.Frame.mask


def reason_to_leave() -> str | None:
    return None


def rebinds() -> list[tuple[Any, str, object]]:
    return [
        (framing.Frame, "mask", mask_payload),
        (framing.Frame, "unmask", mask_payload),
        (streaming, "Utf8Validator", Utf8Validator),
    ]


def samples() -> dict[str, Callable[[], object]]:
    frame = framing.Frame(masking_key=KEY)
    return {
        **masking_samples(lambda payload: framing.Frame.mask(frame, payload)),
        **text_samples(lambda text: streaming.Utf8Validator().validate(text)),
    }


def mask_payload(self: Any, data: bytes | bytearray) -> bytearray:
    """In place of `Frame.mask`."""
    key = self.masking_key
    if type(data) not in (bytes, bytearray) or type(key) not in (bytes, bytearray) or len(key) != MASK_KEY_LENGTH:
        masked: bytearray = _mask(self, data)
        return masked
    masked = bytearray(data)
    apply_mask_inplace(masked, key)
    return masked


class Utf8Validator(wsaccel.Utf8Validator):
    """In place of its own, which counts up to the last byte of a good piece, and not past it."""

    __slots__ = ("_total",)

    def __init__(self) -> None:
        super().__init__()
        self._total = 0

    def reset(self) -> None:
        super().reset()
        self._total = 0

    def validate(self, ba: Buffer) -> tuple[bool, bool, int, int]:
        is_good, is_complete, count, _ = super().validate(ba)
        if is_good and count:
            count -= 1
        self._total += count
        return is_good, is_complete, count, self._total

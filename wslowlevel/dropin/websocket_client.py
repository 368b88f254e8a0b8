"""websocket-client: its masking and its check of texts"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from websocket import _abnf, _utils

from ..codec import BACKEND, Utf8Validator, apply_mask
from ..errors import ProtocolError
from ..wire import MASK_KEY_LENGTH
from .sizes import KEY, masking_samples, text_samples

TESTED = ("1.7.0", "1.8.0", "1.9.0", "1.9.2")

_mask = _abnf.ABNF.mask
_validate = _utils._validate_utf8


def reason_to_leave() -> str | None:
    return None


def rebinds() -> list[tuple[Any, str, object]]:
    # In pure Python its own masking is as fast for short payloads.
    masking: list[tuple[Any, str, object]] = [(_abnf.ABNF, "mask", staticmethod(mask_payload))]
    return [*(masking if BACKEND == "cython" else []), (_utils, "_validate_utf8", is_good_so_far)]


def samples() -> dict[str, Callable[[], object]]:
    return {
        **masking_samples(lambda payload: _abnf.ABNF.mask(KEY, payload)),
        **text_samples(_utils.validate_utf8),
    }


def mask_payload(mask_key: str | bytes, data: str | bytes | None) -> bytes:
    """In place of `ABNF.mask`."""
    if type(data) is bytes and type(mask_key) is bytes and len(mask_key) == MASK_KEY_LENGTH:
        return apply_mask(data, mask_key)
    return _mask(mask_key, cast(bytes, data))


def is_good_so_far(utfbytes: str | bytes) -> bool:
    """In place of `_validate_utf8`: as there, a text may end inside a character."""
    if type(utfbytes) is not bytes:
        return _validate(utfbytes)
    try:
        Utf8Validator().feed(utfbytes)
    except ProtocolError:
        return False
    return True

"""The names of wsaccel, which libraries look for when they are imported: maskers and a UTF-8 validator

Installed, they stand where the package would, unless it is there itself.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..codec import Utf8Validator as Validator
from ..codec import apply_mask
from ..errors import ProtocolError, wrong_key_length
from ..wire import MASK_KEY_LENGTH

if TYPE_CHECKING:
    from typing_extensions import Buffer

TESTED = ("0.6.7",)
"""The version whose behaviour this is."""


def reason_to_leave() -> str | None:
    ours = isinstance(sys.modules.get("wsaccel"), _Stand)
    if not ours and ("wsaccel" in sys.modules or importlib.util.find_spec("wsaccel") is not None):
        return "left as it is: the package is there"
    return None


def rebinds() -> list[tuple[Any, str, object]]:
    xormask = _module("wsaccel.xormask", XorMaskerSimple, XorMaskerNull, createXorMasker)
    utf8validator = _module("wsaccel.utf8validator", Utf8Validator)
    package = _Stand("wsaccel", __doc__)
    package.__dict__.update(xormask=xormask, utf8validator=utf8validator, __path__=[])
    return [(sys.modules, module.__name__, module) for module in (package, xormask, utf8validator)]


class _Stand(ModuleType):
    """Stands in for the package."""


def _module(name: str, *contents: Any) -> ModuleType:
    module = ModuleType(name, __doc__)
    module.__dict__.update({each.__name__: each for each in contents})
    return module


def samples() -> dict[str, Callable[[], object]]:
    return {}


# -- Its names --------------------------------------------------------------------------------------------------------


class XorMaskerSimple:
    """Masks, or unmasks, a payload that comes in pieces (RFC 6455 §5.3).

    Args:
        mask: the masking key, 4 bytes in any buffer.

    Raises:
        TypeError, ValueError: not 4 bytes.
    """

    __slots__ = ("_key", "_pointer")

    def __init__(self, mask: Buffer | None) -> None:
        self._key = b"" if mask is None else bytes(memoryview(mask))
        if len(self._key) != MASK_KEY_LENGTH:
            raise wrong_key_length(len(self._key))
        self._pointer = 0

    def pointer(self) -> int:
        """Bytes that it has masked."""
        return self._pointer

    def reset(self) -> None:
        """Begin again, with the first byte of the key."""
        self._pointer = 0

    def process(self, data: Buffer | None) -> bytes:
        """Mask the next piece, in any buffer of single bytes -> new bytes."""
        masked = b"" if data is None else apply_mask(of_bytes(data), self._key, self._pointer)
        self._pointer += len(masked)
        return masked


class XorMaskerNull:
    """Hands out what it is given, and counts it."""

    __slots__ = ("_pointer",)

    def __init__(self, mask: object = None) -> None:
        self._pointer = 0

    def pointer(self) -> int:
        """Bytes that it was given."""
        return self._pointer

    def reset(self) -> None:
        """Count from 0 again."""
        self._pointer = 0

    def process(self, data: Any) -> Any:
        self._pointer += len(data)
        return data


def createXorMasker(mask: Buffer | None, len: int | None = None) -> XorMaskerSimple:  # noqa: A002, ARG001, N802
    """A masker with this key, whatever the length of the payload."""
    return XorMaskerSimple(mask)


class Utf8Validator:
    """Checks text that comes in pieces (RFC 6455 §8.1)."""

    __slots__ = ("_validator",)

    def __init__(self) -> None:
        self._validator = Validator()

    def reset(self) -> None:
        """Start over with a new text."""
        self._validator.reset()

    def validate(self, ba: Buffer) -> tuple[bool, bool, int, int]:
        """Check the next piece, in any buffer of single bytes.

        Returns:
            (whether the text is good so far, whether it ends at the end of a character, and how many bytes are good:
            of this piece, and of the text). Once it is bad, it stays so until `reset`.
        """
        validator, data = self._validator, of_bytes(ba)
        before = validator.position
        try:
            validator.feed(data)
        except ProtocolError:
            is_good = not data  # of an empty piece nothing is bad, whatever came before
            return is_good, False, validator.position - before, validator.position
        return True, validator.complete, validator.position - before, validator.position


def of_bytes(data: Buffer) -> bytes | bytearray | memoryview:
    """A C-contiguous buffer of the bytes of one that may have gaps.

    Raises:
        TypeError, ValueError: no buffer, or one of items that are no single bytes.
    """
    if type(data) is bytes or type(data) is bytearray:
        return data
    view = memoryview(data)
    if view.itemsize != 1:
        raise ValueError(f"data must be a buffer of single bytes, not of items of {view.itemsize}")
    return view if view.c_contiguous else view.tobytes()

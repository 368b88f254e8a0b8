"""Pick the code that runs once per message, from the same backend as the codec.

See :mod:`wslowlevel.codec` for how the backend is chosen, and for what a failed import means.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from ..codec import BACKEND, CHOICE, reject, warn_unless_missing


def _load() -> ModuleType:
    if BACKEND == "cython":
        try:
            return _import_compiled()
        except Exception as error:  # noqa: BLE001 - Cython raises ValueError or TypeError for modules that do not fit
            if CHOICE == "cython":
                reject(error, f"backend cython is not available: {error}")
            warn_unless_missing(f"{__package__}._stream", error)
    from . import _stream_py  # noqa: PLC0415 - only if it is needed

    return _stream_py


def _import_compiled() -> ModuleType:
    # This import comes first because its error names the missing module; that of `from . import` does not.
    from ._stream import Stream  # noqa: F401, PLC0415, I001 - may be missing
    from . import _stream  # noqa: PLC0415

    return _stream


_backend = _load()

if TYPE_CHECKING:
    from ._stream import Items, Sent, Stream, Wakeup
else:
    Items = _backend.Items
    Sent = _backend.Sent
    Stream = _backend.Stream
    Wakeup = _backend.Wakeup

__all__ = ["Items", "Sent", "Stream", "Wakeup"]

"""Picks what is done once a message: compiled, or in pure Python, as the codec is."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from ..codec import BACKEND, CHOICE


def _load() -> ModuleType:
    if BACKEND == "cython":
        try:
            return importlib.import_module("._stream", __package__)
        except ImportError:
            if CHOICE == "cython":
                raise
    return importlib.import_module("._stream_py", __package__)


_backend = _load()

if TYPE_CHECKING:
    from ._stream import Items, Sent, Stream, Wakeup
else:
    Items = _backend.Items
    Sent = _backend.Sent
    Stream = _backend.Stream
    Wakeup = _backend.Wakeup

__all__ = ["Items", "Sent", "Stream", "Wakeup"]

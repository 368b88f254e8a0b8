"""Picks the codec: the compiled backend where it is there, the pure-Python one elsewhere.

The environment variable WSLOWLEVEL_BACKEND decides, once, when this module is imported:

    auto    (default) compiled, or pure Python where the compiled module cannot be imported; BACKEND says which
    cython  compiled, or the ImportError that says why not
    python  pure Python
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING

BACKENDS = ("auto", "cython", "python")


def _load(choice: str) -> tuple[str, ModuleType]:
    if choice not in BACKENDS:
        raise ValueError(f"WSLOWLEVEL_BACKEND must be one of {', '.join(BACKENDS)}, not {choice!r}")
    if choice != "python":
        try:
            return "cython", importlib.import_module("._codec", __package__)
        except ImportError:
            if choice == "cython":
                raise
    return "python", importlib.import_module("._codec_py", __package__)


CHOICE = os.environ.get("WSLOWLEVEL_BACKEND", "auto")
BACKEND, _backend = _load(CHOICE)

if TYPE_CHECKING:
    from ._codec import (
        Chunk,
        ChunkDecoder,
        Endpoint,
        Frame,
        FrameDecoder,
        Header,
        Message,
        MessageDecoder,
        Utf8Validator,
        apply_mask,
        apply_mask_inplace,
        encode_frame,
        encode_header,
        fresh_mask_key,
        kernel,
        parse_header,
        prepare_websocket_frame,
    )
else:
    Chunk = _backend.Chunk
    ChunkDecoder = _backend.ChunkDecoder
    Endpoint = _backend.Endpoint
    Frame = _backend.Frame
    FrameDecoder = _backend.FrameDecoder
    Header = _backend.Header
    Message = _backend.Message
    MessageDecoder = _backend.MessageDecoder
    Utf8Validator = _backend.Utf8Validator
    apply_mask = _backend.apply_mask
    apply_mask_inplace = _backend.apply_mask_inplace
    encode_frame = _backend.encode_frame
    encode_header = _backend.encode_header
    fresh_mask_key = _backend.fresh_mask_key
    kernel = _backend.kernel
    parse_header = _backend.parse_header
    prepare_websocket_frame = _backend.prepare_websocket_frame

__all__ = [
    "BACKEND",
    "CHOICE",
    "Chunk",
    "ChunkDecoder",
    "Endpoint",
    "Frame",
    "FrameDecoder",
    "Header",
    "Message",
    "MessageDecoder",
    "Utf8Validator",
    "apply_mask",
    "apply_mask_inplace",
    "encode_frame",
    "encode_header",
    "fresh_mask_key",
    "kernel",
    "parse_header",
    "prepare_websocket_frame",
]

"""Pick the codec backend: the compiled one if it is built, otherwise the pure-Python one.

The environment variable WSLOWLEVEL_BACKEND decides, once, when this module is imported:

    auto    (default) compiled, falling back to pure Python; BACKEND is the name of the one in use
    cython  compiled; raises the ImportError if the compiled module cannot be imported
    python  pure Python

With auto, a compiled module that was not built is no warning: pure Python is then the only backend. A compiled module
that is present but cannot be imported, for example because it was built for another C library, is reported as a
RuntimeWarning with the reason, because the program would otherwise be slow without an explanation. In a subinterpreter,
where compiled modules cannot be loaded a second time, pure Python is expected, and there is no warning.

Both backends are imported by import statements, never by name, so that PyInstaller, Nuitka and other tools that collect
a program's modules find them.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

BACKENDS = ("auto", "cython", "python")


def reject(error: Exception, text: str) -> NoReturn:
    """Raise the error; on the command line, print the text and exit with status 2 instead.

    `python -m wslowlevel` imports this package before any code of the command line runs, so that the command line
    cannot catch the error itself.
    """
    if _is_command_line():
        sys.stderr.write(f"wslowlevel: {text}\n")
        raise SystemExit(2)
    raise error


def _is_command_line() -> bool:
    """Return whether the process is `python -m wslowlevel` or the console script."""
    arguments = getattr(sys, "argv", [])  # an embedded interpreter may have none
    if arguments[:1] == ["-m"]:  # set until runpy has found the module, whose name precedes the other arguments
        return sys.orig_argv[-len(arguments)].removeprefix("-m") in (__package__, f"{__package__}.__main__")
    return bool(arguments) and Path(arguments[0]).stem == __package__


def warn_unless_missing(module: str, error: Exception) -> None:
    """Warn that a compiled module cannot be imported, unless it was not built or this is a subinterpreter."""
    is_missing = isinstance(error, ModuleNotFoundError) and error.name == module
    # CPython: "does not support loading in subinterpreters"; Cython: "Interpreter change detected"
    is_subinterpreter = isinstance(error, ImportError) and "interpreter" in str(error).lower()
    if not (is_missing or is_subinterpreter):
        warnings.warn(
            f"{module} cannot be imported, so the slower pure-Python code is used: {type(error).__name__}: {error} "
            "(reinstall wslowlevel for this Python, or set WSLOWLEVEL_BACKEND=python)",
            RuntimeWarning,
            stacklevel=2,
        )


def _load(choice: str) -> tuple[str, ModuleType]:
    if choice not in BACKENDS:
        text = f"WSLOWLEVEL_BACKEND must be one of {', '.join(BACKENDS)}, not {choice!r}"
        reject(ValueError(text), text)
    if choice != "python":
        try:
            return "cython", import_compiled()
        except Exception as error:  # noqa: BLE001 - Cython raises ValueError or TypeError for modules that do not fit
            if choice == "cython":
                reject(error, f"backend cython is not available: {error}")
            warn_unless_missing(f"{__package__}._codec", error)
    from . import _codec_py  # noqa: PLC0415 - only if it is needed

    return "python", _codec_py


def import_compiled() -> ModuleType:
    """Import the compiled codec, whichever backend is in use."""
    # This import comes first because its error names the missing module; that of `from . import` does not.
    from ._codec import kernel  # noqa: F401, PLC0415, I001 - may be missing
    from . import _codec  # noqa: PLC0415

    return _codec


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

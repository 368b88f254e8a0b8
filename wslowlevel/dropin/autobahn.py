"""autobahn: maskers and its UTF-8 validator, where its own are not compiled"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.websocket import protocol

from .sizes import KEY, masking_samples, text_samples
from .wsaccel import Utf8Validator, XorMaskerSimple

TESTED = ("24.4.2", "26.10.2")

_is_compiled = "nvx" in protocol.create_xor_masker.__module__


def reason_to_leave() -> str | None:
    return "left as it is: its own masking is compiled" if _is_compiled else None


def rebinds() -> list[tuple[Any, str, object]]:
    return [(protocol, "create_xor_masker", create_masker), (protocol, "Utf8Validator", Utf8Validator)]


def samples() -> dict[str, Callable[[], object]]:
    return {
        **masking_samples(lambda payload: protocol.create_xor_masker(KEY, len(payload)).process(payload)),
        **text_samples(lambda text: protocol.Utf8Validator().validate(text)),
    }


def create_masker(mask: bytes, length: int | None = None) -> XorMaskerSimple:  # noqa: ARG001
    """In place of `create_xor_masker`."""
    return XorMaskerSimple(mask)

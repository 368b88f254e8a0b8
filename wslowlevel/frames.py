"""payload -> the bytes of a frame, and what stands in a Close frame  (RFC 6455 §5.2, §5.5.1)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import errors
from .codec import Utf8Validator, fresh_mask_key, prepare_websocket_frame
from .wire import (
    CLOSE_CODE_LENGTH,
    MAX_CLOSE_REASON_LENGTH,
    MAX_CONTROL_LENGTH,
    CloseCode,
    Opcode,
    is_close_code,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "check_close_code",
    "fresh_mask_key",
    "parse_close_frame_payload",
    "prepare_close_frame_payload",
    "prepare_websocket_frame",
]


def prepare_close_frame_payload(code: int, reason: str = "", *, extension_data: Buffer = b"") -> bytes:
    """Make the payload of a Close frame (RFC 6455 §5.5.1).

    Args:
        code: 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 §7.4).
        reason: why, for people; encoded as UTF-8.
        extension_data: bytes that an extension puts behind the reason.

    Returns:
        2 to 125 bytes.

    Raises:
        TypeError, ValueError: another code, or more than 123 bytes of reason and extension data.
    """
    check_close_code(code)
    if not isinstance(reason, str):
        raise TypeError(f"reason must be str, not {type(reason).__name__}")
    try:
        encoded = reason.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"reason cannot be encoded as UTF-8: {error}") from None
    try:
        rest = encoded + memoryview(extension_data).tobytes()
    except TypeError:
        raise errors.not_bytes_like("extension_data", extension_data) from None
    if len(rest) > MAX_CLOSE_REASON_LENGTH:
        raise ValueError(
            f"reason and extension_data have {len(rest)} bytes: {MAX_CLOSE_REASON_LENGTH} are allowed (RFC 6455 §5.5)"
        )
    return code.to_bytes(CLOSE_CODE_LENGTH, "big") + rest


def parse_close_frame_payload(payload: Buffer) -> tuple[int, str]:
    """Read the payload of a Close frame (RFC 6455 §5.5.1).

    Args:
        payload: any buffer; not changed.

    Returns:
        (code, reason); (1005, "") for an empty payload (RFC 6455 §7.1.5).

    Raises:
        ProtocolError: a payload that a Close frame may not have.
        TypeError: not a buffer.
    """
    try:
        data = memoryview(payload).tobytes()
    except TypeError:
        raise errors.not_bytes_like("payload", payload) from None
    if not data:
        return CloseCode.NO_STATUS_RECEIVED, ""
    if len(data) < CLOSE_CODE_LENGTH:
        raise errors.close_too_short()
    if len(data) > MAX_CONTROL_LENGTH:
        raise errors.control_too_long(Opcode.CLOSE)
    code = int.from_bytes(data[:CLOSE_CODE_LENGTH], "big")
    if not is_close_code(code):
        raise errors.close_code(code)
    _check_utf8(data[CLOSE_CODE_LENGTH:])
    return code, data[CLOSE_CODE_LENGTH:].decode()


def check_close_code(code: object) -> None:
    """Raise TypeError or ValueError unless a Close frame may carry this code (RFC 6455 §7.4)."""
    if not isinstance(code, int):
        raise errors.not_an_integer("code", code)
    if not is_close_code(code):
        raise errors.close_code_to_send(code)


def _check_utf8(data: Buffer) -> None:
    validator = Utf8Validator()
    validator.feed(data)
    validator.finish()

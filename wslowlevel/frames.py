"""payload -> the bytes of a frame, and what stands in a Close frame  (RFC 6455 §5.2, §5.5.1)"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from . import errors
from .codec import Utf8Validator, encode_frame
from .wire import (
    CLOSE_CODE_LENGTH,
    CONTROL,
    MASK_KEY_LENGTH,
    MAX_CLOSE_REASON_LENGTH,
    MAX_CONTROL_LENGTH,
    CloseCode,
    Opcode,
    is_close_code,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer


def prepare_websocket_frame(
    payload: Buffer,
    *,
    is_utf8: bool = False,
    opcode: int | None = None,
    fin: int = 1,
    rsv1: int = 0,
    rsv2: int = 0,
    rsv3: int = 0,
    mask_key: Buffer | Literal[True] | None = None,
) -> bytes:
    """Make a frame that is ready to be sent, any number of times (RFC 6455 §5.2).

    Args:
        payload: any C-contiguous buffer; copied, not changed. A `str` must be encoded first.
        is_utf8: whether the payload is text, opcode 1; binary, opcode 2, otherwise.
        opcode: another opcode, 0 to 15, instead.
        fin: 0 for a fragment that others follow.
        rsv1, rsv2, rsv3: the bits of extensions, 0 or 1.
        mask_key: None, as a server sends; True, as a client must send: a fresh, unpredictable key; or the 4 bytes of
            a key.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, or a frame that the peer would have to refuse: text that
            is not UTF-8, a control frame that is fragmented or over 125 bytes, a Close frame with a code that may not
            be sent. What stands behind the code is not judged: an extension may put any bytes there.
            (:func:`wslowlevel.codec.encode_frame` makes any frame.)
    """
    if opcode is None:
        opcode = Opcode.TEXT if is_utf8 else Opcode.BINARY
    frame = encode_frame(
        opcode,
        payload,
        fin=fin,
        rsv1=rsv1,
        rsv2=rsv2,
        rsv3=rsv3,
        mask_key=fresh_mask_key() if mask_key is True else mask_key,
    )
    if opcode & CONTROL:
        _check_control(opcode, payload, fin)
    elif opcode == Opcode.TEXT and fin and not (rsv1 or rsv2 or rsv3):
        _check_text(payload)
    return frame


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
        raise ValueError(f"code must be one of {errors.close_codes()}, not {code} (RFC 6455 §7.4)")


def _check_control(opcode: int, payload: Buffer, fin: int) -> None:
    data = memoryview(payload).tobytes()
    if not fin:
        raise ValueError(f"fin must be 1 for a control frame, opcode 0x{opcode:X} (RFC 6455 §5.5)")
    if len(data) > MAX_CONTROL_LENGTH:
        raise ValueError(
            f"payload of a control frame has {len(data)} bytes: {MAX_CONTROL_LENGTH} are allowed (RFC 6455 §5.5)"
        )
    if opcode == Opcode.CLOSE and data:
        if len(data) < CLOSE_CODE_LENGTH:
            raise ValueError("payload of a Close frame has 1 byte: none, or a code of 2 bytes first (RFC 6455 §5.5.1)")
        check_close_code(int.from_bytes(data[:CLOSE_CODE_LENGTH], "big"))


def _check_text(payload: Buffer) -> None:
    try:
        _check_utf8(payload)
    except errors.ProtocolError as error:
        raise ValueError(f"payload of a text frame: {error}") from None


def _check_utf8(data: Buffer) -> None:
    validator = Utf8Validator()
    validator.feed(data)
    validator.finish()


# -- Masking keys (RFC 6455 §5.3: "derived from a strong source of entropy") ------------------------------------------


class _MaskKeys:
    """Keys from os.urandom, a block at a time: one system call for many frames."""

    BLOCK = 1024 * MASK_KEY_LENGTH

    def __init__(self) -> None:
        self.drop()

    def drop(self) -> None:
        self._unused: Iterator[tuple[bytes]] = iter(())

    def fresh(self) -> bytes:
        for (key,) in self._unused:
            return key
        self._unused = struct.iter_unpack(f"{MASK_KEY_LENGTH}s", os.urandom(self.BLOCK))
        return self.fresh()


_mask_keys = _MaskKeys()
fresh_mask_key = _mask_keys.fresh

if hasattr(os, "register_at_fork"):
    # A forked child must not send the keys that its parent goes on to send.
    os.register_at_fork(after_in_child=_mask_keys.drop)

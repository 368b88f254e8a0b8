"""The numbers of RFC 6455, each written once.

The compiled codec takes most of them from here when it is imported; the few that it needs as C constants are compared
with this file by a test.
"""

from __future__ import annotations

import enum

# -- The opening handshake (RFC 6455 §1.3, §4.1) ----------------------------------------------------------------------

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = 13
KEY_LENGTH = 16
"""Bytes of a Sec-WebSocket-Key once its base64 is decoded."""


# -- The frame header (RFC 6455 §5.2) ---------------------------------------------------------------------------------

FIN = 0x80
RSV = 0x70
OPCODE = 0x0F
"""First byte: FIN, three reserved bits, opcode."""

RSV_SHIFT = 4
"""The reserved bits as one number from 0 to 7 are ``(first_byte & RSV) >> RSV_SHIFT``."""

MASK = 0x80
LENGTH = 0x7F
"""Second byte: mask bit, 7-bit payload length."""

LENGTH_16 = 126
LENGTH_64 = 127
"""The 7-bit lengths that announce 2 and 8 further bytes of length."""

MAX_LENGTH_7 = 125
MAX_LENGTH_16 = 0xFFFF
MAX_LENGTH_64 = 0x7FFF_FFFF_FFFF_FFFF
"""The largest payload of each form; the 64-bit form's most significant bit must be 0."""

MASK_KEY_LENGTH = 4
MIN_HEADER_LENGTH = 2
MAX_HEADER_LENGTH = 14


class Opcode(enum.IntEnum):
    """What a frame is (RFC 6455 §11.8). 0x3-0x7 are reserved for data frames, 0xB-0xF for control frames."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


CONTROL = 0x8
"""The bit of an opcode that makes a frame a control frame (RFC 6455 §5.5)."""

MAX_CONTROL_LENGTH = 125
"""Bytes of payload that a control frame may have (RFC 6455 §5.5)."""


class Rsv(enum.IntFlag):
    """The reserved bits as they stand in a header, for ``allow_rsv`` (RFC 6455 §5.2)."""

    RSV1 = 0x4
    RSV2 = 0x2
    RSV3 = 0x1


# -- Closing (RFC 6455 §5.5.1, §7.4) ----------------------------------------------------------------------------------


class CloseCode(enum.IntEnum):
    """Why a connection was closed (RFC 6455 §7.4.1 and the registry of §11.7).

    ``NO_STATUS_RECEIVED``, ``ABNORMAL_CLOSURE`` and ``TLS_HANDSHAKE`` say what happened to whoever asks locally; they
    never stand in a frame.
    """

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


CLOSE_CODE_RANGES = ((1000, 1003), (1007, 1014), (3000, 4999))
"""First and last code of each range that may stand in a Close frame, in either direction (RFC 6455 §7.4)."""

CLOSE_CODE_LENGTH = 2
MAX_CLOSE_REASON_LENGTH = MAX_CONTROL_LENGTH - CLOSE_CODE_LENGTH


def is_close_code(code: int) -> bool:
    """Tell whether a Close frame may carry this code (RFC 6455 §7.4)."""
    return any(first <= code <= last for first, last in CLOSE_CODE_RANGES)


# -- Limits of this implementation (RFC 6455 §10.4 asks for some) -----------------------------------------------------

DEFAULT_MAX_SIZE = 16 * 1024 * 1024
"""Bytes of one message (MessageDecoder) or one frame (FrameDecoder)."""

DEFAULT_MAX_FRAGMENTS = 16_384
"""Frames of one message, empty ones included."""

READ_SIZE = 64 * 1024
"""Bytes that ``get_buffer`` offers while headers and small payloads arrive."""

MAX_READ_SIZE = 256 * 1024
"""Bytes that ``get_buffer`` of the compiled codec offers at most, inside a large payload and while many messages come
at once: so many are unmasked while in cache. In pure Python they would have to be zeroed for each read first."""

MANY_MESSAGES = 64
"""Messages of one read from which on the next one is not made larger."""

JOIN_LIMIT = 16 * 1024
"""Bytes from which on a frame is not joined with others for a write, nor a payload with its header: the copy would cost
more than it saves."""

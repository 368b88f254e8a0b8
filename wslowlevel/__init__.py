"""Low-level WebSocket (RFC 6455) for Python."""

from __future__ import annotations

from .aio.factories import get_messages_factory, send_factory, send_handshake
from .aio.server import serve
from .aio.socket import Socket
from .aio.streams import read_request
from .codec import (
    BACKEND,
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
    parse_header,
)
from .errors import ConnectionLost, InvalidHandshake, PayloadTooBig, ProtocolError, Reason, WebSocketError
from .frames import parse_close_frame_payload, prepare_close_frame_payload, prepare_websocket_frame
from .handshake import choose_subprotocol, parse_extensions
from .http1 import Headers, Request, Response
from .wire import CloseCode, Opcode, Rsv

__version__ = "0.1.0"

__all__ = [
    "BACKEND",
    "CloseCode",
    "ConnectionLost",
    "Frame",
    "FrameDecoder",
    "Header",
    "Headers",
    "InvalidHandshake",
    "Message",
    "MessageDecoder",
    "Opcode",
    "PayloadTooBig",
    "ProtocolError",
    "Reason",
    "Request",
    "Response",
    "Rsv",
    "Socket",
    "Utf8Validator",
    "WebSocketError",
    "__version__",
    "apply_mask",
    "apply_mask_inplace",
    "choose_subprotocol",
    "encode_frame",
    "encode_header",
    "get_messages_factory",
    "parse_close_frame_payload",
    "parse_extensions",
    "parse_header",
    "prepare_close_frame_payload",
    "prepare_websocket_frame",
    "read_request",
    "send_factory",
    "send_handshake",
    "serve",
]

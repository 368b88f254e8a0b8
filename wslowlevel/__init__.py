"""Low-level WebSocket (RFC 6455) for Python."""

from __future__ import annotations

from ._version import __version__
from .aio.broadcast import broadcast
from .aio.client import connect
from .aio.factories import (
    get_chunks_factory,
    get_messages_factory,
    handle_messages_factory,
    send_chunks_factory,
    send_factory,
    send_handshake,
    send_message_factory,
)
from .aio.server import serve
from .aio.socket import Socket
from .aio.streams import read_request
from .codec import (
    BACKEND,
    Chunk,
    ChunkDecoder,
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
from .connection import Connection, Counters, State
from .deflate import PerMessageDeflate, PreparedMessage
from .errors import (
    ConnectionLost,
    InvalidHandshake,
    PayloadTooBig,
    ProtocolError,
    ProxyRefused,
    Reason,
    WebSocketError,
)
from .extensions import Extension, ExtensionFactory, Parameters, Transform, parse_extensions
from .frames import parse_close_frame_payload, prepare_close_frame_payload, prepare_websocket_frame
from .handshake import choose_subprotocol
from .http1 import HandshakeResponse, Headers, Request, Response
from .wire import CloseCode, Opcode, Rsv

__all__ = [
    "BACKEND",
    "Chunk",
    "ChunkDecoder",
    "CloseCode",
    "Connection",
    "ConnectionLost",
    "Counters",
    "Extension",
    "ExtensionFactory",
    "Frame",
    "FrameDecoder",
    "HandshakeResponse",
    "Header",
    "Headers",
    "InvalidHandshake",
    "Message",
    "MessageDecoder",
    "Opcode",
    "Parameters",
    "PayloadTooBig",
    "PerMessageDeflate",
    "PreparedMessage",
    "ProtocolError",
    "ProxyRefused",
    "Reason",
    "Request",
    "Response",
    "Rsv",
    "Socket",
    "State",
    "Transform",
    "Utf8Validator",
    "WebSocketError",
    "__version__",
    "apply_mask",
    "apply_mask_inplace",
    "broadcast",
    "choose_subprotocol",
    "connect",
    "encode_frame",
    "encode_header",
    "get_chunks_factory",
    "get_messages_factory",
    "handle_messages_factory",
    "parse_close_frame_payload",
    "parse_extensions",
    "parse_header",
    "prepare_close_frame_payload",
    "prepare_websocket_frame",
    "read_request",
    "send_chunks_factory",
    "send_factory",
    "send_handshake",
    "send_message_factory",
    "serve",
]

"""One exception tree, and the text of every error of both codec backends.

    WebSocketError
    ├── ProtocolError      the peer broke RFC 6455: .reason, .close_code
    ├── PayloadTooBig      a limit was crossed: .reason, .size, .limit, .close_code (1009)
    ├── InvalidHandshake   the opening handshake failed: .status, .headers, .body
    │   └── ProxyRefused   a proxy does not connect to the server, also a ConnectionError
    └── ConnectionLost     the connection is gone: .received and .sent, each (code, reason) or None, .closed_first

A caller's mistake is a TypeError or a ValueError that names the argument, the value and what was allowed.

The functions below build the errors of the codec; each text stands here once, so that the backends cannot differ.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from .wire import (
    CLOSE_CODE_RANGES,
    MASK_KEY_LENGTH,
    MAX_CONTROL_LENGTH,
    MAX_LENGTH_64,
    CloseCode,
)

HeadersLike: TypeAlias = Mapping[str, str] | Iterable[str | tuple[str, str]]
"""Headers of a caller: a mapping, or "Name: value" strings and (name, value) pairs in any mixture."""

REDACTED = "<redacted>"
"""Shown instead of a credential in a repr, an error or a log."""

_CREDENTIALS = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie"))
"""Headers whose value is a credential."""

_ADDRESSES = frozenset(("origin", "referer", "location"))
"""Headers whose value is a URI, which may contain a user name and a password (RFC 3986 §3.2.1)."""

_USERINFO = re.compile(r"([/\\]{2}).*@", re.DOTALL)  # a password that was not percent-encoded has any characters


class Reason(enum.Enum):
    """What exactly was wrong: stable names to match on, whatever the wording of the message."""

    RESERVED_BITS = "reserved bits"
    RESERVED_OPCODE = "reserved opcode"
    FRAGMENTED_CONTROL = "fragmented control frame"
    CONTROL_TOO_LONG = "control frame too long"
    UNEXPECTED_CONTINUATION = "unexpected continuation"
    EXPECTED_CONTINUATION = "expected continuation"
    NOT_MASKED = "not masked"
    MASKED = "masked"
    LENGTH_NOT_MINIMAL = "length not minimal"
    LENGTH_TOO_BIG = "length too big"
    INVALID_UTF8 = "invalid UTF-8"
    CLOSE_TOO_SHORT = "close payload too short"
    CLOSE_CODE = "close code"
    FRAME_TOO_BIG = "frame too big"
    MESSAGE_TOO_BIG = "message too big"
    TOO_MANY_FRAGMENTS = "too many fragments"
    EXTENSION_DATA = "extension data"


class WebSocketError(Exception):
    """Every error of this library that is not the caller's own mistake."""


class ProtocolError(WebSocketError):
    """The peer broke RFC 6455.

    Attributes:
        reason: which rule, a member of :class:`Reason`.
        close_code: the code to close the connection with, 1002 or 1007 (RFC 6455 §7.4.1).
    """

    def __init__(self, message: str, reason: Reason, close_code: int = CloseCode.PROTOCOL_ERROR) -> None:
        super().__init__(message, reason, close_code)
        self.reason = reason
        self.close_code = CloseCode(close_code)

    def __str__(self) -> str:
        return str(self.args[0])


class PayloadTooBig(WebSocketError):
    """The peer sent, or announced, more than a limit allows.

    Attributes:
        reason: which limit, a member of :class:`Reason`.
        size: what the frame would have brought it to, in bytes (in frames for ``TOO_MANY_FRAGMENTS``).
        limit: what was allowed, in the same unit.
        close_code: 1009 (RFC 6455 §7.4.1).
    """

    close_code = CloseCode.MESSAGE_TOO_BIG

    def __init__(self, message: str, reason: Reason, size: int, limit: int) -> None:
        super().__init__(message, reason, size, limit)
        self.reason = reason
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidHandshake(WebSocketError):
    """The opening handshake cannot succeed (RFC 6455 §4).

    A server answers with what the error carries; an ``on_upgrade`` handler may raise one to refuse a request. A client
    learns from it what the server answered.

    Attributes:
        status: the HTTP status to answer with, 400-599; that of the server's answer, 502 for what is no answer.
        headers: further (name, value) pairs for that answer, which may be passed as a mapping or as "Name: value"
            strings too; all of the server's.
        body: its body, by default the message of the error, encoded; the first bytes of the server's.
    """

    def __init__(self, message: str, status: int = 400, headers: HeadersLike = (), body: bytes | None = None) -> None:
        super().__init__(message, status, tuple(map(header_pair, header_items(headers))), body)
        self.status = status
        self.headers: tuple[tuple[str, str], ...] = self.args[2]
        self.body = f"{message}\n".encode() if body is None else body

    def __str__(self) -> str:
        return str(self.args[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r}, {self.status}, {redacted_headers(self.headers)})"


class ProxyRefused(InvalidHandshake, ConnectionError):
    """A proxy does not connect to the server.

    It is an InvalidHandshake because the proxy's answer is available, and a ConnectionError because the server was not
    reached.

    Attributes:
        status: the HTTP status of the proxy's answer to CONNECT; 502 if it was not HTTP, or if the proxy speaks SOCKS.
        headers: (name, value) pairs of the answer.
        body: up to 1 KiB of its body.
    """

    def __init__(
        self, message: str, status: int = 502, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> None:
        ConnectionError.__init__(self, message)  # with more arguments it would take them for errno and strerror
        self.status = status
        self.headers = tuple(headers)
        self.body = body

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.status, self.headers, self.body)


class ConnectionLost(WebSocketError):
    """The connection ended, or is closing, so that nothing more can be received or sent.

    Attributes:
        received: (code, reason) of the peer's Close frame, None if there was none.
        sent: (code, reason) of our own, None if there was none.
        closed_first: "received" or "sent", whichever Close frame was the first; None if there was none.
        code: the code that RFC 6455 §7.1.5 gives this end: the peer's, or 1006 when it sent no Close frame.
    """

    def __init__(
        self,
        message: str,
        received: tuple[int, str] | None = None,
        sent: tuple[int, str] | None = None,
        closed_first: Literal["received", "sent"] | None = None,
    ) -> None:
        super().__init__(message, received, sent, closed_first)
        self.received = received
        self.sent = sent
        self.closed_first = closed_first
        self.code: int = CloseCode.ABNORMAL_CLOSURE if received is None else received[0]

    def __str__(self) -> str:
        return str(self.args[0])


# -- What the peer may do wrong, in the order in which the decoder looks ----------------------------------------------


def reserved_bits(rsv: int, allowed: int) -> ProtocolError:
    return ProtocolError(
        f"reserved bits {rsv:03b} are set where {allowed:03b} are allowed (RFC 6455 §5.2)", Reason.RESERVED_BITS
    )


def reserved_opcode(opcode: int) -> ProtocolError:
    return ProtocolError(
        f"opcode 0x{opcode:X} is reserved: 0x0-0x2 and 0x8-0xA are defined (RFC 6455 §5.2)", Reason.RESERVED_OPCODE
    )


def fragmented_control(opcode: int) -> ProtocolError:
    return ProtocolError(
        f"control frame with opcode 0x{opcode:X} is fragmented: FIN must be set (RFC 6455 §5.5)",
        Reason.FRAGMENTED_CONTROL,
    )


def unexpected_continuation() -> ProtocolError:
    return ProtocolError(
        "continuation frame outside of a fragmented message (RFC 6455 §5.4)", Reason.UNEXPECTED_CONTINUATION
    )


def expected_continuation(opcode: int) -> ProtocolError:
    return ProtocolError(
        f"frame with opcode 0x{opcode:X} inside a fragmented message: expected a continuation (RFC 6455 §5.4)",
        Reason.EXPECTED_CONTINUATION,
    )


def too_many_fragments(limit: int) -> PayloadTooBig:
    return PayloadTooBig(
        f"message has over {limit} fragments: {limit} are allowed", Reason.TOO_MANY_FRAGMENTS, limit + 1, limit
    )


def control_too_long(opcode: int) -> ProtocolError:
    return ProtocolError(
        f"control frame with opcode 0x{opcode:X} has over {MAX_CONTROL_LENGTH} bytes of payload (RFC 6455 §5.5)",
        Reason.CONTROL_TOO_LONG,
    )


def close_too_short() -> ProtocolError:
    return ProtocolError(
        "close payload has 1 byte: none, or a code of 2 bytes and a reason, are allowed (RFC 6455 §5.5.1)",
        Reason.CLOSE_TOO_SHORT,
    )


def not_masked() -> ProtocolError:
    return ProtocolError("frame from a client is not masked (RFC 6455 §5.1)", Reason.NOT_MASKED)


def masked() -> ProtocolError:
    return ProtocolError("frame from a server is masked (RFC 6455 §5.1)", Reason.MASKED)


def length_too_big(length: int) -> ProtocolError:
    return ProtocolError(
        f"payload length {length} has its most significant bit set: {MAX_LENGTH_64} is allowed (RFC 6455 §5.2)",
        Reason.LENGTH_TOO_BIG,
    )


def length_not_minimal(length: int, size: int) -> ProtocolError:
    return ProtocolError(
        f"payload length {length} is written in {size} bits: the shortest form is required (RFC 6455 §5.2)",
        Reason.LENGTH_NOT_MINIMAL,
    )


def frame_too_big(size: int, limit: int) -> PayloadTooBig:
    return PayloadTooBig(f"frame of {size} bytes: {limit} are allowed", Reason.FRAME_TOO_BIG, size, limit)


def message_too_big(size: int, limit: int) -> PayloadTooBig:
    return PayloadTooBig(f"message of at least {size} bytes: {limit} are allowed", Reason.MESSAGE_TOO_BIG, size, limit)


def too_big_when_undone(limit: int) -> PayloadTooBig:
    """A message that crosses the limit while extensions are undone, which stops there: its whole size is not known."""
    return PayloadTooBig(
        f"message of more than {limit} bytes after extensions: {limit} are allowed",
        Reason.MESSAGE_TOO_BIG,
        limit + 1,
        limit,
    )


def too_big_on_wire(size: int, limit: int) -> PayloadTooBig:
    """A message that is refused for its size on the wire, before extensions are undone; `limit` is the user's."""
    return PayloadTooBig(
        f"message of at least {size} bytes before extensions: {limit} are allowed after them",
        Reason.MESSAGE_TOO_BIG,
        size,
        limit,
    )


def invalid_utf8(position: int) -> ProtocolError:
    return ProtocolError(
        f"invalid UTF-8 at byte {position} of the text (RFC 6455 §8.1)", Reason.INVALID_UTF8, CloseCode.INVALID_PAYLOAD
    )


def unfinished_utf8(position: int) -> ProtocolError:
    return ProtocolError(
        f"text ends at byte {position} inside a UTF-8 character (RFC 6455 §8.1)",
        Reason.INVALID_UTF8,
        CloseCode.INVALID_PAYLOAD,
    )


def close_code(code: int) -> ProtocolError:
    return ProtocolError(f"close code {code} is not allowed: {close_codes()} are (RFC 6455 §7.4)", Reason.CLOSE_CODE)


def extension_data(message: str) -> ProtocolError:
    """A payload that an extension cannot have made."""
    return ProtocolError(message, Reason.EXTENSION_DATA, CloseCode.INVALID_PAYLOAD)


def close_codes() -> str:
    return ", ".join(f"{first}-{last}" for first, last in CLOSE_CODE_RANGES)


# -- Headers, without their credentials -------------------------------------------------------------------------------


def header_items(headers: HeadersLike) -> Iterable[str | tuple[str, str]]:
    """Return the headers of a caller one by one, repeated fields included.

    Raises:
        TypeError: neither a mapping nor an iterable of headers.
    """
    if isinstance(headers, (str, bytes)) or not isinstance(headers, Iterable):
        raise TypeError(
            'headers must be a mapping, or an iterable of "Name: value" strings or (name, value) pairs, '
            f"got {type(headers).__name__}"
        )
    raw = getattr(headers, "raw", None)  # of http1.Headers: items() would join the values of a repeated field
    if callable(raw):
        pairs: Iterable[tuple[str, str]] = raw()
        return pairs
    return headers.items() if isinstance(headers, Mapping) else headers


def header_pair(header: str | tuple[str, str]) -> tuple[str, str]:
    """Return a "Name: value" string, or a pair of strings, as a pair.

    The errors do not show the header: it may contain a credential.

    Raises:
        TypeError: neither of the two.
        ValueError: a string without a colon.
    """
    if isinstance(header, str):
        name, colon, value = header.partition(":")
        if not colon:
            raise ValueError(f'header must be "Name: value", got {len(header)} characters without a colon')
        return name, value.strip(" \t")
    if isinstance(header, tuple) and len(header) == 2 and all(isinstance(part, str) for part in header):
        return header
    kinds = f"({', '.join(type(part).__name__ for part in header)})" if isinstance(header, tuple) else None
    raise TypeError(f"header must be a string or a pair of strings, got {kinds or type(header).__name__}")


def redacted(name: str, value: str) -> str:
    """Return the value of a header as it may be shown: without credentials."""
    lowered = name.strip().lower()
    if lowered in _CREDENTIALS:
        return REDACTED
    return hide_userinfo(value) if lowered in _ADDRESSES else value


def hide_userinfo(text: str) -> str:
    """Return text with the user names and passwords of the URIs in it replaced."""
    return _USERINFO.sub(rf"\1{REDACTED}@", text) if "@" in text else text


def redacted_headers(headers: object) -> str:
    """Return the repr of headers without their credentials, and of anything that is not well-formed only the type.

    An iterator stays unread: a repr has no effect.
    """
    if isinstance(headers, (str, bytes)) or not isinstance(headers, Iterable) or iter(headers) is headers:
        return f"<{type(headers).__name__}>"
    return f"[{', '.join(map(_redacted_header, header_items(headers)))}]"


def _redacted_header(header: str | tuple[str, str]) -> str:
    try:
        name, value = header_pair(header)
    except (TypeError, ValueError):
        return f"<{type(header).__name__}>"
    return repr((name, redacted(name, value)))


# -- What a caller may do wrong ---------------------------------------------------------------------------------------


def shown(value: object) -> str:
    """A value as an error text shows it: whole when it is short, cut when it is not."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def not_bytes_like(name: str, value: object) -> TypeError:
    hint = ": encode it first" if isinstance(value, str) else ""
    return TypeError(f"{name} must be bytes-like, not {type(value).__name__}{hint}")


def not_contiguous(name: str) -> ValueError:
    return ValueError(f"{name} must be a C-contiguous buffer")


def not_writable(name: str, value: object) -> TypeError:
    return TypeError(f"{name} must be a writable buffer, not {type(value).__name__}")


def not_an_integer(name: str, value: object) -> TypeError:
    return TypeError(f"{name} must be an integer, not {type(value).__name__}")


def out_of_range(name: str, value: int, lowest: int, highest: int) -> ValueError:
    return ValueError(f"{name} must be from {lowest} to {highest}, not {shown(value)}")


def wrong_key_length(length: int) -> ValueError:
    return ValueError(f"a masking key has {MASK_KEY_LENGTH} bytes, not {length}")


def wrong_role(value: object) -> ValueError:
    return ValueError(f"role must be 'server' or 'client', not {shown(value)}")


def fragmented_control_to_send(opcode: int) -> ValueError:
    return ValueError(f"fin must be 1 for a control frame, opcode 0x{opcode:X} (RFC 6455 §5.5)")


def control_too_long_to_send(length: int) -> ValueError:
    return ValueError(
        f"payload of a control frame has {length} bytes: {MAX_CONTROL_LENGTH} are allowed (RFC 6455 §5.5)"
    )


def close_too_short_to_send() -> ValueError:
    return ValueError("payload of a Close frame has 1 byte: none, or a code of 2 bytes first (RFC 6455 §5.5.1)")


def close_code_to_send(code: int) -> ValueError:
    return ValueError(f"code must be one of {close_codes()}, not {code} (RFC 6455 §7.4)")


def text_to_send(error: ProtocolError) -> ValueError:
    return ValueError(f"payload of a text frame: {error}")


def not_bytes(name: str, value: object) -> TypeError:
    return TypeError(f"{name} must be bytes, not {type(value).__name__}")


def not_text(opcode: int) -> ValueError:
    return ValueError(f"a message with opcode 0x{opcode:X} is not text")


def buffer_not_taken() -> ValueError:
    return ValueError("buffer_updated() without get_buffer() before it")


def already_waited() -> RuntimeError:
    return RuntimeError("another task already waits for the messages of this socket")


def wrong_thread(method: str) -> RuntimeError:
    return RuntimeError(
        f"{method}() must be called in the thread that runs the event loop: "
        f"from another thread, call loop.call_soon_threadsafe({method}, ...)"
    )


def decoder_in_use() -> RuntimeError:
    return RuntimeError("the decoder is already at work: one call at a time")

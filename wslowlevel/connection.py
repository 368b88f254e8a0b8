"""messages in, replies out: one open connection without I/O  (RFC 6455 §5.5, §7)

Feed it what arrives: it decodes, says what is to be answered, and knows how far the closing handshake has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .codec import Message, MessageDecoder, apply_mask, parse_header
from .errors import ConnectionLost, ProtocolError, WebSocketError, shown
from .frames import parse_close_frame_payload, prepare_close_frame_payload, prepare_websocket_frame
from .wire import MAX_CLOSE_REASON_LENGTH, OPCODE, CloseCode, Opcode

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Connection:
    """One side of an open connection.

    Args:
        role: who we are, "server" or "client".
        auto_close: whether to answer a Close frame with its own code, and a violation with the code that names it.
        auto_pong: whether to answer pings.
        options: further arguments of :class:`wslowlevel.codec.MessageDecoder`.

    Attributes:
        received: (code, reason) of the peer's Close frame, None until it came.
        sent: (code, reason) of ours, None until it went out.
        replies: pongs that answer what was received, to be sent in this order; the caller takes them out.
    """

    def __init__(self, *, role: str, auto_close: bool = True, auto_pong: bool = False, **options: Any) -> None:
        self._decoder = MessageDecoder(role=role, **options)
        self._mask_key: Literal[True] | None = True if role == "client" else None
        self._auto_close = auto_close
        self._auto_pong = auto_pong
        self.received: tuple[int, str] | None = None
        self.sent: tuple[int, str] | None = None
        self.replies: list[bytes] = []

    @property
    def error(self) -> WebSocketError | MemoryError | None:
        """The violation or crossed limit that ended what can be received, None while there is none."""
        return self._decoder.error

    @property
    def ended(self) -> bool:
        """Whether nothing more will be received: the peer's Close frame came, or a violation."""
        return self._decoder.closed or self._decoder.error is not None

    # -- In -----------------------------------------------------------------------------------------------------------

    def feed(self, data: Buffer) -> list[Message]:
        """Decode what arrived, any C-contiguous buffer; a violation is left in `error`, not raised."""
        try:
            return self._answered(self._decoder.feed(data))
        except WebSocketError:
            return self._answered([])

    def get_buffer(self, hint: int = -1) -> memoryview:
        """Memory to receive into, see :meth:`wslowlevel.codec.MessageDecoder.get_buffer`."""
        return self._decoder.get_buffer(hint)

    def buffer_updated(self, nbytes: int) -> list[Message]:
        """Decode what was received into the buffer; otherwise as `feed`."""
        try:
            return self._answered(self._decoder.buffer_updated(nbytes))
        except WebSocketError:
            return self._answered([])

    def _answered(self, messages: list[Message]) -> list[Message]:
        if self._auto_pong and self.sent is None:
            self.replies += [self._frame(Opcode.PONG, each.payload) for each in messages if each.opcode == Opcode.PING]
        if self._decoder.closed and self.received is None:
            self.received = parse_close_frame_payload(messages[-1].payload)
        return messages

    # -- Out ----------------------------------------------------------------------------------------------------------

    def answer_end(self) -> bytes | None:
        """The Close frame that answers the peer's, or its violation; None if there is nothing to answer (any more).

        For the caller to send once it has dealt with the messages that came before: nothing may follow it.
        """
        if not self._auto_close or self.sent is not None or not self.ended:
            return None
        if self.error is not None:
            payload = close_payload_for(self.error)
        elif self.received is not None and self.received[0] != CloseCode.NO_STATUS_RECEIVED:
            # "the endpoint typically echos the status code it received" (§5.5.1)
            payload = prepare_close_frame_payload(self.received[0])
        else:
            payload = b""
        self.sent = parse_close_frame_payload(payload)
        return self._frame(Opcode.CLOSE, payload)

    def note_send(self, frame: bytes) -> None:
        """Take note of a frame that is about to be sent.

        Raises:
            ConnectionLost: a Close frame was sent before: nothing may follow it (RFC 6455 §5.5.1).
            ValueError: a Close frame that is not whole.
        """
        if self.sent is not None:
            raise self.lost()
        if frame[0] & OPCODE == Opcode.CLOSE:
            self.sent = _read_close_frame(frame)

    def close_frame(self, code: int, reason: str = "") -> bytes:
        """The Close frame to send, masked if we are the client; ValueError for a code that may not be sent."""
        return self._frame(Opcode.CLOSE, prepare_close_frame_payload(code, reason))

    def _frame(self, opcode: Opcode, payload: bytes) -> bytes:
        return prepare_websocket_frame(payload, opcode=opcode, mask_key=self._mask_key)

    def lost(self) -> ConnectionLost:
        """The error that tells how this connection ended."""
        closes = (("received", self.received), ("sent", self.sent))
        told = [f"{verb} {close[0]} {close[1]!r}" for verb, close in closes if close is not None]
        how = ", ".join(told) or "no Close frame was received or sent"
        return ConnectionLost(f"connection is closed: {how}", self.received, self.sent)


def close_payload_for(error: BaseException) -> bytes:
    """The payload of the Close frame that tells the peer of an error, its text cut to what fits."""
    code = getattr(error, "close_code", CloseCode.INTERNAL_ERROR)
    return prepare_close_frame_payload(code, str(error).encode()[:MAX_CLOSE_REASON_LENGTH].decode(errors="ignore"))


def _read_close_frame(frame: bytes) -> tuple[int, str]:
    try:
        header = parse_header(frame)
    except ProtocolError as error:
        raise ValueError(f"not a Close frame: {error}") from None
    if header is None or header.length + header.payload_length > len(frame):
        raise ValueError(f"not a whole Close frame: {shown(frame)}")
    payload = frame[header.length :]
    try:
        return parse_close_frame_payload(apply_mask(payload, header.mask_key) if header.mask_key else payload)
    except ProtocolError:
        # Whoever builds a wrong payload by hand gets it sent; its code is as good as none.
        return CloseCode.NO_STATUS_RECEIVED, ""

"""messages in, replies out: one open connection without I/O  (RFC 6455 §5.5, §7)

Feed it what arrives; it decodes, answers what is to be answered, and knows how far the closing handshake has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .codec import Message, MessageDecoder, apply_mask, parse_header
from .errors import ConnectionLost, ProtocolError, WebSocketError
from .frames import parse_close_frame_payload, prepare_close_frame_payload, prepare_websocket_frame
from .wire import CLOSE_CODE_LENGTH, MAX_CLOSE_REASON_LENGTH, OPCODE, CloseCode, Opcode

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
        replies: frames that answer what was received, to be sent in this order; the caller takes them out.
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
        if self._auto_pong:
            for message in messages:
                if message.opcode == Opcode.PING and self.sent is None:
                    self._reply(Opcode.PONG, message.payload)
        if self.ended:
            self._answer_end(messages)
        return messages

    def _answer_end(self, messages: list[Message]) -> None:
        if self.error is not None:
            payload = close_payload_for(self.error)
        elif self.received is None:
            self.received = parse_close_frame_payload(messages[-1].payload)
            # "the endpoint typically echos the status code it received" (§5.5.1)
            payload = messages[-1].payload[:CLOSE_CODE_LENGTH]
        else:
            return
        if self._auto_close and self.sent is None:
            self._reply(Opcode.CLOSE, payload)
            self.sent = parse_close_frame_payload(payload)

    def _reply(self, opcode: Opcode, payload: bytes) -> None:
        self.replies.append(prepare_websocket_frame(payload, opcode=opcode, mask_key=self._mask_key))

    # -- Out ----------------------------------------------------------------------------------------------------------

    def check_send(self, frame: bytes) -> None:
        """Take note of a frame that is about to be sent.

        Raises:
            ConnectionLost: a Close frame was sent before: nothing may follow it (RFC 6455 §5.5.1).
        """
        if self.sent is not None:
            raise self.lost()
        if frame[0] & OPCODE == Opcode.CLOSE:
            self.sent = _read_close_frame(frame)

    def close_frame(self, code: int, reason: str = "") -> bytes:
        """The Close frame to send, masked if we are the client; ValueError for a code that may not be sent."""
        payload = prepare_close_frame_payload(code, reason)
        return prepare_websocket_frame(payload, opcode=Opcode.CLOSE, mask_key=self._mask_key)

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
    header = parse_header(frame)
    if header is None:
        raise ValueError(f"not a whole Close frame: {frame!r}")
    payload = frame[header.length :]
    try:
        return parse_close_frame_payload(apply_mask(payload, header.mask_key) if header.mask_key else payload)
    except ProtocolError:
        # Whoever builds a wrong frame by hand gets it sent; its code is as good as none.
        return CloseCode.NO_STATUS_RECEIVED, ""

"""messages in, frames out: one connection without I/O, from its opening to its end  (RFC 6455 §5.5, §7, §9)

Feed it what arrives: it decodes, says what is to be answered, and knows how far the closing handshake has come. It
does not read, write or wait: any layer with a transport and a clock can drive it.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .codec import (
    ChunkDecoder,
    Endpoint,
    Message,
    MessageDecoder,
    Utf8Validator,
    apply_mask,
    encode_frame,
    encode_header,
    fresh_mask_key,
    parse_header,
)
from .errors import ConnectionLost, PayloadTooBig, ProtocolError, Reason, not_bytes, shown, too_big_on_wire
from .extensions import Extension, claimed
from .frames import parse_close_frame_payload, prepare_close_frame_payload, prepare_websocket_frame
from .pipeline import Incoming, Outgoing, check_text
from .wire import (
    CONTROL,
    DEFAULT_MAX_SIZE,
    FIN,
    JOIN_LIMIT,
    MASK,
    MAX_CLOSE_REASON_LENGTH,
    MAX_LENGTH_64,
    MIN_HEADER_LENGTH,
    OPCODE,
    RSV,
    RSV_SHIFT,
    CloseCode,
    Opcode,
    is_close_code,
)

GROWTH = 64
"""An extension may make a message longer on the wire than it is: by one part in so many, and as many bytes."""


class State(enum.Enum):
    """How far a connection has come (RFC 6455 §4.1, §7.1)."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True)
class Counters:
    """Counts of a connection so far; messages are those of data, frames are all, bytes are those of frames.

    One rule for everything sent: a frame counts, with its bytes, when it is made by a method of :class:`Connection` or
    noted by `note_send`, whether it has left yet or not.

    Attributes:
        frames_received, messages_received, bytes_received, pings_received, pongs_received: what was decoded; the bytes
            include what a violation made worthless.
        frames_sent, messages_sent, pings_sent, bytes_sent: what was made or given to be sent.
        high_water: the most bytes that waited to be sent at the time of a write; 0 without a transport.
    """

    frames_received: int
    messages_received: int
    bytes_received: int
    pings_received: int
    pongs_received: int
    frames_sent: int
    messages_sent: int
    bytes_sent: int
    pings_sent: int
    high_water: int


class Connection(Endpoint):
    """One side of a connection (RFC 6455 §5.5, §7).

    Args:
        role: who we are, "server" or "client".
        clock: seconds that only grow, for the latency of pings.
        options: see `configure`.

    Attributes:
        role: who we are.
        state: CONNECTING until `open`, CLOSING from the first Close frame or violation on, CLOSED after `end`.
        may_send: whether frames may be sent: from `open` until a Close frame was sent, or `end`.
        extensions: what `open` was told of.
        received: (code, reason) of the peer's Close frame, None until it came.
        sent: (code, reason) of ours, None until it went out.
        why: what `end` was told of it, None for nothing.
        closed_first: "received" or "sent", whichever Close frame was the first; None while there is none.
        ended: whether nothing more will be received: the peer's Close frame came, or a violation.
        mask_key: what `prepare_websocket_frame` is to be told of masking: True for a client, None for a server.
        passing: whether `note_send` need not be called for frames that are whole messages; never, if a subclass
            overrides it to see them all.
        replies: pongs that answer what was received, to be sent in this order; the caller takes them out.
        latency: seconds that the last ping took to be answered, None until one was.
        pings: when each ping that still waits for its answer was made, by its payload, oldest first.
        answered_pings: (payload, latency) of pings that were answered; the caller takes them out.
    """

    # A dictionary of so many attributes would be half of what an idle connection holds.
    __slots__ = (
        *("role", "may_send", "received", "sent", "closed_first", "why"),
        *("_auto_close", "_auto_pong", "_chunks", "_strict", "_options", "_incoming", "_failure", "replies"),
        *("_clock", "latency", "pings", "answered_pings", "_pings_made", "_controls_seen"),
        *("mask_key", "_mask_bit", "_sees_every_frame", "_is_inside"),
        *("_frames_sent", "_controls_sent", "_fragments_sent", "_pings_sent"),
    )

    state: State
    extensions: tuple[Extension, ...]

    def __init__(self, *, role: str, clock: Callable[[], float] = time.monotonic, **options: Any) -> None:
        super().__init__(role=role)
        self.role = role
        self.state = State.CONNECTING
        self.may_send = False
        self.received: tuple[int, str] | None = None
        self.sent: tuple[int, str] | None = None
        self.closed_first: Literal["received", "sent"] | None = None
        self.replies: list[bytes] = []
        self.latency: float | None = None
        self.answered_pings: list[tuple[bytes, float]] = []

        self._clock = clock
        self.pings: dict[bytes, float] = {}
        self._pings_made = 0
        self._controls_seen = 0
        self.mask_key: Literal[True] | None = True if role == "client" else None
        self._mask_bit = MASK if role == "client" else 0
        self._failure: Exception | None = None
        self.why: str | None = None

        self._sees_every_frame = type(self).note_send is not Connection.note_send
        self._is_inside = False
        self._frames_sent = self._controls_sent = self._fragments_sent = self._pings_sent = 0

        self.configure(**options)

    def configure(
        self,
        *,
        auto_close: bool = True,
        auto_pong: bool = True,
        chunks: bool = False,
        strict: bool = True,
        allow_rsv: int = 0,
        **options: Any,
    ) -> None:
        """Say how to receive.

        Args:
            auto_close: whether to answer a Close frame with its own code and reason, and a violation with the code that
                names it.
            auto_pong: whether to answer pings; True by default.
            chunks: whether to receive messages in chunks, as they arrive.
            strict: False lets pass, in both directions, what RFC 6455 forbids.
            allow_rsv: reserved bits to let pass besides those that the extensions of the connection claim.
            options: more for :class:`wslowlevel.MessageDecoder` or :class:`wslowlevel.ChunkDecoder`.

        Raises:
            RuntimeError: something was received before.
            TypeError, ValueError: an option of the wrong kind.
        """
        self._check_nothing_received()
        self._auto_close = auto_close
        self._auto_pong = auto_pong
        self._chunks = chunks
        self._strict = strict
        self._options = {"allow_rsv": allow_rsv, **options}
        self._make_decoder()

    def open(self, extensions: Sequence[Extension] = ()) -> None:
        """The opening handshake succeeded, and agreed on these extensions, in this order.

        Raises:
            RuntimeError: it is closing or closed, or something was received before that the extensions did not see.
        """
        if self.state not in (State.CONNECTING, State.OPEN):
            raise RuntimeError(f"a connection that is {self.state.value} does not open again")
        if extensions:
            self._check_nothing_received()
            self.extensions = tuple(extensions)
            self._make_decoder()
        self.state = State.OPEN
        self.may_send = True
        self._update_passing()

    def _check_nothing_received(self) -> None:
        if self.decoder is not None and self.decoder.bytes_received:
            raise RuntimeError("how to receive is to be said before anything was received")

    def _make_decoder(self) -> None:
        options = self._options
        if self.extensions:
            limit = options.get("max_message_size", None if self._chunks else DEFAULT_MAX_SIZE)
            self._incoming = Incoming(self.extensions, limit)
            # Of chunks none is held: whatever they come as, what counts is what they are undone to.
            held = None if self._chunks or limit is None else min(limit + limit // GROWTH + GROWTH, MAX_LENGTH_64)
            options = {
                **options,
                "allow_rsv": options["allow_rsv"] | claimed(self.extensions),
                "max_message_size": held,
            }
        make = ChunkDecoder if self._chunks else MessageDecoder
        self.decoder = make(role=self.role, strict=self._strict, **options)

    @property
    def error(self) -> Exception | None:
        """What ended what can be received: a ProtocolError or PayloadTooBig of the peer's making, None while there is
        none; also whatever an extension raised, and a MemoryError.
        """
        return self._failure or self.decoder.error

    # -- In -----------------------------------------------------------------------------------------------------------

    def unpack(self, items: list[Message]) -> Iterator[Message]:
        """Undo what extensions did to messages, each when it is taken: no more than one is held inflated.

        Raises:
            ProtocolError, PayloadTooBig: an extension cannot have made this, or not within the limit; the connection
                ends with it, as with any other violation, and `error` tells.
        """
        return self._unpacked(items) if self.extensions else iter(items)

    def _unpacked(self, items: list[Any]) -> Iterator[Any]:
        try:
            yield from self._incoming.chunks(items) if self._chunks else self._incoming.messages(items)
        except Exception as error:
            self._failure = error
            self.failed = True
            self._end_receiving()
            raise

    def _see_events(self, items: list[Any]) -> None:
        decoder = self.decoder
        controls = decoder.pings_received + decoder.pongs_received
        if controls != self._controls_seen:
            self._controls_seen = controls
            self._see_controls(items)
        if decoder.closed and self.received is None:
            self.received = parse_close_frame_payload(items[-1].payload)
            self.closed_first = self.closed_first or "received"
        if decoder.closed or decoder.error is not None:
            self._failure = self._failure or self._in_terms_of_the_user(decoder.error)
            self._end_receiving()

    def _in_terms_of_the_user(self, error: Exception | None) -> PayloadTooBig | None:
        """With extensions the decoder's limit is a little higher than the user's, which the error has to name."""
        limit = self._options.get("max_message_size", DEFAULT_MAX_SIZE)
        if self.extensions and isinstance(error, PayloadTooBig) and error.reason is Reason.MESSAGE_TOO_BIG:
            return too_big_on_wire(error.size, limit)
        return None

    def _see_controls(self, messages: list[Any]) -> None:
        if self._auto_pong and self.may_send:
            self._answer_pings([each.payload for each in messages if each.opcode == Opcode.PING])
        if self.pings:
            for each in messages:
                if each.opcode == Opcode.PONG:
                    self._note_pong(each.payload)

    def _answer_pings(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            pong = self._frame(Opcode.PONG, payload)
            self.replies.append(pong)
            self._count_frame(len(pong))
            self._controls_sent += 1

    def _end_receiving(self) -> None:
        self.ended = True
        self._start_closing()

    def _start_closing(self) -> None:
        if self.state is not State.CLOSED:
            self.state = State.CLOSING

    # -- Out ----------------------------------------------------------------------------------------------------------

    def check_may_send(self) -> None:
        """Raise ConnectionLost or RuntimeError, as `note_send` does, unless frames may be sent."""
        if self.state is State.CONNECTING:
            raise RuntimeError("nothing may be sent before the opening handshake is answered")
        if not self.may_send:
            raise self.lost()

    def note_send(self, frame: bytes) -> None:
        """Take note of a frame that is about to be sent.

        Raises:
            ConnectionLost: nothing may follow a Close frame that was sent (RFC 6455 §5.5.1), or the end.
            RuntimeError: the opening handshake has not succeeded yet.
            ValueError: less than a header, a Close frame that is not whole, or a frame that RFC 6455 does not allow
                here: of the wrong masking, or a fragment outside of its message.
        """
        if self.passes(frame):
            return
        self.check_may_send()
        if len(frame) < MIN_HEADER_LENGTH:
            raise ValueError(f"frame must have {MIN_HEADER_LENGTH} bytes or more, not {shown(frame)}")
        self._note_other(frame)
        self._count_frame(len(frame))

    def _count_frame(self, size: int) -> None:
        self._frames_sent += 1
        self.count_bytes(size)

    def _note_other(self, frame: bytes) -> None:
        first = frame[0]
        if self._strict and (frame[1] ^ self._mask_bit) & MASK:
            wanted = "masked: pass mask_key=True" if self._mask_bit else "unmasked"
            raise ValueError(f"the frames of a {self.role} must be {wanted} (RFC 6455 §5.1)")
        if not first & CONTROL:
            self._note_fragment(first)
        else:
            if first & OPCODE == Opcode.CLOSE:
                self._note_close(_read_close_frame(frame))
            self._controls_sent += 1
            self._pings_sent += first & OPCODE == Opcode.PING

    def _note_fragment(self, first: int) -> None:
        inside = self._is_inside
        if self._strict and inside != (first & OPCODE == Opcode.CONTINUATION):
            expected = "a continuation" if inside else "the first frame of a message"
            raise ValueError(f"expected {expected}, not a frame with opcode 0x{first & OPCODE:X} (RFC 6455 §5.4)")
        for extension in self.extensions:
            if extension.rsv & (first & RSV) >> RSV_SHIFT:
                extension.note_foreign()
        self._note_data(first)

    def _note_data(self, first: int) -> None:
        self._fragments_sent += not first & FIN
        if self._is_inside != (not first & FIN):
            self._is_inside = not self._is_inside
            self._update_passing()

    def _update_passing(self) -> None:
        self.passing = self.may_send and not self._is_inside and not self._sees_every_frame

    def _note_close(self, close: tuple[int, str]) -> None:
        self.sent = close
        self.closed_first = self.closed_first or "sent"
        self.may_send = False
        self._update_passing()
        self._start_closing()

    def message_frame(self, payload: bytes, opcode: int, compress: bool | None = None) -> bytes:
        """The frame of a whole message: through the extensions, masked if we are the client, and noted as sent.

        Raises:
            ConnectionLost, RuntimeError: as `note_send`.
            ValueError: text that is not UTF-8.
        """
        return b"".join(self.message_pieces(payload, opcode, compress))

    def message_pieces(self, payload: bytes, opcode: int, compress: bool | None = None) -> tuple[bytes, ...]:
        """The same in pieces, to be written one behind the other: a long payload is not copied behind its header."""
        if self.extensions:
            frame = self.chunk_frame(self.message_in_chunks(opcode, len(payload), compress), payload, True)
            assert frame is not None
            return (frame,)
        self._check_may_begin()
        if opcode == Opcode.TEXT:
            check_text(Utf8Validator(), payload, True)
        pieces = self._pieces(payload, opcode)
        self._count_frame(sum(map(len, pieces)))
        return pieces

    def _pieces(self, payload: bytes, opcode: int) -> tuple[bytes, ...]:
        if self.mask_key is None and len(payload) >= JOIN_LIMIT:
            return encode_header(opcode, len(payload)), payload
        key = None if self.mask_key is None else fresh_mask_key()
        return (encode_frame(opcode, payload, mask_key=key),)

    def message_in_chunks(self, opcode: int, size: int | None = None, compress: bool | None = None) -> Outgoing:
        """Begin a message, text (1) or binary (2), whose size in bytes may be known: see `chunk_frame`.

        Raises:
            ConnectionLost, RuntimeError: as `note_send`.
            ValueError: another message is not finished (RFC 6455 §5.4).
        """
        self._check_may_begin()
        return Outgoing(self.extensions, opcode, size, compress, masked=self.mask_key is not None)

    def _check_may_begin(self) -> None:
        self.check_may_send()
        if self._is_inside:
            raise ValueError("a fragmented message is not finished: another one may not begin (RFC 6455 §5.4)")

    def chunk_frame(self, message: Outgoing, chunk: bytes, final: bool) -> bytes | None:
        """The frame of the next chunk of a message, noted as sent; None if the extensions keep it for the next one.

        Raises:
            ConnectionLost, RuntimeError: as `note_send`.
            ValueError: text that is not UTF-8.
        """
        self.check_may_send()
        frame = message.frame(chunk, final)
        if frame is not None:
            self._note_data(frame[0])
            self._count_frame(len(frame))
        return frame

    def ping(self, payload: bytes | None = None) -> bytes:
        """Return a ping to send now, noted as sent; its answer will be timed. By default each has a different payload.

        Raises:
            ConnectionLost, RuntimeError: as `note_send`; also when no pong can come, for nothing is received any more.
            TypeError: a payload that is not bytes.
            ValueError: over 125 bytes of payload, or the payload of a ping that still waits for its answer.
        """
        self.check_may_send()
        if self.ended:
            raise self.lost()
        if payload is None:
            payload = self._unused_ping()
        if not isinstance(payload, bytes):
            raise not_bytes("payload", payload)
        if payload in self.pings:
            raise ValueError(f"a ping with the payload {shown(payload)} still waits for its answer")
        frame = self._frame(Opcode.PING, payload)
        self.note_send(frame)
        self.pings[payload] = self._clock()
        return frame

    def _unused_ping(self) -> bytes:
        while True:
            payload = self._pings_made.to_bytes(8, "big")
            self._pings_made += 1
            if payload not in self.pings:
                return payload

    def _note_pong(self, payload: bytes) -> None:
        """A pong answers the ping with its payload, and those before it too (RFC 6455 §5.5.3)."""
        now = self._clock()
        for answered in list(self.pings) if payload in self.pings else ():
            latency = now - self.pings.pop(answered)
            self.answered_pings.append((answered, latency))
            if answered == payload:
                self.latency = latency
                return

    @property
    def is_inside_message(self) -> bool:
        """Whether a message was begun, and is not finished, in the direction that we send."""
        return self._is_inside

    def answer_end(self) -> bytes | None:
        """The Close frame that answers the peer's, or its violation; None if there is nothing to answer (any more).

        For the caller to send once it has dealt with the messages that came before: nothing may follow it.
        """
        if not self._auto_close or not self.may_send or not self.ended:
            return None
        error = self.error
        if error is not None:
            payload = close_payload_for(error)
        elif self.received is not None and self.received[0] != CloseCode.NO_STATUS_RECEIVED:
            # "the endpoint typically echos the status code it received" (§5.5.1). Browsers show its reason too.
            payload = prepare_close_frame_payload(*self.received)
        else:
            payload = b""
        frame = self._frame(Opcode.CLOSE, payload)
        self.note_send(frame)
        return frame

    def close_frame(self, code: int, reason: str = "") -> bytes:
        """Return the Close frame to send now, masked if we are the client, and noted as sent: nothing may follow it.

        Raises:
            ConnectionLost, RuntimeError: as `note_send`; a second Close frame too.
            TypeError, ValueError: a code or a reason that may not be sent; nothing was noted.
        """
        frame = self._frame(Opcode.CLOSE, prepare_close_frame_payload(code, reason))
        self.note_send(frame)
        return frame

    def _frame(self, opcode: Opcode, payload: bytes) -> bytes:
        return prepare_websocket_frame(payload, opcode=opcode, mask_key=self.mask_key)

    # -- The end ------------------------------------------------------------------------------------------------------

    def end(self, why: str | None = None) -> None:
        """The connection is gone, or given up: nothing more comes in or goes out.

        Args:
            why: what to say of it in the error, where there is more to say than the Close frames do.
        """
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self.may_send = False
            self._update_passing()
            self.why = why

    def lost(self) -> ConnectionLost:
        """The error that tells how this connection ended."""
        closes = {"received": self.received, "sent": self.sent}
        order = ("sent", "received") if self.closed_first == "sent" else ("received", "sent")
        said = [f"{verb} {close[0]} {close[1]!r}" for verb in order if (close := closes[verb]) is not None]
        how = ", then ".join(said) or "no Close frame was received or sent"
        told = "; ".join(filter(None, [self.why, how]))
        return ConnectionLost(f"connection is closed: {told}", self.received, self.sent, self.closed_first)

    @property
    def counters(self) -> Counters:
        """What passed over this connection so far."""
        decoder = self.decoder
        frames_sent = self.passed + self._frames_sent
        return Counters(
            frames_received=decoder.frames_received,
            messages_received=decoder.messages_received,
            bytes_received=decoder.bytes_received,
            pings_received=decoder.pings_received,
            pongs_received=decoder.pongs_received,
            frames_sent=frames_sent,
            messages_sent=frames_sent - self._controls_sent - self._fragments_sent,
            bytes_sent=self.bytes_sent,
            pings_sent=self._pings_sent,
            high_water=self.high_water,
        )


def close_payload_for(error: BaseException) -> bytes:
    """The payload of the Close frame that tells the peer of an error.

    What the peer did is told in the error's own words, cut to what fits; of a mistake on our side it learns only that
    there was one, as it does where an extension names a code that stands in no frame.
    """
    code = getattr(error, "close_code", None)
    if code is None or not is_close_code(code):
        return prepare_close_frame_payload(CloseCode.INTERNAL_ERROR)
    text = str(error).encode(errors="replace")
    return prepare_close_frame_payload(code, text[:MAX_CLOSE_REASON_LENGTH].decode(errors="ignore"))


def _read_close_frame(frame: bytes) -> tuple[int, str]:
    try:
        header = parse_header(frame)
    except ProtocolError as error:
        raise ValueError(f"not a Close frame: {error}") from None
    if header is None or header.length + header.payload_length != len(frame):
        raise ValueError(f"not one whole Close frame: {shown(frame)}")
    payload = frame[header.length :]
    try:
        return parse_close_frame_payload(apply_mask(payload, header.mask_key) if header.mask_key else payload)
    except ProtocolError:
        # Whoever builds a wrong payload by hand gets it sent; its code is as good as none.
        return CloseCode.NO_STATUS_RECEIVED, ""

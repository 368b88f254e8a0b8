"""wsproto: its frames, for each connection that is made from then on

A message that has arrived whole, and no extension sees, is parsed here in one step. Of everything else - pieces of
payloads, fragments, control frames, extensions, and whatever breaks a rule - the header is read and the payload
unmasked here, and the original does the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import wsproto.connection
from wsproto import frame_protocol
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Event, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Frame, Header, Opcode, ParseFailed, RsvBits

from ..codec import BACKEND, apply_mask, apply_mask_inplace, encode_frame, fresh_mask_key
from ..wire import (
    CONTROL,
    FIN,
    LENGTH,
    LENGTH_16,
    LENGTH_64,
    MASK,
    MASK_KEY_LENGTH,
    MAX_CONTROL_LENGTH,
    MAX_LENGTH_7,
    MAX_LENGTH_16,
    MAX_LENGTH_64,
    OPCODE,
)
from .sizes import traffic_samples

TESTED = ("1.3.0", "1.3.1", "1.3.2")

_MAX_SIZE = MAX_LENGTH_64 if BACKEND == "cython" else 4096
"""Bytes of a payload up to which ours takes less than its own: in pure Python both mask large ones as fast."""

_events = Connection.events
_new: Any = object.__new__

_binary = type(vars(next(Connection(ConnectionType.CLIENT, [], b"\x82\x00").events()))["data"])
"""What binary messages are handed out as: bytes, or a bytearray."""

_NO_BITS = RsvBits(False, False, False)

_BITS = {
    first: (bool(first & FIN), RsvBits(*(bool(first >> bit & 1) for bit in (6, 5, 4))), Opcode(first & OPCODE))
    for first in range(256)
    if first & OPCODE in list(Opcode) and (first & FIN or first & OPCODE <= Opcode.BINARY)
}
"""(fin, rsv, opcode) of each first byte of a frame but of fragmented control frames, and of unknown opcodes."""

_WHOLE_MESSAGES = (FIN | Opcode.TEXT, FIN | Opcode.BINARY)
"""The first byte of a message of one frame."""

_LENGTHS = {LENGTH_16: (MAX_LENGTH_7 + 1, MAX_LENGTH_16), LENGTH_64: (MAX_LENGTH_16 + 1, MAX_LENGTH_64)}
"""The shortest and the longest payload of each form of a longer length (RFC 6455 §5.2)."""


def reason_to_leave() -> str | None:
    return None


def rebinds() -> list[tuple[Any, str, object]]:
    masking: list[tuple[Any, str, object]] = [(frame_protocol, "XorMaskerSimple", XorMaskerSimple)]
    return [
        (wsproto.connection, "FrameProtocol", FrameProtocol),
        (Connection, "events", events),
        *(masking if BACKEND == "cython" else []),
    ]


def samples() -> dict[str, Callable[[], object]]:
    def receive(reads: list[bytes]) -> None:
        connection = Connection(ConnectionType.SERVER)
        for read in reads:
            connection.receive_data(read)
            for _ in connection.events():
                pass

    def send(payload: bytes, times: int) -> None:
        connection = Connection(ConnectionType.CLIENT)
        for _ in range(times):
            connection.send(BytesMessage(payload))

    return traffic_samples(receive, send)


# -- In place of its own ----------------------------------------------------------------------------------------------


class XorMaskerSimple:
    """In place of the class of this name: masks in pieces."""

    def __init__(self, masking_key: bytes | bytearray) -> None:
        self._masking_key = masking_key
        self._offset = 0

    def process(self, data: bytes | bytearray) -> bytearray:
        masked = bytearray(data)
        if masked:  # its key is looked at no earlier
            apply_mask_inplace(masked, self._masking_key, self._offset)
        self._offset = (self._offset + len(masked)) % MASK_KEY_LENGTH
        return masked


def _accepted(answer: Any) -> Any:
    """What a hook of an extension gives, unless that is a reason to close."""
    if isinstance(answer, CloseReason):
        raise ParseFailed("error in extension", answer)
    return answer


class FrameDecoder(frame_protocol.FrameDecoder):
    """In place of the class of this name: reads a header that is there whole, and unmasks a piece, in one step each."""

    def process_buffer(self) -> Frame | None:
        if self.header is None and not self.parse_header():
            return None
        header, opcode, buffer = self.header, self.effective_opcode, self.buffer.buffer
        assert header is not None
        assert opcode is not None
        size = min(header.payload_len - self.payload_consumed, len(buffer))
        if size < self.payload_required or (not size and header.payload_len):
            return None
        payload = self._next_payload(buffer, size)
        self.payload_consumed += size
        finished = self.payload_consumed == header.payload_len
        if self.extensions:
            payload = self._through_extensions(payload, finished, header.fin)
        self.header = None if finished else header
        self.effective_opcode = None if finished else Opcode.CONTINUATION
        return Frame(opcode, payload, finished, header.fin)

    def _next_payload(self, buffer: bytearray, size: int) -> bytes:
        with memoryview(buffer) as view, view[:size] as piece:
            payload = bytes(piece) if self.client else apply_mask(piece, self._mask_key, self.payload_consumed)
        del buffer[:size]
        return payload

    def _through_extensions(self, payload: bytes, finished: bool, fin: bool) -> bytes:
        for extension in self.extensions:
            payload = bytes(_accepted(extension.frame_inbound_payload_data(self, payload)))
        if finished:
            ends = [_accepted(extension.frame_inbound_complete(self, fin)) for extension in self.extensions]
            payload += b"".join(end for end in ends if end is not None)
        return payload

    def parse_header(self) -> bool:
        buffer = self.buffer.buffer
        found = find_payload(buffer, self.client)
        if found is None:
            return super().parse_header()
        start, end = found
        length = end - start
        fin, rsv, opcode = _BITS[buffer[0]]
        if self.extensions or rsv != _NO_BITS:
            self.extension_processing(opcode, rsv, length)
        self._mask_key = bytes(buffer[start - MASK_KEY_LENGTH : start])
        del buffer[:start]
        self.header = Header(fin, rsv, opcode, length, None)
        self.effective_opcode = opcode
        self.payload_required = length if opcode & CONTROL else 0
        self.payload_consumed = 0
        return True


class FrameProtocol(frame_protocol.FrameProtocol):
    """In place of the class of this name.

    What comes of the payload of a large binary message is kept apart from the buffer, and unmasked where it stands.
    """

    _frame_decoder: FrameDecoder  # in pure Python, its own
    _parse_more: Any

    def __init__(self, client: bool, extensions: list[Extension]) -> None:
        super().__init__(client, extensions)
        if BACKEND == "cython":
            self._frame_decoder = FrameDecoder(client, self.extensions)
        self._close_arrived = False
        self._piece = b""

    def receive_bytes(self, data: bytes) -> None:
        self._join_piece()
        if type(data) is bytes and self._is_piece(len(data)):
            self._piece = data
        else:
            super().receive_bytes(data)

    def received_frames(self) -> Generator[Frame, None, None]:
        self._join_piece()
        return super().received_frames()

    def _join_piece(self) -> None:
        """Whoever does not ask for events finds it in the buffer."""
        if self._piece:
            self._frame_decoder.receive_bytes(self._piece)
            self._piece = b""

    def _is_piece(self, size: int) -> bool:
        """Whether so many bytes are of a binary message, and of the payload of the frame that is arriving."""
        decoder = self._frame_decoder
        header = decoder.header
        if (
            BACKEND == "python"
            or header is None
            or decoder.extensions
            or decoder.buffer.buffer
            or header.opcode & CONTROL
        ):
            return False
        is_due = size <= header.payload_len - decoder.payload_consumed
        return is_due and self._message_decoder.opcode is Opcode.BINARY and self._parse_more.gi_frame is not None

    def _process_close(self, frame: Frame) -> Frame:
        frame = super()._process_close(frame)
        self._close_arrived = True
        return frame

    def take_events(self, into: deque[Event]) -> bool:
        """Make events of what is there, as far as nothing about it is unusual; tells whether something is left."""
        decoder = self._frame_decoder
        if self._piece:
            self._take_piece(into)
        is_over = self._close_arrived or self._parse_more.gi_frame is None  # of a generator that ended with an error
        is_between = decoder.header is None and self._message_decoder.opcode is None
        if is_between and not (is_over or decoder.extensions):
            self._take_messages(into)
        return bool(decoder.buffer.buffer)

    def _take_piece(self, into: deque[Event]) -> None:
        decoder, piece = self._frame_decoder, self._piece
        header = decoder.header
        assert header is not None
        payload = piece if self.client else apply_mask(piece, decoder._mask_key, decoder.payload_consumed)
        self._piece = b""
        decoder.payload_consumed += len(piece)
        finished = decoder.payload_consumed == header.payload_len
        if finished:
            decoder.header = decoder.effective_opcode = None
        if finished and header.fin:
            self._message_decoder.opcode = None
        into.append(data_event(BytesMessage, _binary(payload), finished, finished and header.fin))

    def _take_messages(self, into: deque[Event]) -> None:
        """The messages that are there in one frame each, up to a frame that is something else."""
        data, position = self._frame_decoder.buffer.buffer, 0
        while (found := find_payload(data, self.client, position)) is not None:
            start, end = found
            first = data[position]
            if first not in _WHOLE_MESSAGES or end > len(data) or end - start > _MAX_SIZE:
                break
            piece = data[start:end]
            payload = bytes(piece) if self.client else apply_mask(piece, data[start - MASK_KEY_LENGTH : start])
            if first & OPCODE == Opcode.BINARY:
                into.append(data_event(BytesMessage, _binary(payload)))
            else:
                try:
                    into.append(data_event(TextMessage, payload.decode()))
                except UnicodeDecodeError:
                    break
            position = end
        del data[:position]

    def _serialize_frame(self, opcode: Opcode, payload: bytes | bytearray = b"", fin: bool = True) -> Any:
        is_usual = type(payload) in (bytes, bytearray) and type(fin) is bool and len(payload) <= _MAX_SIZE
        if not is_usual or self.extensions or (opcode & CONTROL and len(payload) > MAX_CONTROL_LENGTH):
            return super()._serialize_frame(opcode, payload, fin)
        return encode_frame(opcode, payload, fin=fin, mask_key=fresh_mask_key() if self.client else None)


def events(self: Connection) -> Generator[Event, None, None]:
    """In place of `Connection.events`: the original is asked for each event that is not made here."""
    queue, protocol = self._events, self._proto
    while True:
        is_more = True
        if not queue and type(protocol) is FrameProtocol:
            is_more = protocol.take_events(queue)
        event = queue.popleft() if queue else next(_events(self), None) if is_more else None
        if event is None:
            return
        yield event


def data_event(
    kind: type[TextMessage | BytesMessage], data: Any, frame_finished: bool = True, message_finished: bool = True
) -> Event:
    """As its class makes it, but for the time that a frozen dataclass takes to set its fields."""
    event: Event = _new(kind)
    fields = event.__dict__
    fields["data"], fields["frame_finished"], fields["message_finished"] = data, frame_finished, message_finished
    return event


def find_payload(buffer: bytes | bytearray, client: bool, position: int = 0) -> tuple[int, int] | None:
    """Where the payload of a frame begins and ends, if its header is there whole and breaks no rule of the RFC."""
    if len(buffer) - position < 2:
        return None
    first, length, start = buffer[position], buffer[position + 1], position + 2
    if first not in _BITS or (length >= MASK) is client:
        return None
    length &= LENGTH
    if length > MAX_LENGTH_7:
        start += 2 if length == LENGTH_16 else 8
        shortest, longest = _LENGTHS[length]
        length = int.from_bytes(buffer[position + 2 : start], "big")
        if first & CONTROL or not shortest <= length <= longest:
            return None
    if not client:
        start += MASK_KEY_LENGTH
    return (start, start + length) if len(buffer) >= start else None

"""Turn one side of a connection into the rows of the table: HTTP heads, frames, gaps, and the violation that ends it.

A frame is judged by a `Connection` that receives it. Nothing is judged, only shown, where the stream is not certain:

| what is missing or in doubt             | what is shown                                              |
| --------------------------------------- | ---------------------------------------------------------- |
| bytes of a payload                      | all frames; judged again from the next message on, or      |
|                                         | not at all if messages may be compressed                   |
| bytes of a header                       | all frames as long as their headers make sense, not judged |
| a position was sent with two values     | all frames from there on, not judged                       |
| the 101, or an extension that is known  | all frames as long as their headers make sense, not judged |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..codec import Header, Message, apply_mask, parse_header
from ..connection import Connection
from ..deflate import NAME as DEFLATE
from ..deflate import PerMessageDeflate
from ..errors import PayloadTooBig, ProtocolError
from ..wire import CONTROL, MAX_HEADER_LENGTH, Opcode
from .http import Head, Part
from .terminal import bits_of, harmless, name_of, shown
from .upgrade import Opening, is_plausible

Violation = ProtocolError | PayloadTooBig


@dataclass(frozen=True)
class Row:
    """A line of the table: a head, a frame, or a remark.

    Attributes:
        offset: position of its first byte in the stream.
        end: position behind its last byte; the row's time is the arrival of that byte.
        length: bytes of the head, or of the payload; None for a remark.
    """

    offset: int
    end: int
    sender: str
    what: str
    bits: str = ""
    length: int | None = None
    text: str = ""
    is_violation: bool = False


class Side:
    """One side of a connection, judged as strictly as the other side has to judge it."""

    def __init__(self, part: Part, sender: str, opening: Opening) -> None:
        self._part = part
        self._flow = part.flow
        self._sender = sender
        extensions = opening.extensions
        self._may_be_compressed = opening.answer is None or DEFLATE in extensions
        self._unknown = [name for name in extensions if name != DEFLATE]
        self._judge: _Judge | None = None
        if part.is_certain and not self._unknown:
            self._judge = _Judge(part, sender, compressed=self._may_be_compressed)
        self._message = _Message()

    def rows(self) -> Iterator[Row]:
        """Return the rows in the order of the stream."""
        rows = [self._head(head, is_upgrade) for head, is_upgrade in self._part.heads]
        rows += [Row(at, at + 1, self._sender, "", text=text) for at, text in self._part.remarks]
        yield from sorted(rows, key=lambda row: row.offset)
        begin = self._part.frames
        if begin is None:
            return
        if self._unknown and begin < self._flow.length:
            yield self._remark(begin, f"frames are not judged: extension {harmless(self._unknown[0])} is not supported")
        yield from self._frames(begin)

    def _head(self, head: Head, is_upgrade: bool) -> Row:
        text = harmless(head.first_line) + ("" if head.is_whole else " ...")
        what = "handshake" if is_upgrade else "HTTP"
        return Row(head.begin, head.end, self._sender, what, length=head.end - head.begin, text=text)

    def _frames(self, at: int) -> Iterator[Row]:
        while at < self._flow.length:
            header, end = self._header(at)
            if header is not None:
                yield self._frame(header, at, end)
            for row in self._judged(header, at, end):
                yield row
                if row.is_violation:
                    return
            yield from (self._gap(*gap) for gap in self._flow.gaps(at, end))
            if header is None:
                yield from self._without_header(at, end)
                behind = self._flow.next_captured(end)
                if behind is None or behind == end:
                    return
                at, self._judge = behind, None
                continue
            if end - at < header.length + header.payload_length:
                yield self._remark(end, f"ends inside a payload, {end - at:,} bytes of the frame are there")
            at = end
            if header.opcode == Opcode.CLOSE:
                break
        if at < self._flow.length:
            yield self._remark(at, f"{self._flow.length - at:,} bytes behind the Close frame, which nobody reads")

    def _header(self, at: int) -> tuple[Header | None, int]:
        """Return the header at a position, and the end of its frame.

        The header is None if it is not whole or not allowed, or if an uncertain stream has no frame here.
        """
        data = self._flow.read(at, at + MAX_HEADER_LENGTH)
        try:
            header = parse_header(data)
        except ProtocolError:
            header = None
        if header is None or (self._judge is None and not is_plausible(header, self._sender)):
            return None, at + len(data)
        return header, min(at + header.length + header.payload_length, self._flow.length)

    def _without_header(self, at: int, end: int) -> Iterator[Row]:
        """Return remarks on why no header can be read at a position."""
        if end - at >= MAX_HEADER_LENGTH or parse_is_complete(self._flow.read(at, end)):
            yield self._remark(at, "no frame begins here: the rest is not read")
        elif end == self._flow.length:
            yield self._remark(end, f"ends inside a header, {end - at:,} bytes of the frame are there")
        else:
            behind = self._flow.next_captured(end)
            yield self._gap(end, (self._flow.length if behind is None else behind) - end)
            if behind is not None:
                text = "a frame may begin here: frames are shown as far as they make sense, not judged"
                yield self._remark(behind, text)

    def _frame(self, header: Header, at: int, end: int) -> Row:
        self._message.take(header, self._may_be_compressed)
        payload = self._flow.read(at + header.length, end)
        payload = apply_mask(payload, header.mask_key) if header.mask_key else payload
        is_deflated = self._message.is_deflated and not header.opcode & CONTROL
        text = "(compressed)" if is_deflated else shown(header.opcode or self._message.opcode, payload)
        bits = bits_of(header, header.fin, header.mask)
        return Row(at, end, self._sender, name_of(header.opcode), bits, header.payload_length, text)

    def _judged(self, header: Header | None, at: int, end: int) -> Iterator[Row]:
        """Return the inflated messages that end with a frame, or its violation."""
        if self._judge is None:
            return
        doubtful = self._flow.doubtful
        if doubtful is not None and end > doubtful:
            self._judge = None
            yield self._remark(doubtful, "sent twice with different bytes here: frames from here on are not judged")
            return
        if self._message.is_broken:
            if header is not None and not header.opcode & CONTROL and header.fin:
                self._message.is_broken = False
                self._judge.restart()
            return
        data = self._flow.read(at, end)
        error, messages = self._judge.feed(at, at + len(data))
        for message in messages:
            if self._message.is_deflated and not message.opcode & CONTROL:
                text = f"inflated: {len(message.payload):,} bytes  {shown(message.opcode, message.payload)}"
                yield Row(at, end, self._sender, "", text=text)
        if error is not None:
            text = f"{error}: close code {error.close_code:d}"
            yield Row(self._judge.proof() - 1, end, self._sender, "VIOLATION", text=text, is_violation=True)
        elif len(data) < end - at:
            yield from self._judge_after_gap(end)

    def _judge_after_gap(self, end: int) -> Iterator[Row]:
        assert self._judge is not None
        if self._may_be_compressed:  # later messages may refer to the missing bytes
            self._judge = None
            yield self._remark(end, "frames behind the gap are not judged: they may be compressed")
        elif self._message.is_open:
            self._message.is_broken = True
        else:
            self._judge.restart()

    def _gap(self, position: int, missing: int) -> Row:
        return self._remark(position, f"the capture lacks {missing:,} bytes here")

    def _remark(self, at: int, text: str) -> Row:
        return Row(at, at, self._sender, "", text=text)


@dataclass
class _Message:
    """The message that the last data frame belongs to.

    Attributes:
        is_open: True until its last frame.
        is_broken: True from a gap in it until its last frame.
    """

    opcode: int = 0
    is_open: bool = False
    is_deflated: bool = False
    is_broken: bool = False

    def take(self, header: Header, may_be_compressed: bool) -> None:
        if header.opcode & CONTROL:
            return
        if header.opcode:
            self.opcode = header.opcode
            self.is_deflated = bool(header.rsv1 and may_be_compressed)
        self.is_open = not header.fin


class _Judge:
    """The receiver of one side's frames."""

    def __init__(self, part: Part, sender: str, *, compressed: bool) -> None:
        self._flow = part.flow
        self._role = "server" if sender == "client" else "client"
        self._compressed = compressed
        self.restart()

    def restart(self) -> None:
        """Forget everything: the next bytes begin a message."""
        self._receiver = self._fresh()
        self._fed: list[tuple[int, int]] = []

    def _fresh(self) -> Connection:
        connection = Connection(role=self._role, max_message_size=None, max_fragments=None)
        # A window of 32 KiB that is never reset inflates the messages of any negotiated parameters.
        factory = PerMessageDeflate()
        deflate = factory.accept(()) if self._role == "server" else ((), factory.confirm(()))
        connection.open([deflate[1]] if self._compressed and deflate is not None else [])
        return connection

    def feed(self, begin: int, end: int) -> tuple[Violation | None, list[Message]]:
        """Return the violation in some bytes, None if there is none, and the messages that they complete."""
        self._fed.append((begin, end))
        return received(self._receiver, self._flow.read(begin, end))

    def proof(self) -> int:
        """Return the position behind the first byte that proves the violation in the bytes fed last."""
        *before, (begin, end) = self._fed
        earliest, latest = begin, end
        while earliest < latest - 1:
            middle = (earliest + latest) // 2
            receiver = self._fresh()
            for span in before:
                received(receiver, self._flow.read(*span))
            if received(receiver, self._flow.read(begin, middle))[0] is None:
                earliest = middle
            else:
                latest = middle
        return latest


def received(connection: Connection, data: bytes) -> tuple[Violation | None, list[Message]]:
    """Feed bytes to a receiver; return the violation in them, if any, and the messages that they complete."""
    messages: list[Message] = []
    try:
        messages.extend(connection.unpack(connection.feed(data)))
    except (ProtocolError, PayloadTooBig) as error:
        return error, messages
    wrong = connection.error
    assert wrong is None or isinstance(wrong, (ProtocolError, PayloadTooBig))
    return wrong, messages


def parse_is_complete(data: bytes) -> bool:
    """Return whether some bytes hold a whole header, allowed or not."""
    try:
        return parse_header(data) is not None
    except ProtocolError:
        return True

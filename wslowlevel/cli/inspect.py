"""what one side sent -> its opening handshake, its frames, and the violation that ends it: `wslowlevel inspect`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..codec import Header, Message, apply_mask, parse_header
from ..connection import Connection
from ..deflate import PerMessageDeflate
from ..errors import PayloadTooBig, ProtocolError
from ..wire import CONTROL, MASK
from .capture import Conversation, Flow, conversations
from .terminal import bits_of, harmless, name_of, printer, shown

HEAD_END = b"\r\n\r\n"
HEADS = (b"GET ", b"HTTP/")
SENDERS = ("client", "server")


@dataclass(frozen=True)
class Row:
    """A line of the table: the head of a handshake, a frame, or a remark on what came before.

    Attributes:
        end: offset behind what it tells of; when that byte came is the time of the row.
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


def inspect(data: bytes, sender: str | None) -> int:
    """Print what a file holds; return 1 if something in it breaks RFC 6455, else 0.

    Raises:
        NoCapture, ImportError: see :func:`conversations`.
    """
    show, violations = printer(), 0
    for number, conversation in enumerate(conversations(data)):
        if conversation.name:
            show(f"\n{conversation.name}" if number else conversation.name, "bold")
        rows = rows_of(conversation, sender)
        is_timed = any(time is not None for time, _ in rows)
        show(line("seconds" if is_timed else None, "offset", "from", "frame", "bits", "length", "payload"), "dim")
        for time, row in rows:
            seconds = ("" if time is None else f"{time:.6f}") if is_timed else None
            length = "" if row.length is None else f"{row.length:,}"
            style = "bold red" if row.is_violation else ""
            show(line(seconds, str(row.offset), row.sender, row.what, row.bits, length, row.text), style)
            violations += row.is_violation
    return int(violations > 0)


def line(seconds: str | None, offset: str, sender: str, what: str, bits: str, length: str, text: str) -> str:
    before = "" if seconds is None else f"{seconds:>11}  "
    return f"{before}{offset:>8}  {sender:<6}  {what:<12}  {bits:<14}  {length:>9}  {text}".rstrip()


def rows_of(conversation: Conversation, sender: str | None) -> list[tuple[float | None, Row]]:
    """All rows with their times, in the order of them where the capture tells."""
    compressed = may_be_compressed(conversation.flows)
    rows = [
        (flow.time_of(row.end), row)
        for flow in conversation.flows
        if flow.data
        for row in Side(flow, sender or sender_of(flow), compressed).rows()
    ]
    return sorted(rows, key=lambda timed: timed[0] or 0.0)


def may_be_compressed(flows: Sequence[Flow]) -> bool:
    """Unless the server's answer is there, and does not say so."""
    answers = [bytes(flow.data).partition(HEAD_END)[0] for flow in flows if flow.data.startswith(b"HTTP/")]
    return not answers or any(b"permessage-deflate" in answer.lower() for answer in answers)


def sender_of(flow: Flow) -> str:
    """Who sent it: by its half of the handshake, or by whether its first frame is masked (RFC 6455 §5.1)."""
    if flow.data.startswith(HEADS):
        return "client" if flow.data.startswith(b"GET ") else "server"
    return "client" if len(flow.data) > 1 and flow.data[1] & MASK else "server"


class Side:
    """One side of a connection, read as strictly as the other one has to read it."""

    def __init__(self, flow: Flow, sender: str, compressed: bool) -> None:
        self._data = bytes(flow.data)
        self._missing = flow.missing
        self._sender = sender
        self._compressed = compressed

    def rows(self) -> Iterator[Row]:
        begin = 0
        if self._data.startswith(HEADS):
            head, found, _ = self._data.partition(HEAD_END)
            begin = len(head) + len(found)
            first = harmless(head.partition(b"\r\n")[0].decode("latin-1"))
            yield Row(0, begin, self._sender, "handshake", length=begin, text=first if found else f"{first} ...")
            if not found or not first.startswith(("GET ", "HTTP/1.1 101")):
                return
        yield from self._frames(begin)
        if self._missing:
            yield self._remark(f"the capture lacks {self._missing:,} bytes here")

    def _frames(self, begin: int) -> Iterator[Row]:
        receiver, at, opcode, is_deflated = self._receiver(), begin, 0, False
        while at < len(self._data) and not receiver.ended:
            header, end = self._header(at)
            if header is not None:
                if header.opcode and not header.opcode & CONTROL:
                    opcode, is_deflated = header.opcode, bool(header.rsv1 and self._compressed)
                yield self._frame(header, at, end, opcode, is_deflated)
            error, messages = received(receiver, self._data[at:end])
            for message in messages:
                if is_deflated and not message.opcode & CONTROL:
                    text = f"inflated: {len(message.payload):,} bytes  {shown(message.opcode, message.payload)}"
                    yield Row(at, end, self._sender, "", text=text)
            if error is not None:
                yield self._violation(begin, at, end, error)
                return
            if header is None or end - at < header.length + header.payload_length:
                lacking = "a header" if header is None else "a payload"
                yield self._remark(f"ends inside {lacking}, {end - at:,} bytes of the frame are there")
            at = end
        if at < len(self._data):
            yield self._remark(f"{len(self._data) - at:,} bytes behind the Close frame, which nobody reads", at)

    def _header(self, at: int) -> tuple[Header | None, int]:
        """The header at an offset, None for one that is not whole or not allowed, and where what belongs to it ends."""
        try:
            header = parse_header(self._data, at)
        except ProtocolError:
            header = None
        if header is None:
            return None, len(self._data)
        return header, min(at + header.length + header.payload_length, len(self._data))

    def _frame(self, header: Header, at: int, end: int, opcode: int, is_deflated: bool) -> Row:
        payload = self._data[at + header.length : end]
        payload = apply_mask(payload, header.mask_key) if header.mask_key else payload
        is_control = header.opcode & CONTROL
        text = "(compressed)" if is_deflated and not is_control else shown(header.opcode or opcode, payload)
        bits = bits_of(header, header.fin, header.mask)
        return Row(at, end, self._sender, name_of(header.opcode), bits, header.payload_length, text)

    def _remark(self, text: str, offset: int | None = None) -> Row:
        offset = len(self._data) if offset is None else offset
        return Row(offset, len(self._data), self._sender, "", text=text)

    def _violation(self, begin: int, at: int, end: int, error: ProtocolError | PayloadTooBig) -> Row:
        """It stands at the first byte with which it cannot be otherwise."""
        earliest, latest = at, end
        while earliest < latest - 1:
            middle = (earliest + latest) // 2
            if received(self._receiver(), self._data[begin:middle])[0] is None:
                earliest = middle
            else:
                latest = middle
        text = f"{error}: close code {error.close_code:d}"
        return Row(latest - 1, end, self._sender, "VIOLATION", text=text, is_violation=True)

    def _receiver(self) -> Connection:
        role = "server" if self._sender == "client" else "client"
        connection = Connection(role=role, max_message_size=None, max_fragments=None)
        # Whatever was agreed on, this inflates it: a window of 32 KiB, and nothing is forgotten.
        deflate = PerMessageDeflate().accept(()) if role == "server" else ((), PerMessageDeflate().confirm(()))
        connection.open([deflate[1]] if self._compressed and deflate is not None else [])
        return connection


def received(connection: Connection, data: bytes) -> tuple[ProtocolError | PayloadTooBig | None, list[Message]]:
    """What is wrong with what came, None for nothing, and the messages that it completed."""
    messages: list[Message] = []
    try:
        messages.extend(connection.unpack(connection.feed(data)))
    except (ProtocolError, PayloadTooBig) as error:
        return error, messages
    wrong = connection.error
    assert wrong is None or isinstance(wrong, (ProtocolError, PayloadTooBig))
    return wrong, messages

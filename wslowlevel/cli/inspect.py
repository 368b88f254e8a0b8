"""Print the frames of a capture as a table: `wslowlevel inspect`."""

from __future__ import annotations

from math import inf

from .capture import Conversation, check_text, conversations
from .rows import Row, Side
from .terminal import printer
from .upgrade import opening_of

SENDERS = ("client", "server")


def inspect(data: bytes, sender: str | None) -> int:
    """Print the frames of a file; return 1 if something in it certainly violates RFC 6455, else 0.

    Args:
        sender: "client" or "server" for a file with the bytes of one side; None to find it out.

    Raises:
        NoCapture, ImportError: see :func:`conversations`.
    """
    check_text(data)
    show, violations = printer(), 0
    for number, conversation in enumerate(conversations(data, show)):
        if conversation.name:
            show(f"\n{conversation.name}" if number else conversation.name, "bold")
        rows = rows_of(conversation, sender)
        is_timed = any(flow.is_timed for flow in conversation.flows)
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
    """Return (seconds since the first packet, row) of all rows, in the order of time if the file contains times.

    A frame's time is the time when its last byte had arrived and no byte before it was missing any more.
    """
    opening, parts = opening_of(conversation.flows, sender)
    moments = [
        (part.flow.moment(row.end), row)
        for name, part in parts
        if part.flow.is_seen or part.remarks
        for row in Side(part, name, opening).rows()
    ]
    moments.sort(key=lambda item: item[0][:2] if item[0] else (inf, 0))
    return [(moment[2] if moment else None, row) for moment, row in moments]

"""Read a file as connections, whatever its format: a packet capture, a text dump, or the bytes of one side.

Each step of `wslowlevel inspect` is a module:

    pcap       capture file  -> packets
    textdumps  text dump     -> packets, or the bytes of both sides
    hexdump    text dump     -> the bytes of one side
    layers     packets       -> TCP segments
    tcp        TCP segments  -> the bytes of both sides, with gaps
    upgrade    both sides    -> where the frames begin (http reads heads and bodies)
    rows       one side      -> rows of the table: heads, frames, remarks, the violation
    inspect    rows          -> the printed table
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

from .hexdump import as_text, from_hex, looks_like_dump
from .http import REQUEST_LINE, STATUS_LINE
from .layers import segments
from .packets import NoCapture, Packet, Remarks
from .pcap import MAGICS, read_packets
from .tcp import Conversation, Flow, connections
from .textdumps import dumped_packets, followed, link_of
from .upgrade import opening_of

__all__ = ["Conversation", "Flow", "NoCapture", "check_text", "conversations", "from_hex"]

GZIP = b"\x1f\x8b"
"""How a gzip file begins (RFC 1952 §2.3.1)."""


def conversations(data: bytes, remark: Callable[[str], object] | None = None) -> list[Conversation]:
    """Return the connections of a file; of packets, only the connections with an opening handshake of WebSocket.

    Args:
        remark: called with a text for each packet, or group of packets, that cannot be read.

    Raises:
        NoCapture: packets without WebSocket, or a file whose header cannot be read.
        ImportError: a file with packets, but dpkt is not installed.
    """
    remarks = Remarks()
    if data.startswith(GZIP):
        data = inflated_capture(data)
    if data.startswith(MAGICS):
        return _of_packets(read_packets(data, remarks), remarks, remark)
    text = as_text(data)
    if text is not None:
        packets = dumped_packets(text)
        if packets is not None:
            return _of_packets(packets, remarks, remark)
        sides = followed(text)
        if sides is not None:
            return [Conversation("", tuple(map(Flow, sides)))]
        dumped = from_hex(data)
        link = None if dumped is None else link_of(dumped)
        if dumped is not None and link is not None:  # Wireshark copies a whole packet as digits, or as an array
            return _of_packets([Packet(1, None, link, dumped, len(dumped))], remarks, remark)
        data = dumped or data
    return [Conversation("", (Flow(data),))]


def inflated_capture(data: bytes) -> bytes:
    """Return the capture in a gzip file, which Wireshark can write; other files as they are."""
    try:
        inflated = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data)  # also of a truncated file
    except zlib.error:
        return data
    return inflated if inflated.startswith(MAGICS) else data


def _of_packets(
    packets: Iterable[Packet], remarks: Remarks, remark: Callable[[str], object] | None
) -> list[Conversation]:
    found = connections(segments(packets, remarks))
    if remark is not None:
        for text in remarks.lines():
            remark(text)
    found = [each for each in found if opening_of(each.flows, None)[0].is_websocket]
    if not found:
        raise NoCapture("the capture holds no opening handshake of WebSocket, or it is encrypted")
    return found


def check_text(data: bytes) -> None:
    """Check that a text file is a known notation of bytes, or HTTP: its characters cannot begin a frame.

    Raises:
        NoCapture: it is another text.
    """
    text = as_text(data)
    if not text or REQUEST_LINE.match(data) or STATUS_LINE.match(data):
        return
    if from_hex(data) is None and dumped_packets(text) is None and followed(text) is None:
        if looks_like_dump(text):
            raise NoCapture("the file looks like a hex dump, but its offsets or its text do not fit its bytes")
        raise NoCapture("the file is text, but neither HTTP nor a hex dump of a known form")

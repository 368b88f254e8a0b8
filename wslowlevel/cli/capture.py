"""Read a file as connections, whatever its format: a packet capture, a hex dump, or the bytes of one side."""

from __future__ import annotations

from collections.abc import Callable

from .hexdump import from_hex
from .layers import segments
from .packets import NoCapture, Remarks
from .pcap import MAGICS, read_packets
from .tcp import Conversation, Flow, connections
from .upgrade import opening_of

__all__ = ["Conversation", "Flow", "NoCapture", "conversations", "from_hex"]


def conversations(data: bytes, remark: Callable[[str], object] = str) -> list[Conversation]:
    """Return the connections of a file; of a capture, only those with an opening handshake of WebSocket.

    Args:
        remark: called with a text for each packet, or group of packets, that cannot be read.

    Raises:
        NoCapture: a capture without WebSocket, or a file whose header cannot be read.
        ImportError: a packet capture, but dpkt is not installed.
    """
    if not data.startswith(MAGICS):
        dumped = from_hex(data)
        return [Conversation("", (Flow(data if dumped is None else dumped),))]
    remarks = Remarks()
    found = connections(segments(read_packets(data, remarks), remarks))
    for text in remarks.lines():
        remark(text)
    found = [each for each in found if opening_of(each.flows, None)[0].is_websocket]
    if not found:
        raise NoCapture("the capture holds no opening handshake of WebSocket, or it is encrypted")
    return found

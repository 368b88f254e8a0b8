"""a transport -> the file descriptor that may be written to in its place"""

from __future__ import annotations

import asyncio
import os

NO_DESCRIPTOR = -1

PLAIN = {
    ("asyncio.selector_events", "_SelectorSocketTransport"),
    ("uvloop.loop", "TCPTransport"),
    ("uvloop.loop", "UnixTransport"),
    ("aiofastnet.selector_transport", "SelectorSocketTransport"),
}
"""The transports whose bytes are those of their socket. Those of TLS, and any unknown, are not among them."""


def descriptor_of(transport: asyncio.Transport) -> int:
    """The descriptor of the socket, NO_DESCRIPTOR if only the transport may write to it."""
    kind = type(transport)
    if (kind.__module__, kind.__name__) not in PLAIN or not hasattr(os, "writev") or transport.is_closing():
        return NO_DESCRIPTOR
    return int(transport.get_extra_info("socket").fileno())

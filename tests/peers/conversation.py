"""What is said, and what comes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

Payload = str | bytes
Close = tuple[int, str]

SUBPROTOCOLS = ["other", "chat"]
MESSAGES: tuple[Payload, ...] = ("", "Grüße", "x" * 70_000, b"", bytes(range(256)) * 400)
RECEIVED: tuple[Payload, ...] = (*MESSAGES, "fragments", "fragments", "pong")
"""What comes back to the client, in this order."""

SIZE = sum(map(len, MESSAGES))
"""Bytes that it takes in each direction without compression, and over ten times what it takes with it."""

OURS: Close = (4001, "ours")
THEIRS: Close = (4002, "theirs")


@dataclass
class Server:
    """A server at work.

    Attributes:
        port: where it listens, on 127.0.0.1.
        closes: (code, reason) of the Close frame of each client, once the connection is over.
    """

    port: int = 0
    closes: asyncio.Queue[Close] = field(default_factory=asyncio.Queue)


@dataclass
class Talk:
    """What a client saw.

    Attributes:
        subprotocol: that the server chose.
        received: every message.
        pong: payload of the pong.
        code: of the server's Close frame.
    """

    subprotocol: str | None
    received: tuple[Payload, ...]
    pong: str
    code: int | None

"""The clients of an echo server: one thread, plain sockets, frames that were built before.

It has to be far cheaper than any server: what is due on a connection leaves in one `send`, and what arrives is compared
with the replies that are due in one `memcmp`, whole buffers at a time.
"""

from __future__ import annotations

import os
import select
import socket as sockets
import time
from collections.abc import Callable
from dataclasses import dataclass

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
"""A masked Close frame, code 1000."""

READ_SIZE = 256 * 1024
"""Bytes of one read."""

PATIENCE = 20
"""Seconds in which a server has to answer something."""


@dataclass(frozen=True)
class Shape:
    """How many connections, messages in flight on each, and bytes of payload."""

    connections: int
    in_flight: int
    size: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        connections, in_flight, size = text.split("x")
        return cls(int(connections), int(in_flight), parse_size(size))

    def __str__(self) -> str:
        return f"{self.connections}x{self.in_flight}x{format_size(self.size)}"


UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}


def parse_size(text: str) -> int:
    for unit, factor in UNITS.items():
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    return int(text.removesuffix("B"))


def format_size(size: int) -> str:
    for unit, factor in reversed(UNITS.items()):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


# -- Frames, built without any of the libraries (RFC 6455, section 5.2) -----------------------------------------------


def header(size: int, mask: int, opcode: int = 2) -> bytes:
    """A frame's that is a whole message, binary by default."""
    if size < 126:
        return bytes([0x80 | opcode, mask | size])
    if size < 1 << 16:
        return bytes([0x80 | opcode, mask | 126]) + size.to_bytes(2, "big")
    return bytes([0x80 | opcode, mask | 127]) + size.to_bytes(8, "big")


def masked_frame(payload: bytes, key: bytes, opcode: int = 2) -> bytes:
    keys = int.from_bytes((key * (len(payload) // 4 + 1))[: len(payload)], "big")
    masked = (int.from_bytes(payload, "big") ^ keys).to_bytes(len(payload), "big")
    return header(len(payload), 0x80, opcode) + key + masked


class Conversation:
    """The bytes that go and come on a connection, for ever: a cycle of messages that differ."""

    def __init__(self, shape: Shape, raw: bool) -> None:
        cycle = shape.in_flight + 1  # so that a reply which comes twice is not the one that is due
        payloads = [os.urandom(shape.size) for _ in range(cycle)]
        frames = [masked_frame(payload, os.urandom(4)) for payload in payloads]
        echoes = frames if raw else [header(shape.size, 0) + payload for payload in payloads]
        self.request_length, self.reply_length = len(frames[0]), len(echoes[0])
        self.requests_length, self.replies_length = cycle * self.request_length, cycle * self.reply_length
        # Repeated, so that a slice which begins within the first cycle never has to wrap.
        self.requests = memoryview(b"".join(frames) * 2)
        self.replies = b"".join(echoes) * (2 + READ_SIZE // self.replies_length)


class Client:
    """One connection, which keeps its messages in flight."""

    def __init__(self, port: int, conversation: Conversation, raw: bool) -> None:
        self.socket = sockets.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        if not raw:
            self.socket.sendall(REQUEST)
        self.conversation = conversation
        self.asked = self.answered = 0
        """Messages."""
        self._sent = self._received = 0
        """Bytes."""

    def read_answer(self) -> None:
        """To the handshake."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(READ_SIZE) or b"(the connection ended)\r\n\r\n"
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"extensions" not in head.lower(), head

    def close(self, raw: bool) -> None:
        """In good order, for some servers log everything else."""
        self.socket.settimeout(PATIENCE)
        if not raw:
            self.socket.sendall(CLOSE)
            while self.socket.recv(READ_SIZE):
                pass
        self.socket.close()

    def ask(self, messages: int) -> bool:
        self.asked += messages
        return self.send()

    def send(self) -> bool:
        """Send what was asked; tell whether all of it has left."""
        conversation = self.conversation
        due = self.asked * conversation.request_length - self._sent
        start = self._sent % conversation.requests_length
        try:
            count = self.socket.send(conversation.requests[start : start + due])
        except BlockingIOError:
            return False
        self._sent += count
        return count == due

    def take(self, view: memoryview, buffer: bytearray) -> int:
        """Receive and check; return how many messages are complete with it."""
        conversation = self.conversation
        count = self.socket.recv_into(buffer)
        assert count, "the server ended the connection"
        if not conversation.replies.startswith(view[:count], self._received % conversation.replies_length):
            raise AssertionError(f"what came after {self._received:,} bytes is not the echo of what was sent")
        self._received += count
        complete = self._received // conversation.reply_length - self.answered
        self.answered += complete
        return complete


@dataclass
class Played:
    """One round. Seconds, in which the server ran, in which it waited for its core, and in which the load ran."""

    messages: int
    seconds: float
    server_cpu: float
    server_queued: float
    load_cpu: float
    round_trips: list[float]


class Load:
    """All connections to one server."""

    def __init__(self, port: int, shape: Shape, raw: bool) -> None:
        conversation = Conversation(shape, raw)
        self._shape, self._raw = shape, raw
        self._clients = {}
        self._poll = select.epoll()
        for _ in range(shape.connections):
            client = Client(port, conversation, raw)
            if not raw:
                client.read_answer()
            client.socket.setblocking(False)
            self._clients[client.socket.fileno()] = client
            self._poll.register(client.socket, select.EPOLLIN)

    def close(self) -> None:
        for client in self._clients.values():
            client.close(self._raw)
        self._poll.close()

    def play(self, seconds: float, server_times: Callable[[], tuple[float, float]]) -> Played:
        """Keep the messages in flight for so long, and wait for the last of them."""
        cpu_before, queued_before = server_times()
        mine = time.process_time()
        start = time.perf_counter()
        messages, round_trips = self._play(start, start + seconds)
        end = time.perf_counter()
        mine = time.process_time() - mine
        cpu, queued = server_times()
        return Played(messages, end - start, cpu - cpu_before, queued - queued_before, mine, round_trips)

    def _play(self, now: float, deadline: float) -> tuple[int, list[float]]:
        clients, poll, clock = self._clients, self._poll.poll, time.perf_counter
        buffer = bytearray(READ_SIZE)
        view = memoryview(buffer)
        waiting = self._shape.connections * self._shape.in_flight
        messages, round_trips, times = 0, [], waiting == 1
        asked_at = now
        for number in clients:
            self._ask(number, self._shape.in_flight)
        while waiting:
            events = poll(PATIENCE)
            assert events, f"nothing came for {PATIENCE} seconds, with {waiting} messages in flight"
            for number, event in events:
                complete = clients[number].take(view, buffer) if event & select.EPOLLIN else 0
                if complete:
                    now = clock()
                    messages += complete
                    if times:
                        round_trips.append(now - asked_at)
                        asked_at = now
                    if now < deadline:
                        self._ask(number, complete)
                    else:
                        waiting -= complete
                if event & select.EPOLLOUT and clients[number].send():
                    self._poll.modify(number, select.EPOLLIN)
        return messages, round_trips

    def _ask(self, number: int, messages: int) -> None:
        if not self._clients[number].ask(messages):
            self._poll.modify(number, select.EPOLLIN | select.EPOLLOUT)

"""Very much of something that is allowed: it costs what its bytes cost, and no more of it is kept than is due."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat

import pytest

from wslowlevel import Opcode
from wslowlevel.wire import DEFAULT_MAX_FRAGMENTS, MAX_CONTROL_LENGTH

from ..servers import HEAD_END, handshake, masked, run, upgraded
from .siege import MIB, Siege

PIECE = 64 * 1024
STALLED = 1.0
"""Seconds without a byte taken after which a server is held to have stopped to read."""


class Flooder:
    """A blocking connection that only sends, and reads nothing behind the answer to its opening handshake."""

    def __init__(self, port: int, target: str) -> None:
        self._socket = sockets.socket()
        self._socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        self._socket.settimeout(STALLED)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(handshake(target=target))
        head = b""
        while not head.endswith(HEAD_END):
            head += self._socket.recv(1)

    def flood(self, data: bytes, amount: int) -> int:
        """Send the same again and again, so many bytes at most; return how many the server took before it stalled."""
        piece = memoryview(data * (PIECE // len(data) + 1))
        sent = 0
        while sent < amount:
            try:
                sent += self._socket.send(piece[sent % len(piece) :])
            except TimeoutError:
                break
        return sent

    def read_all(self) -> bytes:
        """Everything until the server ends the connection."""
        return b"".join(iter(lambda: self._socket.recv(PIECE), b""))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def flooding(port: int, target: str) -> Iterator[Flooder]:
    flooder = Flooder(port, target)
    try:
        yield flooder
    finally:
        flooder.close()


def flood_beside_another(siege: Siege, target: str, data: bytes, amount: int) -> int:
    """Flood while another connection is echoed; return how many bytes were taken."""

    async def attack() -> int:
        async with siege.others_answered():
            return await asyncio.to_thread(flooder.flood, data, amount)

    with flooding(siege.port, target) as flooder:
        return run("asyncio", attack())


# -- Control frames ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [8 * MIB, pytest.param(60 * MIB, marks=pytest.mark.slow)])
def test_pings_whose_pongs_are_never_read(siege: Siege, amount: int) -> None:
    """CVE-2026-11586, CVE-2026-109932, CPython #146507: a flood of pings, whose pongs nobody reads."""
    ping = masked(Opcode.PING, bytes(MAX_CONTROL_LENGTH))
    with siege.memory(at_most=4 * MIB), siege.running(at_most=1.0):
        taken = flood_beside_another(siege, "/echo", ping, amount)
    assert taken < amount, "the server went on reading"


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_pongs_that_nobody_asked_for(siege: Siege, count: int) -> None:
    """CVE-2021-3690: unsolicited pongs are read, and leave nothing behind."""
    pong = masked(Opcode.PONG, b"nobody asked")
    with siege.memory(at_most=2 * MIB):
        assert flood_beside_another(siege, "/echo", pong, count * len(pong)) >= count * len(pong)


def test_empty_frames_in_every_state(siege: Siege) -> None:
    """CVE-2014-9374: frames without a payload, also between and within fragments."""
    pings = masked(9) + masked(10)
    frames = [
        *(pings, masked(1), pings, masked(2), pings, masked(1, fin=0), pings, masked(0, fin=0), pings, masked(0)),
        *(masked(2, b"x", fin=0), pings, masked(0, fin=0), pings, masked(0)),
    ]

    async def attack() -> None:
        async with upgraded(siege.port, target="/echo") as client:
            await client.send(b"".join(frames) + masked(8))
            answers = [(frame.opcode, frame.payload) for frame in await client.read_frames()]
        assert [each for each in answers if each[0] != Opcode.PONG] == [
            (1, b""),
            (2, b""),
            (1, b""),
            (2, b"x"),
            (8, b""),
        ]
        assert answers.count((Opcode.PONG, b"")) == b"".join(frames).count(pings[:2])

    run("asyncio", attack())
    assert siege.outcomes() == {"ended": 1}


def test_a_control_frame_between_fragments(siege: Siege) -> None:
    """aiohttp #12988: a ping between fragments is answered before them, and changes nothing of the message."""

    async def attack() -> None:
        async with upgraded(siege.port, target="/echo") as client:
            await client.send(masked(1, b"ab", fin=0) + masked(9, b"p") + masked(0, b"cd"))
            assert [(await client.read_frame()).payload for _ in range(2)] == [b"p", b"abcd"]
            await client.send(masked(8))
            await client.read_frames()

    run("asyncio", attack())


def test_close_twice(siege: Siege) -> None:
    """One Close frame is answered by one, whatever follows it (RFC 6455 §5.5.1)."""

    async def attack() -> None:
        async with upgraded(siege.port, target="/echo") as client:
            await client.send(masked(8, b"\x03\xe8") * 2 + masked(1, b"data after the end") + b"\xff" * 100)
            assert [frame.payload for frame in await client.read_frames()] == [b"\x03\xe8"]

    run("asyncio", attack())
    assert siege.outcomes() == {"ended": 1}


# -- Fragments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"x"], ids=["empty", "of a byte"])
def test_fragments_without_end(siege: Siege, payload: bytes) -> None:
    """CVE-2026-48779, CVE-2026-62389: very many fragments, with the default limit."""
    fragments = masked(2, payload, fin=0) + b"".join(repeat(masked(0, payload, fin=0), 200_000))

    def attack() -> bytes:
        with flooding(siege.port, "/drop") as flooder:
            flooder.flood(fragments, len(fragments))
            return flooder.read_all()

    with siege.memory(at_most=4 * MIB):
        assert attack()[2:4] == (1009).to_bytes(2, "big")
    assert siege.outcomes() == {"PayloadTooBig TOO_MANY_FRAGMENTS 1009": 1, "messages 0": 1}


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_fragments_without_a_limit(siege_of: Callable[..., Siege], count: int) -> None:
    """CVE-2026-65623: a message of very many empty fragments, where somebody has lifted the limit."""
    siege = siege_of(messages={"max_fragments": None})
    empty = masked(0, fin=0)
    fragments = masked(2, b"ab", fin=0) + empty * count

    async def attack() -> None:
        async with upgraded(siege.port, target="/echo") as client, siege.others_answered():
            await client.send(fragments)
            await client.send(masked(0, b"cd"))
            assert (await client.read_frame()).payload == b"abcd"

    with siege.memory(at_most=4 * MIB):
        run("asyncio", attack())


def test_as_many_fragments_as_are_allowed(siege: Siege) -> None:
    """The limit of fragments is inclusive, and counts empty ones."""
    middle = masked(0, fin=0) * (DEFAULT_MAX_FRAGMENTS - 2)

    async def attack() -> None:
        async with upgraded(siege.port, target="/echo") as client:
            await client.send(masked(2, b"ab", fin=0) + middle + masked(0, b"cd"))
            assert (await client.read_frame()).payload == b"abcd"

    run("asyncio", attack())


@pytest.mark.parametrize("size", [100_000, pytest.param(900_000, marks=pytest.mark.slow)])
def test_a_frame_in_segments_of_two_bytes(siege: Siege, size: int) -> None:
    """CVE-2026-54274, CVE-2026-123817: what of a frame has come is held once, however it comes."""
    frame = masked(2, bytes(size))

    async def attack() -> None:
        async with upgraded(siege.port, target="/echo") as client:
            client.writer.get_extra_info("socket").setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
            for start in range(0, len(frame), 2):
                client.writer.write(frame[start : start + 2])
                if not start % 512:
                    await asyncio.sleep(0)
            assert (await client.read_frame()).payload == bytes(size)

    with siege.memory(at_most=4 * MIB):
        run("asyncio", attack())


@pytest.mark.parametrize("amount", [2 * MIB, pytest.param(32 * MIB, marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", ["/echo", "/drop"])
def test_tiny_messages_without_end(siege: Siege, target: str, amount: int) -> None:
    """Rule 5: a peer that sends as fast as it can does not hold up another connection, answered or not."""
    with siege.memory(at_most=4 * MIB):
        flood_beside_another(siege, target, masked(2, b""), amount)


def test_a_handler_that_never_reads(siege: Siege) -> None:
    """tornado #2341, aiohttp #9686: what nobody takes is bounded in bytes, whatever characters they make."""
    text = masked(Opcode.TEXT, "\N{SLIGHTLY SMILING FACE}".encode() * 1000)
    with siege.memory(at_most=MIB):
        assert flood_beside_another(siege, "/linger", text, 64 * MIB) < 64 * MIB


def test_echoes_that_are_never_read(siege: Siege) -> None:
    """tungstenite, ws: echoes of 60 KB that nobody reads: the sender is held up, and little waits in memory."""
    message = masked(Opcode.BINARY, bytes(60_000))
    with siege.memory(at_most=4 * MIB):
        assert flood_beside_another(siege, "/echo", message, 120 * MIB) < 16 * MIB

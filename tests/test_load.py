"""Eight connections, sixteen messages in flight on each, for two seconds: every byte that comes back is checked."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from wslowlevel import Message, MessageDecoder, Opcode, encode_frame

from .servers import both_loops, connecting, masked_close, run

CONNECTIONS = 8
IN_FLIGHT = 16
SECONDS = 2.0

SERVER = """
import asyncio, sys
from wslowlevel import *

async def on_upgrade(request, socket, head):
    get_messages, send = get_messages_factory(socket), send_factory(socket)
    send_handshake(request, socket)
    async for message in get_messages():
        if message.opcode in (Opcode.TEXT, Opcode.BINARY):
            await send(prepare_websocket_frame(message.payload, opcode=message.opcode))

async def main():
    async with serve(on_upgrade, "127.0.0.1", 0) as server:
        print(BACKEND, server.port, flush=True)
        await server.serve_forever()

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@contextmanager
def server_of(backend: str, loop_kind: str) -> Iterator[int]:
    """The server in a process of its own, on a backend of its own; its port."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVER, loop_kind],
        env={**os.environ, "WSLOWLEVEL_BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        running, port = process.stdout.readline().split()
        assert running == backend
        yield int(port)
    finally:
        process.terminate()
        _, errors = process.communicate()
    assert errors == ""


def message(chance: random.Random) -> Message:
    """Text or binary of any length, mostly short."""
    length = chance.choice([0, 1, 125, 125, 125, 126, 1000, 65_535, 65_536, 200_000])
    if chance.random() < 0.5:
        return Message(Opcode.TEXT, ("é" * length)[: length // 2].encode())
    return Message(Opcode.BINARY, chance.randbytes(length))


def frames(sent: Message, chance: random.Random) -> bytes:
    """A message as a client sends it: masked with a fresh key, in one frame or in several."""
    cuts = sorted(chance.randrange(len(sent.payload) + 1) for _ in range(chance.choice([0, 0, 0, 1, 3])))
    pieces = [sent.payload[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]
    return b"".join(
        encode_frame(0 if i else sent.opcode, piece, fin=int(i == len(pieces) - 1), mask_key=chance.randbytes(4))
        for i, piece in enumerate(pieces)
    )


async def talk(port: int, seed: int) -> int:
    """Keep sixteen messages in flight until the time is over; how many came back as they went."""
    chance = random.Random(seed)
    decoder = MessageDecoder(role="client")
    waiting: deque[Message] = deque()
    checked = 0
    deadline = time.monotonic() + SECONDS
    async with connecting(port) as client:
        await client.upgrade()
        while waiting or time.monotonic() < deadline:
            while len(waiting) < IN_FLIGHT and time.monotonic() < deadline:
                waiting.append(message(chance))
                client.writer.write(frames(waiting[-1], chance))
            for echo in decoder.feed(await client.reader.read(256 * 1024)):
                assert echo == waiting.popleft()
                checked += 1
            assert decoder.error is None
        await client.send(masked_close(1000))
        assert await client.read_until_eof() == b"\x88\x02\x03\xe8"
    return checked


@both_loops
@pytest.mark.parametrize("backend", ["cython", "python"])
def test_every_byte_comes_back(backend: str, loop_kind: str) -> None:
    async def main(port: int) -> list[int]:
        return await asyncio.gather(*(talk(port, seed) for seed in range(CONNECTIONS)))

    with server_of(backend, loop_kind) as port:
        counts = run(loop_kind, main(port))
    assert min(counts) > IN_FLIGHT

"""How long does a message take from the socket to the body of the loop that reads it, as one of a chunk of 64 KiB?

A connection on loopback in the process of the benchmark: one system call sends the chunk and one or a few receive it,
so that decoding and handing out is what is measured. Nothing is sent back. WSLOWLEVEL_BACKEND chooses ours.
"""

from __future__ import annotations

import asyncio
import socket as sockets
from typing import Any

import pytest

from .load import CLOSE, masked_frame
from .peers import KEY, UPGRADE, Case, Counter, as_bytes, cases, messages_of

CHUNK = 64 * 1024


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "asyncio":
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
@pytest.mark.parametrize("size", [16, 125, 1024])
@pytest.mark.parametrize("contender", cases("iterate"))
def test_iterate(contender: Case, size: int, loop_name: str, about, benchmark) -> None:
    payloads = list(messages_of(size, CHUNK))
    chunk = b"".join(masked_frame(payload, KEY) for payload in payloads)
    about("iterate", f"{len(payloads):,} of {size:,} bytes, {loop_name}", messages=len(payloads), size=size)
    loop = new_loop(loop_name)
    asyncio.set_event_loop(loop)
    run = loop.run_until_complete
    counter, server, client = run(connect(contender))

    async def read_all() -> None:
        done = counter.expect(len(payloads))
        assert client.send(chunk) == len(chunk)
        await done

    run(read_all())
    assert as_bytes(counter.last) == payloads[-1]
    benchmark(lambda: run(read_all()))
    run(finish(client))
    server.close() if hasattr(server, "close") else server.stop()
    run(asyncio.sleep(0.01))  # in which handlers end
    loop.close()


async def connect(contender: Case) -> tuple[Counter, Any, sockets.socket]:
    loop = asyncio.get_running_loop()
    counter = Counter()
    server = await contender.build(counter)
    client = sockets.socket()
    client.setblocking(False)
    await loop.sock_connect(client, next(iter(server.sockets)).getsockname())
    await loop.sock_sendall(client, UPGRADE)
    assert (await loop.sock_recv(client, 4096)).startswith(b"HTTP/1.1 101 ")
    return counter, server, client


async def finish(client: sockets.socket) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, CLOSE)
    while await asyncio.wait_for(loop.sock_recv(client, CHUNK), 10):
        pass
    client.close()

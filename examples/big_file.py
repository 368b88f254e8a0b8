"""A file that is larger than memory should be: up to a server in one message, and back in another.

Each side holds a few chunks of it at a time. The server is a process of its own; both tell their peak of memory.

Try it:  pip install rich
         python examples/big_file.py --size 1024
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter
from typing import IO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from wslowlevel import (
    BACKEND,
    Chunk,
    Opcode,
    Request,
    Socket,
    connect,
    get_chunks_factory,
    send_chunks_factory,
    send_handshake,
    send_message_factory,
    serve,
)

MIB = 1024 * 1024
PIECE = 256 * 1024
"""Bytes that are read from the file at a time, and leave as one fragment."""


def peak_memory() -> float:
    """The most that this process had in memory, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024)


def pieces(file: IO[bytes], tell: Callable[[int], object] = lambda _size: None) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(PIECE):
        yield piece
        tell(len(piece))


async def receive(
    chunks: AsyncIterator[Chunk], file: IO[bytes] | None = None, tell: Callable[[int], object] = lambda _size: None
) -> str:
    """Take one binary message, into a file if there is one -> its SHA-256."""
    digest = hashlib.sha256()
    async for chunk in chunks:
        if chunk.opcode == Opcode.BINARY:
            digest.update(chunk.payload)
            if file is not None:
                file.write(chunk.payload)
            tell(len(chunk.payload))
            if chunk.message_finished:
                return digest.hexdigest()
    raise EOFError("the connection was closed before the file was complete")


async def receive_text(chunks: AsyncIterator[Chunk]) -> str:
    """Take one short text message."""
    text = b""
    async for chunk in chunks:
        if chunk.opcode == Opcode.TEXT:
            text += chunk.payload
            if chunk.message_finished:
                return text.decode()
    raise EOFError("the connection was closed before the text was complete")


# -- The server -------------------------------------------------------------------------------------------------------


async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
    chunks = get_chunks_factory(socket)()
    send_message = send_message_factory(socket)
    send_handshake(request, socket)
    with tempfile.TemporaryFile() as file:
        await send_message(await receive(chunks, file))
        await send_chunks_factory(socket)(pieces(file))
    await send_message(f"{peak_memory():.1f}")


async def run_server(port: int) -> None:
    async with serve(on_upgrade, "127.0.0.1", port, stop_signals=[signal.SIGINT, signal.SIGTERM]) as server:
        print(f"listening on ws://127.0.0.1:{server.port}", flush=True)
        await server.serve_forever()


# -- The client -------------------------------------------------------------------------------------------------------


def fill(file: IO[bytes], size: int) -> str:
    """Write `size` different blocks of 1 MiB -> the SHA-256 of them all."""
    digest = hashlib.sha256()
    noise = os.urandom(MIB - 8)
    for number in range(size):
        block = number.to_bytes(8, "big") + noise
        digest.update(block)
        file.write(block)
    return digest.hexdigest()


async def up_and_down(uri: str, size: int, file: IO[bytes]) -> None:
    digest = fill(file, size)
    columns = (TextColumn("{task.description:8}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    _, socket = await connect(uri)
    chunks = get_chunks_factory(socket)()
    async with socket:
        with Progress(*columns) as progress:
            up, down = (progress.add_task(name, total=size * MIB, start=False) for name in ("upload", "download"))

            progress.start_task(up)
            started = perf_counter()
            await send_chunks_factory(socket)(pieces(file, lambda count: progress.advance(up, count)))
            received_there = await receive_text(chunks)
            uploaded = perf_counter()

            progress.start_task(down)
            received_here = await receive(chunks, tell=lambda count: progress.advance(down, count))
            downloaded = perf_counter()
        server_peak = await receive_text(chunks)

    if not digest == received_there == received_here:
        raise ValueError(f"sent {digest}, the server got {received_there}, and sent back {received_here}")
    print(f"SHA-256 {digest}: the same on both sides")
    for name, seconds in (("upload", uploaded - started), ("download", downloaded - uploaded)):
        print(f"{name}: {size * MIB / 1e6 / seconds:.0f} MB/s with the {BACKEND} backend")
    print(f"peak memory: client {peak_memory():.1f} MiB, server {server_peak} MiB")


def main(size: int, port: int) -> None:
    command = [sys.executable, __file__, "--serve", "--port", str(port)]
    with (
        tempfile.TemporaryFile() as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as server,
    ):
        assert server.stdout is not None
        try:
            uri = server.stdout.readline().strip().removeprefix("listening on ")
            asyncio.run(up_and_down(uri, size, file))
        finally:
            server.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--port", type=int, default=0, help="where the server listens; 0: any free one")
    parser.add_argument("--serve", action="store_true", help="be the server, and nothing else")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(run_server(options.port))
    else:
        main(options.size, options.port)

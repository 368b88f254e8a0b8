"""The `websockets` package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from ..tls import client_tls, server_tls
from .conversation import MESSAGES, OURS, SUBPROTOCOLS, THEIRS, Server, Talk

OFFERED = [Subprotocol(name) for name in SUBPROTOCOLS]


def compression(compress: bool) -> Literal["deflate"] | None:
    return "deflate" if compress else None


@asynccontextmanager
async def serving(secure: bool, compress: bool) -> AsyncIterator[Server]:
    peer = Server()

    async def handle(connection: ServerConnection) -> None:
        with suppress(websockets.ConnectionClosed):  # with another code than 1000 or 1001
            await converse(connection)
        close = connection.protocol.close_rcvd
        assert close is not None
        peer.closes.put_nowait((close.code, close.reason))

    async with serve(
        handle,
        "127.0.0.1",
        0,
        ssl=server_tls() if secure else None,
        subprotocols=OFFERED[1:],
        compression=compression(compress),
    ) as server:
        peer.port = next(iter(server.sockets)).getsockname()[1]
        yield peer


async def converse(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "!fragments":
            await connection.send(["frag", "ments"])
        elif message == "!ping":
            await (await connection.ping("are you there"))
            await connection.send("pong")
        elif message == "!close":
            await connection.close(*THEIRS)
        else:
            await connection.send(message)


async def talk(uri: str, *, secure: bool, compress: bool, closer: str) -> Talk:
    received = []
    async with connect(
        uri,
        ssl=client_tls() if secure else None,
        subprotocols=OFFERED,
        compression=compression(compress),
        proxy=None,
    ) as connection:
        for message in (*MESSAGES, ["frag", "ments"], "!fragments", "!ping"):
            await connection.send(message)
            received.append(await connection.recv())
        await (await connection.ping("ping"))
        if closer == "client":
            await connection.close(*OURS)
        else:
            await connection.send("!close")
            with suppress(websockets.ConnectionClosed):
                await connection.recv()
    return Talk(connection.subprotocol, tuple(received), "ping", connection.close_code)

"""The `aiohttp` package. It sends a message in one frame always."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web

from ..tls import client_tls, server_tls
from .conversation import MESSAGES, OURS, SUBPROTOCOLS, THEIRS, Close, Payload, Server, Talk


async def send(socket: web.WebSocketResponse | ClientWebSocketResponse, payload: Payload) -> None:
    await (socket.send_str(payload) if isinstance(payload, str) else socket.send_bytes(payload))


@asynccontextmanager
async def serving(secure: bool, compress: bool) -> AsyncIterator[Server]:
    peer = Server()

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=SUBPROTOCOLS[1:], compress=compress, autoping=False)
        await socket.prepare(request)
        peer.closes.put_nowait(await converse(socket))
        return socket

    application = web.Application()
    application.router.add_get("/", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls() if secure else None)
    await site.start()
    try:
        peer.port = runner.addresses[0][1]
        yield peer
    finally:
        await runner.cleanup()


async def converse(socket: web.WebSocketResponse) -> Close:
    """Answer until the client closes: its code and reason."""
    while True:
        message = await socket.receive()
        if message.type is WSMsgType.CLOSE:
            return message.data, message.extra or ""
        if message.type is WSMsgType.PING:
            await socket.pong(message.data)
        elif message.data == "!fragments":
            await socket.send_str("fragments")
        elif message.data == "!ping":
            await socket.ping(b"are you there")
            pong = await socket.receive()
            assert (pong.type, pong.data) == (WSMsgType.PONG, b"are you there")
            await socket.send_str("pong")
        elif message.data == "!close":
            await socket.close(code=THEIRS[0], message=THEIRS[1].encode())
            return socket.close_code or 0, ""
        else:
            await send(socket, message.data)


async def talk(uri: str, *, secure: bool, compress: bool, closer: str) -> Talk:
    options: dict[str, Any] = {"ssl": client_tls()} if secure else {}
    async with (
        ClientSession() as session,
        session.ws_connect(
            uri, protocols=SUBPROTOCOLS, compress=15 if compress else 0, autoping=False, **options
        ) as socket,
    ):
        received = []
        for payload in (*MESSAGES, "fragments", "!fragments", "!ping"):
            await send(socket, payload)
            message = await socket.receive()
            if message.type is WSMsgType.PING:
                await socket.pong(message.data)
                message = await socket.receive()
            received.append(message.data)
        await socket.ping(b"ping")
        pong = await socket.receive()
        assert pong.type is WSMsgType.PONG
        if closer == "client":
            await socket.close(code=OURS[0], message=OURS[1].encode())
        else:
            await send(socket, "!close")
            await socket.receive()
        return Talk(socket.protocol, tuple(received), pong.data.decode(), socket.close_code)

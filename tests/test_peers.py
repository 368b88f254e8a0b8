"""Our client against the servers of others, and our server against their clients: see tests/peers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from wslowlevel import (
    Message,
    Opcode,
    PerMessageDeflate,
    Request,
    Socket,
    choose_subprotocol,
    connect,
    get_messages_factory,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    send_message_factory,
)
from wslowlevel.http1 import HandshakeResponse

from .peers import aiohttp_peer, node_peer, websockets_peer
from .peers.conversation import MESSAGES, OURS, RECEIVED, SIZE, SUBPROTOCOLS, THEIRS, Payload, Server, Talk
from .servers import both_loops, run, serving
from .tls import client_tls, server_tls


class Peer(NamedTuple):
    """One implementation, see tests/peers."""

    serving: Callable[[bool, bool], AbstractAsyncContextManager[Server]]
    talk: Callable[..., Coroutine[Any, Any, Talk]]
    fragments: bool
    echoes_code: bool


PEERS = {
    "websockets": Peer(websockets_peer.serving, websockets_peer.talk, fragments=True, echoes_code=True),
    "aiohttp": Peer(aiohttp_peer.serving, aiohttp_peer.talk, fragments=False, echoes_code=False),
    "ws": Peer(node_peer.serving, node_peer.talk, fragments=True, echoes_code=True),
}

every_peer = pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
every_way = pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
with_and_without_compression = pytest.mark.parametrize("compress", [False, True], ids=["", "deflate"])
each_closes = pytest.mark.parametrize("closer", ["client", "server"])


def uri_of(port: int, secure: bool) -> str:
    return f"ws{'s' if secure else ''}://127.0.0.1:{port}/"


def extensions(compress: bool) -> list[PerMessageDeflate]:
    return [PerMessageDeflate()] if compress else []


def payload_of(message: Message) -> Payload:
    return message.text if message.opcode == Opcode.TEXT else message.payload


def check_sizes(socket: Socket, compress: bool) -> None:
    """What was compressed is small, on the way out and on the way in."""
    assert len(socket.extensions) == compress
    for size in (socket.counters.bytes_sent, socket.counters.bytes_received):
        assert size < SIZE / 10 if compress else size > SIZE


# -- Our client -------------------------------------------------------------------------------------------------------


class Talker:
    """Our side of the conversation as a client."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.send = send_factory(socket)
        self.send_message = send_message_factory(socket)
        self.messages = get_messages_factory(socket, auto_pong=True)()

    async def receive(self, opcode: int) -> Message:
        message = await anext(self.messages)
        assert message.opcode == opcode
        return message

    async def exchange(self, payload: Payload) -> None:
        await self.send_message(payload)
        answer = await self.receive(Opcode.TEXT if isinstance(payload, str) else Opcode.BINARY)
        assert payload_of(answer) == payload

    async def send_fragments(self) -> None:
        await self.send(prepare_websocket_frame(b"frag", is_utf8=True, fin=0, mask_key=True))
        await self.send(prepare_websocket_frame(b"ments", opcode=Opcode.CONTINUATION, mask_key=True))
        assert (await self.receive(Opcode.TEXT)).text == "fragments"

    async def have_fragments_sent(self) -> int:
        """How many frames came."""
        before = self.socket.counters.frames_received
        await self.send_message("!fragments")
        assert (await self.receive(Opcode.TEXT)).text == "fragments"
        return self.socket.counters.frames_received - before

    async def exchange_pings(self) -> None:
        await self.send_message("!ping")
        assert (await self.receive(Opcode.PING)).payload == b"are you there"
        assert (await self.receive(Opcode.TEXT)).text == "pong"
        await self.send(prepare_websocket_frame(b"ping", opcode=Opcode.PING, mask_key=True))
        assert (await self.receive(Opcode.PONG)).payload == b"ping"

    async def close(self, closer: str) -> None:
        if closer == "client":
            self.socket.close(*OURS)
        else:
            await self.send_message("!close")
        await self.receive(Opcode.CLOSE)
        with pytest.raises(StopAsyncIteration):
            await anext(self.messages)
        await self.socket.wait_closed()


@asynccontextmanager
async def connected(server: Server, secure: bool, **options: Any) -> AsyncIterator[tuple[HandshakeResponse, Socket]]:
    response, socket = await connect(uri_of(server.port, secure), ssl=client_tls() if secure else None, **options)
    try:
        yield response, socket
    finally:
        socket.abort()


@both_loops
@every_peer
@every_way
@with_and_without_compression
@each_closes
def test_our_client(loop_kind: str, peer: Peer, secure: bool, compress: bool, closer: str) -> None:
    async def main() -> None:
        async with (
            peer.serving(secure, compress) as server,
            connected(server, secure, subprotocols=SUBPROTOCOLS, extensions=extensions(compress)) as (response, socket),
        ):
            assert response.subprotocol == "chat"
            talker = Talker(socket)
            for payload in MESSAGES:
                await talker.exchange(payload)
            check_sizes(socket, compress)
            await talker.send_fragments()
            assert (await talker.have_fragments_sent() > 1) == peer.fragments
            await talker.exchange_pings()
            await talker.close(closer)
            if closer == "client":
                assert socket.sent == await server.closes.get() == OURS
                assert socket.received is not None
                assert socket.received[0] == (OURS[0] if peer.echoes_code else 1000)
            else:
                assert socket.received == THEIRS
                assert socket.sent == THEIRS
                assert await server.closes.get() in (THEIRS, (THEIRS[0], ""))  # aiohttp keeps its own code only

    run(loop_kind, main())


# -- Our server -------------------------------------------------------------------------------------------------------


async def converse(socket: Socket) -> None:
    """Our side of the conversation as a server, until the client closes."""
    send, send_message = send_factory(socket), send_message_factory(socket)
    async for message in get_messages_factory(socket, auto_pong=True)():
        if message.opcode == Opcode.PONG:
            assert message.payload == b"are you there"
            await send_message("pong")
        elif message.opcode in (Opcode.PING, Opcode.CLOSE):
            continue
        elif message.payload == b"!fragments":
            await send(prepare_websocket_frame(b"frag", is_utf8=True, fin=0))
            await send(prepare_websocket_frame(b"ments", opcode=Opcode.CONTINUATION))
        elif message.payload == b"!ping":
            await send(prepare_websocket_frame(b"are you there", opcode=Opcode.PING))
        elif message.payload == b"!close":
            socket.close(*THEIRS)
        else:
            await send_message(payload_of(message))


@both_loops
@every_peer
@every_way
@with_and_without_compression
@each_closes
def test_our_server(loop_kind: str, peer: Peer, secure: bool, compress: bool, closer: str) -> None:
    sockets: list[Socket] = []

    async def handle(request: Request, socket: Socket, head: bytes) -> None:
        sockets.append(socket)
        headers = [("Sec-WebSocket-Protocol", choose_subprotocol(request, ["chat"]) or "")]
        await send_handshake(request, socket, headers, extensions=extensions(compress))
        await converse(socket)

    async def main() -> None:
        async with serving(handle, ssl=server_tls() if secure else None) as server:
            talk = await peer.talk(uri_of(server.port, secure), secure=secure, compress=compress, closer=closer)
            (socket,) = sockets
            await socket.wait_closed()
        assert (talk.subprotocol, talk.received, talk.pong) == ("chat", RECEIVED, "ping")
        check_sizes(socket, compress)
        if closer == "client":
            assert (socket.received, talk.code) == (OURS, OURS[0])
        else:
            assert (socket.sent, talk.code) == (THEIRS, THEIRS[0])
            assert socket.received is not None
            assert socket.received[0] == (THEIRS[0] if peer.echoes_code else 1000)

    run(loop_kind, main())

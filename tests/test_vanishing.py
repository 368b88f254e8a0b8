"""Peers that vanish, and tasks that are cancelled: what the other side sees, and what is known afterwards."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import pytest

import wslowlevel
from wslowlevel import (
    ConnectionLost,
    Request,
    Socket,
    State,
    connect,
    get_messages_factory,
    read_request,
    send_handshake,
    send_message_factory,
    serve,
)
from wslowlevel.aio.streams import StreamSocket

from .servers import both_loops, handshake, run, serving, until, upgraded
from .tls import client_tls, server_tls

NAMES = ("peername", "sockname", "socket", "ssl_object", "peercert", "cipher", "no such name")


async def pump(socket: Socket) -> None:
    """Send until the connection is gone."""
    send = send_message_factory(socket)
    while True:
        await send(b"x" * 1000)
        await asyncio.sleep(0.001)


async def vanish(socket: Socket, how: str) -> None:
    """Go without a Close frame after the first message, by a reset or by an ordinary end of the transport."""
    await anext(get_messages_factory(socket)())
    if how == "abort":
        socket.abort()
    else:
        assert socket._transport is not None
        socket._transport.close()
    await until(lambda: socket.state is State.CLOSED)


@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["abort", "close"])
@pytest.mark.parametrize("reads", [False, True], ids=["sends only", "sends and reads"])
def test_client_that_vanishes_ends_its_handler_in_order(
    loop_kind: str, tls: bool, how: str, reads: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler gets ConnectionLost and nothing is logged as an error, however the client goes."""
    ended: list[BaseException | None] = []
    peers: list[tuple[Any, Any]] = []
    after_loss: list[dict[str, Any]] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        before = socket.get_extra_info("peername")
        sending = asyncio.create_task(pump(socket))
        try:
            if reads:
                async for _ in get_messages():
                    pass
            await sending
        except ConnectionLost as error:
            ended.append(error)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await socket.wait_closed()
            peers.append((before, socket.get_extra_info("peername")))
            after_loss.append({name: socket.get_extra_info(name, "default") for name in NAMES})
            assert socket.buffered == 0
            assert socket.latency is None
            socket.close()
            socket.abort()
            with pytest.raises(ConnectionLost):
                socket.ping()

    async def main() -> None:
        options = {"ssl": server_tls()} if tls else {}
        async with serving(handler, **options) as server:
            scheme, ssl = ("wss", client_tls()) if tls else ("ws", None)
            for _ in range(3):
                _, socket = await connect(f"{scheme}://localhost:{server.port}/", ssl=ssl)
                await vanish(socket, how)
            await until(lambda: len(peers) == 3)

    run(loop_kind, main())
    assert len(ended) == 3
    assert all(isinstance(error, ConnectionLost) for error in ended)
    assert all(before == after and before is not None for before, after in peers)
    assert all(known["no such name"] == "default" for known in after_loss)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@both_loops
def test_peer_name_of_a_stream_pair_is_known_after_the_loss(loop_kind: str) -> None:
    names: list[Any] = []
    done = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        pair = (reader, writer)
        get_messages = get_messages_factory(pair)
        await send_handshake(request, pair)
        names.append(writer.get_extra_info("peername"))
        with pytest.raises(ConnectionLost):
            await anext(get_messages())
        writer.close()
        names.append(StreamSocket.of(pair).get_extra_info("peername"))
        done.set()

    async def main() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        async with server:
            async with upgraded(server.sockets[0].getsockname()[1]):
                pass
            await done.wait()

    run(loop_kind, main())
    assert names[0] == names[1]
    assert names[0] is not None


# -- Cancelled --------------------------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_cancelled_client_sends_1001_and_does_not_wait(loop_kind: str, tls: bool) -> None:
    """The server does not answer the Close frame for a minute, and the client is gone at once all the same."""
    seen: list[tuple[int, str] | None] = []
    go_on = asyncio.Event()

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket, auto_close=False)
        send_handshake(request, socket)
        async for _ in get_messages():
            pass
        seen.append(socket.received)
        await go_on.wait()

    async def client(port: int) -> None:
        scheme, ssl = ("wss", client_tls()) if tls else ("ws", None)
        _, socket = await connect(f"{scheme}://localhost:{port}/", ssl=ssl)
        async with socket:
            async for _ in get_messages_factory(socket)():
                pass

    async def main() -> None:
        options = {"ssl": server_tls()} if tls else {}
        async with serving(handler, close_timeout=60, **options) as server:
            task = asyncio.create_task(client(server.port))
            await until(lambda: server.connections == 1)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: bool(seen))
            go_on.set()

    run(loop_kind, main())
    assert seen == [(1001, "")]


@both_loops
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_handler_task_cancelled_before_its_first_step_leaves_no_connection(loop_kind: str, tls: bool) -> None:
    """Everything is cancelled in the turn in which the connection arrives, or its request does."""

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        raise AssertionError("the handler must not run")

    def cancelled(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        options.pop("eager_start", None)
        task = asyncio.Task(coroutine, loop=loop, **options)
        if coroutine.__qualname__ in ("Server._run", "TlsArrival._start_tls"):
            task.cancel()
        return task

    async def main() -> None:
        options: dict[str, Any] = {"ssl": server_tls(), "max_connections": 10} if tls else {}
        async with serving(handler, **options) as server:
            asyncio.get_running_loop().set_task_factory(cancelled)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            if not tls:
                writer.write(handshake())
            with suppress(OSError):
                assert await reader.read() == b""
            writer.close()
            await until(lambda: not server.connections and not server.requests)

    run(loop_kind, main())


@both_loops
def test_cancelled_client_of_a_peer_that_does_not_read_is_gone_at_once(loop_kind: str) -> None:
    """Best effort: more waits than the peer takes, so that the Close frame cannot reach it."""

    async def main() -> None:
        never = asyncio.Event()

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await send_handshake(await read_request(reader), (reader, writer))
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await never.wait()
            writer.close()

        async def client(port: int) -> None:
            _, socket = await connect(f"ws://127.0.0.1:{port}/", close_timeout=60)
            async with socket:
                await socket.send_message(bytes(2**24))

        listener = await asyncio.start_server(deaf, "127.0.0.1", 0)
        async with listener:
            task = asyncio.create_task(client(listener.sockets[0].getsockname()[1]))
            await asyncio.sleep(0.2)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            never.set()
            await asyncio.sleep(0.05)

    run(loop_kind, main())


# -- A client that only reads -----------------------------------------------------------------------------------------


@both_loops
def test_client_with_defaults_answers_the_pings_of_its_server(loop_kind: str) -> None:
    """It stays connected for several times the server's ping timeout, and every message has a text."""
    texts: list[str] = []

    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        get_messages = get_messages_factory(socket)
        send_handshake(request, socket)
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, socket.send_message, "after many pings")
        async for message in get_messages():
            texts.append(message.text)

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0, ping_interval=0.03, ping_timeout=0.1) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
            async with socket:
                async for message in get_messages_factory(socket)():
                    if message.text == "after many pings":
                        break
                await socket.finish(1000, "done")
            await until(lambda: texts[-1:] == ["done"])

    run(loop_kind, main())


@pytest.mark.parametrize("factory", ["get_messages_factory", "get_chunks_factory"])
def test_iterating_over_a_factory_result_without_calling_it_says_so(factory: str) -> None:
    async def handler(request: Request, socket: Socket, head: bytes) -> None:
        make = getattr(wslowlevel, factory)(socket)
        send_handshake(request, socket)
        with pytest.raises(TypeError, match=rf"{factory}\(\) returns a function: call it, `async for"):
            async for _ in make:
                pass

    async def main() -> None:
        async with serving(handler) as server, upgraded(server.port):
            pass

    run("asyncio", main())

"""Sockets and servers belong to the thread of their event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from wslowlevel import (
    InvalidHandshake,
    Opcode,
    Request,
    Socket,
    broadcast,
    connect,
    get_messages_factory,
    prepare_websocket_frame,
    send_handshake,
    serve,
)
from wslowlevel.aio.server import Server

from .servers import both_loops, run, serving, until

FRAME = prepare_websocket_frame(b"x")
MASKED = prepare_websocket_frame(b"x", mask_key=True)


def started(make: Callable[[Socket], Any]) -> Callable[[Socket], object]:
    """Run a coroutine of a socket on an event loop of the calling thread."""

    async def main(socket: Socket) -> None:
        await make(socket)

    return lambda socket: asyncio.run(main(socket))


CALLS: dict[str, Callable[[Socket], object]] = {
    "send": lambda socket: socket.send(MASKED),
    "send of a control frame": lambda socket: socket.send(prepare_websocket_frame(b"", opcode=9, mask_key=True)),
    "send_message": lambda socket: socket.send_message("x"),
    "send_message of text bytes": lambda socket: socket.send_message(b"x", is_utf8=True),
    "send_message of 1 MiB": lambda socket: socket.send_message(bytes(2**20)),
    "send_chunks": started(lambda socket: socket.send_chunks(["x"])),
    "ping": lambda socket: socket.ping(),
    "close": lambda socket: socket.close(),
    "abort": lambda socket: socket.abort(),
    "keep_alive": lambda socket: socket.keep_alive(ping_interval=1),
    "wait_closed": started(lambda socket: socket.wait_closed()),
    "finish": started(lambda socket: socket.finish()),
    "get_messages": started(lambda socket: anext(socket_messages(socket))),
    "get_messages_factory": get_messages_factory,
    "async with": started(lambda socket: socket.__aexit__(None, None, None)),
}


def socket_messages(socket: Socket) -> Any:
    return MESSAGES[socket]()


MESSAGES: dict[Socket, Callable[[], Any]] = {}


async def raised_in_thread(call: Callable[[], object]) -> BaseException | None:
    """Make a call in another thread -> what it raises, None for nothing."""
    raised: list[BaseException | None] = []

    def target() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=target)
    thread.start()
    await until(lambda: bool(raised))
    thread.join()
    return raised[0]


async def echo(request: Request, socket: Socket, head: bytes) -> None:
    get_messages = get_messages_factory(socket)
    send_handshake(request, socket)
    async for message in get_messages():
        if message.opcode == Opcode.BINARY:
            socket.send_message(message.payload)


@both_loops
@pytest.mark.parametrize("name", CALLS)
def test_call_from_another_thread_raises_and_leaves_the_connection_usable(loop_kind: str, name: str) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
            async with socket:
                MESSAGES[socket] = get_messages_factory(socket)
                counters = socket.counters
                error = await raised_in_thread(lambda: CALLS[name](socket))
                assert isinstance(error, RuntimeError)
                assert "loop.call_soon_threadsafe(" in str(error)
                assert socket.counters == counters
                assert socket.is_open
                socket.send_message(b"still here")
                message = await anext(MESSAGES.pop(socket)())
                assert message.payload == b"still here"

    run(loop_kind, main())


@both_loops
def test_server_call_from_another_thread_raises(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(echo) as server:

            def close(server: Server = server) -> None:
                asyncio.run(server.close())

            error = await raised_in_thread(close)
            assert isinstance(error, RuntimeError)
            assert "loop.call_soon_threadsafe(" in str(error)
            _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
            await socket.finish()

    run(loop_kind, main())


@both_loops
def test_broadcast_from_another_thread_raises(loop_kind: str) -> None:
    async def main() -> None:
        sockets: list[Socket] = []

        async def handler(request: Request, socket: Socket, head: bytes) -> None:
            send_handshake(request, socket)
            sockets.append(socket)
            await socket.wait_closed()

        async with serving(handler) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
            async with socket:
                await until(lambda: bool(sockets))
                error = await raised_in_thread(lambda: asyncio.run(as_coroutine(sockets)))
                assert isinstance(error, RuntimeError)
                assert "loop.call_soon_threadsafe(" in str(error)
                await broadcast(FRAME, sockets)
                assert (await anext(get_messages_factory(socket)())).payload == b"x"

    async def as_coroutine(sockets: list[Socket]) -> None:
        await broadcast(FRAME, sockets)

    run(loop_kind, main())


@both_loops
def test_call_soon_threadsafe_sends(loop_kind: str) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
            async with socket:
                messages = get_messages_factory(socket)()
                loop = asyncio.get_running_loop()
                error = await raised_in_thread(lambda: loop.call_soon_threadsafe(socket.send_message, b"from a thread"))
                assert error is None
                assert (await anext(messages)).payload == b"from a thread"

    run(loop_kind, main())


def test_loop_that_moves_to_another_thread_takes_its_sockets_along() -> None:
    """It is run in this thread, then in another; calls are accepted where it runs, and where it does not run at all."""
    loop = asyncio.new_event_loop()

    async def opened() -> tuple[Server, Socket]:
        server = await serve(echo, "127.0.0.1", 0)
        _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
        return server, socket

    async def talk(socket: Socket, payload: bytes) -> bytes:
        socket.send_message(payload)
        return bytes((await anext(MESSAGES[socket]())).payload)

    async def end(server: Server, socket: Socket) -> None:
        await socket.finish()
        await server.close()

    server, socket = loop.run_until_complete(opened())
    MESSAGES[socket] = get_messages_factory(socket)
    socket.send_message(b"while it does not run")
    answers: list[bytes] = []

    def elsewhere() -> None:
        answers.append(loop.run_until_complete(talk(socket, b"one")))
        answers.append(loop.run_until_complete(talk(socket, b"two")))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    loop.run_until_complete(end(server, socket))
    loop.close()
    del MESSAGES[socket]
    assert answers == [b"while it does not run", b"one"]


def test_socket_of_a_loop_that_runs_elsewhere_is_refused_where_it_was_made() -> None:
    """The thread is the one in which the socket was made, but the loop now runs in another one."""
    loop = asyncio.new_event_loop()

    async def opened() -> tuple[Server, Socket]:
        server = await serve(echo, "127.0.0.1", 0)
        _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
        return server, socket

    async def end() -> None:
        await socket.finish()
        await server.close()

    server, socket = loop.run_until_complete(opened())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
        with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
            socket.send(MASKED)
        with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
            socket.close()
        asyncio.run_coroutine_threadsafe(end(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_refused_handshake_from_another_thread_raises() -> None:
    async def main() -> None:
        errors: list[BaseException | None] = []

        async def handler(request: Request, socket: Socket, head: bytes) -> None:
            errors.append(await raised_in_thread(lambda: socket.refuse(InvalidHandshake("no", 403))))
            errors.append(await raised_in_thread(lambda: send_handshake(request, socket)))
            await echo(request, socket, head)

        async with serving(handler) as server:
            _, socket = await connect(f"ws://127.0.0.1:{server.port}/")
            await socket.finish()
        assert [type(error) for error in errors] == [RuntimeError, RuntimeError]

    run("asyncio", main())

"""An echo server around asyncio.start_server: the factories take the (reader, writer) pair of an existing program.

Try it:  python examples/asyncio_streams.py
         python -m wslowlevel connect ws://127.0.0.1:8765
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from wslowlevel import (
    CloseCode,
    Opcode,
    WebSocketError,
    get_messages_factory,
    prepare_close_frame_payload,
    prepare_websocket_frame,
    read_request,
    send_factory,
    send_handshake,
)


async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await echo(reader, writer)
    except (WebSocketError, ConnectionError, asyncio.TimeoutError) as error:
        print(f"{writer.get_extra_info('peername')}: {error}")
    finally:
        writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    request = await asyncio.wait_for(read_request(reader), 10)
    get_messages = get_messages_factory((reader, writer))
    send = send_factory((reader, writer))
    await send_handshake(request, (reader, writer))
    try:
        async for message in get_messages():
            if message.opcode in (Opcode.TEXT, Opcode.BINARY):
                await send(prepare_websocket_frame(message.payload, opcode=message.opcode))
    except asyncio.CancelledError:  # the program ends
        going_away = prepare_close_frame_payload(CloseCode.GOING_AWAY)
        await send(prepare_websocket_frame(going_away, opcode=Opcode.CLOSE))
        raise


async def main(port: int) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(stop.set))  # Ctrl-C
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(on_connection(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    asyncio.run(main(parser.parse_args().port))

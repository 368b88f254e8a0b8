"""Close frames with a code and a reason of one's own, whoever closes first.

Say "bye" and the server closes with 4001; close the connection yourself and it answers with 4000, not with your code;
break a rule of the protocol and it says so in its own words.

Try it:  python examples/custom_close.py
         python -m wslowlevel connect ws://127.0.0.1:8765
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from wslowlevel import (
    Opcode,
    PayloadTooBig,
    ProtocolError,
    Request,
    Socket,
    get_messages_factory,
    parse_close_frame_payload,
    prepare_close_frame_payload,
    prepare_websocket_frame,
    send_factory,
    send_handshake,
    serve,
)


async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
    get_messages = get_messages_factory(socket, auto_close=False)
    send = send_factory(socket)
    send_handshake(request, socket)

    def close(code: int, reason: str) -> None:
        if socket.sent is None:  # nothing may follow a Close frame, a second one neither (RFC 6455 §5.5.1)
            send(prepare_websocket_frame(prepare_close_frame_payload(code, reason), opcode=Opcode.CLOSE))

    try:
        async for message in get_messages():
            if message.opcode == Opcode.CLOSE:
                code, _ = parse_close_frame_payload(message.payload)
                close(4000, f"you closed with {code}, so long")
            elif message.opcode == Opcode.TEXT and message.text == "bye":
                close(4001, "bye yourself")
    except (ProtocolError, PayloadTooBig) as error:
        close(error.close_code, f"that was against the rules: {error.reason.value}")


async def main(port: int) -> None:
    async with serve(on_upgrade, "127.0.0.1", port, stop_signals=[signal.SIGINT]) as server:
        print(f"listening on ws://127.0.0.1:{server.port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    asyncio.run(main(parser.parse_args().port))

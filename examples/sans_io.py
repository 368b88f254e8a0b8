"""The codec alone, over a plain blocking socket: no asyncio, one client after the other.

Try it:  python examples/sans_io.py
         python -m websockets ws://127.0.0.1:8765
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from contextlib import suppress

from wslowlevel import (
    InvalidHandshake,
    Message,
    MessageDecoder,
    Opcode,
    PayloadTooBig,
    ProtocolError,
    Response,
    encode_frame,
    prepare_close_frame_payload,
)
from wslowlevel.handshake import accept_request
from wslowlevel.http1 import MAX_HEADERS_SIZE, encode_response, parse_request

HEAD_END = b"\r\n\r\n"


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Receive the head of a request, and what came behind it."""
    data = b""
    while HEAD_END not in data:
        chunk = connection.recv(4096)
        if not chunk or len(data) > MAX_HEADERS_SIZE:
            raise ConnectionError("no request came")
        data += chunk
    end = data.index(HEAD_END) + len(HEAD_END)
    return data[:end], data[end:]


def read_messages(connection: socket.socket, data: bytes) -> Iterator[Message]:
    """Decode what came, then what is received, up to the Close frame or the end of the stream."""
    decoder = MessageDecoder(role="server")
    while True:
        yield from decoder.feed(data)
        # What came before a violation was handed out first; look here, or the next recv waits for nothing.
        if decoder.error is not None:
            raise decoder.error
        if decoder.closed:
            return
        data = connection.recv(64 * 1024)
        if not data:
            return


def echo(connection: socket.socket, early: bytes) -> None:
    for message in read_messages(connection, early):
        if message.opcode == Opcode.CLOSE:
            connection.sendall(encode_frame(Opcode.CLOSE, message.payload[:2]))
        elif message.opcode == Opcode.PING:
            connection.sendall(encode_frame(Opcode.PONG, message.payload))
        elif message.opcode != Opcode.PONG:
            connection.sendall(encode_frame(message.opcode, message.payload))


def talk(connection: socket.socket) -> None:
    try:
        head, early = read_head(connection)
        connection.sendall(accept_request(parse_request(head)))
        echo(connection, early)
    except InvalidHandshake as error:
        connection.sendall(encode_response(Response(error.status, error.headers, error.body)))
    except (ProtocolError, PayloadTooBig) as error:
        connection.sendall(
            encode_frame(Opcode.CLOSE, prepare_close_frame_payload(error.close_code, error.reason.value))
        )


def main(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        print(f"listening on ws://127.0.0.1:{server.getsockname()[1]}", flush=True)
        while True:
            connection, _ = server.accept()
            with connection, suppress(OSError):  # whoever goes away in the middle ends only its own connection
                talk(connection)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    with suppress(KeyboardInterrupt):
        main(parser.parse_args().port)

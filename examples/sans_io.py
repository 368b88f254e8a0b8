"""A connection without asyncio: the protocol over plain blocking sockets, one client after the other.

`Connection` reads and writes nothing: it is given what was received, and says what is to be sent.

Try it:  python examples/sans_io.py
         python -m wslowlevel connect ws://127.0.0.1:8765
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from contextlib import suppress

from wslowlevel import (
    Connection,
    InvalidHandshake,
    Message,
    Opcode,
    PayloadTooBig,
    PerMessageDeflate,
    ProtocolError,
    Request,
    Response,
)
from wslowlevel.extensions import accept_extensions
from wslowlevel.handshake import accept_request
from wslowlevel.http1 import MAX_HEADERS_SIZE, encode_response, parse_request

HEAD_END = b"\r\n\r\n"


def read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """Receive the head of a request, and what came behind it."""
    data = b""
    while HEAD_END not in data:
        chunk = sock.recv(4096)
        if not chunk or len(data) > MAX_HEADERS_SIZE:
            raise ConnectionError("no request came")
        data += chunk
    end = data.index(HEAD_END) + len(HEAD_END)
    return data[:end], data[end:]


def accept(sock: socket.socket, request: Request) -> Connection:
    """Answer the opening handshake."""
    offered = request.headers.get_all("Sec-WebSocket-Extensions")
    answer, extensions = accept_extensions(offered, [PerMessageDeflate()])
    sock.sendall(accept_request(request, [("Sec-WebSocket-Extensions", answer)] if answer else []))
    connection = Connection(role="server")
    connection.open(extensions)
    return connection


def messages(sock: socket.socket, connection: Connection, data: bytes) -> Iterator[Message]:
    """Messages from what came, then from what is received, up to the Close message or the end of the stream."""
    while True:
        received = connection.feed(data)
        for pong in connection.replies:
            sock.sendall(pong)
        connection.replies.clear()
        yield from connection.unpack(received)
        # What came before a violation was handed out first; look here, or the next recv waits for nothing.
        if connection.error is not None:
            raise connection.error
        if connection.ended:
            return
        data = sock.recv(64 * 1024)
        if not data:
            return


def echo(sock: socket.socket, connection: Connection, early: bytes) -> None:
    try:
        for message in messages(sock, connection, early):
            if message.opcode in (Opcode.TEXT, Opcode.BINARY):
                sock.sendall(connection.message_frame(message.payload, message.opcode))
    except (ProtocolError, PayloadTooBig) as error:
        print(f"{type(error).__name__}: {error}")
    close = connection.answer_end()
    if close is not None:
        sock.sendall(close)


def talk(sock: socket.socket) -> None:
    try:
        head, early = read_head(sock)
        connection = accept(sock, parse_request(head))
    except InvalidHandshake as error:
        sock.sendall(encode_response(Response(error.status, error.headers, error.body)))
    else:
        echo(sock, connection, early)


def main(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        print(f"listening on ws://127.0.0.1:{server.getsockname()[1]}", flush=True)
        while True:
            sock, _ = server.accept()
            with sock, suppress(OSError):  # whoever goes away in the middle ends only its own connection
                talk(sock)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    with suppress(KeyboardInterrupt):
        main(parser.parse_args().port)

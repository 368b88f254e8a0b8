"""An echo server on wss://, with your certificate (--cert, --key) or with one that openssl makes on the spot.

Try it:  python examples/tls_server.py

It prints the path of the certificate that a client must trust:

    context = ssl.create_default_context(cafile="/the/path/it/printed")
    response, socket = await connect("wss://localhost:8765", ssl=context)
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import ssl
import subprocess
import tempfile
from pathlib import Path

from wslowlevel import (
    Opcode,
    Request,
    Socket,
    get_messages_factory,
    send_handshake,
    send_message_factory,
    serve,
)


async def on_upgrade(request: Request, socket: Socket, _head: bytes) -> None:
    get_messages = get_messages_factory(socket)
    send_message = send_message_factory(socket)
    send_handshake(request, socket)
    async for message in get_messages():
        if message.opcode in (Opcode.TEXT, Opcode.BINARY):
            await send_message(message.payload, is_utf8=message.opcode == Opcode.TEXT)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"),
            *("-days", "30", "-subj", "/CN=localhost", "-out", str(cert), "-keyout", str(key)),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            # It is its own authority: clients that check strictly (Python 3.13) want to read that it may sign.
            *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return cert, key


async def main(port: int, cert: Path, key: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with serve(on_upgrade, "127.0.0.1", port, ssl=context, stop_signals=[signal.SIGINT]) as server:
        print(f"listening on wss://localhost:{server.port}")
        print(f"certificate to trust: {cert}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    parser.add_argument("--cert", type=Path, help="a PEM file, with --key")
    parser.add_argument("--key", type=Path)
    options = parser.parse_args()
    if (options.cert is None) != (options.key is None):
        parser.error("--cert and --key go together")
    with tempfile.TemporaryDirectory() as folder:
        cert_and_key = (options.cert, options.key) if options.cert else make_certificate(Path(folder))
        asyncio.run(main(options.port, *cert_and_key))

"""More connections than a server may have: those that it has go on, and its descriptors last."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from wslowlevel import Opcode

from ..servers import RawClient, both_loops, masked, run
from .siege import OTHERS_WAIT, Record

pytest.importorskip("resource")

FLOOD = 600
MAX_CONNECTIONS = 8
MAX_REFUSALS = 4


@contextmanager
def server_with_few_descriptors(loop_kind: str, tls: bool) -> Iterator[int]:
    """Yield its port; anything that it writes to its standard error fails the test."""
    limits = {"max_connections": MAX_CONNECTIONS, "max_refusals": MAX_REFUSALS}
    arguments = json.dumps({"loop": loop_kind, "tls": tls, **limits})
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.descriptors", arguments],
        cwd=Path(__file__).parent.parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        _, errors = process.communicate("", timeout=30)
    assert errors == ""


def flood(port: int, data: bytes, held: list[sockets.socket]) -> None:
    """Open connections that send the data and are never closed."""
    for _ in range(FLOOD):
        connection = sockets.create_connection(("127.0.0.1", port), timeout=5)
        held.append(connection)
        with suppress(ConnectionError):  # it was dropped
            connection.sendall(data)


def trusting() -> ssl.SSLContext:
    """Return a context that accepts the certificate of the other process."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def ask(client: RawClient) -> tuple[float, int]:
    """Return how long an answer took, and how many descriptors the server has in use."""
    sent = time.monotonic()
    await client.send(masked(Opcode.TEXT, b"how many?"))
    answer = await client.read_frame()
    return time.monotonic() - sent, int(answer.payload)


async def beside_a_flood(port: int, tls: bool, data: bytes) -> list[tuple[float, int]]:
    held: list[sockets.socket] = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting() if tls else None)
    client = RawClient(reader, writer)
    await client.upgrade()
    answers = [await ask(client)]
    flooding = asyncio.get_running_loop().run_in_executor(None, flood, port, data, held)
    try:
        while not flooding.done():
            answers.append(await ask(client))
            await asyncio.sleep(0.001)
        await flooding
        while answers[-1][1] > answers[0][1] + MAX_CONNECTIONS + MAX_REFUSALS:
            answers.append(await ask(client))
    finally:
        for connection in held:
            connection.close()
        writer.transport.abort()
    return answers


@both_loops
@pytest.mark.parametrize(
    ("tls", "data"),
    [(False, b""), (False, b"GET / HTTP/1.1\r\n"), (True, b""), (True, b"\x16\x03\x01")],
    ids=["silent", "half a request", "TLS, silent", "TLS, half a handshake"],
)
def test_a_flood_over_the_limit_leaves_descriptors_for_the_program(
    loop_kind: str, tls: bool, data: bytes, record_property: Record
) -> None:
    """Connections over max_connections that are never closed hold max_refusals descriptors, with TLS and without."""
    with server_with_few_descriptors(loop_kind, tls) as port:
        answers = run("asyncio", beside_a_flood(port, tls, data))
    waited = max(seconds for seconds, _ in answers)
    record_property("others waited seconds", round(waited, 3))
    record_property("descriptors", max(descriptors for _, descriptors in answers))
    assert waited <= OTHERS_WAIT

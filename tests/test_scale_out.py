"""examples/scale_out: real processes on one port, a real Redis between them, and one of them killed under load."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from wslowlevel import (
    ConnectionLost,
    InvalidHandshake,
    Opcode,
    Socket,
    connect,
    get_messages_factory,
    send_message_factory,
)

from .nginx import nginx
from .servers import TIMEOUT, free_port, run, until, until_it_listens

EXAMPLE = Path(__file__).parent.parent / "examples" / "scale_out"
SERVE = EXAMPLE / "serve.py"
NGINX = EXAMPLE / "nginx.conf"
WORKERS = 3
CLIENTS = 15
MESSAGES = 100
"""That each client whose process lives sends, while another one is killed."""


@contextmanager
def redis(directory: Path) -> Iterator[int]:
    program = shutil.which("redis-server")
    assert program, "the test needs Redis (Debian: apt-get install redis-server)"
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    with process:
        try:
            run("asyncio", until_it_listens(port))
            yield port
        finally:
            process.terminate()


@contextmanager
def processes(redis_port: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    options = ["--port", "0", "--workers", str(WORKERS), "--redis", f"redis://127.0.0.1:{redis_port}"]
    command = [sys.executable, "-W", "error", str(SERVE), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().split(":")[2].partition("/")[0])
            run("asyncio", until_it_listens(port))
            yield port, server
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(TIMEOUT)
            server.kill()


class Member:
    """A client as it should be: whatever ends its connection, it comes back.

    Attributes:
        worker: the process that it is connected to, None while it is to none.
        heard: what it got, in order.
    """

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.worker: int | None = None
        self.connections = 0
        self.heard: list[str] = []
        self._uri = f"ws://127.0.0.1:{port}/room/blue"
        self._socket: Socket | None = None

    async def stay(self) -> None:
        while True:
            with suppress(OSError, ConnectionLost, InvalidHandshake):
                _, self._socket = await connect(self._uri)
                async with self._socket:
                    self.connections += 1
                    await self._listen(self._socket)
            self.worker = None
            await asyncio.sleep(0.05)

    async def _listen(self, socket: Socket) -> None:
        async for message in get_messages_factory(socket, auto_pong=True)():
            if message.opcode == Opcode.TEXT and self.worker is None:
                self.worker = json.loads(message.text)["worker"]
            elif message.opcode == Opcode.TEXT:
                self.heard.append(message.text)

    async def say(self, text: str) -> None:
        assert self._socket is not None
        await send_message_factory(self._socket)(f"{self.name} {text}")

    async def count(self) -> None:
        for number in range(MESSAGES):
            await self.say(str(number))
            await asyncio.sleep(0.005)


@asynccontextmanager
async def members(port: int) -> AsyncIterator[list[Member]]:
    """Clients of at least two processes."""
    there = [Member(f"m{number}", port) for number in range(CLIENTS)]
    tasks = [asyncio.create_task(member.stay()) for member in there]
    try:
        await until(lambda: all(member.worker for member in there))
        while len({member.worker for member in there}) < 2:  # the kernel deals them out as it likes
            there.append(Member(f"m{len(there)}", port))
            tasks.append(asyncio.create_task(there[-1].stay()))
            await until(lambda: there[-1].worker is not None)
        yield there
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kill_one_under_load(port: int) -> None:
    async with members(port) as there:
        victim = Counter(member.worker for member in there).most_common()[-1][0]
        assert victim is not None
        others = [member for member in there if member.worker != victim]
        killed = [member for member in there if member.worker == victim]
        counting = [asyncio.create_task(member.count()) for member in others]
        await until(lambda: len(others[0].heard) > MESSAGES)
        os.kill(victim, signal.SIGKILL)
        await asyncio.gather(*counting)
        await until(lambda: all(member.worker not in (None, victim) for member in killed))

        everything = {f"{member.name} {number}" for member in others for number in range(MESSAGES)}
        await until(lambda: all(len(member.heard) >= len(everything) for member in others))
        for member in others:
            assert member.connections == 1  # they did not notice
            assert sorted(member.heard) == sorted(everything)  # each once
            for other in others:
                assert [text for text in member.heard if text.startswith(f"{other.name} ")] == [
                    f"{other.name} {number}" for number in range(MESSAGES)
                ]
        for member in killed:
            assert member.connections == 2
            await member.say("is back")
        back = {f"{member.name} is back" for member in killed}
        await until(lambda: all(back <= set(member.heard) for member in there))


@contextmanager
def in_front(balancer: str | None, port: int, directory: Path) -> Iterator[int]:
    """The port to connect to: of the processes, or of a balancer with the example's configuration."""
    if balancer is None:
        yield port
        return
    front = free_port()
    http = NGINX.read_text().partition("http {")[2].rpartition("}")[0]
    http = http.replace("listen 8080", f"listen 127.0.0.1:{front}").replace("127.0.0.1:8765", f"127.0.0.1:{port}")
    with nginx(http, front, directory):
        yield front


@pytest.mark.any_backend
@pytest.mark.parametrize("balancer", [None, "nginx"])
def test_a_process_is_killed_under_load(balancer: str | None, tmp_path: Path) -> None:
    with redis(tmp_path) as redis_port, processes(redis_port) as (port, server):
        with in_front(balancer, port, tmp_path) as front:
            run("asyncio", kill_one_under_load(front))
        server.terminate()
        _, errors = server.communicate(timeout=TIMEOUT)
        assert server.returncode == 0
        (line,) = errors.splitlines()
        assert "ended with -9: another one follows" in line

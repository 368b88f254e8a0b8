"""The `ws` package of Node: installed once for each lock file, in the user's cache; run by ws_peer.cjs."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ..tls import certificate
from .conversation import MESSAGES, Payload, Server, Talk

HERE = Path(__file__).parent
PACKAGE = ("package.json", "package-lock.json")


def program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is needed to test against the ws package: install Node.js with npm"
    return found


@functools.cache
def node_modules() -> Path:
    """Where the packages of the lock file are."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in PACKAGE)).hexdigest()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wslowlevel-tests"
    installed = caches / digest[:16]
    if not installed.exists():
        caches.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=caches) as directory:
            for name in PACKAGE:
                shutil.copy(HERE / name, directory)
            command = [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, f"npm ci failed:\n{done.stderr}"
            try:
                (Path(directory) / "node_modules").rename(installed)
            except OSError:
                assert installed.exists()  # another run was faster
    return installed


@asynccontextmanager
async def running(task: dict[str, Any]) -> AsyncIterator[Process]:
    """The program at work on a task."""
    process = await asyncio.create_subprocess_exec(
        program("node"),
        str(HERE / "ws_peer.cjs"),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "NODE_PATH": str(node_modules())},
        limit=16 * 1024 * 1024,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(task).encode() + b"\n")
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()


async def result(process: Process) -> Any:
    """The next line that it says."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line, "node ended: what it said of that stands above"
    return json.loads(line)


@asynccontextmanager
async def serving(secure: bool, compress: bool) -> AsyncIterator[Server]:
    task: dict[str, Any] = {"compress": compress}
    if secure:
        task |= {"key": certificate().key.read_text(), "cert": certificate().chain.read_text()}
    async with running(task) as process:
        peer = Server(await result(process))

        async def take_closes() -> None:
            while True:
                code, reason = await result(process)
                peer.closes.put_nowait((code, reason))

        taking = asyncio.create_task(take_closes())
        try:
            yield peer
        finally:
            taking.cancel()
            await asyncio.wait({taking})


async def talk(uri: str, *, secure: bool, compress: bool, closer: str) -> Talk:
    messages = [as_json(message) for message in MESSAGES]
    task: dict[str, Any] = {"uri": uri, "compress": compress, "closer": closer, "messages": messages}
    if secure:
        task["ca"] = certificate().chain.read_text()
    async with running(task) as process:
        seen = await result(process)
    received = tuple(map(from_json, seen["received"]))
    return Talk(seen["subprotocol"], received, seen["pong"], seen["close"][0])


def as_json(payload: Payload) -> str | list[str]:
    return payload if isinstance(payload, str) else [base64.b64encode(payload).decode()]


def from_json(payload: str | list[str]) -> Payload:
    return payload if isinstance(payload, str) else base64.b64decode(payload[0])

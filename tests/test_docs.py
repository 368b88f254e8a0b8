"""The code that the documentation shows runs as it stands there, what it links to exists, and no name is missing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import wslowlevel
from wslowlevel import Opcode

from .servers import (
    TIMEOUT,
    connecting,
    free_port,
    handshake,
    masked,
    masked_close,
    run,
    until_it_listens,
    upgraded,
)

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "examples" / "scale_out" / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(DOCS.rglob("*.md")),
]
TESTED_ELSEWHERE = {"cython.md": "tests/test_packaging.py", "tutorial.md": "below"}


def blocks_of(page: Path, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


RUNNING = [
    pytest.param(block, id=f"{page.relative_to(DOCS)} {number}")
    for page in sorted(DOCS.rglob("*.md"))
    if page.name not in TESTED_ELSEWHERE
    for number, block in enumerate(blocks_of(page), 1)
]


@pytest.mark.parametrize("block", RUNNING)
def test_a_block_runs_by_itself(block: str, tmp_path: Path) -> None:
    """Those that claim something assert it."""
    if "cert.pem" in block:
        (command,) = blocks_of(DOCS / "howto" / "tls.md", "sh")
        subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True)
    program = [sys.executable, "-W", "error", "-c", block]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- The tutorial -----------------------------------------------------------------------------------------------------

ROOM = "/room/blue"
STEPS = blocks_of(DOCS / "tutorial.md")


async def is_echoed(port: int) -> None:
    async with upgraded(port) as client:
        await client.send(masked(Opcode.TEXT, b"hello"), masked(Opcode.PING, b"?"), masked_close(1000))
        *others, close = await client.read_frames()
        assert {each.opcode: each.payload for each in others} == {Opcode.TEXT: b"hello", Opcode.PONG: b"?"}
        assert close.opcode == Opcode.CLOSE


async def has_rooms(port: int) -> None:
    async with upgraded(port, target=ROOM) as one, upgraded(port, target=ROOM) as other:
        await one.send(masked(Opcode.TEXT, b"anybody here?"))
        assert [(await each.read_frame()).payload for each in (one, other)] == [b"anybody here?"] * 2
    async with connecting(port) as refused:
        await refused.send(handshake(target="/elsewhere"))
        assert b" 404 " in await refused.reader.readline()


async def has_limits(port: int) -> None:
    await has_rooms(port)
    for frame, code in ((masked(Opcode.TEXT, bytes(4097)), 1009), (masked(Opcode.BINARY, b"\x00"), 1003)):
        async with upgraded(port, target=ROOM) as client:
            await client.send(frame)
            assert (await client.read_close())[0] == code


async def compresses(port: int) -> None:
    await has_limits(port)
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    async with upgraded(port, offer, target=ROOM) as client:
        assert b"permessage-deflate" in client.head
        await client.send(masked(Opcode.TEXT, b"again and " * 20))
        frame = await client.read_frame()
        assert frame.rsv1
        assert len(frame.payload) < 100


CHECKS = (is_echoed, has_rooms, has_limits, compresses)


@pytest.mark.parametrize(
    ("step", "check"), list(zip(STEPS, CHECKS, strict=True)), ids=[each.__name__ for each in CHECKS]
)
def test_a_step_of_the_tutorial(step: str, check: Callable[[int], Awaitable[None]]) -> None:
    port = free_port()
    command = [sys.executable, "-W", "error", "-c", step.replace("8765", str(port))]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    async def main() -> None:
        await until_it_listens(port)
        await check(port)

    with server:
        try:
            run("asyncio", main())
            server.send_signal(signal.SIGINT)
            _, errors = server.communicate(timeout=TIMEOUT)
        finally:
            server.kill()
    assert (server.returncode, errors) == (0, "")


# -- What is linked, and what is there --------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_index() -> None:
    entries = re.findall(r"^[\w/]+$", (DOCS / "index.md").read_text("utf-8"), re.MULTILINE)
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")} - {"index"}
    assert sorted(entries) == sorted(pages)


def test_the_reference_leaves_no_public_name_out() -> None:
    named = re.findall(r"^\.\. auto\w+:: (\S+)$", (DOCS / "reference.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(set(wslowlevel.__all__) - set(named)) == []
    assert len(named) == len(set(named))

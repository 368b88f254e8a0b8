"""The code that the README shows runs as it stands there."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from .servers import free_port, masked, masked_close, run, until_it_listens, upgraded

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def the_block_with(text: str) -> str:
    (block,) = [block for block in BLOCKS if text in block]
    return block


def test_the_codec() -> None:
    exec(compile(the_block_with("MessageDecoder"), "README.md", "exec"), {})


def test_the_server_and_the_client() -> None:
    port = free_port()
    code = the_block_with("serve_forever").replace("8765", str(port))
    assert len([line for line in code.splitlines() if line.strip()]) <= 20

    async def client() -> None:
        await until_it_listens(port)
        async with upgraded(port) as raw:
            await raw.send(masked(1, b"hello"), masked_close(1000))
            assert [frame.payload for frame in await raw.read_frames()] == [b"hello", b"\x03\xe8"]

    server = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        run("asyncio", client())
        other = the_block_with("await connect").replace("8765", str(port))
        command = [sys.executable, "-W", "error", "-c", other]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=10)
    finally:
        server.kill()
    assert (server.returncode, errors) == (0, "")
    assert (said.stdout, said.stderr) == ("101 Hello\n", "")

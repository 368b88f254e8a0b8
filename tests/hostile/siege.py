"""A victim as who attacks it sees it: what it remembers, how much memory and time it takes, whether others notice."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from wslowlevel import BACKEND, Opcode

from ..servers import RawClient, masked, upgraded
from ..vectors import KEY
from .victim import BYSTANDER

MIB = 1024 * 1024

OTHERS_WAIT = 1.0
"""Seconds after which another connection must have its answer, whatever one of them does."""

SETTLING = 10.0
"""Seconds that a victim has for letting go of what its connections held, its close timeout included."""

Record = Callable[[str, object], None]
"""Keeps a figure of the test: pytest's `record_property`."""


def header(first: int, length: int) -> bytes:
    """The header of a masked frame with the 64-bit form of a length, whatever it is (RFC 6455 §5.2)."""
    return bytes([first, 0xFF]) + length.to_bytes(8, "big") + KEY


def _forget(name: str, value: object) -> None:
    """Outside of a test nothing is kept."""


class Siege:
    """A victim and how it bears up.

    Attributes:
        port: where it listens, on 127.0.0.1.
        record: keeps a figure of the test that is going on.
        expected_log: parts of what the victim may log; anything else fails the test.
    """

    def __init__(self, loop: str, **arguments: Any) -> None:
        command = [sys.executable, "-W", "error", "-m", "tests.hostile.victim", json.dumps({"loop": loop, **arguments})]
        self._process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent.parent.parent,
            env={**os.environ, "WSLOWLEVEL_BACKEND": BACKEND},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.record: Record = _forget
        self.expected_log: list[str] = []
        first = self.about()
        assert first["backend"] == BACKEND
        self._idle = {each: first[each] for each in ("tasks", "descriptors")}
        self._seen: Counter[str] = Counter()
        self._logged = 0

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(SETTLING) == 0

    # -- What it says of itself ---------------------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """What the victim counts; it answers although it is attacked, or the test fails."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/about", timeout=SETTLING) as answer:
            said: dict[str, Any] = json.loads(answer.read())
        return said

    def begin(self, record: Record) -> None:
        """A test begins."""
        self.record, self.expected_log = record, []
        said = self.about()
        self._seen, self._logged = Counter(said["outcomes"]), len(said["logged"])

    def logged(self) -> list[str]:
        """What the victim logged in this test as a warning or worse, and what its event loop alone saw."""
        lines: list[str] = self.about()["logged"]
        return lines[self._logged :]

    def outcomes(self) -> dict[str, int]:
        """How the handlers of this test ended, and how often each way."""
        return dict(Counter(self.about()["outcomes"]) - self._seen)

    def settle(self) -> None:
        """Wait until it holds no more than when it was idle; what it logged, it was told to expect."""
        deadline = time.monotonic() + SETTLING
        while (said := self.about()) and {each: said[each] for each in self._idle} != self._idle:
            assert time.monotonic() < deadline, f"left behind: {said}, idle: {self._idle}"
            time.sleep(0.02)
        strange = [line for line in self.logged() if not any(part in line for part in self.expected_log)]
        assert not strange, f"logged: {strange}"

    # -- What it takes ------------------------------------------------------------------------------------------------

    def resident(self) -> int:
        """Bytes of its memory at this moment."""
        return self._status("VmRSS")

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) * 1024

    def seconds(self) -> float:
        """Seconds in which it has run."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    @contextmanager
    def memory(self, at_most: int) -> Iterator[None]:
        """Inside the block its memory grows by so many bytes at most; the highest that it stood is recorded."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")  # the peak is now what is resident
        before = self.resident()
        yield
        grown = self._status("VmHWM") - before
        self.record("peak bytes", grown)
        assert grown <= at_most, f"{grown:,} bytes: {at_most:,} are allowed"

    @contextmanager
    def running(self, at_most: float) -> Iterator[None]:
        """Inside the block it runs for so many seconds at most, by the system's clock of its own work."""
        before = self.seconds()
        yield
        ran = self.seconds() - before
        self.record("cpu seconds", round(ran, 3))
        assert ran <= at_most, f"{ran:.3f} s: {at_most} s are allowed"

    @asynccontextmanager
    async def others_answered(self, within: float = OTHERS_WAIT) -> AsyncIterator[None]:
        """Inside the block, and right behind it, another connection is echoed, each time within so many seconds."""
        waited: list[float] = []
        over = asyncio.Event()
        async with upgraded(self.port, target=BYSTANDER) as client:
            await _ask(client, waited)
            asking = asyncio.create_task(_ask_again(client, waited, over))
            try:
                yield
            finally:
                over.set()
                await asking
        self.record("others waited seconds", round(max(waited), 3))
        assert max(waited) <= within, f"another connection waited {max(waited):.3f} s: {within} s are allowed"


async def _ask_again(client: RawClient, waited: list[float], over: asyncio.Event) -> None:
    while not over.is_set():
        await _ask(client, waited)
        await asyncio.sleep(0.02)
    await _ask(client, waited)


async def _ask(client: RawClient, waited: list[float]) -> None:
    sent = time.monotonic()
    await client.send(masked(Opcode.TEXT, b"still there?"))
    answer = await client.read_frame()
    assert answer.payload == b"still there?"
    waited.append(time.monotonic() - sent)

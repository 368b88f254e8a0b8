"""a role and a backend -> wstest against our peer -> the outcome of each case"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket as sockets
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .results import Outcome, Run

ROOT = Path(__file__).parent.parent.parent
AGENT = "wslowlevel"
"""What wstest calls our peer in its reports."""

SILENCE = 900.0
"""Seconds after which wstest is stuck: no case may take longer than 480, and it says when it begins the next one."""

PATIENCE = {"openHandshakeTimeout": 60, "closeHandshakeTimeout": 60}
"""Seconds that wstest gives a peer instead of 5 and 1: a busy machine is no fault of the peer's."""

TAIL = 10
"""Lines of a log that are shown when a run fails."""

COUNT = re.compile(r"will run (\d+) test cases")
CASE = re.compile(r"Running test case ID (\S+) ")

Tell = Callable[[str, int, int], object]
"""Called for each case that begins: its name, which one it is, and how many there are."""


class RunFailedError(Exception):
    """A run that came to no end; the text says where what was printed is."""


async def examine(
    run: Run, wstest: Sequence[str], cases: Sequence[str], directory: Path, tell: Tell
) -> dict[str, Outcome]:
    """Run the cases that fit one of the patterns, such as "6.4.*"; leave reports and logs in a directory of its own.

    Raises:
        RunFailedError: wstest or our peer failed, hung, or complained.
    """
    bench = Bench(run, list(wstest), list(cases), directory, tell)
    bench.clear()
    try:
        await (bench.examine_server() if run.role == "server" else bench.examine_client())
    except asyncio.TimeoutError:
        raise bench.failure("wstest is stuck") from None
    if (directory / "peer.log").stat().st_size:
        raise bench.failure(f"our {run.role} complained")
    return outcomes(directory)


def outcomes(directory: Path) -> dict[str, Outcome]:
    """What the report of wstest says, by the name of the case."""
    index = json.loads((directory / "index.json").read_text("utf-8"))
    return {
        case: Outcome(f"{said['behavior']}/{said['behaviorClose']}", said["duration"] / 1000, said["reportfile"])
        for case, said in index[AGENT].items()
    }


@dataclass
class Bench:
    """One run: wstest and our peer, side by side."""

    run: Run
    wstest: list[str]
    cases: list[str]
    directory: Path
    tell: Tell

    def clear(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)

    async def examine_server(self) -> None:
        """wstest is the client, and done when it ends."""
        async with self._peer("server", stdout=PIPE) as peer:
            assert peer.stdout is not None
            port = (await peer.stdout.readline()).decode().strip()
            if not port:
                raise self.failure("our server did not start")
            server = {"agent": AGENT, "url": f"ws://127.0.0.1:{port}"}
            drop = {"serverConnectionDropTimeout": PATIENCE["closeHandshakeTimeout"]}
            async with self._wstest("fuzzingclient", servers=[server], options={**PATIENCE, **drop}) as fuzzer:
                await self._finish(fuzzer, fuzzer)
            if peer.returncode is not None:
                raise self.failure(f"our server ended with {peer.returncode}")

    async def examine_client(self) -> None:
        """wstest is the server, and done when our client is."""
        port = free_port()
        uri = f"ws://127.0.0.1:{port}"
        async with self._wstest("fuzzingserver", url=uri, options=PATIENCE) as fuzzer:
            await asyncio.wait_for(self._until_it_listens(port, fuzzer), SILENCE)
            async with self._peer("client", uri, AGENT) as peer:
                await self._finish(peer, fuzzer)

    @asynccontextmanager
    async def _peer(self, *arguments: str, stdout: int | None = None) -> AsyncIterator[Process]:
        command = [sys.executable, "-W", "error", "-m", f"{__package__}.peer", *arguments]
        environment = {**os.environ, "WSLOWLEVEL_BACKEND": self.run.backend}
        with self._open("peer.log") as log:
            async with running(*command, stdout=stdout, stderr=log, env=environment, cwd=ROOT) as process:
                yield process

    @asynccontextmanager
    async def _wstest(self, mode: str, **spec: Any) -> AsyncIterator[Process]:
        file = self.directory / "spec.json"
        file.write_text(json.dumps({"outdir": str(self.directory), "cases": self.cases, "exclude-cases": [], **spec}))
        command = [*self.wstest, "--mode", mode, "--spec", str(file), "--webport", "0"]
        async with running(*command, stdout=PIPE, stderr=STDOUT) as process:
            yield process

    async def _until_it_listens(self, port: int, fuzzer: Process) -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                if fuzzer.returncode is not None:
                    await self._follow(fuzzer)
                    raise self.failure(f"wstest ended with {fuzzer.returncode}") from None
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return

    async def _finish(self, leader: Process, fuzzer: Process) -> None:
        """Wait until the one that leads has done all cases."""
        following = asyncio.create_task(self._follow(fuzzer))
        ending = asyncio.create_task(leader.wait())
        try:
            await asyncio.wait({following, ending}, return_when=asyncio.FIRST_COMPLETED)
            if leader is fuzzer or following.done():
                await following
            code = await ending
        finally:
            following.cancel()
            ending.cancel()
            await asyncio.wait({following, ending})
        if code != 0:
            raise self.failure(f"{'wstest' if leader is fuzzer else 'our client'} ended with {code}")

    async def _follow(self, fuzzer: Process) -> None:
        """Write down what wstest prints, and tell how far it is."""
        assert fuzzer.stdout is not None
        started = count = 0
        with self._open("wstest.log") as log:
            while line := await asyncio.wait_for(fuzzer.stdout.readline(), SILENCE):
                log.write(line)
                text = line.decode("utf-8", "replace")
                if found := COUNT.search(text):
                    count = int(found[1])
                elif found := CASE.search(text):
                    started += 1
                    self.tell(found[1], started, count)

    def _open(self, log: str) -> BinaryIO:
        return open(self.directory / log, "wb", buffering=0)

    def failure(self, text: str) -> RunFailedError:
        """With the last that was printed: where nobody sees the directory, it is all that is known."""
        tails = []
        for log in self.directory.glob("*.log"):
            tails += [f"  {log.name}: {line}" for line in log.read_text("utf-8", "replace").splitlines()[-TAIL:]]
        return RunFailedError("\n".join([f"{self.run.name}: {text} (logs are in {self.directory})", *tails]))


@asynccontextmanager
async def running(*command: str, **options: Any) -> AsyncIterator[Process]:
    """A process that does not outlive the block."""
    process = await asyncio.create_subprocess_exec(*command, limit=1024 * 1024, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    """wstest cannot say which port it got, so that it has to be told one."""
    with sockets.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])

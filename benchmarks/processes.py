"""An echo server in a process of its own, as who measures it sees it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started here runs on that core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class ServerProcess:
    """An echo server in a process of its own."""

    def __init__(self, name: str, loop: str, core: int) -> None:
        self.name, _, checkout = name.partition("@")
        self.label = name
        path = [*([checkout] if checkout else []), *os.environ.get("PYTHONPATH", "").split(os.pathsep), ROOT]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(each) for each in path if each)}
        if self.name == "wslowlevel-python":
            environment["WSLOWLEVEL_BACKEND"] = "python"
        command = [sys.executable, "-m", "benchmarks.servers", self.name, "--loop", loop]
        with on_core(core):
            # In another directory, for the one where Python starts comes before all others.
            self._process = subprocess.Popen(
                command, cwd="/", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the server {name} did not start")
        self.about: dict[str, Any] = json.loads(answer)
        self.port = int(self.about["port"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def times(self) -> tuple[float, float]:
        """Seconds in which its threads have run, and in which they have waited for their core."""
        tasks = Path(f"/proc/{self.pid}/task")
        both = [(task / "schedstat").read_text().split() for task in tasks.iterdir()]
        return sum(int(each[0]) for each in both) / 1e9, sum(int(each[1]) for each in both) / 1e9

    def resident(self) -> int:
        """Bytes of memory, those that it shares with other processes included."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()

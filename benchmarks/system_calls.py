"""How many system calls does an echo server make for a message? Counted by strace, which slows it down, so that its
time is not told:  python -m benchmarks.system_calls [--servers wslowlevel picows raw] [--loops uvloop]
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import time
from collections import Counter

from .bench_echo import SHAPES
from .load import Load, Shape
from .processes import ServerProcess

SECONDS = 1.0
ATTACHING = 0.5
"""Seconds in which strace is at the process for sure."""

LEAST = 0.005
"""Calls for a message that are worth a word."""


def count(server: ServerProcess, shape: Shape) -> tuple[int, Counter[str]]:
    """Messages, and the system calls by name."""
    load = Load(server.port, shape, server.name == "raw")
    load.play(0.1, server.times)
    command = ["strace", "-f", "-c", "-p", str(server.pid)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    time.sleep(ATTACHING)
    messages = load.play(SECONDS, server.times).messages
    strace.send_signal(signal.SIGINT)
    _, report = strace.communicate()
    load.close()
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", report, re.MULTILINE)
    return messages, Counter({name: int(calls) for calls, name in rows if name != "total"})


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.system_calls", description=__doc__)
    parser.add_argument("--servers", nargs="+", default=["wslowlevel", "raw", "picows", "aiohttp", "websockets"])
    parser.add_argument("--loops", nargs="+", choices=("asyncio", "uvloop"), default=("asyncio", "uvloop"))
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {1})
    for loop in arguments.loops:
        for name in arguments.servers:
            server = ServerProcess(name, loop, core=0)
            for shape in arguments.shapes:
                messages, calls = count(server, Shape.parse(shape))
                told = [f"{call} {times / messages:.3f}" for call, times in calls.most_common()]
                told = [each for each in told if float(each.split()[1]) >= LEAST]
                print(f"{loop:9}{name:20}{shape:12}{sum(calls.values()) / messages:8.3f} a message: {', '.join(told)}")
            server.stop()


if __name__ == "__main__":
    main()

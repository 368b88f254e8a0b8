"""How much memory does an idle connection take?

Of the server's process alone: what is resident after n connections, less what was before, for n from 1 to 10,000; each
has made its handshake and had one message of 125 bytes echoed, so that everything that a connection needs is there. A
bare asyncio protocol server shows what the event loop's own transport takes; "beyond it" is the library. Bytes for a
connection are the slope of the fitted line. It fails where the last connections take more than the first of them do.

Run it:  python -m benchmarks.bench_memory [--connections 10000] [--servers wslowlevel picows raw] [--loops uvloop]
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
from pathlib import Path
from typing import Any

from rich.progress import Progress

from . import servers
from .load import Client, Conversation, Shape
from .processes import ServerProcess
from .reports import fitted_line, write_results

STEPS = (0, 1, 10, 100, 1_000, 2_000, 5_000, 10_000)
BATCH = 50
"""Connections that are made at a time, so that they fit the backlog; the first of them are closed before the first
figure, for what is made once and kept."""

GOAL = 8 * 1024
"""Bytes of one of our idle connections beyond the event loop's own."""

TOLERANCE = 1.25
"""How much more each of the connections of the last step may take than each of those before."""

LEAST_CONNECTIONS = 100
"""Fewer tell nothing about growth: it takes 5,000 for a verdict."""

SPARE_FILES = 100
MESSAGE = Shape(1, 1, 125)


def raise_file_limit(connections: int) -> int:
    """Here and in the servers, which inherit it; return how many connections fit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return min(connections, most - SPARE_FILES)


def connect(port: int, raw: bool, count: int) -> list[Client]:
    """Connections whose one message has come back; all of them wait at once, which is faster than one by one."""
    conversation, buffer = Conversation(MESSAGE, raw), bytearray(4096)
    clients = [Client(port, conversation, raw) for _ in range(count)]
    for client in clients:
        if not raw:
            client.read_answer()
        assert client.ask(1)
    for client in clients:
        while client.answered < client.asked:
            client.take(memoryview(buffer), buffer)
    return clients


def measure(name: str, loop: str, steps: list[int]) -> dict[str, Any]:
    """Resident bytes of a fresh server at each step."""
    server = ServerProcess(name, loop, core=0)
    raw = server.name == "raw"
    for client in connect(server.port, raw, BATCH):
        client.close(raw)
    clients: list[Client] = []
    before = server.resident()
    points = []
    for step in steps:
        while len(clients) < step:
            clients += connect(server.port, raw, min(BATCH, step - len(clients)))
        points.append((step, server.resident() - before))
    server.stop()
    for client in clients:
        client.socket.close()
    return {"server": name, "loop": loop, "about": server.about["server"].partition(" of ")[0], "points": points}


def judge(result: dict[str, Any], bare: dict[str, Any]) -> None:
    """Add the bytes for a connection, those beyond the loop's own, and how much more the last ones take."""
    points = result["points"][-4:]  # fewer connections than these drown in the rest of the process
    result["bytes_each"] = fitted_line(points)
    result["bytes_beyond"] = result["bytes_each"] - bare["bytes_each"] if result is not bare else 0.0
    (n0, m0), *_, (n1, m1), (n2, m2) = points
    growth = ((m2 - m1) / (n2 - n1)) / ((m1 - m0) / (n1 - n0)) if m1 != m0 else math.nan
    result["growth"] = growth if n0 >= LEAST_CONNECTIONS else math.nan


def table(results: list[dict[str, Any]]) -> str:
    lines = [f"{'':22}{'loop':9}{'KiB each':>10}{'beyond the loop':>17}{'last / first':>14}"]
    for each in results:
        lines.append(
            f"{each['server']:22}{each['loop']:9}{each['bytes_each'] / 1024:10.2f}"
            f"{each['bytes_beyond'] / 1024:17.2f}{each['growth']:14.2f}"
        )
    return "\n".join(lines)


def failures(results: list[dict[str, Any]]) -> list[str]:
    """Of ours: what is not linear, and what is over the goal."""
    ours = [each for each in results if each["server"].startswith("wslowlevel")]
    found = []
    for each in ours:
        where = f"{each['server']} on {each['loop']}"
        if each["growth"] > TOLERANCE:
            found.append(f"{where}: the last connections take {each['growth']:.2f} times what the first take")
        if each["bytes_beyond"] > GOAL:
            found.append(f"{where}: {each['bytes_beyond']:,.0f} bytes beyond the loop's own, over the goal of {GOAL:,}")
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.bench_memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=STEPS[-1], help="(default: %(default)s)")
    parser.add_argument("--servers", nargs="+", default=list(servers.SERVERS), help=", ".join(servers.SERVERS))
    parser.add_argument("--loops", nargs="+", choices=("asyncio", "uvloop"), default=("asyncio", "uvloop"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    arguments = parser.parse_args(argv)
    most = raise_file_limit(arguments.connections)
    steps = sorted({min(step, most) for step in STEPS})
    names = ["raw", *(name for name in arguments.servers if name != "raw")]
    missing = [name for name in names if not servers.installed(servers.package_of(name.partition("@")[0]))]
    results: list[dict[str, Any]] = []
    with Progress(transient=True) as progress:
        task = progress.add_task("memory", total=len(names) * len(arguments.loops))
        for loop in arguments.loops:
            of_loop = []
            for name in names:
                progress.update(task, description=f"memory {loop} {name}")
                if name not in missing:
                    of_loop.append(measure(name, loop, steps))
                    judge(of_loop[-1], of_loop[0])
                progress.advance(task)
            results += of_loop
    print(f"memory of an idle connection, of 1 to {steps[-1]:,}; not installed: {', '.join(missing) or 'none'}\n")
    print(table(results))
    if arguments.json:
        write_results(arguments.json, results)
    for failure in failures(results):
        print(f"FAILED  {failure}")
    return 1 if failures(results) else 0


if __name__ == "__main__":
    sys.exit(main())

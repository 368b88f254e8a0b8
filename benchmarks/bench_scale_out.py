"""examples/scale_out with 1, 2 and 4 processes: texts a second through rooms, in turns in one run.

python -m benchmarks.bench_scale_out

It needs redis-server. Each client of a room sends its next text when its last one has come back; what is counted is
every text that reaches a client. Load, Redis and the processes share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median

from wslowlevel import Opcode, connect, get_messages_factory, send_message_factory

from .processes import ROOT

SERVE = ROOT / "examples" / "scale_out" / "serve.py"
WORKERS = (1, 2, 4)
ROOMS, MEMBERS = 16, 5


class Load:
    """Clients in rooms.

    Attributes:
        delivered: texts that reached a client.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.delivered = 0

    async def member(self, room: int, number: int) -> None:
        _, opened = await connect(f"ws://127.0.0.1:{self._port}/room/r{room}")
        async with opened:
            get_messages, send_message = get_messages_factory(opened), send_message_factory(opened)
            ours = f"{number} ".ljust(125, "x")
            async for message in get_messages():
                if message.opcode == Opcode.TEXT:
                    self.delivered += 1
                    if message.text == ours or message.text.startswith("{"):  # the greeting
                        await send_message(ours)


async def measure(port: int, seconds: float) -> float:
    load = Load(port)
    tasks = [asyncio.create_task(load.member(room, number)) for room in range(ROOMS) for number in range(MEMBERS)]
    await asyncio.sleep(1.0)
    before, begun = load.delivered, time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (load.delivered - before) / (time.perf_counter() - begun)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return rate


def rate_of(workers: int, redis_port: int, seconds: float) -> float:
    options = ["--port", "0", "--workers", str(workers), "--redis", f"redis://127.0.0.1:{redis_port}"]
    server = subprocess.Popen([sys.executable, str(SERVE), *options], stdout=subprocess.PIPE, text=True)
    with server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().split(":")[2].partition("/")[0])
            time.sleep(1.5)  # until all of them listen
            return asyncio.run(measure(port, seconds))
        finally:
            server.terminate()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.bench_scale_out", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default: %(default)s)")
    options = parser.parse_args(arguments)
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is not there (Debian: apt-get install redis-server)")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        redis_port = int(probe.getsockname()[1])
    redis = subprocess.Popen([program, "--port", str(redis_port), "--save", ""], stdout=subprocess.DEVNULL)
    with redis:
        try:
            time.sleep(0.5)
            rounds = [[rate_of(each, redis_port, options.seconds) for each in WORKERS] for _ in range(options.rounds)]
        finally:
            redis.terminate()
    print(
        f"{os.cpu_count()} processors, {ROOMS} rooms of {MEMBERS} clients, 125 bytes, {options.rounds} rounds in turns"
    )
    rates = dict(zip(WORKERS, map(median, zip(*rounds, strict=True)), strict=True))
    for workers, rate in rates.items():
        print(f"{workers} processes: {rate:>9,.0f} texts a second reach a client, {rate / rates[1]:.2f} x")
    return 0


if __name__ == "__main__":
    sys.exit(main())

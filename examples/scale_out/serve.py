"""Several processes on one port, and another one for each that ends.

Try it:  redis-server --port 6379
         python examples/scale_out/serve.py --workers 4
         python -m wslowlevel connect ws://127.0.0.1:8765/room/blue, in some terminals
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

WORKER = Path(__file__).with_name("worker.py")

PAUSE = 0.5
"""Seconds before a process that ended is followed by another, which may end for the same reason."""


def reserve(host: str, port: int) -> socket.socket:
    """Hold a port for processes that share it. It is not listened on here, so that the kernel deals nothing to us."""
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, port))
    return held


async def keep_running(*command: str) -> None:
    """Run a process, and another one when it ends; cancelled, stop it and wait until its clients are told."""
    while True:
        process = await asyncio.create_subprocess_exec(*command)
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        print(f"process {process.pid} ended with {status}: another one follows", file=sys.stderr, flush=True)
        await asyncio.sleep(PAUSE)


async def main(host: str, port: int, url: str, workers: int) -> None:
    with reserve(host, port) as held:
        port = held.getsockname()[1]
        command = [sys.executable, str(WORKER), "--host", host, "--port", str(port), "--redis", url]
        tasks = [asyncio.create_task(keep_running(*command)) for _ in range(workers)]
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        print(f"{workers} processes on ws://{host}:{port}/room/NAME", flush=True)
        await stopped.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379", metavar="URL")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="default: one a processor")
    options = parser.parse_args()
    asyncio.run(main(options.host, options.port, options.redis, options.workers))

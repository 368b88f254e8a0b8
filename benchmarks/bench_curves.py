"""Is the cost linear: in the size of a message, in its fragments, and in the chunks that it arrives in?

Each point of a curve has a process of its own, which measures seconds of CPU (the least of some repetitions) and the
most memory that was resident while it worked, beyond what its input took. A curve is judged by the exponent e of
cost = c * n ** e, fitted over its upper part, where what is paid once per message no longer shows: 1 is linear, 2 would
be quadratic, 0 is constant. Where n is bytes, time is measured in copies of as many bytes. It fails where an exponent
is over what the curve allows.

Run it:  python -m benchmarks.bench_curves [--curves NAME ...] [--backends cython python]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from rich.progress import Progress

from .load import header, masked_frame
from .reports import fitted_exponent, write_results

KEY = b"\x37\xfa\x21\x3d"
CHUNK = 64 * 1024
"""Bytes of one read from a network."""

REPEAT_SECONDS = 0.2
"""A point is repeated until so much time has passed."""

UPPER_PART = 1024
"""The part of a curve that is judged: from its largest n down to this fraction of it."""

LEAST_SECONDS = 20e-6
LEAST_MEMORY = 512 * 1024
"""Costs below these are in the noise, and not judged."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["rich.progress", "wslowlevel._codec", "wslowlevel._codec_py"])
"""Makes processes in which everything is imported and nothing has been done yet."""

Work = Callable[[], int]
"""What is measured; it returns the bytes of payload that came out, to be checked."""


Point = dict[str, float]
"""n, seconds, the seconds of copying as many bytes, and bytes of memory."""


@dataclass(frozen=True)
class Curve:
    """`sizes`: of n, by backend. `prepare`: n, the codec -> the work, and how many bytes of payload it must give.

    Where n is bytes, the machine itself is not linear: memory is slower than caches, and fresh pages have to be made.
    Such a curve is judged `against_copy`, by how many times the time of copying so many bytes it takes.
    """

    unit: str
    sizes: dict[str, list[int]]
    prepare: Callable[[int, Any], tuple[Work, int]]
    against_copy: bool = False
    most_time: float = 1.3
    most_memory: float = 1.1


def both(sizes: list[int]) -> dict[str, list[int]]:
    return {"cython": sizes, "python": sizes}


def powers(first: int, last: int, factor: int) -> list[int]:
    sizes = []
    while first <= last:
        sizes.append(first)
        first *= factor
    return sizes


def chunks_of(data: bytes, size: int) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[start : start + size] for start in range(0, len(data), size))


def new_decoder(codec: Any) -> Any:
    return codec.MessageDecoder(role="server", max_message_size=None, max_fragments=None)


def decode(codec: Any, data: bytes, chunk: int) -> int:
    feed = new_decoder(codec).feed
    return sum(sum(len(message.payload) for message in feed(each)) for each in chunks_of(data, chunk))


# -- The curves -------------------------------------------------------------------------------------------------------


def message_size(size: int, codec: Any) -> tuple[Work, int]:
    """One message in one frame, in chunks of 64 KiB."""
    data = header(size, 0x80) + KEY + bytes(size)
    return lambda: decode(codec, data, CHUNK), size


def message_size_in_place(size: int, codec: Any) -> tuple[Work, int]:
    """The same, received into the decoder's own buffer."""
    data = memoryview(header(size, 0x80) + KEY + bytes(size))

    def work() -> int:
        decoder, position, length = new_decoder(codec), 0, 0
        while position < len(data):
            buffer = decoder.get_buffer(CHUNK)
            part = data[position : position + min(len(buffer), CHUNK)]
            buffer[: len(part)] = part
            del buffer
            length += sum(len(message.payload) for message in decoder.buffer_updated(len(part)))
            position += len(part)
        return length

    return work, size


def built_size(size: int, codec: Any) -> tuple[Work, int]:
    """A masked frame that is built."""
    payload = bytes(size)
    overhead = len(header(size, 0x80)) + 4
    return lambda: len(codec.encode_frame(2, payload, mask_key=KEY)) - overhead, size


FRAGMENTED = 1_000_000
"""Bytes of the message that is cut into fragments."""


def fragments(count: int, codec: Any) -> tuple[Work, int]:
    """One message of a million bytes in n fragments, in chunks of 64 KiB."""
    whole = masked_frame(bytes(FRAGMENTED // count), KEY)
    start, middle, end = (bytes([first]) + whole[1:] for first in (0x02, 0x00, 0x80))
    data = whole if count == 1 else start + b"".join(repeat(middle, count - 2)) + end
    return lambda: decode(codec, data, CHUNK), FRAGMENTED // count * count


CHUNKED = {"wslowlevel._codec": 1 << 20, "wslowlevel._codec_py": 1 << 16}
"""Bytes of payload that arrive in chunks: fewer where a byte costs more."""


def chunks_of_a_message(count: int, codec: Any) -> tuple[Work, int]:
    """The same bytes in n chunks: one message."""
    size = CHUNKED[codec.__name__]
    data = masked_frame(bytes(size), KEY)
    return lambda: decode(codec, data, max(size // count, 1)), size


def chunks_of_small_messages(count: int, codec: Any) -> tuple[Work, int]:
    """The same bytes in n chunks: messages of 122 bytes, 128 with their headers."""
    size = CHUNKED[codec.__name__]
    data = masked_frame(bytes(122), KEY) * (size // 128)
    return lambda: decode(codec, data, max(size // count, 1)), size // 128 * 122


SIZES = powers(1 << 10, 1 << 28, 8)
COUNTS = powers(1, 1_000_000, 10)
CHUNKS = {"cython": powers(1, 1 << 20, 16), "python": powers(1, 1 << 16, 16)}

CURVES = {
    "message size": Curve("bytes", both(SIZES), message_size, against_copy=True),
    "message size, in place": Curve("bytes", both(SIZES), message_size_in_place, against_copy=True),
    "built size": Curve("bytes", both(SIZES), built_size, against_copy=True),
    "fragments": Curve("fragments", both(COUNTS), fragments),
    "chunks of a message": Curve("chunks", CHUNKS, chunks_of_a_message, most_memory=0.1),
    "chunks of small messages": Curve("chunks", CHUNKS, chunks_of_small_messages, most_memory=0.1),
}

# -- One point, in a process of its own -------------------------------------------------------------------------------


def measure_point(curve: str, backend: str, size: int) -> Point:
    codec = importlib.import_module("wslowlevel._codec" if backend == "cython" else "wslowlevel._codec_py")
    work, expected = CURVES[curve].prepare(size, codec)
    forget_peak()
    before = peak()
    end = time.perf_counter() + REPEAT_SECONDS
    times = [timed(work, expected)]
    memory = peak() - before
    copies = [timed(lambda: copy(expected), expected)]
    while time.perf_counter() < end:
        times.append(timed(work, expected))
        copies.append(timed(lambda: copy(expected), expected))
    return {"n": size, "seconds": min(times), "copy_seconds": min(copies), "memory": max(memory, 0)}


def copy(size: int) -> int:
    """Into fresh memory, in chunks, as the work has to."""
    source, target = memoryview(bytes(CHUNK)), memoryview(bytearray(size))
    for start in range(0, size, CHUNK):
        part = target[start : start + CHUNK]
        part[:] = source[: len(part)]
    return len(target)


def timed(work: Work, expected: int) -> float:
    start = time.process_time()
    length = work()
    seconds = time.process_time() - start
    assert length == expected, f"{length:,} bytes came out, not {expected:,}"
    return seconds


def forget_peak() -> None:
    """And give what is free back to the system, so that it counts when it is used again."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes that were resident since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


# -- The curves, judged -----------------------------------------------------------------------------------------------


def measure(curve: str, backend: str, tick: Callable[[str], None]) -> dict[str, Any]:
    points = []
    for size in CURVES[curve].sizes[backend]:
        tick(f"{curve}, {backend}, {size:,}")
        with CONTEXT.Pool(1) as pool:
            points.append(pool.apply(measure_point, (curve, backend, size)))

    def time_of(point: Point) -> float:
        if not CURVES[curve].against_copy:
            return point["seconds"]
        return point["seconds"] / point["copy_seconds"] * point["n"]

    result = {"curve": curve, "unit": CURVES[curve].unit, "backend": backend, "points": points}
    return result | {
        "time_exponent": exponent(points, time_of, LEAST_SECONDS),
        "memory_exponent": exponent(points, lambda point: point["memory"], LEAST_MEMORY),
        "most_time": CURVES[curve].most_time,
        "most_memory": CURVES[curve].most_memory,
    }


def exponent(points: list[Point], cost: Callable[[Point], float], least: float) -> float:
    """Over the upper part, 0 where it costs next to nothing."""
    upper = [point for point in points if point["n"] * UPPER_PART >= points[-1]["n"]]
    told = [(point["n"], cost(point)) for point in upper if cost(point) >= least]
    return fitted_exponent(told) if len(told) > 1 else 0.0


def failures(results: list[dict[str, Any]]) -> list[str]:
    found = []
    for each in results:
        for cost in ("time", "memory"):
            if each[f"{cost}_exponent"] > each[f"most_{cost}"]:
                found.append(
                    f"{each['curve']}, {each['backend']}: {cost} grows with n ** {each[f'{cost}_exponent']:.2f}, "
                    f"more than n ** {each[f'most_{cost}']}"
                )
    return found


TITLES = f"{'curve':27}{'backend':9}{'n':>22}{'time of the last':>18}{'memory':>10}{'time e':>8}{'memory e':>10}"


def row(result: dict[str, Any]) -> str:
    first, last = result["points"][0], result["points"][-1]
    span = f"{first['n']:,}..{last['n']:,}"
    return (
        f"{result['curve']:27}{result['backend']:9}{span:>22}{last['seconds'] * 1e3:15,.2f} ms"
        f"{last['memory'] / 2**20:6.1f} MiB{result['time_exponent']:8.2f}{result['memory_exponent']:10.2f}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.bench_curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=list(CURVES), metavar="NAME")
    parser.add_argument("--backends", nargs="+", choices=("cython", "python"), default=["cython", "python"])
    parser.add_argument("--core", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    arguments = parser.parse_args(argv)
    os.sched_setaffinity(0, {arguments.core})
    results = []
    print(TITLES)
    with Progress(transient=True) as progress:
        pairs = [(curve, backend) for curve in arguments.curves for backend in arguments.backends]
        task = progress.add_task("curves", total=sum(len(CURVES[curve].sizes[backend]) for curve, backend in pairs))
        for curve, backend in pairs:
            results.append(measure(curve, backend, lambda text: progress.update(task, advance=1, description=text)))
            progress.console.print(row(results[-1]), highlight=False, soft_wrap=True)
    if arguments.json:
        write_results(arguments.json, results)
    for failure in failures(results):
        print(f"FAILED  {failure}")
    return 1 if failures(results) else 0


if __name__ == "__main__":
    sys.exit(main())

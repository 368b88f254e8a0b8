"""Has a fast path been lost? Ratios inside one run, for the check of every change:  python -m benchmarks.guard

Each pair takes turns, the fastest turn of each is compared, and the bound leaves room for what else the machine does:
a bound that is crossed means that something is several times slower than it was.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import bench_decode, bench_utf8, peers
from .load import masked_frame
from .peers import KEY, Call

TURNS = 20
LEAST_TURN = 0.002
"""Seconds of one turn, at least."""


@dataclass(frozen=True)
class Bound:
    """`fast` has to be `times` times as fast as `slow`."""

    what: str
    fast: Call
    slow: Call
    times: float


def contender(question: str, name: str) -> Callable[..., object]:
    (found,) = (each for each in peers.CASES[question] if each.name == name)
    return found.build


def mask(name: str, size: int) -> Call:
    function, arguments = contender("mask", name)(bytearray(size))  # type: ignore[misc]
    return function, arguments


def decode(name: str, size: int) -> Call:
    frame = masked_frame(bytes(32 + n % 95 for n in range(size)), KEY)
    chunk = frame * max(bench_decode.CHUNK // len(frame), 1)
    feed, _ = contender("decode", name)(len(chunk))  # type: ignore[misc]
    return feed, (chunk,)


def encode(name: str, size: int, masked: bool) -> Call:
    function, arguments = contender("encode", name)(bytes(size), masked)  # type: ignore[misc]
    return function, arguments


def utf8(name: str, alphabet: str) -> Call:
    return contender("utf8", name)(), (bench_utf8.text_of(alphabet, 64 * 1024),)  # type: ignore[return-value]


def bounds() -> list[Bound]:
    cython, python, given = "wslowlevel cython", "wslowlevel python", ", given key"
    return [
        Bound(
            "unmask 16 KiB in place: compiled against pure",
            mask(f"{cython}, in place", 1 << 14),
            mask(f"{python}, in place", 1 << 14),
            20,
        ),
        Bound(
            "unmask 16 KiB: ours in place against websockets' C",
            mask(f"{cython}, in place", 1 << 14),
            mask("websockets, a copy", 1 << 14),
            1.2,
        ),
        Bound(
            "unmask 1 MiB in place: pure against a byte at a time",
            mask(f"{python}, in place", 1 << 20),
            byte_at_a_time(1 << 20),
            8,
        ),
        Bound("decode 125 B: compiled against pure", decode(cython, 125), decode(python, 125), 15),
        Bound("decode 125 B: ours against websockets", decode(cython, 125), decode("websockets", 125), 15),
        Bound("decode 125 B: ours against wsproto", decode(cython, 125), decode("wsproto", 125), 40),
        Bound("decode 125 B: pure against websockets", decode(python, 125), decode("websockets", 125), 0.3),
        Bound("decode 16 KiB: ours against websockets", decode(cython, 1 << 14), decode("websockets", 1 << 14), 4),
        Bound(
            "encode 125 B: compiled against pure",
            encode(f"{cython}{given}", 125, False),
            encode(f"{python}{given}", 125, False),
            4,
        ),
        Bound(
            "encode 125 B: ours against websockets",
            encode(f"{cython}{given}", 125, False),
            encode("websockets", 125, False),
            4,
        ),
        Bound(
            "encode 1 MiB, masked: compiled against pure",
            encode(f"{cython}{given}", 1 << 20, True),
            encode(f"{python}{given}", 1 << 20, True),
            25,
        ),
        Bound(
            "UTF-8, ASCII: ours against CPython's decoder",
            utf8(cython, "ASCII"),
            utf8("CPython decode (websockets)", "ASCII"),
            1.5,
        ),
        Bound(
            "UTF-8, Chinese: ours against CPython's decoder",
            utf8(cython, "Chinese"),
            utf8("CPython decode (websockets)", "Chinese"),
            0.4,
        ),
    ]


def byte_at_a_time(size: int) -> Call:
    data = bytes(size)
    return lambda: bytes(byte ^ KEY[index & 3] for index, byte in enumerate(data)), ()


def compare(bound: Bound) -> float:
    """How many times as fast the fast one is."""
    fast_calls, slow_calls = calls_of_a_turn(bound.fast), calls_of_a_turn(bound.slow)
    fast, slow = [], []
    for _ in range(TURNS):
        fast.append(seconds(bound.fast, fast_calls))
        slow.append(seconds(bound.slow, slow_calls))
    return min(slow) / min(fast)


def calls_of_a_turn(call: Call) -> int:
    once = min(seconds(call, 1) for _ in range(3))
    return max(round(LEAST_TURN / once), 1)


def seconds(call: Call, calls: int) -> float:
    """Of CPU, for one call."""
    function, arguments = call
    start = time.process_time()
    for _ in range(calls):
        function(*arguments)
    return max((time.process_time() - start) / calls, 1e-9)


def main() -> int:
    lost = 0
    for bound in bounds():
        times = compare(bound)
        holds = times >= bound.times
        lost += not holds
        print(f"{'ok  ' if holds else 'LOST'}  {bound.what}: {times:.2f} times as fast, at least {bound.times}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

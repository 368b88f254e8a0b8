"""the codec's work x its backends -> times, in turns in one process, as bars: `wslowlevel bench`"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from timeit import Timer
from types import ModuleType

from ..codec import import_compiled
from .terminal import printer

SIZES = {"125 B": 125, "16 KiB": 16 * 1024, "1 MiB": 1024 * 1024}
ROUNDS = 5
MIN_SECONDS = 0.01
"""Of one measurement; the work is repeated for so long."""

KEY = bytes.fromhex("37fa213d")
BAR = 40
"""Characters of the longest bar."""

Work = Callable[[], object]


def works(codec: ModuleType, size: int) -> dict[str, Work]:
    """What is done to one payload of so many bytes, or to the frame that carries it."""
    payload = bytes(range(32, 127)) * (size // 95 + 1)
    payload = payload[:size]
    buffer = bytearray(payload)
    frame = codec.encode_frame(1, payload, mask_key=KEY)
    decoder = codec.MessageDecoder(role="server")
    validator = codec.Utf8Validator()
    return {
        "receive a masked text message": lambda: decoder.feed(frame),
        "make a masked text frame": lambda: codec.prepare_websocket_frame(payload, is_utf8=True, mask_key=KEY),
        "mask in place": lambda: codec.apply_mask_inplace(buffer, KEY),
        "check UTF-8": lambda: (validator.feed(payload), validator.finish()),
    }


def backends() -> dict[str, ModuleType]:
    """Return the backends that can be imported, by name."""
    from .. import _codec_py  # noqa: PLC0415 - only if backends are compared

    with suppress(Exception):  # not built, or built for another Python
        return {"cython": import_compiled(), "python": _codec_py}
    return {"python": _codec_py}


def compare() -> Iterator[tuple[str, str, dict[str, float]]]:
    """(work, size, seconds by backend), the best of some rounds, which the backends take in turns."""
    codecs = backends()
    for size, count in SIZES.items():
        made = {name: works(codec, count) for name, codec in codecs.items()}
        for work in made["python"]:
            rounds = [{name: seconds_of(made[name][work]) for name in codecs} for _ in range(ROUNDS)]
            yield work, size, {name: min(each[name] for each in rounds) for name in codecs}


def seconds_of(work: Work) -> float:
    """Seconds that one call takes, over as many as fill the time."""
    timer, calls = Timer(work), 1
    while (passed := timer.timeit(calls)) < MIN_SECONDS:
        calls *= 2
    return passed / calls


def bench() -> None:
    """Print a line for each work, size and backend as soon as it is measured."""
    show, previous = printer(), ""
    show("Seconds a call, the best of five rounds in turns. A bar is four characters longer where it is twice as fast.")
    for work, size, seconds in compare():
        if size != previous:
            show(f"\n{size}", "bold")
            previous = size
        slowest = max(seconds.values())
        for name, each in seconds.items():
            ratio = slowest / each
            bar = "#" * min(BAR, 1 + round(4 * math.log2(ratio)))
            style = "green" if name == "cython" else ""
            show(f"{work:<30} {name:<7} {in_words(each):>11} {ratio:8.1f} x  {bar}", style)
            work = ""  # noqa: PLW2901


def in_words(seconds: float) -> str:
    for factor, unit in ((1e9, "ns"), (1e6, "us")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.1f} {unit}"
    return f"{seconds * 1e3:,.1f} ms"

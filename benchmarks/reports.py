"""What the benchmarks have in common when they judge and write down their figures."""

from __future__ import annotations

import datetime
import importlib.util
import json
import math
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wslowlevel
from wslowlevel.codec import kernel

PACKAGES = ("aiohttp", "aiofastnet", "numpy", "picows", "tornado", "uvloop", "websockets", "wsaccel", "wsproto")
RESULTS = Path(__file__).parent / "results"


def fitted_line(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the least-squares line."""
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def fitted_exponent(points: Sequence[tuple[float, float]]) -> float:
    """The e of y = c * x ** e: 1 where the cost is linear, 2 where it is quadratic, 0 where it is constant."""
    return fitted_line([(math.log(x), math.log(max(y, 1e-12))) for x, y in points])


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of every package that may take part, "missing" for those that are not installed."""
    found = {name: importlib.util.find_spec(name) is not None for name in PACKAGES}
    ours = f"{wslowlevel.__version__} ({wslowlevel.BACKEND}, {kernel()})"
    return {"wslowlevel": ours} | {name: version(name) if found[name] else "missing" for name in PACKAGES}


def about() -> dict[str, Any]:
    """The machine, the date and the versions that figures belong to."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release().partition('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": versions(),
    }


def write_results(file: Path, results: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"about": about(), "results": results}, indent=1) + "\n")

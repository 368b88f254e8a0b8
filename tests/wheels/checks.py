"""What must be so of a wheel, whoever installs it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .making import contents

LARGEST = 1024 * 1024
"""Bytes."""

ALWAYS = {"wslowlevel/py.typed", "wslowlevel/_codec.pyi", "wslowlevel/_codec_py.py", "wslowlevel/echo.html"}
FOR_CYTHON = {"wslowlevel/_codec.pxd", "wslowlevel/_kernels.h"}
COMPILED = ("wslowlevel/_codec.", "wslowlevel/aio/_stream.")


def faults(wheel: Path, *, pure: bool) -> list[str]:
    """What is wrong with a wheel, in words."""
    held = contents(wheel)
    modules = {name: data for name, data in held.items() if name.endswith((".so", ".pyd"))}
    found = [f"lacks {name}" for name in sorted((ALWAYS | FOR_CYTHON) - held.keys())]
    found += [f"holds {name}" for name in held if name.endswith((".c", ".pyx")) or name.startswith(("tests", "bench"))]
    if wheel.stat().st_size >= LARGEST:
        found.append(f"takes {wheel.stat().st_size:,} bytes, {LARGEST:,} are too many")
    if pure:
        found += [f"holds {name}" for name in modules]
    else:
        found += [f"lacks {stem}*.so" for stem in COMPILED if not any(name.startswith(stem) for name in modules)]
        for name, data in modules.items():
            found += [f"{name} {what}" for what in faults_of_module(data)]
    return found


def faults_of_module(data: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(data)
        file.flush()
        command = ["readelf", "--wide", "--sections", "--dynamic", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for sign, what in ((".symtab", "is not stripped"), (".debug_", "holds debug information")):
        if sign in said:
            yield what
    if "RUNPATH" in said or "RPATH" in said:
        yield "looks for libraries where it was built"


def faults_of_metadata(archives: Iterable[Path], wheels: Iterable[Path]) -> list[str]:
    """What the tools of the package index say."""
    found = []
    for command in (["twine", "check", "--strict", *map(str, archives)], ["check_wheel_contents", *map(str, wheels)]):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            found.append(f"{command[0]}: {done.stdout}{done.stderr}")
    return found


def differing(one: Path, other: Path) -> list[str]:
    """Names of files whose bytes are not the same in both wheels."""
    first, second = contents(one), contents(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))

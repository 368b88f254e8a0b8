"""The drop-in, as a table or under a program: `wslowlevel dropin`"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from collections.abc import Sequence

from .. import dropin
from .bench import in_words
from .gains import gains
from .terminal import printer


def show_gains() -> None:
    """Print what can be replaced of each library, and what that gains."""
    show = printer()
    for row in dropin.status():
        what = f"{row.library} {row.version or ''}".strip()
        seam = f"{'nothing' if row.seam == row.replacement else row.seam} -> {row.replacement}"
        show(f"{what:<24} {seam if row.seam else row.state}")
    for library in dict.fromkeys(row.library for row in dropin.status() if row.seam):
        show("")
        for name, (without, with_it) in gains(library).items():
            times = f"{in_words(without)} -> {in_words(with_it)}"
            show(f"{library:<24} {name:<20} {times:<22} {without / with_it:8.1f} x")


def run_module(program: Sequence[str]) -> None:
    """Run a module in this process, as its own `__main__`, with the drop-in installed."""
    sys.argv = list(program)
    dropin.install()
    sys.path.insert(0, os.getcwd())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def path_of(program: str) -> str | None:
    """Where a file is, or a command that is a Python script; None if there is neither."""
    return program if os.path.exists(program) else shutil.which(program)


def run_program(path: str, program: Sequence[str]) -> None:
    """Run it likewise, as a program that is named and told so."""
    sys.argv = list(program)
    dropin.install()
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    runpy.run_path(path, run_name="__main__")

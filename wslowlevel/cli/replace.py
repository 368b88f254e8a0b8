"""The drop-in, as a table or under a program: `wslowlevel dropin`"""

from __future__ import annotations

import glob
import importlib.util
import os
import runpy
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

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


class NoProgram(Exception):
    """The module or the file cannot be run; the text says why. Errors of the program itself are not this one."""


def run_module(program: Sequence[str]) -> None:
    """Run a module in this process, as its own `__main__`, with the drop-in installed.

    Raises:
        NoProgram: there is no such module, or it is not one that can be run.
    """
    sys.argv = list(program)
    dropin.install()
    sys.path.insert(0, os.getcwd())
    check_module(sys.argv[0])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def check_module(name: str) -> None:
    """Raise NoProgram unless a module can be run. Like `python -m`, this imports the packages that contain it."""
    if os.path.isfile(name):
        raise NoProgram(f"{name} is a file: run it without -m")
    if not has_module(name):
        raise NoProgram(f"no module is named {name}")
    spec = importlib.util.find_spec(name)
    assert spec is not None
    if spec.submodule_search_locations is not None:
        if not has_module(f"{name}.__main__"):
            raise NoProgram(f"{name} is a package without __main__, so that -m cannot run it")
    elif spec.loader is None or getattr(spec.loader, "get_code", lambda _: None)(name) is None:
        raise NoProgram(f"{name} is not written in Python, so that -m cannot run it")


def has_module(name: str) -> bool:
    """Return whether a module can be found. An error of a package that contains it is raised as it is."""
    if name.startswith(".") or "" in name.split("."):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return False
        raise
    except ValueError:  # a module without a spec, such as __main__
        return False


def check_program(path: str) -> None:
    """Raise NoProgram unless a path is a Python file, or a directory or archive with a __main__."""
    if os.path.isdir(path):
        if not glob.glob(os.path.join(glob.escape(path), "__main__.py*")):
            raise NoProgram(f"{path} is a directory without __main__.py")
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if not {"__main__.py", "__main__.pyc"} & set(archive.namelist()):
                raise NoProgram(f"{path} is an archive without __main__.py")
    else:
        try:
            with Path(path).open("rb") as file:
                start = file.read(1024)
        except OSError as error:
            raise NoProgram(f"cannot read {path}: {error.strerror}") from None
        if b"\0" in start and not start.startswith(importlib.util.MAGIC_NUMBER):
            raise NoProgram(f"{path} is not a Python program")


def run_program(program: Sequence[str]) -> None:
    """Run a file, or a command that is a Python script, likewise.

    Raises:
        NoProgram: there is none of that name, it cannot be read, or it is not a Python program.
    """
    path = program[0] if os.path.exists(program[0]) else shutil.which(program[0])
    if path is None:
        raise NoProgram(f"no file and no command is named {program[0]}")
    check_program(path)
    sys.argv = list(program)
    dropin.install()
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    runpy.run_path(path, run_name="__main__")

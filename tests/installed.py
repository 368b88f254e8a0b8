"""a wheel -> a fresh environment without a compiler -> the suite, run there against what is installed"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

TESTED = (
    "tests",
    "benchmarks",
    "docs",
    "examples",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
)
"""What the tests read, the package not among it: they find the one that is installed, or none."""

OF_THE_TREE = ("--ignore=tests/test_packaging.py",)
"""Tests of what is built, not of what is installed."""

XML = ("-o", "junit_family=xunit1")
"""The kind of report that holds what tests record."""

ABOUT = "import sys, wslowlevel as w; print(w.BACKEND, w.codec.kernel(), w.__file__.startswith(sys.prefix))"


@dataclass(frozen=True)
class Run:
    """How the suite went on one backend."""

    backend: str
    passed: int
    failed: int
    log: Path


class Installed:
    """A wheel, installed beside what the tests need.

    Attributes:
        backend: what a program gets that asks for none.
        kernel: its SIMD kernel.
    """

    def __init__(self, wheel: Path, python: Path, root: Path, place: Path) -> None:
        self._place = place
        self._copy = place / "copy"
        self._copy.mkdir(parents=True)
        for name in TESTED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, self._copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self._copy)
        subprocess.run([str(python), "-m", "venv", str(place / "env")], check=True)
        self.python = place / "env" / "bin" / "python"
        with tempfile.TemporaryDirectory() as empty:  # no compiler anywhere
            alone = {**os.environ, "PATH": os.pathsep.join([str(self.python.parent), empty])}
            install = [str(self.python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--no-cache-dir"]
            subprocess.run([*install, "--only-binary", "wslowlevel", f"{wheel}[test]"], env=alone, check=True)
        said = subprocess.run(
            [str(self.python), "-c", ABOUT], cwd=self._copy, capture_output=True, text=True, check=True
        )
        self.backend, self.kernel, is_installed = said.stdout.split()
        assert is_installed == "True", f"what was imported is not what was installed: {said.stdout}"

    def test(self, arguments: Sequence[str]) -> list[Run]:
        """Run the suite on each backend that there is."""
        if self.backend == "python":
            return [self._run("python", ("--no-cython", *arguments))]
        return [self._run("cython", arguments), self._run("python", ("--no-codec", *arguments))]

    def _run(self, backend: str, arguments: Sequence[str]) -> Run:
        report, log = self._place / f"{backend}.xml", self._place / f"{backend}.log"
        command = [str(self.python), "-m", "pytest", "-q", *XML, f"--junitxml={report}", *OF_THE_TREE, *arguments]
        with log.open("w") as output:
            environment = {**os.environ, "WSLOWLEVEL_BACKEND": backend}
            subprocess.run(command, cwd=self._copy, env=environment, stdout=output, stderr=output, check=False)
        if not report.exists():
            return Run(backend, 0, 1, log)
        suite = ElementTree.parse(report).getroot().find("testsuite")
        assert suite is not None
        count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
        failed = count["failures"] + count["errors"]
        return Run(backend, count["tests"] - failed - count["skipped"], failed, log)

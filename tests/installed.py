"""an archive of ours -> a fresh environment -> the suite, run there against what is installed"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
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
    """How the suite went on one backend, and how many seconds it took."""

    backend: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    log: Path

    @property
    def fault(self) -> str | None:
        """What is wrong with it, in words."""
        if self.failed:
            return f"{self.backend}: {self.failed} failed, see {self.log}"
        return None if self.passed else f"{self.backend}: no test passed, see {self.log}"


class Installed:
    """An archive of ours, installed beside what the tests need.

    Attributes:
        backend: what a program gets that asks for none.
        kernel: its SIMD kernel.
    """

    def __init__(
        self,
        requirements: Sequence[str],
        python: Path,
        tree: Path,
        place: Path,
        *,
        within: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Install into a directory that does not exist yet.

        Args:
            requirements: what pip installs, the archive among it.
            python: the interpreter.
            tree: where the tests are.
            within: what stands before each command, where it is to run in another system.
            variables: of the environment, for pip.
        """
        self._place = place
        self._copy = place / "copy"
        self._within = within
        self._copy.mkdir(parents=True)
        for name in TESTED:
            source = tree / name
            if source.is_dir():
                shutil.copytree(source, self._copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self._copy)
        self._command([str(python), "-m", "venv", str(place / "env")])
        self.python = place / "env" / "bin" / "python"
        install = [str(self.python), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
        self._command([*install, *requirements], variables)
        said = subprocess.run(
            [*within, str(self.python), "-c", ABOUT], cwd=self._copy, capture_output=True, text=True, check=True
        )
        self.backend, self.kernel, is_installed = said.stdout.split()
        assert is_installed == "True", f"what was imported is not what was installed: {said.stdout}"

    def _command(self, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        subprocess.run([*self._within, *command], cwd=self._copy, env={**os.environ, **(variables or {})}, check=True)

    def test(self, arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> list[Run]:
        """Run the suite on each backend that there is, with variables in the environment."""
        runs = {"cython": [], "python": ["--no-codec", "--no-cython"]}
        if self.backend == "python":
            runs = {"python": ["--no-cython"]}
        command = [*self._within, str(self.python)]
        return [
            run_tests(
                command,
                backend,
                [*options, *arguments],
                self._copy,
                self._place,
                {**os.environ, "WSLOWLEVEL_BACKEND": backend, **(variables or {})},
            )
            for backend, options in runs.items()
        ]


def run_tests(
    python: Sequence[str],
    backend: str,
    arguments: Sequence[str],
    copy: Path,
    place: Path,
    environment: Mapping[str, str],
) -> Run:
    """Run the suite, in a copy of what it reads; the report and the log come to `place`."""
    report, log = place / f"{backend}.xml", place / f"{backend}.log"
    options = ["-q", *XML, f"--junitxml={report}", *OF_THE_TREE, *arguments]
    started = time.monotonic()
    with log.open("w") as output:
        command = [*python, "-m", "pytest", *options]
        subprocess.run(command, cwd=copy, env=environment, stdout=output, stderr=output, check=False)
    seconds = time.monotonic() - started
    if not report.exists():
        return Run(backend, 0, 1, 0, seconds, log)
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    passed = count["tests"] - failed - count["skipped"]
    return Run(backend, passed, failed, count["skipped"], seconds, log)

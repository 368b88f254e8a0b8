"""The suite on a build with AddressSanitizer, UndefinedBehaviorSanitizer and Cython's own checks.

python -m tests.sanitize                   everything that runs compiled code
python -m tests.sanitize tests/test_masking.py -k guards

It builds in build/sanitize, and needs gcc with its libasan. Exit code 0: no test failed, and nothing was reported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
TREE = ROOT / "build" / "sanitize"
COPIED = (
    *("wslowlevel", "tests", "benchmarks", "docs", "examples", "pyproject.toml", "setup.py"),
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"),
)
GENERATED = shutil.ignore_patterns("__pycache__", "*.c", "*.so")

LEFT_OUT = (
    "test_packaging.py",  # builds of its own
    "test_browser.py",
    "test_chat.py",
    "test_peers.py",
    "test_conformance.py",
    "autobahn",
    "hostile",  # bounds on memory, which the sanitizers multiply
    "test_client_examples.py::test_a_big_file_goes_both_ways_in_little_memory",
    "test_load.py",
)


def main(arguments: Sequence[str]) -> int:
    if TREE.exists():
        shutil.rmtree(TREE)
    TREE.mkdir(parents=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, TREE / name, ignore=GENERATED)
        else:
            shutil.copy(ROOT / name, TREE / name)
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(build, cwd=TREE, env={**os.environ, "WSLOWLEVEL_BUILD": "debug"}, check=True)
    return run(arguments or [f"--{'deselect' if '::' in name else 'ignore'}=tests/{name}" for name in LEFT_OUT])


def run(arguments: Sequence[str]) -> int:
    """Run pytest there; a report of the sanitizers ends its process, and is looked for beside."""
    reports = TREE / "reports"
    reports.mkdir()
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(TREE),
        "WSLOWLEVEL_BACKEND": "cython",
        "LD_PRELOAD": runtime.stdout.strip(),
        "PYTHONMALLOC": "malloc",  # so that each object is a block that the sanitizer watches
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={reports}/report",  # the interpreter itself leaks at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={TREE.parent}/sanitize.xml"]
    ended = subprocess.run([*command, *arguments], cwd=TREE, env=environment, check=False)
    found = sorted(reports.iterdir())
    for report in found:
        sys.stdout.write(report.read_text())
    sys.stdout.write(f"{len(found)} reports of the sanitizers\n")
    return ended.returncode or int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

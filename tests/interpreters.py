"""Runs the suite on interpreters that are rarely there: CPython 3.14, 3.15, 3.13 without its global lock, and PyPy.

python -m tests.interpreters                                   all of them: about an hour and a half
python -m tests.interpreters pypy3                             one
python -m tests.interpreters 3.13t tests/test_decoders.py      some tests on one

3.14, 3.15 and pypy3 are of Debian's unstable distribution, which is put into a directory: that takes root (for chroot),
apt-get, 2.5 GB and four minutes. 3.13t is built from Debian's source: that takes a C compiler, the headers of what it
links (libssl, zlib, libffi), 0.5 GB and five minutes. On it the compiled codec is run with the lock, and the pure one
(3.13t-pure) without. They stay in build/systems. Exit code 0: on each of them some tests pass and none fails.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from .installed import Installed
from .systems.cpython import free_threaded
from .systems.debian import Debian
from .wheels.making import make_source

ROOT = Path(__file__).parent.parent
PLACE = ROOT / "build" / "interpreters"
SYSTEMS = ROOT / "build" / "systems"

WITHOUT_RUST = "--only-binary=hypothesis,pydantic-core"
"""The newest that are built, rather than the newest."""

console = Console()


@dataclass(frozen=True)
class Interpreter:
    """One of Debian's, unless it is built from source.

    Attributes:
        packages: of Debian.
        backend: what it must run with.
        lacking: of the test extra, what has no build for it.
        left_out: tests that are not run, and why.
        arguments: of pytest.
        variables: of the environment that the tests run in.
    """

    packages: tuple[str, ...] = ()
    backend: str = "cython"
    lacking: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


def of_debian(version: str) -> tuple[str, ...]:
    return tuple(f"python{version}{part}" for part in ("", "-dev", "-venv"))


FREED_AT_ONCE = (
    "buffers.py::TestOwnership::test_a_changed_source_changes_no_message",
    "buffers.py::TestReentrancy::test_a_finaliser_that_feeds",
    "buffers.py::TestReentrancy::test_a_finaliser_that_lends",
    "header.py::test_a_payload_is_copied_not_changed",
    "keepalive.py::test_nothing_is_left_when_the_connection_is_gone",
    "socket.py::test_a_socket_is_freed_when_its_connection_is_gone",
    "wakeup.py::test_a_cancelled_wait_keeps_nothing",
)

OTHERWISE_IN_PURE_PYTHON = (
    ("tests/test_buffers.py::test_threads_hammering_one_decoder", "one of the threads may see a TypeError"),
    ("tests/test_client_examples.py::test_a_big_file_goes_both_ways_in_little_memory", "it takes more"),
)

WARNED_OF = ("-W", "ignore::hypothesis.errors.HypothesisWarning")
"""Hypothesis warns of NumPy's random numbers there, in the first test that runs after NumPy was imported."""

IN_A_RUN_OF_ITS_OWN = (("tests/dropin/test_maskers.py::test_eventlet", "its own run of pytest meets the same warning"),)

NO_FREE_THREADED = (
    "aiofastnet",
    "autobahn",
    "eventlet",
    "gevent-websocket",
    "httptools",
    "isal",
    "tornado",
    "uvloop",
    "zlib-ng",
)
WITHOUT_THEM = (
    ("tests/dropin", "some of the libraries have no build for it"),
    ("tests/test_deflate.py::test_wrong_settings", "isal has no build for it"),
    ("tests/test_deflate.py::test_a_backend_that_is_not_installed", "isal has no build for it"),
    ("tests/test_command_line.py::test_info", "it names the version of uvloop"),
    ("tests/test_docs.py::test_a_block_runs_by_itself[howto/uvloop.md", "it has no uvloop"),
    ("tests/test_uvicorn.py::test_echo[asyncio-httptools]", "httptools has no build for it"),
    ("tests/test_uvicorn.py::test_scope[asyncio-httptools]", "httptools has no build for it"),
    ("tests/hostile/test_requests.py", "it takes half a MiB more than is allowed"),
)

INTERPRETERS = {
    "3.14": Interpreter(of_debian("3.14"), left_out=IN_A_RUN_OF_ITS_OWN, arguments=WARNED_OF),
    "3.15": Interpreter(of_debian("3.15"), left_out=IN_A_RUN_OF_ITS_OWN, arguments=WARNED_OF),
    "pypy3": Interpreter(
        ("pypy3", "pypy3-dev", "pypy3-venv"),
        "python",
        lacking=("aiofastnet", "autobahn", "gevent-websocket", "uvloop"),
        left_out=(
            ("tests/dropin", "half of the libraries have no build for it"),
            ("tests/hostile", "what a server holds is measured as CPython tells it"),
            ("tests/test_command_line.py::test_info", "it names the version of uvloop"),
            ("tests/test_docs.py::test_a_block_runs_by_itself[howto/uvloop.md", "it has no uvloop"),
            ("tests/test_layers.py::test_no_io_is_loaded", "it loads its socket module itself"),
            *OTHERWISE_IN_PURE_PYTHON,
            *((f"tests/test_{test}", "what nobody refers to is freed later") for test in FREED_AT_ONCE),
        ),
        arguments=("-W", "ignore::pytest.PytestUnraisableExceptionWarning"),  # of the garbage of an earlier test
    ),
    "3.13t": Interpreter(lacking=NO_FREE_THREADED, left_out=WITHOUT_THEM, variables=(("PYTHON_GIL", "1"),)),
    "3.13t-pure": Interpreter(
        backend="python", lacking=NO_FREE_THREADED, left_out=(*WITHOUT_THEM, *OTHERWISE_IN_PURE_PYTHON)
    ),
}
"""On 3.13t the compiled codec turns the lock on, with a warning unless it is on; the pure one leaves it off."""


def main(given: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(given)
    chosen = [name for name in options.arguments if name in INTERPRETERS] or list(INTERPRETERS)
    tests = [argument for argument in options.arguments if argument not in INTERPRETERS]
    table = Table("interpreter", "backend", "passed", "skipped", "failed", "seconds")
    faults = []
    for name in chosen:
        interpreter = INTERPRETERS[name]
        console.print(f"{name}: made and installed into {PLACE}")
        installed = install(name, interpreter)
        if installed.backend != interpreter.backend:
            faults.append(f"{name} runs on the backend {installed.backend}")
        arguments = [*interpreter.arguments, *map(leave_out, interpreter.left_out), *tests]
        for run in installed.test(arguments, dict(interpreter.variables)):
            table.add_row(
                name, run.backend, f"{run.passed:,}", f"{run.skipped:,}", f"{run.failed:,}", f"{run.seconds:,.0f}"
            )
            faults += [f"{name}, {run.fault}"] if run.fault else []
            console.print(f"{name}: {run.backend} tested")
    console.print(table)
    for fault in faults:
        console.print(f"wrong: {fault}", markup=False)
    return int(bool(faults))


def build_parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.interpreters", description=__doc__, formatter_class=form)
    meaning = f"one of {', '.join(INTERPRETERS)}, or an argument of pytest"
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help=meaning)
    return parser


def install(name: str, interpreter: Interpreter) -> Installed:
    """Our source archive, built by the interpreter itself."""
    within: Sequence[str] = ()
    if interpreter.packages:
        within = Debian(SYSTEMS / "sid", ROOT, interpreter.packages).within
        python = Path("/usr/bin") / interpreter.packages[0]
    else:
        python = free_threaded(SYSTEMS)
    place = PLACE / name
    shutil.rmtree(place, ignore_errors=True)
    archives = PLACE / "source"
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir(parents=True)
    source = make_source(ROOT, archives)
    build = "pure" if interpreter.backend == "python" else "require"
    requirements = [WITHOUT_RUST, str(source), *needs_of_tests(interpreter.lacking)]
    return Installed(requirements, python, ROOT, place, within=within, variables={"WSLOWLEVEL_BUILD": build})


def leave_out(named: tuple[str, str]) -> str:
    """The option of pytest; a file that cannot be imported must not be collected."""
    test, _ = named
    return f"--deselect={test}" if "::" in test else f"--ignore={test}"


def needs_of_tests(lacking: Sequence[str]) -> list[str]:
    """The test extra, without what is lacking."""
    needs = []
    for line in requires("wslowlevel") or []:
        need = Requirement(line)
        if need.name not in lacking and need.marker is not None and need.marker.evaluate({"extra": "test"}):
            need.marker = None
            needs.append(str(need))
    return needs


if __name__ == "__main__":
    sys.exit(main())

"""Programs that contain the package: frozen by PyInstaller, and zipped by zipapp."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import urllib.request
import zipapp
from collections.abc import Sequence
from pathlib import Path

import h11
import pytest

import wslowlevel
from wslowlevel.dropin import LIBRARIES

from .conftest import Both
from .test_command_line import echo_command, environment

pytestmark = pytest.mark.any_backend

PACKAGE = Path(wslowlevel.__file__).parent

freezes = pytest.mark.skipif(sys.implementation.name != "cpython", reason="PyInstaller freezes CPython only")

TIMEOUT = 120
"""Seconds for PyInstaller, which takes about 10 of them on an idle machine."""

PROGRAM = """
import asyncio
import sys

import wsproto

import wslowlevel as w
from wslowlevel import dropin
from wslowlevel.aio.stream import Stream
from wslowlevel.deflate import PerMessageDeflate


async def on_upgrade(request, socket, head):
    w.send_handshake(request, socket, extensions=[PerMessageDeflate()])
    await w.send_message_factory(socket)("frozen")


async def talk(backend):
    async with w.serve(on_upgrade, "127.0.0.1", 0) as server:
        extensions = [PerMessageDeflate(backend=backend)]
        response, socket = await w.connect(f"ws://127.0.0.1:{server.port}/", extensions=extensions)
        async with socket:
            return (await w.get_messages_factory(socket, auto_pong=True)().__anext__()).text


async def no_tls():
    async with w.serve(on_upgrade, "127.0.0.1", 0) as server:
        try:
            await w.connect(f"wss://127.0.0.1:{server.port}/")
        except OSError as error:
            return type(error).__module__


if sys.argv[1:] == ["talk"]:
    said = [asyncio.run(talk(backend)) for backend in ("zlib", "isal", "zlib-ng")]
    states = [{row.state for row in dropin.status(name)} for name in ("wsproto", "aiohttp")]
    print(w.BACKEND, Stream.__module__, said, asyncio.run(no_tls()), states)
else:
    from wslowlevel.__main__ import main

    sys.exit(main())
"""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program above, frozen by PyInstaller with no options that concern this package."""
    place = tmp_path_factory.mktemp("frozen")
    (place / "program.py").write_text(PROGRAM)
    # PyInstaller does not see through the import hook of an editable installation, hence --paths.
    command = ["-m", "PyInstaller", "--log-level", "WARN", "--paths", str(PACKAGE.parent), "program.py"]
    done = subprocess.run(
        [sys.executable, *command], cwd=place, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    return str(place / "dist" / "program" / "program")


def run(command: Sequence[str], **variables: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment(**variables)
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@freezes
@pytest.mark.parametrize("backend", ["cython", "python"])
def test_frozen_program_runs_on_both_backends(frozen: str, backend: str) -> None:
    module = {"cython": "wslowlevel.aio._stream", "python": "wslowlevel.aio._stream_py"}[backend]
    expected = f"{backend} {module} {['frozen'] * 3} ssl [{{'not installed'}}, {{'not there'}}]\n"
    assert run([frozen, "talk"], WSLOWLEVEL_BACKEND=backend) == expected


@freezes
def test_frozen_program_prefers_the_compiled_backend(frozen: str, both: Both) -> None:
    assert run([frozen, "talk"]).startswith("cython ")


def answered(program: list[str], url: str) -> tuple[int, bytes]:
    """Send a line through `connect` -> its exit status and output."""
    done = subprocess.run(
        [*program, "connect", url],
        input=b"hello\n",
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
        env=environment(),
    )
    return done.returncode, done.stdout


@freezes
def test_frozen_command_line_serves_its_page(frozen: str) -> None:
    with echo_command(program=[frozen]) as command:
        with urllib.request.urlopen(command.url("http"), timeout=TIMEOUT) as response:
            assert "<script>" in response.read().decode()
        assert answered([frozen], command.url()) == (0, b"hello\n")


@freezes
def test_frozen_command_line_compares_both_backends(frozen: str, both: Both) -> None:
    assert {" cython ", " python "} <= set(re.findall(" cython | python ", run([frozen, "bench"])))


# -- zipapp -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line as one archive of pure Python, without anything of this environment."""
    place = tmp_path_factory.mktemp("zipped")
    for package in (PACKAGE, Path(h11.__file__).parent):
        ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "*.c")
        shutil.copytree(package, place / "app" / package.name, ignore=ignore)
    zipapp.create_archive(place / "app", place / "app.pyz", main="wslowlevel.__main__:main")
    return [sys.executable, "-S", "-W", "error", str(place / "app.pyz")]


def test_zipapp_runs_on_pure_python(zipped: list[str]) -> None:
    assert re.search(r"^backend +python$", run([*zipped, "info"]), re.MULTILINE)


def test_zipapp_serves_its_page_and_connects(zipped: list[str]) -> None:
    with echo_command(program=zipped) as command:
        with urllib.request.urlopen(command.url("http"), timeout=TIMEOUT) as response:
            assert "<script>" in response.read().decode()
        assert answered(zipped, command.url()) == (0, b"hello\n")


# -- Imports that a freezer finds -------------------------------------------------------------------------------------


def imports_by_name(path: Path) -> list[int]:
    """Return the lines of a module that import by a string, which a freezer cannot follow."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if ast.unparse(call.func).endswith(("import_module", "__import__"))]


def test_modules_are_imported_by_statements() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): imports_by_name(path) for path in PACKAGE.rglob("*.py")}
    assert {name for name, lines in found.items() if lines} == {"dropin/__init__.py"}


def test_modules_of_the_drop_in_are_listed_for_freezers() -> None:
    """`_seam` imports them by name, so that one function lists them in an import statement."""
    tree = ast.parse((PACKAGE / "dropin" / "__init__.py").read_text("utf-8"))
    listed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert listed == {library.replace("-", "_") for library in LIBRARIES}

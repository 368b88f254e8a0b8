"""Imports point one way, and the protocol knows no I/O."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wslowlevel

PACKAGE = Path(wslowlevel.__file__).parent

LAYERS = (
    {"_version", "errors", "wire"},
    {"_codec", "_codec_py"},
    {"codec"},
    {"frames", "http1", "uri"},
    {"extensions"},
    {"pipeline"},
    {"connection", "deflate", "handshake"},
    {"keepalive"},
    {"aio", "dropin"},
    {"__init__", "__main__", "__pyinstaller", "cli", "echo", "uvicorn"},
)
"""Each may import from its own layer and from those before it."""

WITH_IO = {"aio", "dropin", "__init__", "__main__", "__pyinstaller", "cli", "echo", "uvicorn"}
IO = {"_socket", "_ssl", "asyncio", "select", "selectors", "socket", "socketserver", "ssl", "uvloop"}


def sources() -> dict[str, Path]:
    """Every module, by its name inside the package: `frames`, `aio.socket`, `aio.__init__`."""
    # An installed package may come without the source of the compiled codec, but not without its stub.
    files = (path for suffix in ("pyi", "pyx", "py") for path in PACKAGE.rglob(f"*.{suffix}"))
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in files}


SOURCES = sources()


@functools.cache
def imports(module: str) -> frozenset[str]:
    """What a module imports: absolute names, and those inside the package with a dot before them."""
    return frozenset(name for node in ast.walk(parse(SOURCES[module])) for name in imported_by(node, module))


def parse(path: Path) -> ast.Module:
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".pyx":  # of Cython, the import statements are Python
        source = "\n".join(re.findall(r"^\s*((?:from\s+\S+\s+)?import\s.+)$", source, re.MULTILINE))
    return ast.parse(source)


def imported_by(node: ast.AST, module: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = absolute(module, node.level, node.module or "")
        names = [f"{base}.{alias.name}" if base != "." else f".{alias.name}" for alias in node.names]
        yield from (name if name[1:] in SOURCES else base for name in names)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
        name = node.args[0]
        if module == "dropin.__init__":
            return  # one of its own modules, by the name of a library
        assert isinstance(name, ast.Constant), "a module is imported by a name that cannot be read here"
        path = str(name.value)  # against the package that the module stands in
        yield absolute(module, 1, path[1:]) if path.startswith(".") else path


def absolute(module: str, level: int, name: str) -> str:
    """`from ..http1` in `aio.socket` -> `.http1`"""
    if not level:
        return name
    parents = module.split(".")[:-level]
    return "." + ".".join([*parents, *filter(None, [name])])


def inside(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    names = {name[1:] or "__init__" for name in imports(module) if name.startswith(".")}
    return {name if name in SOURCES else f"{name}.__init__" for name in names}


def reached(module: str) -> set[str]:
    """The modules of the package that a module imports, and those that these import, itself included."""
    found, due = set(), {module}
    while due:
        found |= due
        due = {name for each in due for name in inside(each)} - found
    return found


def top_of(name: str) -> str:
    return name.partition(".")[0]


def layer(module: str) -> int:
    top = top_of(module)
    ranks = [rank for rank, names in enumerate(LAYERS) if top in names]
    assert len(ranks) == 1, f"{module} has no place in LAYERS"
    return ranks[0]


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_one_way(module: str) -> None:
    assert [name for name in inside(module) if layer(name) > layer(module)] == []


@pytest.mark.parametrize("module", [name for name in SOURCES if top_of(name) not in WITH_IO])
def test_the_protocol_knows_no_io(module: str) -> None:
    names = {top_of(name) for each in reached(module) for name in imports(each)}
    assert names & (IO | {"wslowlevel"}) == set()


def test_the_walk_sees_what_there_is() -> None:
    assert {"wire", "errors", "codec", "_codec", "_codec_py"} <= reached("frames")
    assert {"_codec", "_codec_py"} <= inside("codec")
    assert {"aio._stream", "aio._stream_py"} <= inside("aio.stream")
    assert {"errors"} <= inside("_codec") <= {"errors", "wire"}
    assert "asyncio" in imports("aio.socket")
    assert {"connection", "aio.duplex"} <= inside("aio.socket")
    assert "aio.socket" in inside("__init__")


WITHOUT_THE_PACKAGE = """
import importlib, sys, types
package = types.ModuleType("wslowlevel")
package.__path__ = [sys.argv[1]]
sys.modules["wslowlevel"] = package
for name in sys.argv[2:]:
    importlib.import_module("wslowlevel." + name)
print(*sorted({"asyncio", "socket", "ssl"} & set(sys.modules)))
"""


def test_no_io_is_loaded() -> None:
    """In an interpreter of its own, without the package's `__init__`, which offers the asyncio layer too."""
    modules = [name for name in SOURCES if top_of(name) not in WITH_IO and SOURCES[name].suffix == ".py"]
    command = [sys.executable, "-S", "-c", WITHOUT_THE_PACKAGE, str(PACKAGE), *modules]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=True)
    assert done.stdout.strip() == ""


WITHOUT_TLS = """
import sys
sys.modules["_ssl"] = None
import asyncio
import wslowlevel
import wslowlevel.__main__

async def on_upgrade(request, socket, head):
    wslowlevel.send_handshake(request, socket)
    await wslowlevel.send_message_factory(socket)("hello")

async def main():
    async with wslowlevel.serve(on_upgrade, "127.0.0.1", 0) as server:
        _, socket = await wslowlevel.connect(f"ws://127.0.0.1:{server.port}/")
        async with socket:
            print((await wslowlevel.get_messages_factory(socket)().__anext__()).text)
        try:
            await wslowlevel.connect(f"wss://127.0.0.1:{server.port}/")
        except ImportError:
            print("no TLS")

asyncio.run(main())
wslowlevel.__main__.main(["connect", "wss://127.0.0.1/"])
"""


def test_a_python_that_was_built_without_tls() -> None:
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TLS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "hello\nno TLS\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith("wslowlevel: wss:// needs TLS, which this Python was built without: ")

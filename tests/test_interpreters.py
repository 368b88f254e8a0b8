"""What the compiled modules claim of interpreters is so: several in one process, and one without the global lock."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib.util import find_spec

import pytest

from .servers import TIMEOUT

MODULE = next((name for name in ("_interpreters", "_xxsubinterpreters") if find_spec(name)), None)

HAVE_LOCKS_OF_THEIR_OWN = sys.version_info >= (3, 13)
"""Isolated interpreters, each with a lock; before, all of them share one."""

PROGRAM = f"""
import {MODULE} as interpreters

def run(interpreter, code):
    failure = getattr(interpreters, "exec", interpreters.run_string)(interpreter, code)
    assert failure is None, failure.formatted

USE = '''
import wslowlevel
decoder = wslowlevel.MessageDecoder(role="client")
[message] = decoder.feed(wslowlevel.prepare_websocket_frame(b"payload"))
assert message.payload == b"payload"
print(wslowlevel.BACKEND, flush=True)
'''
"""


def backends(rest: str) -> list[str]:
    """What a program prints of the backends that its interpreters get."""
    command = [sys.executable, "-W", "error", "-c", f"{PROGRAM}\n{rest}"]
    environment = {**os.environ, "WSLOWLEVEL_BACKEND": "auto"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


pytestmark = pytest.mark.any_backend
compiled = pytest.mark.parametrize("backend", ["cython"])
makes_others = pytest.mark.skipif(
    MODULE is None or sys.version_info[:2] == (3, 12),
    reason="the interpreter cannot make others, or (CPython 3.12) not such that can import asyncio",
)


@makes_others
@compiled
def test_an_interpreter_with_a_lock_of_its_own_gets_the_pure_codec(backend: str) -> None:
    expected = ["python"] if HAVE_LOCKS_OF_THEIR_OWN else [backend]
    program = "made = interpreters.create(); run(made, USE); interpreters.destroy(made)"
    assert backends(program) == expected


@makes_others
@compiled
def test_each_of_several_works(backend: str) -> None:
    program = """
exec(USE)
made = [interpreters.create() for _ in range(3)]
for each in made * 2:
    run(each, USE)
for each in made:
    interpreters.destroy(each)
exec(USE)
"""
    first, *others, last = backends(program)
    assert (first, last) == (backend, backend)
    assert others == ["python"] * 6


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="the interpreter has a global lock always")
@pytest.mark.parametrize(("backend", "needs_lock"), [("cython", True), ("python", False)])
def test_without_the_global_lock(backend: str, needs_lock: bool) -> None:
    """The compiled modules ask for it, and the interpreter says so; the pure ones do without."""
    program = "import sys, wslowlevel; print(wslowlevel.BACKEND, sys._is_gil_enabled())"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    environment["WSLOWLEVEL_BACKEND"] = backend
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert done.stdout.split() == [backend, str(needs_lock)]
    assert ("to load module 'wslowlevel._codec'" in done.stderr) == needs_lock

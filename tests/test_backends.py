"""The two codecs offer the same, and WSLOWLEVEL_BACKEND picks one."""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import h11
import pytest

from wslowlevel import codec as shim

from .conftest import BACKENDS, STREAMS, Both
from .vectors import DECODERS

NAMES = sorted(set(shim.__all__) - {"BACKEND", "CHOICE"})
FUNCTIONS = [name for name in NAMES if name[0].islower()]
RECORDS = ["Chunk", "Frame", "Header", "Message"]
METHODS = [
    *(f"Utf8Validator.{name}" for name in ("reset", "feed", "finish")),
    *(f"Endpoint.{name}" for name in ("feed", "get_buffer", "buffer_updated", "passes", "count_bytes", "note_waiting")),
    *(f"{decoder}.{name}" for decoder in DECODERS for name in ("feed", "get_buffer", "buffer_updated")),
]
CONSTRUCTORS: dict[str, dict[str, Any]] = {
    **{record: {"opcode": 1, "payload": b""} for record in ("Chunk", "Frame", "Message")},
    "Header": {"opcode": 1, "payload_length": 0},
    **{decoder: {"role": "server"} for decoder in DECODERS},
    "Utf8Validator": {},
    "Endpoint": {"role": "server"},
}


def find(codec: ModuleType, path: str) -> Any:
    found: Any = codec
    for name in path.split("."):
        found = getattr(found, name)
    return found


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_every_public_name(codec: ModuleType) -> None:
    own = {name for name in public(codec) if getattr(getattr(codec, name), "__module__", None) == codec.__name__}
    assert own == set(NAMES)


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_every_public_attribute(both: Both, name: str) -> None:
    """Of instances: what a compiled class has a field for, a pure one may bring with each of them."""
    made = [getattr(codec, name)(**CONSTRUCTORS[name]) for codec in both]
    assert public(made[0]) == public(made[1])


def parameters(function: Callable[..., object]) -> list[tuple[str, Any, object]]:
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("path", [*FUNCTIONS, *METHODS])
def test_signatures(both: Both, path: str) -> None:
    assert parameters(find(both.py, path)) == parameters(find(both.cy, path))


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_constructors_take_every_parameter_by_its_name(both: Both, name: str) -> None:
    """A compiled class has no signature to ask for: it is called instead."""
    signature = parameters(getattr(both.py, name))
    full = {**CONSTRUCTORS[name], **{each: default for each, _, default in signature if default is not inspect._empty}}
    assert list(full) == [each for each, _, _ in signature]
    for codec in both:
        getattr(codec, name)(**full)
        with pytest.raises(TypeError):
            getattr(codec, name)(**full, other=1)
        for missing in CONSTRUCTORS[name]:
            with pytest.raises(TypeError):
                getattr(codec, name)(**{each: value for each, value in full.items() if each != missing})


@pytest.mark.parametrize("name", RECORDS)
def test_defaults_of_records(both: Both, name: str) -> None:
    assert repr(getattr(both.py, name)(**CONSTRUCTORS[name])) == repr(getattr(both.cy, name)(**CONSTRUCTORS[name]))


@pytest.mark.parametrize("path", [*FUNCTIONS, *RECORDS, *DECODERS, "Utf8Validator", *METHODS])
def test_docstrings(both: Both, path: str) -> None:
    assert inspect.getdoc(find(both.py, path)) == inspect.getdoc(find(both.cy, path))
    assert inspect.getdoc(find(both.py, path))


# -- The choice, each in an interpreter of its own --------------------------------------------------------------------

SHOW = "from wslowlevel import BACKEND, codec; print(BACKEND, codec.Frame.__module__, codec.kernel())"
BLOCKED = f"import sys; sys.modules['wslowlevel._codec'] = None; {SHOW}"


def run(program: str, choice: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "WSLOWLEVEL_BACKEND"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    if choice is not None:
        environment["WSLOWLEVEL_BACKEND"] = choice
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def shown(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize("choice", [None, "auto", "cython"])
def test_compiled(both: Both, choice: str | None) -> None:
    assert shown(run(SHOW, choice)) == ["cython", BACKENDS["cy"], both.cy.kernel()]


def test_python_by_choice() -> None:
    assert shown(run(SHOW, "python")) == ["python", BACKENDS["py"], "python"]


@pytest.mark.parametrize("choice", [None, "auto"])
def test_python_where_the_compiled_one_is_missing(choice: str | None) -> None:
    assert shown(run(BLOCKED, choice)) == ["python", BACKENDS["py"], "python"]


def test_cython_lets_the_import_error_out() -> None:
    done = run(BLOCKED, "cython")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(("ImportError", "ModuleNotFoundError"))
    assert "wslowlevel._codec" in last


@pytest.mark.parametrize("choice", ["nonsense", "Cython", ""])
def test_nonsense(choice: str) -> None:
    done = run(SHOW, choice)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ValueError: WSLOWLEVEL_BACKEND must be one of auto, cython, python, not {choice!r}"


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program on a copy of the package, in which one compiled module is present but cannot be loaded."""
    for package in (Path(shim.__file__).parent, Path(h11.__file__).parent):
        ignore = shutil.ignore_patterns("__pycache__", "*.c")
        shutil.copytree(package, tmp_path / package.name, ignore=ignore)

    def run_broken(module: str, choice: str | None, *program: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path.joinpath("wslowlevel", *module.split("."))
        path.with_name(path.name + sysconfig.get_config_var("EXT_SUFFIX")).write_bytes(b"not a library")
        # -S: an editable installation finds the modules of the checkout for every package of this name.
        command = [sys.executable, "-S", *program]
        variables = {
            name: value for name, value in os.environ.items() if name not in ("WSLOWLEVEL_BACKEND", "PYTHONPATH")
        }
        variables |= {} if choice is None else {"WSLOWLEVEL_BACKEND": choice}
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=variables, check=False
        )

    return run_broken


@pytest.mark.parametrize(("module", "backend"), [("_codec", "python"), ("aio._stream", "cython")])
def test_auto_warns_of_a_broken_module_and_falls_back(
    both: Both, broken: Callable[..., subprocess.CompletedProcess[str]], module: str, backend: str
) -> None:
    done = broken(module, None, "-c", f"{SHOW}; {SHOW_STREAM}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == backend
    assert done.stdout.splitlines()[1] == " ".join([STREAMS["py"]] * 2)
    assert done.stderr.count("Warning") == 1
    assert f"RuntimeWarning: wslowlevel.{module} cannot be imported, so the slower pure-Python" in done.stderr


@pytest.mark.parametrize("module", ["_codec", "aio._stream"])
def test_cython_raises_the_error_of_a_broken_module(
    both: Both, broken: Callable[..., subprocess.CompletedProcess[str]], module: str
) -> None:
    done = broken(module, "cython", "-c", SHOW)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("ImportError: ")


@pytest.mark.parametrize("module", ["_codec", "aio._stream"])
def test_command_line_reports_a_broken_module_in_one_line(
    both: Both, broken: Callable[..., subprocess.CompletedProcess[str]], module: str
) -> None:
    done = broken(module, "cython", "-m", "wslowlevel", "info")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("wslowlevel: backend cython is not available: ")


@pytest.mark.parametrize(
    "program", [["-m", "wslowlevel"], ["-mwslowlevel"], ["-Wdefault", "-m", "wslowlevel.__main__"]]
)
def test_command_line_reports_a_wrong_choice_in_one_line(program: list[str]) -> None:
    variables = {**os.environ, "WSLOWLEVEL_BACKEND": "fast"}
    command = [sys.executable, *program, "info"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=variables, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "wslowlevel: WSLOWLEVEL_BACKEND must be one of auto, cython, python, not 'fast'\n"


SHOW_STREAM = "from wslowlevel.aio import stream; print(stream.Stream.__module__, stream.Wakeup.__module__)"
STREAM_BLOCKED = f"import sys; sys.modules['wslowlevel.aio._stream'] = None; {SHOW_STREAM}; {SHOW}"


@pytest.mark.parametrize("choice", [None, "auto", "cython", "python"])
def test_the_streams_are_those_of_the_codec(both: Both, choice: str | None) -> None:
    module = STREAMS["py" if choice == "python" else "cy"]
    assert shown(run(SHOW_STREAM, choice)) == [module, module]


@pytest.mark.parametrize("choice", [None, "auto"])
def test_streams_in_python_where_the_compiled_ones_are_missing(both: Both, choice: str | None) -> None:
    """They work on the compiled codec too."""
    pure = STREAMS["py"]
    assert shown(run(STREAM_BLOCKED, choice)) == [pure, pure, "cython", BACKENDS["cy"], both.cy.kernel()]


def test_a_choice_of_cython_is_one_of_compiled_streams(both: Both) -> None:
    done = run(STREAM_BLOCKED, "cython")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(("ImportError", "ModuleNotFoundError"))
    assert "wslowlevel.aio._stream" in last


def test_the_streams_of_a_blocked_codec_are_in_python() -> None:
    blocked = f"import sys; sys.modules['wslowlevel._codec'] = None; {SHOW_STREAM}"
    assert shown(run(blocked, None)) == [STREAMS["py"]] * 2


@pytest.mark.parametrize("name", ["Stream", "Sent", "Wakeup"])
def test_every_public_method_of_the_streams(both: Both, name: str) -> None:
    """Attributes of an instance are fields of a compiled class, and stand on the class of that one alone."""
    pure, compiled = (getattr(importlib.import_module(module), name) for module in STREAMS.values())
    methods = {each for each in public(pure) if callable(getattr(pure, each))}
    own = {each for each in public(compiled) if callable(getattr(compiled, each))}
    assert methods - own <= {"wait_sent"}  # which a subclass brings
    assert own <= methods


def test_the_shim_passes_its_backend_on() -> None:
    assert {getattr(shim, name) for name in NAMES} == {getattr(shim._backend, name) for name in NAMES}

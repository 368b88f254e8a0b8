"""install, status, uninstall: names are bound to ours and back, whole libraries at a time, and nothing else changes."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wsproto.connection
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

import wslowlevel.dropin.wsproto as ours
from wslowlevel import dropin
from wslowlevel.__main__ import main
from wslowlevel.cli.gains import gains

from ..test_backends import run

CONNECTION: Any = wsproto.connection
OWN: Any = CONNECTION.FrameProtocol


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    dropin.uninstall()
    assert CONNECTION.FrameProtocol is OWN


def test_there_and_back() -> None:
    before = dropin.status("wsproto")
    assert {row.state for row in before} == {"not installed"}
    assert [row.before for row in before] == [row.now for row in before]

    installed = dropin.install("wsproto")
    assert dropin.status("wsproto") == installed
    assert installed[0] == dropin.Status(
        library="wsproto",
        version=importlib.metadata.version("wsproto"),
        seam="wsproto.connection.FrameProtocol",
        state="installed",
        before="wsproto.frame_protocol.FrameProtocol",
        now="wslowlevel.dropin.wsproto.FrameProtocol",
        replacement="wslowlevel.dropin.wsproto.FrameProtocol",
    )
    assert type(Connection(ConnectionType.SERVER)._proto) is ours.FrameProtocol

    assert dropin.install("wsproto") == installed  # which changes nothing
    dropin.uninstall("wsproto")
    assert dropin.status("wsproto") == before
    assert type(Connection(ConnectionType.SERVER)._proto) is OWN
    dropin.uninstall("wsproto")


def test_connections_of_before_go_on() -> None:
    connection = Connection(ConnectionType.CLIENT)
    dropin.install("wsproto")
    connection.receive_data(bytes.fromhex("8101 61"))
    assert list(connection.events()) == [TextMessage("a")]
    later = Connection(ConnectionType.CLIENT)
    dropin.uninstall("wsproto")
    later.receive_data(bytes.fromhex("8101 61 8101 62"))
    assert list(later.events()) == [TextMessage("a"), TextMessage("b")]


def test_all_that_are_there() -> None:
    rows = dropin.install()
    assert {row.library for row in rows} == set(dropin.LIBRARIES)
    for row in rows:
        assert (row.state == "installed") is bool(row.seam) is (row.now == row.replacement != row.before), row
    assert {"wsproto", "gevent-websocket", "ws4py"} <= {row.library for row in rows if row.state == "installed"}
    dropin.uninstall()
    assert all(row.now == row.before for row in dropin.status())


def test_what_changes_the_process_when_it_is_imported_must_be_named() -> None:
    assert "eventlet" not in sys.modules
    (row,) = dropin.status("eventlet")
    assert row.state == "left as it is: not imported yet, and not named"
    assert "eventlet" not in sys.modules


def test_an_unknown_version_is_left_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "TESTED", ("0.1", "0.2"))
    (row,) = dropin.install("wsproto")
    version = importlib.metadata.version("wsproto")
    assert (row.seam, row.state) == ("", f"left as it is: version {version}, tested with 0.1, 0.2")
    assert CONNECTION.FrameProtocol is OWN


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.metadata.version

    def version(name: str) -> str:
        if name == "wsproto":
            raise importlib.metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ModuleNotFoundError, match="wsproto is not installed here"):
        dropin.install("wsproto")
    rows = {row.library: row for row in dropin.install()}
    assert (rows["wsproto"].state, rows["wsproto"].version) == ("not there", None)


@pytest.mark.parametrize("call", [dropin.install, dropin.uninstall, dropin.status])
def test_a_name_that_is_none_of_them(call: Any) -> None:
    with pytest.raises(ValueError, match=r"a library must be one of wsproto, .*, not 'requests'"):
        call("wsproto", "requests")
    assert CONNECTION.FrameProtocol is OWN


def test_what_somebody_else_has_bound_since_stays() -> None:
    class Theirs(OWN):  # type: ignore[misc]
        """Bound by somebody else."""

    dropin.install("wsproto")
    CONNECTION.FrameProtocol = Theirs
    assert dropin.status("wsproto")[0].now.endswith("Theirs")
    dropin.uninstall("wsproto")
    assert CONNECTION.FrameProtocol is Theirs
    CONNECTION.FrameProtocol = OWN


def test_gains_leave_things_as_they_were() -> None:
    for is_installed in (False, True):
        if is_installed:
            dropin.install("ws4py")
        found = gains("ws4py")
        assert found.keys() >= {"mask 125 B", "mask 1 MiB", "UTF-8 1 MiB"}
        assert all(without > 0 and with_it > 0 for without, with_it in found.values())
        assert (dropin.status("ws4py")[0].state == "installed") is is_installed


# -- In a process of its own ------------------------------------------------------------------------------------------

PROBING = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "wsaccel" else find_spec(name)  # as if it were missing
from wslowlevel import dropin
print(dropin.install("wsaccel")[0].state)
import websocket._utils, lomond.utf8validator, geventwebsocket.utf8validator
import wsaccel.xormask
from wsaccel.utf8validator import Utf8Validator
modules = (websocket._utils, lomond.utf8validator, geventwebsocket.utf8validator)
print(all(module.Utf8Validator is Utf8Validator for module in modules))
print(websocket.ABNF.mask(b"abcd", b"xyz") == wsaccel.xormask.createXorMasker(b"abcd").process(b"xyz"))
dropin.uninstall("wsaccel")
print("wsaccel" in sys.modules)
"""


@pytest.mark.parametrize("backend", ["cython", "python"])
def test_libraries_that_look_for_wsaccel_find_it(backend: str) -> None:
    done = run(PROBING, backend)
    assert done.stderr == ""
    assert done.stdout.split() == ["installed", "True", "True", "False"]


def wslowlevel(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wslowlevel", "dropin", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


PROGRAM = """
import json, sys
import wsproto.connection
print(json.dumps([sys.argv, __name__, wsproto.connection.FrameProtocol.__module__]))
sys.exit(3)
"""


def test_a_program_runs_with_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    for arguments, argv in (
        (["program.py", "--port", "-m"], ["program.py", "--port", "-m"]),
        (["-m", "program", "a"], [str(tmp_path / "program.py"), "a"]),
    ):
        done = wslowlevel(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (3, "")
        assert json.loads(done.stdout) == [argv, "__main__", "wslowlevel.dropin.wsproto"]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    done = wslowlevel("nothing.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "wslowlevel: no file and no command is named nothing.py\n")
    done = wslowlevel("-m")
    assert (done.returncode, done.stderr) == (1, "wslowlevel: -m needs the name of a module\n")


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropin, "LIBRARIES", {"wsproto": "wsproto", "ws4py": "ws4py", "tornado": "tornado"})
    assert main(["dropin"]) == 0
    lines = capsys.readouterr().out.splitlines()
    version = importlib.metadata.version("wsproto")
    seam = "wsproto.connection.FrameProtocol -> wslowlevel.dropin.wsproto.FrameProtocol"
    assert lines[0].split(maxsplit=2) == ["wsproto", version, seam]
    assert any("left as it is: its own masking is compiled" in line for line in lines)
    assert sum(line.endswith(" x") for line in lines) == 12


PROGRAMS = {
    "package/__init__.py": "",
    "package/module.py": "print('ran')",
    "broken.py": "import nosuchmodule",
    "broken_package/__init__.py": "import nosuchmodule",
    "broken_package/__main__.py": "",
    "directory/notes.txt": "",
    "binary": "\0\1\2",
}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name, text in PROGRAMS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("notes.txt", "")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-m", "nosuchmodule"], "no module is named nosuchmodule"),
        (["-m", "nosuchmodule.part"], "no module is named nosuchmodule.part"),
        (["-m", "package.nosuchmodule"], "no module is named package.nosuchmodule"),
        (["-m", "json.tool.part"], "no module is named json.tool.part"),
        (["-m", ".package"], "no module is named .package"),
        (["-m", "package..module"], "no module is named package..module"),
        (["-m", "package"], "package is a package without __main__, so that -m cannot run it"),
        (["-m", "directory"], "directory is a package without __main__, so that -m cannot run it"),
        (["-m", "sys"], "sys is not written in Python, so that -m cannot run it"),
        (["-m", "broken.py"], "broken.py is a file: run it without -m"),
        (["nosuch.py"], "no file and no command is named nosuch.py"),
        ([""], "no file and no command is named"),
        (["directory"], "directory is a directory without __main__.py"),
        (["archive"], "archive is an archive without __main__.py"),
        (["binary"], "binary is not a Python program"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_program_that_cannot_be_run_is_one_line(programs: Path, arguments: list[str], expected: str) -> None:
    done = wslowlevel(*arguments, cwd=programs)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"wslowlevel: {expected}\n")


@pytest.mark.parametrize("arguments", [["-m", "broken"], ["broken.py"], ["-m", "broken_package"]], ids=" ".join)
def test_import_error_of_a_program_keeps_its_traceback(programs: Path, arguments: list[str]) -> None:
    done = wslowlevel(*arguments, cwd=programs)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'nosuchmodule'\n")


def test_module_of_a_package_is_run(programs: Path) -> None:
    done = wslowlevel("-m", "package.module", cwd=programs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")

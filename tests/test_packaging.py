"""What a user installs: compiled where a compiler is, pure Python where none is, and what the archives hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import h11
import pytest

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parent.parent
TRACKED = ["LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py", "wslowlevel"]
GENERATED = shutil.ignore_patterns("__pycache__", "*.c", "*.so", "*.pyd")

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("WSLOWLEVEL_")}

SAY_BACKEND = "import wslowlevel; print(wslowlevel.BACKEND, wslowlevel.apply_mask(b'abc', b'    '))"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is tracked: a stale build/ or .so would pass for a fresh one."""
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in TRACKED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=GENERATED)
        else:
            shutil.copy(source, copy / name)
    return copy


def build(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`pip wheel` with the build requirements of this environment, which the dev extra installs."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    return subprocess.run(
        [*command, "-w", str(tree / "dist"), str(tree)],
        env={**CLEAN, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def wheel_of(tree: Path) -> Path:
    (wheel,) = (tree / "dist").glob("*.whl")
    return wheel


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def run_installed(wheel: Path, directory: Path, code: str) -> str:
    """Install a wheel into a fresh environment, beside the h11 of this one, and run code there."""
    venv.create(directory, with_pip=False, symlinks=True)
    (site,) = directory.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shutil.copytree(Path(h11.__file__).parent, site / "h11")
    python = directory / "bin" / "python"
    command = [str(python), "-c", code]
    return subprocess.run(command, cwd=directory, env=CLEAN, capture_output=True, text=True, check=True).stdout


def test_a_wheel_holds_the_compiled_codec_and_its_contract(tree: Path, tmp_path: Path) -> None:
    result = build(tree, WSLOWLEVEL_BUILD="require")
    assert result.returncode == 0, result.stderr
    names = names_in(wheel_of(tree))
    assert [name for name in names if name.startswith("wslowlevel/_codec.") and name.endswith((".so", ".pyd"))]
    assert {"wslowlevel/py.typed", "wslowlevel/_codec.pyi", "wslowlevel/_codec.pxd", "wslowlevel/_kernels.h"} <= names
    assert {"wslowlevel/echo.html", "wslowlevel/aio/server.py", "wslowlevel/_codec_py.py"} <= names
    assert not [name for name in names if name.endswith((".c", ".pyx")) or name.startswith(("tests", "examples"))]
    assert run_installed(wheel_of(tree), tmp_path / "env", SAY_BACKEND) == "cython b'ABC'\n"
    builds_against_it(tmp_path / "env")


USE_FAST = """
import fast, wslowlevel
from wslowlevel import encode_frame
for mask_key in (None, b"mask"):
    for payload in (b"", b"abc", bytes(range(256)) * 300):
        assert fast.payload_of(encode_frame(2, payload, mask_key=mask_key) + b"more") == payload
for wrong in (b"\\x82", b"\\x82\\x03ab", b"\\x82\\x7e\\x00\\x03abc", b"\\x82\\xff" + b"\\xff" * 12):
    try:
        fast.payload_of(wrong)
    except ValueError:
        continue
    raise AssertionError(wrong)
stream = encode_frame(1, "häh".encode(), mask_key=b"mask") + encode_frame(1, b"b", mask_key=b"mask")
assert fast.texts_of(stream) == ["häh", "b"]
try:
    fast.texts_of(b"\\x81\\x01a")
except wslowlevel.ProtocolError as error:
    print(error.reason.name)
"""


def builds_against_it(environment: Path) -> None:
    """The module of docs/cython.md, built by the Cython of this environment against the wheel installed there."""
    page = (ROOT / "docs" / "cython.md").read_text(encoding="utf-8")
    for name, code in re.findall(r"^```(?:cython|python)\n# (\S+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        (environment / name).write_text(f"# cython: language_level=3\n{code}", encoding="utf-8")
    (site,) = environment.glob("lib/python*/site-packages")
    places = {**CLEAN, "PYTHONPATH": f"{environment}{os.pathsep}{site}"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    built = subprocess.run(command, cwd=environment, env=places, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    command = [str(environment / "bin" / "python"), "-c", USE_FAST]
    used = subprocess.run(command, cwd=environment, env=places, capture_output=True, text=True, check=False)
    assert (used.stdout, used.stderr) == ("NOT_MASKED\n", "")


def test_without_a_compiler_the_package_runs_on_pure_python(tree: Path, tmp_path: Path) -> None:
    result = build(tree, CC="/bin/false")
    assert result.returncode == 0, result.stderr
    assert not [name for name in names_in(wheel_of(tree)) if name.endswith((".so", ".pyd"))]
    assert run_installed(wheel_of(tree), tmp_path / "env", SAY_BACKEND) == "python b'ABC'\n"


def test_a_compilation_that_is_required_fails_the_build(tree: Path) -> None:
    result = build(tree, CC="/bin/false", WSLOWLEVEL_BUILD="require")
    assert result.returncode != 0


def test_a_pure_build_is_a_wheel_for_every_platform(tree: Path) -> None:
    result = build(tree, WSLOWLEVEL_BUILD="pure")
    assert result.returncode == 0, result.stderr
    assert wheel_of(tree).name.endswith("-py3-none-any.whl")
    assert not [name for name in names_in(wheel_of(tree)) if name.endswith((".so", ".pyd", ".c", ".pyx"))]


def test_another_word_for_the_build_is_refused(tree: Path) -> None:
    result = build(tree, WSLOWLEVEL_BUILD="fast")
    assert result.returncode != 0
    assert "WSLOWLEVEL_BUILD must be one of auto, require, pure, debug, not 'fast'" in result.stderr + result.stdout

"""What a user installs: compiled where a compiler is, pure Python where none is, and what the archives hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import h11
import pytest

import wslowlevel

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


def test_the_version_of_the_package_is_that_of_pyproject() -> None:
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert declared is not None
    assert declared[1] == wslowlevel.__version__


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
    assert {"wslowlevel/__pyinstaller/hook-wslowlevel.echo.py", "wslowlevel/__pyinstaller/__init__.py"} <= names
    assert run_installed(wheel_of(tree), tmp_path / "env", SAY_BACKEND) == "cython b'ABC'\n"
    check_from_cython(tmp_path / "env")


def check_from_cython(environment: Path) -> None:
    """The module of docs/cython.md, and one that calls everything else, built against the wheel installed there."""
    page = (ROOT / "docs" / "cython.md").read_text(encoding="utf-8")
    for name, code in re.findall(r"^```(?:cython|python)\n# (\S+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        (environment / name).write_text(f"# cython: language_level=3\n{code}", encoding="utf-8")
    for source in (ROOT / "tests" / "cimport").glob("*.py*"):
        shutil.copy(source, environment)
    (site,) = environment.glob("lib/python*/site-packages")
    places = {**CLEAN, "PYTHONPATH": f"{environment}{os.pathsep}{site}", "CFLAGS": "-O0"}  # built soon, run once

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=environment, env=places, capture_output=True, text=True, check=False)

    # Cython and setuptools are those of this interpreter; what they find of wslowlevel is what is installed there.
    for command in (
        ("setup.py", "-q", "build_ext", "--inplace"),
        ("-m", "Cython.Build.Cythonize", "-qi", "entry_points.pyx"),
    ):
        built = run(sys.executable, *command)
        assert built.returncode == 0, built.stderr
    python = str(environment / "bin" / "python")
    used = run(python, "check.py")
    assert not used.stderr, used.stderr
    assert used.returncode == 0

    for compiled in site.glob("wslowlevel/_codec.*.so"):
        compiled.unlink()
    assert run(python, "-c", SAY_BACKEND).stdout.startswith("python ")
    (failure,) = re.findall(r"`(ModuleNotFoundError: [^`]*)`", page)
    assert run(python, "-c", "import fast").stderr.endswith(f"{failure}\n")


def test_a_source_archive_holds_what_a_build_needs(tree: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "sdist", "--formats", "tar"]
    subprocess.run(command, cwd=tree, env=CLEAN, capture_output=True, check=True)
    (archive,) = (tree / "dist").glob("*.tar")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"setup.py", "wslowlevel/_codec.pyx", "wslowlevel/aio/_stream.pyx"} <= names
    assert {"wslowlevel/_codec.pyi", "wslowlevel/_codec.pxd", "wslowlevel/_kernels.h"} <= names
    assert not [name for name in names if name.endswith((".c", ".so"))]


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

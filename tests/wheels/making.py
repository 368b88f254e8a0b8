"""the tree -> a source archive -> one wheel for each interpreter, with a tag that any Linux takes"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

OLDEST_GLIBC = "2_17"
"""Of 2012: manylinux2014. The codec calls nothing newer, so that no container is needed."""

MINORS = range(10, 16)

FLAGS = {
    "SOURCE_DATE_EPOCH": "1767225600",
    "LDSHARED": "gcc -shared",  # an interpreter's own command may put the path of its libraries into the module
    "LDFLAGS": "-Wl,-s -Wl,--build-id=none",
    "CFLAGS": "-O3 -g0 -DNDEBUG -ffile-prefix-map=/=.",  # from one archive the same bytes, wherever they are built
}


def interpreters() -> Iterator[Path]:
    """Each CPython from 3.10 on that is on the path, or under pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for minor in MINORS:
        managed = sorted(pyenv.glob(f"3.{minor}.*/bin/python3.{minor}"), key=patch_of)
        found = managed[-1] if managed else shutil.which(f"python3.{minor}")
        if found:
            yield Path(found)


def patch_of(managed: Path) -> tuple[bool, int]:
    """Of pyenv's .../3.N.PATCH/bin/python3.N; what has no number there, a release candidate say, comes first."""
    patch = managed.parent.parent.name.split(".")[2]
    return (patch.isdecimal(), int(patch) if patch.isdecimal() else 0)


def make_source(tree: Path, directory: Path) -> Path:
    """The source archive of a tree."""
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", str(directory), str(tree)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    (archive,) = directory.glob("*.tar.gz")
    return archive


def make_wheel(
    source: Path, python: Path, directory: Path, mode: str = "require", variables: Mapping[str, str] | None = None
) -> Path:
    """A wheel for one interpreter, from the source archive; Cython and setuptools come from the package index."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps", "--no-cache-dir"]
    environment = {**os.environ, **FLAGS, "WSLOWLEVEL_BUILD": mode, **(variables or {})}
    subprocess.run([*command, "-w", str(directory), str(source)], env=environment, check=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def repair(wheel: Path, directory: Path, tag: str = f"manylinux_{OLDEST_GLIBC}_{platform.machine()}") -> Path:
    """The same wheel with the tag of the oldest libc that it may run on; auditwheel looks whether it does.

    `tag` "auto" stands for the oldest that auditwheel finds.
    """
    tools = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    with tempfile.TemporaryDirectory() as made:
        command = [sys.executable, "-m", "auditwheel", "repair", "--plat", tag, "-w", made, str(wheel)]
        subprocess.run(command, env=tools, capture_output=True, check=True)
        (repaired,) = Path(made).iterdir()
        return Path(shutil.copy(repaired, directory))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}

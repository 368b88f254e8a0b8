"""a Python 2.7 interpreter -> the command of wstest, the program of the Autobahn test suite

The suite speaks Python 2.7 only. Its environment is made once for each interpreter and list of requirements, in the
user's cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
VIRTUALENV = "virtualenv<20.22"
"""The last series that makes environments for Python 2.7."""

VARIABLE = "WSLOWLEVEL_PYTHON2"

HOW_TO_GET_ONE = f"""\
the Autobahn test suite needs Python 2.7, and none was found: neither python2.7 or python2 on PATH nor one of pyenv's.
Install one, with `pyenv install 2.7.18` for instance (some distributions have a package python2.7), and where it is
not found by itself, say where it is with --python2 or the environment variable {VARIABLE}."""


class SuiteUnavailableError(Exception):
    """There is no Python 2.7, or the suite cannot be installed for it; the text says what to do."""


def version() -> str:
    """Of the suite, as the requirements name it."""
    (found,) = re.findall(r"^autobahntestsuite==(\S+)$", REQUIREMENTS.read_text("utf-8"), re.MULTILINE)
    return str(found)


def wstest(given: str | None = None) -> list[str]:
    """The command that runs wstest, with its environment made if need be.

    Args:
        given: the interpreter to use; otherwise one is looked for.

    Raises:
        SuiteUnavailableError: in words for people.
    """
    environment = _environment(find_python2(given))
    # The environment was moved after it was made, so that its own scripts do not find it.
    return [str(environment / "bin" / "python"), "-u", "-c", "from autobahntestsuite.wstest import run; run()"]


# -- The interpreter --------------------------------------------------------------------------------------------------


def find_python2(given: str | None = None) -> str:
    """The path of a Python 2.7; SuiteUnavailableError if there is none, or if the one given is another."""
    if given:
        if not _is_python2(given):
            raise SuiteUnavailableError(f"{given!r} is no Python 2.7, which the Autobahn test suite needs")
        return given
    for candidate in _candidates():
        if _is_python2(candidate):
            return candidate
    raise SuiteUnavailableError(HOW_TO_GET_ONE)


def _candidates() -> Iterator[str]:
    for name in ("python2.7", "python2"):
        path = shutil.which(name)
        if path is not None:
            yield path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, pyenv.glob("versions/2.7.*/bin/python2.7"))


def _is_python2(python: str) -> bool:
    """Whether it runs, too: a shim of pyenv is on PATH also where its version is not chosen."""
    command = [python, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


# -- Its environment --------------------------------------------------------------------------------------------------


def _environment(python: str) -> Path:
    prefix = _run([python, "-c", "import sys; print(sys.prefix)"])
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + prefix.encode()).hexdigest()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wslowlevel-tests"
    installed = caches / f"autobahn-{digest[:16]}"
    if not installed.exists():
        caches.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=caches) as directory:
            _make(python, Path(directory)).rename(installed)
    return installed


def _make(python: str, directory: Path) -> Path:
    tool, environment = directory / "tool", directory / "environment"
    venv.create(tool, with_pip=True)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([str(tool / "bin" / "python"), *pip, VIRTUALENV])
    _run([str(tool / "bin" / "virtualenv"), "--quiet", "--python", python, str(environment)])
    _run([str(environment / "bin" / "python"), *pip, "-r", str(REQUIREMENTS)])
    return environment


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        text = f"the Autobahn test suite cannot be installed: {' '.join(command)} failed:\n{done.stderr}"
        raise SuiteUnavailableError(text)
    return done.stdout.strip()

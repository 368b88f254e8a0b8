"""a suite of Debian -> its packages and sources, in a directory: without root, and without a trace in this system"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

MERGED = ("bin", "lib", "lib64", "sbin")
"""Directories of the root that Debian has below /usr."""


class Apt:
    """apt-get with lists and a cache of its own, for a suite and an architecture that need not be this machine's."""

    def __init__(self, place: Path, suite: str, architecture: str = "amd64") -> None:
        self._archives = place / "archives"
        for each in ("partial", "lists/partial", "archives/partial"):
            (place / each).mkdir(parents=True, exist_ok=True)
        (place / "status").touch()
        (place / "sources.list").write_text(f"deb {mirror()} {suite} main\ndeb-src {mirror()} {suite} main\n")
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "root",  # its own user may have no way to this directory
            "Dir::State": place,
            "Dir::State::status": place / "status",
            "Dir::Cache": place,
            "Dir::Etc::sourcelist": place / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Acquire::Check-Valid-Until": "false",
        }
        self._command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
        self._run("update")

    def _run(self, *arguments: str, cwd: Path | None = None) -> None:
        subprocess.run([*self._command, *arguments], cwd=cwd, stdout=subprocess.DEVNULL, check=True)

    def unpack(self, packages: Sequence[str], root: Path) -> None:
        """Put packages, and all that they depend on, into a directory; nothing of them is run."""
        self._run("install", "--download-only", "--yes", "--no-install-recommends", *packages)
        for name in MERGED:
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            if not (root / name).exists():
                (root / name).symlink_to(f"usr/{name}")
        for package in sorted(self._archives.glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)

    def source(self, name: str, place: Path) -> Path:
        """Unpack the source of a package, as its authors publish it."""
        place.mkdir(parents=True, exist_ok=True)
        self._run("source", "--download-only", "--tar-only", name, cwd=place)
        (archive,) = place.glob(f"{name}_*.orig.tar.*z*")
        subprocess.run(["tar", "xf", str(archive)], cwd=place, check=True)
        (source,) = (each for each in place.iterdir() if each.is_dir())
        return source


def mirror() -> str:
    """Where this machine gets its own Debian packages."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    sites = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return next(site for site in sites if not site.rstrip("/").endswith("security"))

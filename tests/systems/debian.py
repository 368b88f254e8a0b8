"""Debian's unstable distribution in a directory, which has interpreters that this machine lacks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .apt import Apt, mirror

ENTER = Path(__file__).with_name("enter.sh")

FOR_TESTS = (
    "gcc",
    "libc6-dev",
    "make",
    "nginx",
    "nodejs",
    "npm",
    "openssl",
    "redis-server",
    "chromium",
    "chromium-driver",
)
"""What compiles the codec, and what the tests drive."""

OF_THIS_MACHINE = ("etc/resolv.conf", "etc/hosts", "etc/pip.conf", "etc/ssl/certs/ca-certificates.crt")
"""How it reaches a package index."""


class Debian:
    """Its root directory, made where there is none yet.

    Attributes:
        within: what stands before a command that is to run in it. The tree is there at the same path as here.
    """

    def __init__(self, root: Path, tree: Path, packages: Sequence[str]) -> None:
        self._root = root
        self.within = ["unshare", "--mount", "--propagation", "private", "sh", str(ENTER), str(root), str(tree)]
        if not (root / "made").exists():
            shutil.rmtree(root, ignore_errors=True)
            self._make()
        apt_get = [*self.within, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
        subprocess.run([*apt_get, "-o", "Acquire::Check-Valid-Until=false", "update"], check=True)
        install = [*apt_get, "install", "--yes", "--no-install-recommends", *FOR_TESTS, *packages]
        subprocess.run(install, stdout=subprocess.DEVNULL, check=True)

    def _make(self) -> None:
        tools = self._root.with_name("tools")
        Apt(self._root.with_name("sid-lists"), "sid").unpack(["debootstrap"], tools)
        bootstrap = ["env", f"DEBOOTSTRAP_DIR={tools}/usr/share/debootstrap", f"{tools}/usr/sbin/debootstrap"]
        command = [*bootstrap, "--variant=minbase", "--include=ca-certificates", "sid", str(self._root), mirror()]
        with self._root.with_suffix(".log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True)
        for name in OF_THIS_MACHINE:
            if (Path("/") / name).exists():
                shutil.copy(Path("/") / name, self._root / name)
        (self._root / "made").touch()

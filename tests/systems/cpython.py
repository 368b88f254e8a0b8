"""Debian's source of CPython 3.13 -> interpreters that no distribution has: without the global lock, and for musl

A few minutes each. They are built where there are none yet, and stay.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .apt import Apt

SUITE = "trixie"
"""The one with 3.13."""


def free_threaded(place: Path) -> Path:
    """Takes a C compiler, and the headers of OpenSSL, zlib, libffi, bzip2, lzma and SQLite."""
    python = place / "free-threaded" / "bin" / "python3.13t"
    if not python.exists():
        source = fresh_source("python3.13", place)
        build(source, place / "free-threaded", ["--disable-gil"])
    return python


def for_musl(place: Path) -> Path:
    """Takes Debian's musl-tools, autoconf, automake and libtool; has no TLS."""
    prefix = place / "musl"
    python = prefix / "bin" / "python3.13"
    if not python.exists():
        packages = {name: str(prefix / "lib" / "pkgconfig") for name in ("PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR")}
        link = f"-L{prefix}/lib -Wl,-rpath,{prefix}/lib"
        variables = {"CC": "musl-gcc", "CPPFLAGS": f"-I{prefix}/include", "LDFLAGS": link, **packages}
        build(fresh_source("zlib", place), prefix, [], variables)
        source = fresh_source("libffi", place)
        subprocess.run(["autoreconf", "-i"], cwd=source, capture_output=True, check=True)
        build(
            source, prefix, ["--disable-docs", "--disable-multi-os-directory", "--disable-exec-static-tramp"], variables
        )
        source = fresh_source("python3.13", place)
        configure = source / "configure"
        # musl-gcc answers for the compiler that it wraps, which is glibc's.
        configure.write_text(re.sub(r"^\s*MULTIARCH=\$\(\$CC .*$", "MULTIARCH=", configure.read_text(), flags=re.M))
        build(source, prefix, ["--without-ensurepip", "--disable-test-modules"], variables)
    return python


def fresh_source(name: str, place: Path) -> Path:
    shutil.rmtree(place / name, ignore_errors=True)
    return Apt(place / SUITE, SUITE).source(name, place / name)


def build(source: Path, prefix: Path, options: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
    """Configure, make, install; the source is deleted, the log stays beside the prefix."""
    with prefix.with_name(f"{prefix.name}-{source.name}.log").open("w") as log:
        for command in (
            ["./configure", f"--prefix={prefix}", *options],
            ["make", f"-j{os.cpu_count()}"],
            ["make", "install"],
        ):
            environment = {**os.environ, **(variables or {})}
            subprocess.run(command, cwd=source, env=environment, stdout=log, stderr=log, check=True)
    shutil.rmtree(source.parent)

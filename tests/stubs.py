"""Holds both codec backends against their one contract, `_codec.pyi`, with mypy's stubtest.

stubtest looks for the stub beside the module, so the pure backend is checked in a copy of the package where the
contract stands under its name too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "wslowlevel"
MODULES = ("wslowlevel._codec", "wslowlevel._codec_py")

ALLOWED = r"""
# Python cannot see the parameters of a compiled __init__; test_differential.py calls both with the same ones.
wslowlevel\._codec\.(FrameDecoder|MessageDecoder|ChunkDecoder|Utf8Validator)\.__init__

# It is there to say once what the decoders share; nobody makes one.
wslowlevel\._codec(_py)?\._Decoder(\.__init__)?
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "wslowlevel"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(copy / "_codec.pyi", copy / "_codec_py.pyi")
        allowed = Path(directory) / "allowed.txt"
        allowed.write_text(ALLOWED)
        environment = {**os.environ, "MYPYPATH": directory, "PYTHONPATH": directory}
        command = [sys.executable, "-m", "mypy.stubtest", "--allowlist", str(allowed), "--ignore-unused-allowlist"]
        return subprocess.run([*command, *MODULES], cwd=directory, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

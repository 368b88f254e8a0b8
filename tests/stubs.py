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
TWINS = {"wslowlevel._codec": "wslowlevel._codec_py", "wslowlevel.aio._stream": "wslowlevel.aio._stream_py"}

ALLOWED = r"""
# Python cannot see the parameters of a compiled __init__; test_differential.py calls both with the same ones.
wslowlevel\._codec\.(FrameDecoder|MessageDecoder|ChunkDecoder|Utf8Validator|Endpoint)\.__init__
wslowlevel\.aio\._stream\.(Stream|Sent|Wakeup|Items)\.__init__

# A compiled class with fields of its own cannot stand beside another one among the bases of a class.
wslowlevel\._codec\.Endpoint
wslowlevel\.aio\._stream\.(Items|Sent|Stream)

# The iterator that a coroutine is in pure Python.
wslowlevel\.aio\._stream\.Wakeup\.__next__
wslowlevel\.aio\._stream\.Step
wslowlevel\.aio\._stream\.Items\.__anext__

# What a subclass brings, and a compiled class need not name.
wslowlevel\._codec\.Endpoint\._see_events
wslowlevel\.aio\._stream\.Stream\.(_early_buffer|_buffer_updated|_received|_update_reading|_raise_if_ended|_opened_batch)
wslowlevel\.aio\._stream\.Stream\.(_check_thread|_send_other|_queue_grew|_note_full_read|wait_sent)

# What Cython offers to other modules that it compiles.
wslowlevel\._codec\.__pyx_capi__

# It is there to say once what the decoders share; nobody makes one.
wslowlevel\._codec(_py)?\._Decoder(\.__init__)?
"""


def stub(directory: str, module: str) -> Path:
    return Path(directory, *module.split(".")).with_suffix(".pyi")


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "wslowlevel"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for compiled, pure in TWINS.items():
            shutil.copy(stub(directory, compiled), stub(directory, pure))
        allowed = Path(directory) / "allowed.txt"
        allowed.write_text(ALLOWED)
        environment = {**os.environ, "MYPYPATH": directory, "PYTHONPATH": directory}
        command = [sys.executable, "-m", "mypy.stubtest", "--allowlist", str(allowed), "--ignore-unused-allowlist"]
        modules = [*TWINS, *TWINS.values()]
        return subprocess.run([*command, *modules], cwd=directory, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

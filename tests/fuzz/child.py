"""One target under atheris, in a process of its own: python -m tests.fuzz.child TARGET [arguments of libFuzzer]"""

from __future__ import annotations

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["wslowlevel", "h11"], enable_loader_override=False):
    # The pure-Python twin tells which bytes lead where; the compiled one is a black box beside it.
    from .targets import TARGETS


def main() -> None:
    target: Callable[[bytes], None] = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

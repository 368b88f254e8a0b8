"""What is installed here: `wslowlevel info`"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from .. import __version__
from ..codec import BACKEND, kernel

OPTIONAL = {
    "uvloop": "a faster event loop, for programs that ask for it",
    "isal": 'deflate by ISA-L: PerMessageDeflate(backend="isal")',
    "zlib-ng": 'deflate by zlib-ng: PerMessageDeflate(backend="zlib-ng")',
    "python-socks": "connect() through SOCKS proxies",
    "rich": "colours on the command line",
    "prompt-toolkit": "history and editing in `wslowlevel connect`",
    "dpkt": "packet captures in `wslowlevel inspect`",
}
"""By the name of the distribution, what it is for."""


def about() -> dict[str, str]:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {"version": __version__, "backend": BACKEND, "kernel": kernel(), "python": python}


def info() -> str:
    lines = {**about(), **{name: f"{found(name):<12} {purpose}" for name, purpose in OPTIONAL.items()}}
    return "\n".join(f"{name:<14} {value}" for name, value in lines.items())


def found(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not found"

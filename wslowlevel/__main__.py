"""arguments -> an echo server to look at, what is installed, or a program with the drop-in: the command line"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import runpy
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from . import __version__, dropin
from .aio.server import Server, serve
from .codec import BACKEND, BACKENDS, kernel
from .dropin.gains import gains
from .echo import Application

DESCRIPTION = "Low-level WebSocket (RFC 6455): an echo server that shows every frame, and what is installed here."

ECHO = """\
Listen for WebSocket connections and send every text and binary message back.

A browser that opens the address gets a page that sends messages and shows each frame as the server saw it: opcode,
bits, header bytes, payload length, round-trip time. Other clients connect to ws://HOST:PORT/ and are echoed.
Ctrl-C closes every connection with code 1001 (going away).
"""

INFO = """\
Print the version, the codec backend (cython or python), its SIMD kernel, the Python, and whether uvloop is installed.
The environment variable WSLOWLEVEL_BACKEND (auto, cython, python) chooses the backend of every program.
"""

DROPIN = """\
Without PROGRAM: print which of the WebSocket libraries that are installed here the drop-in makes faster, what it
replaces of each, and by how much that gains, measured now (it takes some seconds).

With PROGRAM: run it with the drop-in installed. PROGRAM is a file, the name of a command that is a Python script, or -m
and a module. Processes that it starts are not covered: there, call wslowlevel.dropin.install().
"""

DROPIN_EXAMPLES = (
    "python -m wslowlevel dropin",
    "python -m wslowlevel dropin server.py --port 9000",
    "python -m wslowlevel dropin -m uvicorn app:app --ws wsproto",
)
ECHO_EXAMPLE = "python -m wslowlevel echo --port 9000 --backend python"
INFO_EXAMPLE = "python -m wslowlevel info"

CLOSE_TIMEOUT = 3.0
"""Seconds that clients have to answer a Close frame: who waits for the prompt does not wait longer."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, 1 for what failed, 2 (by SystemExit) for wrong arguments."""
    options = build_parser().parse_args(arguments)
    if options.command == "info":
        print(info())
        return 0
    if options.command == "dropin":
        if options.module is None and not options.program:
            return show_dropin()
        return run_with_dropin(options.module or options.program, is_module=options.module is not None)
    try:
        choose_backend(options.backend)
        asyncio.run(run_echo(options.host, options.port))
    except KeyboardInterrupt:
        pass  # where the event loop cannot handle signals; the connections are closed by now
    except ImportError as error:
        return fail(f"backend cython is not available: {error}")
    except (OSError, UnicodeError) as error:  # a name may be unknown, or none that could be looked up
        return fail(f"cannot listen on {authority(options.host, options.port)}: {cause_of(error)}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    def texts(description: str, *examples: str) -> dict[str, Any]:
        epilog = "\n  ".join(["examples:" if len(examples) > 1 else "example:", *examples])
        return {"description": description, "epilog": epilog, "formatter_class": argparse.RawDescriptionHelpFormatter}

    parser = argparse.ArgumentParser("wslowlevel", **texts(DESCRIPTION, ECHO_EXAMPLE, INFO_EXAMPLE))
    parser.add_argument("--version", action="version", version=f"wslowlevel {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    echo = commands.add_parser("echo", help="start an echo server to look at", **texts(ECHO, ECHO_EXAMPLE))
    echo.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)")
    echo.add_argument("--port", default=8765, type=port_number, help="0 for any free one (default: %(default)s)")
    echo.add_argument("--backend", default="auto", choices=BACKENDS, help="codec to use (default: cython if built)")
    commands.add_parser("info", help="print version, backend and SIMD kernel", **texts(INFO, INFO_EXAMPLE))
    others = commands.add_parser("dropin", help="make other libraries faster", **texts(DROPIN, *DROPIN_EXAMPLES))
    others.add_argument("-m", dest="module", nargs=argparse.REMAINDER, metavar="MODULE [ARGS...]", help="likewise")
    others.add_argument(
        "program", nargs=argparse.REMAINDER, metavar="PROGRAM [ARGS...]", help="what to run, if anything"
    )
    return parser


def port_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 0xFFFF):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, not {text!r}")
    return int(text)


def choose_backend(choice: str) -> None:
    """Run with the backend that was asked for: it is chosen at import, so another one takes a fresh start.

    Raises:
        ImportError: the compiled backend was asked for and is not there.
    """
    if choice not in ("auto", BACKEND):
        if choice == "cython":
            importlib.import_module("wslowlevel._codec")
        os.environ["WSLOWLEVEL_BACKEND"] = choice
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


async def run_echo(host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    application = Application(about())
    listening = serve(
        application.on_upgrade,
        host,
        port,
        on_request=application.on_request,
        close_timeout=CLOSE_TIMEOUT,
        stop_signals=[signal.SIGINT, signal.SIGTERM],
    )
    async with listening as server:
        print(greeting(server), flush=True)
        await server.serve_forever()


def greeting(server: Server) -> str:
    address = authority(*server.sockets[0].getsockname()[:2])
    return f"Echo server on http://{address}/ (backend {BACKEND}, kernel {kernel()}), Ctrl-C to stop"


def authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def about() -> dict[str, str]:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {"version": __version__, "backend": BACKEND, "kernel": kernel(), "python": python}


def info() -> str:
    found = importlib.util.find_spec("uvloop") is not None
    uvloop = f"{importlib.metadata.version('uvloop')}, not used unless a program asks for it" if found else "not found"
    return "\n".join(f"{name:<8} {value}" for name, value in {**about(), "uvloop": uvloop}.items())


def show_dropin() -> int:
    """Print what can be replaced of each library, and what that gains."""
    for row in dropin.status():
        what = f"{row.library} {row.version or ''}".strip()
        seam = f"{'nothing' if row.seam == row.replacement else row.seam} -> {row.replacement}"
        print(f"{what:<24} {seam if row.seam else row.state}")
    for library in dict.fromkeys(row.library for row in dropin.status() if row.seam):
        print()
        for name, (without, with_it) in gains(library).items():
            times = f"{in_words(without)} -> {in_words(with_it)}"
            print(f"{library:<24} {name:<20} {times:<22} {without / with_it:8.1f} x")
    return 0


def in_words(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:,.1f} ms"


def run_with_dropin(program: Sequence[str], *, is_module: bool) -> int:
    """Run a program in this process, as its own `__main__`, with the drop-in installed."""
    if not program:
        return fail("-m needs the name of a module")
    sys.argv = list(program)
    dropin.install()
    if is_module:
        sys.path.insert(0, os.getcwd())
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return 0
    path = sys.argv[0] if os.path.exists(sys.argv[0]) else shutil.which(sys.argv[0])
    if path is None:
        return fail(f"no file and no command is named {sys.argv[0]}")
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    runpy.run_path(path, run_name="__main__")
    return 0


def cause_of(error: OSError | UnicodeError) -> str:
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno is not None:
        return os.strerror(error.errno)  # asyncio's own text repeats the address
    return str(getattr(error, "strerror", None) or error)


def fail(message: str) -> int:
    print(f"wslowlevel: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

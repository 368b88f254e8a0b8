"""arguments -> a command: the command line, `wslowlevel` or `python -m wslowlevel`"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence

from .aio.tls import context_that_trusts
from .cli.arguments import build_parser
from .cli.bench import bench
from .cli.capture import NoCapture
from .cli.info import info
from .cli.inspect import inspect
from .cli.listen import authority, listen
from .cli.replace import path_of, run_module, run_program, show_gains
from .cli.talk import NotConnected, Target, talk
from .codec import BACKEND, import_compiled
from .errors import InvalidHandshake, WebSocketError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, 1 for what failed, 2 (by SystemExit) for wrong arguments."""
    options = build_parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except BrokenPipeError:
        if options.command == "dropin" and (options.module or options.program):
            raise  # it is the program's own
        # Whoever read what is printed has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def run_echo(options: argparse.Namespace) -> int:
    try:
        choose_backend(options.backend)
        asyncio.run(listen(options.host, options.port))
    except KeyboardInterrupt:
        pass  # where the event loop cannot handle signals; the connections are closed by now
    except ImportError as error:
        return fail(f"backend cython is not available: {error}")
    except (OSError, UnicodeError) as error:  # a name may be unknown, or none that could be looked up
        return fail(f"cannot listen on {authority(options.host, options.port)}: {cause_of(error)}")
    return 0


def choose_backend(choice: str) -> None:
    """Run with the backend that was asked for: it is chosen at import, so another one takes a fresh start.

    Raises:
        ImportError: the compiled backend was asked for and is not there.
    """
    if choice not in ("auto", BACKEND):
        if choice == "cython":
            try:
                import_compiled()
            except Exception as error:
                raise ImportError(str(error)) from error  # a module that was built for another Python raises others
        os.environ["WSLOWLEVEL_BACKEND"] = choice
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run_connect(options: argparse.Namespace) -> int:
    try:
        trusted = context_that_trusts(options.ca) if options.ca else None
    except (OSError, ImportError) as error:
        return fail(f"cannot read {options.ca}: {cause_of(error)}")
    target = Target(options.uri, options.header, options.subprotocol, options.compress, trusted, options.binary)
    try:
        return talk(target)
    except InvalidHandshake as error:
        said = f"{options.uri} refused with status {error.status}: {error}"
    except NotConnected as error:
        said = f"cannot connect to {options.uri}: {cause_of(error.__cause__)}"
    except asyncio.TimeoutError as error:
        said = str(error)
    except ImportError as error:
        said = f"wss:// needs TLS, which this Python was built without: {error}"
    except (WebSocketError, ValueError) as error:
        said = f"{options.uri}: {error}"
    except BrokenPipeError:
        raise
    except OSError as error:
        said = f"cannot read or print: {cause_of(error)}"
    return fail(said)


def run_inspect(options: argparse.Namespace) -> int:
    try:
        if options.file == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(options.file, "rb") as file:
                data = file.read()
    except OSError as error:
        return fail(f"cannot read {options.file}: {cause_of(error)}")
    try:
        return inspect(data, options.sender)
    except NoCapture as error:
        return fail(f"{options.file}: {error}")
    except ImportError as error:
        return fail(f"a packet capture needs a package: {error} (pip install 'wslowlevel[cli]')")


def run_bench(_options: argparse.Namespace) -> int:
    bench()
    return 0


def run_info(_options: argparse.Namespace) -> int:
    sys.stdout.write(f"{info()}\n")
    return 0


def run_dropin(options: argparse.Namespace) -> int:
    if options.module is not None and not options.module:
        return fail("-m needs the name of a module")
    if options.module:
        run_module(options.module)
    elif options.program:
        path = path_of(options.program[0])
        if path is None:
            return fail(f"no file and no command is named {options.program[0]}")
        run_program(path, options.program)
    else:
        show_gains()
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "echo": run_echo,
    "connect": run_connect,
    "inspect": run_inspect,
    "bench": run_bench,
    "info": run_info,
    "dropin": run_dropin,
}


def cause_of(error: BaseException | None) -> str:
    """What the system says; asyncio's own text repeats the address. The numbers of names and of TLS are their own."""
    if isinstance(error, OSError) and error.errno and type(error).__module__ == OSError.__module__:
        return os.strerror(error.errno)
    return str(getattr(error, "strerror", None) or error)


def fail(message: str) -> int:
    sys.stderr.write(f"wslowlevel: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

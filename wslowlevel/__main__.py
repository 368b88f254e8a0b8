"""arguments -> a command: the command line, `wslowlevel` or `python -m wslowlevel`"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from http import HTTPStatus
from io import TextIOWrapper

from .aio.tls import context_that_trusts
from .cli.arguments import build_parser
from .cli.bench import bench
from .cli.capture import NoCapture
from .cli.info import info
from .cli.inspect import inspect
from .cli.listen import NotListening, authority, listen
from .cli.replace import NoProgram, run_module, run_program, show_gains
from .cli.talk import INTERRUPTED, NotConnected, Target, talk
from .cli.terminal import one_line
from .codec import BACKEND, import_compiled
from .errors import InvalidHandshake, WebSocketError
from .http1 import REDIRECTS, Headers, parse_headers, reason_phrase
from .uri import OF_HTTP, parse_uri, without_userinfo

BODY_WIDTH = 200
"""Characters of the body of a refusal that are shown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, 1 for what failed, 2 (by SystemExit) for wrong arguments."""
    options = build_parser().parse(arguments)
    if options.command == "dropin" and (options.module or options.program):
        return run_dropin(options)  # any exception is the program's own
    closed = [name for name in streams_of(options) if getattr(sys, name) is None]
    if closed:
        return fail(f"{closed[0]} is closed: redirect it, for example to {os.devnull}")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a payload may contain characters that it cannot encode
    try:
        code = COMMANDS[options.command](options)
        sys.stdout.flush()  # here, because an error at the exit of the interpreter is printed in many lines
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # The exit of the interpreter flushes what is left. After a broken pipe the reader has enough: that is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if isinstance(error, BrokenPipeError) else fail(f"cannot print: {cause_of(error)}")
    return code


def streams_of(options: argparse.Namespace) -> Sequence[str]:
    """Return the names of the standard streams that a command needs."""
    needs_stdin = options.command == "connect" or (options.command == "inspect" and options.file == "-")
    return ("stdin", "stdout") if needs_stdin else ("stdout",)


def run_echo(options: argparse.Namespace) -> int:
    try:
        choose_backend(options.backend)
        asyncio.run(listen(options.host, options.port))
    except KeyboardInterrupt:
        pass  # where the event loop cannot handle signals; the connections are closed by now
    except ImportError as error:
        return fail(f"backend cython is not available: {error}")
    except NotListening as error:
        return fail(f"cannot listen on {authority(options.host, options.port)}: {cause_of(error.__cause__)}")
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
        check_target(options.uri, options.header)
        trusted = context_that_trusts(options.ca) if options.ca else None
    except ValueError as error:
        return fail(str(error))
    except OSError as error:
        if hasattr(error, "reason"):  # OpenSSL's word for what is wrong with the contents
            return fail(f"{options.ca} contains no certificates in PEM: {error.reason}")
        return fail(f"cannot read {options.ca}: {cause_of(error)}")
    except ImportError as error:
        return fail(f"--ca needs TLS, which this Python was built without: {error}")
    target = Target(options.uri, options.header, options.subprotocol, options.compress, trusted, options.binary)
    try:
        return talk(target)
    except BrokenPipeError:
        raise
    except (WebSocketError, NotConnected, ValueError, ImportError, OSError, asyncio.TimeoutError) as error:
        return fail(describe(error, without_userinfo(options.uri)))


def describe(error: Exception, uri: str) -> str:
    """Return the line that says why no connection was opened, or why it ended."""
    if isinstance(error, InvalidHandshake):
        return f"{uri}: {error}" if is_no_answer(error) else f"{uri} refused with status {refusal(error)}"
    if isinstance(error, NotConnected):
        return f"cannot connect to {uri}: {cause_of(error.__cause__)}"
    if isinstance(error, ImportError):
        return f"wss:// needs TLS, which this Python was built without: {error}"
    if isinstance(error, asyncio.TimeoutError):  # an OSError from Python 3.11 on
        return str(error)
    return f"cannot read or print: {cause_of(error)}" if isinstance(error, OSError) else f"{uri}: {error}"


def check_target(uri: str, headers: Sequence[str]) -> None:
    """Raise a ValueError that contains no credentials unless the URI and the headers are valid."""
    shown = without_userinfo(uri)
    scheme = uri.partition("://")[0].lower()
    if scheme in OF_HTTP:
        raise ValueError(f"{shown}: use {OF_HTTP[scheme]}:// instead of {scheme}://")
    try:
        parse_uri(uri)
    except ValueError as error:
        if "@" not in uri:
            raise ValueError(f"{shown}: {error}" if shown else str(error)) from None
        # The error may show part of the password, because a "/", "?" or "#" in it ends what looks like the host.
        hint = "percent-encode the user name and the password, with %2F for '/', %3F for '?', %23 for '#', %40 for '@'"
        raise ValueError(f"{shown}: uri is not valid: {hint}") from None
    parse_headers(headers)


def is_no_answer(error: InvalidHandshake) -> bool:
    """Return True if the error has the status 502, for a server that does not speak HTTP."""
    return error.status == HTTPStatus.BAD_GATEWAY and not error.headers


def refusal(error: InvalidHandshake) -> str:
    """Return the status, its reason phrase, and the start of the body or the header that explains it."""
    status = f"{error.status} {reason_phrase(error.status)}".rstrip()
    if error.status == HTTPStatus.SWITCHING_PROTOCOLS:  # the status is right, and another header is wrong
        return f"{status}: {error}"
    location = Headers(error.headers).get("Location")
    if error.status in REDIRECTS and location:
        return f"{status}: redirects to {without_userinfo(location)}"
    body = one_line(error.body.decode(errors="replace"), BODY_WIDTH)
    return f"{status}: {body}" if body else status


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
    if not options.module and not options.program:
        show_gains()
        return 0
    try:
        if options.module:
            run_module(options.module)
        else:
            run_program(options.program)
    except NoProgram as error:
        return fail(str(error))
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
    """Print an error in one line; return the exit code."""
    if sys.stderr is not None:  # it is None if it was closed
        sys.stderr.write(f"wslowlevel: {one_line(message)}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""What may be asked of the command line, and how it explains itself."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import __version__
from ..codec import BACKENDS
from .inspect import SENDERS
from .talk import HELP

DESCRIPTION = """\
Low-level WebSocket (RFC 6455): look at a server, a connection or a capture, frame by frame, and at what is installed.
"""

ECHO = """\
Listen for WebSocket connections and send every text and binary message back.

A browser that opens the address gets a page that sends messages and shows each frame as the server saw it: opcode,
bits, header bytes, payload length, round-trip time. Other clients connect to ws://HOST:PORT/ and are echoed.
Ctrl-C closes every connection with code 1001 (going away).
"""

CONNECT = f"""\
Connect to a WebSocket server and talk to it.

On a terminal each frame that comes is shown with its bits, length and payload.
{HELP}

In a pipe each line of stdin is sent as a text message, and at its end the connection is closed; of what comes the text
messages are printed as lines, and the binary ones as their bytes. Exit code 0: closed with 1000 or 1001; 1: any other
end.
"""

INSPECT = """\
Print the frames of a file, or of stdin, as a table, and the first violation of RFC 6455 with the byte that proves it.

FILE is one of:
- a packet capture (pcap, pcapng), or a text dump of packets (tcpdump -x, tshark -x); both need the package dpkt
- both sides of a connection, saved by Wireshark's "Follow TCP Stream"
- the bytes that one side sent, with the handshake or without, as they are or as a hex dump (xxd, hexdump, od, digits)

Packets that cannot be read and bytes that the capture lacks get a remark, and reading continues. Frames are judged only
where the bytes are certain. Exit code 0: no violation; 1: a violation, or the file cannot be read.
"""

BENCH = """\
Measure the codec's backends on this machine, in turns in one process, on messages of 125 bytes, 16 KiB and 1 MiB:
receiving, making and masking frames, and checking UTF-8. It takes some seconds.
"""

INFO = """\
Print the version, the codec backend (cython or python), its SIMD kernel, the Python, and which optional packages were
found. The environment variable WSLOWLEVEL_BACKEND (auto, cython, python) chooses the backend of every program.
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
CONNECT_EXAMPLES = (
    "python -m wslowlevel connect ws://127.0.0.1:8765",
    "echo hello | python -m wslowlevel connect ws://127.0.0.1:8765",
)
INSPECT_EXAMPLES = (
    "python -m wslowlevel inspect capture.pcap",
    "echo 81 05 48 65 6c 6c 6f | python -m wslowlevel inspect -",
)
ECHO_EXAMPLE = "python -m wslowlevel echo --port 9000 --backend python"
BENCH_EXAMPLE = "python -m wslowlevel bench"
INFO_EXAMPLE = "python -m wslowlevel info"


class Parser(argparse.ArgumentParser):
    """A parser whose errors show no credentials: unquoted headers and URIs end up in unexpected arguments."""

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        options, unknown = self.parse_known_args(arguments)
        if unknown and options.command == "connect":
            count = len(unknown)
            self.error(f"connect takes one URI, got {count} more arguments: quote a header as in -H 'NAME: VALUE'")
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options

    def error(self, message: str) -> NoReturn:
        super().error(re.sub("//.*@", "//", message, flags=re.DOTALL))


def build_parser() -> Parser:
    parser = Parser("wslowlevel", **texts(DESCRIPTION, ECHO_EXAMPLE, CONNECT_EXAMPLES[0], INFO_EXAMPLE))
    parser.add_argument("--version", action="version", version=f"wslowlevel {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    echo = commands.add_parser("echo", help="start an echo server to look at", **texts(ECHO, ECHO_EXAMPLE))
    echo.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)")
    echo.add_argument("--port", default=8765, type=port_number, help="0 for any free one (default: %(default)s)")
    echo.add_argument("--backend", default="auto", choices=BACKENDS, help="codec to use (default: cython if built)")
    add_connect(commands.add_parser("connect", help="talk to a server", **texts(CONNECT, *CONNECT_EXAMPLES)))
    inspect = commands.add_parser("inspect", help="read a capture", **texts(INSPECT, *INSPECT_EXAMPLES))
    inspect.add_argument("file", metavar="FILE", help="- for stdin")
    inspect.add_argument(
        "--from", dest="sender", choices=SENDERS, help="who sent it (default: told by the handshake, or the masking)"
    )
    commands.add_parser("bench", help="compare the backends", **texts(BENCH, BENCH_EXAMPLE))
    commands.add_parser("info", help="print version, backend and SIMD kernel", **texts(INFO, INFO_EXAMPLE))
    others = commands.add_parser("dropin", help="make other libraries faster", **texts(DROPIN, *DROPIN_EXAMPLES))
    others.add_argument("-m", dest="module", nargs=argparse.REMAINDER, metavar="MODULE [ARGS...]", help="likewise")
    others.add_argument(
        "program", nargs=argparse.REMAINDER, metavar="PROGRAM [ARGS...]", help="what to run, if anything"
    )
    return parser


def add_connect(connect: argparse.ArgumentParser) -> None:
    connect.add_argument("uri", metavar="URI", help="ws://HOST:PORT/PATH or wss://...")
    connect.add_argument(
        "-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="a further header of the request"
    )
    connect.add_argument("--subprotocol", action="append", default=[], metavar="NAME", help="offer it; may be repeated")
    connect.add_argument("--compress", action="store_true", help="offer permessage-deflate (RFC 7692)")
    connect.add_argument("--ca", metavar="FILE", help="the certificates to trust for wss://, in PEM, and no others")
    connect.add_argument("--binary", action="store_true", help="in a pipe: send all of stdin as one binary message")


def texts(description: str, *examples: str) -> dict[str, Any]:
    epilog = "\n  ".join(["examples:" if len(examples) > 1 else "example:", *examples])
    return {"description": description, "epilog": epilog, "formatter_class": argparse.RawDescriptionHelpFormatter}


def port_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 0xFFFF):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, not {text!r}")
    return int(text)

"""lines -> messages; frames -> lines: `wslowlevel connect`, on a terminal or in a pipe"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..aio.client import connect
from ..aio.factories import get_chunks_factory, get_messages_factory, send_message_factory
from ..aio.socket import Socket
from ..codec import Chunk
from ..deflate import PerMessageDeflate
from ..errors import ConnectionLost
from ..http1 import HandshakeResponse
from ..uri import without_userinfo
from ..wire import CONTROL, CloseCode, Opcode
from .terminal import Show, bits_of, harmless, name_of, printer, shown

if TYPE_CHECKING:
    from ssl import SSLContext

    from prompt_toolkit.history import History

HELP = """\
Every line is sent as a text message. But:
  /ping [TEXT]             send a ping; the line that answers it tells how long it took
  /binary FILE             send what the file holds as a binary message
  /text FILE               likewise as text, which must be UTF-8
  /close [CODE [REASON]]   close; 1000 unless a code is given
  /help                    this
  //...                    a line that begins with one slash
Ctrl-D closes with 1000, Ctrl-C with 1001."""

KEPT = 1024
"""Bytes of a frame that are kept to be shown."""

Lines = AsyncIterator[str]

INTERRUPTED = 130
"""What `talk` returns after Ctrl-C, as shells have it."""


class Interrupted(Exception):
    """By Ctrl-C, at the prompt: as an exception that a task may raise."""


class NotConnected(Exception):
    """No server was reached; its cause is the OSError that tells why."""


@dataclass(frozen=True)
class Target:
    """Where to connect to, and how. The URI and the headers may contain credentials, so that repr() omits them."""

    uri: str = field(repr=False)
    headers: list[str] = field(default_factory=list, repr=False)
    subprotocols: list[str] = field(default_factory=list)
    compress: bool = False
    trusted: SSLContext | None = None
    binary: bool = False


def talk(target: Target) -> int:
    """Talk until either side closes; return 0 after a clean end with 1000 or 1001, 130 after Ctrl-C, else 1.

    Raises:
        NotConnected: no server was reached.
        WebSocketError, TimeoutError, ValueError: no connection, see :func:`wslowlevel.connect`.
        OSError: what is to be sent cannot be read, or what came not be printed.
    """
    try:
        return asyncio.run(_talk(target))
    except (KeyboardInterrupt, Interrupted, asyncio.CancelledError):
        return INTERRUPTED


async def _talk(target: Target) -> int:
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError):  # on Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    response, socket = await connected(target)
    agreed = [f"subprotocol {response.subprotocol}"] if response.subprotocol else []
    agreed += [each for each in [response.headers.get("Sec-WebSocket-Extensions")] if each]
    remark(f"connected to {without_userinfo(target.uri)}{''.join(f', {harmless(each)}' for each in agreed)}")
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    async with socket:
        if on_terminal:
            remark("/help tells more")
            receiving = show_frames(socket, printer())
            sender = asyncio.create_task(obey(socket, lines_of_prompt(), printer()))
        else:
            receiving = print_messages(socket)
            sender = asyncio.create_task(send_all(socket, binary=target.binary))
        try:
            await receiving
        finally:
            sender.cancel()
            with suppress(asyncio.CancelledError, ConnectionLost):
                await sender
    code, reason = socket.received or (CloseCode.ABNORMAL_CLOSURE, "our Close frame was not answered")
    remark(f"closed: {code:d} {harmless(reason)}".rstrip())
    return int(code not in (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RECEIVED))


async def connected(target: Target) -> tuple[HandshakeResponse, Socket]:
    extensions = [PerMessageDeflate()] if target.compress else []
    try:
        return await connect(
            target.uri,
            ssl=target.trusted,
            headers=target.headers,
            subprotocols=target.subprotocols,
            extensions=extensions,
        )
    except OSError as error:
        if isinstance(error, asyncio.TimeoutError) and error.errno is None:
            raise  # it is the limit of `connect`, not of the system
        raise NotConnected from error


def remark(text: str) -> None:
    """What is no message goes to stderr."""
    if sys.stderr is None:  # it was closed
        return
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


# -- In a pipe --------------------------------------------------------------------------------------------------------


async def print_messages(socket: Socket) -> None:
    """Text messages as lines, binary ones as their bytes."""
    async for message in get_messages_factory(socket)():
        if not message.opcode & CONTROL:
            end = b"\n" if message.opcode == Opcode.TEXT else b""
            sys.stdout.buffer.write(message.payload + end)
            sys.stdout.buffer.flush()


async def send_all(socket: Socket, *, binary: bool) -> None:
    """Each line of stdin as a text message, or all of it as a binary one; then close."""
    send_message = send_message_factory(socket)
    with closing(socket):
        if binary:
            await send_message(b"".join([data async for data in pieces_of_stdin()]))
        else:
            async for line in lines_of_stdin():
                await send_message(line)


async def lines_of_stdin() -> Lines:
    pending = b""
    async for data in pieces_of_stdin():
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode(errors="replace")
    if pending:
        yield pending.decode(errors="replace")


async def pieces_of_stdin() -> AsyncIterator[bytes]:
    """A thread waits for each, which keeps neither the connection nor the program from ending."""
    while data := await in_a_thread(lambda: os.read(0, 65536)):
        yield data


async def in_a_thread(call: Callable[[], bytes]) -> bytes:
    result: Future[bytes] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(call())
        except OSError as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)


@contextmanager
def closing(socket: Socket) -> Iterator[None]:
    """Close a socket at the end of the block: with 1001 where somebody does not wait for it, else with 1000."""
    code = CloseCode.NORMAL_CLOSURE
    try:
        yield
    except ConnectionLost:
        pass  # whoever receives tells of it
    except (asyncio.CancelledError, Interrupted):
        code = CloseCode.GOING_AWAY
        raise
    finally:
        socket.close(code)
        socket.flush()


# -- On a terminal ----------------------------------------------------------------------------------------------------


async def show_frames(socket: Socket, show: Show) -> None:
    """A line for each frame, with its bits; of a compressed one, what it was before."""
    start, size, is_first = b"", 0, True
    async for chunk in get_chunks_factory(socket)():
        if chunk.frame_started:
            start, size, is_first = b"", 0, bool(chunk.message_started)
        start += chunk.payload[: KEPT - len(start)]
        size += len(chunk.payload)
        if chunk.frame_finished:
            show(frame_line(chunk, start, size, is_first), "cyan" if chunk.opcode & CONTROL else "green")


def frame_line(last: Chunk, start: bytes, size: int, is_first: bool) -> str:
    name = name_of(last.opcode if is_first else Opcode.CONTINUATION)
    bits = bits_of(last, last.message_finished, last.mask)
    return f"< {name:<12} {bits:<9} {size:>7,}  {shown(last.opcode, start)}"


async def lines_of_prompt() -> Lines:
    """Lines with history and editing where prompt-toolkit is installed; else as the terminal edits them."""
    if find_spec("prompt_toolkit") is None:
        async for line in lines_of_stdin():
            yield line
        return
    from prompt_toolkit import PromptSession  # noqa: PLC0415 - an optional dependency
    from prompt_toolkit.patch_stdout import patch_stdout  # noqa: PLC0415

    session: PromptSession[str] = PromptSession(history=history())
    with patch_stdout(raw=True):
        while True:
            try:
                yield await session.prompt_async("> ")
            except EOFError:
                return
            except KeyboardInterrupt:
                raise Interrupted from None


def history() -> History:
    """The lines of earlier times; where they cannot be kept, those of this one."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory  # noqa: PLC0415 - an optional dependency

    try:
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "wslowlevel"
        home.mkdir(parents=True, exist_ok=True)
        file = home / "history"
        file.open("a+b").close()
    except (OSError, RuntimeError):  # the latter without a home directory
        return InMemoryHistory()
    return FileHistory(str(file))


async def obey(socket: Socket, lines: Lines, show: Show) -> None:
    """Send what is typed, or do what it asks for; then close."""
    with closing(socket):
        async for line in lines:
            try:
                await obey_one(socket, line, show)
            except (ValueError, TypeError, OSError) as error:
                show(f"! {error}", "red")
            if not socket.is_open:
                return


async def obey_one(socket: Socket, line: str, show: Show) -> None:
    send_message = send_message_factory(socket)
    word, _, rest = line.partition(" ")
    if not line.startswith("/") or line.startswith("//"):
        await send_message(line.removeprefix("/") if line.startswith("//") else line)
    elif word == "/ping":
        answer = socket.ping(rest.encode() if rest else None)
        answer.add_done_callback(partial(tell_latency, show))
    elif word in ("/binary", "/text"):
        await send_message(await in_a_thread(Path(rest).read_bytes), is_utf8=word == "/text")
    elif word == "/close":
        code, _, reason = rest.partition(" ")
        socket.close(int(code) if code else None, reason)
    elif word == "/help":
        show(HELP)
    else:
        raise ValueError(f"{word} is not known: /help tells what is, and // sends a line that begins with a slash")


def tell_latency(show: Show, answer: asyncio.Future[float]) -> None:
    if not answer.cancelled() and answer.exception() is None:
        show(f"* answered after {answer.result() * 1e3:.1f} ms")

"""`python -m wslowlevel connect` as its users run it: in a pipe, and on a terminal."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .servers import TIMEOUT
from .test_client_examples import tls_server
from .test_command_line import COMMAND, EchoCommand, echo_command, environment

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoCommand]:
    with echo_command() as command:
        yield command


# -- In a pipe --------------------------------------------------------------------------------------------------------


def piped(data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, "connect", *arguments]
    return subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT, check=False, env=environment())


def test_lines_are_messages(echo: EchoCommand) -> None:
    done = piped("Grüße\r\n\n/ping\nno end of the line".encode(), echo.url())
    assert (done.returncode, done.stdout.decode()) == (0, "Grüße\n\n/ping\nno end of the line\n")
    assert done.stderr.decode() == f"connected to {echo.url()}\nclosed: 1000\n"


def test_all_of_stdin_as_one_binary_message(echo: EchoCommand) -> None:
    data = bytes(range(256)) * 1000
    done = piped(data, "--binary", echo.url())
    assert (done.returncode, done.stdout) == (0, data)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("ws://127.0.0.1:1/", "cannot connect to ws://127.0.0.1:1/: Connection refused"),
        ("http://127.0.0.1/", "http://127.0.0.1/: "),
        ("ws://nowhere.invalid/", "cannot connect to ws://nowhere.invalid/: "),
    ],
)
def test_no_connection(uri: str, said: str) -> None:
    done = piped(b"", uri)
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"wslowlevel: {said}")


def test_a_refusal(echo: EchoCommand) -> None:
    done = piped(b"", echo.url(target="/frames?watch=nobody"))
    assert (done.returncode, done.stdout) == (1, b"")
    assert "refused with status 404" in done.stderr.decode()


def test_a_wrong_header(echo: EchoCommand) -> None:
    done = piped(b"", "-H", "Upgrade: h2c", echo.url())
    assert done.returncode == 1
    assert "header upgrade is not the caller's to set" in done.stderr.decode()


def test_a_certificate_is_trusted_or_named(tmp_path: Path) -> None:
    with tls_server("python") as (uri, certificate):
        done = piped(b"over TLS\n", "--ca", str(certificate), uri)
        assert (done.returncode, done.stdout) == (0, b"over TLS\n")
        done = piped(b"", uri)
        assert done.returncode == 1
        assert done.stderr.decode().startswith(f"wslowlevel: cannot connect to {uri}: ")
        assert "certificate verify failed" in done.stderr.decode()
    done = piped(b"", "--ca", str(tmp_path / "none"), uri)
    assert done.stderr.decode() == f"wslowlevel: cannot read {tmp_path / 'none'}: No such file or directory\n"


@pytest.mark.parametrize(
    ("stdin", "stdout", "cause"),
    [("/proc/self/mem", os.devnull, "Input/output error"), (__file__, "/dev/full", "No space left on device")],
)
def test_what_cannot_be_read_or_printed(stdin: str, stdout: str, cause: str, echo: EchoCommand) -> None:
    with open(stdin, "rb") as read, open(stdout, "wb") as printed:
        done = subprocess.run(
            [*COMMAND, "connect", echo.url()],
            stdin=read,
            stdout=printed,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT,
            check=False,
            env=environment(),
        )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[1:] == [f"wslowlevel: cannot read or print: {cause}"]


# -- On a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """A pseudo-terminal, and what a program shows on it."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self.process = process
        self.shown = ""

    def type(self, line: str, end: str = "\r") -> None:
        os.write(self._descriptor, f"{line}{end}".encode())

    def expect(self, text: str) -> None:
        """Wait until the program has shown something behind what was expected before."""
        deadline = time.monotonic() + TIMEOUT
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read() or text in self.shown, self.shown
        self.shown = self.shown.partition(text)[2]

    def wait(self) -> int:
        """Wait for the end; a terminal that nobody reads would hold it up."""
        while self._read():
            pass
        return self.process.wait(TIMEOUT)

    def _read(self) -> bool:
        """Whether the program is there still."""
        if select.select([self._descriptor], [], [], TIMEOUT)[0]:
            try:
                self.shown += os.read(self._descriptor, 65536).decode(errors="replace")
            except OSError:
                return False
            return True
        raise AssertionError(f"nothing more is shown: {self.shown}")


# The leader of a session. When it ends the kernel drops what its terminal still holds: it stays a moment longer.
LEADER = ("sh", "-c", 'trap : INT; "$@"; code=$?; sleep 1; exit $code', "sh")


@contextmanager
def terminal(home: Path, *arguments: str) -> Iterator[Terminal]:
    ours, its = os.openpty()
    variables = environment(TERM="dumb", XDG_STATE_HOME=str(home), PYTHONUTF8="1")
    process = subprocess.Popen(
        [*LEADER, *COMMAND, "connect", *arguments],
        stdin=its,
        stdout=its,
        stderr=its,
        env=variables,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(its, termios.TIOCSCTTY, 0),  # noqa: PLW1509, so that Ctrl-C is a signal
    )
    os.close(its)
    with process:
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()
            os.close(ours)


def test_a_conversation(echo: EchoCommand, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\x01\x02\xff")
    with terminal(tmp_path, echo.url()) as typed:
        typed.expect(f"connected to {echo.url()}")
        for line, answer in {
            "hello": "< TEXT         FIN             5  hello",
            "//ping": "< TEXT         FIN             5  /ping",
            f"/binary {file}": "< BINARY       FIN             3  01 02 ff",
            "/ping here?": "< PONG         FIN             5  here?",
            "/help": "send what the file holds as a binary message",
            "/nonsense": "! /nonsense is not known",
            f"/text {file}": "! payload of a text message: invalid UTF-8",
            "/binary /nowhere": "! [Errno 2] No such file or directory",
            "/close 1006": "! ",
        }.items():
            typed.type(line)
            typed.expect(answer)
        typed.type("/close 4000 bye")
        typed.expect("closed: 4000")
        assert typed.wait() == 1
    history = (tmp_path / "wslowlevel" / "history").read_text()
    assert "+hello\n" in history


def test_the_end_of_input(echo: EchoCommand, tmp_path: Path) -> None:
    with terminal(tmp_path, echo.url()) as typed:
        typed.expect("> ")
        while typed.process.poll() is None:  # between two prompts the terminal itself takes the key, for nothing
            typed.type("\x04", end="")
            time.sleep(0.2)
        typed.expect("closed: 1000")
        assert typed.wait() == 0


def test_an_interrupt(echo: EchoCommand, tmp_path: Path) -> None:
    with terminal(tmp_path, echo.url()) as typed:
        typed.type("hello")
        typed.expect("< TEXT")
        typed.type("\x03", end="")
        assert typed.wait() == 130
        assert "Traceback" not in typed.shown


def test_the_server_ends_it(tmp_path: Path) -> None:
    with echo_command() as echo, terminal(tmp_path, echo.url()) as typed:
        typed.expect("> ")
        echo.process.send_signal(signal.SIGTERM)
        typed.expect("< CLOSE        FIN")
        typed.expect("closed: 1001")
        assert typed.wait() == 0
        echo.process.wait(TIMEOUT)

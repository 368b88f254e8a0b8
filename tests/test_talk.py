"""`python -m wslowlevel connect` as its users run it: in a pipe, and on a terminal."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket as sockets
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from wslowlevel.cli.talk import Target

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


def failure(data: subprocess.CompletedProcess[bytes]) -> str:
    """Return the one line that a failed command prints, without its prefix."""
    assert (data.returncode, data.stdout) == (1, b"")
    (line,) = data.stderr.decode().splitlines()
    assert line.startswith("wslowlevel: ")
    return line.removeprefix("wslowlevel: ")


def test_refusal_shows_status_reason_and_body(echo: EchoCommand) -> None:
    uri = echo.url(target="/frames?watch=nobody")
    expected = f"{uri} refused with status 404 Not Found: no such connection, or it has its monitor"
    assert failure(piped(b"", uri)) == expected


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Answer every connection with the same bytes; yield the URI."""
    with sockets.create_server(("127.0.0.1", 0)) as listener:

        def answer_each() -> None:
            with suppress(OSError):  # the end of the test closes the listener
                while True:
                    connection = listener.accept()[0]
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)

        thread = threading.Thread(target=answer_each, daemon=True)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            listener.shutdown(sockets.SHUT_RDWR)
            thread.join(TIMEOUT)


def refusing(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusing("403 No", b"\x1b[2J\x1b]0;title\x07a\r\nb\xff"), "403 Forbidden: [2J ]0;title a b\ufffd"),
        (refusing("403 No", "\u202egnp\u2028next".encode()), "403 Forbidden: gnp next"),
        (refusing("500 No", b"x" * 5000), f"500 Internal Server Error: {'x' * 200}..."),
        (refusing("503 No", b""), "503 Service Unavailable"),
        (refusing("599 No", b"why"), "599: why"),
        (
            refusing("301 Moved", b"page", "Location: wss://user:s3cret@example.org/"),
            "301 Moved Permanently: redirects to wss://example.org/",
        ),
        (refusing("401 No", b"", "Set-Cookie: id=s3cret"), "401 Unauthorized"),
        (refusing("502 No", b"down", "Server: proxy"), "502 Bad Gateway: down"),
    ],
    ids=["escapes", "not printable", "long", "empty", "unknown status", "redirect", "cookie", "gateway"],
)
def test_refusal_is_one_harmless_line(answer: bytes, expected: str) -> None:
    with answering(answer) as uri:
        assert failure(piped(b"", uri)) == f"{uri} refused with status {expected}"


def test_server_that_does_not_speak_http_is_no_refusal() -> None:
    with answering(b"SSH-2.0-server\r\n") as uri:
        line = failure(piped(b"", uri))
    assert line.startswith(f"{uri}: ")
    assert "502" not in line


def test_wss_to_a_server_without_tls_is_reported_in_one_line(echo: EchoCommand) -> None:
    uri = echo.url("wss")
    assert failure(piped(b"", uri)).startswith(f"cannot connect to {uri}: ")


def test_ws_to_a_server_with_tls_is_reported_in_one_line() -> None:
    with tls_server("python") as (uri, _):
        plain = uri.replace("wss:", "ws:")
        assert failure(piped(b"", plain)).startswith(f"{plain}: ")


@pytest.mark.parametrize(("scheme", "use"), [("https", "wss"), ("http", "ws"), ("HTTPS", "wss")])
def test_http_uri_is_corrected(scheme: str, use: str) -> None:
    expected = f"{scheme}://example.org/: use {use}:// instead of {scheme.lower()}://"
    assert failure(piped(b"", f"{scheme}://example.org/")) == expected


@pytest.mark.parametrize(("stream", "redirection"), [("stdin", "<&-"), ("stdout", "</dev/null >&-")])
def test_closed_stream_is_reported(stream: str, redirection: str, echo: EchoCommand) -> None:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, "connect", echo.url()]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False, env=environment())
    assert failure(done) == f"{stream} is closed: redirect it, for example to {os.devnull}"


def test_closed_stderr_changes_nothing_else(echo: EchoCommand) -> None:
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND, "connect", echo.url()]
    done = subprocess.run(
        command, input=b"hello\n", capture_output=True, timeout=TIMEOUT, check=False, env=environment()
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


# -- Credentials ------------------------------------------------------------------------------------------------------

SECRET = "s3cret"
NOWHERE = "ws://127.0.0.1:1/"


@pytest.mark.parametrize(
    "uri",
    [
        f"ws://user:{SECRET}@127.0.0.1:1/",
        f"ws://{SECRET}@127.0.0.1:1/",
        *(f"ws://user:1{character}{SECRET}{character}2@127.0.0.1:1/" for character in "/?#@% \n\\[]\"'\u00fc"),
        f"ws://user:{SECRET}@127.0.0.1:0/",
        f"ws://user:{SECRET}%ff@127.0.0.1:1/",
        f"http://user:{SECRET}@127.0.0.1:1/",
        f"ftp://user:{SECRET}@127.0.0.1:1/",
        f"user:{SECRET}@127.0.0.1:1",
        f"ws:user:{SECRET}//@127.0.0.1:1",
        f"ws://user:{SECRET}@",
    ],
)
def test_errors_show_no_user_name_and_password(uri: str) -> None:
    line = failure(piped(b"", uri))
    assert SECRET not in line
    assert "user:" not in line


def test_connection_shows_no_password(echo: EchoCommand, tmp_path: Path) -> None:
    uri = echo.url().replace("ws://", f"ws://user:{SECRET}@")
    done = piped(b"", uri)
    assert (done.returncode, done.stderr.decode()) == (0, f"connected to {echo.url()}\nclosed: 1000\n")
    headers = ("-H", f"Cookie: id={SECRET}", "-H", f"Proxy-Authorization: {SECRET}")
    with terminal(tmp_path, uri, *headers) as typed:
        typed.type("/close")
        typed.wait()
    assert SECRET not in typed.all


@pytest.mark.parametrize("name", ["Authorization", "cookie", "PROXY-AUTHORIZATION", "Set-Cookie"])
@pytest.mark.parametrize(
    "header", ["{name}: {secret}\n", "{name}: {secret}\u20ac", "{name} {secret}", "{name} {secret}: 1"]
)
def test_invalid_header_shows_no_credentials(name: str, header: str) -> None:
    assert SECRET not in failure(piped(b"", "-H", header.format(name=name, secret=SECRET), NOWHERE))


@pytest.mark.parametrize(
    "arguments",
    [
        ["connect", "-H", "Authorization:", "Bearer", SECRET, NOWHERE],
        ["connect", NOWHERE, f"ws://user:{SECRET}@host/"],
        [f"ws://user:{SECRET}@host/"],
        ["info", f"ws://user:{SECRET}@host/"],
    ],
)
def test_wrong_arguments_show_no_credentials(arguments: list[str]) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 2
    assert SECRET not in done.stderr


def test_repr_of_a_target_shows_no_credentials() -> None:
    target = Target(f"ws://user:{SECRET}@host/", headers=[f"Cookie: {SECRET}"])
    assert SECRET not in repr(target)


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
        self.all = ""

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
                text = os.read(self._descriptor, 65536).decode(errors="replace")
                self.shown += text
                self.all += text
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

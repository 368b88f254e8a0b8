"""`python -m wslowlevel` as its users run it: real processes, real clients."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import socket as sockets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h11
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import wslowlevel
from wslowlevel import Opcode
from wslowlevel.__main__ import COMMANDS
from wslowlevel.cli.bench import SIZES
from wslowlevel.cli.info import OPTIONAL

from .conftest import BACKENDS, Both
from .servers import TIMEOUT, RawClient, handshake, masked

COMMAND = [sys.executable, "-W", "error", "-m", "wslowlevel"]
GREETING = re.compile(
    r"Echo server on (http://127\.0\.0\.1:(\d+)/) \(backend (\w+), kernel ([\w-]+)\), Ctrl-C to stop\n"
)
NAMES = {"py": "python", "cy": "cython"}
WATCH = "0123456789abcdef" * 2

both_backends = pytest.mark.parametrize("codec", NAMES)
"""Named as the fixture is, so that --no-cython leaves out the same tests."""


def environment(**variables: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "WSLOWLEVEL_BACKEND"} | variables


def run_command(*arguments: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env=environment(**variables or {}),
    )


class EchoCommand(NamedTuple):
    """A running `wslowlevel echo`."""

    process: subprocess.Popen[str]
    port: int
    backend: str
    kernel: str

    def url(self, scheme: str = "ws", target: str = "/") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{target}"

    def connect(self, target: str = "/") -> ClientConnection:
        return connect(self.url(target=target), compression=None, proxy=None, open_timeout=TIMEOUT)

    def stop(self, number: int) -> tuple[int, str, str]:
        """Send a signal; return the exit code, and what else was written to stdout and stderr."""
        self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, stdout, stderr


@contextmanager
def echo_command(*arguments: str, program: Sequence[str] = COMMAND) -> Iterator[EchoCommand]:
    """Run `wslowlevel echo` on a free port; at the end it must stop in order, unless the test stopped it."""
    process = subprocess.Popen(
        [*program, "echo", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = GREETING.fullmatch(line)
            assert found, (line, process.communicate(timeout=TIMEOUT))
            command = EchoCommand(process, int(found[2]), found[3], found[4])
            yield command
            if process.returncode is None:
                assert command.stop(signal.SIGTERM) == (0, "", "")
        finally:
            process.kill()


# -- Help and mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_an_example(command: str) -> None:
    result = run_command(*command.split(), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"  python -m wslowlevel {command}".rstrip() in result.stdout.partition("example")[2]
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_version() -> None:
    assert run_command("--version").stdout == f"wslowlevel {wslowlevel.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["serve"], "'serve'"),
        (["echo", "--port", "http"], "from 0 to 65535, not 'http'"),
        (["echo", "--port", "65536"], "from 0 to 65535, not '65536'"),
        (["echo", "--port", "-1"], "--port"),
        (["echo", "--backend", "rust"], "'rust'"),
        (["info", "more"], "more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments(arguments: list[str], named: str) -> None:
    result = run_command(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert named in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1",  # set aside for documentation (RFC 5737), so no interface has it
        "a..b",
        "no host",
    ],
)
def test_a_host_that_cannot_be_listened_on(host: str) -> None:
    result = run_command("echo", "--host", host, "--port", "0")
    assert (result.returncode, result.stdout) == (1, "")
    # The cause is told in the words of the system, or of asyncio.
    assert re.fullmatch(rf"wslowlevel: cannot listen on {re.escape(host)}:0: .+\n", result.stderr)


def test_a_port_in_use() -> None:
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_command("echo", "--port", str(port))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"wslowlevel: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_the_compiled_backend_where_it_is_not_built(tmp_path: Path) -> None:
    package = Path(wslowlevel.__file__).parent
    shutil.copytree(package, tmp_path / "wslowlevel", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    shutil.copytree(Path(h11.__file__).parent, tmp_path / "h11")
    # -S: an editable installation finds the modules of the checkout for every package of this name.
    result = subprocess.run(
        [sys.executable, "-S", *COMMAND[1:], "echo", "--port", "0", "--backend", "cython"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env=environment(),
        cwd=tmp_path,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "wslowlevel: backend cython is not available: No module named 'wslowlevel._codec'\n"


@pytest.mark.parametrize("command", ["info", "bench", "echo --port 0", "dropin"])
@pytest.mark.parametrize(
    ("redirection", "expected"),
    [
        (">&-", f"stdout is closed: redirect it, for example to {os.devnull}"),
        (">/dev/full", "cannot print: No space left on device"),
    ],
)
def test_output_that_cannot_be_written_is_one_line(command: str, redirection: str, expected: str) -> None:
    program = ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *command.split()]
    done = subprocess.run(
        program,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment(),
    )
    assert (done.returncode, done.stderr) == (1, f"wslowlevel: {expected}\n")


def test_output_in_ascii_escapes_other_characters(tmp_path: Path) -> None:
    (tmp_path / "frames").write_bytes(b"\x81\x02" + "\u00fc".encode())
    done = run_command("inspect", str(tmp_path / "frames"), variables={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xfc" in done.stdout


def test_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "trusted.pem").write_text("no certificate")
    done = run_command("connect", "--ca", str(tmp_path / "trusted.pem"), "wss://127.0.0.1:1/")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"wslowlevel: {tmp_path / 'trusted.pem'} contains no certificates in PEM: ")


# -- What is installed ------------------------------------------------------------------------------------------------


@both_backends
def test_info(codec: str) -> None:
    result = run_command("info", variables={"WSLOWLEVEL_BACKEND": NAMES[codec]})
    assert (result.returncode, result.stderr) == (0, "")
    said = dict(line.split(None, 1) for line in result.stdout.splitlines())
    optional = {name: said.pop(name).split()[0] for name in OPTIONAL}
    assert said == {
        "version": wslowlevel.__version__,
        "backend": NAMES[codec],
        "kernel": importlib.import_module(BACKENDS[codec]).kernel(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    assert optional == {name: importlib.metadata.version(name) for name in OPTIONAL}


def test_what_is_not_installed_is_told(tmp_path: Path) -> None:
    with_h11_only = {"PYTHONPATH": str(tmp_path)}
    for package in (h11, wslowlevel):
        shutil.copytree(Path(str(package.__file__)).parent, tmp_path / package.__name__)
    command = [sys.executable, "-S", "-m", "wslowlevel"]
    done = subprocess.run(
        [*command, "info"], capture_output=True, text=True, check=True, env=environment(**with_h11_only)
    )
    assert [line.split()[1:3] for line in done.stdout.splitlines()[4:]] == [["not", "found"]] * len(OPTIONAL)
    capture = tmp_path / "a.pcap"
    capture.write_bytes(bytes.fromhex("d4c3b2a1"))
    done = subprocess.run(
        [*command, "inspect", str(capture)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(**with_h11_only),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "No module named 'dpkt' (pip install 'wslowlevel[cli]')" in done.stderr


# -- The backends compared --------------------------------------------------------------------------------------------


def test_bench(both: Both) -> None:
    done = run_command("bench")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if " x " in line]
    assert len(lines) == 2 * len(SIZES) * 4
    for compiled, pure in zip(lines[::2], lines[1::2], strict=True):
        assert " cython " in compiled
        assert pure.split()[0] == "python"
        assert pure.endswith("1.0 x  #")  # the slower of the two, by far


# -- The echo ---------------------------------------------------------------------------------------------------------


@both_backends
def test_it_echoes_with_the_backend_that_was_asked_for(codec: str) -> None:
    with echo_command("--backend", NAMES[codec]) as command:
        assert command.backend == NAMES[codec]
        assert command.kernel == importlib.import_module(BACKENDS[codec]).kernel()
        for target in ("/", "/echo", "/any/path?and=query"):
            with command.connect(target) as client:
                for message in ("", "Grüße, 世界", b"", bytes(range(256)), "x" * 65536, bytes(1024 * 1024)):
                    client.send(message)
                    assert client.recv(TIMEOUT) == message
                assert client.ping(b"here?").wait(TIMEOUT)


def test_the_console_script_can_change_the_backend_too(tmp_path: Path) -> None:
    script = tmp_path / "wslowlevel"
    script.write_text("import sys\nfrom wslowlevel.__main__ import main\nsys.exit(main())\n")
    with echo_command("--backend", "python", program=[sys.executable, str(script)]) as command:
        assert command.backend == "python"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@both_backends
def test_a_signal_says_goodbye(codec: str, number: signal.Signals) -> None:
    with echo_command("--backend", NAMES[codec]) as command, command.connect() as client, command.connect() as other:
        client.send("first")
        assert client.recv(TIMEOUT) == "first"
        assert command.stop(number) == (0, "", "")
        for each in (client, other):
            with pytest.raises(ConnectionClosed) as caught:
                each.recv(TIMEOUT)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001


def test_a_client_that_does_not_answer_does_not_hold_up_the_end() -> None:
    with echo_command() as command, sockets.create_connection(("127.0.0.1", command.port), TIMEOUT) as silent:
        silent.sendall(handshake())
        assert silent.recv(4096).startswith(b"HTTP/1.1 101 ")
        assert command.stop(signal.SIGINT) == (0, "", "")


# -- The page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_confined_to_itself() -> None:
    with echo_command() as command, urllib.request.urlopen(command.url("http"), timeout=TIMEOUT) as response:
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy["script-src"])
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy["style-src"])
        assert policy["connect-src"].split()[0] == f"ws://127.0.0.1:{command.port}"
        assert not re.search(r"""(src|href)=(?!["']data:)|url\(|@import""", response.read().decode())


@pytest.mark.parametrize("path", ["/favicon.ico", "/echo", "/frames", "//[", "/..%2f"])
def test_other_paths_are_not_found(path: str) -> None:
    with echo_command() as command:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(command.url("http", path), timeout=TIMEOUT)
        with caught.value as response:
            assert response.code == 404


# -- The reports ------------------------------------------------------------------------------------------------------


@contextmanager
def watched(command: EchoCommand) -> Iterator[tuple[ClientConnection, ClientConnection]]:
    """A connection that echoes, and the monitor of its frames, which has said what runs here."""
    with command.connect(f"/echo?watch={WATCH}") as client, command.connect(f"/frames?watch={WATCH}") as monitor:
        server = json.loads(monitor.recv(TIMEOUT))["server"]
        assert server["version"] == wslowlevel.__version__
        assert (server["backend"], server["kernel"]) == (command.backend, command.kernel)
        yield client, monitor


def reports_of(monitor: ClientConnection) -> list[dict[str, Any]]:
    """Every report until the server ends the connection."""
    return [json.loads(message) for message in monitor]


def lit(report: dict[str, Any]) -> list[str]:
    return [name for name, bit in report["bits"].items() if bit]


@both_backends
def test_each_frame_is_reported_as_it_stood_on_the_wire(codec: str) -> None:
    with echo_command("--backend", NAMES[codec]) as command, watched(command) as (client, monitor):
        client.send(["Hel", "lo"])  # two frames, and an empty one that ends the message
        client.send(bytes(range(200)))
        client.ping(b"from us")
        monitor.send("ping")
        assert [client.recv(TIMEOUT), client.recv(TIMEOUT)] == ["Hello", bytes(range(200))]
        reports = [json.loads(monitor.recv(TIMEOUT))]
        while (reports[-1]["direction"], reports[-1]["opcode"]) != ("in", Opcode.PONG):
            reports.append(json.loads(monitor.recv(TIMEOUT)))
        assert (lit(reports[-1]), reports[-1]["preview"]) == (["fin", "mask"], "wslowlevel")
        client.close(4001, "enough")
        reports += reports_of(monitor)

    received = [report for report in reports if report["direction"] == "in" and report["opcode"] != Opcode.PONG]
    assert [(each["opcode"], each["length"], lit(each), each["preview"]) for each in received] == [
        (Opcode.TEXT, 3, ["mask"], "Hel"),
        (Opcode.CONTINUATION, 2, ["mask"], "lo"),
        (Opcode.CONTINUATION, 0, ["fin", "mask"], ""),
        (Opcode.BINARY, 200, ["fin", "mask"], bytes(range(32)).hex(" ")),
        (Opcode.PING, 7, ["fin", "mask"], "from us"),
        (Opcode.CLOSE, 8, ["fin", "mask"], "4001 enough"),
    ]
    assert [re.sub("( ..){4}$", "", each["header"]) for each in received] == [
        "01 83", "00 82", "80 80", "82 fe 00 c8", "89 87", "88 88",
    ]  # fmt: skip
    sent = {
        (each["opcode"], each["header"], each["preview"], each["echo"]) for each in reports if "mask" not in lit(each)
    }
    assert sent == {
        (Opcode.TEXT, "81 05", "Hello", 1),
        (Opcode.BINARY, "82 7e 00 c8", bytes(range(32)).hex(" "), 2),
        (Opcode.PONG, "8a 07", "from us", None),
        (Opcode.PING, "89 0a", "wslowlevel", None),
        (Opcode.CLOSE, "88 08", "4001 enough", None),
    }
    assert [each["time"] for each in reports] == sorted(each["time"] for each in reports)


def test_a_violation_is_reported_with_the_close_that_answers_it() -> None:
    with echo_command() as command, sockets.create_connection(("127.0.0.1", command.port), TIMEOUT) as client:
        client.sendall(handshake(target=f"/echo?watch={WATCH}"))
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        with command.connect(f"/frames?watch={WATCH}") as monitor:
            monitor.recv(TIMEOUT)
            client.sendall(masked(Opcode.TEXT, b"fine") + masked(3, b"reserved", rsv2=1))
            reports = reports_of(monitor)
    assert [(each["direction"], each["opcode"], lit(each)) for each in reports] == [
        ("in", Opcode.TEXT, ["fin", "mask"]),
        ("in", 3, ["fin", "rsv2", "mask"]),
        ("out", Opcode.TEXT, ["fin"]),
        ("out", Opcode.CLOSE, ["fin"]),
    ]
    assert reports[-1]["preview"].startswith("1002 reserved bits")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/echo?watch=me", 400),
        (f"/echo?watch={WATCH}", 400),
        (f"/frames?watch={WATCH}", 404),
        (f"/frames?watch={WATCH[::-1]}", 404),
        ("/frames", 404),
    ],
)
def test_who_may_watch(target: str, status: int) -> None:
    with echo_command() as command, watched(command), pytest.raises(InvalidStatus) as caught:
        command.connect(target)
    assert caught.value.response.status_code == status


def test_a_monitor_that_never_reads_holds_nothing_up() -> None:
    """What it does not read is dropped and counted, and the echo goes on."""
    text = "x" * 125
    count = 20_000

    async def watch_blindly(command: EchoCommand) -> list[dict[str, Any]]:
        blind = sockets.socket()
        blind.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        blind.connect(("127.0.0.1", command.port))
        reader, writer = await asyncio.open_connection(sock=blind, limit=4096)
        monitor = RawClient(reader, writer)
        await monitor.upgrade(target=f"/frames?watch={WATCH}")
        await asyncio.to_thread(converse)
        frames = await monitor.read_frames()
        writer.close()
        await writer.wait_closed()
        return [json.loads(frame.payload) for frame in frames if frame.opcode == Opcode.TEXT]

    def converse() -> None:
        with client:
            for _ in range(count // 100):
                for _ in range(100):
                    client.send(text)
                assert [client.recv(TIMEOUT) for _ in range(100)] == [text] * 100

    with echo_command() as command, command.connect(f"/echo?watch={WATCH}") as client:
        _, *reports = asyncio.run(asyncio.wait_for(watch_blindly(command), 2 * TIMEOUT))
    assert 100 < len(reports) < 2 * count
    assert reports[0]["dropped"] == 0

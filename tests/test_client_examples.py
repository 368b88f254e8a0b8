"""The examples that are clients, or show one: each a process of its own, against a server of its own."""

from __future__ import annotations

import os
import re
import signal
import socket as sockets
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as websockets_connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as websockets_serve

from wslowlevel import connect, get_messages_factory, send_message_factory

from .servers import TIMEOUT, run
from .test_examples import EXAMPLES, running
from .tls import with_a_peer_over_tls


@pytest.fixture(params=["python", "cython"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def started(command: list[str], backend: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process group of its own, which Ctrl-C reaches, and kill what is left of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command,
            env={**os.environ, "WSLOWLEVEL_BACKEND": backend, "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    watchdog = threading.Timer(2 * TIMEOUT, process.kill)
    watchdog.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        watchdog.cancel()
        watchdog.join()


def python(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def type_in(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def error_of(process: subprocess.Popen[str], status: int = 1) -> str:
    """What a process that ends by itself, without the end of its stdin, has to say."""
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait() == status
    return said


# -- The client -------------------------------------------------------------------------------------------------------


def test_the_client_sends_lines_and_prints_what_comes(backend: str) -> None:
    with running("echo_server", backend) as server, started(python("client", server.url()), backend) as client:
        assert line_of(client) == "hello from the server\n"
        for line in ("one\n", "ü\n", "\n", "x" * 200_000 + "\n"):
            type_in(client, line)
            assert line_of(client) == line
        output, errors = client.communicate("two\nwithout an end")
        assert output == "two\nwithout an end\n"
        assert errors == f"connected to {server.url()}, no extensions\nclosed: 1000\n"
        assert client.returncode == 0


def test_the_client_compresses_and_shows_binary_messages(backend: str) -> None:
    def answer(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(str(message).encode())

    with websockets_serve(answer, "127.0.0.1", 0) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        uri = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        with started(python("client", uri), backend) as client:
            type_in(client, "again " * 100 + "\n")
            output = line_of(client)  # before stdin ends: this server answers no more once it has a Close frame
            _, errors = client.communicate()
        server.shutdown()
        serving.join()
    assert output == f"binary, 600 bytes: {(b'again ' * 100)[:40]!r}\n"
    assert errors.startswith(f"connected to {uri}, permessage-deflate")
    assert errors.endswith("\nclosed: 1000\n")


def test_the_client_ends_when_the_server_closes_though_stdin_is_open(backend: str) -> None:
    with running("custom_close", backend) as server, started(python("client", server.url()), backend) as client:
        type_in(client, "bye\n")
        assert error_of(client, status=0).endswith("\nclosed: 4001 bye yourself\n")


def test_the_client_tells_in_one_line_of_a_connection_that_is_lost(backend: str) -> None:
    with running("sans_io", backend) as server, started(python("client", server.url()), backend) as client:
        type_in(client, "echo\n")
        assert line_of(client) == "echo\n"
        server.interrupt()
        _, said = error_of(client).splitlines()
        assert said.startswith("ConnectionLost: ")


def test_the_client_tells_in_one_line_that_stdin_cannot_be_read(backend: str) -> None:
    with running("echo_server", backend) as server:
        command = ["sh", "-c", 'exec "$@" 0>/dev/null', "sh", *python("client", server.url())]
        with started(command, backend) as client:
            _, said = error_of(client).splitlines()
            assert said.startswith("OSError: ")


def test_ctrl_c_ends_the_client(backend: str) -> None:
    with running("echo_server", backend) as server, started(python("client", server.url()), backend) as client:
        assert line_of(client) == "hello from the server\n"
        client.send_signal(signal.SIGINT)
        assert error_of(client, status=130) == f"connected to {server.url()}, no extensions\n"


def test_the_client_tells_in_one_line_that_it_was_refused(backend: str) -> None:
    with (
        running("routes", backend) as server,
        started(python("client", server.url("/nowhere")), backend) as client,
    ):
        said = error_of(client)
        assert re.fullmatch(r"refused with status 404: .+\n", said), said


def test_the_client_tells_in_one_line_that_there_is_no_server(backend: str) -> None:
    with sockets.socket() as bound:  # and not listening: nobody else gets this port
        bound.bind(("127.0.0.1", 0))
        uri = f"ws://127.0.0.1:{bound.getsockname()[1]}"
        with started(python("client", uri), backend) as client:
            said = error_of(client)
    assert re.fullmatch(r"ConnectionRefusedError: .+\n", said), said


def test_the_client_tells_in_one_line_of_a_uri_that_is_none() -> None:
    with started(python("client", "http://localhost"), "python") as client:
        said = error_of(client)
    assert re.fullmatch(r"ValueError: .+\n", said), said


# -- The big file -----------------------------------------------------------------------------------------------------


def test_a_big_file_goes_both_ways_in_little_memory(backend: str) -> None:
    # The shell forks before it runs the example: the peak of a process that `subprocess` starts is at first that of
    # its parent, which is this one.
    command = ["sh", "-c", '"$@"; exit $?', "sh", *python("big_file", "--size", "96")]
    with started(command, backend) as process:
        output, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
    assert re.search(r"^SHA-256 [0-9a-f]{64}: the same on both sides$", output, re.MULTILINE), output
    assert len(re.findall(rf"^(?:up|down)load: \d+ MB/s with the {backend} backend$", output, re.MULTILINE)) == 2
    peaks = re.search(r"^peak memory: client ([\d.]+) MiB, server ([\d.]+) MiB$", output, re.MULTILINE)
    assert peaks, output
    assert all(10 < float(peak) < 64 for peak in peaks.groups()), output


# -- TLS --------------------------------------------------------------------------------------------------------------


@contextmanager
def tls_server(backend: str, *arguments: str) -> Iterator[tuple[str, Path]]:
    """Run the server -> its URI, and the certificate to trust."""
    with started(python("tls_server", "--port", "0", *arguments), backend) as server:
        listening, certificate = line_of(server), line_of(server)
        assert re.fullmatch(r"listening on wss://localhost:\d+\n", listening), (listening, certificate)
        path = Path(certificate.removeprefix("certificate to trust: ").rstrip("\n"))
        yield listening.split()[-1], path
        server.send_signal(signal.SIGINT)
        assert server.communicate() == ("", "")
        assert server.returncode == 0


async def echoes_to_ours(uri: str, context: ssl.SSLContext) -> None:
    _, socket = await connect(uri, ssl=context)
    async with socket:
        messages = get_messages_factory(socket)()
        for payload in ("ü", bytes(200_000)):
            await send_message_factory(socket)(payload)
            message = await messages.__anext__()
            assert (message.text if isinstance(payload, str) else message.payload) == payload


def test_the_client_trusts_the_certificate_that_it_is_told_to(backend: str) -> None:
    with tls_server(backend) as (uri, certificate):
        with started(python("client", uri), backend) as client:
            said = error_of(client)
        assert said.startswith("SSLCertVerificationError: ")
        with started(python("client", uri, "--ca", str(certificate)), backend) as client:
            type_in(client, "over TLS\n")
            assert line_of(client) == "over TLS\n"
            _, errors = client.communicate()
            assert errors.endswith("\nclosed: 1000\n")


def test_the_client_tells_in_one_line_that_it_needs_no_certificate(tmp_path: Path) -> None:
    with started(python("client", "--ca", str(tmp_path / "none.pem")), "python") as client:
        assert re.fullmatch(r"FileNotFoundError: .+\n", error_of(client))


async def echoes_to_websockets(uri: str, context: ssl.SSLContext) -> None:
    async with websockets_connect(uri, ssl=context) as connection:
        for payload in ("ü", bytes(200_000)):
            await connection.send(payload)
            assert await connection.recv() == payload


CLIENTS = {"ours": echoes_to_ours, "websockets": echoes_to_websockets}


@with_a_peer_over_tls
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_trusts_the_certificate_is_echoed(client: str, backend: str) -> None:
    with tls_server(backend) as (uri, certificate):
        context = ssl.create_default_context(cafile=certificate)
        for host in ("localhost", "127.0.0.1"):
            run("asyncio", CLIENTS[client](uri.replace("localhost", host), context))
    assert not certificate.exists()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_does_not_trust_the_certificate_does_not_connect(client: str, backend: str) -> None:
    with tls_server(backend) as (uri, _), pytest.raises(ssl.SSLCertVerificationError):
        run("asyncio", CLIENTS[client](uri, ssl.create_default_context()))


def test_a_certificate_of_your_own(tmp_path: Path, backend: str) -> None:
    with tls_server(backend) as (_, made):
        cert, key = (tmp_path / name for name in ("cert.pem", "key.pem"))
        for copy in (cert, key):
            copy.write_bytes((made.parent / copy.name).read_bytes())
    with tls_server(backend, "--cert", str(cert), "--key", str(key)) as (uri, certificate):
        assert certificate == cert
        run("asyncio", echoes_to_ours(uri, ssl.create_default_context(cafile=cert)))
    assert cert.exists()


def test_a_certificate_needs_its_key() -> None:
    with started(python("tls_server", "--cert", "cert.pem"), "python") as server:
        assert "--cert and --key go together" in error_of(server, status=2)

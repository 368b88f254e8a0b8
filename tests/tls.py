"""TLS on both sides, with a certificate made on the spot."""

from __future__ import annotations

import functools
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

IGNORED = "ignore:Exception ignored in. <function _SSLProtocolTransport.__del__:pytest.PytestUnraisableExceptionWarning"

with_a_peer_over_tls = pytest.mark.filterwarnings(*[IGNORED] if sys.version_info < (3, 11) else [])
"""For tests of which another library is one end: with CPython 3.10 asyncio complains of its transports."""


class Certificate(NamedTuple):
    """What a server on this machine shows, and its key, in PEM. It is its own authority, which nobody else knows."""

    chain: Path
    key: Path


KEPT = tempfile.TemporaryDirectory(prefix="wslowlevel-")
"""Until the end of the process."""


@functools.cache
def certificate() -> Certificate:
    made = Certificate(Path(KEPT.name) / "cert.pem", Path(KEPT.name) / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    usage = ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]  # strict clients ask whether it may sign
    files = ["-days", "2", "-out", str(made.chain), "-keyout", str(made.key)]
    subprocess.run([*command, *names, *usage, *files], check=True, capture_output=True)
    return made


@functools.cache
def server_tls() -> ssl.SSLContext:
    """The context of a server on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate())
    return context


@functools.cache
def client_tls() -> ssl.SSLContext:
    """The context of a client that trusts it."""
    return ssl.create_default_context(cafile=certificate().chain)

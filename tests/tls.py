"""TLS on both sides, with a certificate made on the spot."""

from __future__ import annotations

import functools
import ssl
import sys

import pytest
import trustme

IGNORED = "ignore:Exception ignored in. <function _SSLProtocolTransport.__del__:pytest.PytestUnraisableExceptionWarning"

with_a_peer_over_tls = pytest.mark.filterwarnings(*[IGNORED] if sys.version_info < (3, 11) else [])
"""For tests of which another library is one end: with CPython 3.10 asyncio complains of its transports."""


@functools.cache
def authority() -> trustme.CA:
    """A certificate authority that nobody else knows."""
    return trustme.CA()


@functools.cache
def certificate() -> trustme.LeafCert:
    """What a server on this machine shows."""
    return authority().issue_cert("localhost", "127.0.0.1")


@functools.cache
def server_tls() -> ssl.SSLContext:
    """The context of a server on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate().configure_cert(context)
    return context


@functools.cache
def client_tls() -> ssl.SSLContext:
    """The context of a client that trusts it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context

"""TLS contexts and errors. A Python may have been built without TLS, so `ssl` is imported only when it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl import SSLContext

NOT_TLS = frozenset(
    ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "BAD_RECORD_TYPE", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")
)
"""Reasons that the versions of OpenSSL give when the peer's answer to the TLS handshake is not TLS."""


def check_context(context: object, name: str = "ssl") -> None:
    """Raise TypeError unless it is an SSLContext or None."""
    if context is None:
        return
    from ssl import SSLContext  # noqa: PLC0415 - a Python without TLS has none

    if not isinstance(context, SSLContext):
        raise TypeError(f"{name} must be an SSLContext or None, not {type(context).__name__}")


def context_that_trusts(file: str | None = None) -> SSLContext:
    """A client's: it trusts the certificates of a file, or whom the system trusts."""
    from ssl import create_default_context  # noqa: PLC0415 - a Python without TLS has none

    return create_default_context(cafile=file)


@contextmanager
def explaining_tls(peer: str, remedy: str) -> Iterator[None]:
    """Add to the errors of a TLS handshake that the peer may not speak TLS; their class stays the same.

    Args:
        peer: host and port, for the text.
        remedy: what to do if the peer does not speak TLS.
    """
    try:
        yield
    except ConnectionResetError as error:
        raise ConnectionResetError(
            f"{peer} ended the connection during the TLS handshake: if it does not speak TLS, {remedy}"
        ) from error
    except OSError as error:
        if getattr(error, "reason", None) not in NOT_TLS:
            raise
        raise type(error)(error.errno, f"{peer} does not speak TLS: {remedy} ({error})") from error

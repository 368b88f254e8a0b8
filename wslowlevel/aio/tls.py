"""TLS contexts. A Python may have been built without TLS, so that it is imported only where there is one to be used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ssl import SSLContext


def check_context(context: object) -> None:
    """Raise TypeError unless it is an SSLContext or None."""
    if context is not None and not isinstance(context, import_module("ssl").SSLContext):
        raise TypeError(f"ssl must be an SSLContext or None, not {type(context).__name__}")


def context_that_trusts(file: str | None = None) -> SSLContext:
    """A client's: it trusts the certificates of a file, or whom the system trusts."""
    return cast("SSLContext", import_module("ssl").create_default_context(cafile=file))

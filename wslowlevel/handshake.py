"""request -> response, on both sides of the opening handshake  (RFC 6455 §4)

Pure functions over headers: nothing here reads from or writes to a connection.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from .errors import InvalidHandshake, hide_userinfo, shown
from .extensions import Extension, ExtensionFactory, confirm_extensions, offer_extensions, parse_extensions
from .http1 import (
    HandshakeResponse,
    Headers,
    HeadersLike,
    Request,
    is_token,
    parse_header_line,
    parse_headers,
    parse_tokens,
    reason_phrase,
)
from .wire import GUID, KEY_LENGTH, VERSION

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:]+])(?::([1-9][0-9]{0,4}))?")
"""Scheme, host and port."""

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
"""16 bytes in base64 (RFC 4648 §4): 22 characters, of which the last one has 4 pad bits."""

MAX_PORT = 65535

_DEFAULT_PORTS = {("http", "80"), ("https", "443")}
"""What a browser leaves out."""

# -- The server's side (RFC 6455 §4.2) --------------------------------------------------------------------------------


def is_websocket_upgrade(request: Request) -> bool:
    """Tell whether a request asks for WebSocket, well or badly; if not, it is plain HTTP.

    An Upgrade field of HTTP/1.0 does not count (RFC 9110 §7.8).
    """
    upgrades = [token.lower() for token in parse_tokens(request.headers.get_all("Upgrade"))]
    return "websocket" in upgrades and request.http_version != "1.0"


def check_request(request: Request) -> str:
    """Check everything that RFC 6455 §4.2.1 asks of an opening handshake.

    Returns:
        The value of Sec-WebSocket-Key.

    Raises:
        InvalidHandshake: with the status to answer: 400, 405 or 426.
    """
    headers = request.headers
    if request.method != "GET":
        raise InvalidHandshake(f"method must be GET, not {shown(request.method)}", 405, [("Allow", "GET")])
    if not is_websocket_upgrade(request):
        raise upgrade_required("this resource speaks WebSocket only")
    if "upgrade" not in [token.lower() for token in parse_tokens(headers.get_all("Connection"))]:
        raise InvalidHandshake(f"Connection must hold the token Upgrade, not {shown(headers.get('Connection', ''))}")
    check_no_body(request)
    if len(headers.get_all("Host")) != 1:
        raise InvalidHandshake("exactly one Host header is required")
    if headers.get_all("Sec-WebSocket-Version") != [str(VERSION)]:
        version = headers.get("Sec-WebSocket-Version", "")
        raise upgrade_required(f"Sec-WebSocket-Version must be {VERSION}, not {shown(version)}")
    keys = headers.get_all("Sec-WebSocket-Key")
    if len(keys) != 1:
        raise InvalidHandshake(f"exactly one Sec-WebSocket-Key header is required, not {len(keys)}")
    check_key(keys[0])
    if not all(map(is_token, parse_tokens(headers.get_all("Sec-WebSocket-Protocol")))):
        raise InvalidHandshake("Sec-WebSocket-Protocol must be a list of tokens")
    parse_extensions(headers.get_all("Sec-WebSocket-Extensions"))
    return keys[0]


def check_no_body(request: Request) -> None:
    """Raise InvalidHandshake (400) if a request announces a body: its bytes would be taken for something else."""
    length = request.headers.get("Content-Length", "0")
    if "Transfer-Encoding" in request.headers or length != "0":
        raise InvalidHandshake("a request with a body is not accepted")


def upgrade_required(message: str) -> InvalidHandshake:
    """The answer to who does not speak this protocol, or another version of it (426, RFC 6455 §4.2.2, §4.4)."""
    headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", str(VERSION))]
    return InvalidHandshake(message, 426, headers)


def check_key(key: str) -> None:
    """Raise InvalidHandshake unless a Sec-WebSocket-Key is 16 bytes in base64.

    RFC 6455 §4.2.1 asks for a value that decodes to 16 bytes. Its pad bits need not be zero: the example in §4.1 has
    others. Sec-WebSocket-Accept is computed from the text of the key, so nothing depends on them.
    """
    if not _KEY.fullmatch(key):
        raise InvalidHandshake(f"Sec-WebSocket-Key must be {KEY_LENGTH} bytes in base64, not {shown(key)}")


def check_origin(request: Request, origins: Collection[str | None] | None) -> None:
    """Raise InvalidHandshake (403) unless the page that a browser connects for is an allowed one (RFC 6455 §10.2).

    Args:
        request: the client's opening handshake.
        origins: the allowed values of Origin, compared whole; None among them for a request without one. None in
            their place for any.
    """
    if origins is None:
        return
    values: list[str | None] = [*request.headers.get_all("Origin")] or [None]
    if len(values) > 1 or values[0] not in origins:
        values = [value and hide_userinfo(value) for value in values]
        raise InvalidHandshake(f"origin {', '.join(map(shown, values))} is not allowed", 403)


def check_allowed_origin(origin: str | None) -> str | None:
    """Return an origin of the caller's list (RFC 6454 §6.2).

    Raises:
        TypeError: neither a string nor None.
        ValueError: not "null" nor "file://", and not a scheme and a host in lower case, with a port where it is not the
            default one: no browser would send it, so that it would allow nobody.
    """
    if origin is None or origin in ("null", "file://"):
        return origin
    if not isinstance(origin, str):
        raise TypeError(f"origin must be str or None, not {type(origin).__name__}")
    parts = _ORIGIN.fullmatch(origin)
    if (
        parts is None
        or parts[1] in ("ws", "wss")  # no page has such an address
        or parts.groups() in _DEFAULT_PORTS
        or int(parts[2] or 0) > MAX_PORT
    ):
        raise ValueError(
            f'origin must be like "https://example.org", as a browser sends it, not {shown(hide_userinfo(origin))}'
        )
    return origin


def accept_key(key: str) -> str:
    """Sec-WebSocket-Key -> Sec-WebSocket-Accept (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + GUID, usedforsecurity=False).digest()).decode()


def choose_subprotocol(request: Request, supported: Sequence[str]) -> str | None:
    """The first subprotocol of the client's list, in its order of preference, that is among ours; else None.

    Names are compared whole and with their case (RFC 6455 §4.1, §4.2.2).
    """
    offered = parse_tokens(request.headers.get_all("Sec-WebSocket-Protocol"))
    return next((name for name in offered if name in supported), None)


def accept_request(request: Request, headers: HeadersLike = ()) -> bytes:
    """Check a request and write the 101 answer to it (RFC 6455 §4.2.2).

    Args:
        request: the client's opening handshake.
        headers: further headers, a mapping, or "Name: value" strings or (name, value) pairs. A Sec-WebSocket-Protocol
            must name one subprotocol that the client offered; Sec-WebSocket-Extensions may name extensions that it
            offered.

    Returns:
        The head of the response, to its empty line.

    Raises:
        InvalidHandshake: the request is not a valid opening handshake.
        TypeError, ValueError: one of the headers may not stand there.
    """
    key = check_request(request)
    ours = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(key)),
    ]
    theirs = parse_headers(headers)
    _check_answer(request, Headers(theirs))
    lines = [f"HTTP/1.1 101 {reason_phrase(101)}", *(f"{name}: {value}" for name, value in ours + theirs)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _check_answer(request: Request, answer: Headers) -> None:
    """What a server's own headers may not say (RFC 6455 §4.2.2)."""
    for name in ("Upgrade", "Connection", "Sec-WebSocket-Accept", "Content-Length", "Transfer-Encoding"):
        if name in answer:
            raise ValueError(f"header {name} is not the caller's to set in a 101 answer")
    chosen = answer.get_all("Sec-WebSocket-Protocol")
    offered = parse_tokens(request.headers.get_all("Sec-WebSocket-Protocol"))
    if len(chosen) > 1 or any(name not in offered for name in chosen):
        raise ValueError(f"Sec-WebSocket-Protocol must be one of {offered}, not {chosen}")
    known = {name for name, _ in parse_extensions(request.headers.get_all("Sec-WebSocket-Extensions"))}
    try:
        extensions = parse_extensions(answer.get_all("Sec-WebSocket-Extensions"))
    except InvalidHandshake as error:
        raise ValueError(f"header Sec-WebSocket-Extensions: {error}") from None
    for name, _ in extensions:
        if name not in known:
            raise ValueError(f"extension {name} is not among those offered: {sorted(known)}")


# -- The client's side (RFC 6455 §4.1) --------------------------------------------------------------------------------


def generate_key() -> str:
    """A fresh Sec-WebSocket-Key."""
    return base64.b64encode(os.urandom(KEY_LENGTH)).decode()


def encode_request(
    host: str,
    target: str = "/",
    *,
    key: str,
    subprotocols: Sequence[str] = (),
    extensions: Iterable[ExtensionFactory] = (),
    headers: HeadersLike = (),
) -> bytes:
    """Write the client's opening handshake.

    Args:
        host: the Host field, with the port where it is not the default one.
        target: path and query.
        key: from `generate_key`.
        subprotocols: names offered, in order of preference.
        extensions: what to offer, in order of preference.
        headers: further headers, a mapping, or "Name: value" strings or (name, value) pairs. A Host among them replaces
            `host`.

    Raises:
        TypeError, ValueError: an argument that would not stand in a request as one piece, or a header that may not
            stand there.
    """
    if not target.startswith("/") or any(not "!" <= character <= "~" for character in target):
        path = hide_userinfo(target).partition("?")[0]  # a query may contain a token
        raise ValueError(f"target must be a path of visible ASCII characters, not {shown(path)}")
    if isinstance(subprotocols, str):
        raise TypeError(f"subprotocols must be a sequence of strings, not the string {shown(subprotocols)}")
    if len(set(subprotocols)) != len(subprotocols) or not all(map(is_token, subprotocols)):
        raise ValueError(f"subprotocols must be distinct tokens, not {shown(list(subprotocols))}")
    theirs = parse_headers(headers)
    _check_offer(Headers(theirs))
    ours = [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", str(VERSION)),
        ("Sec-WebSocket-Protocol", ", ".join(subprotocols)),
        ("Sec-WebSocket-Extensions", offer_extensions(extensions)),
    ]
    fields = [parse_header_line(field) for field in ours if field[1] and field[0] not in Headers(theirs)] + theirs
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _check_offer(headers: Headers) -> None:
    """What a client's own headers may not say: what the handshake says itself, or that a body follows."""
    ours = ("upgrade", "connection", "content-length", "transfer-encoding")
    for name in headers:
        if name in ours or name.startswith("sec-websocket-"):
            raise ValueError(f"header {name} is not the caller's to set in an opening handshake")
    for name in ("Host", "Origin", "Authorization"):
        if len(headers.get_all(name)) > 1:
            raise ValueError(f"header {name} may stand once, not {len(headers.get_all(name))} times")


def check_response(
    response: HandshakeResponse,
    key: str,
    *,
    subprotocols: Sequence[str] = (),
    extensions: Sequence[ExtensionFactory] = (),
    body: bytes = b"",
) -> tuple[HandshakeResponse, list[Extension]]:
    """Check the server's answer (RFC 6455 §4.1).

    Args:
        response: its status and header fields.
        key: the key that the request carried.
        subprotocols, extensions: what the request offered.
        body: what came of its body, for the error to carry.

    Returns:
        (the response with the subprotocol that the server chose, the extensions agreed on).

    Raises:
        InvalidHandshake: the answer does not open a WebSocket connection; status and headers are the answer's own.
    """
    try:
        _check_upgrade(response, key)
        chosen = _chosen_subprotocol(response.headers, subprotocols)
        agreed = confirm_extensions(response.headers.get_all("Sec-WebSocket-Extensions"), extensions)
    except InvalidHandshake as error:
        raise InvalidHandshake(str(error), response.status, response.headers.raw(), body) from None
    return replace(response, subprotocol=chosen), agreed


def _check_upgrade(response: HandshakeResponse, key: str) -> None:
    headers = response.headers
    if response.status != 101:
        raise InvalidHandshake(f"server answered {response.status} where 101 opens a connection")
    if [token.lower() for token in parse_tokens(headers.get_all("Upgrade"))] != ["websocket"]:
        raise InvalidHandshake(f"Upgrade must be websocket, not {shown(headers.get('Upgrade', ''))}")
    if "upgrade" not in [token.lower() for token in parse_tokens(headers.get_all("Connection"))]:
        raise InvalidHandshake(f"Connection must hold the token Upgrade, not {shown(headers.get('Connection', ''))}")
    if headers.get_all("Sec-WebSocket-Accept") != [accept_key(key)]:
        raise InvalidHandshake("Sec-WebSocket-Accept does not answer the key that was sent")


def _chosen_subprotocol(headers: Headers, offered: Sequence[str]) -> str | None:
    chosen = headers.get_all("Sec-WebSocket-Protocol")
    if len(chosen) > 1 or any(name not in offered for name in chosen):
        raise InvalidHandshake(f"server chose subprotocol {chosen}, offered were {list(offered)}")
    return chosen[0] if chosen else None

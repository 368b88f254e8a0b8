"""bytes -> Request, Response -> bytes: as much of HTTP/1.1 as the opening handshake needs  (RFC 9112)

The parsing is h11's; the limits are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import h11

from .errors import InvalidHandshake, shown

MAX_HEADERS_SIZE = 64 * 1024
"""Bytes of a request line and its headers together."""

MAX_HEADER_LINE = 8 * 1024
"""Bytes of one header line, and of the request target."""

MAX_HEADERS = 128
"""Header lines of one request."""

BODILESS = frozenset((204, 304))
"""Statuses of responses without a body, and without a Content-Length (RFC 9110 §8.6)."""

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""The characters of a token (RFC 9110 §5.6.2)."""


# -- Requests and responses -------------------------------------------------------------------------------------------


class Headers(Mapping[str, str]):
    """Header fields: names in any case, values as `str`, in their order on the wire.

    ``headers[name]`` joins the values of a repeated field with ", " (RFC 9110 §5.3); `get_all` keeps them apart.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = tuple(fields)

    def get_all(self, name: str) -> list[str]:
        """Every value of a field, in order; an empty list if it is missing."""
        wanted = name.lower()
        return [value for name, value in self._fields if name.lower() == wanted]

    def raw(self) -> tuple[tuple[str, str], ...]:
        """Every (name, value), repeated fields included."""
        return self._fields

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self._fields))

    def __len__(self) -> int:
        return len(set(self))

    def __repr__(self) -> str:
        return f"Headers({list(self._fields)!r})"


@dataclass(frozen=True, eq=False)
class Request:
    """An HTTP request without its body.

    Attributes:
        method: "GET" for every valid upgrade.
        target: what stands in the request line, query included: "/chat?room=1".
        headers: its header fields.
        http_version: "1.1" for every valid upgrade.
    """

    method: str
    target: str
    headers: Headers = field(default_factory=Headers)
    http_version: str = "1.1"


@dataclass(frozen=True)
class Response:
    """An HTTP response.

    Attributes:
        status: 200 to 599.
        headers: (name, value) pairs; Content-Length and Connection are added.
        body: bytes.
    """

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


def parse_request(head: bytes) -> Request:
    """Parse a complete request head, up to and with its empty line.

    Raises:
        InvalidHandshake: not HTTP/1.1, or over a limit (400, 431).
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADERS_SIZE)
    try:
        connection.receive_data(head)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise InvalidHandshake(f"malformed request: {error}", error.error_status_hint) from None
    if not isinstance(event, h11.Request):
        raise InvalidHandshake("malformed request: its head is not complete")
    return request_from_h11(event)


def request_from_h11(event: h11.Request) -> Request:
    """Take over what h11 parsed, within the limits of this library.

    Raises:
        InvalidHandshake: too many or too long headers (431), or a body where none is read (400).
    """
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers.raw_items()]
    if len(fields) > MAX_HEADERS:
        raise InvalidHandshake(f"{len(fields)} headers: {MAX_HEADERS} are allowed", 431)
    size = len(event.target) + sum(len(name) + len(value) for name, value in fields)
    if size > MAX_HEADERS_SIZE:
        raise InvalidHandshake(f"request head of over {size} bytes: {MAX_HEADERS_SIZE} are allowed", 431)
    longest = max((len(name) + len(value) for name, value in fields), default=0)
    if longest > MAX_HEADER_LINE or len(event.target) > MAX_HEADER_LINE:
        raise InvalidHandshake(f"header or target over {MAX_HEADER_LINE} bytes", 431)
    return Request(event.method.decode(), event.target.decode("latin-1"), Headers(fields), event.http_version.decode())


def encode_response(response: Response, *, method: str = "GET") -> bytes:
    """Write a whole response, after which the connection is closed.

    Raises:
        ValueError: a header that is not well-formed, a status out of range, a body where the status has none.
    """
    check_status(response)
    headers = [parse_header_line(header) for header in response.headers]
    connection = h11.Connection(h11.SERVER)
    asked = "HEAD" if method == "HEAD" else "GET"
    connection.receive_data(f"{asked} / HTTP/1.1\r\nHost: -\r\nConnection: close\r\n\r\n".encode())
    connection.next_event()
    length = [] if response.status in BODILESS else [("Content-Length", str(len(response.body)))]
    head = h11.Response(
        status_code=response.status,
        headers=[*headers, *length, ("Connection", "close")],
        reason=reason_phrase(response.status).encode(),
    )
    parts = [connection.send(head)]
    if method != "HEAD" and response.body:
        parts.append(connection.send(h11.Data(data=response.body)))
    parts.append(connection.send(h11.EndOfMessage()))
    return b"".join(part for part in parts if part)


def response_to(error: InvalidHandshake) -> Response:
    """The answer that an error asks for."""
    return Response(error.status, [("Content-Type", "text/plain; charset=utf-8"), *error.headers], error.body)


def reason_phrase(status: int) -> str:
    """The registered phrase of a status, "" if it has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def check_status(response: Response) -> None:
    """Raise ValueError unless this is a final answer, with a body only where there may be one."""
    if not 200 <= response.status <= 599:
        raise ValueError(f"status must be from 200 to 599, not {response.status}")
    if response.body and response.status in BODILESS:
        raise ValueError(f"a response with status {response.status} has no body, not {len(response.body)} bytes")


# -- Lists in headers (RFC 9110 §5.6) ---------------------------------------------------------------------------------


def parse_tokens(values: Iterable[str]) -> list[str]:
    """Split comma-separated values into their elements, in order: ``["keep-alive, Upgrade"]`` has two."""
    return [element for value in values for part in value.split(",") if (element := part.strip(" \t"))]


def is_token(text: str) -> bool:
    """Tell whether this is a token (RFC 9110 §5.6.2)."""
    return bool(text) and _TOKEN.issuperset(text)


# -- Headers of the caller --------------------------------------------------------------------------------------------


def parse_header_line(header: str | tuple[str, str]) -> tuple[str, str]:
    """Take a "Name: value" string or a (name, value) pair, and make sure that it is one header and no more.

    Raises:
        TypeError: neither of the two.
        ValueError: a name that is no token, or a value with a line break or another control character.
    """
    if isinstance(header, str):
        name, colon, value = header.partition(":")
        if not colon:
            raise ValueError(f'header must be "Name: value", not {shown(header)}')
    elif isinstance(header, tuple) and len(header) == 2 and all(isinstance(part, str) for part in header):
        name, value = header
    else:
        raise TypeError(f"header must be a string or a pair of strings, not {shown(header)}")
    value = value.strip(" \t")
    if not is_token(name):
        raise ValueError(f"header name must be a token, not {shown(name)}")
    if any(
        character != "\t" and not " " <= character <= "~" and not "\x80" <= character <= "\xff" for character in value
    ):
        raise ValueError(f"header value must be visible ASCII or Latin-1, not {shown(value)}")
    return name, value

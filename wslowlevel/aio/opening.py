"""The client's opening handshake on one connection: the request, and what becomes of the answer (RFC 6455 §4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from ..errors import ConnectionLost, InvalidHandshake
from ..extensions import Extension, ExtensionFactory
from ..handshake import check_response, encode_request, generate_key
from ..http1 import DEFAULT_HEAD_LIMITS, HandshakeResponse, HeadLimits, ResponseReader
from ..uri import WebSocketURI
from .socket import Socket

PRIVATE = frozenset(("authorization", "cookie", "host", "proxy-authorization"))
"""Headers that are meant for one server: a redirect to another server does not take them along."""


@dataclass
class Offer:
    """One opening handshake. A redirect makes another one of it.

    Attributes:
        uri: where to connect to.
        headers: further headers. They are not shown, because they may contain cookies and passwords.
        subprotocols, extensions: offered.
        key: the value of Sec-WebSocket-Key.
        request: the bytes to send.
    """

    uri: WebSocketURI
    headers: Sequence[tuple[str, str]] = field(repr=False)
    subprotocols: Sequence[str]
    extensions: Sequence[ExtensionFactory]
    key: str = field(default_factory=generate_key, repr=False)
    request: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        headers = list(self.headers)
        if self.uri.authorization is not None and not any(name.lower() == "authorization" for name, _ in headers):
            headers.append(("Authorization", self.uri.authorization))
        self.request = encode_request(
            self.uri.authority,
            self.uri.resource_name,
            key=self.key,
            subprotocols=self.subprotocols,
            extensions=self.extensions,
            headers=headers,
        )

    def check(self, response: HandshakeResponse, body: bytes) -> tuple[HandshakeResponse, list[Extension]]:
        """See :func:`wslowlevel.handshake.check_response`."""
        return check_response(response, self.key, subprotocols=self.subprotocols, extensions=self.extensions, body=body)

    def redirected(self, response: HandshakeResponse) -> Offer:
        """Return the offer for the URI that a response leads to; InvalidHandshake if it may not be followed."""
        try:
            uri = self.uri.redirected(response.headers["Location"])
            if self.uri.secure and not uri.secure:
                raise ValueError(f"{uri.origin} is not secure, as {self.uri.origin} was")
        except ValueError as error:
            raise refused_redirect(response, str(error)) from None
        headers = self.headers
        if uri.origin != self.uri.origin:
            headers = [(name, value) for name, value in headers if name.lower() not in PRIVATE]
        return Offer(uri, headers, self.subprotocols, self.extensions)


def refused_redirect(response: HandshakeResponse, reason: str) -> InvalidHandshake:
    return InvalidHandshake(f"redirect is not followed: {reason}", response.status, response.headers.raw(), body=b"")


class Opening(asyncio.Protocol):
    """One connection until its answer is complete; a good one makes it a Socket.

    Attributes:
        socket: what the connection became, None unless the answer was good.
    """

    def __init__(
        self,
        offer: Offer,
        follows: bool,
        make_socket: Callable[..., Socket],
        limits: HeadLimits = DEFAULT_HEAD_LIMITS,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.socket: Socket | None = None
        self._offer = offer
        self._follows = follows
        self._make_socket = make_socket
        self._reader = ResponseReader(limits=limits)
        self._answered = False  # True once any byte has arrived
        self._outcome: HandshakeResponse | Exception | None = None
        self._transport: asyncio.Transport | None = None
        self._known: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()

    async def ask(self) -> HandshakeResponse:
        """Send the request, and wait for the response that opens the connection, or the redirect to follow.

        Raises:
            InvalidHandshake: any other response.
            ConnectionLost: none.
        """
        if self._outcome is None:
            assert self._transport is not None
            self._transport.write(self._offer.request)
            await self._known
        if isinstance(self._outcome, HandshakeResponse):
            return self._outcome
        assert self._outcome is not None
        raise self._outcome

    def refusal(self) -> InvalidHandshake | None:
        """Return the error for a refusal whose body is still arriving, None for anything else."""
        try:
            if self._reader.response is not None:
                self._offer.check(self._reader.response, self._reader.body)
        except InvalidHandshake as error:
            return error
        return None

    def abort(self) -> None:
        """End the connection at once, if there is one."""
        if self.socket is not None:
            self.socket.abort()
        elif self._transport is not None:
            self._transport.abort()

    async def drop(self) -> None:
        """End the connection at once, and wait until it is gone."""
        self.abort()
        if self.socket is not None:
            await self.socket.wait_closed()
        elif self._transport is not None:
            await self._closed

    # -- Called by the transport --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._answered = True
        if self._outcome is not None:
            return
        try:
            self._reader.feed(data)
            self._take_answer()
        except Exception as error:  # noqa: BLE001 - of the server, or of an extension: connect() raises it
            self._settle(error)

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        if not self._closed.done():
            self._closed.set_result(None)

    def _take_answer(self) -> None:
        response = self._reader.response
        if response is not None and self._follows and response.redirects:
            self._settle(response)
        elif response is not None and self._reader.complete:
            response, extensions = self._offer.check(response, self._reader.body)
            self._hand_over(extensions)
            self._settle(response)

    def _hand_over(self, extensions: Sequence[Extension]) -> None:
        assert self._transport is not None
        self.socket = self._make_socket(early=self._reader.early)
        self._transport.set_protocol(self.socket)
        self.socket.connection_made(self._transport)
        self.socket.opened(extensions)

    def _end(self, cause: Exception | None) -> None:
        if self._outcome is not None:
            return
        uri = self._offer.uri
        # A server that expects TLS may answer the request with an alert, or just with the end of the connection.
        hint = "" if self._answered or uri.secure else ": if it expects TLS, use wss://"
        lost = ConnectionLost(f"{uri.origin} ended the connection before it answered the opening handshake{hint}")
        lost.__cause__ = cause
        self._settle(self.refusal() or lost)

    def _settle(self, outcome: HandshakeResponse | Exception) -> None:
        self._outcome = outcome
        if not self._known.done():  # by a cancelled task
            self._known.set_result(None)

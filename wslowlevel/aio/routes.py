"""Make a transport to the host of a URI: over TCP, through a proxy, a Unix socket, or a socket of the caller."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..uri import WebSocketURI
from .happy_eyeballs import Dialing, connect_tcp
from .opening import Opening
from .options import TLS_OPTIONS
from .proxies import Proxy, connect_proxy, connect_through_tls
from .tls import check_context, context_that_trusts, explaining_tls

if TYPE_CHECKING:
    from ssl import SSLContext


@dataclass(frozen=True)
class Route:
    """How to reach the host of a URI.

    Attributes:
        ssl: the context for ``wss://``, None for the default one.
        dialing: for connections over TCP, to the host or to a proxy.
        sock, path, proxy: what to use instead of a connection over TCP to the host; at most one of them.
        tls_options: of asyncio's `create_connection`.
    """

    ssl: SSLContext | None = None
    dialing: Dialing = field(default_factory=Dialing)
    sock: sockets.socket | None = None
    path: str | None = None
    proxy: Proxy | None = field(default=None, repr=False)
    tls_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def check(self, uri: WebSocketURI) -> None:
        """Raise TypeError or ValueError unless the arguments fit together."""
        check_context(self.ssl)
        if self.ssl is not None and not uri.secure:
            raise ValueError("ssl is for wss:// only, uri has ws://")
        ways = {"sock": self.sock, "path": self.path, "proxy": self.proxy}
        given = [name for name, way in ways.items() if way is not None]
        if len(given) > 1:
            raise ValueError(f"sock, path and proxy are mutually exclusive, got {' and '.join(given)}")
        local_addr = self.dialing.local_addr
        if local_addr is not None and not (isinstance(local_addr, (tuple, list)) and len(local_addr) >= 2):
            raise TypeError(f"local_addr must be (host, port), got {type(local_addr).__name__}")
        if local_addr is not None and given in (["sock"], ["path"]):
            raise ValueError(f"local_addr is for a connection over TCP, not for {given[0]}")

    async def connect(self, uri: WebSocketURI, opening: Opening) -> None:
        """Make a transport for an opening handshake.

        If this fails or is cancelled, the transport, if there is one, has been aborted.

        Raises:
            OSError: no connection.
        """
        options = self._options(uri)
        if self.proxy is not None and self.proxy.uri.scheme == "https":
            await connect_through_tls(self.proxy, uri, self.dialing, opening, options)
            return
        if self.path is not None:
            with explaining_tls(f"path {self.path}", "use ws://"):
                await asyncio.get_running_loop().create_unix_connection(lambda: opening, self.path, **options)
            return
        sock = self.sock
        if self.proxy is not None:
            sock = await connect_proxy(self.proxy, uri, self.dialing)
        elif sock is None:
            sock = await connect_tcp(uri.host, uri.port, self.dialing)
        try:
            with explaining_tls(f"{uri.host}:{uri.port}", "use ws://"):
                await asyncio.get_running_loop().create_connection(lambda: opening, sock=sock, **options)
        except BaseException:
            opening.abort()  # first: a transport must not be left with a closed socket in the selector
            sock.close()
            # In the next turn the timers of TLS stop. uvloop may never call connection_lost() here: do not wait for it.
            await asyncio.sleep(0)
            raise

    def _options(self, uri: WebSocketURI) -> dict[str, Any]:
        """Return the options of `create_connection` for TLS."""
        if uri.secure:
            context = context_that_trusts() if self.ssl is None else self.ssl
            return {"server_hostname": uri.host, **self.tls_options, "ssl": context}
        for name in TLS_OPTIONS & self.tls_options.keys():
            if self.tls_options[name] is not None:
                raise ValueError(f"{name} is for wss:// only, uri has ws://")
        return {}

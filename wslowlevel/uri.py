"""str -> where to connect, and what to ask for there  (RFC 6455 §3, RFC 3986)"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field, replace
from ipaddress import AddressValueError, IPv6Address
from typing import Any
from urllib.parse import unquote, urljoin

from .errors import shown

PORTS = {"ws": 80, "wss": 443}
"""The default port of each scheme (RFC 6455 §3)."""

OF_HTTP = {"http": "ws", "https": "wss"}
"""A redirect names the resource as HTTP does."""

PROXIES = ("http", "https", "socks5", "socks5h")
"""Schemes of proxies; socks5h leaves it to the proxy to look up the host."""

_URI = re.compile(
    r"(?P<scheme>[A-Za-z][0-9A-Za-z+.-]*)://"
    r"(?:(?P<userinfo>[0-9A-Za-z._~!$&'()*+,;=:%-]*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^][:/?#@]+)"
    r"(?::(?P<port>[0-9]{0,5}))?"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?P<fragment>#.*)?"
)

_START = re.compile(r"(?:[^:/@]*:)?//")
"""Matches the part of a URI before its user name."""

_REMEDIES = {
    "uri": {"http": "ws", "https": "wss"},
    "proxy": {"ws": "http", "wss": "https"},
}
"""The scheme to use instead of one that is often confused with it."""

_HOST = re.compile(r"[0-9A-Za-z._-]+")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


@dataclass(frozen=True)
class WebSocketURI:
    """A WebSocket URI, taken apart (RFC 6455 §3).

    Attributes:
        secure: whether the scheme is wss.
        host: a name or an address in ASCII; an IPv6 address has no brackets.
        port: 1 to 65535, the default one of the scheme where the URI has none.
        resource_name: path and query, as they stand in the request line.
        authorization: what the user name and password of the URI make of the Authorization header, None without them.
    """

    secure: bool
    host: str
    port: int
    resource_name: str = "/"
    authorization: str | None = field(default=None, repr=False)

    @property
    def scheme(self) -> str:
        return "wss" if self.secure else "ws"

    @property
    def authority(self) -> str:
        """The value of Host: the port only where it is not the default one (RFC 6455 §4.1)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port: what two URIs have in common that lead to the same server (RFC 6454 §4)."""
        return f"{self.scheme}://{self.authority}"

    def redirected(self, location: str) -> WebSocketURI:
        """Where a Location header leads from here (RFC 9110 §10.2.2); http and https stand for ws and wss there.

        A fragment is dropped; user name and password stay with their origin.

        Raises:
            ValueError: no URI, one of another scheme, or one with a user name, which only hides where it leads
                (RFC 9110 §4.2.4).
        """
        _check_characters("Location", location)
        if not location.isascii():
            raise ValueError(f"Location must be ASCII, not {_shown_uri(location)}")
        try:
            joined = urljoin(self.origin + self.resource_name, location.partition("#")[0])
        except ValueError:  # its text may contain a piece of a password
            raise ValueError(
                f"Location may have brackets only around an IPv6 address, not as in {_shown_uri(location)}"
            ) from None
        scheme, colon, rest = joined.partition(":")
        try:
            uri = parse_uri(OF_HTTP.get(scheme.lower(), scheme) + colon + rest)
        except ValueError:
            if "@" not in location:
                raise
            # What is left without the fragment may end inside a password.
            raise ValueError(f"Location must be a URI, not {_shown_uri(location)}") from None
        if uri.authorization is not None:
            raise ValueError(f"Location has a user name: {_shown_uri(location)}")
        return replace(uri, authorization=self.authorization) if uri.origin == self.origin else uri


@dataclass(frozen=True)
class ProxyURI:
    """The URI of a proxy, taken apart.

    Attributes:
        scheme: one of PROXIES.
        host, port: where it listens.
        username, password: None where the URI has none.
    """

    scheme: str
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def authorization(self) -> str | None:
        """The value of Proxy-Authorization, None without a user name (RFC 9110 §11.7.2)."""
        return None if self.username is None else _basic(self.username, self.password or "")


def parse_uri(uri: str) -> WebSocketURI:
    """Take a ``ws://`` or ``wss://`` URI apart.

    Percent-encoding stays as it is. A host that is not ASCII is written as IDNA (RFC 3490) says, a path or query that
    is not as the percent-encoding of its UTF-8 (RFC 3987 §3.1).

    Raises:
        TypeError: not a `str`.
        ValueError: not a URI, another scheme, a fragment, or a space or control character anywhere.
    """
    parts = _take_apart("uri", uri, tuple(PORTS))
    if parts["fragment"] is not None:
        raise ValueError(f"uri has the fragment {_shown_part(uri, parts['fragment'])}: none is allowed (RFC 6455 §3)")
    scheme = parts["scheme"].lower()
    resource_name = (parts["path"] or "/") + (f"?{parts['query']}" if parts["query"] else "")
    return WebSocketURI(
        secure=scheme == "wss",
        host=_parse_host("uri", uri, parts["host"]),
        port=_parse_port("uri", uri, parts["port"] or str(PORTS[scheme])),
        resource_name=_NOT_ASCII.sub(lambda found: _percent_encoded(found[0]), resource_name),
        authorization=None if parts["userinfo"] is None else _basic(*_credentials("uri", parts["userinfo"])),
    )


def parse_proxy(proxy: str) -> ProxyURI:
    """Take the URI of a proxy apart: ``http://[user:password@]host:port``, or the same with https, socks5 or
    socks5h.

    Raises:
        TypeError: not a `str`.
        ValueError: not a URI, another scheme, no port, or anything behind it.
    """
    parts = _take_apart("proxy", proxy, PROXIES)
    if parts["path"] not in (None, "/") or parts["query"] is not None or parts["fragment"] is not None:
        raise ValueError(f"proxy ends with its port, not as in {_shown_uri(proxy)}")
    username, password = (None, None) if parts["userinfo"] is None else _credentials("proxy", parts["userinfo"])
    # RFC 1929 §2 has one byte for the length; python-socks writes ASCII.
    if parts["scheme"].lower().startswith("socks") and any(
        len(each) > 255 or not each.isascii() for each in (username or "", password or "")
    ):
        raise ValueError("proxy must have a user name and a password of at most 255 ASCII characters for SOCKS")
    port = _parse_port("proxy", proxy, parts["port"] or "")
    return ProxyURI(parts["scheme"].lower(), _parse_host("proxy", proxy, parts["host"]), port, username, password)


# -- The parts of a URI -----------------------------------------------------------------------------------------------


def _take_apart(name: str, uri: str, schemes: tuple[str, ...]) -> dict[str, Any]:
    """Return the groups of _URI, None for those that are missing; errors do not show user name and password."""
    if not isinstance(uri, str):
        hint = (
            "decode it first" if isinstance(uri, (bytes, bytearray)) else f'pass text, like "{schemes[0]}://host:port"'
        )
        raise TypeError(f"{name} must be str, not {type(uri).__name__}: {hint}")
    _check_characters(name, uri)
    match = _URI.fullmatch(uri)
    if match is None:
        hint = "" if "://" in uri else f": start it with {schemes[0]}://"
        raise ValueError(f"{name} must be scheme://host:port and what follows, not {_shown_uri(uri)}{hint}")
    scheme = match["scheme"].lower()
    if scheme not in schemes:
        remedy = _REMEDIES[name].get(scheme)
        hint = "" if remedy is None else f": use {remedy}://"
        raise ValueError(
            f"{name} must have one of the schemes {', '.join(schemes)}, not {shown(match['scheme'])}{hint}"
        )
    return match.groupdict()


def _check_characters(name: str, text: str) -> None:
    for index, character in enumerate(text):
        if character == " " or not character.isprintable():
            raise ValueError(f"{name} has a space or a control character at index {index}: {_shown_uri(text)}")


def _parse_host(name: str, uri: str, host: str) -> str:
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1]).compressed
        written = host.encode("idna").decode().lower()
    except (AddressValueError, UnicodeError):
        raise ValueError(
            f"{name} has the host {_shown_part(uri, host)}: it is neither a name nor an IP address"
        ) from None
    if not _HOST.fullmatch(written):
        raise ValueError(f"{name} has the host {_shown_part(uri, host)}: letters, digits, '-', '_' and '.' are allowed")
    return written


def _parse_port(name: str, uri: str, port: str) -> int:
    if not port or not 1 <= int(port) <= 65535:
        raise ValueError(f"{name} must have a port from 1 to 65535, not {_shown_part(uri, port)}")
    return int(port)


# -- URIs in errors ---------------------------------------------------------------------------------------------------


def without_userinfo(uri: str) -> str:
    """Remove user name and password from a URI, valid or not, so that it can be shown.

    Everything between ``//`` and the last ``@`` is removed, or everything before the last ``@`` if the text does not
    begin with ``//`` or a scheme and ``//``.
    """
    before, at, after = uri.rpartition("@")
    if not at:
        return uri
    start = _START.match(before)
    return after if start is None else start[0] + after


def _shown_uri(uri: str) -> str:
    """Return a URI as an error text shows it, without user name, password and query, which may contain a token."""
    return shown(re.sub(r"\?.+", "?...", without_userinfo(uri), count=1, flags=re.DOTALL))


def _shown_part(uri: str, part: str) -> str:
    """Return a part of a URI as an error text shows it.

    A password with "/", "?" or "#" in it makes the user name look like the host, and its own beginning like the port.
    """
    return shown(part) if part in without_userinfo(uri) else "one that may be part of a password"


def _percent_encoded(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _credentials(name: str, userinfo: str) -> tuple[str, str]:
    username, _, password = userinfo.partition(":")
    try:
        decoded = unquote(username, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"{name} has a user name or a password that is not UTF-8") from None
    # "The user-id and password MUST NOT contain any control characters" (RFC 7617 §2)
    if ":" in decoded[0] or not "".join(decoded).isprintable():
        raise ValueError(f"{name} has a colon in the user name, or a control character in it or in the password")
    return decoded


def _basic(username: str, password: str) -> str:
    """Basic credentials (RFC 7617 §2)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

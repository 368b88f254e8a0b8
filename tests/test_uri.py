"""WebSocket URIs, and those of proxies, taken apart (RFC 6455 §3)."""

from __future__ import annotations

import traceback
from urllib.parse import urlsplit

import pytest

from wslowlevel.uri import ProxyURI, WebSocketURI, parse_proxy, parse_uri, without_userinfo

BASIC = "Basic dXNlcjpwYXNz"
"""user:pass (RFC 7617 §2)."""


@pytest.mark.parametrize(
    ("uri", "secure", "host", "port", "resource_name", "authority"),
    [
        ("ws://example.com", False, "example.com", 80, "/", "example.com"),
        ("ws://example.com/", False, "example.com", 80, "/", "example.com"),
        ("ws://example.com:80/chat", False, "example.com", 80, "/chat", "example.com"),
        ("ws://example.com:/chat", False, "example.com", 80, "/chat", "example.com"),
        ("ws://example.com:443/", False, "example.com", 443, "/", "example.com:443"),
        ("wss://example.com", True, "example.com", 443, "/", "example.com"),
        ("wss://example.com:80/", True, "example.com", 80, "/", "example.com:80"),
        ("WSS://Example.COM/A/b", True, "example.com", 443, "/A/b", "example.com"),
        ("ws://h?a=b", False, "h", 80, "/?a=b", "h"),
        ("ws://h/p?a=b&c=/?d", False, "h", 80, "/p?a=b&c=/?d", "h"),
        ("ws://h/p?", False, "h", 80, "/p", "h"),
        ("ws://h/%2F%zz/../;x", False, "h", 80, "/%2F%zz/../;x", "h"),
        ("ws://h/ü?q=€", False, "h", 80, "/%C3%BC?q=%E2%82%AC", "h"),
        ("ws://bücher.example:81/", False, "xn--bcher-kva.example", 81, "/", "xn--bcher-kva.example:81"),
        ("ws://a_b-c.example./", False, "a_b-c.example.", 80, "/", "a_b-c.example."),
        ("ws://127.0.0.1:8765/", False, "127.0.0.1", 8765, "/", "127.0.0.1:8765"),
        ("ws://[::1]/", False, "::1", 80, "/", "[::1]"),
        ("wss://[2001:DB8:0::1]:9000/", True, "2001:db8::1", 9000, "/", "[2001:db8::1]:9000"),
        ("ws://h:65535/", False, "h", 65535, "/", "h:65535"),
    ],
)
def test_the_parts_of_a_uri(uri: str, secure: bool, host: str, port: int, resource_name: str, authority: str) -> None:
    parsed = parse_uri(uri)
    assert parsed == WebSocketURI(secure, host, port, resource_name)
    assert parsed.authority == authority
    assert parsed.origin == ("wss://" if secure else "ws://") + authority


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("", "must be scheme://host"),
        ("example.com", "must be scheme://host"),
        ("localhost:8765", "must be scheme://host.*, not 'localhost:8765': start it with ws://"),
        ("ws:example.com", "must be scheme://host"),
        ("ws:///path", "must be scheme://host"),
        ("//h/", "must be scheme://host"),
        ("http://h/", "schemes ws, wss, not 'http': use ws://"),
        ("HTTPS://h/", "schemes ws, wss, not 'HTTPS': use wss://"),
        ("wsx://h/", "schemes ws, wss, not 'wsx'"),
        ("ws://h/#a", "fragment '#a'"),
        ("ws://h/#", "fragment '#'"),
        ("ws://h?q#a", "fragment '#a'"),
        ("ws://h:0/", "port from 1 to 65535, not '0'"),
        ("ws://h:65536/", "port from 1 to 65535, not '65536'"),
        ("ws://h:655360/", "must be scheme://host"),
        ("ws://h:8x/", "must be scheme://host"),
        ("ws://h:-1/", "must be scheme://host"),
        ("ws://h:٣/", "must be scheme://host"),
        ("ws://a b/", "space or a control character at index 6: 'ws://a b/'"),
        ("ws://h/a b", "space or a control character"),
        (" ws://h/", "space or a control character"),
        ("ws://h/\r\nX: y", "space or a control character"),
        ("ws://h\r\n/", "space or a control character"),
        ("ws://h/a\tb", "space or a control character"),
        ("ws://h/a\x00b", "space or a control character"),
        ("ws://h/a\x7fb", "space or a control character"),
        ("ws://h/a\x85b", "space or a control character"),
        ("ws://h/a\ud800b", "space or a control character"),
        ("ws://a%2Fb/", "the host 'a%2Fb'"),
        ("ws://a\\b/", "the host"),
        ("ws://a|b/", "the host 'a|b'"),
        ("ws://a..b/", "the host 'a..b'"),
        ("ws://a\N{FULLWIDTH SOLIDUS}b/", "the host"),
        (f"ws://{'a' * 64}.example/", "the host"),
        ("ws://[::1/", "must be scheme://host"),
        ("ws://::1/", "must be scheme://host"),
        ("ws://[:::1]/", "the host '\\[:::1\\]'"),
        ("ws://[127.0.0.1]/", "the host"),
        ("ws://[fe80::1%25eth0]/", "must be scheme://host"),
        ("ws://good.example\\@evil.example/", "must be scheme://host"),
        ("ws://a@b@c/", "must be scheme://host"),
        ("ws://a%3Ab:c@h/", "colon in the user name"),
        ("ws://a:%0D@h/", "a control character"),
        ("ws://a:%FF@h/", "not UTF-8"),
    ],
)
def test_what_is_no_websocket_uri(uri: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^uri .*{text}"):
        parse_uri(uri)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        (b"ws://h/", "not bytes: decode it first"),
        (None, "not NoneType: pass text, like"),
        (5, "not int: pass text, like"),
        (urlsplit("ws://h/"), 'not SplitResult: pass text, like "ws://host:port"'),
    ],
)
def test_a_uri_that_is_not_text_is_a_type_error_with_a_remedy(uri: object, text: str) -> None:
    with pytest.raises(TypeError, match=f"uri must be str, {text}"):
        parse_uri(uri)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("userinfo", "authorization"),
    [
        ("user:pass", BASIC),
        ("us%65r:p%61ss", BASIC),
        ("user", "Basic dXNlcjo="),
        (":pass", "Basic OnBhc3M="),
        ("user:pa:ss", "Basic dXNlcjpwYTpzcw=="),
        ("%C3%BC:%E2%82%AC%20x", "Basic w7w64oKsIHg="),
    ],
)
def test_user_name_and_password_become_a_header(userinfo: str, authorization: str) -> None:
    parsed = parse_uri(f"ws://{userinfo}@h:81/")
    assert (parsed.authorization, parsed.authority) == (authorization, "h:81")


@pytest.mark.parametrize(
    "uri", ["wss://user:secret@h/ x", "ws://user:secret@h:x/", "ws://user:secret@h|/", "ws://user:secret@h:0/"]
)
def test_no_error_shows_a_password(uri: str) -> None:
    with pytest.raises(ValueError, match="uri") as caught:
        parse_uri(uri)
    assert "secret" not in str(caught.value)
    assert "Basic" not in repr(parse_uri("ws://user:secret@h/"))


# -- Redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "origin", "resource_name"),
    [
        ("/c", "ws://h:81", "/c"),
        ("c", "ws://h:81", "/a/c"),
        ("../c?d", "ws://h:81", "/c?d"),
        ("?d", "ws://h:81", "/a/b?d"),
        ("", "ws://h:81", "/a/b?q"),
        ("#f", "ws://h:81", "/a/b?q"),
        ("//g/c", "ws://g", "/c"),
        ("http://h:81/c", "ws://h:81", "/c"),
        ("http://h/c#f", "ws://h", "/c"),
        ("https://h/c", "wss://h", "/c"),
        ("HTTPS://h:81/c", "wss://h:81", "/c"),
        ("ws://h/c", "ws://h", "/c"),
        ("wss://[::1]/c", "wss://[::1]", "/c"),
    ],
)
def test_where_a_location_leads(location: str, origin: str, resource_name: str) -> None:
    uri = parse_uri("ws://user:pass@h:81/a/b?q").redirected(location)
    assert (uri.origin, uri.resource_name) == (origin, resource_name)
    assert uri.authorization == (BASIC if origin == "ws://h:81" else None)


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("ftp://h/", "schemes"),
        ("mailto:a", "scheme://host"),
        ("http:c", "scheme://host"),
        ("http:///c", "scheme://host"),
        ("http://h:99999/", "port"),
        ("http://[::1/", "IPv6"),
        ("/a b", "space"),
        ("/a\tb", "space or a control"),
        ("/ü", "ASCII"),
        ("http://user:secret@h/", "user name"),
        ("http://user:secret@h:81/", "user name"),
        ("/a, /b", "space"),
    ],
)
def test_a_location_that_leads_nowhere(location: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        parse_uri("ws://user:pass@h:81/").redirected(location)
    assert "secret" not in str(caught.value)


def test_a_redirect_from_an_ipv6_address() -> None:
    assert parse_uri("ws://[::1]:81/a").redirected("/b") == WebSocketURI(False, "::1", 81, "/b")


# -- Proxies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxy", "parts"),
    [
        ("http://h:3128", ("http", "h", 3128, None, None)),
        ("socks5://H:1080/", ("socks5", "h", 1080, None, None)),
        ("SOCKS5H://[::1]:1080", ("socks5h", "::1", 1080, None, None)),
        ("http://user:p%40ss@h:80", ("http", "h", 80, "user", "p@ss")),
        ("https://user:p%40ss@h:443", ("https", "h", 443, "user", "p@ss")),
    ],
)
def test_the_parts_of_a_proxy(proxy: str, parts: tuple[str, str, int, str | None, str | None]) -> None:
    parsed = parse_proxy(proxy)
    assert parsed == ProxyURI(*parts)
    assert "p@ss" not in repr(parsed)


@pytest.mark.parametrize(
    ("proxy", "text"),
    [
        ("h:3128", "scheme://host.*: start it with http://"),
        ("ws://h:3128", "schemes http, https, socks5, socks5h, not 'ws': use http://"),
        ("socks4://h:1080", "schemes http, https, socks5, socks5h, not 'socks4'"),
        ("http://h", "port from 1 to 65535, not ''"),
        ("http://h:", "port from 1 to 65535, not ''"),
        ("http://h:80/p", "ends with its port"),
        ("http://u:secret@h:80?q", "ends with its port"),
        ("http://h:80#f", "ends with its port"),
        ("http://h\r\n:80", "control character"),
    ],
)
def test_what_is_no_proxy(proxy: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^proxy .*{text}") as caught:
        parse_proxy(proxy)
    assert "secret" not in str(caught.value)


def test_a_proxy_is_text() -> None:
    with pytest.raises(TypeError, match="proxy must be str, not bytes"):
        parse_proxy(b"http://h:80")  # type: ignore[arg-type]


# -- Secrets ----------------------------------------------------------------------------------------------------------

SECRET = "s3cr3t"

MALFORMED = [
    "{}://user:S/x@h:80",
    "{}://user:S?x@h:80",
    "{}://user:S#x@h:80",
    "{}://user:x/S@h:80",
    "{}://user:1#S@h:80",
    "{}://user:99999?S@h:80",
    "{}://user:S@x@h:80",
    "{}://S@x:y@h:80",
    "{}://user:x//S@h:80",
    "{}://user:S[x]@h:80",
    "{}://user:[S]@h:80",
    "{}://[S]:x@h:80",
    "{}://user:S|@h:80",
    "{}://user:S%FF@h:80",
    "{}://user:S%00@h:80",
    "{}://us%3AerS:x@h:80",
    "{}://user:S \u00fc@h:80",
    "{}://user:S\n@h:80",
    "{}://user:S@h:0",
    "{}://user:S@h:99999",
    "{}://user:S@h:x",
    "{}://user:S@h|:80",
    "{}://user:S@h:80/ x",
    "{}://user:S@[::x]:80",
    "x{}://user:S@h:80",
    "{}:user:S@h:80",
    "{}:/user:S@h:80",
    "user:S@h:80",
    "user:S//x@h:80",
    "//user:S@h:80",
    "S@h:80",
    "{}://user:S@h:80#f",
    "{}://h:80/ ?token=S",
]


def shown_by(error: BaseException) -> str:
    """Return every text that a log or a debugger shows of an error and of those that led to it."""
    texts = ["".join(traceback.format_exception(type(error), error, error.__traceback__))]
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is not None:
            texts += [str(each), repr(each)]
            pending += [each.__cause__, None if each.__suppress_context__ else each.__context__]
    return "\n".join(texts)


@pytest.mark.parametrize("uri", MALFORMED)
def test_no_error_of_a_uri_shows_its_user_name_password_or_query(uri: str) -> None:
    given = uri.format("ws").replace("S", SECRET)
    with pytest.raises(ValueError, match="uri") as caught:
        parse_uri(given)
    assert SECRET not in shown_by(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
@pytest.mark.parametrize("uri", MALFORMED)
def test_no_error_of_a_proxy_shows_its_user_name_or_password(uri: str, scheme: str) -> None:
    given = uri.format(scheme).replace("S", SECRET)
    with pytest.raises(ValueError, match="proxy") as caught:
        parse_proxy(given)
    assert SECRET not in shown_by(caught.value)


@pytest.mark.parametrize("location", [uri for uri in MALFORMED if "?" not in uri])
def test_no_error_of_a_location_shows_its_user_name_or_password(location: str) -> None:
    given = location.format("http").replace("S", SECRET)
    try:
        parse_uri("ws://h/").redirected(given)
    except ValueError as error:
        assert SECRET not in shown_by(error)


@pytest.mark.parametrize("credentials", ["S:x", "x:S", "S"])
def test_no_repr_shows_user_name_or_password(credentials: str) -> None:
    userinfo = credentials.replace("S", SECRET)
    assert SECRET not in repr(parse_uri(f"ws://{userinfo}@h/"))
    assert SECRET not in repr(parse_proxy(f"http://{userinfo}@h:80"))


@pytest.mark.parametrize("password", ["p%C3%A4ss", "x" * 256])
def test_credentials_that_socks_cannot_send_are_refused(password: str) -> None:
    with pytest.raises(ValueError, match="255 ASCII characters for SOCKS"):
        parse_proxy(f"socks5://user:{password}@h:80")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("ws://h/p?q", "ws://h/p?q"),
        ("ws://u:p@h/p", "ws://h/p"),
        ("http://user:s3/cret@proxy:3128", "http://proxy:3128"),
        ("http://u:a@b?c#d@proxy:3128", "http://proxy:3128"),
        ("//u:p@h", "//h"),
        ("u:p@h:80", "h:80"),
        ("u:p//x@h:80", "h:80"),
        ("http:u:p@h", "h"),
        ("ws://u:p\n@h", "ws://h"),
        ("", ""),
        ("@", ""),
        ("x" * 100_000, "x" * 100_000),
    ],
)
def test_without_userinfo_removes_everything_before_the_last_at_sign(uri: str, shown: str) -> None:
    assert without_userinfo(uri) == shown

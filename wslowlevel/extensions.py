"""offers and answers -> the extensions of a connection, and what they do with its messages  (RFC 6455 §9)

An extension is two classes: an :class:`ExtensionFactory`, which speaks for it in the opening handshake, and an
:class:`Extension`, which is made for each connection that agreed on it. permessage-deflate (`deflate.py`) comes in
through this door as any other does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from .errors import InvalidHandshake, shown
from .http1 import is_token

Parameters = Sequence[tuple[str, str | None]]
"""(name, value) of each parameter of an extension, in order; the value is None for a name that stands alone."""

Transform = Callable[[bytes, bool], Iterable[bytes]]
"""What an extension does with the payload of one message, a piece at a time: (piece, whether it is the last) -> the
pieces that come of it. The result may be a generator: a receiver that finds it over its limit takes no more of it."""


class Extension(ABC):
    """An extension at work on one connection, where it sees every data message, and no control frame.

    Attributes:
        rsv: the reserved bits (:class:`wslowlevel.Rsv`) that mark its messages, on the frame that opens them; 0 for an
            extension that needs no mark. One that makes of text what is not UTF-8 needs one: text without a mark is
            judged as it stands on the wire.
    """

    rsv: int = 0

    @abstractmethod
    def decoder(self, opcode: int, rsv: int) -> Transform | None:
        """Begin to receive a message.

        Args:
            opcode: 1 for text, 2 for binary.
            rsv: those of its bits that the message carries.

        Returns:
            What undoes its work, None to leave the message as it is. A payload that it cannot have made is a
            :class:`ProtocolError`, by its `close_code` usually 1007 (RFC 6455 §7.4.1).
        """

    @abstractmethod
    def encoder(self, opcode: int, size: int | None, wanted: bool | None) -> Transform | None:
        """Begin to send a message.

        Args:
            opcode: 1 for text, 2 for binary.
            size: bytes of the payload, None for one that comes in pieces.
            wanted: what the sender said of this message, see :meth:`wslowlevel.Socket.send_message`; None for nothing.

        Returns:
            What does its work, None to leave the message as it is, without its bits.
        """

    def note_foreign(self) -> None:  # noqa: B027 - nothing to do for an extension without memory
        """A message with its bits goes out that it did not make; what it remembers of those before no longer holds."""


class ExtensionFactory(ABC):
    """What speaks for an extension in the opening handshake (RFC 6455 §9.1); serves any number of connections.

    Attributes:
        name: the token that stands in Sec-WebSocket-Extensions.
    """

    name: str

    @abstractmethod
    def offer(self) -> Parameters:
        """As a client: the parameters to offer."""

    @abstractmethod
    def accept(self, offered: Parameters) -> tuple[Parameters, Extension] | None:
        """As a server: the parameters to answer and the extension agreed on; None to decline this offer."""

    @abstractmethod
    def confirm(self, answered: Parameters) -> Extension:
        """As a client: the extension agreed on.

        Raises:
            InvalidHandshake: an answer that the offer does not allow.
        """


def check_factories(extensions: Iterable[ExtensionFactory]) -> tuple[ExtensionFactory, ...]:
    """Return the extension factories of the caller.

    Raises:
        TypeError: not an iterable, or an item is not an ExtensionFactory; a class instead of an instance, for example.
    """
    if isinstance(extensions, (str, bytes)) or not isinstance(extensions, Iterable):
        hint = f": pass [{extensions.__name__}()]" if isinstance(extensions, type) else ": pass a list"
        got = extensions.__name__ if isinstance(extensions, type) else type(extensions).__name__
        raise TypeError(f"extensions must be an iterable of ExtensionFactory instances, got {got}{hint}")
    factories = tuple(extensions)
    for factory in factories:
        if isinstance(factory, type):
            raise TypeError(
                f"extensions must contain instances, got the class {factory.__name__}: pass {factory.__name__}()"
            )
        if not isinstance(factory, ExtensionFactory):
            raise TypeError(f"extensions must contain ExtensionFactory instances, got {type(factory).__name__}")
    return factories


# -- Negotiation (RFC 6455 §9.1) --------------------------------------------------------------------------------------


def accept_extensions(values: Iterable[str], factories: Sequence[ExtensionFactory]) -> tuple[str, list[Extension]]:
    """As a server: agree on extensions.

    Args:
        values: of the request's Sec-WebSocket-Extensions.
        factories: what we speak; several of one name are several ways to speak it. The client's order of preference
            decides; each name is agreed on once at most, and only while its reserved bits are free.

    Returns:
        (the value to answer, "" for none; the extensions, in that order).

    Raises:
        InvalidHandshake: a header that does not follow the grammar.
    """
    answers: list[str] = []
    extensions: list[Extension] = []
    unused = list(factories)
    for name, offered in parse_extensions(values):
        for factory in [each for each in unused if each.name == name]:
            accepted = factory.accept(offered)
            if accepted is not None and not accepted[1].rsv & claimed(extensions):
                answers.append(format_extension(name, accepted[0]))
                extensions.append(accepted[1])
                unused = [each for each in unused if each.name != name]
                break
    return ", ".join(answers), extensions


def offer_extensions(factories: Iterable[ExtensionFactory]) -> str:
    """As a client: the value of Sec-WebSocket-Extensions that offers them in this order of preference, "" for none."""
    return ", ".join(format_extension(factory.name, factory.offer()) for factory in factories)


def confirm_extensions(values: Iterable[str], factories: Sequence[ExtensionFactory]) -> list[Extension]:
    """As a client: check what the server agreed on.

    Args:
        values: of the response's Sec-WebSocket-Extensions.
        factories: what was offered; several of one name are several offers, of which one may be answered.

    Raises:
        InvalidHandshake: an extension that was not offered, one twice, an answer that the offer does not allow, or two
            extensions with the same reserved bits.
    """
    extensions: list[Extension] = []
    unused = list(factories)
    for name, answered in parse_extensions(values):
        offers = [each for each in unused if each.name == name]
        if not offers:
            raise InvalidHandshake(
                f"server chose extension {name}, left to choose were {[each.name for each in unused]}"
            )
        extension = _confirm(offers, answered)
        unused = [each for each in unused if each.name != name]
        if extension.rsv & claimed(extensions):
            raise InvalidHandshake(f"server chose extension {name}, whose reserved bits another one has")
        extensions.append(extension)
    return extensions


def _confirm(offers: Sequence[ExtensionFactory], answered: Parameters) -> Extension:
    """Of several offers of one extension, the first that the answer fits is the one it answers."""
    *preferred, last = offers
    for factory in preferred:
        with suppress(InvalidHandshake):
            return factory.confirm(answered)
    return last.confirm(answered)


def claimed(extensions: Iterable[Extension]) -> int:
    """The reserved bits that extensions claim together."""
    bits = 0
    for extension in extensions:
        bits |= extension.rsv
    return bits


# -- Sec-WebSocket-Extensions (RFC 6455 §9.1) -------------------------------------------------------------------------


def format_extension(name: str, parameters: Parameters = ()) -> str:
    """Write one extension as it stands in Sec-WebSocket-Extensions.

    Raises:
        ValueError: a name or a value that is no token.
    """
    parts = [name, *(part for parameter in parameters for part in parameter if part is not None)]
    for part in parts:
        if not is_token(part):
            raise ValueError(f"name and parameters of an extension must be tokens, not {shown(part)}")
    return "; ".join([name, *(key if value is None else f"{key}={value}" for key, value in parameters)])


def parse_extensions(values: Iterable[str]) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """Parse Sec-WebSocket-Extensions (RFC 6455 §9.1).

    Returns:
        [(name, [(parameter, value or None), ...]), ...] in order of preference.

    Raises:
        InvalidHandshake: a header that does not follow the grammar.
    """
    return [_parse_extension(text) for value in values for text in _split(value, ",") if text.strip(" \t")]


def _parse_extension(text: str) -> tuple[str, list[tuple[str, str | None]]]:
    name, *parameters = [part.strip(" \t") for part in _split(text, ";")]
    parsed = [_parse_parameter(parameter) for parameter in parameters]
    if not is_token(name):
        raise InvalidHandshake(f"extension name is not a token: {shown(name)}")
    return name, parsed


def _parse_parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    name, value = name.rstrip(" \t"), value.lstrip(" \t")
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = _unescape(value[1:-1])
    # "the value after quoted-string unescaping MUST conform to the 'token' ABNF" (§9.1)
    if not is_token(name) or (equals and not is_token(value)):
        raise InvalidHandshake(f"extension parameter is not well-formed: {shown(text)}")
    return name, value if equals else None


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator that does not stand inside a quoted string; one pass, whatever the text."""
    parts, start, quoted, escaped = [], 0, False, False
    for i, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character == separator:
            parts.append(text[start:i])
            start = i + 1
    if quoted:
        raise InvalidHandshake(f"quoted string has no end: {shown(text)}")
    return [*parts, text[start:]]


def _unescape(text: str) -> str:
    characters = iter(text)
    return "".join(next(characters, "") if character == "\\" else character for character in characters)

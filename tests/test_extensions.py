"""The door for extensions: how they are agreed on in the opening handshake (RFC 6455 §9.1)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from wslowlevel import InvalidHandshake
from wslowlevel.extensions import (
    Extension,
    ExtensionFactory,
    Parameters,
    Transform,
    accept_extensions,
    claimed,
    confirm_extensions,
    format_extension,
    offer_extensions,
    parse_extensions,
)
from wslowlevel.wire import Rsv


class Shift(Extension):
    """Adds a number to each byte of a message that it marks."""

    def __init__(self, by: int, rsv: int) -> None:
        self.by = by
        self.rsv = rsv

    def decoder(self, opcode: int, rsv: int) -> Transform | None:
        return self._shift(-self.by) if rsv or not self.rsv else None

    def encoder(self, opcode: int, size: int | None, wanted: bool | None) -> Transform | None:
        return None if wanted is False else self._shift(self.by)

    def _shift(self, by: int) -> Transform:
        return lambda piece, _: [bytes((byte + by) % 256 for byte in piece)]


class ShiftFactory(ExtensionFactory):
    """Speaks for `Shift`: offers one number, accepts some."""

    def __init__(self, name: str, by: int, *, accepts: Sequence[int] = (), rsv: int = 0) -> None:
        self.name = name
        self.by = by
        self.accepts = accepts or [by]
        self.rsv = rsv

    def offer(self) -> Parameters:
        return [("by", str(self.by)), ("once", None)]

    def accept(self, offered: Parameters) -> tuple[Parameters, Extension] | None:
        by = int(dict(offered).get("by") or 0)
        return ([("by", str(by))], Shift(by, self.rsv)) if by in self.accepts else None

    def confirm(self, answered: Parameters) -> Extension:
        if list(answered) != [("by", str(self.by))]:
            raise InvalidHandshake(f"by must be {self.by}, not {dict(answered).get('by')}")
        return Shift(self.by, self.rsv)


A1 = ShiftFactory("a", 1, rsv=Rsv.RSV1)
A2 = ShiftFactory("a", 2, rsv=Rsv.RSV1)
A12 = ShiftFactory("a", 1, accepts=[1, 2], rsv=Rsv.RSV1)
B1 = ShiftFactory("b", 1, rsv=Rsv.RSV1)
B2 = ShiftFactory("b", 2, rsv=Rsv.RSV2 | Rsv.RSV3)
C1 = ShiftFactory("c", 1)
C2 = ShiftFactory("c", 2)


def shifts(extensions: Sequence[Extension]) -> list[tuple[int, int]]:
    return [(extension.by, extension.rsv) for extension in extensions if isinstance(extension, Shift)]


# -- The server's side ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "factories", "answer", "agreed"),
    [
        ([], [A1], "", []),
        (["a; by=1"], [], "", []),
        (["z"], [A1], "", []),
        (["a; by=1"], [A1], "a; by=1", [(1, 4)]),
        (["a; by=1; once"], [A1], "a; by=1", [(1, 4)]),
        (["A; by=1"], [A1], "", []),
        (["a; by=9"], [A1], "", []),
        # the client's order decides, over all values of the header
        (["a; by=1, b; by=2"], [B2, A1], "a; by=1, b; by=2", [(1, 4), (2, 3)]),
        (["b; by=2", "a; by=1"], [A1, B2], "b; by=2, a; by=1", [(2, 3), (1, 4)]),
        # offers of one name are alternatives
        (["a; by=2, a; by=1"], [A1], "a; by=1", [(1, 4)]),
        (["a; by=2, a; by=1"], [A12], "a; by=2", [(2, 4)]),
        (["a; by=2, a; by=1"], [A1, A2], "a; by=2", [(2, 4)]),
        (["c; by=1, c; by=2"], [C1, C2], "c; by=1", [(1, 0)]),
        (["c; by=1, c; by=1"], [C1], "c; by=1", [(1, 0)]),
        # a reserved bit belongs to one of them
        (["a; by=1, b; by=1"], [A1, B1], "a; by=1", [(1, 4)]),
        (["b; by=1, a; by=1"], [A1, B1], "b; by=1", [(1, 4)]),
        (["a; by=1, c; by=1, b; by=2"], [A1, B2, C1], "a; by=1, c; by=1, b; by=2", [(1, 4), (1, 0), (2, 3)]),
    ],
)
def test_what_a_server_accepts(
    values: list[str], factories: list[ExtensionFactory], answer: str, agreed: list[tuple[int, int]]
) -> None:
    answered, extensions = accept_extensions(values, factories)
    assert (answered, shifts(extensions)) == (answer, agreed)


def test_a_server_refuses_a_header_that_does_not_follow_the_grammar() -> None:
    with pytest.raises(InvalidHandshake, match="not well-formed") as caught:
        accept_extensions(["a; by="], [A1])
    assert caught.value.status == 400


# -- The client's side ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factories", "offer"),
    [
        ([], ""),
        ([A1], "a; by=1; once"),
        ([B2, A2, A1], "b; by=2; once, a; by=2; once, a; by=1; once"),
    ],
)
def test_what_a_client_offers(factories: list[ExtensionFactory], offer: str) -> None:
    assert offer_extensions(factories) == offer


@pytest.mark.parametrize(
    ("values", "factories", "agreed"),
    [
        ([], [], []),
        ([], [A1], []),
        (["a; by=1"], [A1, B2], [(1, 4)]),
        (["a; by=1", "b; by=2"], [A1, B2], [(1, 4), (2, 3)]),
        (["b; by=2, a; by=1"], [A1, B2], [(2, 3), (1, 4)]),
        # which of several offers was accepted shows by what the answer says
        (["a; by=1"], [A1, A2], [(1, 4)]),
        (["a; by=2"], [A1, A2], [(2, 4)]),
    ],
)
def test_what_a_client_confirms(
    values: list[str], factories: list[ExtensionFactory], agreed: list[tuple[int, int]]
) -> None:
    assert shifts(confirm_extensions(values, factories)) == agreed


@pytest.mark.parametrize(
    ("values", "factories", "text"),
    [
        (["a; by=1"], [], r"chose extension a, left to choose were \[\]"),
        (["b; by=1"], [A1], r"chose extension b, left to choose were \['a'\]"),
        (["A; by=1"], [A1], r"chose extension A, left to choose were \['a'\]"),
        (["a; by=1, a; by=1"], [A1], r"chose extension a, left to choose were \[\]"),
        (["a; by=1, a; by=2"], [A1, A2, C1], r"chose extension a, left to choose were \['c'\]"),
        (["a; by=9"], [A1], "by must be 1, not 9"),
        (["a; by=9"], [A1, A2], "by must be 2, not 9"),
        (["a; by=1, b; by=1"], [A1, B1], "chose extension b, whose reserved bits another one has"),
        (['a; by="'], [A1], "no end"),
    ],
)
def test_what_a_client_refuses(values: list[str], factories: list[ExtensionFactory], text: str) -> None:
    with pytest.raises(InvalidHandshake, match=text):
        confirm_extensions(values, factories)


@pytest.mark.parametrize("factories", [[A1], [A1, B2], [A2, A1, C1], [B1, C2]])
def test_both_sides_agree(factories: list[ExtensionFactory]) -> None:
    answer, server = accept_extensions([offer_extensions(factories)], factories)
    assert shifts(confirm_extensions([answer], factories)) == shifts(server)
    assert len(server) == len({factory.name for factory in factories})


# -- Header and bits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("a", (), "a"),
        ("a", [("b", None)], "a; b"),
        ("x-a", [("b", "1"), ("c", None), ("b", "2")], "x-a; b=1; c; b=2"),
    ],
)
def test_one_extension_as_it_is_written(name: str, parameters: Parameters, text: str) -> None:
    assert format_extension(name, parameters) == text
    assert parse_extensions([text]) == [(name, list(parameters))]


@pytest.mark.parametrize(
    ("name", "parameters", "wrong"),
    [
        ("", (), "''"),
        ("a b", (), "'a b'"),
        ("a", [("", None)], "''"),
        ("a", [("b;c", None)], "'b;c'"),
        ("a", [("b", "")], "''"),
        ("a", [("b", "1, c")], "'1, c'"),
        ("a", [("b", '"1"')], "'\"1\"'"),
        ("a", [("b", "1\r\nX: y")], r"'1\\r\\nX: y'"),
        ("a", [("b", "é")], "'é'"),
    ],
)
def test_what_cannot_be_written(name: str, parameters: Parameters, wrong: str) -> None:
    with pytest.raises(ValueError, match=f"must be tokens, not {wrong}"):
        format_extension(name, parameters)


@pytest.mark.parametrize(
    ("factories", "bits"), [([], 0), ([C1], 0), ([A1], Rsv.RSV1), ([A1, B2], Rsv.RSV1 | Rsv.RSV2 | Rsv.RSV3)]
)
def test_the_bits_that_extensions_claim_together(factories: list[ExtensionFactory], bits: int) -> None:
    _, extensions = accept_extensions([offer_extensions(factories)], factories)
    assert claimed(extensions) == bits


# -- What an extension does to messages -------------------------------------------------------------------------------


@pytest.mark.parametrize("rsv", [0, Rsv.RSV1])
def test_an_extension_undoes_its_own_work(rsv: int) -> None:
    extension: Extension = Shift(3, rsv)
    encode = extension.encoder(1, 5, None)
    assert encode is not None
    sent = b"".join(encode(b"Hello", True))
    decode = extension.decoder(1, rsv)
    assert decode is not None
    assert (sent, b"".join(decode(sent, True))) == (b"Khoor", b"Hello")


def test_an_extension_leaves_alone_what_it_did_not_mark() -> None:
    extension: Extension = Shift(3, Rsv.RSV1)
    assert extension.decoder(1, 0) is None
    assert extension.encoder(1, 5, False) is None


def test_an_extension_without_memory_need_not_care_for_foreign_messages() -> None:
    extension = Shift(3, Rsv.RSV1)
    extension.note_foreign()
    assert vars(extension) == {"by": 3, "rsv": Rsv.RSV1}


@pytest.mark.parametrize("kind", [Extension, ExtensionFactory])
def test_what_an_extension_must_bring(kind: type[object]) -> None:
    with pytest.raises(TypeError, match="abstract"):
        kind()

"""How long does it take to validate a text as UTF-8?"""

from __future__ import annotations

import pytest

from .peers import Case, cases

ALPHABETS = {"ASCII": "hello, ", "Cyrillic": "привет ", "Chinese": "你好世界", "emoji": "😀🎉🚀", "mixed": "a é 好 😀 "}
"""Characters of one byte, of two, of three, of four, and of all."""


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("size", [16, 125, 1024, 64 * 1024])
@pytest.mark.parametrize("contender", cases("utf8"))
def test_utf8(contender: Case, size: int, alphabet: str, about, benchmark) -> None:
    text = text_of(alphabet, size)
    about("utf8", f"{len(text):,} bytes, {alphabet}", size=len(text), alphabet=alphabet)
    validate = contender.build()
    assert accepts(validate, text)
    assert not accepts(contender.build(), text + b"\xff")
    benchmark(validate, text)


def text_of(alphabet: str, size: int) -> bytes:
    """At most `size` bytes of whole characters."""
    letters = ALPHABETS[alphabet]
    return (letters * size).encode()[:size].decode(errors="ignore").encode()


def accepts(validate, text: bytes) -> bool:
    try:
        result = validate(text)
    except ValueError:
        return False
    except Exception as error:  # noqa: BLE001
        assert type(error).__name__ == "ProtocolError", error
        return False
    return not (isinstance(result, tuple) and result[0] is False)

"""Masking against its definition (RFC 6455 §5.3), in every place and by every kernel."""

from __future__ import annotations

import array
import ctypes
import functools
import itertools
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from .conftest import Both
from .vectors import KEY, naive_mask, patterned

PHASES = range(4)
LENGTHS = (*range(301), *range(510, 515), 575, 576, 577, 1000)  # from 512 on, blocks that begin at a cache line
ALIGNMENTS = range(64)
LARGE = (*range(500, 525), 1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536, 65537)
GUARD = b"\xa5" * 64

naive = functools.lru_cache(maxsize=None)(naive_mask)


def test_copies(codec: ModuleType, kernels: Iterator[str]) -> None:
    source = patterned(max(LENGTHS))
    for kernel in kernels:
        assert codec.kernel() == kernel
        for length, phase in itertools.product(LENGTHS, PHASES):
            masked = naive(source[:length], KEY, phase)
            assert codec.apply_mask(source[:length], KEY, phase) == masked, (kernel, length, phase)
            assert codec.apply_mask(masked, KEY, phase) == source[:length]


def in_guards(payloads: list[bytes], alignment: int) -> tuple[bytearray, list[slice]]:
    """All payloads in one memory, each at this distance from a multiple of 64 and between guards; where they are."""
    memory, places = bytearray(), []
    for payload in payloads:
        memory += GUARD[len(memory) % 64 :] + GUARD + GUARD[:alignment]
        places.append(slice(len(memory), len(memory) + len(payload)))
        memory += payload
    return memory + GUARD, places


def test_in_place_at_every_alignment(codec: ModuleType, kernels: Iterator[str]) -> None:
    """Nothing beside a payload is written, whatever its length and place (P4, CVE-2017-18922)."""
    payloads = [patterned(length) for length in LENGTHS]
    for kernel in kernels:
        assert codec.kernel() == kernel
        for alignment, phase in itertools.product(ALIGNMENTS, PHASES):
            memory, places = in_guards(payloads, alignment)
            with memoryview(memory) as view:
                for place in places:
                    with view[place] as target:
                        codec.apply_mask_inplace(target, KEY, phase)
            masked, _ = in_guards([naive(payload, KEY, phase) for payload in payloads], alignment)
            assert memory == masked, (kernel, alignment, phase)


def test_copies_from_every_alignment(codec: ModuleType, kernels: Iterator[str]) -> None:
    """A copy is masked, and its source and what stands beside it are as they were."""
    payloads = [patterned(length) for length in LENGTHS]
    for kernel in kernels:
        for alignment, phase in itertools.product(ALIGNMENTS, PHASES):
            memory, places = in_guards(payloads, alignment)
            with memoryview(memory) as view:
                copies = [codec.apply_mask(view[place], KEY, phase) for place in places]
            assert copies == [naive(payload, KEY, phase) for payload in payloads], (kernel, alignment, phase)
            assert memory == in_guards(payloads, alignment)[0]


def test_bytes_that_everybody_shares_stay_as_they_are(codec: ModuleType, kernels: Iterator[str]) -> None:
    """There is one `bytes` object of each single byte: a result never is, or changes, another's."""
    for _ in kernels:
        for value in range(256):
            assert codec.apply_mask(bytes([value]), KEY) == bytes([value ^ KEY[0]])
        assert [bytes([value])[0] for value in range(256)] == list(range(256))
        assert codec.apply_mask(b"", KEY) == b""


@pytest.mark.parametrize("length", LARGE)
def test_large(codec: ModuleType, kernels: Iterator[str], length: int) -> None:
    source = patterned(length)
    for kernel in kernels:
        for phase in PHASES:
            masked = naive(source, KEY, phase)
            memory = bytearray(source)
            codec.apply_mask_inplace(memory, KEY, phase)
            assert codec.apply_mask(source, KEY, phase) == memory == masked, (kernel, phase)


def test_a_key_of_zeros_and_an_empty_payload_change_nothing(codec: ModuleType) -> None:
    assert codec.apply_mask(b"as it is", bytes(4)) == b"as it is"
    assert codec.apply_mask(b"", KEY) == b""
    assert codec.apply_mask_inplace(bytearray(), KEY) is None


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 513, 1000])
def test_pieces_continue_the_key(codec: ModuleType, size: int) -> None:
    source = patterned(2000)
    pieces = [codec.apply_mask(source[at : at + size], KEY, at) for at in range(0, len(source), size)]
    assert b"".join(pieces) == naive(source, KEY)


@pytest.mark.parametrize("offset", [*range(9), 2**31 + 1, 2**32 + 2, 2**63 - 1])
def test_offset(codec: ModuleType, offset: int) -> None:
    assert codec.apply_mask(patterned(50), KEY, offset) == naive(patterned(50), KEY, offset % 4)


# -- Any C-contiguous buffer ------------------------------------------------------------------------------------------

WRITABLE: dict[str, Callable[[], object]] = {
    "bytearray": lambda: bytearray(patterned(24)),
    "memoryview": lambda: memoryview(bytearray(patterned(24))),
    "slice of a memoryview": lambda: memoryview(bytearray(patterned(27)))[1:25],
    "array of ints": lambda: array.array("I", patterned(24)),
    "array of doubles": lambda: array.array("d", patterned(24)),
    "ctypes array": lambda: (ctypes.c_ubyte * 24)(*patterned(24)),
    "ctypes array of shorts": lambda: (ctypes.c_short * 12).from_buffer_copy(patterned(24)),
    "ctypes structure": lambda: ctypes.c_uint64(int.from_bytes(patterned(8), "little")),
    "two dimensions": lambda: memoryview(bytearray(patterned(24))).cast("B", (4, 6)),
    "three dimensions of ints": lambda: memoryview(bytearray(patterned(24))).cast("I", (1, 2, 3)),
    "signed chars": lambda: memoryview(bytearray(patterned(24))).cast("b"),
    "one of every second": lambda: memoryview(bytearray(patterned(24)))[::2][:1],
    "nothing": lambda: array.array("I"),
    "nothing in two dimensions": ctypes.c_int * 0 * 3,
}
READ_ONLY: dict[str, Callable[[], object]] = {
    "bytes": lambda: patterned(24),
    "read-only memoryview": lambda: memoryview(patterned(24)),
    "read-only two dimensions": lambda: memoryview(patterned(24)).cast("H", (3, 4)),
}


@pytest.mark.parametrize("make", [*WRITABLE.values(), *READ_ONLY.values()], ids=[*WRITABLE, *READ_ONLY])
def test_copy_of_any_buffer(codec: ModuleType, make: Callable[[], bytes]) -> None:
    data = make()
    before = memoryview(data).tobytes()
    masked = codec.apply_mask(data, KEY, 3)
    assert type(masked) is bytes
    assert masked == naive(before, KEY, 3)
    assert memoryview(data).tobytes() == before


@pytest.mark.parametrize("make", WRITABLE.values(), ids=WRITABLE)
def test_any_writable_buffer_in_place(codec: ModuleType, make: Callable[[], bytearray]) -> None:
    buffer = make()
    before = memoryview(buffer).tobytes()
    codec.apply_mask_inplace(buffer, KEY, 1)
    assert memoryview(buffer).tobytes() == naive(before, KEY, 1)


@pytest.mark.parametrize("make", [lambda: KEY, lambda: bytearray(KEY), lambda: array.array("I", KEY)])
def test_any_buffer_as_a_key(codec: ModuleType, make: Callable[[], bytes]) -> None:
    assert codec.apply_mask(b"payload", make()) == naive(b"payload", KEY)


def test_the_buffer_is_released(codec: ModuleType) -> None:
    data, key = bytearray(b"payload"), bytearray(KEY)
    codec.apply_mask(data, key)
    codec.apply_mask_inplace(data, key)
    for offset in (-1, "0"):
        with pytest.raises((TypeError, ValueError)):
            codec.apply_mask_inplace(data, key, offset)
    data.append(0)  # a BufferError while anyone holds it
    key.append(0)


# -- Wrong arguments: the same error in both --------------------------------------------------------------------------

WRONG: dict[str, tuple[type[Exception], str, Callable[[], tuple[object, ...]]]] = {
    "str": (TypeError, "must be bytes-like, not str: encode it first", lambda: ("text", KEY)),
    "int": (TypeError, "must be bytes-like, not int", lambda: (5, KEY)),
    "None": (TypeError, "must be bytes-like, not NoneType", lambda: (None, KEY)),
    "list": (TypeError, "must be bytes-like, not list", lambda: ([1, 2], KEY)),
    "strided": (ValueError, "must be a C-contiguous buffer", lambda: (memoryview(bytearray(9))[::2], KEY)),
    "reversed": (ValueError, "must be a C-contiguous buffer", lambda: (memoryview(bytearray(9))[::-1], KEY)),
    "key of 3 bytes": (ValueError, "a masking key has 4 bytes, not 3", lambda: (bytearray(9), b"abc")),
    "key of 5 bytes": (ValueError, "a masking key has 4 bytes, not 5", lambda: (bytearray(9), b"abcde")),
    "empty key": (ValueError, "a masking key has 4 bytes, not 0", lambda: (bytearray(9), b"")),
    "key is str": (TypeError, "key must be bytes-like, not str: encode it first", lambda: (bytearray(9), "abcd")),
    "key is None": (TypeError, "key must be bytes-like, not NoneType", lambda: (bytearray(9), None)),
    "strided key": (ValueError, "key must be a C-contiguous buffer", lambda: (bytearray(9), memoryview(KEY * 2)[::2])),
    "negative offset": (ValueError, "offset must be from 0 to", lambda: (bytearray(9), KEY, -1)),
    "huge offset": (ValueError, "offset must be from 0 to", lambda: (bytearray(9), KEY, 2**63)),
    "offset is a float": (TypeError, "offset must be an integer, not float", lambda: (bytearray(9), KEY, 1.0)),
    "offset is None": (TypeError, "offset must be an integer, not NoneType", lambda: (bytearray(9), KEY, None)),
}


def refusal(function: Callable[..., object], *arguments: object) -> tuple[type[BaseException], str]:
    with pytest.raises((TypeError, ValueError)) as caught:
        function(*arguments)
    return caught.type, str(caught.value)


@pytest.mark.parametrize("name", ["apply_mask", "apply_mask_inplace"])
@pytest.mark.parametrize(("kind", "text", "arguments"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(
    both: Both, name: str, kind: type[Exception], text: str, arguments: Callable[[], tuple[object, ...]]
) -> None:
    refused = [refusal(getattr(codec, name), *arguments()) for codec in both]
    assert refused[0] == refused[1]
    assert refused[0][0] is kind
    assert text in refused[0][1]


@pytest.mark.parametrize("make", READ_ONLY.values(), ids=READ_ONLY)
def test_read_only_in_place(both: Both, make: Callable[[], object]) -> None:
    refused = [refusal(codec.apply_mask_inplace, make(), KEY) for codec in both]
    assert refused[0] == refused[1] == (TypeError, f"buffer must be a writable buffer, not {type(make()).__name__}")


def test_a_released_memoryview(both: Both) -> None:
    released = memoryview(b"")
    released.release()
    assert refusal(both.py.apply_mask, released, KEY) == refusal(both.cy.apply_mask, released, KEY)


def test_kernels_are_named(both: Both) -> None:
    assert both.py.kernel() == "python"
    assert both.cy.kernel() == both.cy._kernels()[-1]
    assert "portable" in both.cy._kernels()
    with pytest.raises(ValueError, match="kernel must be one of"):
        both.cy._use_kernel("abacus")

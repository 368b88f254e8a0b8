# cython: language_level=3, auto_pickle=False, autotestdict=False
"""bytes -> Frame | Message | Chunk and back, compiled  (RFC 6455 §5)

The twin of `_codec_py.py`, which is the specification: the same names, in the same order, with the same answers. What
is said there about rules and arguments is not said again here; comments are about memory.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from libc.stdint cimport INT64_MAX
from libc.string cimport memcpy, memmove

import os

from . import errors, wire


cdef extern from "_kernels.h" nogil:
    ctypedef struct ws_kernel:
        const char *name

    const int WS_KERNEL_COUNT
    ws_kernel ws_kernel_in_use
    ws_kernel ws_kernel_at(int index)
    void ws_mask(uint8_t *dst, const uint8_t *src, size_t n, const uint8_t *key, size_t offset)
    void ws_keep_blocks_of(size_t n)
    size_t ws_utf8_check(ws_utf8 *state, const uint8_t *p, size_t n)


cdef extern from "Python.h":
    ctypedef struct _Ownerless "Py_buffer":
        void *obj  # Cython's own declaration does not let it be NULL

    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1


cdef extern from *:
    """
    /* Whether the value is an int, and a small one; without a call where the interpreter shows how those are kept. */
    static inline int ws_small_int(PyObject *value, long long *number) {
        if (!PyLong_Check(value)) return 0;
    #if PY_VERSION_HEX >= 0x030C0000
        if (!PyUnstable_Long_IsCompact((PyLongObject *)value)) return 0;
        *number = (long long)PyUnstable_Long_CompactValue((PyLongObject *)value);
        return 1;
    #else
        int overflow;
        *number = PyLong_AsLongLongAndOverflow(value, &overflow);
        return !overflow;
    #endif
    }
    """
    bint ws_small_int(object value, long long *number) noexcept

    # Of a reference that is only looked at. To count one up and down again at once is slow: since CPython 3.12 the two
    # differ in width, and the second waits until the first has left the processor.
    char *_BYTES "PyBytes_AS_STRING"(PyObject *value) noexcept


cdef enum:  # compared with wire.py by a test, through _constants()
    FIN = 0x80
    RSV = 0x70
    OPCODE = 0x0F
    RSV_SHIFT = 4
    MASK = 0x80
    LENGTH = 0x7F
    LENGTH_16 = 126
    LENGTH_64 = 127
    MAX_LENGTH_7 = 125
    MAX_LENGTH_16 = 0xFFFF
    MASK_KEY_LENGTH = 4
    MIN_HEADER_LENGTH = 2
    MASK_KEY_BLOCK = 1024 * MASK_KEY_LENGTH
    MAX_HEADER_LENGTH = 14
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA
    CONTROL = 0x8
    MAX_CONTROL_LENGTH = 125
    CLOSE_CODE_LENGTH = 2
    READ_SIZE = 64 * 1024
    MAX_READ_SIZE = 256 * 1024
    MANY_MESSAGES = 64


def _constants():
    return {
        "FIN": FIN, "RSV": RSV, "OPCODE": OPCODE, "RSV_SHIFT": RSV_SHIFT, "MASK": MASK, "LENGTH": LENGTH,
        "LENGTH_16": LENGTH_16, "LENGTH_64": LENGTH_64, "MAX_LENGTH_7": MAX_LENGTH_7, "MAX_LENGTH_16": MAX_LENGTH_16,
        "MAX_LENGTH_64": INT64_MAX, "MASK_KEY_LENGTH": MASK_KEY_LENGTH, "MIN_HEADER_LENGTH": MIN_HEADER_LENGTH, "MAX_HEADER_LENGTH": MAX_HEADER_LENGTH,
        "Opcode.CONTINUATION": CONTINUATION, "Opcode.TEXT": TEXT, "Opcode.BINARY": BINARY, "Opcode.CLOSE": CLOSE,
        "Opcode.PING": PING, "Opcode.PONG": PONG, "CONTROL": CONTROL, "MAX_CONTROL_LENGTH": MAX_CONTROL_LENGTH,
        "CLOSE_CODE_LENGTH": CLOSE_CODE_LENGTH, "READ_SIZE": READ_SIZE, "MAX_READ_SIZE": MAX_READ_SIZE,
        "MANY_MESSAGES": MANY_MESSAGES,
    }


# -- Arguments --------------------------------------------------------------------------------------------------------


cdef inline int _get_buffer(object value, Py_buffer *view, str name, bint writable=False) except -1:
    """The caller releases the view."""
    if writable or type(value) is not bytes:
        return _get_any_buffer(value, view, name, writable)
    # Bytes never change, and the caller holds them: nothing is there to release. Small calls are much shorter for it.
    view.buf, view.len = PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
    (<_Ownerless *>view).obj = NULL
    return 0


cdef int _get_any_buffer(object value, Py_buffer *view, str name, bint writable) except -1:
    if not PyObject_CheckBuffer(value):
        raise errors.not_bytes_like(name, value)
    try:
        PyObject_GetBuffer(value, view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    except TypeError:
        raise errors.not_bytes_like(name, value) from None
    except (BufferError, ValueError):
        probe = memoryview(value)
        if writable and probe.readonly:
            raise errors.not_writable(name, value) from None
        if not probe.c_contiguous:
            raise errors.not_contiguous(name) from None
        raise
    return 0


cdef inline long long _integer(object value, str name, long long lowest, long long highest) except? -1:
    cdef long long number
    if ws_small_int(value, &number) and lowest <= number <= highest:
        return number
    return _any_integer(value, name, lowest, highest)


cdef long long _any_integer(object value, str name, long long lowest, long long highest) except? -1:
    cdef int overflow = 0
    try:
        value = PyNumber_Index(value)
    except TypeError:
        raise errors.not_an_integer(name, value) from None
    cdef long long number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow or number < lowest or number > highest:
        raise errors.out_of_range(name, value, lowest, highest)
    return number


cdef inline int _copy_mask_key(object value, uint8_t *key, str name) except -1:
    if type(value) is not bytes or PyBytes_GET_SIZE(value) != MASK_KEY_LENGTH:
        return _copy_any_mask_key(value, key, name)
    memcpy(key, PyBytes_AS_STRING(value), MASK_KEY_LENGTH)
    return 0


cdef int _copy_any_mask_key(object value, uint8_t *key, str name) except -1:
    cdef Py_buffer view
    cdef Py_ssize_t length
    _get_buffer(value, &view, name)
    length = view.len
    if length == MASK_KEY_LENGTH:
        memcpy(key, view.buf, MASK_KEY_LENGTH)
    PyBuffer_Release(&view)
    if length != MASK_KEY_LENGTH:
        raise errors.wrong_key_length(length)
    return 0


cdef uint64_t _limit(object value, str name) except? 1:
    return INT64_MAX if value is None else <uint64_t>_integer(value, name, 0, INT64_MAX)


# -- Memory -----------------------------------------------------------------------------------------------------------


cdef bint _is_prepared = False


cdef inline int _prepare_for(Py_ssize_t size) except -1:
    """Before memory for a large payload, or frame, is got."""
    global _is_prepared
    if size >= MAX_READ_SIZE and not _is_prepared:
        _is_prepared = True
        ws_keep_blocks_of(wire.DEFAULT_MAX_SIZE)
    return 0


# -- Masking (RFC 6455 §5.3) ------------------------------------------------------------------------------------------


def apply_mask(data, key, offset=0):
    """Mask or unmask: the two are the same (RFC 6455 §5.3).

    Args:
        data: any C-contiguous buffer; not changed.
        key: the masking key, a buffer of 4 bytes.
        offset: bytes of the payload that came before, to go on in the middle of a key.

    Returns:
        A copy of the data, each byte XORed with its byte of the key.

    Raises:
        TypeError, ValueError: an argument of the wrong kind.
    """
    cdef Py_buffer view
    cdef uint8_t octets[MASK_KEY_LENGTH]
    cdef bytes masked
    cdef long long start
    _get_buffer(data, &view, "data")
    try:
        _copy_mask_key(key, octets, "key")
        start = _integer(offset, "offset", 0, INT64_MAX)
        masked = PyBytes_FromStringAndSize(NULL, view.len)
        ws_mask(<uint8_t *>PyBytes_AS_STRING(masked), <uint8_t *>view.buf, view.len, octets, start)
    finally:
        PyBuffer_Release(&view)
    return masked


def apply_mask_inplace(buffer, key, offset=0):
    """Mask or unmask a writable C-contiguous buffer where it stands; otherwise as :func:`apply_mask`."""
    cdef Py_buffer view
    cdef uint8_t octets[MASK_KEY_LENGTH]
    cdef long long start
    cdef uint8_t *out
    if type(buffer) is bytearray:
        # Not held while it is masked, for nothing else runs then; it may have been resized before.
        _copy_mask_key(key, octets, "key")
        start = _integer(offset, "offset", 0, INT64_MAX)
        out = <uint8_t *>PyByteArray_AS_STRING(buffer)
        ws_mask(out, out, PyByteArray_GET_SIZE(buffer), octets, start)
        return
    _get_buffer(buffer, &view, "buffer", True)
    try:
        _copy_mask_key(key, octets, "key")
        start = _integer(offset, "offset", 0, INT64_MAX)
        ws_mask(<uint8_t *>view.buf, <uint8_t *>view.buf, view.len, octets, start)
    finally:
        PyBuffer_Release(&view)


def kernel():
    """Name what does the masking: "python", or the instruction set that the compiled codec picked on this machine."""
    return ws_kernel_in_use.name.decode()


def _kernels():
    """The names that `_use_kernel` takes on this machine, the widest last."""
    return [
        ws_kernel_at(index).name.decode() for index in range(WS_KERNEL_COUNT) if ws_kernel_at(index).name != NULL
    ]


def _use_kernel(name):
    global ws_kernel_in_use
    for index in range(WS_KERNEL_COUNT):
        if ws_kernel_at(index).name != NULL and ws_kernel_at(index).name.decode() == name:
            ws_kernel_in_use = ws_kernel_at(index)
            return
    raise ValueError(f"kernel must be one of {_kernels()}, not {name!r}")


_use_kernel(_kernels()[-1])


# -- Masking keys (RFC 6455 §5.3: "derived from a strong source of entropy") ------------------------------------------


cdef bytes _unused_keys = b""
cdef Py_ssize_t _used_keys = 0  # in bytes


def fresh_mask_key():
    """Give a new masking key that nobody can predict: 4 bytes of os.urandom (RFC 6455 §5.3)."""
    cdef uint8_t key[MASK_KEY_LENGTH]
    _fresh_mask_key(key)
    return PyBytes_FromStringAndSize(<char *>key, MASK_KEY_LENGTH)


cdef int _fresh_mask_key(uint8_t *key) except -1:
    global _unused_keys, _used_keys
    if _used_keys + MASK_KEY_LENGTH > PyBytes_GET_SIZE(_unused_keys):
        # Other threads may run meanwhile, and come here too: what counts is the last block.
        _unused_keys = os.urandom(MASK_KEY_BLOCK)
        _used_keys = 0
        if PyBytes_GET_SIZE(_unused_keys) < MASK_KEY_LENGTH:
            raise errors.wrong_key_length(PyBytes_GET_SIZE(_unused_keys))
    memcpy(key, PyBytes_AS_STRING(_unused_keys) + _used_keys, MASK_KEY_LENGTH)
    _used_keys += MASK_KEY_LENGTH
    return 0


def _drop_mask_keys():
    global _unused_keys
    _unused_keys = b""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_mask_keys)


# -- Header (RFC 6455 §5.2) -------------------------------------------------------------------------------------------


@cython.final
cdef class Header:
    """The header of a frame (RFC 6455 §5.2).

    Attributes:
        opcode: 0 to 15.
        payload_length: bytes of payload that follow the header.
        fin, rsv1, rsv2, rsv3: its bits, 0 or 1.
        mask_key: the 4 bytes that mask the payload, None if it is not masked.
        mask: the mask bit, 0 or 1.
        length: bytes of the header itself, 2 to 14.
    """

    __match_args__ = ("opcode", "payload_length", "fin", "rsv1", "rsv2", "rsv3", "mask_key")

    def __init__(self, opcode, payload_length, fin=1, rsv1=0, rsv2=0, rsv3=0, mask_key=None):
        cdef uint8_t first = _first_byte(opcode, fin, rsv1, rsv2, rsv3)
        self.payload_length = _integer(payload_length, "payload_length", 0, INT64_MAX)
        self.mask_key = _checked_mask_key(mask_key)
        self.opcode, self.fin = first & OPCODE, first >> 7
        self.rsv1, self.rsv2, self.rsv3 = first >> 6 & 1, first >> 5 & 1, first >> 4 & 1

    @property
    def mask(self):
        return int(self.mask_key is not None)

    @property
    def length(self):
        cdef uint8_t head[MAX_HEADER_LENGTH]
        return _write_header(head, 0, self.payload_length, NULL) + (0 if self.mask_key is None else MASK_KEY_LENGTH)

    cdef tuple _fields(self):
        return self.opcode, self.payload_length, self.fin, self.rsv1, self.rsv2, self.rsv3, self.mask_key

    def __eq__(self, other):
        return (<Header>other)._fields() == self._fields() if type(other) is Header else NotImplemented

    def __hash__(self):
        return hash(self._fields())

    def __repr__(self):
        return _repr(self, self._fields())

    def __reduce__(self):
        return Header, self._fields()


def parse_header(buffer, offset=0):
    """Read the header of the frame that starts at an offset (RFC 6455 §5.2).

    Its bits and opcode are reported, not judged: which are allowed depends on the connection.

    Args:
        buffer: any C-contiguous buffer; not changed.
        offset: where the frame starts, in bytes.

    Returns:
        The header; None while the buffer does not hold all of it.

    Raises:
        ProtocolError: a payload length over 63 bits, or not in its shortest form.
        TypeError, ValueError: an argument of the wrong kind.
    """
    cdef Py_buffer view
    cdef uint8_t head[MAX_HEADER_LENGTH]
    cdef Py_ssize_t start, available
    _get_buffer(buffer, &view, "buffer")
    try:
        start = _integer(offset, "offset", 0, view.len)
        available = min(view.len - start, MAX_HEADER_LENGTH)
        memcpy(head, <uint8_t *>view.buf + start, available)
    finally:
        PyBuffer_Release(&view)
    return _parse_header(head, available)


def encode_header(opcode, payload_length, *, fin=1, rsv1=0, rsv2=0, rsv3=0, mask_key=None):
    """Write the header of a frame (RFC 6455 §5.2), whatever its bits say: nothing is judged but their ranges.

    Args:
        opcode: 0 to 15.
        payload_length: bytes of payload that will follow, 0 to 2**63 - 1.
        fin, rsv1, rsv2, rsv3: its bits, 0 or 1.
        mask_key: a buffer of 4 bytes that stands at the end of the header, None for a frame that is not masked.

    Returns:
        2 to 14 bytes.

    Raises:
        TypeError, ValueError: an argument of the wrong kind.
    """
    cdef uint8_t head[MAX_HEADER_LENGTH]
    cdef uint8_t key[MASK_KEY_LENGTH]
    cdef uint8_t first = _first_byte(opcode, fin, rsv1, rsv2, rsv3)
    cdef uint64_t length = _integer(payload_length, "payload_length", 0, INT64_MAX)
    cdef Py_ssize_t size
    if mask_key is not None:
        _copy_mask_key(mask_key, key, "mask_key")
    size = _write_header(head, first, length, NULL if mask_key is None else key)
    return PyBytes_FromStringAndSize(<char *>head, size)


def encode_frame(opcode, payload, *, fin=1, rsv1=0, rsv2=0, rsv3=0, mask_key=None):
    """Write a whole frame; as :func:`encode_header`, with the payload behind it, masked if there is a key.

    Args:
        payload: any C-contiguous buffer; copied once, not changed.
    """
    cdef Py_buffer view
    cdef uint8_t key[MASK_KEY_LENGTH]
    cdef uint8_t first = _first_byte(opcode, fin, rsv1, rsv2, rsv3)
    _get_buffer(payload, &view, "payload")
    try:
        if mask_key is not None:
            _copy_mask_key(mask_key, key, "mask_key")
        return _frame(first, <uint8_t *>view.buf, view.len, NULL if mask_key is None else key)
    finally:
        PyBuffer_Release(&view)


cdef bytes _frame(uint8_t first, const uint8_t *p, Py_ssize_t n, const uint8_t *key):
    cdef uint8_t head[MAX_HEADER_LENGTH]
    cdef Py_ssize_t length = _write_header(head, first, n, key)
    _prepare_for(n)
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, length + n)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(frame)
    memcpy(out, head, length)
    if key == NULL:
        memcpy(out + length, p, n)
    else:
        ws_mask(out + length, p, n, key, 0)
    return frame


cdef inline Py_ssize_t _header_length(uint8_t second) noexcept nogil:
    cdef uint8_t length = second & LENGTH
    return 2 + (2 if length == LENGTH_16 else 8 if length == LENGTH_64 else 0) + (
        MASK_KEY_LENGTH if second & MASK else 0
    )


cdef inline uint64_t _stated_length(const uint8_t *head) noexcept nogil:
    """The payload length that stands there, allowed or not."""
    cdef uint64_t length = head[1] & LENGTH
    cdef int i
    if length == LENGTH_16:
        return <uint64_t>head[2] << 8 | head[3]
    if length == LENGTH_64:
        length = 0
        for i in range(2, 10):
            length = length << 8 | head[i]
    return length


cdef inline bint _is_minimal(uint8_t second, uint64_t length) noexcept nogil:
    cdef uint8_t form = second & LENGTH
    return form < LENGTH_16 or length > <uint64_t>(MAX_LENGTH_7 if form == LENGTH_16 else MAX_LENGTH_16)


cdef uint64_t _payload_length(const uint8_t *head) except? 1:
    cdef uint64_t length = _stated_length(head)
    if length > <uint64_t>INT64_MAX:
        raise errors.length_too_big(length)
    if not _is_minimal(head[1], length):
        raise errors.length_not_minimal(length, 16 if head[1] & LENGTH == LENGTH_16 else 64)
    return length


cdef Header _parse_header(const uint8_t *head, Py_ssize_t n):
    cdef Header header
    cdef Py_ssize_t length
    if n < 2 or n < _header_length(head[1]):
        return None
    length = _header_length(head[1])
    header = Header.__new__(Header)
    header.payload_length = _payload_length(head)
    header.opcode, header.fin = head[0] & OPCODE, head[0] >> 7
    header.rsv1, header.rsv2, header.rsv3 = head[0] >> 6 & 1, head[0] >> 5 & 1, head[0] >> 4 & 1
    if head[1] & MASK:
        header.mask_key = PyBytes_FromStringAndSize(<char *>head + length - MASK_KEY_LENGTH, MASK_KEY_LENGTH)
    return header


cdef int _first_byte(object opcode, object fin, object rsv1, object rsv2, object rsv3) except -1:
    return (
        <int>_integer(opcode, "opcode", 0, OPCODE)
        | <int>_integer(fin, "fin", 0, 1) << 7
        | <int>_integer(rsv1, "rsv1", 0, 1) << 6
        | <int>_integer(rsv2, "rsv2", 0, 1) << 5
        | <int>_integer(rsv3, "rsv3", 0, 1) << 4
    )


cdef Py_ssize_t _write_header(uint8_t *head, uint8_t first, uint64_t length, const uint8_t *key) noexcept nogil:
    """Returns how many of the 14 bytes it wrote."""
    cdef uint8_t mask = MASK if key != NULL else 0
    cdef Py_ssize_t end = 2
    cdef int i
    head[0] = first
    if length <= MAX_LENGTH_7:
        head[1] = mask | <uint8_t>length
    elif length <= MAX_LENGTH_16:
        head[1] = mask | LENGTH_16
        head[2], head[3] = <uint8_t>(length >> 8), <uint8_t>length
        end = 4
    else:
        head[1] = mask | LENGTH_64
        for i in range(8):
            head[2 + i] = <uint8_t>(length >> (56 - 8 * i))
        end = 10
    if key != NULL:
        memcpy(head + end, key, MASK_KEY_LENGTH)
        end += MASK_KEY_LENGTH
    return end


# -- UTF-8 (RFC 3629, RFC 6455 §8.1) ----------------------------------------------------------------------------------


@cython.final
cdef class Utf8Validator:
    """Checks text that arrives in pieces, and fails at the first byte that cannot be part of it (RFC 6455 §8.1).

    Attributes:
        position: bytes found good so far.
        complete: whether the text so far is good and ends at the end of a character.
    """

    def __init__(self):
        self.reset()

    def reset(self):
        """Start over with a new text."""
        self.position = self._state.due = 0
        self._error = None

    @property
    def complete(self):
        return self._error is None and not self._state.due

    def feed(self, data):
        """Check the next piece, any C-contiguous buffer.

        Raises:
            ProtocolError: a byte is wrong; raised again by every later call until `reset`.
            TypeError, ValueError: not such a buffer.
        """
        cdef Py_buffer view
        cdef size_t length, good
        _get_buffer(data, &view, "data")
        length = good = view.len
        if self._error is None:
            good = ws_utf8_check(&self._state, <uint8_t *>view.buf, length)
        PyBuffer_Release(&view)
        if self._error is not None:
            raise self._error.with_traceback(None)
        self.position += good
        if good < length:
            self._error = errors.invalid_utf8(self.position)
            raise self._error

    def finish(self):
        """Check that the text may end here.

        Raises:
            ProtocolError: it ends inside a character, or had failed before.
        """
        if self._error is None and self._state.due:
            self._error = errors.unfinished_utf8(self.position)
        if self._error is not None:
            raise self._error.with_traceback(None)


# -- A frame to be sent (RFC 6455 §5.2, §5.5, §8.1) -------------------------------------------------------------------


def prepare_websocket_frame(
    payload, *, is_utf8=False, opcode=None, fin=1, rsv1=0, rsv2=0, rsv3=0, mask_key=None,
):
    """Make a frame that is ready to be sent, any number of times (RFC 6455 §5.2).

    Args:
        payload: any C-contiguous buffer; copied, not changed. A `str` must be encoded first.
        is_utf8: whether the payload is text, opcode 1; binary, opcode 2, otherwise.
        opcode: another opcode, 0 to 15, instead.
        fin: 0 for a fragment that others follow.
        rsv1, rsv2, rsv3: the bits of extensions, 0 or 1.
        mask_key: None, as a server sends; True, as a client must send: a fresh, unpredictable key; or the 4 bytes of
            a key.

    Raises:
        TypeError, ValueError: an argument of the wrong kind, or a frame that the peer would have to refuse: text that
            is not UTF-8, a control frame that is fragmented or over 125 bytes, a Close frame with a code that may not
            be sent. What stands behind the code is not judged: an extension may put any bytes there.
            (:func:`wslowlevel.codec.encode_frame` makes any frame.)
    """
    cdef Py_buffer view
    cdef uint8_t key[MASK_KEY_LENGTH]
    cdef uint8_t first
    cdef bytes frame
    if opcode is None:
        opcode = TEXT if is_utf8 else BINARY
    first = _first_byte(opcode, fin, rsv1, rsv2, rsv3)
    _get_buffer(payload, &view, "payload")
    try:
        if mask_key is True:
            _fresh_mask_key(key)
        elif mask_key is not None:
            _copy_mask_key(mask_key, key, "mask_key")
        frame = _frame(first, <uint8_t *>view.buf, view.len, NULL if mask_key is None else key)
        if first & CONTROL:
            _check_control_to_send(first, <uint8_t *>view.buf, view.len)
        elif first == (FIN | TEXT):
            _check_text_to_send(<uint8_t *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return frame


cdef int _check_control_to_send(uint8_t first, const uint8_t *p, Py_ssize_t n) except -1:
    if not first & FIN:
        raise errors.fragmented_control_to_send(first & OPCODE)
    if n > MAX_CONTROL_LENGTH:
        raise errors.control_too_long_to_send(n)
    if first & OPCODE == CLOSE and n:
        if n < CLOSE_CODE_LENGTH:
            raise errors.close_too_short_to_send()
        if not wire.is_close_code(p[0] << 8 | p[1]):
            raise errors.close_code_to_send(p[0] << 8 | p[1])
    return 0


cdef int _check_text_to_send(const uint8_t *p, Py_ssize_t n) except -1:
    cdef ws_utf8 state
    cdef Py_ssize_t good
    state.due = 0
    good = ws_utf8_check(&state, p, n)
    if good < n:
        raise errors.text_to_send(errors.invalid_utf8(good))
    if state.due:
        raise errors.text_to_send(errors.unfinished_utf8(good))
    return 0


# -- Frames, messages and chunks --------------------------------------------------------------------------------------

cdef extern from *:
    """
    #include <stddef.h>
    #include <structmember.h>

    #define WS_OFFSET(record, field) offsetof(struct __pyx_obj_10wslowlevel_6_codec_##record, field)
    #define WS_READ_IN_PLACE(record, type, members) \\
        ws_read_in_place((PyTypeObject *)type, members, WS_OFFSET(record, _opcode), WS_OFFSET(record, payload))
    #define ws_read_frame_in_place(type) WS_READ_IN_PLACE(Frame, type, ws_frame_members)
    #define ws_read_message_in_place(type) WS_READ_IN_PLACE(Message, type, ws_message_members)
    #define ws_read_chunk_in_place(type) WS_READ_IN_PLACE(Chunk, type, ws_chunk_members)

    static PyMemberDef ws_frame_members[2], ws_message_members[2], ws_chunk_members[2];

    static int ws_add_member(PyTypeObject *type, PyMemberDef *member) {
        PyObject *descriptor = PyDescr_NewMember(type, member);
        int result = descriptor ? PyDict_SetItemString(type->tp_dict, member->name, descriptor) : -1;
        Py_XDECREF(descriptor);
        return result;
    }

    /* Lets the interpreter read without a call what a program asks every message for: its LOAD_ATTR is specialised for
       members (PEP 659), not for the getters that Cython makes of attributes. */
    static int ws_read_in_place(PyTypeObject *type, PyMemberDef *members, Py_ssize_t opcode, Py_ssize_t payload) {
        members[0] = (PyMemberDef){"opcode", T_OBJECT_EX, opcode, READONLY, NULL};
        members[1] = (PyMemberDef){"payload", T_OBJECT_EX, payload, READONLY, NULL};
        if (ws_add_member(type, &members[0]) < 0 || ws_add_member(type, &members[1]) < 0) return -1;
        PyType_Modified(type);
        return 0;
    }
    """
    int ws_read_frame_in_place(object type) except -1
    int ws_read_message_in_place(object type) except -1
    int ws_read_chunk_in_place(object type) except -1
    PyObject *PyTuple_GET_ITEM(tuple items, Py_ssize_t index) noexcept


cdef tuple _OPCODES = tuple(range(OPCODE + 1))
cdef PyObject *_opcode_objects[OPCODE + 1]  # of that tuple: to look there would count a reference to it up and down
cdef int _index
for _index in range(OPCODE + 1):
    _opcode_objects[_index] = PyTuple_GET_ITEM(_OPCODES, _index)


cdef inline PyObject *_opcode_object(uint8_t opcode) noexcept:
    """Borrowed from a tuple that lives as long as the module: records count no reference to it."""
    return _opcode_objects[opcode]


cdef inline object _opcode_of(PyObject *opcode):
    """A record that was made without its constructor has none."""
    return 0 if opcode is NULL else <object>opcode


@cython.final
@cython.freelist(64)
cdef class Frame:
    """One frame (RFC 6455 §5.2).

    Attributes:
        opcode: 0 to 15.
        payload: its bytes, unmasked; owned by the frame.
        fin, rsv1, rsv2, rsv3: its bits, 0 or 1.
        mask_key: the 4 bytes that masked it on the wire, None if it was not masked.
        mask: the mask bit, 0 or 1.
    """

    __match_args__ = ("opcode", "payload", "fin", "rsv1", "rsv2", "rsv3", "mask_key")

    def __init__(self, opcode, payload, fin=1, rsv1=0, rsv2=0, rsv3=0, mask_key=None):
        cdef uint8_t first = _first_byte(opcode, fin, rsv1, rsv2, rsv3)
        self.payload = _checked_payload(payload)
        self.mask_key = _checked_mask_key(mask_key)
        self._opcode, self.fin = _opcode_object(first & OPCODE), first >> 7
        self.rsv1, self.rsv2, self.rsv3 = first >> 6 & 1, first >> 5 & 1, first >> 4 & 1

    @property
    def mask(self):
        return int(self.mask_key is not None)

    cdef tuple _fields(self):
        return _opcode_of(self._opcode), self.payload, self.fin, self.rsv1, self.rsv2, self.rsv3, self.mask_key

    def __eq__(self, other):
        return (<Frame>other)._fields() == self._fields() if type(other) is Frame else NotImplemented

    def __hash__(self):
        return hash(self._fields())

    def __repr__(self):
        return _repr(self, self._fields())

    def __reduce__(self):
        return Frame, self._fields()


@cython.final
@cython.freelist(512)  # as many of 125 bytes fit in a read of 64 KiB
cdef class Message:
    """One message, or one control frame (RFC 6455 §5.4, §5.5).

    Attributes:
        opcode: 0 to 15; of a fragmented message, that of its first frame.
        payload: its bytes, unmasked and joined; owned by the message.
        rsv1, rsv2, rsv3: the reserved bits, 0 or 1, of its first frame.
        mask: the mask bit, 0 or 1, of its first frame.
        text: the payload as `str`; of a Close frame, its reason without the code. Bytes of a control frame that are not
            UTF-8 are replaced by U+FFFD. ValueError for a binary message.
    """

    __match_args__ = ("opcode", "payload", "rsv1", "rsv2", "rsv3", "mask")

    def __init__(self, opcode, payload, rsv1=0, rsv2=0, rsv3=0, mask=0):
        cdef uint8_t first = _first_byte(opcode, 0, rsv1, rsv2, rsv3)
        self.payload = _checked_payload(payload)
        self._opcode, self.mask = _opcode_object(first & OPCODE), _integer(mask, "mask", 0, 1)
        self.rsv1, self.rsv2, self.rsv3 = first >> 6 & 1, first >> 5 & 1, first >> 4 & 1

    @property
    def text(self):
        if self._opcode == _opcode_object(TEXT):
            return self.payload.decode()
        if self._opcode == _opcode_object(CLOSE):
            return self.payload[CLOSE_CODE_LENGTH:].decode(errors="replace")
        if _opcode_of(self._opcode) & CONTROL:
            return self.payload.decode(errors="replace")
        raise errors.not_text(_opcode_of(self._opcode))

    cdef tuple _fields(self):
        return _opcode_of(self._opcode), self.payload, self.rsv1, self.rsv2, self.rsv3, self.mask

    def __eq__(self, other):
        return (<Message>other)._fields() == self._fields() if type(other) is Message else NotImplemented

    def __hash__(self):
        return hash(self._fields())

    def __repr__(self):
        return _repr(self, self._fields())

    def __reduce__(self):
        return Message, self._fields()


@cython.final
@cython.freelist(64)
cdef class Chunk:
    """What arrived together of the payload of one frame, or one control frame (RFC 6455 §5.4, §5.5).

    A control frame is one chunk with all its flags set.

    Attributes:
        opcode: 0 to 15; in a fragmented message, that of its first frame.
        payload: its bytes, unmasked; owned by the chunk. Text may be cut inside a character.
        message_started, frame_started: whether the message, the frame, begins with this chunk; 0 or 1.
        frame_finished, message_finished: whether the frame, the message, ends with this chunk; 0 or 1.
        rsv1, rsv2, rsv3: the reserved bits, 0 or 1, of the first frame of the message.
        mask: the mask bit, 0 or 1, of the first frame of the message.
    """

    __match_args__ = (
        "opcode", "payload", "message_started", "frame_started", "frame_finished", "message_finished",
        "rsv1", "rsv2", "rsv3", "mask",
    )

    def __init__(
        self, opcode, payload, message_started=1, frame_started=1, frame_finished=1, message_finished=1,
        rsv1=0, rsv2=0, rsv3=0, mask=0,
    ):
        cdef uint8_t first = _first_byte(opcode, 0, rsv1, rsv2, rsv3)
        self.payload = _checked_payload(payload)
        self._opcode = _opcode_object(first & OPCODE)
        self.message_started = _integer(message_started, "message_started", 0, 1)
        self.frame_started = _integer(frame_started, "frame_started", 0, 1)
        self.frame_finished = _integer(frame_finished, "frame_finished", 0, 1)
        self.message_finished = _integer(message_finished, "message_finished", 0, 1)
        self.rsv1, self.rsv2, self.rsv3 = first >> 6 & 1, first >> 5 & 1, first >> 4 & 1
        self.mask = _integer(mask, "mask", 0, 1)

    cdef tuple _fields(self):
        return (
            _opcode_of(self._opcode), self.payload, self.message_started, self.frame_started, self.frame_finished,
            self.message_finished, self.rsv1, self.rsv2, self.rsv3, self.mask,
        )

    def __eq__(self, other):
        return (<Chunk>other)._fields() == self._fields() if type(other) is Chunk else NotImplemented

    def __hash__(self):
        return hash(self._fields())

    def __repr__(self):
        return _repr(self, self._fields())

    def __reduce__(self):
        return Chunk, self._fields()


ws_read_frame_in_place(Frame)
ws_read_message_in_place(Message)
ws_read_chunk_in_place(Chunk)


cdef str _repr(object record, tuple values):
    shown = ", ".join([f"{name}={value!r}" for name, value in zip(record.__match_args__, values)])
    return f"{type(record).__name__}({shown})"


cdef bytes _checked_payload(object payload):
    if type(payload) is not bytes:
        raise errors.not_bytes("payload", payload)
    return payload


cdef bytes _checked_mask_key(object mask_key):
    if mask_key is None:
        return None
    if type(mask_key) is not bytes:
        raise errors.not_bytes("mask_key", mask_key)
    if PyBytes_GET_SIZE(mask_key) != MASK_KEY_LENGTH:
        raise errors.wrong_key_length(len(mask_key))
    return mask_key


# -- The decoders (RFC 6455 §5.4, §5.5, §6.2) -------------------------------------------------------------------------


@cython.final
cdef class _Lent:
    """Writable memory inside a bytes object that nobody else has seen yet; every view of it keeps that object alive."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self._start, self._size, False, flags)


cdef _Lent _lend(bytes owner, uint8_t *start, Py_ssize_t size):
    cdef _Lent lent = _Lent.__new__(_Lent)
    lent._owner = owner
    lent._start = start
    lent._size = size
    return lent


cdef extern from *:
    """
    static int ws_is_seen(PyObject *view) {
        PyMemoryViewObject *memory = (PyMemoryViewObject *)view;
        return Py_REFCNT(view) != 1 || memory->exports || memory->mbuf->exports != 1;
    }
    """
    bint ws_is_seen(PyObject *view) noexcept  # does anybody else hold a view, or a view of that one?
    Py_ssize_t Py_REFCNT(PyObject *value) noexcept


# What was lent last, and its view: lent again, for the next read of any decoder, once nobody sees it any more. To make
# the two takes longer than to decode a short message.
cdef _Lent _lent_last = None
cdef object _view_last = None


cdef _Lent _lend_new(Py_ssize_t size):
    global _lent_last, _view_last
    # Held by its name here and by its view, and by no decoder.
    if (
        _lent_last is not None and _lent_last._size == size
        and Py_REFCNT(<PyObject *>_lent_last) == 2 and not ws_is_seen(<PyObject *>_view_last)
    ):
        return _lent_last
    _prepare_for(size)
    cdef bytes memory = PyBytes_FromStringAndSize(NULL, size)
    cdef _Lent lent = _lend(memory, <uint8_t *>PyBytes_AS_STRING(memory), size)
    cdef object view = PyMemoryView_FromObject(lent)
    _lent_last, _view_last = lent, view
    return lent


cdef Py_ssize_t _read_size(uint64_t remaining) noexcept:
    return <Py_ssize_t>max(<uint64_t>READ_SIZE, min(remaining, <uint64_t>MAX_READ_SIZE))


cdef class _Decoder:
    """What the three decoders share: everything but what they hand out.

    A payload is stored as it arrives, unmasked, in one of three places: a control frame's in `_control`; in `_payload`,
    the object that will be handed out, when one frame or chunk is all of it; in `_joined` when a MessageDecoder has to
    join fragments. `_held` says how much of the last two is filled; `_memory` and `_capacity` are where the bytes of
    `_payload` start and how many they are, -1 when it is None.

    What no decoder overrides is final, so that C calls it directly.
    """

    def __init__(
        self, role, strict, require_mask, max_message_size, max_frame_size, max_fragments, allow_rsv,
    ):
        if self._busy:
            raise errors.decoder_in_use()
        if role not in ("server", "client"):
            raise errors.wrong_role(role)
        self._begin_stream()
        self._strict = bool(strict)
        self._must_be_masked = self._strict and role == "server" and bool(require_mask)
        self._must_be_unmasked = self._strict and role == "client"
        self._max_message_size = _limit(max_message_size, "max_message_size")
        self._max_frame_size = _limit(max_frame_size, "max_frame_size")
        self._max_fragments = _limit(max_fragments, "max_fragments")
        self._allow_rsv = _integer(allow_rsv, "allow_rsv", 0, RSV >> RSV_SHIFT)

    cdef int _begin_stream(self) except -1:
        """Called again by a second __init__, so that no limit meets a state that another one let grow."""
        self.error = self._read_buffer = self._payload = self._joined = None
        self.closed = self.eventful = self._is_busy_stream = self._in_payload = self._in_message = False
        self._head_length = self._control_length = self._held = 0
        self._capacity = -1
        self._message_size = self._fragments = 0
        self.bytes_received = self.frames_received = self.messages_received = 0
        self.pings_received = self.pongs_received = 0
        return 0

    @property
    def buffered(self):
        return self._head_length + self._control_length + self._held

    def feed(self, data):
        """Decode what came from the network, any C-contiguous buffer, cut anywhere.

        Returns:
            The frames, messages or chunks that it gave; nothing in them is a view of the data.

        Raises:
            ProtocolError, PayloadTooBig: the peer broke a rule or a limit; raised again by every later call.
            TypeError, ValueError: not such a buffer.
            RuntimeError: called from inside another call, or from two threads at once.
        """
        cdef Py_buffer view
        _get_buffer(data, &view, "data")
        try:
            return self.decode(<uint8_t *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def get_buffer(self, hint=-1):
        """Lend memory to receive into, as asyncio.BufferedProtocol asks for it.

        Args:
            hint: bytes that the caller would like; the answer does not depend on it.

        Returns:
            A writable view of 64 KiB, to be written to until the next call of any method and not after. The compiled
            decoders lend up to 256 KiB while much is due; inside a large payload its FrameDecoder and MessageDecoder
            lend the memory of that payload itself, so that nothing is copied.
        """
        _integer(hint, "hint", -1, INT64_MAX)
        return self._lend()

    @cython.final
    cdef object _lend(self):
        if self._busy:
            raise errors.decoder_in_use()
        # Held here: a view that is made may have garbage collected, and with it run whatever calls this again.
        cdef _Lent lent = self._new_read_buffer()
        self._read_buffer = lent
        return _view_last if lent is _lent_last else PyMemoryView_FromObject(lent)

    cdef _Lent _new_read_buffer(self):
        cdef bint whole = self._fin and self._opcode in (TEXT, BINARY)
        cdef Py_ssize_t size
        if not (self._in_payload and whole and self._remaining >= READ_SIZE):
            return _lend_new(MAX_READ_SIZE if self._is_busy_stream else READ_SIZE)
        size = _read_size(self._remaining)
        self._room(size)  # which may replace the payload by a larger one
        return _lend(self._payload, self._memory + self._held, size)

    def buffer_updated(self, nbytes):
        """Decode the first `nbytes` bytes of what `get_buffer` lent; otherwise as `feed`."""
        return self._decode_lent(_integer(nbytes, "nbytes", 0, INT64_MAX))

    @cython.final
    cdef list _decode_lent(self, Py_ssize_t size):
        cdef _Lent lent = self._read_buffer
        if lent is None:
            raise errors.buffer_not_taken()
        if size > lent._size:
            raise errors.out_of_range("nbytes", size, 0, lent._size)
        cdef list items = self.decode(lent._start, size)
        self._is_busy_stream = size >= READ_SIZE and 1 < len(items) <= MANY_MESSAGES
        return items

    cdef list decode(self, const uint8_t *p, Py_ssize_t n):
        if self._busy:
            raise errors.decoder_in_use()
        self.bytes_received += n
        if self.error is not None:
            raise self.error.with_traceback(None)
        cdef list items = []
        self.eventful = False
        self._busy = True
        try:
            self._parse(p, n, items)
        except (errors.WebSocketError, MemoryError) as error:
            self.error = error
            self.eventful = True
            if not items:
                raise
        finally:
            self._busy = False
            self._read_buffer = None
        return items

    @cython.final
    cdef int _parse(self, const uint8_t *p, Py_ssize_t n, list items) except -1:
        cdef Py_ssize_t position = 0
        while not self.closed:
            if not self._in_payload:
                if not self._head_length and not self._in_message:
                    position += self._read_whole_messages(p + position, n - position, items)
                position += self._read_header(p + position, n - position)
                if not self._in_payload:
                    return 0
            position += self._read_payload(p + position, n - position, items)
            if self._in_payload:
                return 0
        return 0

    cdef Py_ssize_t _read_whole_messages(self, const uint8_t *p, Py_ssize_t n, list items) except -1:
        return 0

    @cython.final
    cdef Py_ssize_t _read_header(self, const uint8_t *p, Py_ssize_t n) except -1:
        cdef Py_ssize_t held = self._head_length
        cdef Py_ssize_t available = held + min(n, MAX_HEADER_LENGTH - held)
        cdef const uint8_t *head = self._head
        cdef Py_ssize_t end
        # Judged and used from a copy: the caller's memory may change between two looks, if other threads write there.
        memcpy(self._head + held, p, available - held)
        if available >= 1:
            self._check_first_byte(head[0])
        if available >= 2:
            self._check_second_byte(head[0] & OPCODE, head[1])
            end = _header_length(head[1])
            if available >= _header_length(head[1] & LENGTH):
                self._length = _payload_length(head)
                self._check_length(head[0] & OPCODE, self._length)
            if available >= end:
                self._head_length = 0
                self._begin_payload(head, end)
                return end - held
        self._head_length = available
        return n

    @cython.final
    cdef int _check_first_byte(self, uint8_t first) except -1:
        cdef uint8_t opcode = first & OPCODE
        cdef uint8_t rsv = (first & RSV) >> RSV_SHIFT
        cdef uint8_t allowed
        if self._strict:
            allowed = self._allow_rsv if opcode == TEXT or opcode == BINARY else 0
            if rsv & ~allowed:
                raise errors.reserved_bits(rsv, allowed)
            if BINARY < opcode < CLOSE or opcode > PONG:
                raise errors.reserved_opcode(opcode)
        if opcode & CONTROL:
            if not first & FIN:
                raise errors.fragmented_control(opcode)
            return 0
        if opcode == CONTINUATION and not self._in_message:
            raise errors.unexpected_continuation()
        if opcode != CONTINUATION and self._in_message:
            raise errors.expected_continuation(opcode)
        if self._fragments >= self._max_fragments:
            raise errors.too_many_fragments(self._max_fragments)
        return 0

    @cython.final
    cdef int _check_second_byte(self, uint8_t opcode, uint8_t second) except -1:
        cdef uint8_t length = second & LENGTH
        if opcode & CONTROL and length > MAX_CONTROL_LENGTH:
            raise errors.control_too_long(opcode)
        if opcode == CLOSE and length == 1:
            raise errors.close_too_short()
        if self._must_be_masked and not second & MASK:
            raise errors.not_masked()
        if self._must_be_unmasked and second & MASK:
            raise errors.masked()
        return 0

    @cython.final
    cdef int _check_length(self, uint8_t opcode, uint64_t length) except -1:
        if opcode & CONTROL:
            return 0
        if length > self._max_frame_size:
            raise errors.frame_too_big(length, self._max_frame_size)
        # By subtraction, so that no sum can wrap: _message_size never exceeds its limit.
        if length > self._max_message_size - self._message_size:
            raise errors.message_too_big(self._message_size + length, self._max_message_size)
        return 0

    @cython.final
    cdef int _begin_payload(self, const uint8_t *head, Py_ssize_t length) except -1:
        self._fin = head[0] >> 7
        self._rsv = (head[0] & RSV) >> RSV_SHIFT
        self._opcode = head[0] & OPCODE
        self._masked = head[1] >> 7
        if self._masked:
            memcpy(self._mask_key, head + length - MASK_KEY_LENGTH, MASK_KEY_LENGTH)
        self._remaining = self._length
        if not self._opcode & CONTROL:
            self._begin_fragment()
        elif self._opcode == CLOSE:
            self._close_reason.due = 0
            self._close_reason_length = 0
        self._in_payload = True
        return 0

    @cython.final
    cdef int _begin_fragment(self) except -1:
        if not self._in_message:
            self._in_message = True
            self._message_opcode = self._opcode
            self._message_rsv = self._rsv
            self._message_mask = self._masked
            self._is_text = self._opcode == TEXT and not self._rsv
            self._text.due = 0
            self._text_length = 0
        self._message_size += self._length
        self._fragments += 1
        return 0

    @cython.final
    cdef Py_ssize_t _read_payload(self, const uint8_t *p, Py_ssize_t n, list items) except -1:
        cdef Py_ssize_t size = <Py_ssize_t>min(<uint64_t>n, self._remaining)
        cdef uint8_t *room = self._room(size)
        if self._masked:
            ws_mask(room, p, size, self._mask_key, self._length - self._remaining)
        elif room != p:
            memmove(room, p, size)  # p may lie in the same memory, lent by get_buffer
        self._remaining -= size
        if self._opcode & CONTROL:
            self._control_length += size
            if self._opcode == CLOSE:
                self._check_close(room, size)
        else:
            if self._is_text:
                self._check_text(room, size)
            self._held += size
        if self._remaining:
            self._end_piece(items)
        else:
            self._end_frame(items)
        return size

    @cython.final
    cdef int _check_text(self, const uint8_t *p, Py_ssize_t n) except -1:
        cdef size_t good = ws_utf8_check(&self._text, p, n)
        self._text_length += good
        if good < <size_t>n:
            raise errors.invalid_utf8(self._text_length)
        if self._fin and not self._remaining and self._text.due:
            raise errors.unfinished_utf8(self._text_length)
        return 0

    cdef uint8_t *_room(self, Py_ssize_t size) except NULL:
        """Where the next `size` bytes of the payload go; memory grows with what arrives, not with what is announced."""
        if self._opcode & CONTROL:
            return self._control + self._control_length
        if self._is_joined():
            if self._joined is None:
                self._joined = bytearray()
            PyByteArray_Resize(self._joined, self._held + size)
            return <uint8_t *>PyByteArray_AS_STRING(self._joined) + self._held
        if self._held + size > self._capacity:
            self._grow(self._held + size)
        return self._memory + self._held

    @cython.final
    cdef int _grow(self, Py_ssize_t size) except -1:
        cdef bytes smaller = self._payload
        cdef Py_ssize_t capacity = <Py_ssize_t>min(
            <uint64_t>max(4 * self._capacity, size, MAX_READ_SIZE), self._length
        )
        _prepare_for(capacity)
        self._payload = PyBytes_FromStringAndSize(NULL, capacity)
        self._memory = <uint8_t *>_BYTES(<PyObject *>self._payload)
        self._capacity = capacity
        if smaller is not None:
            memcpy(self._memory, PyBytes_AS_STRING(smaller), self._held)
        return 0

    @cython.final
    cdef bint _is_joined(self) noexcept:
        return self._joins and not (self._fin and self._opcode != CONTINUATION)

    @cython.final
    cdef int _check_close(self, const uint8_t *p, Py_ssize_t n) except -1:
        """Judge the last n bytes of the Close frame's payload, which stand at p."""
        cdef Py_ssize_t before = self._control_length - n
        cdef Py_ssize_t skip = min(max(CLOSE_CODE_LENGTH - before, 0), n)
        cdef size_t good
        if before < CLOSE_CODE_LENGTH <= self._control_length:
            code = self._control[0] << 8 | self._control[1]
            if not wire.is_close_code(code):
                raise errors.close_code(code)
        good = ws_utf8_check(&self._close_reason, p + skip, n - skip)
        self._close_reason_length += good
        if good < <size_t>(n - skip):
            raise errors.invalid_utf8(self._close_reason_length)
        if not self._remaining and self._close_reason.due:
            raise errors.unfinished_utf8(self._close_reason_length)
        return 0

    @cython.final
    cdef int _end_frame(self, list items) except -1:
        self._in_payload = False
        if self._opcode & CONTROL:
            self._end_control(items)
        else:
            self._end_fragment(items)
            if self._fin:
                self._in_message = False
                self._message_size = self._fragments = 0
                self.messages_received += 1
        self.frames_received += 1
        return 0

    @cython.final
    cdef int _end_control(self, list items) except -1:
        items.append(self._whole_item(PyBytes_FromStringAndSize(<char *>self._control, self._control_length)))
        self._control_length = 0
        self.eventful = True
        self.closed = self._opcode == CLOSE
        self.pings_received += self._opcode == PING
        self.pongs_received += self._opcode == PONG
        return 0

    cdef object _whole_item(self, bytes payload):
        return None

    cdef int _end_piece(self, list items) except -1:
        return 0

    cdef int _end_fragment(self, list items) except -1:
        self._take_payload()  # so that a bare _Decoder, which nobody needs, keeps its memory in order too
        return 0

    @cython.final
    cdef bytes _take_payload(self):
        payload = self._payload if self._joined is None else bytes(self._joined)
        self._drop_payload()
        return payload

    @cython.final
    cdef int _drop_payload(self) except -1:
        self._payload = self._joined = None
        self._held = 0
        self._capacity = -1
        return 0


@cython.final
cdef class FrameDecoder(_Decoder):
    """bytes -> frames: every rule of RFC 6455 is checked, nothing is joined.

    Args:
        role: who we are, "server" or "client"; so who must mask.
        strict: False lets reserved opcodes, reserved bits and either masking pass, to be seen on the frame.
        require_mask: False lets a server take unmasked frames; a client takes no masked ones all the same.
        max_message_size: bytes that the frames of one message may hold together, None for no limit.
        max_frame_size: bytes that one frame may hold, None for no limit.
        max_fragments: frames that one message may have, empty ones included, None for no limit.
        allow_rsv: the reserved bits (:class:`wslowlevel.Rsv`) that an extension has negotiated for the frame that
            opens a message. Text under such a bit is not checked for UTF-8.

    Every limit is inclusive, concerns data frames, and is judged as soon as a header tells the length; crossing one
    is PayloadTooBig.

    Attributes:
        error: what ended the stream, None while it goes on. It is known as soon as the bytes that prove it were fed,
            and raised by the same call, or by the next one when that call still had something to hand out.
        closed: whether a Close frame was handed out; what arrives after it is discarded (RFC 6455 §1.4).
        eventful: whether the last call that decoded handed out a control frame, or met what ends the stream.
        buffered: bytes held of a frame or message that is not complete.
        bytes_received: bytes given to `feed` and `buffer_updated`, those included that a Close frame or an error made
            worthless.
        frames_received: frames of any kind that arrived whole, and broke no rule.
        messages_received: the same of text and binary messages.
        pings_received, pongs_received: the same of ping and pong frames.

    Raises:
        TypeError, ValueError: an argument of the wrong kind.
    """

    def __init__(
        self, *, role, strict=True, require_mask=True, max_message_size=None, max_frame_size=wire.DEFAULT_MAX_SIZE,
        max_fragments=None, allow_rsv=0,
    ):
        _Decoder.__init__(
            self, role, strict, require_mask, max_message_size, max_frame_size, max_fragments, allow_rsv
        )

    cdef object _whole_item(self, bytes payload):
        cdef Frame frame = Frame.__new__(Frame)
        self._fill(frame)
        frame.payload = payload
        return frame

    cdef int _end_fragment(self, list items) except -1:
        cdef Frame frame = Frame.__new__(Frame)
        self._fill(frame)
        frame.payload = self._payload
        items.append(frame)
        self._drop_payload()
        return 0

    cdef int _fill(self, Frame frame) except -1:
        frame._opcode, frame.fin = _opcode_object(self._opcode), self._fin
        frame.rsv1, frame.rsv2, frame.rsv3 = self._rsv >> 2, self._rsv >> 1 & 1, self._rsv & 1
        if self._masked:
            frame.mask_key = PyBytes_FromStringAndSize(<char *>self._mask_key, MASK_KEY_LENGTH)
        return 0


@cython.final
cdef class MessageDecoder(_Decoder):
    """bytes -> messages: as :class:`FrameDecoder`, with the fragments of a message joined.

    Control frames are handed out as messages too, in their place, also from between the fragments of another.

    Arguments and attributes are those of :class:`FrameDecoder`; by default a message may have 16 MiB and 16,384
    fragments.
    """

    def __init__(
        self, *, role, strict=True, require_mask=True, max_message_size=wire.DEFAULT_MAX_SIZE, max_frame_size=None,
        max_fragments=wire.DEFAULT_MAX_FRAGMENTS, allow_rsv=0,
    ):
        _Decoder.__init__(
            self, role, strict, require_mask, max_message_size, max_frame_size, max_fragments, allow_rsv
        )
        self._joins = True

    cdef Py_ssize_t _read_whole_messages(self, const uint8_t *p, Py_ssize_t n, list items) except -1:
        """The messages of one frame each that stand at p, whole: most of what arrives -> their length, with headers.

        It takes only what breaks no rule and leaves anything else, and all judgement, to `_read_header` and
        `_read_payload`, which would read these messages with the same result, but store each step of it.
        """
        cdef uint8_t head[MAX_HEADER_LENGTH]
        cdef Py_ssize_t position = 0, start
        cdef uint64_t length
        cdef Message message
        while n - position >= MAX_HEADER_LENGTH:
            memcpy(head, p + position, MAX_HEADER_LENGTH)  # judged and used from a copy, as in _read_header
            start = _header_length(head[1])
            length = _stated_length(head)
            if not self._may_pass(head, length) or length > <uint64_t>(n - position - start):
                break
            message = Message.__new__(Message)
            if not self._fill_whole(message, head, p + position + start, <Py_ssize_t>length):
                break
            items.append(message)
            self.frames_received += 1
            self.messages_received += 1
            position += start + <Py_ssize_t>length
        return position

    cdef bint _may_pass(self, const uint8_t *head, uint64_t length) noexcept:
        """Does this header open and end a message, and break no rule?"""
        cdef uint8_t opcode = head[0] & OPCODE
        cdef uint8_t rsv = (head[0] & RSV) >> RSV_SHIFT
        return (
            head[0] & FIN and (opcode == TEXT or opcode == BINARY) and not rsv & ~self._allow_rsv
            and not (self._must_be_unmasked if head[1] & MASK else self._must_be_masked)
            and _is_minimal(head[1], length)
            and length <= self._max_frame_size and length <= self._max_message_size and self._max_fragments > 0
        )

    cdef bint _fill_whole(self, Message message, const uint8_t *head, const uint8_t *p, Py_ssize_t n) except -1:
        """Make it the message whose payload is the n bytes at p; False if they have to be UTF-8 and are not (§8.1)."""
        cdef uint8_t *out
        cdef ws_utf8 text
        _fill(message, head[0] & OPCODE, (head[0] & RSV) >> RSV_SHIFT, head[1] >> 7)
        _prepare_for(n)
        message.payload = PyBytes_FromStringAndSize(NULL, n)
        out = <uint8_t *>_BYTES(<PyObject *>message.payload)
        if message.mask:
            ws_mask(out, p, n, head + _header_length(head[1]) - MASK_KEY_LENGTH, 0)
        else:
            memcpy(out, p, n)
        if head[0] & (OPCODE | RSV) != TEXT:
            return True
        text.due = 0
        return ws_utf8_check(&text, out, n) == <size_t>n and not text.due

    cdef object _whole_item(self, bytes payload):
        cdef Message message = Message.__new__(Message)
        _fill(message, self._opcode, self._rsv, self._masked)
        message.payload = payload
        return message

    cdef int _end_fragment(self, list items) except -1:
        cdef Message message
        if self._fin:
            message = Message.__new__(Message)
            _fill(message, self._message_opcode, self._message_rsv, self._message_mask)
            message.payload = self._payload if self._joined is None else bytes(self._joined)
            items.append(message)
            self._drop_payload()
        return 0


cdef inline int _fill(Message message, uint8_t opcode, uint8_t rsv, uint8_t mask) except -1:
    message._opcode, message.mask = _opcode_object(opcode), mask
    message.rsv1, message.rsv2, message.rsv3 = rsv >> 2, rsv >> 1 & 1, rsv & 1
    return 0


@cython.final
cdef class ChunkDecoder(_Decoder):
    """bytes -> chunks: as :class:`FrameDecoder`, with the payload of each data frame handed out as it arrives.

    A call of `feed` or `buffer_updated` gives one chunk of each data frame whose payload it brings bytes of, and one of
    each that is empty; nothing of such a payload is held between calls. UTF-8 is checked over all chunks of a text
    message: the chunk that proves it wrong is not handed out. Control frames come whole, in their place, also from
    between the fragments of a message.

    Arguments and attributes are those of :class:`FrameDecoder`; by default a message may have any size and any number
    of fragments, for none of it is held.
    """

    def __init__(
        self, *, role, strict=True, require_mask=True, max_message_size=None, max_frame_size=None, max_fragments=None,
        allow_rsv=0,
    ):
        _Decoder.__init__(
            self, role, strict, require_mask, max_message_size, max_frame_size, max_fragments, allow_rsv
        )

    cdef _Lent _new_read_buffer(self):
        return _lend_new(_read_size(self._remaining if self._in_payload else 0))

    cdef uint8_t *_room(self, Py_ssize_t size) except NULL:
        """Each chunk of data is an object of its own, and of its very size."""
        if self._opcode & CONTROL:
            return _Decoder._room(self, size)
        self._payload = PyBytes_FromStringAndSize(NULL, size)
        return <uint8_t *>_BYTES(<PyObject *>self._payload)

    cdef object _whole_item(self, bytes payload):
        return _chunk(self._opcode, payload, 1, 1, 1, 1, self._rsv, self._masked)

    cdef int _end_piece(self, list items) except -1:
        if self._held:
            items.append(self._take_chunk())
        return 0

    cdef int _end_fragment(self, list items) except -1:
        items.append(self._take_chunk())
        return 0

    cdef Chunk _take_chunk(self):
        cdef bint started = <uint64_t>self._held == self._length - self._remaining
        cdef bint finished = not self._remaining
        return _chunk(
            self._message_opcode, self._take_payload(),
            started and self._opcode != CONTINUATION, started, finished, finished and self._fin,
            self._message_rsv, self._message_mask,
        )


cdef Chunk _chunk(
    uint8_t opcode, bytes payload, bint message_started, bint frame_started, bint frame_finished, bint message_finished,
    uint8_t rsv, uint8_t mask,
):
    cdef Chunk chunk = Chunk.__new__(Chunk)
    chunk._opcode, chunk.payload, chunk.mask = _opcode_object(opcode), payload, mask
    chunk.message_started, chunk.frame_started = message_started, frame_started
    chunk.frame_finished, chunk.message_finished = frame_finished, message_finished
    chunk.rsv1, chunk.rsv2, chunk.rsv3 = rsv >> 2, rsv >> 1 & 1, rsv & 1
    return chunk


# -- An endpoint (RFC 6455 §5.1, §5.4) --------------------------------------------------------------------------------


cdef class Endpoint:
    """What one side of a connection does once a frame, or once a read: all that needs no thought.

    Args:
        role: who we are, "server" or "client".

    Attributes:
        decoder: what decodes, a MessageDecoder or a ChunkDecoder; a subclass brings it, and `_see_events(items)`.
        eventful: whether what was decoded last holds more than data: control frames, or the end of the stream.
        failed: whether nothing is to be decoded any more.
        state, ended, extensions: what a subclass knows of the connection, for whoever asks after each read.
        passing: whether whole messages of data may be sent without a further look, see `passes`.
        passed: how many were.
        bytes_sent: bytes of those, and of the frames that `count_bytes` was called for.
        high_water: the most bytes that waited to be sent at the time of a write.
    """

    def __init__(self, *, role):
        if role not in ("server", "client"):
            raise errors.wrong_role(role)
        self.extensions = ()
        self._mask_bit = MASK if role == "client" else 0

    def feed(self, data):
        """Decode what arrived, any C-contiguous buffer; a violation is left in the decoder's `error`, not raised.

        Returns:
            Messages, or chunks, as they stood on the wire.
        """
        cdef list items = []
        cdef _Decoder decoder = self.decoder  # held: whatever runs meanwhile may put another one in its place
        if self.failed:
            return items
        try:
            items = decoder.feed(data)
        except errors.WebSocketError:
            pass
        return self._seen(decoder, items)

    @cython.nonecheck(True)
    def get_buffer(self, hint=-1):
        """Memory to receive into, see :meth:`wslowlevel.codec.MessageDecoder.get_buffer`."""
        _integer(hint, "hint", -1, INT64_MAX)
        return self.decoder._lend()

    @cython.nonecheck(True)
    def buffer_updated(self, nbytes):
        """Decode what was received into the buffer; otherwise as `feed`."""
        cdef list items = []
        cdef _Decoder decoder = self.decoder
        if self.failed:
            return items
        try:
            items = decoder._decode_lent(_integer(nbytes, "nbytes", 0, INT64_MAX))
        except errors.WebSocketError:
            pass
        return self._seen(decoder, items)

    cdef list _seen(self, _Decoder decoder, list items):
        self.eventful = decoder.eventful
        if self.eventful:
            self._see_events(items)
        return items

    cpdef bint passes(self, frame) except -1:
        """Tell whether a frame is a whole message, masked as it must be, that may be sent now; count it if so.

        Args:
            frame: anything; only `bytes` pass.
        """
        cdef const uint8_t *head
        if not self.passing or type(frame) is not bytes or PyBytes_GET_SIZE(frame) < MIN_HEADER_LENGTH:
            return False
        head = <const uint8_t *>PyBytes_AS_STRING(frame)
        if (head[0] != FIN | TEXT and head[0] != FIN | BINARY) or head[1] & MASK != self._mask_bit:
            return False
        self.passed += 1
        self.bytes_sent += PyBytes_GET_SIZE(frame)
        return True

    cpdef count_bytes(self, uint64_t size):
        """Add the bytes of a frame that did not pass, and is sent all the same, to `bytes_sent`."""
        self.bytes_sent += size

    cpdef note_waiting(self, uint64_t size):
        """Record how many bytes wait to be sent at the time of a write, those that it writes included."""
        self.high_water = max(self.high_water, size)


# -- For other Cython modules (see _codec.pxd) ------------------------------------------------------------------------


cdef void mask(uint8_t *out, const uint8_t *data, size_t n, const uint8_t *key, size_t offset) noexcept nogil:
    ws_mask(out, data, n, key, offset)


cdef int read_header(const uint8_t *data, size_t n, FrameHeader *header) noexcept nogil:
    if n < MIN_HEADER_LENGTH or <Py_ssize_t>n < _header_length(data[1]):
        return 0
    header.length = _header_length(data[1])
    header.payload_length = _stated_length(data)
    if header.payload_length > <uint64_t>INT64_MAX or not _is_minimal(data[1], header.payload_length):
        return -1
    header.fin, header.opcode, header.rsv = data[0] >> 7, data[0] & OPCODE, (data[0] & RSV) >> RSV_SHIFT
    header.mask = data[1] >> 7
    if header.mask:
        memcpy(header.mask_key, data + header.length - MASK_KEY_LENGTH, MASK_KEY_LENGTH)
    return 1


cdef size_t write_header(uint8_t *out, const FrameHeader *header) noexcept nogil:
    cdef uint8_t first = header.fin << 7 | header.rsv << RSV_SHIFT | header.opcode
    cdef const uint8_t *key = NULL
    if header.mask:
        key = header.mask_key
    return _write_header(out, first, header.payload_length, key)


cdef size_t check_utf8(ws_utf8 *state, const uint8_t *data, size_t n) noexcept nogil:
    return ws_utf8_check(state, data, n)

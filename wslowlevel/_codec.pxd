"""The compiled codec for other Cython modules: `from wslowlevel cimport _codec`

What they may use are the functions below and the classes with their attributes, methods and `decode`; what begins with
an underscore is the codec's own. Nothing has to be on the include path.

Memory belongs to the caller, who sees to it that nothing else writes there during a call; no call keeps a pointer.
"""

from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t


# Here and not in _kernels.h, which other modules must not include: each would mask with a kernel choice of its own.
cdef extern from *:
    """
    #include <stdint.h>

    typedef struct {
        uint8_t due, lowest, highest; /* continuation bytes; the bounds of the next one */
    } ws_utf8;
    """
    ctypedef struct ws_utf8:
        uint8_t due


cdef struct FrameHeader:  # RFC 6455 §5.2
    uint8_t fin, rsv, opcode, mask  # 0 or 1; the three bits as one number, 0 to 7; 0 to 15; 0 or 1
    uint8_t mask_key[4]  # only if mask is 1
    uint64_t payload_length  # bytes, 0 to 2**63 - 1
    size_t length  # bytes of the header itself, 2 to 14; written by read_header, ignored by write_header


# XORs n bytes with a masking key of 4 bytes, from its byte `offset % 4` on (§5.3). `out` is `data`, or does not overlap.
cdef void mask(uint8_t *out, const uint8_t *data, size_t n, const uint8_t *key, size_t offset) noexcept nogil

# 1: the header is there, and filled in; 0: n bytes do not hold all of it; -1: its length is over 63 bits, or not in its
# shortest form. Its bits and opcode are reported, not judged.
cdef int read_header(const uint8_t *data, size_t n, FrameHeader *header) noexcept nogil

# Writes 2 to 14 bytes -> how many; `out` has room for 14. Nothing is judged: the fields are as said above.
cdef size_t write_header(uint8_t *out, const FrameHeader *header) noexcept nogil

# Checks a piece of a text (§8.1) -> the index of its first bad byte, n if there is none. `state.due = 0` begins a text;
# afterwards it is how many bytes the last character still lacks, 0 where the text may end.
cdef size_t check_utf8(ws_utf8 *state, const uint8_t *data, size_t n) noexcept nogil


cdef class Header:
    cdef readonly uint8_t opcode, fin, rsv1, rsv2, rsv3
    cdef readonly uint64_t payload_length
    cdef readonly bytes mask_key
    cdef tuple _fields(self)


cdef class Utf8Validator:
    cdef ws_utf8 _state
    cdef readonly uint64_t position
    cdef object _error


cdef class Frame:
    cdef PyObject *_opcode
    cdef readonly uint8_t fin, rsv1, rsv2, rsv3
    cdef readonly bytes payload, mask_key
    cdef tuple _fields(self)


cdef class Message:
    cdef PyObject *_opcode
    cdef readonly uint8_t rsv1, rsv2, rsv3, mask
    cdef readonly bytes payload
    cdef tuple _fields(self)


cdef class Chunk:
    cdef PyObject *_opcode
    cdef readonly uint8_t message_started, frame_started, frame_finished, message_finished
    cdef readonly uint8_t rsv1, rsv2, rsv3, mask
    cdef readonly bytes payload
    cdef tuple _fields(self)


cdef class _Lent:
    cdef bytes _owner
    cdef uint8_t *_start
    cdef Py_ssize_t _size


cdef class _Decoder:
    cdef bint _joins, _strict, _must_be_masked, _must_be_unmasked
    cdef uint64_t _max_message_size, _max_frame_size, _max_fragments
    cdef uint8_t _allow_rsv

    cdef readonly object error
    cdef readonly bint closed, eventful
    cdef bint _busy, _is_busy_stream
    cdef _Lent _read_buffer

    cdef readonly uint64_t bytes_received, frames_received, messages_received, pings_received, pongs_received

    cdef uint8_t _head[14]
    cdef Py_ssize_t _head_length
    cdef bint _in_payload, _fin, _masked
    cdef uint8_t _rsv, _opcode
    cdef uint8_t _mask_key[4]
    cdef uint64_t _length, _remaining
    cdef uint8_t _control[125]
    cdef Py_ssize_t _control_length
    cdef ws_utf8 _close_reason
    cdef uint64_t _close_reason_length

    cdef bint _in_message, _is_text
    cdef uint8_t _message_opcode, _message_rsv, _message_mask
    cdef uint64_t _message_size, _fragments
    cdef ws_utf8 _text
    cdef uint64_t _text_length
    cdef bytes _payload
    cdef bytearray _joined
    cdef Py_ssize_t _held, _capacity
    cdef uint8_t *_memory

    cdef int _begin_stream(self) except -1
    cdef object _lend(self)
    cdef _Lent _new_read_buffer(self)
    cdef list _decode_lent(self, Py_ssize_t size)
    cdef list decode(self, const uint8_t *p, Py_ssize_t n)  # as `feed`, from memory that nothing else changes meanwhile
    cdef int _parse(self, const uint8_t *p, Py_ssize_t n, list items) except -1
    cdef Py_ssize_t _read_whole_messages(self, const uint8_t *p, Py_ssize_t n, list items) except -1
    cdef Py_ssize_t _read_header(self, const uint8_t *p, Py_ssize_t n) except -1
    cdef int _check_first_byte(self, uint8_t first) except -1
    cdef int _check_second_byte(self, uint8_t opcode, uint8_t second) except -1
    cdef int _check_length(self, uint8_t opcode, uint64_t length) except -1
    cdef int _begin_payload(self, const uint8_t *head, Py_ssize_t length) except -1
    cdef int _begin_fragment(self) except -1
    cdef Py_ssize_t _read_payload(self, const uint8_t *p, Py_ssize_t n, list items) except -1
    cdef int _check_text(self, const uint8_t *p, Py_ssize_t n) except -1
    cdef uint8_t *_room(self, Py_ssize_t size) except NULL
    cdef int _grow(self, Py_ssize_t size) except -1
    cdef bint _is_joined(self) noexcept
    cdef int _check_close(self, const uint8_t *p, Py_ssize_t n) except -1
    cdef int _end_frame(self, list items) except -1
    cdef int _end_control(self, list items) except -1
    cdef object _whole_item(self, bytes payload)
    cdef int _end_piece(self, list items) except -1
    cdef int _end_fragment(self, list items) except -1
    cdef bytes _take_payload(self)
    cdef int _drop_payload(self) except -1


cdef class FrameDecoder(_Decoder):
    cdef int _fill(self, Frame frame) except -1


cdef class MessageDecoder(_Decoder):
    cdef bint _may_pass(self, const uint8_t *head, uint64_t length) noexcept
    cdef bint _fill_whole(self, Message message, const uint8_t *head, const uint8_t *p, Py_ssize_t n) except -1


cdef class ChunkDecoder(_Decoder):
    cdef Chunk _take_chunk(self)


cdef class Endpoint:
    cdef public _Decoder decoder
    cdef public object state
    cdef public tuple extensions
    cdef public bint eventful, failed, passing, ended
    cdef readonly uint64_t passed, bytes_sent, high_water
    cdef uint8_t _mask_bit

    cdef list _seen(self, _Decoder decoder, list items)
    cpdef bint passes(self, frame) except -1
    cpdef count_bytes(self, uint64_t size)
    cpdef note_waiting(self, uint64_t size)

# cython: language_level=3
"""What _codec.pxd offers, called without the GIL where it needs none, for check.py to compare."""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy
from wslowlevel cimport _codec


def masked(bytes data, bytes key, size_t offset):
    cdef bytearray copy = bytearray(len(data))
    cdef uint8_t *out = copy
    cdef const uint8_t *source = data
    cdef const uint8_t *octets = key
    cdef size_t n = len(data)
    with nogil:
        _codec.mask(out, source, n, octets, offset)
    return bytes(copy)


def masked_in_place(bytearray data, bytes key, size_t offset):
    cdef uint8_t *out = data
    cdef const uint8_t *octets = key
    cdef size_t n = len(data)
    with nogil:
        _codec.mask(out, out, n, octets, offset)


def header_of(bytes data):
    """The fields and what is written of them again; 0 or -1 where there is no header."""
    cdef _codec.FrameHeader header
    cdef const uint8_t *p = data
    cdef size_t n = len(data)
    cdef size_t written = 0
    cdef uint8_t out[14]
    cdef int found
    with nogil:
        found = _codec.read_header(p, n, &header)
        if found == 1:
            written = _codec.write_header(out, &header)
    if found != 1:
        return found
    key = (<char *>header.mask_key)[:4] if header.mask else None
    fields = header.opcode, header.payload_length, header.fin, header.rsv, key, header.length
    return fields, (<char *>out)[:written]


def text_state(list pieces):
    """The bytes that are good, and how many are due after them; None where one is wrong."""
    cdef _codec.ws_utf8 state
    cdef const uint8_t *p
    cdef size_t n, good, position = 0
    state.due = 0
    for piece in pieces:
        p, n = <bytes>piece, len(piece)
        with nogil:
            good = _codec.check_utf8(&state, p, n)
        position += good
        if good < n:
            return position, None
    return position, state.due


def decode(_codec._Decoder decoder not None, bytes data, list items not None):
    """Adds to the items."""
    cdef const uint8_t *p = data
    items += decoder.decode(p, len(data))


def receive(_codec._Decoder decoder not None, bytes data, list items not None):
    """As decode, through the memory that the decoder lends, filled without the GIL."""
    cdef uint8_t[::1] room
    cdef const uint8_t *p = data
    cdef size_t n, done = 0, size = len(data)
    while done < size:
        room = decoder.get_buffer()
        n = min(<size_t>room.shape[0], size - done)
        with nogil:
            memcpy(&room[0], p + done, n)
        done += n
        items += decoder.buffer_updated(n)

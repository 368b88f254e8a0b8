# cython: language_level=3, auto_pickle=False, autotestdict=False, nonecheck=True
"""what is decoded -> the task that waits for it; frames -> one write, compiled

The twin of `_stream_py.py`, which says what is done and why.
"""

cimport cython
from cpython.bytes cimport PyBytes_AsString, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject

import asyncio
from contextvars import Context, copy_context

from .._codec cimport Endpoint
from .. import errors, wire
from ..connection import State
from ._stream_py import DONE


cdef extern from *:
    """
    #ifdef _WIN32
    /* No transport there is given up its descriptor (transports.py). */
    struct iovec { void *iov_base; size_t iov_len; };
    #define ws_write(descriptor, pieces, count) (-1)
    #else
    #include <sys/uio.h>
    #include <unistd.h>

    static Py_ssize_t ws_write(int descriptor, struct iovec *pieces, int count) {
        return count == 1 ? write(descriptor, pieces->iov_base, pieces->iov_len) : writev(descriptor, pieces, count);
    }
    #endif
    """
    ctypedef struct ws_iovec "struct iovec":
        void *iov_base
        size_t iov_len

    Py_ssize_t ws_write(int descriptor, ws_iovec *pieces, int count) noexcept nogil


cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() noexcept nogil


cdef enum:
    IOV_MAX = 1024


cdef object _OPEN = State.OPEN
cdef object _CLOSED = State.CLOSED
cdef object _DONE = DONE
cdef object _current_task = asyncio.current_task
cdef object _get_running_loop = asyncio._get_running_loop
cdef Py_ssize_t _JOIN_LIMIT = wire.JOIN_LIMIT
cdef Py_ssize_t _READ_SIZE = wire.READ_SIZE
cdef Py_ssize_t _MANY_MESSAGES = wire.MANY_MESSAGES


cdef class Stream:
    cdef public Endpoint _connection
    cdef public object _loop, _transport
    cdef public bint _has_begun, _is_plain, _is_reading
    cdef public Py_ssize_t _arrived, _undelivered
    cdef public list _batches
    cdef public Wakeup _readable
    cdef public object _on_message, _failure

    cdef public bint held, must_wait, _flush_is_due, _writing_paused, _transport_waits
    cdef readonly Py_ssize_t queued
    cdef public Py_ssize_t _written_in_turn
    cdef public unsigned long _thread
    cdef public int _descriptor
    cdef Py_ssize_t _limit, _longest
    cdef list _frames
    cdef public Sent _sent

    def __init__(self, connection, *, limit):
        self._loop = asyncio.get_running_loop()
        self._thread = PyThread_get_thread_ident()
        self._connection = connection
        self._is_reading = True
        self._batches = []
        self._readable = Wakeup(self._loop)
        self._limit = limit
        self._descriptor = -1
        self._drop()

    # -- In -----------------------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint):
        return self._connection.get_buffer() if self._has_begun else self._early_buffer()

    def buffer_updated(self, Py_ssize_t nbytes):
        if not self._is_plain:
            self._buffer_updated(nbytes)
            return
        cdef list messages = self._connection.buffer_updated(nbytes)
        self._arrived += nbytes
        if nbytes >= _READ_SIZE and len(messages) > _MANY_MESSAGES:
            self._note_full_read()
        if self._connection.eventful:
            self._received(messages)
        elif not messages:
            return
        elif self._on_message is None or self._batches or self._connection.extensions:
            self._put(messages)
        else:
            self._hand_out_in(self._readable.context, messages)
            return
        self._wake_and_flush()

    def _put_batch(self, list messages not None):
        self._put(messages)

    cdef int _put(self, list messages) except -1:
        self._batches.append((messages, self._arrived))
        self._undelivered += self._arrived
        self._arrived = 0
        return 0

    cdef int _hand_out_in(self, object context, list messages) except -1:
        PyContext_Enter(context)
        try:
            return self._hand_out(messages)
        finally:
            PyContext_Exit(context)

    cdef int _hand_out(self, list messages) except -1:
        cdef bint was_due = self._flush_is_due
        cdef Py_ssize_t taken = 0
        self._flush_is_due = True
        try:
            for message in messages:
                if self._on_message is None:
                    break
                taken += 1
                self._on_message(message)
        except BaseException as error:
            self._failure, self._on_message = error, None
        finally:
            self._flush_is_due = was_due
        if taken == len(messages):
            self._arrived = 0
        else:
            self._put(messages[taken:])
        if self._failure is not None:
            self._readable.wake_soon()
        return self._flush_and_read_on()

    def _go_on(self):
        self._wake_and_flush()

    cdef int _wake_and_flush(self) except -1:
        cdef bint was_due = self._flush_is_due
        self._flush_is_due = True
        try:
            self._readable.wake()
        finally:
            self._flush_is_due = was_due
        return self._flush_and_read_on()

    cdef int _flush_and_read_on(self) except -1:
        self._flush()
        if self._undelivered or self.queued or not self._is_reading or self._connection.ended:
            self._update_reading()
        return 0

    def take_batch(self):
        return self._taken_batch()

    cdef object _taken_batch(self):
        cdef list batch
        if PyThread_get_thread_ident() != self._thread:
            self._check_thread("get_messages")
        if not self._batches:
            if self._connection.state is not _OPEN:
                self._raise_if_ended()
            self._flush()
            return None
        batch, size = self._batches[0]
        del self._batches[0]
        self._undelivered -= size
        if not self._is_reading:
            self._update_reading()
        if self._connection.ended or self._connection.extensions:
            return self._opened_batch(batch)
        return iter(batch)

    def wait_readable(self):
        if self._readable.is_awaited:
            raise errors.already_waited()
        self._written_in_turn = 0
        return self._readable

    # -- Out ----------------------------------------------------------------------------------------------------------

    def send(self, frame):
        cdef Endpoint connection = self._connection
        if PyThread_get_thread_ident() != self._thread or (
            not self._flush_is_due and _get_running_loop() is not self._loop
        ):
            self._check_thread("send")
        # Nothing looks at whether there is one in a call past its own type: what is asked before does.
        if self.held or not connection.passing or not Endpoint.passes(connection, frame):
            return self._send_other(frame)
        self._append(<bytes>frame)
        return _new_sent(self) if self._sent is None else self._sent

    def enqueue(self, bytes frame not None):
        self._append(frame)

    cdef int _append(self, bytes frame) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(frame)
        self._frames.append(frame)
        self.queued += size
        self._longest = max(self._longest, size)
        if self.queued >= self._limit or not self._flush_is_due:
            self._queue_grew()
        return 0

    def flush(self):
        self._flush()

    cdef int _flush(self) except -1:
        if self.queued and not self._writing_paused:
            self._write_frames()
        return 0

    def _write_queue(self):
        self._write_frames()

    cdef int _write_frames(self) except -1:
        cdef Py_ssize_t waiting
        cdef Endpoint connection = self._connection
        if self.queued and self._transport is not None and connection.state is not _CLOSED:
            waiting = self._transport.get_write_buffer_size() if self._transport_waits else 0
            Endpoint.note_waiting(connection, self.queued + waiting)
            self._write_chunks(self._take(), waiting)
        return 0

    def _write(self, list chunks not None, Py_ssize_t waiting):
        self._write_chunks(chunks, waiting)

    cdef int _write_chunks(self, list chunks, Py_ssize_t waiting) except -1:
        cdef list left = chunks
        cdef object transport = self._transport
        if transport.is_closing():
            return 0
        if not waiting and self._descriptor >= 0:
            left = _write_now(self._descriptor, chunks)
        self._transport_waits = bool(left)
        for chunk in left:
            if transport.is_closing():
                break
            transport.write(chunk)
        return 0

    def _take_frames(self):
        return self._take()

    cdef list _take(self):
        cdef list frames = self._frames
        cdef Py_ssize_t longest = self._longest
        self._drop()
        if len(frames) <= 1:
            return frames
        return [b"".join(frames)] if longest < _JOIN_LIMIT else _joined(frames)

    def _drop_frames(self):
        self._drop()

    cdef int _drop(self) except -1:
        self._frames = []
        self.queued = self._longest = 0
        return 0


cdef list _write_now(int descriptor, list chunks):
    cdef ws_iovec pieces[IOV_MAX]
    cdef Py_ssize_t index, written
    cdef int count = min(len(chunks), IOV_MAX)
    cdef Py_ssize_t size = 0
    cdef bytes chunk
    for index in range(count):
        chunk = chunks[index]
        pieces[index].iov_base, pieces[index].iov_len = PyBytes_AsString(chunk), PyBytes_GET_SIZE(chunk)
        size += PyBytes_GET_SIZE(chunk)
    if size < _JOIN_LIMIT:  # less time than it takes to let other threads run and to come back
        written = ws_write(descriptor, pieces, count)
    else:
        with nogil:
            written = ws_write(descriptor, pieces, count)
    if written < 0:
        return chunks
    for index, chunk in enumerate(chunks):
        if written < len(chunk):
            return [memoryview(chunk)[written:], *chunks[index + 1 :]]
        written -= len(chunk)
    return []


cdef list _joined(list frames):
    cdef list chunks = [], run = []
    cdef bytes frame
    for frame in frames:
        if len(frame) < _JOIN_LIMIT:
            run.append(frame)
            continue
        if run:
            chunks.append(b"".join(run))
            run = []
        chunks.append(frame)
    if run:
        chunks.append(b"".join(run))
    return chunks


cdef object _call_in(object context, object function, object argument):
    PyContext_Enter(context)
    try:
        return function(argument)
    finally:
        PyContext_Exit(context)


def _raise(error):
    raise error


@cython.freelist(16)
cdef class Sent:
    cdef Stream _stream

    def __init__(self, Stream stream not None):
        self._stream = stream

    def __await__(self):
        return self._stream.wait_sent().__await__() if self._stream.must_wait else _NOTHING


cdef Sent _new_sent(Stream stream):
    cdef Sent sent = Sent.__new__(Sent)
    sent._stream = stream
    return sent


@cython.final
cdef class _Nothing:
    """An iterator over nothing: to await it is to go on."""

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration


cdef _Nothing _NOTHING = _Nothing()


@cython.final
cdef class Wakeup:
    cdef public bint _asyncio_future_blocking
    cdef readonly bint is_awaited
    cdef readonly object context
    cdef bint _yielded
    cdef object _loop, _callback, _cancelled

    def __init__(self, loop):
        self._loop = loop
        self.context = Context()

    def __await__(self):
        self._cancelled = None
        self._yielded = False
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self._yielded:
            raise StopIteration
        self._yielded = self._asyncio_future_blocking = True
        return self

    cpdef wake(self):
        cdef object callback = self._callback
        if callback is None:
            return
        if _current_task(self._loop) is not None:
            self.wake_soon()
            return
        self._callback = None
        self.is_awaited = False
        try:
            _call_in(self.context, callback, _DONE)
        except (KeyboardInterrupt, SystemExit) as error:
            self._loop.call_soon(_raise, error)

    cpdef wake_soon(self):
        cdef object callback = self._callback
        self._callback = None
        if callback is not None:
            self._loop.call_soon(callback, self, context=self.context)

    # -- What asyncio asks of a future --------------------------------------------------------------------------------

    def get_loop(self):
        return self._loop

    def add_done_callback(self, callback, *, context=None):
        self._callback = callback
        self.context = copy_context() if context is None else context
        self.is_awaited = True

    def cancel(self, msg=None):
        if self._callback is None:
            return False
        self._cancelled = () if msg is None else (msg,)
        self.wake_soon()
        return True

    def result(self):
        self.is_awaited = False
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)


# -- The iterator -----------------------------------------------------------------------------------------------------

cdef extern from *:
    """
    static PyObject *(*ws_advance)(PyObject *, PyObject **);

    /* `raise StopIteration(value)` in an iterator's `__next__`, without the traceback that Cython would begin. From CPython
       3.12 on an exception in flight is an object: the last one is used again unless somebody has kept it, for to make
       one takes as long as all the rest of a step. */
    static PyStopIterationObject *ws_last;

    static PyObject *ws_return(PyObject *value) {
    #if PY_VERSION_HEX >= 0x030C0000
        if (ws_last && Py_REFCNT(ws_last) == 1 && !ws_last->traceback && !ws_last->context) {
            Py_XSETREF(ws_last->value, value);
        } else {
            /* Without arguments: they would keep the first value for ever. */
            Py_XSETREF(ws_last, (PyStopIterationObject *)PyObject_CallNoArgs(PyExc_StopIteration));
            if (!ws_last) {
                Py_DECREF(value);
                return NULL;
            }
            Py_XSETREF(ws_last->value, value);
        }
        PyErr_SetRaisedException(Py_NewRef((PyObject *)ws_last));
    #else
        PyErr_SetObject(PyExc_StopIteration, value);
        Py_DECREF(value);
    #endif
        return NULL;
    }

    static PyObject *ws_step(PyObject *step) {
        PyObject *item = NULL, *yielded = ws_advance(step, &item);
        if (!item) {
            if (ws_last && Py_REFCNT(ws_last) == 1) Py_XSETREF(ws_last->value, Py_NewRef(Py_None));
            return yielded;
        }
        Py_DECREF(yielded);
        return ws_return(item);
    }

    static void ws_advance_by(PyObject *type, void *advance) {
        ws_advance = (PyObject *(*)(PyObject *, PyObject **))advance;
        ((PyTypeObject *)type)->tp_iternext = ws_step;
    }

    #define ws_given(value) Py_NewRef(value)
    #define ws_taken(value) (value)
    """
    void ws_advance_by(object type, void *advance) noexcept
    PyObject *ws_given(object value) noexcept
    object ws_taken(PyObject *value)


cdef object _NOTHING_YET = iter(())
cdef object _ENDED = object()


cdef class Items:
    cdef Stream _stream
    cdef object _batch

    def __init__(self, Stream stream not None):
        self._stream = stream
        self._batch = _NOTHING_YET

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Step step = Step.__new__(Step)
        step._items = self
        return step


@cython.final
@cython.freelist(16)
cdef class Step:
    """What the twin's `__anext__` returns: a coroutine in all but its type.

    What stands in `_items` is None once it has ended; `_waiting` is an iterator over what it yields to the event loop.
    """
    cdef Items _items
    cdef object _waiting

    def __await__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef PyObject *item = NULL
        yielded = _advance(self, &item)
        if item != NULL:
            raise StopIteration(ws_taken(item))
        return yielded

    def throw(self, *error):
        cdef Items items = self._items
        self._items = None
        if not hasattr(self._waiting, "throw"):
            return (nothing for nothing in ()).throw(*error)
        try:
            yielded = self._waiting.throw(*error)
        except StopIteration:
            self._items, self._waiting = items, None
            return self.send(None)
        self._items = items
        return yielded

    def close(self):
        self._items = None
        if hasattr(self._waiting, "close"):
            self._waiting.close()


cdef object _advance(Step step, PyObject **item):
    """Go on with a step -> what it yields; or None, and the item that it returns."""
    cdef Items items = step._items
    if items is None:
        raise RuntimeError("cannot reuse already awaited coroutine")
    step._items = None
    while True:
        if step._waiting is not None:
            yielded = next(step._waiting, _ENDED)
            if yielded is not _ENDED:
                step._items = items
                return yielded
            step._waiting = None
        found = next(items._batch, _ENDED)
        if found is not _ENDED:
            item[0] = ws_given(found)
            return None
        batch = items._stream._taken_batch()
        if batch is None:
            step._waiting = items._stream.wait_readable().__await__()
        else:
            items._batch = batch


ws_advance_by(Step, <void *>_advance)

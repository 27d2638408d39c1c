"""The engine as Python sees it: `Bytes`, `Client`, `Queue`, `Transfer`.

The only module that compiles and calls ``csrc``. Rules of the room:

* No Python runs in a libcurl callback; loop threads never attach to the interpreter.
* A `Transfer` pins itself (one reference) from submit until its END was taken from a queue, and with itself every
  buffer that C reads from or writes to.
* Whatever blocks does so without the GIL and looks at signals every 50 ms.
* After fork nothing of the parent's generation is touched; see `Queue.usable`.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_FULL_RO, PyBUF_ND, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE,
    PyBuffer_FillInfo, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.datetime cimport datetime_new, get_utc, import_datetime
from cpython.dict cimport PyDict_SetItem
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MIN, UINT32_MAX, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcmp, memcpy, memset

from obstore._engine.csrc cimport *

from time import monotonic

from obstore._types import RawKey, Scatter

from cpython.pythread cimport PyThread_get_thread_ident as get_ident
from posix.unistd cimport pause

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    bytes PyUnicode_EncodeFSDefault(object text)
    Py_ssize_t PyNumber_AsSsize_t(object number, object error) except? -1
    int PySlice_Unpack(object slice_, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t *step) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t length, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t step)
    const Py_ssize_t PY_SSIZE_T_MAX
    const void *memmem(const void *haystack, size_t size, const void *needle, size_t needle_size) nogil

    ctypedef struct PyTypeObject:
        const char *tp_name

import_datetime()

include "bytes.pxi"
include "columns.pxi"
include "listing.pxi"


# ---- Client -------------------------------------------------------------------------------------------


cdef class Client:
    """Connection options of one store, immutable; any thread, any process generation.

    Args are those of ``ob_client_options`` (csrc/ob_engine.h); text or ``None``, times in milliseconds.
    """

    cdef ob_client *_c_client

    def __cinit__(
        self, *, str endpoint, user_agent=None, ca_file=None, ca_path=None, proxy=None, no_proxy=None,
        proxy_ca_file=None, int64_t connect_timeout_ms=0, int64_t timeout_ms=0, int64_t read_timeout_ms=0,
        int64_t idle_timeout_ms=0, int64_t dns_cache_ms=0, int64_t keep_alive_interval_ms=0, bint verify=True,
        int http_version=11, int follow=0, bint shuffle_dns=True, bint insecure_http=False,
        int64_t max_connections=0, double max_rate=0,
    ):
        cdef ob_client_options options
        texts = [
            None if text is None else text.encode()
            for text in (endpoint, user_agent, ca_file, ca_path, proxy, no_proxy, proxy_ca_file)
        ]
        options.endpoint = _c_text(texts[0])
        options.user_agent = _c_text(texts[1])
        options.ca_file = _c_text(texts[2])
        options.ca_path = _c_text(texts[3])
        options.proxy = _c_text(texts[4])
        options.no_proxy = _c_text(texts[5])
        options.proxy_ca_file = _c_text(texts[6])
        options.connect_timeout_ms = connect_timeout_ms
        options.timeout_ms = timeout_ms
        options.read_timeout_ms = read_timeout_ms
        options.idle_timeout_ms = idle_timeout_ms
        options.dns_cache_ms = dns_cache_ms
        options.keep_alive_interval_ms = keep_alive_interval_ms
        options.verify = verify
        options.http_version = http_version
        options.follow = follow
        options.shuffle_dns = shuffle_dns
        options.insecure_http = insecure_http
        options.max_connections = max_connections
        options.max_rate = max_rate
        self._c_client = ob_client_new(&options)
        if self._c_client == NULL:
            raise MemoryError("out of memory for a client")

    def __dealloc__(self):
        ob_client_unref(self._c_client)

    def limited(self, str endpoint not None, int64_t max_connections, double max_rate):
        """A client of the same options but these, whose transfers are counted with those of this one."""
        name = endpoint.encode()
        cdef ob_client *limited = ob_client_limited(
            self._c_client, PyBytes_AS_STRING(name), max_connections, max_rate
        )
        if limited == NULL:
            raise MemoryError("out of memory for a client")
        cdef Client client = Client.__new__(Client, endpoint="")
        ob_client_unref(client._c_client)
        client._c_client = limited
        return client

    def stats(self):
        """What became of this client's transfers (csrc/ob_engine.h, ob_client_stats)."""
        cdef ob_client_stats s
        ob_client_get_stats(self._c_client, &s)
        return s

    def __reduce__(self):
        raise TypeError("an engine client cannot be pickled")


cdef const char *_c_text(object text):
    """Borrowed: valid while the bytes object lives."""
    return NULL if text is None else PyBytes_AS_STRING(text)


# ---- Queue --------------------------------------------------------------------------------------------


cdef class Queue:
    """Completion queue: one per thread that waits and one per running event loop.

    A thread's queue may have claimed an inline loop: then `wait` drives it, and `leave` lets it go on by itself.
    """

    cdef ob_cq *_c_cq
    cdef ob_loop *_c_inline  # claimed by a submit
    cdef uint32_t _c_generation

    def __cinit__(self):
        _reap_orphans()
        self._c_cq = ob_cq_new()
        if self._c_cq == NULL:
            raise OSError("cannot make a completion queue: out of memory or file descriptors")
        self._c_generation = ob_engine_generation()

    def __dealloc__(self):
        if self._c_cq != NULL:
            # A queue of the parent's generation shares its descriptor with the parent: dropping it only closes our copy.
            if self._c_generation == ob_engine_generation():
                self._leave()
                ob_cq_close(self._c_cq)
            ob_cq_unref(self._c_cq)

    def close(self):
        """Nobody will take from here again: cancel what still reports here. Any number of times."""
        if self.usable:
            self._leave()
            ob_cq_close(self._c_cq)
            _reap_orphans()

    cdef void _leave(self) noexcept:
        cdef ob_loop *loop = self._c_inline
        if loop != NULL:
            self._c_inline = NULL
            ob_loop_leave(loop)

    def leave(self):
        """What an inline loop has under way goes on without this thread."""
        if self._c_inline != NULL and self.usable:
            self._leave()

    def __reduce__(self):
        raise TypeError("a completion queue cannot be pickled")

    @property
    def usable(self):
        """False in a child process for the queues of its parent."""
        return self._c_generation == ob_engine_generation()

    def fileno(self):
        """Descriptor that becomes readable when there is something to take."""
        return ob_cq_fd(self._c_cq)

    def wait(self, double timeout):
        """Block without the GIL until something can be taken. At most ``timeout`` seconds; negative: no limit.

        Looks at signals at least every 50 ms, so that Ctrl-C acts also where another thread received the signal.

        Returns:
            Whether something may be there.
        """
        cdef int rc, slice_ms
        cdef double left = timeout, end = 0.0
        if timeout >= 0:
            end = monotonic() + timeout
        while True:
            # Rounded up: a wait must not end early and be repeated without rest.
            slice_ms = 50 if not 0 <= left < 0.05 else <int>(left * 1000 + 0.999)
            if self._c_inline != NULL and self.usable:
                with nogil:
                    rc = ob_loop_drive(self._c_inline, self._c_cq, slice_ms)
                if rc & OB_DRIVE_LEFT:
                    self._c_inline = NULL
                rc &= OB_DRIVE_READY
            else:
                with nogil:
                    rc = ob_cq_wait(self._c_cq, slice_ms)
            _freeze_at_exit()
            PyErr_CheckSignals()
            if rc > 0:
                return True
            if timeout >= 0:
                left = end - monotonic()  # signals may come at any rate and end the wait each time
                if left <= 0:
                    return False

    def take(self):
        """Everything that happened since: a list of `Transfer`, each with its ``events``."""
        _freeze_at_exit()
        return _take(self._c_cq)


cdef list _take(ob_cq *cq):
    cdef ob_transfer *x = ob_cq_take(cq)
    cdef ob_transfer *next_
    cdef Transfer transfer
    cdef list taken = []
    cdef int events
    while x != NULL:
        next_ = ob_transfer_next_taken(x)
        transfer = <Transfer>ob_transfer_owner(x)  # alive: its END is not taken before its events are asked for
        # As one step to threads that have no GIL in common: whoever attaches to it sees that it ended, or gets its END.
        with cython.critical_section(transfer):
            events = ob_transfer_events(x, cq)
            if events:
                transfer.events |= events
                transfer._c_headed |= transfer.events & (OB_EVENT_HEAD | OB_EVENT_END) != 0
                taken.append(transfer)
                if transfer.events & OB_EVENT_END and not transfer.ended:
                    transfer._settle()
        ob_transfer_unref(x)
        x = next_
    return taken


cdef int _reap_orphans() except -1:
    """Let go of transfers whose queue is gone; their END has nobody else to take it."""
    cdef ob_cq *orphans = ob_engine_orphans()
    if orphans != NULL:
        _take(orphans)
    return 0


include "form.pxi"
include "transfer.pxi"
include "bulk.pxi"


# ---- engine -------------------------------------------------------------------------------------------


def load(str path not None):
    """Load libcurl from ``path``; once per process.

    Raises:
        ImportError: it cannot be used; the text says why.
    """
    cdef char err[512]
    raw = path.encode()
    if ob_curl_load(PyBytes_AS_STRING(raw), err, sizeof(err)) != 0:
        raise ImportError(err.decode("utf-8", "replace"))


def loaded():
    """Whether libcurl is loaded."""
    return ob_curl_loaded() != 0


def curl_info():
    """Version, TLS library, path and protocols of the loaded libcurl."""
    return {
        "version": ob_curl_version().decode(),
        "tls": ob_curl_tls().decode(),
        "description": ob_curl_description().decode(),
        "path": ob_curl_path().decode(),
        "http2": ob_curl_has_http2() != 0,
        "http3": ob_curl_has_http3() != 0,
    }


def stats():
    """Counters of the process: requests, bytes, connections, live objects (csrc/ob_engine.h, ob_stats)."""
    cdef ob_stats s
    _reap_orphans()
    ob_engine_stats(&s)
    return s


def set_limits(int64_t connections, int64_t threads, int64_t memory):
    """Put limits in force; 0 means the default."""
    cdef ob_limits limits
    limits.connections = connections
    limits.threads = threads
    limits.memory = memory
    ob_engine_set_limits(&limits)


def get_limits():
    """The limits in force as ``(connections, threads, memory)``."""
    cdef ob_limits limits
    ob_engine_get_limits(&limits)
    return (limits.connections, limits.threads, limits.memory)


def endpoint_limit(str endpoint not None):
    """Requests allowed in flight to a throttled endpoint; 0: not throttled."""
    raw = endpoint.encode()
    return ob_engine_endpoint_limit(PyBytes_AS_STRING(raw))


def endpoint_rate(str endpoint not None):
    """Requests a second that a throttled endpoint is sent at most; 0.0: as many as there are."""
    raw = endpoint.encode()
    return ob_engine_endpoint_rate(PyBytes_AS_STRING(raw))


def generation():
    """Number of forks between this process and the one that imported the engine."""
    return ob_engine_generation()


# Set once, by the thread that finalizes the interpreter, and never unset; read by any.
cdef bint _exiting = False
cdef unsigned long _main_thread = 0


cdef int _freeze_at_exit() except -1:
    """Stop a daemon thread for good when the interpreter is exiting.

    All other threads were joined before; a daemon is about to be frozen at its next attempt to take the GIL anyway, and
    would only get to print a traceback about the engine that is gone.
    """
    if _exiting and get_ident() != _main_thread:
        with nogil:
            while True:
                pause()
    return 0


def shutdown(int timeout_ms):
    """Stop all loops; at most ``timeout_ms``. For interpreter exit, on the thread that finalizes it."""
    global _exiting, _main_thread
    cdef int joined
    _main_thread = get_ident()
    _exiting = True
    with nogil:
        joined = ob_engine_shutdown(timeout_ms)
    return joined != 0


def forked_child():
    """In a child right after fork: forget the parent's loops, connections and locks."""
    ob_engine_forked_child()


def crc32c(data, uint32_t value=0):
    """CRC-32C of ``data``, continuing ``value``."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            value = ob_crc32c(value, view.buf, <size_t>view.len)
        return value
    finally:
        PyBuffer_Release(&view)


def crc32(data, uint32_t value=0):
    """CRC-32, as zlib has it, of ``data``, continuing ``value``."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            value = ob_crc32(value, view.buf, <size_t>view.len)
        return value
    finally:
        PyBuffer_Release(&view)


def crc64nvme(data, uint64_t value=0):
    """CRC-64/NVME of ``data``, continuing ``value``."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            value = ob_crc64nvme(value, view.buf, <size_t>view.len)
        return value
    finally:
        PyBuffer_Release(&view)

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
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MIN, UINT32_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from obstore._engine.csrc cimport *

from time import monotonic

from obstore._types import RawKey

from cpython.pythread cimport PyThread_get_thread_ident as get_ident
from posix.unistd cimport pause

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    Py_ssize_t PyNumber_AsSsize_t(object number, object error) except? -1
    int PySlice_Unpack(object slice_, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t *step) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t length, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t step)
    const Py_ssize_t PY_SSIZE_T_MAX
    const void *memmem(const void *haystack, size_t size, const void *needle, size_t needle_size) nogil

    ctypedef struct PyTypeObject:
        const char *tp_name

import_datetime()


# ---- Bytes --------------------------------------------------------------------------------------------

# What bytes.isalnum() and its like say of each byte, one bit each; and what lower() and upper() make of it.
cdef enum:
    IS_ALNUM = 1
    IS_ALPHA = 2
    IS_ASCII = 4
    IS_DIGIT = 8
    IS_LOWER = 16
    IS_SPACE = 32
    IS_UPPER = 64

cdef unsigned char[256] _NATURE
cdef unsigned char[256] _LOWER
cdef unsigned char[256] _UPPER


def _fill_byte_tables():
    tests = [bytes.isalnum, bytes.isalpha, bytes.isascii, bytes.isdigit, bytes.islower, bytes.isspace, bytes.isupper]
    for c in range(256):
        byte = bytes([c])
        _NATURE[c] = sum(1 << bit for bit, test in enumerate(tests) if test(byte))
        _LOWER[c] = byte.lower()[0]
        _UPPER[c] = byte.upper()[0]


_fill_byte_tables()


cdef bint _holds_bytes(const Py_buffer *view) noexcept:
    """Whether the items are unsigned bytes; ctypes writes the byte order even for those."""
    cdef const char *kind = view.format
    if view.itemsize != 1:
        return False
    if kind == NULL:
        return True
    if kind[0] in (c"<", c">", c"=", c"@", c"!"):
        kind += 1
    return kind[0] in (c"B", c"c") and kind[1] == 0


cdef int _open_bytes(object buf, Py_buffer *view) except -1:
    """Export ``buf``, which must be one C-contiguous run of unsigned bytes; the caller releases ``view``."""
    if not PyObject_CheckBuffer(buf):
        raise TypeError(f"a bytes-like object is required, not '{type(buf).__name__}'")
    PyObject_GetBuffer(buf, view, PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES)
    try:
        if not _holds_bytes(view):
            raise BufferError("buffer contents are not compatible with u8")
        if view.ndim != 1:
            raise ValueError("Buffer must be one-dimensional")
        if not PyBuffer_IsContiguous(view, c"C"):
            raise ValueError("Buffer is not C contiguous")
    except BaseException:
        PyBuffer_Release(view)
        raise
    return 0


@cython.no_gc_clear  # clearing _owner would take the memory away that _c_data points to
cdef class Bytes:
    """A read-only view on bytes, without a copy: a downloaded body, or any contiguous buffer given to it.

    Behaves much like ``bytes``: length, indexing, slicing (slices are views), comparison with any buffer, ``+``, ``*``,
    ``in``, iteration; exports the buffer protocol, so ``memoryview``, ``file.write``, ``numpy.frombuffer`` take it as it is.

    Args:
        buf: any C-contiguous one-dimensional buffer of unsigned bytes. It stays exported while this object lives.

    Raises:
        TypeError: ``buf`` has no buffer.
        BufferError: its items are not unsigned bytes.
        ValueError: it is not C-contiguous or not one-dimensional.
    """

    cdef const char *_c_data
    cdef Py_ssize_t _c_len
    cdef ob_block *_c_block  # one reference, or NULL
    cdef Py_buffer _c_view
    cdef bint _c_has_view
    cdef Bytes _owner  # the Bytes whose memory a slice shows, if that memory is a view
    cdef object __weakref__

    def __cinit__(self, buf=b""):
        self._c_data = b""
        self._c_len = 0
        self._c_block = NULL
        self._c_has_view = False
        if buf is _EMPTY:
            return
        _open_bytes(buf, &self._c_view)
        self._c_has_view = True
        self._c_data = <const char *>self._c_view.buf
        self._c_len = self._c_view.len

    def __dealloc__(self):
        if self._c_has_view:
            PyBuffer_Release(&self._c_view)
        ob_block_unref(self._c_block)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, <void *>self._c_data, self._c_len, 1, flags)

    def __len__(self):
        return self._c_len

    def __bool__(self):
        return self._c_len != 0

    cdef Bytes _slice(self, Py_ssize_t start, Py_ssize_t length):
        cdef Bytes view = Bytes.__new__(Bytes, _EMPTY)
        if length > 0:
            view._c_data = self._c_data + start
            view._c_len = length
            if self._c_block != NULL:
                view._c_block = ob_block_ref(self._c_block)
            else:
                view._owner = self if self._owner is None else self._owner
        return view

    def __getitem__(self, key):
        cdef Py_ssize_t start, stop, step, length, index
        if isinstance(key, slice):
            PySlice_Unpack(key, &start, &stop, &step)
            length = PySlice_AdjustIndices(self._c_len, &start, &stop, step)
            if step == 1:
                return self._slice(start, length)
            return Bytes(PyBytes_FromStringAndSize(self._c_data, self._c_len)[key])
        index = PyNumber_AsSsize_t(key, IndexError)
        if index < 0:
            index += self._c_len
        if index < 0 or index >= self._c_len:
            raise IndexError("Index out of range")
        return <unsigned char>self._c_data[index]

    def __iter__(self):
        return iter(memoryview(self))

    def __contains__(self, needle):
        cdef Py_buffer view
        cdef const void *found
        _open_bytes(needle, &view)
        with nogil:
            found = memmem(self._c_data, <size_t>self._c_len, view.buf, <size_t>view.len)
        PyBuffer_Release(&view)
        return found != NULL

    def __eq__(self, other):
        cdef Py_buffer view
        if not PyObject_CheckBuffer(other):
            return NotImplemented
        try:
            PyObject_GetBuffer(other, &view, PyBUF_FULL_RO)
        except BufferError:
            return NotImplemented
        try:
            if not _holds_bytes(&view) or view.ndim != 1 or view.len != self._c_len:
                return False
            if PyBuffer_IsContiguous(&view, c"C"):
                return memcmp(view.buf, self._c_data, <size_t>self._c_len) == 0
        finally:
            PyBuffer_Release(&view)
        return self == memoryview(other).tobytes()  # with strides

    __hash__ = None

    def __add__(self, other):
        cdef Py_buffer view
        cdef Bytes result
        try:
            _open_bytes(other, &view)
        except (TypeError, BufferError, ValueError):
            return NotImplemented
        try:
            result = _bytes_of_size(self._c_len + view.len)
            memcpy(<char *>result._c_data, self._c_data, self._c_len)
            memcpy(<char *>result._c_data + self._c_len, view.buf, view.len)
            return result
        finally:
            PyBuffer_Release(&view)

    def __mul__(self, count):
        cdef Py_ssize_t i, n
        cdef Bytes result
        if not isinstance(count, int):
            return NotImplemented
        if count < 0:
            raise TypeError("cannot repeat bytes a negative number of times")
        if count and count > PY_SSIZE_T_MAX // max(1, self._c_len):
            raise OverflowError("repeated bytes are too long")
        n = count
        result = _bytes_of_size(n * self._c_len)
        for i in range(n):
            memcpy(<char *>result._c_data + i * self._c_len, self._c_data, self._c_len)
        return result

    def __repr__(self):
        cdef Py_ssize_t i
        cdef unsigned char c
        out = []
        for i in range(self._c_len):
            c = <unsigned char>self._c_data[i]
            out.append(_REPR[c])
        return 'Bytes(b"' + "".join(out) + '")'

    def __reduce__(self):
        return (type(self), (self.to_bytes(),))

    def __getnewargs_ex__(self):
        return ((self.to_bytes(),), {})

    def to_bytes(self):
        """A copy as ``bytes``."""
        return PyBytes_FromStringAndSize(self._c_data, self._c_len)

    def removeprefix(self, buf, /):
        """The rest after the prefix ``buf``, or this object where it does not start so."""
        cdef Py_buffer view
        cdef Py_ssize_t n
        cdef bint found
        _open_bytes(buf, &view)
        n = view.len
        found = 0 < n <= self._c_len and memcmp(self._c_data, view.buf, <size_t>n) == 0
        PyBuffer_Release(&view)
        return self._slice(n, self._c_len - n) if found else self

    def removesuffix(self, buf, /):
        """What is before the suffix ``buf``, or this object where it does not end so."""
        cdef Py_buffer view
        cdef Py_ssize_t n
        cdef bint found
        _open_bytes(buf, &view)
        n = view.len
        found = 0 < n <= self._c_len and memcmp(self._c_data + self._c_len - n, view.buf, <size_t>n) == 0
        PyBuffer_Release(&view)
        return self._slice(0, self._c_len - n) if found else self

    cdef bint _all_are(self, int nature) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self._c_len):
            if not _NATURE[<unsigned char>self._c_data[i]] & nature:
                return False
        return True

    cdef bint _cased(self, int nature, int other) noexcept nogil:
        """Whether one byte at least is of ``nature`` and none is of ``other``."""
        cdef Py_ssize_t i
        cdef int seen = 0
        for i in range(self._c_len):
            seen |= _NATURE[<unsigned char>self._c_data[i]]
            if seen & other:
                return False
        return seen & nature != 0

    cdef Bytes _mapped(self, const unsigned char *table):
        cdef Py_ssize_t i
        cdef Bytes result = _bytes_of_size(self._c_len)
        cdef unsigned char *target = <unsigned char *>result._c_data
        with nogil:
            for i in range(self._c_len):
                target[i] = table[<unsigned char>self._c_data[i]]
        return result

    def isalnum(self):
        """As ``bytes.isalnum``."""
        return self._c_len != 0 and self._all_are(IS_ALNUM)

    def isalpha(self):
        """As ``bytes.isalpha``."""
        return self._c_len != 0 and self._all_are(IS_ALPHA)

    def isascii(self):
        """As ``bytes.isascii``."""
        return self._all_are(IS_ASCII)

    def isdigit(self):
        """As ``bytes.isdigit``."""
        return self._c_len != 0 and self._all_are(IS_DIGIT)

    def islower(self):
        """As ``bytes.islower``."""
        return self._cased(IS_LOWER, IS_UPPER)

    def isspace(self):
        """As ``bytes.isspace``."""
        return self._c_len != 0 and self._all_are(IS_SPACE)

    def isupper(self):
        """As ``bytes.isupper``."""
        return self._cased(IS_UPPER, IS_LOWER)

    def lower(self):
        """As ``bytes.lower``."""
        return self._mapped(_LOWER)

    def upper(self):
        """As ``bytes.upper``."""
        return self._mapped(_UPPER)


# The names by which errors, help() and pickles know them.
(<PyTypeObject *>Bytes).tp_name = b"obstore.Bytes"


cdef object _EMPTY = object()  # what internal factories pass to make an empty Bytes
cdef list _REPR = []


def _fill_repr_table():
    named = {0x5C: "\\\\", 0x22: '\\"', 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
    for c in range(256):
        _REPR.append(named.get(c) or (chr(c) if 0x20 <= c < 0x7F else f"\\x{c:02x}"))


_fill_repr_table()


cdef Bytes _bytes_of_block(ob_block *block):
    """Takes over the caller's reference."""
    cdef Bytes result
    if block == NULL:
        raise MemoryError("out of memory for a response body")
    try:
        result = Bytes.__new__(Bytes, _EMPTY)
    except BaseException:
        ob_block_unref(block)
        raise
    result._c_block = block
    result._c_data = block.data
    result._c_len = <Py_ssize_t>block.len
    return result


cdef Bytes _bytes_of_size(Py_ssize_t size):
    cdef ob_block *block = ob_block_new(<size_t>size)
    if block != NULL:
        block.len = <size_t>size
    return _bytes_of_block(block)


# ---- listings -----------------------------------------------------------------------------------------


cdef class ListItem(dict):
    """One object of a listing: an ``ObjectMeta`` dict.

    Iterating it yields itself once and ``item[0]`` is itself, so that code written for batches
    (``for batch in obs.list(store): for obj in batch: ...``) and code written for single objects both work.
    ``keys()``, ``items()``, ``dict(item)``, ``**item`` and lookups are those of a dict.
    """

    def __iter__(self):
        return iter((self,))

    def __missing__(self, key):
        if key == 0 or key == -1:
            return self
        raise KeyError(key)

    def __reduce__(self):
        return (type(self), (dict(self.items()),))

    def copy(self):
        """A shallow copy of the same kind."""
        return ListItem(dict(self.items()))


(<PyTypeObject *>ListItem).tp_name = b"obstore.ListItem"


class Listing:
    """A page of a listing as parsed by the C core.

    Attributes:
        objects: `ListItem` dicts, paths without the prefix that was to be stripped.
        prefixes: common prefixes, likewise stripped, without their trailing slash.
        token: continuation token of the next page, or ``None``.
        marker: next marker (ListObjects V1), or ``None``.
        truncated: whether the page says that there are more.
    """

    __slots__ = ("marker", "objects", "prefixes", "token", "truncated")

    def __init__(self, objects, prefixes, token, marker, truncated):
        self.truncated = truncated
        self.objects = objects
        self.prefixes = prefixes
        self.token = token
        self.marker = marker


cdef object _EPOCH_FALLBACK = datetime_new(1970, 1, 1, 0, 0, 0, 0, get_utc())


cdef object _datetime_of(int64_t us):
    """UTC datetime of microseconds since 1970 (civil-from-days, proleptic Gregorian)."""
    cdef int64_t days, rest, era, doe, yoe, doy, mp, year, month, day
    if us == INT64_MIN:
        return _EPOCH_FALLBACK
    days = us // 86400000000
    rest = us - days * 86400000000
    if rest < 0:
        rest += 86400000000
        days -= 1
    days += 719468
    era = (days if days >= 0 else days - 146096) // 146097
    doe = days - era * 146097
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day = doy - (153 * mp + 2) // 5 + 1
    month = mp + 3 if mp < 10 else mp - 9
    year = yoe + era * 400 + (1 if month <= 2 else 0)
    return datetime_new(
        <int>year, <int>month, <int>day, <int>(rest // 3600000000), <int>(rest // 60000000 % 60),
        <int>(rest // 1000000 % 60), <int>(rest % 1000000), get_utc(),
    )


cdef object _key_of(const char *text, Py_ssize_t size, Py_ssize_t strip):
    """The key after `strip` bytes; a RawKey where the plain string would be normalised to another key."""
    cdef const char *start = text + strip
    cdef Py_ssize_t n = size - strip, i
    cdef bint raw
    key = PyUnicode_DecodeUTF8(start, n, "surrogateescape")
    if n == 0:
        return RawKey(key)
    raw = start[0] == c"/" or start[n - 1] == c"/"
    if not raw:
        for i in range(n):
            if <unsigned char>start[i] < 0x20 or <unsigned char>start[i] == 0x7F:
                raw = True
                break
    return RawKey(key) if raw else key


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
        int64_t max_connections=0,
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
        self._c_client = ob_client_new(&options)
        if self._c_client == NULL:
            raise MemoryError("out of memory for a client")

    def __dealloc__(self):
        ob_client_unref(self._c_client)

    def __reduce__(self):
        raise TypeError("an engine client cannot be pickled")


cdef const char *_c_text(object text):
    """Borrowed: valid while the bytes object lives."""
    return NULL if text is None else PyBytes_AS_STRING(text)


# ---- Queue --------------------------------------------------------------------------------------------


cdef class Queue:
    """Completion queue: one per thread that waits and one per running event loop."""

    cdef ob_cq *_c_cq
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
                ob_cq_close(self._c_cq)
            ob_cq_unref(self._c_cq)

    def close(self):
        """Nobody will take from here again: cancel what still reports here. Any number of times."""
        if self.usable:
            ob_cq_close(self._c_cq)
            _reap_orphans()

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
        cdef int rc
        cdef double left = timeout, end = monotonic() + timeout
        while True:
            with nogil:
                # Rounded up: a wait must not end early and be repeated without rest.
                rc = ob_cq_wait(self._c_cq, 50 if not 0 <= left < 0.05 else <int>(left * 1000 + 0.999))
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
    while x != NULL:
        next_ = ob_transfer_next_taken(x)
        transfer = <Transfer>ob_transfer_owner(x)
        transfer.events |= ob_transfer_events(x)
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


# ---- Transfer -----------------------------------------------------------------------------------------

cdef enum:
    SINK_COLLECT = 0
    SINK_STREAM = 1
    SINK_INTO = 2
    SINK_LIST = 3
    SINK_DISCARD = 4

HEAD = OB_EVENT_HEAD
DATA = OB_EVENT_DATA
END = OB_EVENT_END


class Timing:
    """Where the time of one HTTP attempt went; seconds from its submission, 0.0 for steps that did not happen.

    Attributes:
        queue: waited for a place among the allowed connections.
        dns, connect, tls: name resolved, TCP connected, TLS done (0.0 on a kept connection).
        first_byte: first byte of the response.
        total: complete.
        remote_ip, remote_port: the server's address.
        http_version: "1.1", "2" ... or "" where unknown.
        reused: whether a kept connection was used.
    """

    __slots__ = (
        "connect", "dns", "first_byte", "http_version", "queue", "remote_ip", "remote_port", "reused", "tls", "total",
    )

    def __init__(self, queue, dns, connect, tls, first_byte, total, remote_ip, remote_port, http_version, reused):
        self.queue = queue
        self.dns = dns
        self.connect = connect
        self.tls = tls
        self.first_byte = first_byte
        self.total = total
        self.remote_ip = remote_ip
        self.remote_port = remote_port
        self.http_version = http_version
        self.reused = reused

    def __repr__(self):
        return "Timing(" + ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__) + ")"

    def __getstate__(self):
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state):
        for name, value in state.items():
            setattr(self, name, value)


_HTTP_VERSIONS = {10: "1.0", 11: "1.1", 20: "2", 30: "3"}


cdef class Transfer:
    """One HTTP attempt, made by `submit`.

    Attributes:
        waiter: who is to be told, whatever the runner puts there.
        events: bits of HEAD, DATA, END that happened and were not cleared by the runner.
        ended: END was taken; the outcome is final.
    """

    cdef ob_transfer *_c_xfer
    cdef ob_listxml *_c_list
    cdef Py_buffer *_c_views
    cdef Py_ssize_t _c_n_views
    cdef public object waiter
    cdef public int events
    cdef readonly bint ended
    cdef readonly int sink
    cdef bint _c_headed  # HEAD or END was taken: only then does the loop write no more headers
    cdef uint32_t _c_generation

    def __cinit__(self):
        self._c_xfer = NULL
        self._c_list = NULL
        self._c_views = NULL
        self._c_n_views = 0
        self.ended = False
        self.events = 0
        self._c_generation = ob_engine_generation()

    def __dealloc__(self):
        self._release_views()
        if self._c_xfer != NULL:
            if not self.ended:
                ob_transfer_cancel(self._c_xfer)
            ob_transfer_unref(self._c_xfer)
        ob_listxml_free(self._c_list)

    def __reduce__(self):
        raise TypeError("a transfer cannot be pickled")

    cdef void _release_views(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self._c_n_views):
            PyBuffer_Release(&self._c_views[i])
        self._c_n_views = 0
        if self._c_views != NULL:
            PyMem_Free(self._c_views)
            self._c_views = NULL

    cdef int _settle(self) except -1:
        """END was taken: let go of the buffers and of the reference that `submit` took."""
        self.ended = True
        self._release_views()
        Py_DECREF(self)
        return 0

    @property
    def status(self):
        """HTTP status of the final response; 0 before its HEAD, or END, was taken."""
        return ob_transfer_status(self._c_xfer) if self._c_headed else 0

    def header(self, str name not None):
        """Value of the last header of that name (any case), or ``None``; as early as ``status``."""
        cdef Py_ssize_t name_len
        cdef size_t value_len = 0
        cdef const char *name_text = PyUnicode_AsUTF8AndSize(name, &name_len)
        cdef const char *value = NULL
        if self._c_headed:
            value = ob_transfer_header(self._c_xfer, name_text, <size_t>name_len, &value_len)
        return None if value == NULL else _header_text(value, <Py_ssize_t>value_len)

    def headers(self):
        """All headers of the final response in order, names in lower case; as early as ``status``."""
        cdef const char *name
        cdef const char *value
        cdef size_t name_len, value_len, i
        cdef list result = []
        if not self._c_headed:
            return result
        for i in range(ob_transfer_header_count(self._c_xfer)):
            ob_transfer_header_at(self._c_xfer, i, &name, &name_len, &value, &value_len)
            result.append((
                PyUnicode_DecodeLatin1(name, <Py_ssize_t>name_len, NULL).lower(),
                _header_text(value, <Py_ssize_t>value_len),
            ))
        return result

    @property
    def kind(self):
        """How the attempt ended, as text: "ok", "connect", "interrupted" ...; final once ``ended``."""
        return ob_kind_name(ob_transfer_outcome(self._c_xfer).kind).decode()

    @property
    def ok(self):
        """Whether the attempt ended with a whole response."""
        return self.ended and ob_transfer_outcome(self._c_xfer).kind == OB_KIND_OK

    @property
    def message(self):
        """libcurl's text of the failure."""
        return (<const char *>ob_transfer_outcome(self._c_xfer).message).decode("utf-8", "replace")

    @property
    def sent(self):
        """Whether any byte of the request may have reached the server."""
        return ob_transfer_outcome(self._c_xfer).sent != 0

    @property
    def received(self):
        """Body bytes of a 2xx response that arrived."""
        return ob_transfer_outcome(self._c_xfer).received

    @property
    def sliced(self):
        """Whether a 200 answer to a range request was cut to the range."""
        return ob_transfer_outcome(self._c_xfer).slice_taken != 0

    @property
    def oserrno(self):
        """The system's error number of a failed connection, or 0."""
        return ob_transfer_outcome(self._c_xfer).oserrno

    def timing(self):
        """The attempt's `Timing`; complete once ``ended``."""
        cdef const ob_outcome *outcome = ob_transfer_outcome(self._c_xfer)
        cdef const ob_timing *t = &outcome.timing
        return Timing(
            t.queue_us / 1e6, t.dns_us / 1e6, t.connect_us / 1e6, t.tls_us / 1e6, t.first_byte_us / 1e6,
            t.total_us / 1e6, (<const char *>outcome.remote_ip).decode("ascii", "replace"), outcome.remote_port,
            _HTTP_VERSIONS.get(outcome.http_version, ""), outcome.reused != 0,
        )

    def body(self):
        """After END: the collected body, an error's body, or what a stream still holds."""
        if not self.ended:
            raise RuntimeError("the transfer has not ended")
        return _bytes_of_block(ob_transfer_body(self._c_xfer))

    def cancel(self):
        """Ask for the end; END comes all the same. Any thread, any number of times.

        Where there is no waiter END goes to the orphans, which anybody's next submit lets go of: the thread that opened
        a response, and dropped it or gave it away, may never look into its own queue again.
        """
        if not self.ended and self._c_generation == ob_engine_generation():
            if self.waiter is None and ob_engine_orphans() != NULL:
                ob_transfer_retarget(self._c_xfer, ob_engine_orphans())
            ob_transfer_cancel(self._c_xfer)

    def attach(self, Queue queue not None, waiter):
        """From now on events go to ``queue`` and concern ``waiter``; events already taken are kept."""
        self._check_generation()
        self.waiter = waiter
        ob_transfer_retarget(self._c_xfer, queue._c_cq)

    def want(self, uint64_t size):
        """Stream: ask for DATA once ``size`` bytes are there. True: they are there, no event will come for it."""
        return ob_transfer_want(self._c_xfer, size) != 0

    def collect(self):
        """Stream: keep everything from now on; END follows."""
        ob_transfer_collect(self._c_xfer)

    @property
    def buffered(self):
        """Stream: bytes that can be taken now."""
        return ob_transfer_buffered(self._c_xfer)

    def take(self, uint64_t size):
        """Stream: what is buffered as ``bytes``: at least ``size`` where that many are there; ``b""`` where nothing is."""
        cdef ob_block *head = ob_transfer_take(self._c_xfer, size)
        cdef ob_block *block = head
        cdef ob_block *next_
        cdef Py_ssize_t total = 0, offset = 0
        cdef bytes result
        cdef char *target
        while block != NULL:
            total += <Py_ssize_t>block.len
            block = block.next
        try:
            result = PyBytes_FromStringAndSize(NULL, total)
            target = PyBytes_AS_STRING(result)
            with nogil:
                block = head
                while block != NULL:
                    memcpy(target + offset, block.data, block.len)
                    offset += <Py_ssize_t>block.len
                    block = block.next
            return result
        finally:
            block = head
            while block != NULL:
                next_ = block.next
                ob_block_unref(block)
                block = next_

    def listing(self, str strip not None):
        """LIST sink after END: the page as a `Listing`.

        Args:
            strip: what to take off the front of every key and prefix; entries that do not start so keep their key.

        Raises:
            ValueError: the document is malformed, incomplete or not a listing; the text says which.
        """
        cdef ob_list_page page
        cdef const ob_list_entry *entry
        cdef Py_ssize_t strip_len, cut
        cdef const char *strip_text = PyUnicode_AsUTF8AndSize(strip, &strip_len)
        cdef size_t i
        cdef list objects = [], prefixes = []
        cdef ListItem item
        if not self.ended or self._c_list == NULL:
            raise RuntimeError("the transfer has no listing")
        if ob_listxml_finish(self._c_list, &page) != 0:
            raise ValueError(ob_listxml_error(self._c_list).decode())
        for i in range(page.n_entries):
            entry = &page.entries[i]
            cut = strip_len if _starts_with(page.text + entry.key_off, entry.key_len, strip_text, strip_len) else 0
            item = ListItem.__new__(ListItem)
            PyDict_SetItem(item, "path", _key_of(page.text + entry.key_off, entry.key_len, cut))
            PyDict_SetItem(item, "last_modified", _datetime_of(entry.modified_us))
            PyDict_SetItem(item, "size", entry.size if entry.size >= 0 else 0)
            PyDict_SetItem(item, "e_tag", _optional(page.text, entry.etag_off, entry.etag_len))
            PyDict_SetItem(item, "version", _optional(page.text, entry.version_off, entry.version_len))
            objects.append(item)
        for i in range(page.n_prefixes):
            entry = &page.prefixes[i]
            cut = strip_len if _starts_with(page.text + entry.key_off, entry.key_len, strip_text, strip_len) else 0
            prefixes.append(_prefix_of(page.text + entry.key_off, entry.key_len, cut))
        return Listing(
            objects, prefixes,
            _optional(page.text, page.token_off, page.token_len),
            _optional(page.text, page.marker_off, page.marker_len),
            page.truncated != 0,
        )

    def list_root(self):
        """LIST sink after END: name of the document's root element, "" where there was none."""
        return "" if self._c_list == NULL else ob_listxml_root(self._c_list).decode()

    cdef int _check_generation(self) except -1:
        if self._c_generation != ob_engine_generation():
            raise RuntimeError("this response belongs to the parent process: it cannot be read after fork")
        return 0


cdef bint _starts_with(const char *text, Py_ssize_t size, const char *prefix, Py_ssize_t prefix_len) noexcept:
    return size >= prefix_len and memcmp(text, prefix, prefix_len) == 0


cdef object _optional(const char *text, uint32_t offset, uint32_t size):
    return None if size == UINT32_MAX else PyUnicode_DecodeUTF8(text + offset, size, "surrogateescape")


cdef object _prefix_of(const char *text, Py_ssize_t size, Py_ssize_t cut):
    if size > cut and text[size - 1] == c"/":
        size -= 1
    return PyUnicode_DecodeUTF8(text + cut, size - cut, "surrogateescape")


cdef object _header_text(const char *value, Py_ssize_t size):
    try:
        return PyUnicode_DecodeUTF8(value, size, NULL)
    except UnicodeDecodeError:
        return PyUnicode_DecodeLatin1(value, size, NULL)


def submit(
    Queue queue not None, Client client not None, waiter, str method not None, str url not None, headers, body, int sink,
    into=None, slice_=None,
):
    """Build a `Transfer` and hand it to a loop. Its events come to ``queue``.

    Args:
        queue: where its events go.
        client: the store's connection options.
        waiter: kept as ``Transfer.waiter``.
        method, url: as sent; the URL is complete and percent-encoded.
        headers: sequence of ``(name, value)``.
        body: sequence of contiguous buffers, pinned until END, or ``None`` for no body.
        sink: COLLECT, STREAM, INTO, LIST or DISCARD of ``obstore._effects``.
        into: writable buffer for INTO.
        slice_: ``(start, length)`` to cut out of a 200 answer.

    Raises:
        ValueError: a header, the method or the URL holds a control character; no such sink.
        BufferError: ``into`` is not writable, or a buffer is not contiguous.
        MemoryError: out of memory.
        RuntimeError: the interpreter is shutting down.
    """
    _freeze_at_exit()
    _reap_orphans()
    cdef Transfer transfer = Transfer.__new__(Transfer)
    cdef Py_ssize_t n, i, total_views
    cdef Py_ssize_t name_len, value_len, text_len
    cdef const char *name_text
    cdef const char *value_text
    cdef ob_iovec *parts
    cdef int rc
    cdef ob_transfer *x = ob_transfer_new(client._c_client, <void *>transfer)
    if x == NULL:
        raise MemoryError("out of memory for a request")
    transfer._c_xfer = x
    transfer.waiter = waiter
    transfer.sink = sink

    name_text = PyUnicode_AsUTF8AndSize(url, &text_len)
    _check_text(ob_transfer_set_url(x, name_text, <size_t>text_len), "URL")
    name_text = PyUnicode_AsUTF8AndSize(method, &text_len)
    _check_text(ob_transfer_set_method(x, name_text, <size_t>text_len), "method")
    for name, value in headers:
        name_text = PyUnicode_AsUTF8AndSize(name, &name_len)
        value_text = PyUnicode_AsUTF8AndSize(value, &value_len)
        rc = ob_transfer_add_header(x, name_text, <size_t>name_len, value_text, <size_t>value_len)
        if rc != 0:
            _check_text(rc, f"header {name!r}")

    if body is not None or sink == SINK_INTO:
        n = 0 if body is None else len(body)
        total_views = n + (1 if sink == SINK_INTO else 0)
        transfer._c_views = <Py_buffer *>PyMem_Malloc(max(1, total_views) * sizeof(Py_buffer))
        if transfer._c_views == NULL:
            raise MemoryError("out of memory for a request body")
        if body is not None:
            parts = <ob_iovec *>PyMem_Malloc(max(1, n) * sizeof(ob_iovec))
            if parts == NULL:
                raise MemoryError("out of memory for a request body")
            try:
                for i in range(n):
                    PyObject_GetBuffer(body[i], &transfer._c_views[i], PyBUF_SIMPLE)
                    transfer._c_n_views = i + 1
                    parts[i].data = <const char *>transfer._c_views[i].buf
                    parts[i].len = <size_t>transfer._c_views[i].len
                _check_text(ob_transfer_set_source(x, parts, <size_t>n), "body")
            finally:
                PyMem_Free(parts)
        if sink == SINK_INTO:
            PyObject_GetBuffer(into, &transfer._c_views[n], PyBUF_SIMPLE | PyBUF_WRITABLE)
            transfer._c_n_views = n + 1
            ob_transfer_sink_into(x, transfer._c_views[n].buf, <size_t>transfer._c_views[n].len)

    if not SINK_COLLECT <= sink <= SINK_DISCARD:
        raise ValueError(f"no such sink: {sink}")
    if sink == SINK_STREAM:
        ob_transfer_sink_stream(x, 0)
    elif sink == SINK_COLLECT:
        ob_transfer_sink_collect(x, -1)
    elif sink == SINK_LIST:
        transfer._c_list = ob_listxml_new()
        if transfer._c_list == NULL:
            raise MemoryError("out of memory for a listing")
        ob_transfer_sink_list(x, transfer._c_list)
    elif sink == SINK_DISCARD:
        ob_transfer_sink_discard(x)
    if slice_ is not None:
        ob_transfer_set_slice(x, slice_[0], slice_[1])

    Py_INCREF(transfer)  # until END was taken
    rc = ob_engine_submit(x, queue._c_cq)
    if rc != 0:
        transfer.ended = True
        Py_DECREF(transfer)
        if rc == -1:
            raise MemoryError("out of memory for a request")
        raise RuntimeError("obstore is shut down: the interpreter is exiting")
    return transfer


cdef int _check_text(int rc, str what) except -1:
    if rc == 0:
        return 0
    if rc == -2:
        raise ValueError(f"the {what} contains a control character")
    raise MemoryError("out of memory for a request")


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


def generation():
    """Number of forks between this process and the one that imported the engine."""
    return ob_engine_generation()


# Set once the interpreter is exiting; guarded by the GIL, and never unset.
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
